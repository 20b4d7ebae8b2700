//! The body, bounded in bytes and time.

use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use portcullis_core::{Code, Limits, Refusal};
use portcullis_net::body::{BodyError, read_bounded};

/// Reads the whole body.
///
/// # Errors
/// `request.too_large`, `request.timeout`, `request.invalid` when the client breaks off.
pub async fn bounded(body: Incoming, limits: &Limits) -> Result<Bytes, Refusal> {
    let bytes_max = usize::try_from(limits.body_bytes_max).unwrap_or(usize::MAX);
    read_bounded(body, bytes_max, Duration::from_millis(limits.request_timeout_ms)).await.map_err(|error| {
        let code = match error {
            BodyError::Broken(_) => Code::RequestInvalid,
            BodyError::Timeout => Code::RequestTimeout,
            BodyError::TooLarge(_) => Code::RequestTooLarge,
        };
        Refusal::new(code, error.to_string())
    })
}
