//! How documents of identity providers are fetched.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use portcullis_net::{client::get_bounded, guard::EgressPolicy};
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

/// Fetches with the guarded client: only from addresses that the policy allows.
#[derive(Clone, Debug)]
pub struct GuardedFetch {
    /// Where it may connect to. For a key set on this machine, `allow_loopback` and, without TLS, `allow_http`.
    pub egress: EgressPolicy,
    /// Further certificate authorities, in PEM.
    pub extra_roots_pem: Vec<Vec<u8>>,
}

#[async_trait]
impl Fetch for GuardedFetch {
    async fn get(&self, url: &Url, max_bytes: u64, timeout_ms: u64) -> Result<Bytes, String> {
        let bytes_max = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        let limit = Duration::from_millis(timeout_ms);
        get_bounded(url, &self.egress, &self.extra_roots_pem, bytes_max, limit)
            .await
            .map_err(|error| error.to_string())
    }
}
