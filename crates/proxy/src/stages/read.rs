//! The body, bounded in bytes and time.

use std::time::Duration;

use bytes::Bytes;
use portcullis_core::{Code, Limits, Refusal};
use portcullis_net::body::{BodyError, read_bounded};

use crate::body::Inbound;

/// Reads the whole body.
///
/// # Errors
/// `request.too_large`, `request.timeout`, `request.invalid` when the client breaks off.
pub async fn bounded(body: Inbound, limits: &Limits) -> Result<Bytes, Refusal> {
    let bytes_max = usize::try_from(limits.body_bytes_max).unwrap_or(usize::MAX);
    let body = match body {
        Inbound::Wire(body) => body,
        Inbound::Whole(bytes) if bytes.len() <= bytes_max => return Ok(bytes),
        Inbound::Whole(_) => {
            let error = BodyError::TooLarge(bytes_max);
            return Err(Refusal::new(Code::RequestTooLarge, error.to_string()));
        }
    };
    read_bounded(body, bytes_max, Duration::from_millis(limits.request_timeout_ms)).await.map_err(|error| {
        let code = match error {
            BodyError::Broken(_) => Code::RequestInvalid,
            BodyError::Timeout => Code::RequestTimeout,
            BodyError::TooLarge(_) => Code::RequestTooLarge,
        };
        Refusal::new(code, error.to_string())
    })
}
