//! Accepting connections: plain HTTP/1.1, or TLS with HTTP/2 and HTTP/1.1 by negotiation. Everything that a stranger
//! can make grow before the first byte of a request is judged is bounded here: connections, handshakes, headers, time.

mod lasting;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{TryFutureExt, future};
use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::{body::Incoming, service::Service};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use portcullis_core::Limits;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

pub use self::lasting::Lasting;
use self::lasting::{Answer, Handover};
use crate::{
    BoxError,
    departure::Departure,
    stall::StallGuard,
    tls::{PeerCertificate, ServerTls},
};

/// Connections that the kernel completes before we accept them.
const BACKLOG: u32 = 1_024;

/// Header fields that hyper reads without being asked for more.
const HTTP1_HEADERS_FREE: usize = 100;

/// Requests in flight at once on one HTTP/2 connection.
const H2_STREAMS_MAX: u32 = 128;

/// Streams that a peer may open and reset before we looked at them; beyond, the connection ends (rapid reset).
const H2_PENDING_RESETS_MAX: usize = 20;

/// Streams that a peer may make us reset by protocol errors; beyond, the connection ends (made you reset).
const H2_ERROR_RESETS_MAX: usize = 256;

/// Bytes buffered per HTTP/2 stream while the client does not read.
const H2_SEND_BUFFER_BYTES: usize = 256 * 1_024;

/// How often a silent HTTP/2 connection is asked whether it still lives.
const H2_PING_EVERY: Duration = Duration::from_secs(30);

/// An address that is ours, before anything is accepted on it.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    local_addr: SocketAddr,
}

impl Bound {
    /// Takes `addr`; port 0 lets the kernel choose.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for connections of the last run to leave TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        let listener = socket.listen(BACKLOG)?;
        let local_addr = listener.local_addr()?;
        Ok(Self { listener, local_addr })
    }

    /// The address with the port in use.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

/// Limits and TLS of one listener.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// TLS, unless the listener is plain.
    pub tls: Option<ServerTls>,
    /// Connections open at once; beyond, new ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Header fields of one request; beyond, 431.
    pub headers_max: usize,
    /// Bytes of all header fields of one request; beyond, 431.
    pub header_bytes_max: usize,
    /// Time for the TLS handshake, and again for the headers of a request. An idle kept-alive connection ends after it.
    pub header_timeout: Duration,
    /// A client that does not take any byte of its reply for so long is cut off.
    pub write_stall_timeout: Duration,
}

impl ListenOptions {
    /// The options that `limits` describe.
    #[must_use]
    pub fn new(tls: Option<ServerTls>, limits: &Limits) -> Self {
        let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        Self {
            tls,
            connections_max: size(limits.connections_max),
            headers_max: size(limits.headers_max),
            header_bytes_max: size(limits.header_bytes_max),
            header_timeout: Duration::from_millis(limits.request_timeout_ms),
            write_stall_timeout: Duration::from_millis(limits.idle_timeout_ms),
        }
    }
}

/// Who is on the other end of the connection; an extension of every request, as is [`PeerCertificate`] where one was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// The address the connection came from.
    pub addr: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// Accepts and serves until `shutdown` turns true or its sender is gone; then stops accepting, lets requests in flight
/// finish for at most `grace`, and cuts off the rest. The service answers every request, so it has no error. Returns the number of connections that were cut off.
pub async fn serve<S, B>(
    bound: Bound,
    options: ListenOptions,
    service: S,
    mut shutdown: watch::Receiver<bool>,
    grace: Duration,
) -> usize
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Unpin
        + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let slots = Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS)));
    let options = Arc::new(options);
    let mut connections = JoinSet::<Option<Rest>>::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut shutdown) => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Ok(Some(rest)) = ended {
                    connections.spawn(rest.run());
                }
                continue;
            }
            accepted = accept(&bound.listener, &slots) => accepted,
        };
        let Some((stream, addr, slot)) = accepted else { break };
        let connection = Connection { options: Arc::clone(&options), addr, stop: shutdown.clone(), slot };
        connections.spawn(connection.run(stream, service.clone()));
    }
    drop(bound);
    drain(connections, grace).await
}

/// Waits for a free slot first: while none is free nothing is accepted, and the kernel's queue is the limit.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    let mut pause = Duration::from_millis(5);
    loop {
        match listener.accept().await {
            Ok((stream, addr)) => return Some((stream, addr, slot)),
            // These concern the one connection that just failed, not the listener.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::ConnectionRefused
                ) => {}
            // Out of descriptors or memory: the connection stays in the queue, so accepting at once would spin.
            Err(error) => {
                tracing::error!(%error, pause_ms = pause.as_millis(), "cannot accept connections");
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

/// A sender that is gone cannot ask for a stop any more: that is one, too.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _gone = stop.wait_for(|stop| *stop).await.is_err();
}

async fn drain(mut connections: JoinSet<Option<Rest>>, grace: Duration) -> usize {
    let drained = timeout(grace, async {
        while let Some(ended) = connections.join_next().await {
            if let Ok(Some(rest)) = ended {
                connections.spawn(rest.run());
            }
        }
    });
    let drained = drained.await;
    if drained.is_ok() {
        return 0;
    }
    let cut = connections.len();
    connections.shutdown().await;
    cut
}

/// What is left of a connection when only a lasting answer is: a task of its own, since a task stays as large as it was
/// at its largest.
struct Rest(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Rest {
    async fn run(self) -> Option<Self> {
        self.0.await;
        None
    }
}

struct Connection {
    options: Arc<ListenOptions>,
    addr: SocketAddr,
    stop: watch::Receiver<bool>,
    slot: OwnedSemaphorePermit,
}

impl Connection {
    async fn run<S, B>(mut self, stream: TcpStream, service: S) -> Option<Rest>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Unpin
            + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let stream = StallGuard::new(stream, self.options.write_stall_timeout);
        let (waiting, departure) = (stream.waiting(), stream.departure());
        let mut service = Checked {
            inner: service,
            certificate: None,
            departure,
            peer: PeerInfo { addr: self.addr, tls: self.options.tls.is_some() },
            headers_max: self.options.headers_max,
            header_bytes_max: self.options.header_bytes_max,
            handover: None,
        };
        let addr = self.addr;
        let outcome = match self.options.tls.clone() {
            None => self.http1(stream, service, waiting).await,
            Some(tls) => {
                let handshake = timeout(self.options.header_timeout, tls.accept(stream));
                let handshake = tokio::select! {
                    () = stopped(&mut self.stop) => return None,
                    handshake = handshake => handshake,
                };
                if let Ok(Ok(stream)) = &handshake {
                    service.certificate = tls.peer(stream.get_ref().1);
                }
                match handshake {
                    Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                        self.http2(stream, service).await.map(|()| None)
                    }
                    Ok(Ok(stream)) => self.http1(stream, service, waiting).await,
                    Ok(Err(error)) => Err(error.into()),
                    Err(_elapsed) => Err("the TLS handshake took too long".into()),
                }
            }
        };
        outcome.unwrap_or_else(|error| {
            // Debug: strangers cause these at will, and a log is no place for them to write to.
            tracing::debug!(peer = %addr, %error, "connection ended early");
            None
        })
    }

    /// Serves requests one after the other, until the connection ends or only a lasting answer is left of it.
    async fn http1<I, S, B>(
        mut self,
        io: I,
        mut service: Checked<S, B>,
        waiting: Arc<AtomicBool>,
    ) -> Result<Option<Rest>, BoxError>
    where
        I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Unpin,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let handover = Arc::new(Handover::new(waiting));
        service.handover = Some(Arc::clone(&handover));
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.options.header_timeout)
            // The request line comes on top of the fields; the exact count of fields follows in `Checked`.
            .max_header_size(self.options.header_bytes_max.saturating_add(8_192));
        // hyper's own limit costs nothing; another one costs an allocation per request.
        if self.options.headers_max > HTTP1_HEADERS_FREE {
            builder.max_headers(self.options.headers_max);
        }
        let mut connection = builder.serve_connection(TokioIo::new(io), service);
        let (mut stop, mut stopping) = (std::pin::pin!(stopped(&mut self.stop)), false);
        let body = poll_fn(|cx| {
            let served = Pin::new(&mut connection).poll(cx);
            if let Some(body) = handover.take() {
                return Poll::Ready(Ok(Some(body)));
            }
            if served.is_pending() && !stopping && stop.as_mut().poll(cx).is_ready() {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
                cx.waker().wake_by_ref();
            }
            served.map_ok(|()| None)
        });
        let Some(body) = body.await? else { return Ok(None) };
        let (io, slot) = (connection.into_parts().io.into_inner(), self.slot);
        Ok(Some(Rest(Box::pin(async move {
            // The client is gone, or does not read: nobody is left to be told.
            let _ended = lasting::write(io, body).await;
            drop(slot);
        }))))
    }

    async fn http2<I, S, B>(mut self, io: I, service: Checked<S, B>) -> Result<(), BoxError>
    where
        I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(H2_STREAMS_MAX)
            .max_pending_accept_reset_streams(H2_PENDING_RESETS_MAX)
            .max_local_error_reset_streams(H2_ERROR_RESETS_MAX)
            .max_send_buf_size(H2_SEND_BUFFER_BYTES)
            .max_header_list_size(u32::try_from(self.options.header_bytes_max).unwrap_or(u32::MAX))
            .keep_alive_interval(H2_PING_EVERY)
            .keep_alive_timeout(self.options.header_timeout);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
        tokio::select! {
            biased;
            outcome = connection.as_mut() => return Ok(outcome?),
            () = stopped(&mut self.stop) => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    }
}

/// Refuses requests with too many or too large header fields, and tells the service who is asking.
struct Checked<S, B> {
    inner: S,
    peer: PeerInfo,
    certificate: Option<PeerCertificate>,
    departure: Departure,
    headers_max: usize,
    header_bytes_max: usize,
    /// Where lasting answers go, unless the connection is shared with others.
    handover: Option<Arc<Handover<B>>>,
}

impl<S, B> Service<Request<Incoming>> for Checked<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Response = Response<Answer<B>>;
    type Error = Infallible;
    type Future = future::Either<
        future::Ready<Result<Self::Response, Infallible>>,
        future::MapOk<S::Future, Box<dyn FnOnce(Response<B>) -> Self::Response + Send>>,
    >;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let headers = request.headers();
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if headers.len() > self.headers_max || bytes > self.header_bytes_max {
            let mut refusal = Response::new(Answer::Empty);
            *refusal.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return future::Either::Left(future::ready(Ok(refusal)));
        }
        let handover = self.handover.clone().filter(|_| lasting::allowed(&request));
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(self.departure.clone());
        if let Some(certificate) = &self.certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        let answer = move |response| Answer::of(response, handover.as_deref());
        future::Either::Right(self.inner.call(request).map_ok(Box::new(answer)))
    }
}
