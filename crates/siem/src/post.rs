//! One receiver behind HTTP.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header, uri::PathAndQuery};
use http_body_util::Full;
use portcullis_core::Limits;
use portcullis_net::{
    body::read_bounded,
    client::{HttpUpstream, UpstreamOptions},
};
use serde_json::Value;

use crate::{Credential, Failure, Settings};

/// Bytes of an answer that are read.
const REPLY_BYTES_MAX: usize = 4 << 20;
/// Characters of an answer that are told when it is no good.
const TOLD_MAX: usize = 200;

/// Posts to one receiver.
#[derive(Clone)]
pub(crate) struct Post {
    upstream: HttpUpstream,
    /// The scheme of the credential, and the credential.
    token: Option<(&'static str, Arc<dyn Credential>)>,
    timeout: Duration,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Post").field(self.upstream.uri()).finish()
    }
}

impl Post {
    /// Shows the credential of the sink under `scheme`; none where there is no scheme.
    pub(crate) fn new(settings: &Settings, scheme: Option<&'static str>) -> Result<Self, String> {
        let mut options = UpstreamOptions::new(settings.reach.egress, &Limits::default());
        options.tls = settings.reach.tls.clone();
        options.connect_timeout = settings.reach.timeout;
        options.first_byte_timeout = settings.reach.timeout;
        let upstream = HttpUpstream::new(settings.url()?, &options).map_err(|error| error.to_string())?;
        Ok(Self { upstream, token: scheme.zip(settings.token.clone()), timeout: settings.reach.timeout })
    }

    /// The path of the configured URL with `tail` behind it; without one it is the URL's as it stands.
    pub(crate) fn path(&self, tail: &str) -> Result<PathAndQuery, String> {
        if let (true, Some(whole)) = (tail.is_empty(), self.upstream.uri().path_and_query()) {
            return Ok(whole.clone());
        }
        let path = format!("{}{tail}", self.upstream.uri().path().trim_end_matches('/'));
        PathAndQuery::try_from(path).map_err(|error| error.to_string())
    }

    /// The value of the credential, behind the name of its scheme unless it brings one; nothing where there is none.
    async fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
        let Some((scheme, token)) = &self.token else { return Ok(None) };
        let token = token.value().await.map_err(|error| Failure::Away(format!("`token`: {error}")))?;
        let text = token.expose().trim();
        let text = if text.contains(' ') { text.to_owned() } else { format!("{scheme} {text}") };
        let mut value =
            HeaderValue::try_from(text).map_err(|_| Failure::Away("`token` cannot be sent".into()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Posts, and returns what is answered with success.
    pub(crate) async fn send(
        &self,
        path: PathAndQuery,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: impl Into<Bytes>,
    ) -> Result<Value, Failure> {
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = Method::POST;
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let authorization = self.authorization().await?.map(|value| (header::AUTHORIZATION, value));
        for (name, value) in headers.into_iter().chain(authorization) {
            request.headers_mut().insert(name, value);
        }
        let response = self.upstream.send_to(path, request).await.map_err(Failure::away)?;
        let status = response.status();
        let read = read_bounded(response.into_body(), REPLY_BYTES_MAX, self.timeout).await;
        let bytes = read.map_err(Failure::away)?;
        if status.is_success() {
            return Ok(serde_json::from_slice(&bytes).unwrap_or_default());
        }
        let text: String = String::from_utf8_lossy(&bytes).chars().take(TOLD_MAX).collect();
        let why = format!("the answer is {status} {}", text.escape_debug());
        // These speak of what was sent; all others of who sent it, or of the receiver.
        let refused = [
            StatusCode::BAD_REQUEST,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            StatusCode::UNPROCESSABLE_ENTITY,
        ];
        Err(if refused.contains(&status) { Failure::Refused(why) } else { Failure::Away(why) })
    }
}
