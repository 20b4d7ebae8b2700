//! The data keys in memory. The ring is closed until a key-encryption key has opened them: what needs one then fails, and
//! whatever needs none goes on.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, LessSafeKey, UnboundKey},
    digest::{SHA256, digest},
};
use portcullis_core::{Secret, Timestamp};

use crate::Key;

/// Data keys, as far as they are open.
#[derive(Default)]
pub struct Ring(ArcSwapOption<Keys>);

/// Keys that are open.
pub(crate) struct Keys {
    /// The key of digests that are looked up, such as those of API keys. It never changes.
    pub(crate) index: Secret<Vec<u8>>,
    pub(crate) data: BTreeMap<u32, DataKey>,
    /// The version that seals.
    pub(crate) current: u32,
}

/// A version of the key that seals.
#[derive(Clone)]
pub(crate) struct DataKey {
    /// Chance may repeat over the many nodes and years that share a key; with SIV that tells no more than that two texts
    /// are the same.
    pub(crate) aead: Arc<LessSafeKey>,
    /// Every gateway on the same store knows it by then.
    pub(crate) from: Timestamp,
}

impl DataKey {
    pub(crate) fn new(key: &Key, from: Timestamp) -> Option<Self> {
        let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key.as_slice()).ok()?);
        Some(Self { aead: Arc::new(aead), from })
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_open() { "Ring(open)" } else { "Ring(closed)" })
    }
}

impl Ring {
    /// A ring with one key that is derived from `secret`: for commands and tests without a store.
    #[must_use]
    pub fn fixed(secret: &[u8]) -> Arc<Self> {
        let ring = Self::default();
        let mut key = Key::default();
        key.copy_from_slice(digest(&SHA256, secret).as_ref());
        let index = Secret::new(key.to_vec());
        if let Some(first) = DataKey::new(&key, Timestamp(0)) {
            ring.put(Keys { index, data: BTreeMap::from([(1, first)]), current: 1 });
        }
        Arc::new(ring)
    }

    /// Whether there are keys.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.load().is_some()
    }

    /// The key of digests that are looked up; nothing while the ring is closed.
    #[must_use]
    pub fn index(&self) -> Option<Secret<Vec<u8>>> {
        self.0.load().as_ref().map(|keys| keys.index.clone())
    }

    pub(crate) fn keys(&self) -> Option<Arc<Keys>> {
        self.0.load_full()
    }

    pub(crate) fn put(&self, keys: Keys) {
        self.0.store(Some(Arc::new(keys)));
    }

    pub(crate) fn close(&self) {
        self.0.store(None);
    }
}
