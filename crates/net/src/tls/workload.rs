//! What a SPIFFE Workload API gives: a certificate of our own, and for each trust domain who may vouch for its names, and for no
//! others.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME,
    prelude::FromDer as _,
};

use super::{ServerIdentity, TlsError, certificates, provider};

/// Bytes of a SPIFFE ID at most.
const ID_BYTES_MAX: usize = 2048;

/// PEM texts of authorities, by the trust domain for whose names they may vouch.
pub type Bundles = BTreeMap<String, Vec<u8>>;

/// Whether it is a SPIFFE ID, as the standard writes it: no port, no query, no empty or relative segment.
#[must_use]
pub fn is_spiffe_id(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("spiffe://").filter(|_| text.len() <= ID_BYTES_MAX) else {
        return false;
    };
    let mut segments = rest.split('/');
    let domain = segments.next().unwrap_or_default();
    let in_domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    let in_path = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    (1..=255).contains(&domain.len())
        && domain.bytes().all(in_domain)
        && segments.all(|segment| {
            !segment.is_empty() && !matches!(segment, "." | "..") && segment.bytes().all(in_path)
        })
}

/// The trust domain of a SPIFFE ID.
fn domain_of(id: &str) -> &str {
    id.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next()).unwrap_or_default()
}

/// The SPIFFE ID in a certificate of a workload. `None`: it has none.
///
/// # Errors
/// It has one that is malformed or not alone, or is no certificate of a workload (X.509-SVID, sections 2 to 4).
pub(super) fn spiffe_id(der: &[u8]) -> Result<Option<String>, Error> {
    let unclear = || Error::InvalidCertificate(CertificateError::BadEncoding);
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| unclear())?;
    let mut uris = Vec::new();
    let mut signs = certificate.is_ca();
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => {
                uris.extend(names.general_names.iter().filter_map(|name| match name {
                    GeneralName::URI(uri) => Some(*uri),
                    _ => None,
                }));
            }
            ParsedExtension::KeyUsage(usage) => signs |= usage.key_cert_sign() || usage.crl_sign(),
            // Names that cannot be read could say something else than the others.
            _ if extension.oid == OID_X509_EXT_SUBJECT_ALT_NAME => return Err(unclear()),
            _ => {}
        }
    }
    let claims = |uri: &&str| uri.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("spiffe://"));
    match uris.as_slice() {
        uris if !uris.iter().any(claims) => Ok(None),
        [id] if is_spiffe_id(id) && !signs => Ok(Some((*id).to_owned())),
        _ => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
    }
}

/// Which of several stores may vouch for the names of a certificate.
pub(super) fn vouching<'a, T>(by_domain: &'a BTreeMap<String, T>, id: &str) -> Result<&'a T, Error> {
    by_domain.get(domain_of(id)).ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))
}

/// Authorities of each domain. One without any vouches for nothing.
pub(super) fn stores(bundles: &Bundles) -> Result<BTreeMap<String, Arc<RootCertStore>>, TlsError> {
    let full = bundles.iter().filter(|(_, pem)| !pem.is_empty());
    full.map(|(domain, pem)| {
        let mut store = RootCertStore::empty();
        for authority in certificates(pem)? {
            store.add(authority).map_err(|error| TlsError::Certificate(error.to_string()))?;
        }
        Ok((domain.clone(), Arc::new(store)))
    })
    .collect()
}

/// What the Workload API last gave, for connections to servers. Clones are one.
#[derive(Clone, Default)]
pub struct Workload(Arc<RwLock<Option<Arc<Current>>>>);

struct Current {
    key: Arc<CertifiedKey>,
    roots: BTreeMap<String, Arc<RootCertStore>>,
}

impl Workload {
    /// Uses another certificate and other authorities from the next handshake on. What does not work changes nothing.
    ///
    /// # Errors
    /// What does not work.
    pub fn put(&self, identity: &ServerIdentity, bundles: &Bundles) -> Result<(), TlsError> {
        let fresh = Current { key: identity.certified()?, roots: stores(bundles)? };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(fresh));
        Ok(())
    }

    /// Its time is over: nothing is shown, and nobody trusted.
    pub fn end(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn current(&self) -> Option<Arc<Current>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workload(****)")
    }
}

impl ResolvesClientCert for Workload {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current().map(|current| Arc::clone(&current.key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Judges a server by its SPIFFE ID, in the place of its host name.
pub(super) struct Named {
    pub(super) workload: Workload,
    /// IDs that it may have; one that ends with `/*` stands for all below.
    pub(super) wanted: Vec<String>,
    pub(super) provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Named").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

fn fits(wanted: &str, id: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(parent) => id.len() > parent.len() && id.starts_with(parent),
        None => wanted == id,
    }
}

impl Named {
    pub(super) fn new(workload: Workload, wanted: &[String]) -> Self {
        Self { workload, wanted: wanted.to_vec(), provider: provider() }
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let refused = |error| Error::InvalidCertificate(error);
        let id = spiffe_id(leaf)?.ok_or(refused(CertificateError::NotValidForName))?;
        if !self.wanted.iter().any(|wanted| fits(wanted, &id)) {
            return Err(refused(CertificateError::NotValidForName));
        }
        let current = self.workload.current().ok_or(refused(CertificateError::UnknownIssuer))?;
        let roots = vouching(&current.roots, &id)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, rest, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
