//! TLS for both directions: rustls with one crypto provider, TLS 1.2 and 1.3, nothing older; X25519MLKEM768 is offered and
//! preferred on both sides. A server's certificates can be replaced while it runs, and so can what it takes for a client's.

mod challenges;
mod clients;
mod identities;
mod upstream;
mod workload;

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs as library},
    pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject},
    server::{ParsedCertificate, ResolvesServerCert},
    version::{TLS12, TLS13},
};
use thiserror::Error;

use self::identities::Identities;
pub use self::{
    challenges::Challenges,
    clients::{ClientAuth, ClientVerifier, PeerCertificate},
    identities::ServerIdentity,
    upstream::{ClientIdentity, ClientTls, SpiffePeer},
    workload::{Bundles, Workload, is_spiffe_id},
};

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

/// What a listener shows and wants.
#[derive(Clone, Debug, Default)]
pub struct ServerTlsOptions {
    /// Its certificates; the first one for whoever asks for none of their names.
    pub identities: Vec<ServerIdentity>,
    /// What is taken for a client's certificate, where clients are asked for one.
    pub clients: Option<ClientAuth>,
    /// Nothing older than TLS 1.3.
    pub only_1_3: bool,
}

/// TLS of a listener. Clones share the certificates and what is taken for a client's.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    identities: Arc<Identities>,
    clients: Option<ClientVerifier>,
    challenges: Option<Arc<dyn Challenges>>,
}

impl ServerTls {
    /// TLS that presents the chain in `cert_pem` (leaf first), signed for by the key in `key_pem`.
    pub fn new(cert_pem: &[u8], key_pem: &[u8]) -> Result<Self, TlsError> {
        let identities = vec![ServerIdentity::new(cert_pem, key_pem)];
        Self::of(&ServerTlsOptions { identities, ..ServerTlsOptions::default() })
    }

    /// TLS as `options` say. Sessions are resumed with tickets, whose key is another one every six hours.
    pub fn of(options: &ServerTlsOptions) -> Result<Self, TlsError> {
        let identities = Arc::new(Identities::new(&options.identities)?);
        let clients = options.clients.as_ref().map(ClientVerifier::new).transpose()?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(options.only_1_3))
            .map_err(TlsError::Setup)?;
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::new(clients.clone())),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&identities) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = library::Ticketer::new().map_err(TlsError::Setup)?;
        Ok(Self { config: Arc::new(config), identities, clients, challenges: None })
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

    /// Uses other certificates from the next handshake on; connections that are open keep theirs. What does not work is
    /// refused and the old ones stay.
    pub fn reload(&self, identities: &[ServerIdentity]) -> Result<(), TlsError> {
        self.identities.replace(identities)
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

/// The platform's trusted roots, unless only those in `roots_pem` are wanted, and those.
pub(crate) fn roots(roots_pem: &[Vec<u8>], only_these: bool) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if !only_these {
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::warn!(%error, "a trusted root of the platform cannot be read");
        }
        roots.add_parsable_certificates(native.certs);
    }
    for pem in roots_pem {
        for cert in certificates(pem)? {
            roots.add(cert).map_err(|error| TlsError::Certificate(error.to_string()))?;
        }
    }
    if roots.is_empty() { Err(TlsError::Roots) } else { Ok(roots) }
}

/// TLS of outbound connections: the platform's trusted roots and those in `extra_roots_pem`.
pub fn client_config(
    extra_roots_pem: &[Vec<u8>],
    http2: bool,
) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    ClientTls { roots_pem: extra_roots_pem.to_vec(), ..ClientTls::default() }.config(http2)
}

/// Revocation lists in PEM.
fn revocation_lists(pems: &[Vec<u8>]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let mut lists = Vec::new();
    for pem in pems {
        let before = lists.len();
        for list in CertificateRevocationListDer::pem_slice_iter(pem) {
            lists.push(list.map_err(|error| error.to_string())?);
        }
        // A file that was emptied by mistake must not make every certificate good.
        if lists.len() == before {
            return Err("a file of revocation lists holds none".to_owned());
        }
    }
    Ok(lists)
}

/// SHA-256 of the public key of a certificate, as RFC 7469 pins it.
///
/// # Errors
/// The text holds no certificate.
pub fn pin_of(cert_pem: &[u8]) -> Result<[u8; 32], TlsError> {
    let chain = certificates(cert_pem)?;
    let parsed = chain.first().map(ParsedCertificate::try_from);
    let parsed = parsed.ok_or(TlsError::Roots)?.map_err(|error| TlsError::Certificate(error.to_string()))?;
    Ok(digest_of_key(&parsed))
}

fn digest_of_key(certificate: &ParsedCertificate<'_>) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, &certificate.subject_public_key_info()).as_ref());
    out
}

fn versions(only_1_3: bool) -> &'static [&'static SupportedProtocolVersion] {
    const NEW: &[&SupportedProtocolVersion] = &[&TLS13];
    const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    if only_1_3 { NEW } else { BOTH }
}

/// Named, never the process default: a dependency that installs another one must not change ours.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(library::default_provider())
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
