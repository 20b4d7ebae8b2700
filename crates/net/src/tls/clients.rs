//! Certificates of clients. The handshake asks whether an authority of ours signed one; whether it still holds is asked
//! again with the requests that come over the connection, since a connection can outlive a certificate. So a revocation
//! takes effect with the next request, and is answered, not cut off.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use portcullis_core::{Digest, Timestamp};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{
    Bundles, TlsError, certificates, provider, revocation_lists,
    workload::{spiffe_id, stores, vouching},
};

/// How long a certificate that was checked is not checked again, unless authorities or lists change: it can expire, and
/// so can a revocation list.
const CHECK_EVERY_S: u64 = 10;

/// What is taken for a client's certificate.
#[derive(Clone, Debug, Default)]
pub struct ClientAuth {
    /// The authorities, in PEM. With `domains` there may be none.
    pub authorities_pem: Vec<u8>,
    /// Trust domains of SPIFFE. Where this is there, a certificate with a SPIFFE ID holds by the authorities of its own domain
    /// and by no others.
    pub domains: Option<Bundles>,
    /// Revocation lists in PEM. Where there is any, each authority of a chain needs one that is in date.
    pub revoked_pem: Vec<Vec<u8>>,
    /// Whether a client without a certificate is turned away.
    pub required: bool,
}

/// Judges certificates of clients. Clones are one.
#[derive(Clone)]
pub struct ClientVerifier(Arc<Shared>);

struct Shared {
    current: RwLock<Current>,
    /// Counts what was put into use.
    generation: AtomicU64,
    required: bool,
    provider: Arc<CryptoProvider>,
}

type Verifier = Arc<dyn ClientCertVerifier>;

#[derive(Clone)]
struct Current {
    /// Without revocation lists, and with them. `None`: only those of SPIFFE hold.
    others: Option<(Verifier, Verifier)>,
    /// By trust domain.
    domains: Option<Arc<BTreeMap<String, Verifier>>>,
}

impl Current {
    /// Whose authorities judge this certificate, with revocation lists if this is about a request.
    fn judge(&self, leaf: &CertificateDer<'_>, request: bool) -> Result<&Verifier, Error> {
        if let Some(domains) = &self.domains
            && let Some(id) = spiffe_id(leaf)?
        {
            return vouching(domains, &id);
        }
        let others = self.others.as_ref();
        let (handshake, with_lists) =
            others.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        Ok(if request { with_lists } else { handshake })
    }
}

impl ClientVerifier {
    /// A verifier with these authorities and lists.
    ///
    /// # Errors
    /// None is there, or one is broken.
    pub fn new(clients: &ClientAuth) -> Result<Self, TlsError> {
        let current = RwLock::new(read(clients)?);
        let required = clients.required;
        let generation = AtomicU64::new(1);
        Ok(Self(Arc::new(Shared { current, generation, required, provider: provider() })))
    }

    /// Takes other authorities and lists into use, also for connections that are open.
    ///
    /// # Errors
    /// None is there, or one is broken; what was in use stays.
    pub fn reload(&self, clients: &ClientAuth) -> Result<(), TlsError> {
        let fresh = read(clients)?;
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        // After the swap: whoever sees the new count must also see the new lists.
        self.0.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn current(&self) -> Current {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read(clients: &ClientAuth) -> Result<Current, TlsError> {
    let broken = |error: &dyn fmt::Display| TlsError::Clients(error.to_string());
    let domains = clients.domains.as_ref().map(|bundles| {
        let judge = |(domain, roots)| Ok((domain, built(&roots, Vec::new())?));
        stores(bundles)?.into_iter().map(judge).collect::<Result<_, TlsError>>().map(Arc::new)
    });
    let domains = domains.transpose()?;
    let lists = revocation_lists(&clients.revoked_pem).map_err(TlsError::Clients)?;
    if domains.is_some() && clients.authorities_pem.is_empty() {
        return Ok(Current { others: None, domains });
    }
    let mut roots = RootCertStore::empty();
    for authority in certificates(&clients.authorities_pem)? {
        roots.add(authority).map_err(|error| broken(&error))?;
    }
    let roots = Arc::new(roots);
    Ok(Current { others: Some((built(&roots, Vec::new())?, built(&roots, lists)?)), domains })
}

fn built(
    roots: &Arc<RootCertStore>,
    lists: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Verifier, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider());
    let builder = builder.with_crls(lists).enforce_revocation_expiration().allow_unauthenticated();
    builder.build().map_err(|error| TlsError::Clients(error.to_string()))
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientVerifier").field("required", &self.0.required).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.0.required
    }

    /// None: they change while we run, and a client that has one certificate needs no hint.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.current().judge(end_entity, false)?.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate that a client has shown. Clones are one.
#[derive(Clone)]
pub struct PeerCertificate(Arc<Shown>);

struct Shown {
    chain: Vec<CertificateDer<'static>>,
    fingerprint: Digest,
    verifier: ClientVerifier,
    /// Under which generation, and when, it was found to hold; zeros: never.
    checked: Mutex<(u64, u64)>,
}

impl PeerCertificate {
    /// The certificate of a chain, leaf first, that `verifier` will judge. `None`: the chain is empty.
    #[must_use]
    pub fn new(chain: Vec<CertificateDer<'static>>, verifier: ClientVerifier) -> Option<Self> {
        let fingerprint = Digest::of(chain.first()?);
        Some(Self(Arc::new(Shown { chain, fingerprint, verifier, checked: Mutex::default() })))
    }

    /// SHA-256 of the certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        self.0.fingerprint
    }

    /// The certificate.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        self.0.chain.first().map_or(&[], |leaf| leaf.as_ref())
    }

    /// Whether it holds at `now`: signed by an authority of ours, in date, not revoked.
    ///
    /// # Errors
    /// Why it does not, for the log.
    pub fn check(&self, now: Timestamp) -> Result<(), String> {
        let Shown { chain, verifier, checked, .. } = &*self.0;
        // Before the verifier is taken: a reload in between is then seen the next time.
        let generation = verifier.0.generation.load(Ordering::Acquire);
        let now_s = now.seconds();
        let (known, at_s) = *checked.lock().unwrap_or_else(PoisonError::into_inner);
        if known == generation && now_s.abs_diff(at_s) < CHECK_EVERY_S {
            return Ok(());
        }
        let (leaf, rest) = chain.split_first().ok_or("no client certificate")?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
        let current = verifier.current();
        let verified = current.judge(leaf, true).and_then(|judge| judge.verify_client_cert(leaf, rest, time));
        verified.map_err(|error| format!("the client certificate does not hold: {error}"))?;
        *checked.lock().unwrap_or_else(PoisonError::into_inner) = (generation, now_s);
        Ok(())
    }
}

/// The fingerprint alone: names in certificates are strangers' text.
impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeerCertificate").field(&self.0.fingerprint).finish()
    }
}
