//! What handshakes of TLS 1.3 cost the listener, whole ones and such as resume a session, beside plain rustls in the same run: the
//! time that the serving thread is on a processor, so that the client and a busy machine do not count.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use portcullis_core::Limits;
use portcullis_net::{
    listen::{self, Bound, ListenOptions},
    tls::ServerTls,
};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::rows::Rows;

/// Handshakes of one measurement.
const HANDSHAKES: usize = 500;
/// Measurements, of which the least counts.
const ROUNDS: usize = 9;
/// How much of plain rustls' time ours may be.
const RATIO_AIM: f64 = 1.25;

/// What is measured.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// A server on a thread of its own.
struct Server {
    address: SocketAddr,
    thread: i32,
    stop: watch::Sender<bool>,
    join: JoinHandle<()>,
}

impl Server {
    fn start<F>(
        serve: impl FnOnce(watch::Receiver<bool>, mpsc::Sender<SocketAddr>) -> F + Send + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = Result<()>>,
    {
        let (stop, stopped) = watch::channel(false);
        let (tell, told) = mpsc::channel();
        let (name, named) = mpsc::channel();
        let join = std::thread::spawn(move || {
            let _ = name.send(rustix::thread::gettid().as_raw_nonzero().get());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Err(error) =
                runtime.context("no runtime").and_then(|one| one.block_on(serve(stopped, tell)))
            {
                let _ = crate::say(&format!("a server has ended: {error:#}"));
            }
        });
        let wait = Duration::from_secs(10);
        let (thread, address) = (named.recv_timeout(wait)?, told.recv_timeout(wait)?);
        Ok(Self { address, thread, stop, join })
    }

    /// Nanoseconds for which its thread has been on a processor.
    fn spent(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.thread))?;
        Ok(text.split_whitespace().next().context("no times")?.parse()?)
    }

    fn end(self) {
        let _ = self.stop.send(true);
        let _ = self.join.join();
    }
}

/// A listener as the gateway has it.
async fn ours(tls: ServerTls, stopped: watch::Receiver<bool>, tell: mpsc::Sender<SocketAddr>) -> Result<()> {
    let bound = Bound::bind("127.0.0.1:0".parse()?)?;
    tell.send(bound.local_addr())?;
    let options = ListenOptions::new(Some(tls), &Limits::default());
    let service = service_fn(|_: Request<Incoming>| async {
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    listen::serve(bound, options, service, stopped, Duration::from_millis(10)).await;
    Ok(())
}

/// rustls without more.
async fn plain(
    config: ServerConfig,
    mut stopped: watch::Receiver<bool>,
    tell: mpsc::Sender<SocketAddr>,
) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    tell.send(listener.local_addr()?)?;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = stopped.changed() => return Ok(()),
        };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut some = [0; 64];
            while stream.read(&mut some).await.is_ok_and(|count| count > 0) {}
            let _ = stream.shutdown().await;
        });
    }
}

/// One connection, all of it; how the two sides came to an agreement.
async fn once(connector: &tokio_rustls::TlsConnector, address: SocketAddr) -> Result<HandshakeKind> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut stream = connector.connect(ServerName::try_from("localhost")?, stream).await?;
    stream.shutdown().await?;
    // Tickets come behind the handshake.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    stream.get_ref().1.handshake_kind().context("no handshake")
}

/// Microseconds of the serving thread for one handshake.
async fn measure(server: &Server, config: &Arc<ClientConfig>, kind: HandshakeKind) -> Result<f64> {
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    // The first one brings a ticket.
    once(&connector, server.address).await?;
    let before = server.spent()?;
    for _ in 0..HANDSHAKES {
        let seen = once(&connector, server.address).await?;
        ensure!(seen == kind, "a handshake was {seen:?} instead of {kind:?}");
    }
    Ok((server.spent()? - before) as f64 / 1e3 / HANDSHAKES as f64)
}

/// Measures; whether every aim is met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes())?];
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain.clone(), PrivateKeyDer::from_pem_slice(key.as_bytes())?)?;
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    let tls = ServerTls::new(certificate.as_bytes(), key.as_bytes())?;
    let servers = [
        Server::start(move |stopped, tell| ours(tls, stopped, tell))?,
        Server::start(move |stopped, tell| plain(config, stopped, tell))?,
    ];
    let mut roots = RootCertStore::empty();
    chain.into_iter().try_for_each(|one| roots.add(one))?;
    let client = |resumption| {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut config = builder.with_root_certificates(roots.clone()).with_no_client_auth();
        config.resumption = resumption;
        Ok::<_, rustls::Error>(Arc::new(config))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rows = Rows::new(options.json);
    for (name, kind) in [("whole", HandshakeKind::Full), ("resumed", HandshakeKind::Resumed)] {
        let mut least = [f64::MAX; 2];
        for _ in 0..ROUNDS {
            for (server, least) in servers.iter().zip(&mut least) {
                let resumption = match kind {
                    HandshakeKind::Resumed => Resumption::in_memory_sessions(8),
                    _ => Resumption::disabled(),
                };
                *least = least.min(runtime.block_on(measure(server, &client(resumption)?, kind))?);
            }
        }
        let [ours, plain] = least;
        let note = format!("{:.0}/s a core; plain rustls {plain:.1} us, {:.0}/s", 1e6 / ours, 1e6 / plain);
        rows.add(&format!("a {name} handshake of TLS 1.3"), ours, plain * RATIO_AIM, "us", &note)?;
    }
    servers.into_iter().for_each(Server::end);
    rows.end()
}
