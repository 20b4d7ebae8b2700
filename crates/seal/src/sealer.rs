//! What is kept, or handed out and gets back, unread and unchanged: sealed for one purpose and for whoever it is bound to.
//!
//! A sealed text is `ALGORITHM.VERSION.BASE64URL`: algorithm 1 is AES-256-GCM-SIV (RFC 8452) with a nonce of 96 bits by
//! chance before the ciphertext; the version names the data key.

use std::{fmt, sync::Arc};

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_core::Entropy;

use crate::ring::{DataKey, Ring};

/// Bytes of a sealed text that are looked at; longer ones are none of ours.
const SEALED_BYTES_MAX: usize = 8_192;
/// The same of what the gateway keeps: only it writes there.
const KEPT_BYTES_MAX: usize = 262_144;
/// AES-256-GCM-SIV.
const ALGORITHM: &str = "1";

/// Seals and opens with the keys of a ring.
#[derive(Clone)]
pub struct Sealer(Arc<Ring>);

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(****)")
    }
}

impl Sealer {
    /// A sealer with the keys that the ring has at each use.
    #[must_use]
    pub const fn new(ring: Arc<Ring>) -> Self {
        Self(ring)
    }

    /// Whether it has keys.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_open()
    }

    /// Seals `plain` with the newest key; opens only for the same purpose and the same `bound`. Nothing while the ring is
    /// closed.
    #[must_use]
    pub fn seal(&self, purpose: &str, bound: &[&str], plain: &[u8], entropy: &dyn Entropy) -> Option<String> {
        let keys = self.0.keys()?;
        let key = keys.data.get(&keys.current)?;
        let whole = seal_bytes(key, &binding(purpose, bound), plain, entropy)?;
        Some(format!("{ALGORITHM}.{}.{}", keys.current, URL_SAFE_NO_PAD.encode(whole)))
    }

    /// What `text` was made of, if it was made here, for this purpose and this `bound`, and is whole.
    #[must_use]
    pub fn open(&self, purpose: &str, bound: &[&str], text: &str) -> Option<Vec<u8>> {
        self.open_within(purpose, bound, text, SEALED_BYTES_MAX)
    }

    /// The same for what is kept in the store, where only the gateway writes.
    #[must_use]
    pub fn open_kept(&self, purpose: &str, bound: &[&str], text: &str) -> Option<Vec<u8>> {
        self.open_within(purpose, bound, text, KEPT_BYTES_MAX)
    }

    /// The same for a text of up to `bytes_max`.
    pub(crate) fn open_within(
        &self,
        purpose: &str,
        bound: &[&str],
        text: &str,
        bytes_max: usize,
    ) -> Option<Vec<u8>> {
        if text.len() > bytes_max {
            return None;
        }
        let (version, sealed) = parts(text)?;
        let keys = self.0.keys()?;
        let whole = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        open_bytes(keys.data.get(&version)?, &binding(purpose, bound), &whole)
    }
}

/// The version of the key, and what it sealed; nothing where the text is written in another way than ours.
pub(crate) fn parts(text: &str) -> Option<(u32, &str)> {
    let (algorithm, rest) = text.split_once('.')?;
    let (number, sealed) = rest.split_once('.')?;
    let version: u32 = number.parse().ok()?;
    (algorithm == ALGORITHM && version.to_string() == number).then_some((version, sealed))
}

pub(crate) fn seal_bytes(
    key: &DataKey,
    bound: &[u8],
    plain: &[u8],
    entropy: &dyn Entropy,
) -> Option<Vec<u8>> {
    let mut nonce = [0; NONCE_LEN];
    entropy.fill(&mut nonce);
    let mut sealed = plain.to_vec();
    key.aead
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut sealed)
        .ok()?;
    Some([nonce.as_slice(), &sealed].concat())
}

pub(crate) fn open_bytes(key: &DataKey, bound: &[u8], whole: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = whole.split_first_chunk::<NONCE_LEN>()?;
    let mut sealed = sealed.to_vec();
    let plain = key.aead.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(bound), &mut sealed);
    let length = plain.ok()?.len();
    sealed.truncate(length);
    Some(sealed)
}

/// With the length before each part, so that no two lists of parts are the same text.
pub(crate) fn binding(purpose: &str, bound: &[&str]) -> Vec<u8> {
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
        let (sealer, entropy) = (Sealer::new(Ring::fixed(b"secret")), Counting::default());
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
        for other in ["", ".", "1", "1.", "1..", "01.1.AAAA", "1.01.AAAA", "1.+1.AAAA", "2.1.AAAA"] {
            assert_eq!(sealer.open("task", &["key:a", "s"], other), None, "{other}");
        }
        let again = Sealer::new(Ring::fixed(b"secret"));
        assert!(again.open("task", &["key:a", "s"], &sealed).is_some(), "a restart loses what was sealed");
        let other = Sealer::new(Ring::fixed(b"other"));
        assert!(other.open("task", &["key:a", "s"], &sealed).is_none());
    }

    #[test]
    fn a_closed_ring_neither_seals_nor_opens() {
        let (ring, entropy) = (Ring::fixed(b"secret"), Counting::default());
        let sealer = Sealer::new(Arc::clone(&ring));
        let sealed = sealer.seal("task", &[], b"job-7", &entropy).unwrap();
        ring.close();
        assert_eq!(sealer.seal("task", &[], b"job-7", &entropy), None);
        assert_eq!(sealer.open("task", &[], &sealed), None);
        assert!(ring.index().is_none());
    }
}
