//! Requests to where secrets are kept: guarded, bounded, answers read as JSON and overwritten once read.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, uri::PathAndQuery};
use http_body_util::Full;
use portcullis_core::Limits;
use portcullis_net::{
    body::read_bounded,
    client::{HttpUpstream, UpstreamOptions},
    guard::EgressPolicy,
    tls::ClientIdentity,
};
use serde_json::Value;
use url::Url;
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes of one answer. KV documents are at most 1 MiB, secrets of AWS 64 KiB.
const ANSWER_BYTES_MAX: usize = 1_572_864;

/// Bytes of an answer that is no JSON.
const TEXT_BYTES_MAX: usize = 65_536;

/// How a service is reached.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Addresses that it may resolve to.
    pub egress: EgressPolicy,
    /// PEM texts of roots that are trusted besides the platform's.
    pub roots_pem: Vec<Vec<u8>>,
    /// The certificate that is shown where the service asks for one.
    pub identity: Option<ClientIdentity>,
    /// For one request, name lookup and TLS included.
    pub timeout: Duration,
}

/// A service at one address. Connections are kept and used again.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    client: HttpUpstream,
    pub(crate) url: Url,
    timeout: Duration,
}

/// What a service said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Empty where the body is no JSON.
    pub(crate) body: Value,
    /// The date of the answer, where the service tells it.
    pub(crate) date: Option<String>,
    /// What is no JSON: credentials of the Security Token Service, tokens, and errors.
    pub(crate) text: Zeroizing<String>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Silent {
    pub(crate) reason: String,
    /// Whether the service surely saw nothing of the request.
    pub(crate) nothing_sent: bool,
}

impl Service {
    pub(crate) fn new(url: &Url, reach: &Reach) -> Result<Self, String> {
        let mut options = UpstreamOptions::new(reach.egress, &Limits::default());
        options.connect_timeout = reach.timeout;
        options.first_byte_timeout = reach.timeout;
        options.pool_idle_max = 4;
        options.tls.roots_pem.clone_from(&reach.roots_pem);
        options.tls.identity.clone_from(&reach.identity);
        let client = HttpUpstream::new(url, &options).map_err(|error| error.to_string())?;
        Ok(Self { client, url: url.clone(), timeout: reach.timeout })
    }

    /// Asks for `target`, a path with its query under the address of the service.
    pub(crate) async fn ask(
        &self,
        method: Method,
        target: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, Silent> {
        let silent = |reason: String, nothing_sent| Silent { reason, nothing_sent };
        let at = &target[url::Position::BeforePath..url::Position::AfterQuery];
        let at: PathAndQuery = at.parse().map_err(|_| silent("the path cannot be written".into(), true))?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        request.headers_mut().entry(header::ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        let exchange = async {
            let response = self.client.send_to(at, request).await;
            let response = response.map_err(|error| silent(error.to_string(), error.nothing_sent()))?;
            let status = response.status();
            let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
            let date = date.map(str::to_owned);
            let body = read_bounded(response.into_body(), ANSWER_BYTES_MAX, self.timeout).await;
            let body = body.map_err(|error| silent(error.to_string(), false))?;
            let read = serde_json::from_slice(&body).ok();
            let text = Zeroizing::new(if read.is_some() { String::new() } else { plain(&body) });
            if let Ok(mut bytes) = body.try_into_mut() {
                bytes.zeroize();
            }
            Ok(Answer { status, body: read.unwrap_or_default(), date, text })
        };
        let answered = tokio::time::timeout(self.timeout, exchange).await;
        answered.unwrap_or_else(|_elapsed| Err(silent("it took too long".into(), false)))
    }
}

/// A body that is no JSON, on one line. Session tokens of AWS alone may have some thousand characters.
fn plain(body: &[u8]) -> String {
    let body = body.get(..TEXT_BYTES_MAX).unwrap_or(body);
    String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).collect()
}

/// A header that debug output does not show.
pub(crate) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
