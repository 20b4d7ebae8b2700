//! Signed checkpoints: c2sp.org/tlog-checkpoint inside c2sp.org/signed-note. A checkpoint says "the log of this origin
//! has so many entries and this Merkle root".

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis_core::Digest;

use crate::{ProofError, SigningKey, VerifierKey};

/// The longest text that is read as a note. Ours have about 250 bytes; cosignatures may follow.
pub const NOTE_BYTES_MAX: usize = 65_536;

/// What a log promises: its size and its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Entries under the root.
    pub size: u64,
    /// The Merkle root (RFC 6962).
    pub root: Digest,
}

impl Checkpoint {
    /// The signed text.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> String {
        let body = self.body();
        let mut blob = key.verifier().id().to_vec();
        blob.extend(key.sign(body.as_bytes()));
        format!("{body}\n\u{2014} {} {}\n", key.name(), STANDARD.encode(blob))
    }

    /// Reads a signed text. Signatures of unknown keys (cosignatures of witnesses) are allowed beside ours.
    ///
    /// # Errors
    /// When the text is malformed, is of another origin, or `key` did not sign it.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, ProofError> {
        let malformed = ProofError::Checkpoint;
        if note.len() > NOTE_BYTES_MAX {
            return Err(malformed("too long"));
        }
        if note.contains(|c: char| c != '\n' && c.is_control()) {
            return Err(malformed("control characters"));
        }
        let (body, signatures) = note.rsplit_once("\n\n").ok_or(malformed("no signatures"))?;
        let body = format!("{body}\n");
        let checkpoint = Self::parse_body(&body)?;
        if checkpoint.origin != key.name() {
            return Err(ProofError::Origin { expected: key.name().to_string(), found: checkpoint.origin });
        }
        let signatures = signatures.strip_suffix('\n').ok_or(malformed("no newline at the end"))?;
        let mut signed = false;
        for line in signatures.split('\n') {
            let (name, blob) = signature(line)?;
            let Some((id, bytes)) = blob.split_first_chunk::<4>() else {
                return Err(malformed("a signature is too short"));
            };
            if name == key.name() && *id == key.id() {
                if signed || !key.accepts(body.as_bytes(), bytes) {
                    return Err(ProofError::Signature(key.name().to_string()));
                }
                signed = true;
            }
        }
        if signed { Ok(checkpoint) } else { Err(ProofError::Signature(key.name().to_string())) }
    }

    fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }

    fn parse_body(body: &str) -> Result<Self, ProofError> {
        let malformed = ProofError::Checkpoint;
        let mut lines = body.strip_suffix('\n').unwrap_or(body).split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(malformed("fewer than three lines"));
        };
        if origin.is_empty() || lines.any(str::is_empty) {
            return Err(malformed("an empty line"));
        }
        let size = decimal(size).ok_or(malformed("the size is not a number"))?;
        let root = hash(root).ok_or(malformed("the root is not base64 of 32 bytes"))?;
        Ok(Self { origin: origin.to_string(), size, root })
    }
}

/// One `— NAME BASE64` line.
fn signature(line: &str) -> Result<(&str, Vec<u8>), ProofError> {
    let malformed = ProofError::Checkpoint("not a signature line");
    let (name, blob) =
        line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' ')).ok_or(malformed.clone())?;
    if name.is_empty() {
        return Err(malformed);
    }
    Ok((name, STANDARD.decode(blob).map_err(|_| malformed)?))
}

/// A decimal number without sign or leading zero.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let plain =
        text == "0" || (text.starts_with(|c: char| c != '0') && text.bytes().all(|b| b.is_ascii_digit()));
    if plain { text.parse().ok() } else { None }
}

/// Base64 of 32 bytes.
pub(crate) fn hash(text: &str) -> Option<Digest> {
    Some(Digest(STANDARD.decode(text).ok()?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
