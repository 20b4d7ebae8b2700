//! What sessions and traces have seen, for every gateway on one store.

use std::fmt;

use async_trait::async_trait;
use portcullis_core::{Digest, Labels, Timestamp};

use crate::StoreError;

/// What belongs together and what it has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRow {
    /// Whose; empty: everybody's.
    pub caller: String,
    /// Which session or trace of the caller; all where there is none.
    pub thread: Option<Digest>,
    /// What it has seen.
    pub labels: Labels,
    /// When it was used last.
    pub used: Timestamp,
}

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub struct SeenRoom {
    /// What was not used since is forgotten.
    pub since: Timestamp,
    /// Callers. Beyond: what they see counts for everybody.
    pub callers_max: u64,
    /// Sessions and traces of one caller. Beyond: what they see counts for all that the caller does.
    pub threads_max: u64,
}

/// Remembers what sessions and traces have seen.
#[async_trait]
pub trait SeenLabels: Send + Sync + fmt::Debug {
    /// What counts for this thread of this caller and was used since then.
    ///
    /// # Errors
    /// What the store reports.
    async fn seen(&self, caller: &str, thread: Digest, since: Timestamp) -> Result<Vec<SeenRow>, StoreError>;

    /// Adds what was seen, durably, for more threads than this one where there is no room for it. Labels are only ever
    /// added.
    ///
    /// # Errors
    /// What the store reports.
    async fn add_seen(&self, row: SeenRow, room: SeenRoom) -> Result<(), StoreError>;

    /// Forgets a thread that is over, soon.
    fn end_seen(&self, caller: &str, thread: Digest);
}
