//! Scripted peers: an upstream that says exactly these bytes, certificates, raw connections.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use portcullis_core::Limits;
use portcullis_net::{
    client::{Resolve, UpstreamOptions},
    guard::EgressPolicy,
    listen::{Bound, ListenOptions, PeerInfo, serve},
    tls::ServerTls,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

pub(crate) const LOOPBACK: EgressPolicy = EgressPolicy::of(true, false);

/// How long anything that must happen may take, on a machine that has other things to do as well.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// When a peer that says nothing is given up; whoever does say something has time enough.
pub(crate) const GIVEN_UP: Duration = Duration::from_secs(2);
/// When a client that dawdles is cut off, where a test is about that.
pub(crate) const CUT_OFF: Duration = Duration::from_millis(400);

pub(crate) fn upstream_options() -> UpstreamOptions {
    let mut options = UpstreamOptions::new(LOOPBACK, &Limits::default());
    options.connect_timeout = GIVEN_UP;
    options.first_byte_timeout = GIVEN_UP;
    options
}

/// What a scripted upstream does after it has read a request head.
#[derive(Clone)]
pub(crate) enum Act {
    Say(&'static [u8]),
    SayOwned(Vec<u8>),
    Wait(u64),
    /// Close in order.
    Close,
    /// Close with a reset.
    Reset,
    /// Read the next request head.
    Read,
}

/// A TCP server that follows a script on every connection; counts connections and request heads.
pub(crate) struct Scripted {
    pub(crate) addr: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) heads: Arc<AtomicUsize>,
    /// Connections whose peer went away while the script was waiting or at its end.
    pub(crate) gone: Arc<AtomicUsize>,
}

impl Scripted {
    pub(crate) async fn start(script: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Self {
            addr: listener.local_addr().unwrap(),
            connections: Arc::default(),
            heads: Arc::default(),
            gone: Arc::default(),
        };
        let (connections, heads, gone) =
            (Arc::clone(&peer.connections), Arc::clone(&peer.heads), Arc::clone(&peer.gone));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(follow(stream, script.clone(), Arc::clone(&heads), Arc::clone(&gone)));
            }
        });
        peer
    }

    pub(crate) fn url(&self) -> url::Url {
        format!("http://{}/mcp", self.addr).parse().unwrap()
    }

    pub(crate) fn heads(&self) -> usize {
        self.heads.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn follow(mut stream: TcpStream, script: Vec<Act>, heads: Arc<AtomicUsize>, gone: Arc<AtomicUsize>) {
    for act in script {
        match act {
            Act::Read => {
                let mut seen = Vec::new();
                while !seen.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    seen.push(byte);
                }
                heads.fetch_add(1, Ordering::SeqCst);
            }
            Act::Say(bytes) => {
                let _ = stream.write_all(bytes).await;
            }
            Act::SayOwned(bytes) => {
                let _ = stream.write_all(&bytes).await;
            }
            Act::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Act::Close => return,
            Act::Reset => {
                // Deprecated for blocking; with zero it does not block but resets.
                stream.set_zero_linger().unwrap();
                return;
            }
        }
    }
    // Holds the connection until the peer leaves.
    let mut rest = [0; 1024];
    while !matches!(stream.read(&mut rest).await, Ok(0) | Err(_)) {}
    gone.fetch_add(1, Ordering::SeqCst);
}

/// Waits until `probe` holds.
pub(crate) async fn eventually(what: &str, probe: impl Fn() -> bool) {
    let due = Instant::now() + SOON;
    while !probe() {
        assert!(Instant::now() < due, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Answers from a list instead of a resolver; one entry per question, the last one again and again.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) answers: Vec<Vec<IpAddr>>,
    pub(crate) asked: AtomicUsize,
}

impl Names {
    pub(crate) fn new(answers: &[&[&str]]) -> Arc<Self> {
        let answers =
            answers.iter().map(|list| list.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        Arc::new(Self { answers, asked: AtomicUsize::new(0) })
    }
}

#[async_trait::async_trait]
impl Resolve for Names {
    async fn resolve(&self, _host: &str) -> std::io::Result<Vec<IpAddr>> {
        let nth = self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.answers[nth.min(self.answers.len() - 1)].clone())
    }
}

/// A running listener of ours. Its service answers with what it saw; `/slow/MS` waits first, `/big/BYTES` sends so much.
pub(crate) struct Served {
    pub(crate) addr: SocketAddr,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) done: JoinHandle<usize>,
}

pub(crate) fn listen_options(tls: Option<ServerTls>) -> ListenOptions {
    let mut options = ListenOptions::new(tls, &Limits::default());
    options.header_timeout = SOON;
    options.write_stall_timeout = SOON;
    options
}

/// The same, with no patience for clients that dawdle.
pub(crate) fn strict_options(tls: Option<ServerTls>) -> ListenOptions {
    let mut options = listen_options(tls);
    options.header_timeout = CUT_OFF;
    options.write_stall_timeout = CUT_OFF;
    options
}

/// Whether so long passed since then: no less, and no more than a busy machine adds.
pub(crate) fn took(began: Instant, time: Duration) -> bool {
    (time - Duration::from_millis(50)..time + SOON).contains(&began.elapsed())
}

pub(crate) fn start(options: ListenOptions, grace: Duration) -> Served {
    let bound = Bound::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = bound.local_addr();
    let (stop, stopped) = watch::channel(false);
    let done = tokio::spawn(serve(bound, options, service_fn(answer), stopped, grace));
    Served { addr, stop, done }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let peer = *request.extensions().get::<PeerInfo>().unwrap();
    let path = request.uri().path().to_owned();
    let version = request.version();
    let body = request.into_body().collect().await.map(|body| body.to_bytes().len());
    if let Some(ms) = path.strip_prefix("/slow/") {
        tokio::time::sleep(Duration::from_millis(ms.parse().unwrap())).await;
    }
    if let Some(bytes) = path.strip_prefix("/big/") {
        return Ok(Response::new(Full::new(Bytes::from(vec![b'x'; bytes.parse().unwrap()]))));
    }
    let text =
        format!("{version:?} tls={} loopback={} body={body:?}", peer.tls, peer.addr.ip().is_loopback());
    Ok(Response::new(Full::new(Bytes::from(text))))
}

/// Writes bytes to a fresh connection and reads until it closes, or the time is over.
pub(crate) async fn raw(addr: SocketAddr, bytes: &[u8], limit: Duration) -> (String, bool) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut seen = Vec::new();
    let closed = tokio::time::timeout(limit, async {
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut chunk).await {
            seen.extend_from_slice(&chunk[..read]);
        }
    })
    .await
    .is_ok();
    (String::from_utf8_lossy(&seen).into_owned(), closed)
}

/// An authority of ours and what it signs.
pub(crate) struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pub(crate) pem: Vec<u8>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem().into_bytes();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }

    /// Certificate and key for `name`, valid until `year`.
    pub(crate) fn sign(&self, name: &str, year: i32) -> (Vec<u8>, Vec<u8>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.pem().into_bytes(), key.serialize_pem().into_bytes())
    }
}
