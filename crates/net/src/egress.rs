//! The way out for confined children: an HTTP proxy on loopback that knows each child by a credential of its own and
//! connects it only to the hosts that its server may reach, through the same guard and the same single look-up as
//! everything else that the gateway connects to.

mod allow;
mod forward;

use std::{
    collections::HashMap,
    fmt,
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper_util::rt::{TokioIo, TokioTimer};
use portcullis_core::{Digest, Entropy, Secret};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::sleep,
};

pub use self::allow::{AllowedHost, AllowedHostError};
use crate::{
    client::{Resolve, SystemResolver},
    incident::{Incident, IncidentKind, Report},
    visible::visible,
};

/// Connections of all children at once; beyond, new ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;

/// Connections of one child at once; beyond, it is told to wait.
const CHILD_CONNECTIONS_MAX: usize = 64;

/// Time for the head of a request, and for a connection to be kept open between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of the head of a request.
const HEAD_BYTES_MAX: usize = 32_768;

/// Characters of a host that are reported.
const DETAIL_CHARS_MAX: usize = 200;

/// Random bytes of a credential.
const CREDENTIAL_BYTES: usize = 24;

/// The user name in credentials; it says nothing.
const USER: &str = "child";

/// The proxy. Nothing listens before the first child needs it. Clones are the same proxy.
#[derive(Clone)]
pub struct EgressProxy(Arc<Shared>);

struct Shared {
    entropy: Arc<dyn Entropy>,
    resolver: Arc<dyn Resolve>,
    connect_timeout: Duration,
    port: Mutex<Option<u16>>,
    /// By digest of the credential: looking one up takes no time that depends on it.
    grants: Mutex<HashMap<Digest, Arc<Grant>>>,
}

/// What one child may do here.
struct Grant {
    server: Arc<str>,
    hosts: Vec<AllowedHost>,
    report: Report,
    slots: Arc<Semaphore>,
    /// Its sender lives as long as the child.
    over: watch::Receiver<()>,
}

/// The right of one child to use the proxy. Ends when dropped, with every connection that was made under it.
pub struct Lease {
    shared: Arc<Shared>,
    key: Digest,
    credential: Secret<String>,
    port: u16,
    _over: watch::Sender<()>,
}

impl EgressProxy {
    /// A proxy that looks names up with the operating system.
    #[must_use]
    pub fn new(entropy: Arc<dyn Entropy>, connect_timeout: Duration) -> Self {
        Self::with_resolver(entropy, connect_timeout, Arc::new(SystemResolver))
    }

    /// The same, with another source of addresses.
    #[must_use]
    pub fn with_resolver(
        entropy: Arc<dyn Entropy>,
        connect_timeout: Duration,
        resolver: Arc<dyn Resolve>,
    ) -> Self {
        let (port, grants) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Shared { entropy, resolver, connect_timeout, port, grants }))
    }

    /// Lets one child out to `hosts`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// No port can be listened on.
    pub fn lease(&self, server: &Arc<str>, hosts: Vec<AllowedHost>, report: Report) -> io::Result<Lease> {
        let port = self.listen()?;
        let mut bytes = [0; CREDENTIAL_BYTES];
        self.0.entropy.fill(&mut bytes);
        let credential: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = Digest::of(credential.as_bytes());
        let (alive, over) = watch::channel(());
        let slots = Arc::new(Semaphore::new(CHILD_CONNECTIONS_MAX));
        let grant = Arc::new(Grant { server: Arc::clone(server), hosts, report, slots, over });
        self.0.grants().insert(key, grant);
        let credential = Secret::new(credential);
        Ok(Lease { shared: Arc::clone(&self.0), key, credential, port, _over: alive })
    }

    fn listen(&self) -> io::Result<u16> {
        let mut port = self.0.port.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(port) = *port {
            return Ok(port);
        }
        let listener = std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let bound = listener.local_addr()?.port();
        tokio::spawn(accept(listener, Arc::clone(&self.0)));
        tracing::info!(port = bound, "egress proxy for confined children");
        *port = Some(bound);
        Ok(bound)
    }
}

impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EgressProxy").field("children", &self.0.grants().len()).finish_non_exhaustive()
    }
}

impl Lease {
    /// Where the proxy listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The child's credential.
    #[must_use]
    pub fn credential(&self) -> Secret<String> {
        self.credential.clone()
    }

    /// The variables by which programs find their proxy. They carry the credential.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let url = format!("http://{USER}:{}@127.0.0.1:{}", self.credential.expose(), self.port);
        let mut variables: Vec<_> =
            ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"].map(|name| (name, url.clone())).into();
        // Node reads the others only when told to.
        variables.push(("NODE_USE_ENV_PROXY", "1".to_owned()));
        variables
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.grants().remove(&self.key);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Shared {
    fn grants(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Arc<Grant>>> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The grant that a `Proxy-Authorization` field proves.
    fn grant(&self, field: Option<&http::HeaderValue>) -> Option<Arc<Grant>> {
        let (scheme, encoded) = field?.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = STANDARD.decode(encoded.trim()).ok()?;
        let credential = decoded.strip_prefix(USER.as_bytes())?.strip_prefix(b":")?;
        self.grants().get(&Digest::of(credential)).cloned()
    }
}

impl Grant {
    /// Tells about a host that was refused.
    fn refused(&self, host: &str, reason: &str) {
        let host: String = host.chars().take(DETAIL_CHARS_MAX).collect();
        tracing::warn!(server = %self.server, host, reason, "a confined child asked for a host it may not reach");
        let (server, target) = (Arc::clone(&self.server), visible(&host));
        let detail = reason.to_owned();
        self.report.send(Incident { server, kind: IncidentKind::Egress, target, detail, count: 1 });
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, Arc::clone(&shared), slot))),
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            Err(error) => {
                tracing::error!(%error, "the egress proxy cannot accept connections");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, slot: OwnedSemaphorePermit) {
    let slot = Arc::new(slot);
    let service = hyper::service::service_fn(move |request| {
        forward::answer(request, Arc::clone(&shared), Arc::clone(&slot))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to the egress proxy ended early");
    }
}
