//! Everything governed, as immutable versions and movable heads: what was in force is never overwritten, and
//! going back is moving a head.

use std::fmt;

use async_trait::async_trait;
use portcullis_core::{Digest, Timestamp};
use tokio::sync::watch;

use crate::StoreError;

/// Bytes of one revision's body at most.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A version to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRevision {
    /// What kind of thing it is a version of (`definition`, `server`).
    pub kind: String,
    /// Which one.
    pub name: String,
    /// The version itself.
    pub body: Vec<u8>,
    /// Names the version. How it follows from the body is the kind's business.
    pub digest: Digest,
    /// The version it was made from.
    pub parent: Option<Digest>,
    /// Who made it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// A stored version without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionMeta {
    /// Position in the order of storing, unique in the store and growing.
    pub sequence: u64,
    /// What kind of thing it is a version of.
    pub kind: String,
    /// Which one.
    pub name: String,
    /// Names the version.
    pub digest: Digest,
    /// The version it was made from.
    pub parent: Option<Digest>,
    /// Who made it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// A stored version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// All but the body.
    pub meta: RevisionMeta,
    /// The version itself.
    pub body: Vec<u8>,
}

/// Which version is in force in one slot (`pinned`, `seen`, `current`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Kind of the thing.
    pub kind: String,
    /// Which one.
    pub name: String,
    /// What the head is for.
    pub slot: String,
    /// The version it points at.
    pub digest: Digest,
    /// When it was moved here.
    pub moved_at: Timestamp,
    /// Who moved it.
    pub moved_by: String,
}

/// A head to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Kind of the thing.
    pub kind: String,
    /// Which one.
    pub name: String,
    /// What the head is for.
    pub slot: String,
    /// Where the mover believes it is; `None`: it is not there yet.
    pub expect: Option<Digest>,
    /// Where it goes; `None` removes it.
    pub to: Option<Digest>,
    /// Who moves it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Versions and moves that happen together or not at all: versions first, then moves, each in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Versions to store; one that is there already is left as it is.
    pub puts: Vec<NewRevision>,
    /// Heads to move.
    pub moves: Vec<Move>,
}

/// Keeps versions and heads.
#[async_trait]
pub trait Revisions: Send + Sync + fmt::Debug {
    /// Stores versions and moves heads in one transaction. False when a head was not where its mover believed;
    /// then nothing happened.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] for another body under the same digest, [`StoreError::Missing`] for a head moved
    /// to an unknown version, [`StoreError::TooLarge`] for a huge body; otherwise what the store reports. Nothing
    /// happened then.
    async fn apply(&self, batch: Batch) -> Result<bool, StoreError>;

    /// One version.
    ///
    /// # Errors
    /// What the store reports.
    async fn get(&self, kind: &str, name: &str, digest: Digest) -> Result<Option<Revision>, StoreError>;

    /// All heads of a kind, by name and slot.
    ///
    /// # Errors
    /// What the store reports.
    async fn heads(&self, kind: &str) -> Result<Vec<Head>, StoreError>;

    /// All heads of a kind with the versions they point at, by name and slot.
    ///
    /// # Errors
    /// What the store reports.
    async fn heads_with_bodies(&self, kind: &str) -> Result<Vec<(Head, Revision)>, StoreError>;

    /// One head.
    ///
    /// # Errors
    /// What the store reports.
    async fn head(&self, kind: &str, name: &str, slot: &str) -> Result<Option<Head>, StoreError>;

    /// All versions of one thing, oldest first.
    ///
    /// # Errors
    /// What the store reports.
    async fn history(&self, kind: &str, name: &str) -> Result<Vec<RevisionMeta>, StoreError>;

    /// Forgets versions of a kind that nobody judged: no head points at them, and none but for the slot `observed` ever
    /// did. Of those whose names begin with `prefix` the newest `keep` stay. Returns how many are gone.
    ///
    /// # Errors
    /// What the store reports. Nothing happened then.
    async fn forget(&self, kind: &str, prefix: &str, keep: u64) -> Result<usize, StoreError>;

    /// Counts changes to versions and heads, by this store and by others on the same data.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Stores one version; does nothing when it is there already.
    ///
    /// # Errors
    /// As [`Revisions::apply`].
    async fn put(&self, revision: NewRevision) -> Result<(), StoreError> {
        self.apply(Batch { puts: vec![revision], moves: Vec::new() }).await.map(|_| ())
    }

    /// Moves one head; false when it was not where the mover believed.
    ///
    /// # Errors
    /// As [`Revisions::apply`].
    async fn move_head(&self, change: Move) -> Result<bool, StoreError> {
        self.apply(Batch { puts: Vec::new(), moves: vec![change] }).await
    }
}
