//! How documents of identity providers are fetched. The guarded client implements this; tests bring a server.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use url::Url;

/// Fetches one document.
#[async_trait]
pub trait Fetch: Send + Sync + fmt::Debug {
    /// The body of a `200` answer to `GET url`. Follows no redirect; refuses more than `max_bytes` and whatever
    /// takes longer than `timeout_ms`, whole.
    ///
    /// # Errors
    /// What went wrong, for the log.
    async fn get(&self, url: &Url, max_bytes: u64, timeout_ms: u64) -> Result<Bytes, String>;
}
