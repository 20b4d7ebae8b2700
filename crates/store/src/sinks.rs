//! How far each sink has come in a ledger.

use std::fmt;

use async_trait::async_trait;

use crate::StoreError;

/// Keeps the places of sinks: the index of the next entry, all before which were delivered or were not for the sink.
#[async_trait]
pub trait SinkPlaces: Send + Sync + fmt::Debug {
    /// Where a sink is in a log; nothing for one that was never there.
    ///
    /// # Errors
    /// What the store reports.
    async fn sink_place(&self, log: &str, sink: &str) -> Result<Option<u64>, StoreError>;

    /// Keeps where it is now.
    ///
    /// # Errors
    /// What the store reports.
    async fn keep_sink_place(&self, log: &str, sink: &str, next: u64) -> Result<(), StoreError>;
}
