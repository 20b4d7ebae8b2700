//! The proof of one entry that fits in a file (c2sp.org/tlog-proof@v1): with it, the log's key and the entry's bytes
//! anyone can check, without the log, that the entry is in it.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis_core::Digest;

use crate::{
    Checkpoint, ProofError, VerifierKey,
    checkpoint::{NOTE_BYTES_MAX, decimal, hash},
    merkle::{leaf_hash, verify_inclusion},
};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// The proof that an entry is in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofFile {
    /// The entry's index.
    pub index: u64,
    /// Hashes from the leaf to the root.
    pub path: Vec<Digest>,
    /// The signed checkpoint with that root.
    pub checkpoint: String,
}

impl ProofFile {
    /// The text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\nindex {}\n", self.index);
        for hash in &self.path {
            text.push_str(&STANDARD.encode(hash.0));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Reads the text of a file. An `extra` line is allowed and ignored.
    ///
    /// # Errors
    /// When it has another form.
    pub fn from_text(text: &str) -> Result<Self, ProofError> {
        let malformed = ProofError::Proof;
        if text.len() > 2 * NOTE_BYTES_MAX {
            return Err(malformed("too long"));
        }
        let (head, checkpoint) = text.split_once("\n\n").ok_or(malformed("no checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(malformed("the first line is not `c2sp.org/tlog-proof@v1`"));
        }
        let mut line = lines.next();
        if let Some(extra) = line.and_then(|line| line.strip_prefix("extra ")) {
            STANDARD.decode(extra).map_err(|_| malformed("the extra data is not base64"))?;
            line = lines.next();
        }
        let index = line
            .and_then(|line| line.strip_prefix("index "))
            .and_then(decimal)
            .ok_or(malformed("no index"))?;
        let path: Option<Vec<Digest>> = lines.map(hash).collect();
        let path = path.filter(|path| path.len() <= 64).ok_or(malformed("not a list of up to 64 hashes"))?;
        Ok(Self { index, path, checkpoint: checkpoint.to_string() })
    }

    /// Checks that `entry` is in the log of `key` at the index; returns the checkpoint that says so.
    ///
    /// # Errors
    /// When it is not, or the checkpoint is not signed by `key`.
    pub fn verify(&self, entry: &[u8], key: &VerifierKey) -> Result<Checkpoint, ProofError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key)?;
        verify_inclusion(&leaf_hash(entry), self.index, checkpoint.size, &self.path, &checkpoint.root)?;
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests;
