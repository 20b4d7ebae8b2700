//! HTTP towards servers and key sets: pooled connections through a guarded connector. What is connected to is an
//! address that was checked; redirects are answers, never followed; environment proxies do not exist here.

pub mod chunks;
mod connect;
mod lasting;
pub mod raw;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error as LegacyError},
    rt::{TokioExecutor, TokioTimer},
};
use portcullis_core::Limits;
use thiserror::Error;
use tokio::time::timeout;
use url::Url;

pub(crate) use connect::dial;
pub use connect::{ConnectError, Resolve, SystemResolver};
pub use lasting::{Body, Own};

use crate::{
    body::{BodyError, read_bounded},
    guard::{self, EgressPolicy, GuardError},
    tls::{self, TlsError},
};
use connect::Connector;

/// How an upstream is connected to.
#[derive(Clone, Debug)]
pub struct UpstreamOptions {
    /// Which addresses it may resolve to.
    pub egress: EgressPolicy,
    /// Time for lookup, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Time from sending the request until the head of the answer is there.
    pub first_byte_timeout: Duration,
    /// What is wanted of the server's certificate, and the one that is shown to it.
    pub tls: tls::ClientTls,
    /// Connections kept open while idle.
    pub pool_idle_max: usize,
    /// How long an idle connection is kept.
    pub pool_idle_timeout: Duration,
    /// Header fields of one answer; beyond, the answer is refused.
    pub headers_max: usize,
    /// Offer HTTP/2 by negotiation.
    pub http2: bool,
}

impl UpstreamOptions {
    /// The options that `limits` describe.
    #[must_use]
    pub fn new(egress: EgressPolicy, limits: &Limits) -> Self {
        Self {
            egress,
            connect_timeout: Duration::from_millis(limits.connect_timeout_ms),
            first_byte_timeout: Duration::from_millis(limits.first_byte_timeout_ms),
            tls: tls::ClientTls::default(),
            pool_idle_max: 256,
            // Below what servers commonly use, so that we and not they end idle connections.
            pool_idle_timeout: Duration::from_secs(4),
            headers_max: usize::try_from(limits.headers_max).unwrap_or(usize::MAX),
            http2: false,
        }
    }
}

/// Why an upstream gave no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The guard does not allow the address.
    #[error("connection refused by the egress policy: {0}")]
    Guard(#[from] GuardError),
    /// Name lookup or TCP failed. Nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// Lookup, TCP and TLS together took too long. Nothing was sent.
    #[error("connecting took too long")]
    ConnectTimeout,
    /// The handshake failed, or the certificate is not trusted. Nothing was sent.
    #[error("TLS failed: {0}")]
    Tls(std::io::Error),
    /// TLS could not be set up on our side.
    #[error(transparent)]
    Setup(#[from] TlsError),
    /// The head of the answer did not arrive in time. The request may have taken effect.
    #[error("the answer did not start in time")]
    FirstByteTimeout,
    /// The connection broke or the answer is not HTTP. The request may have taken effect.
    #[error("the exchange failed: {0}")]
    Protocol(String),
    /// The request cannot be expressed.
    #[error("the request is not valid: {0}")]
    Request(String),
}

impl ClientError {
    /// Whether it is certain that the upstream saw nothing of the request.
    #[must_use]
    pub const fn nothing_sent(&self) -> bool {
        match self {
            Self::Guard(_)
            | Self::Connect(_)
            | Self::ConnectTimeout
            | Self::Tls(_)
            | Self::Setup(_)
            | Self::Request(_) => true,
            Self::FirstByteTimeout | Self::Protocol(_) => false,
        }
    }
}

/// One server behind HTTP. Clones share the pool.
#[derive(Clone)]
pub struct HttpUpstream {
    client: Client<Connector, Full<Bytes>>,
    /// For answers that last, unless HTTP/2 may be negotiated, where they share a connection.
    lasting: Option<Connector>,
    headers_max: usize,
    uri: Uri,
    host: HeaderValue,
    first_byte_timeout: Duration,
}

impl fmt::Debug for HttpUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpUpstream").field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl HttpUpstream {
    /// An upstream at `url`. Nothing is connected yet.
    pub fn new(url: &Url, options: &UpstreamOptions) -> Result<Self, ClientError> {
        Self::with_resolver(url, options, Arc::new(SystemResolver))
    }

    /// The same, with another source of addresses.
    pub fn with_resolver(
        url: &Url,
        options: &UpstreamOptions,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, ClientError> {
        guard::check_url(url, &options.egress)?;
        let uri: Uri = url.as_str().parse().map_err(|error| ClientError::Request(format!("{error}")))?;
        let authority = uri.authority().ok_or(ClientError::Guard(GuardError::NoHost))?;
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|error| ClientError::Request(error.to_string()))?;
        let tls = match url.scheme() {
            "https" => Some(options.tls.config(options.http2)?),
            _ => None,
        };
        let connector = Connector::new(resolver, options.egress, tls, options.connect_timeout);
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(options.pool_idle_timeout)
            // A pooled connection that died before a byte was written is no reason to fail; anything later is not retried.
            .retry_canceled_requests(true)
            .set_host(false);
        // hyper's own limit is 100 and costs nothing; another one costs an allocation per answer.
        if options.headers_max > 100 {
            builder.http1_max_headers(options.headers_max);
        }
        let lasting = (!options.http2).then(|| connector.clone());
        builder.pool_max_idle_per_host(options.pool_idle_max).http1_read_buf_exact_size(16 << 10);
        Ok(Self {
            client: builder.build(connector),
            lasting,
            headers_max: options.headers_max,
            uri,
            host,
            first_byte_timeout: options.first_byte_timeout,
        })
    }

    /// Where requests go.
    #[must_use]
    pub const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Sends one request to the configured URL, whatever URI and `Host` it carries. Returns when the head of the answer
    /// is there; the body streams. Dropping the future or the body ends the exchange and closes its connection.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        self.send_at(self.uri.clone(), request).await
    }

    /// The same for an answer that is a stream without an end of its own: thousands of them are open at once, and most
    /// are silent. Over HTTP/1.1 each has a connection of its own.
    pub async fn open(&self, mut request: Request<Bytes>) -> Result<Response<Body>, ClientError> {
        let Some(connector) = self.lasting.clone() else {
            return Ok(self.send(request.map(Full::new)).await?.map(Body::Pooled));
        };
        request.headers_mut().insert(header::HOST, self.host.clone());
        *request.uri_mut() = self.uri.clone();
        let exchange = async {
            let io = connector.connect(self.uri.clone()).await.map_err(|error| error.to_client_error())?;
            lasting::exchange(io.into_inner(), request, self.headers_max).await
        };
        timeout(self.first_byte_timeout, exchange).await.unwrap_or(Err(ClientError::FirstByteTimeout))
    }

    /// The same as [`HttpUpstream::send`] to another path of the configured scheme, host and port, as the server itself
    /// names one.
    pub async fn send_to(
        &self,
        target: PathAndQuery,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(target);
        let uri = Uri::from_parts(parts).map_err(|error| ClientError::Request(error.to_string()))?;
        self.send_at(uri, request).await
    }

    /// Sends one request and reads the whole answer: at most `bytes_max`, its body within `limit`.
    pub async fn fetch(
        &self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), FetchError> {
        let response = self.send(request).await?;
        let status = response.status();
        Ok((status, read_bounded(response.into_body(), bytes_max, limit).await?))
    }

    async fn send_at(
        &self,
        uri: Uri,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError> {
        *request.uri_mut() = uri;
        *request.version_mut() = http::Version::HTTP_11;
        request.headers_mut().insert(header::HOST, self.host.clone());
        match timeout(self.first_byte_timeout, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(explain(error)),
            Err(_elapsed) => Err(ClientError::FirstByteTimeout),
        }
    }
}

/// Why a document could not be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// No answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The answer's body is too large, too slow or broken.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The answer is not 200. Redirects are not followed: they end here, too.
    #[error("the server answered `{0}`")]
    Status(StatusCode),
    /// All of it together took too long.
    #[error("fetching took too long")]
    Timeout,
}

/// Fetches a small document, such as a key set: at most `bytes_max`, within `limit` for everything, no redirects.
pub async fn get_bounded(
    url: &Url,
    egress: &EgressPolicy,
    extra_roots_pem: &[Vec<u8>],
    bytes_max: usize,
    limit: Duration,
) -> Result<Bytes, FetchError> {
    let mut options = UpstreamOptions::new(*egress, &Limits::default());
    options.connect_timeout = limit;
    options.first_byte_timeout = limit;
    options.pool_idle_max = 0;
    options.tls.roots_pem = extra_roots_pem.to_vec();
    let upstream = HttpUpstream::new(url, &options)?;
    match timeout(limit, fetch(&upstream, bytes_max, limit)).await {
        Ok(fetched) => fetched,
        Err(_elapsed) => Err(FetchError::Timeout),
    }
}

async fn fetch(upstream: &HttpUpstream, bytes_max: usize, limit: Duration) -> Result<Bytes, FetchError> {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.method_mut() = Method::GET;
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let response = upstream.send(request).await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    Ok(read_bounded(response.into_body(), bytes_max, limit).await?)
}

/// hyper-util keeps our connector's error as a source somewhere below its own.
fn explain(error: LegacyError) -> ClientError {
    if !error.is_connect() {
        return ClientError::Protocol(chain(&error));
    }
    let text = chain(&error);
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(here) = source {
        if let Some(ours) = here.downcast_ref::<ConnectError>() {
            return ours.to_client_error();
        }
        source = here.source();
    }
    // The HTTP handshake on a fresh connection: for HTTP/1 nothing was sent, for HTTP/2 only the preface.
    ClientError::Connect(std::io::Error::other(text))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(here) = source {
        text.push_str(": ");
        text.push_str(&here.to_string());
        source = here.source();
    }
    text
}
