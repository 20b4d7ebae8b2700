//! What was found out before, by the digest of the whole credential. Bounded by two halves: when the younger is full it
//! becomes the older, and the older is forgotten. So a flood of fresh credentials costs old ones a new check and never
//! more memory.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use portcullis_core::Digest;

pub(in crate::auth) struct DigestCache<V> {
    half_max: usize,
    halves: Mutex<Halves<V>>,
}

struct Halves<V> {
    younger: HashMap<Digest, V>,
    older: HashMap<Digest, V>,
}

impl<V> Default for Halves<V> {
    fn default() -> Self {
        Self { younger: HashMap::new(), older: HashMap::new() }
    }
}

impl<V: Clone> DigestCache<V> {
    /// Remembers at most `entries_max`.
    pub(in crate::auth) fn new(entries_max: u64) -> Self {
        Self { half_max: usize::try_from(entries_max / 2).unwrap_or(usize::MAX), halves: Mutex::default() }
    }

    pub(in crate::auth) fn find(&self, digest: &Digest) -> Option<V> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = halves.younger.get(digest) {
            return Some(known.clone());
        }
        // In use: it belongs to the younger half, or the next flood forgets it.
        let known = halves.older.remove(digest)?;
        halves.insert(*digest, known.clone(), self.half_max);
        Some(known)
    }

    pub(in crate::auth) fn remember(&self, digest: Digest, value: V) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.insert(digest, value, self.half_max);
    }

    pub(in crate::auth) fn clear(&self) {
        *self.halves.lock().unwrap_or_else(PoisonError::into_inner) = Halves::default();
    }
}

impl<V> Halves<V> {
    fn insert(&mut self, digest: Digest, value: V, half_max: usize) {
        if half_max == 0 {
            return;
        }
        if self.younger.len() >= half_max && !self.younger.contains_key(&digest) {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(digest, value);
    }
}

impl<V> fmt::Debug for DigestCache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestCache").field("half_max", &self.half_max).finish_non_exhaustive()
    }
}
