//! Connections for protocols that are not HTTP: guarded as all others, with TLS from the start or from some point on.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UdpSocket,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    ConnectError, Resolve as _, SystemResolver,
    connect::{Stream, dial},
};
use crate::{
    guard::{self, EgressPolicy, GuardError},
    tls::{ClientTls, TlsError},
};

/// Where a connection goes, and how.
#[derive(Clone, Debug)]
pub struct RawPeer {
    host: String,
    port: u16,
    egress: EgressPolicy,
    tls: Arc<ClientConfig>,
    limit: Duration,
}

/// An open connection.
#[derive(Debug)]
pub struct RawStream(Stream);

impl RawPeer {
    /// A peer at `host` and `port`; `limit` is for lookup, TCP and TLS together.
    ///
    /// # Errors
    /// What cannot be used of `tls`.
    pub fn new(
        (host, port): (&str, u16),
        egress: EgressPolicy,
        tls: &ClientTls,
        limit: Duration,
    ) -> Result<Self, TlsError> {
        let mut config = ClientConfig::clone(&*tls.config(false)?);
        // What is spoken here has no name of its own in ALPN.
        config.alpn_protocols.clear();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port, egress, tls: Arc::new(config), limit })
    }

    /// Connects, without TLS as yet.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(&self) -> Result<RawStream, ConnectError> {
        let stream = dial(&SystemResolver, &self.egress, &self.host, self.port, self.limit).await?;
        Ok(RawStream(Stream::Plain(stream)))
    }

    /// TLS over a connection from here on.
    ///
    /// # Errors
    /// The handshake failed, or there is TLS already.
    pub async fn secure(&self, stream: RawStream) -> Result<RawStream, ConnectError> {
        let RawStream(Stream::Plain(stream)) = stream else {
            return Err(ConnectError::Tls(io::Error::other("there is TLS already")));
        };
        let name = ServerName::try_from(self.host.trim_end_matches('.').to_owned())
            .map_err(|error| ConnectError::Tls(io::Error::other(error)))?;
        let handshake = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
        let stream = timeout(self.limit, handshake).await.map_err(|_| ConnectError::Timeout)?;
        Ok(RawStream(Stream::Tls(Box::new(stream.map_err(ConnectError::Tls)?))))
    }

    /// A socket that sends datagrams to the peer and nowhere else.
    ///
    /// # Errors
    /// The address is not allowed or cannot be found.
    pub async fn datagrams(&self) -> Result<UdpSocket, ConnectError> {
        let found = match self.host.parse() {
            Ok(ip) => vec![ip],
            Err(_) => SystemResolver.resolve(&self.host).await.map_err(ConnectError::Io)?,
        };
        let ip = *found.first().ok_or_else(|| GuardError::Unresolved(self.host.clone()))?;
        guard::check_ip(ip, &self.egress)?;
        let any = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await.map_err(ConnectError::Io)?;
        socket.connect((ip, self.port)).await.map_err(ConnectError::Io)?;
        Ok(socket)
    }
}

impl AsyncRead for RawStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for RawStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
