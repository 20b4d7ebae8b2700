//! Requests to an ACME server: guarded, bounded, to the host of its directory alone.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use portcullis_core::{Clock, Limits};
use portcullis_net::{
    body::read_bounded,
    client::{HttpUpstream, UpstreamOptions},
};
use url::Url;

use super::Settings;

/// Bytes of one answer. A chain of certificates is some thousand.
const ANSWER_BYTES_MAX: usize = 262_144;
/// For one request, name lookup and TLS included.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long a server may make us wait at most.
const PAUSE_MS_MAX: u64 = 86_400_000;

/// A way to one server. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Client {
    upstream: HttpUpstream,
    directory: Url,
    clock: Arc<dyn Clock>,
    /// How long the server asked to be left alone when it last refused.
    pause_ms: Arc<AtomicU64>,
}

impl Client {
    pub(super) fn new(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Self, String> {
        let mut options = UpstreamOptions::new(settings.egress, &Limits::default());
        options.connect_timeout = ANSWER_MAX;
        options.first_byte_timeout = ANSWER_MAX;
        options.tls.roots_pem.clone_from(&settings.roots_pem);
        let upstream = HttpUpstream::new(&settings.directory, &options).map_err(|error| error.to_string())?;
        let (directory, clock) = (settings.directory.clone(), Arc::clone(clock));
        Ok(Self { upstream, directory, clock, pause_ms: Arc::default() })
    }

    pub(super) fn pause_ms(&self) -> u64 {
        self.pause_ms.load(Ordering::Relaxed)
    }

    async fn ask(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string()).map_err(other)?;
        // Whoever answers for the directory must not make us ask another host.
        if url.origin() != self.directory.origin() {
            return Err(other(format!("the server names a URL of another host: `{url}`")));
        }
        let target = parts.uri.path_and_query().cloned().ok_or_else(|| other("a URL without a path"))?;
        let body = body.collect().await.map_err(other)?.to_bytes();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = parts.method;
        *request.headers_mut() = parts.headers;
        let response = self.upstream.send_to(target, request).await.map_err(other)?;
        let (parts, body) = response.into_parts();
        let body = read_bounded(body, ANSWER_BYTES_MAX, ANSWER_MAX).await.map_err(other)?;
        if matches!(parts.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            self.pause(&parts.headers);
        }
        if !parts.status.is_success() && serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_err() {
            return Err(other(format!("the server answered `{}`", parts.status)));
        }
        Ok(BytesResponse::from(Response::from_parts(parts, Full::new(body))))
    }

    fn pause(&self, headers: &http::HeaderMap) {
        let text = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let date = || {
            let at = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
            Some(at.as_secs().saturating_sub(self.clock.now().seconds()))
        };
        let seconds = text.parse::<u64>().ok().or_else(date).unwrap_or(0);
        self.pause_ms.store(seconds.saturating_mul(1_000).min(PAUSE_MS_MAX), Ordering::Relaxed);
    }
}

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Other(error.into())
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().ask(request))
    }
}

/// What an error says, for the log and the ledger: the server's words without what could break a line, and not all of them.
pub(super) fn said(error: &dyn fmt::Display) -> String {
    error.to_string().chars().filter(|c| !c.is_control()).take(500).collect()
}

#[cfg(test)]
mod tests {
    use portcullis_core::Timestamp;
    use portcullis_net::guard::EgressPolicy;

    use super::*;
    use crate::acme::Way;

    #[derive(Debug)]
    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp(784_111_777_000)
        }

        fn ticks_us(&self) -> u64 {
            0
        }
    }

    fn client() -> Client {
        let settings = Settings {
            directory: "https://acme.example/directory".parse().unwrap(),
            egress: EgressPolicy::default(),
            roots_pem: Vec::new(),
            contact: Vec::new(),
            domains: Vec::new(),
            way: Way::Http01,
            external: None,
        };
        let clock: Arc<dyn Clock> = Arc::new(Still);
        Client::new(&settings, &clock).unwrap()
    }

    #[tokio::test]
    async fn an_acme_server_is_asked_at_the_host_of_its_directory_alone() {
        for url in ["https://other.example/x", "http://acme.example/x", "https://acme.example:8443/x"] {
            let request = Request::builder().uri(url).body(BodyWrapper::default()).unwrap();
            let error = client().ask(request).await.err().unwrap();
            assert!(error.to_string().contains("another host"), "{url}: {error}");
        }
    }

    #[test]
    fn a_server_is_left_alone_as_long_as_it_asks_but_not_for_ever() {
        for (text, ms) in [
            ("120", 120_000),
            ("Sun, 06 Nov 1994 08:50:37 GMT", 60_000),
            ("Sun, 06 Nov 1994 08:40:37 GMT", 0),
            ("soon", 0),
            ("99999999999", PAUSE_MS_MAX),
        ] {
            let (client, mut headers) = (client(), http::HeaderMap::new());
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            client.pause(&headers);
            assert_eq!(client.pause_ms(), ms, "{text}");
        }
    }
}
