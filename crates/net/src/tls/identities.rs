//! What a listener shows: one certificate for each name, with what its authority says of its revocation.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use portcullis_core::Secret;
use rustls::{
    client::verify_server_name,
    pki_types::{PrivateKeyDer, ServerName, pem::PemObject},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{TlsError, certificates, provider};

/// A certificate that a listener shows.
#[derive(Clone)]
pub struct ServerIdentity {
    /// The chain as PEM, leaf first.
    pub cert_pem: Vec<u8>,
    /// The private key as PEM.
    pub key_pem: Secret<Vec<u8>>,
    /// The OCSP response of its authority as DER, which is shown beside it (RFC 6066 section 8).
    pub ocsp: Option<Vec<u8>>,
}

impl ServerIdentity {
    /// A certificate without more.
    #[must_use]
    pub fn new(cert_pem: &[u8], key_pem: &[u8]) -> Self {
        Self { cert_pem: cert_pem.to_vec(), key_pem: Secret::new(key_pem.to_vec()), ocsp: None }
    }

    pub(super) fn certified(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let chain = certificates(&self.cert_pem)?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.expose())
            .map_err(|error| TlsError::Key(error.to_string()))?;
        let mut certified = CertifiedKey::from_der(chain, key, &provider()).map_err(TlsError::Pair)?;
        certified.ocsp.clone_from(&self.ocsp);
        Ok(Arc::new(certified))
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerIdentity(****)")
    }
}

/// The certificates of a listener; the first one is shown to whoever asks for a name that none has.
pub(super) struct Identities(RwLock<Arc<[Arc<CertifiedKey>]>>);

impl Identities {
    pub(super) fn new(all: &[ServerIdentity]) -> Result<Self, TlsError> {
        Ok(Self(RwLock::new(read(all)?)))
    }

    /// Takes others into use; what does not work is refused, and what was in use stays.
    pub(super) fn replace(&self, all: &[ServerIdentity]) -> Result<(), TlsError> {
        let fresh = read(all)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

fn read(all: &[ServerIdentity]) -> Result<Arc<[Arc<CertifiedKey>]>, TlsError> {
    if all.is_empty() {
        return Err(TlsError::Certificate("no certificate".to_owned()));
    }
    all.iter().map(ServerIdentity::certified).collect()
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identities(****)")
    }
}

fn names(certified: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let leaf = certified.end_entity_cert().ok();
    let parsed = leaf.and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
    parsed.is_some_and(|parsed| verify_server_name(&parsed, name).is_ok())
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let all = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let asked = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fits = asked.filter(|_| all.len() > 1).and_then(|name| all.iter().find(|one| names(one, &name)));
        fits.or_else(|| all.first()).cloned()
    }
}
