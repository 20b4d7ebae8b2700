//! What the gateway hands out and gets back, unread and unchanged: sealed for one purpose and for whoever it is bound
//! to. The key comes from the data directory, so that a restart opens what was sealed before it.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hmac,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_core::Entropy;

/// Bytes of a sealed text that are looked at; longer ones are none of ours.
const SEALED_BYTES_MAX: usize = 8_192;

/// Seals and opens.
pub struct Sealer(LessSafeKey);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(****)")
    }
}

impl Sealer {
    /// A sealer whose key is derived from `secret`; nothing when the key cannot be made.
    #[must_use]
    pub fn new(secret: &[u8]) -> Option<Self> {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"portcullis sealed texts 1");
        // Chance may repeat over the many nodes and years that share a key; with SIV that tells no more than that two
        // texts are the same.
        let key = UnboundKey::new(&AES_256_GCM_SIV, key.as_ref()).ok()?;
        Some(Self(LessSafeKey::new(key)))
    }

    /// Seals `plain`; opens only for the same purpose and the same `bound`.
    #[must_use]
    pub fn seal(&self, purpose: &str, bound: &[&str], plain: &[u8], entropy: &dyn Entropy) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        entropy.fill(&mut nonce);
        let mut sealed = plain.to_vec();
        let bound = Aad::from(binding(purpose, bound));
        self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound, &mut sealed).ok()?;
        let whole: Vec<u8> = nonce.into_iter().chain(sealed).collect();
        Some(URL_SAFE_NO_PAD.encode(whole))
    }

    /// What `text` was made of, if it was made here, for this purpose and this `bound`, and is whole.
    #[must_use]
    pub fn open(&self, purpose: &str, bound: &[&str], text: &str) -> Option<Vec<u8>> {
        self.open_within(purpose, bound, text, SEALED_BYTES_MAX)
    }

    /// The same for a text of up to `bytes_max`, which comes from where only the gateway writes.
    #[must_use]
    pub fn open_within(
        &self,
        purpose: &str,
        bound: &[&str],
        text: &str,
        bytes_max: usize,
    ) -> Option<Vec<u8>> {
        if text.len() > bytes_max {
            return None;
        }
        let whole = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = whole.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = sealed.to_vec();
        let bound = Aad::from(binding(purpose, bound));
        let plain = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), bound, &mut sealed).ok()?;
        Some(plain.to_vec())
    }
}

/// With the length before each part, so that no two lists of parts are the same text.
fn binding(purpose: &str, bound: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in std::iter::once(&purpose).chain(bound) {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Counting(AtomicU8);

    impl Entropy for Counting {
        fn fill(&self, out: &mut [u8]) {
            out.fill(self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    #[test]
    fn a_sealed_text_opens_for_its_own_purpose_and_holder_alone_and_only_whole() {
        let (sealer, entropy) = (Sealer::new(b"secret").unwrap(), Counting::default());
        let sealed = sealer.seal("task", &["key:a", "s"], b"job-7", &entropy).unwrap();
        assert!(!sealed.contains("job"));
        assert_eq!(sealer.open("task", &["key:a", "s"], &sealed).unwrap(), b"job-7");
        for (purpose, bound) in [
            ("state", ["key:a", "s"]),
            ("task", ["key:b", "s"]),
            ("task", ["key:a", "t"]),
            ("task", ["key:as", ""]),
            ("task", ["", "key:as"]),
        ] {
            assert_eq!(sealer.open(purpose, &bound, &sealed), None, "{purpose} {bound:?}");
        }
        for place in 0..sealed.len() {
            let mut broken = sealed.clone().into_bytes();
            broken[place] = if broken[place] == b'A' { b'B' } else { b'A' };
            let broken = String::from_utf8(broken).unwrap();
            assert_eq!(sealer.open("task", &["key:a", "s"], &broken), None, "at {place}");
        }
        let again = Sealer::new(b"secret").unwrap();
        assert!(again.open("task", &["key:a", "s"], &sealed).is_some(), "a restart loses what was sealed");
        assert!(Sealer::new(b"other").unwrap().open("task", &["key:a", "s"], &sealed).is_none());
    }
}
