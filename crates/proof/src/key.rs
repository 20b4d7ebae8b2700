//! Ed25519 keys in the text forms of c2sp.org/signed-note.
//!
//! One rule decides every signature (the strict one of the CCTV vectors): the public key and the signature's point are
//! encoded canonically and are not of small order, the scalar is below the group order, and the equation without
//! cofactor holds. So no two verifiers that keep to RFC 8032 can disagree about a checkpoint of ours.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis_core::{Digest, Secret};

use crate::ProofError;

/// The algorithm byte of a plain Ed25519 signature.
const ED25519_TYPE: u8 = 1;

/// The prefix of a private key's text.
const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";

/// `y` of the points of small order, sign bit cleared. Both signs are refused: with either, the point is of small
/// order or its encoding is not canonical.
const SMALL_ORDER_Y: [&str; 5] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// A key that signs checkpoints. Prints without its secret.
pub struct SigningKey {
    name: String,
    pair: Ed25519KeyPair,
    seed: Secret<[u8; 32]>,
}

impl SigningKey {
    /// The key made from 32 secret random bytes. `name` is the origin of the log it signs for.
    ///
    /// # Errors
    /// When the name cannot stand in a signature line.
    pub fn from_seed(name: &str, seed: [u8; 32]) -> Result<Self, ProofError> {
        check_name(name)?;
        let pair =
            Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| ProofError::Key("unusable seed"))?;
        Ok(Self { name: name.to_string(), pair, seed: Secret::new(seed) })
    }

    /// Reads `PRIVATE+KEY+NAME+ID+BASE64`.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn from_text(text: &str) -> Result<Self, ProofError> {
        let rest = text
            .trim_end()
            .strip_prefix(PRIVATE_PREFIX)
            .ok_or(ProofError::Key("no `PRIVATE+KEY+` in front"))?;
        let (name, id, seed) = split_key(rest)?;
        let key = Self::from_seed(name, seed)?;
        if key.verifier().id() != id {
            return Err(ProofError::Key("the id does not fit the key"));
        }
        Ok(key)
    }

    /// The text that [`Self::from_text`] reads.
    #[must_use]
    pub fn to_text(&self) -> Secret<String> {
        let id = u32::from_be_bytes(self.verifier().id());
        Secret::new(format!("{PRIVATE_PREFIX}{}+{id:08x}+{}", self.name, typed(self.seed.expose())))
    }

    /// The origin that the key signs for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> VerifierKey {
        let mut public = [0; 32];
        for (to, from) in public.iter_mut().zip(self.pair.public_key().as_ref()) {
            *to = *from;
        }
        VerifierKey { name: self.name.clone(), public }
    }

    /// The signature of `message`.
    #[must_use]
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A key that verifies checkpoints. Its text form is `NAME+ID+BASE64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

impl VerifierKey {
    /// Reads `NAME+ID+BASE64`.
    ///
    /// # Errors
    /// When it is anything else, or a key that the strict rule refuses.
    pub fn from_text(text: &str) -> Result<Self, ProofError> {
        let (name, id, public) = split_key(text.trim_end())?;
        check_name(name)?;
        if !is_canonical_and_large(&public) {
            return Err(ProofError::Key("the public key is of small order or not canonical"));
        }
        let key = Self { name: name.to_string(), public };
        if key.id() != id {
            return Err(ProofError::Key("the id does not fit the key"));
        }
        Ok(key)
    }

    /// The origin that the key signs for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The four bytes in front of each signature of the key.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let digest = Digest::of_parts(&[self.name.as_bytes(), &[b'\n', ED25519_TYPE], &self.public]);
        let mut id = [0; 4];
        for (to, from) in id.iter_mut().zip(digest.0) {
            *to = from;
        }
        id
    }

    /// Whether `signature` is the key's over `message`, by the strict rule.
    #[must_use]
    pub(crate) fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        verify_strict(&self.public, message, signature)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id()), typed(&self.public))
    }
}

/// Whether `signature` is by `public` over `message`, by the strict rule of this module.
#[must_use]
pub fn verify_strict(public: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    let Some((point, _scalar)) = signature.split_first_chunk::<32>() else { return false };
    // The provider refuses scalars at or above the order and compares the point bytewise.
    is_canonical_and_large(public)
        && is_canonical_and_large(point)
        && UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

/// Whether the encoding of a point is canonical and the point is not of small order.
fn is_canonical_and_large(point: &[u8; 32]) -> bool {
    let mut y = *point;
    if let Some(last) = y.last_mut() {
        *last &= 0x7f;
    }
    // The field's prime is 2^255 - 19: only y from there up to 2^255 - 1 is not canonical.
    let (low, high) = (y.first().copied().unwrap_or(0), y.last().copied().unwrap_or(0));
    let beyond = low >= 0xed && high == 0x7f && y.iter().skip(1).take(30).all(|byte| *byte == 0xff);
    !beyond && !SMALL_ORDER_Y.contains(&Digest(y).hex().as_str())
}

/// A key's name: not empty, no space, no plus, nothing that breaks a line.
fn check_name(name: &str) -> Result<(), ProofError> {
    let bad = |c: char| c == '+' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > 255 || name.contains(bad) {
        return Err(ProofError::Key("the name is empty, too long, or has a space, `+` or control character"));
    }
    Ok(())
}

/// Base64 of the algorithm byte and the key.
fn typed(key: &[u8; 32]) -> String {
    let mut bytes = Vec::with_capacity(33);
    bytes.push(ED25519_TYPE);
    bytes.extend_from_slice(key);
    STANDARD.encode(bytes)
}

/// Splits `NAME+ID+BASE64`.
fn split_key(text: &str) -> Result<(&str, [u8; 4], [u8; 32]), ProofError> {
    // Base64 may hold `+`, names and ids may not.
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(ProofError::Key("not of the form `NAME+ID+BASE64`"));
    };
    if id.len() != 8 || id.contains(|c: char| !matches!(c, '0'..='9' | 'a'..='f')) {
        return Err(ProofError::Key("the id is not eight hex digits"));
    }
    let id = u32::from_str_radix(id, 16).map_err(|_| ProofError::Key("the id is not eight hex digits"))?;
    let bytes = STANDARD.decode(key).map_err(|_| ProofError::Key("not base64"))?;
    match bytes.split_first() {
        Some((&ED25519_TYPE, key)) => {
            let key = key.try_into().map_err(|_| ProofError::Key("not 32 bytes long"))?;
            Ok((name, id.to_be_bytes(), key))
        }
        Some(_) | None => Err(ProofError::Key("not an Ed25519 key")),
    }
}

#[cfg(test)]
mod tests;
