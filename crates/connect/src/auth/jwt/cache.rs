//! Tokens verified before, by the digest of the whole token. Bounded by two halves: when the younger is full it
//! becomes the older, and the older is forgotten. So a flood of fresh tokens costs old ones a new verification and
//! never more memory.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use portcullis_core::{Caller, Digest};

use crate::auth::jwt::claims::Times;

/// What is known of a token. Whether it still holds is asked each time.
#[derive(Clone)]
pub(super) struct Remembered {
    pub(super) caller: Arc<Caller>,
    pub(super) audiences: Arc<[String]>,
    pub(super) times: Times,
    /// Place of the issuer in the list.
    pub(super) issuer: usize,
    /// Which of the issuer's key sets verified it; another set has to do so anew.
    pub(super) generation: u64,
}

pub(super) struct TokenCache {
    half_max: usize,
    halves: Mutex<Halves>,
}

#[derive(Default)]
struct Halves {
    younger: HashMap<Digest, Remembered>,
    older: HashMap<Digest, Remembered>,
}

impl TokenCache {
    /// Remembers at most `tokens_max` tokens.
    pub(super) fn new(tokens_max: u64) -> Self {
        Self { half_max: usize::try_from(tokens_max / 2).unwrap_or(usize::MAX), halves: Mutex::default() }
    }

    pub(super) fn find(&self, digest: &Digest) -> Option<Remembered> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = halves.younger.get(digest) {
            return Some(known.clone());
        }
        // In use: it belongs to the younger half, or the next flood forgets it.
        let known = halves.older.remove(digest)?;
        halves.insert(*digest, known.clone(), self.half_max);
        Some(known)
    }

    pub(super) fn remember(&self, digest: Digest, token: Remembered) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.insert(digest, token, self.half_max);
    }

    pub(super) fn clear(&self) {
        *self.halves.lock().unwrap_or_else(PoisonError::into_inner) = Halves::default();
    }
}

impl Halves {
    fn insert(&mut self, digest: Digest, token: Remembered, half_max: usize) {
        if half_max == 0 {
            return;
        }
        if self.younger.len() >= half_max && !self.younger.contains_key(&digest) {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(digest, token);
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").field("half_max", &self.half_max).finish_non_exhaustive()
    }
}
