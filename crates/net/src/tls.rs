//! TLS for both directions: rustls with one crypto provider, TLS 1.2 and 1.3, nothing older. A server's
//! certificate can be replaced while it runs, and so can what it takes for a client's.

mod clients;

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use portcullis_core::Secret;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use thiserror::Error;

pub use self::clients::{ClientAuth, ClientVerifier, PeerCertificate};

/// Why TLS could not be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The certificate file holds no certificate or a broken one.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// The authorities of clients, or their revocation lists, are missing or broken.
    #[error("client certificates cannot be checked: {0}")]
    Clients(String),
    /// The key file holds no private key or a broken one.
    #[error("the private key cannot be read: {0}")]
    Key(String),
    /// Certificate and key do not belong together, or the key is of an unsupported kind.
    #[error("certificate and private key cannot be used: {0}")]
    Pair(rustls::Error),
    /// The platform has no trusted roots and none were given.
    #[error("no trusted root certificates were found")]
    Roots,
    /// The library refused the settings.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// TLS of a listener. Clones share the certificate and what is taken for a client's.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    identity: Arc<Identity>,
    clients: Option<ClientVerifier>,
}

impl ServerTls {
    /// TLS that presents the chain in `cert_pem` (leaf first), signed for by the key in `key_pem`.
    pub fn new(cert_pem: &[u8], key_pem: &[u8]) -> Result<Self, TlsError> {
        Self::with_clients(cert_pem, key_pem, None)
    }

    /// The same, asking clients for certificates.
    pub fn with_clients(
        cert_pem: &[u8],
        key_pem: &[u8],
        clients: Option<&ClientAuth>,
    ) -> Result<Self, TlsError> {
        let identity = Arc::new(Identity(RwLock::new(certified(cert_pem, key_pem)?)));
        let clients = clients.map(ClientVerifier::new).transpose()?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?;
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::new(clients.clone())),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&identity) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), identity, clients })
    }

    /// Takes other authorities and revocation lists into use: for handshakes, and for the next request on every connection
    /// that is open. What does not work is refused, and what was in use stays.
    pub fn reload_clients(&self, clients: &ClientAuth) -> Result<(), TlsError> {
        match &self.clients {
            Some(verifier) => verifier.reload(clients),
            None => Err(TlsError::Clients("the listener was started without them".to_owned())),
        }
    }

    /// What the other end of a connection has shown.
    pub(crate) fn peer(&self, connection: &rustls::ServerConnection) -> Option<PeerCertificate> {
        let chain = connection.peer_certificates()?.iter().map(|one| one.clone().into_owned()).collect();
        PeerCertificate::new(chain, self.clients.clone()?)
    }

    /// Uses another certificate from the next handshake on; connections that are open keep theirs. A pair that
    /// does not work is refused and the old one stays.
    pub fn reload(&self, cert_pem: &[u8], key_pem: &[u8]) -> Result<(), TlsError> {
        let fresh = certified(cert_pem, key_pem)?;
        *self.identity.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The settings for rustls.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

/// TLS of a listener: shorthand for [`ServerTls::new`].
pub fn server_config(cert_pem: &[u8], key_pem: &[u8]) -> Result<ServerTls, TlsError> {
    ServerTls::new(cert_pem, key_pem)
}

/// The platform's trusted roots and those in `extra_roots_pem`.
pub(crate) fn roots(extra_roots_pem: &[Vec<u8>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "a trusted root of the platform cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    for pem in extra_roots_pem {
        for cert in certificates(pem)? {
            roots.add(cert).map_err(|error| TlsError::Certificate(error.to_string()))?;
        }
    }
    if roots.is_empty() { Err(TlsError::Roots) } else { Ok(roots) }
}

/// TLS of outbound connections: the platform's trusted roots and those in `extra_roots_pem`.
pub fn client_config(extra_roots_pem: &[Vec<u8>], http2: bool) -> Result<Arc<ClientConfig>, TlsError> {
    client_config_of(None, extra_roots_pem, http2)
}

/// A certificate that is shown to servers, with its key.
#[derive(Clone)]
pub struct ClientIdentity {
    /// The chain, leaf first.
    pub cert_pem: Vec<u8>,
    /// The private key.
    pub key_pem: Secret<Vec<u8>>,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity(****)")
    }
}

/// The same, showing a certificate to servers that ask for one.
pub fn client_config_of(
    identity: Option<&ClientIdentity>,
    extra_roots_pem: &[Vec<u8>],
    http2: bool,
) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = roots(extra_roots_pem)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(ClientIdentity { cert_pem, key_pem }) => {
            let key = PrivateKeyDer::from_pem_slice(key_pem.expose());
            let key = key.map_err(|error| TlsError::Key(error.to_string()))?;
            builder.with_client_auth_cert(certificates(cert_pem)?, key).map_err(TlsError::Pair)?
        }
    };
    config.alpn_protocols =
        if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(Arc::new(config))
}

/// Named, never the process default: a dependency that installs another one must not change ours.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("no certificate in the PEM text".to_owned()));
    }
    Ok(chain)
}

fn certified(cert_pem: &[u8], key_pem: &[u8]) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(cert_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| TlsError::Key(error.to_string()))?;
    CertifiedKey::from_der(chain, key, &provider()).map(Arc::new).map_err(TlsError::Pair)
}

struct Identity(RwLock<Arc<CertifiedKey>>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(****)")
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}
