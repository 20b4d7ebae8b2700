//! The guarded connector: look up once, check every address, connect to one of the checked ones, then TLS.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{ClientConfig, pki_types::ServerName};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::ClientError;
use crate::guard::{self, EgressPolicy, GuardError};

/// Addresses of a name that are looked at; a name with more is an attempt to make us scan.
const ADDRESSES_MAX: usize = 32;

/// Where addresses of names come from.
#[async_trait]
pub trait Resolve: Send + Sync + fmt::Debug {
    /// The addresses of `host`, in order of preference.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The resolver of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|found| found.ip()).collect())
    }
}

/// Why no connection came about.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The guard does not allow it.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// Lookup or TCP failed.
    #[error("{0}")]
    Io(io::Error),
    /// It took too long.
    #[error("connecting took too long")]
    Timeout,
    /// The handshake failed.
    #[error("{0}")]
    Tls(io::Error),
}

impl ConnectError {
    pub(super) fn to_client_error(&self) -> ClientError {
        // `io::Error` cannot be cloned, and hyper-util only lends us the error.
        let again = |error: &io::Error| io::Error::new(error.kind(), error.to_string());
        match self {
            Self::Guard(error) => ClientError::Guard(error.clone()),
            Self::Io(error) => ClientError::Connect(again(error)),
            Self::Timeout => ClientError::ConnectTimeout,
            Self::Tls(error) => ClientError::Tls(again(error)),
        }
    }
}

/// Opens connections for the pool.
#[derive(Clone)]
pub(super) struct Connector {
    resolver: Arc<dyn Resolve>,
    egress: EgressPolicy,
    tls: Option<Arc<ClientConfig>>,
    limit: Duration,
}

impl Connector {
    pub(super) fn new(
        resolver: Arc<dyn Resolve>,
        egress: EgressPolicy,
        tls: Option<Arc<ClientConfig>>,
        limit: Duration,
    ) -> Self {
        Self { resolver, egress, tls, limit }
    }

    pub(super) async fn connect(self, uri: Uri) -> Result<TokioIo<Stream>, ConnectError> {
        match timeout(self.limit, self.open(&uri)).await {
            Ok(opened) => opened.map(TokioIo::new),
            Err(_elapsed) => Err(ConnectError::Timeout),
        }
    }

    async fn open(&self, uri: &Uri) -> Result<Stream, ConnectError> {
        let host = uri.host().ok_or(GuardError::NoHost)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = uri.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let stream = dial(&*self.resolver, &self.egress, host, port, self.limit).await?;
        let Some(tls) = &self.tls else { return Ok(Stream::Plain(stream)) };
        // A name with the root's dot is the same name; certificates and SNI have it without.
        let name = ServerName::try_from(host.trim_end_matches('.').to_owned())
            .map_err(|error| ConnectError::Tls(io::Error::other(error)))?;
        let stream =
            TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.map_err(ConnectError::Tls)?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// Looks the name up once and tries its addresses in order. One bad address refuses the name: an honest one has none.
pub(crate) async fn dial(
    resolver: &dyn Resolve,
    egress: &EgressPolicy,
    host: &str,
    port: u16,
    limit: Duration,
) -> Result<TcpStream, ConnectError> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(ip) => vec![ip],
        Err(_not_literal) => {
            let found = timeout(limit, resolver.resolve(host)).await;
            found.map_err(|_elapsed| ConnectError::Timeout)?.map_err(ConnectError::Io)?
        }
    };
    for ip in &addresses {
        guard::check_ip(*ip, egress)?;
    }
    let mut failed = ConnectError::Guard(GuardError::Unresolved(host.to_owned()));
    let count = u32::try_from(addresses.len().min(ADDRESSES_MAX)).unwrap_or(1).max(1);
    for ip in addresses.into_iter().take(ADDRESSES_MAX) {
        // A share each: an address that swallows packets must not use up the time of the next.
        match timeout(limit / count, TcpStream::connect(SocketAddr::new(ip, port))).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(ConnectError::Io)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failed = ConnectError::Io(error),
            Err(_elapsed) => failed = ConnectError::Timeout,
        }
    }
    Err(failed)
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A connection to an upstream.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(_) => Connected::new(),
            Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Connected::new().negotiated_h2()
            }
            Self::Tls(_) => Connected::new(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
