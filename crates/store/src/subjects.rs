//! Keys of the people whose data became tokens, and what else is kept under the id of a caller that can be erased.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use portcullis_core::{Digest, Timestamp};

use crate::StoreError;

/// The key of a person, sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectRow {
    /// Its name; tokens carry it.
    pub id: i64,
    /// Whose it is: a keyed digest of who it is.
    pub subject: Digest,
    /// Within what it means something: a digest of a caller, or of a session; everywhere without one.
    pub scope: Option<Digest>,
    /// The key, sealed for its name.
    pub sealed: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends, and with it every token made with it.
    pub expires: Timestamp,
}

/// What was erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Keys.
    pub keys: u64,
    /// Roles for a time.
    pub grants: u64,
    /// Questions for approval, with their answers.
    pub approvals: u64,
    /// Counts of quotas.
    pub quota_counts: u64,
}

/// Keeps the keys of people.
#[async_trait]
pub trait Subjects: Send + Sync + fmt::Debug {
    /// The key of that name that has not ended, from memory: this is on the path of calls.
    fn subject_key(&self, id: i64, now: Timestamp) -> Option<Arc<SubjectRow>>;

    /// The newest key of a person within that scope that has not ended, from memory.
    fn newest_key(&self, scope: Option<Digest>, subject: Digest, now: Timestamp) -> Option<Arc<SubjectRow>>;

    /// Remembers a key at once and keeps it soon; false where there are `max` that have not ended, or the store is too
    /// busy.
    fn make_key(&self, row: SubjectRow, max: u64) -> bool;

    /// The keys of a scope that have not ended at `now` are in use and end at `expires`, or `total_ms` after they were made
    /// where that is earlier. Kept soon, and not each time.
    fn prolong_keys(&self, scope: Digest, now: Timestamp, expires: Timestamp, total_ms: u64);

    /// Destroys the keys of a scope: at once in memory, soon in the file, not to be read again from it.
    fn end_keys(&self, scope: Digest);

    /// Every key of a person, ended ones as well.
    ///
    /// # Errors
    /// What the store reports.
    async fn subject_keys(&self, subject: Digest) -> Result<Vec<SubjectRow>, StoreError>;

    /// Destroys the keys of a person, and removes what is kept under the id of a caller and the questions for approval of
    /// these names, all at once and not to be read again from the file. Questions that are open are withdrawn.
    ///
    /// # Errors
    /// What the store reports.
    async fn erase(
        &self,
        subject: Digest,
        caller: &str,
        approvals: Vec<String>,
    ) -> Result<Erased, StoreError>;
}
