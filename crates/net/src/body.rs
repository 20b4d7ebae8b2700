//! Reading a whole body with a limit on its bytes and on its time, for what must be complete before it is judged.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use thiserror::Error;

use crate::BoxError;

/// Why a body could not be read whole.
#[derive(Debug, Error)]
pub enum BodyError {
    /// The connection failed or the framing is broken.
    #[error("the body broke off: {0}{cause}", cause = cause(.0))]
    Broken(BoxError),
    /// It did not arrive in time.
    #[error("the body did not arrive in time")]
    Timeout,
    /// It has more bytes than allowed. Nothing beyond the limit was kept.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
}

/// What the error itself does not say: whether the connection was closed or reset.
fn cause(error: &BoxError) -> String {
    error.source().map(|cause| format!(": {cause}")).unwrap_or_default()
}

/// Reads all of `body`: at most `bytes_max`, within `timeout`. A declared length beyond the limit is refused before
/// a byte is read.
pub async fn read_bounded<B>(body: B, bytes_max: usize, timeout: Duration) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > u64::try_from(bytes_max).unwrap_or(u64::MAX) {
        return Err(BodyError::TooLarge(bytes_max));
    }
    match tokio::time::timeout(timeout, collect(body, bytes_max)).await {
        Ok(read) => read,
        Err(_elapsed) => Err(BodyError::Timeout),
    }
}

async fn collect<B>(body: B, bytes_max: usize) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken(error.into()))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.len() + data.len() > bytes_max {
            return Err(BodyError::TooLarge(bytes_max));
        }
        // Most bodies are one frame: those are passed on without a copy.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            rest.reserve(first.len() + data.len());
            rest.extend_from_slice(&std::mem::take(&mut first));
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}
