//! Requests to authorization servers: through the guarded client, bounded, redirects never followed, answers read
//! strictly. Every URL comes from somebody else and is checked before anything is connected to.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use portcullis_core::{Code, Limits, Refusal};
use portcullis_net::{
    body::read_bounded,
    client::{HttpUpstream, UpstreamOptions},
    guard::{self, EgressPolicy},
};
use serde::de::DeserializeOwned;
use url::{Url, form_urlencoded};

/// Bytes of one document: metadata, a registration, an answer with tokens.
const DOCUMENT_BYTES_MAX: usize = 131_072;
/// Time for one request, name lookup and TLS included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why no token could be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The authorization server said no: the grant is of no use any more, or never was.
    #[error("the authorization server refused: {0}")]
    Refused(String),
    /// The authorization server does not answer as it should. Another time it may.
    #[error("the authorization server cannot be used: {0}")]
    Unavailable(String),
    /// Something does not belong together: an attack, or a mistake that looks like one.
    #[error("not trusted: {0}")]
    Untrusted(String),
    /// The gateway itself could not do its part.
    #[error("the gateway cannot do it: {0}")]
    Ours(String),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::new(Code::ConnectionFailed, failure.to_string())
    }
}

/// Asks authorization servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Web {
    egress: EgressPolicy,
}

/// An answer.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    body: Bytes,
}

impl Web {
    pub(crate) const fn new(egress: EgressPolicy) -> Self {
        Self { egress }
    }

    /// A URL that somebody else wrote, if it may be connected to.
    pub(crate) fn url(&self, what: &str, text: &str) -> Result<Url, Failure> {
        guard::parse_url(text, &self.egress).map_err(|error| Failure::Untrusted(format!("{what}: {error}")))
    }

    pub(crate) async fn get(&self, url: &Url) -> Result<Answered, Failure> {
        self.ask(Method::GET, url, None, None).await
    }

    /// Posts a form, as token endpoints take it.
    pub(crate) async fn form(
        &self,
        url: &Url,
        form: &[(&str, &str)],
        authorization: Option<HeaderValue>,
    ) -> Result<Answered, Failure> {
        let body = Bytes::from(form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish());
        self.ask(Method::POST, url, Some(("application/x-www-form-urlencoded", body)), authorization).await
    }

    pub(crate) async fn json(&self, url: &Url, text: String) -> Result<Answered, Failure> {
        self.ask(Method::POST, url, Some(("application/json", Bytes::from(text))), None).await
    }

    async fn ask(
        &self,
        method: Method,
        url: &Url,
        body: Option<(&'static str, Bytes)>,
        authorization: Option<HeaderValue>,
    ) -> Result<Answered, Failure> {
        let unavailable = |error: String| Failure::Unavailable(format!("`{}`: {error}", shown(url)));
        let mut options = UpstreamOptions::new(self.egress, &Limits::default());
        options.connect_timeout = TIMEOUT;
        options.first_byte_timeout = TIMEOUT;
        options.pool_idle_max = 0;
        let client = HttpUpstream::new(url, &options).map_err(|error| unavailable(error.to_string()))?;
        let (media, bytes) = body.unzip();
        let mut request = Request::new(Full::new(bytes.unwrap_or_default()));
        *request.method_mut() = method;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(media) = media {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        }
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value);
        }
        let exchange = async {
            let response = client.send(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = read_bounded(response.into_body(), DOCUMENT_BYTES_MAX, TIMEOUT)
                .await
                .map_err(|error| error.to_string())?;
            Ok::<_, String>(Answered { status, body })
        };
        let answered = tokio::time::timeout(TIMEOUT, exchange).await;
        answered.unwrap_or_else(|_elapsed| Err("it took too long".into())).map_err(unavailable)
    }
}

impl Answered {
    /// The document. A member that is there twice makes it unreadable: two readers could take different ones.
    pub(crate) fn read<T: DeserializeOwned>(&self, what: &str) -> Result<T, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Failure::Unavailable(format!("{what} is not what it should be: {error}")))
    }
}

/// A URL for log and ledger, without its query.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}
