//! What the gateway wants of a server's certificate, and what it shows itself.

use std::{fmt, sync::Arc};

use portcullis_core::Secret;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use super::{
    TlsError, Workload, certificates, digest_of_key, provider, revocation_lists, roots, versions,
    workload::Named,
};

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

/// What is wanted of a server, beside that its name fits and its time is not over.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// PEM texts of roots.
    pub roots_pem: Vec<Vec<u8>>,
    /// Those roots alone are trusted, not the platform's.
    pub only_these_roots: bool,
    /// SHA-256 of the public keys (SubjectPublicKeyInfo) of which the server's own certificate must have one; none: any.
    pub pins: Vec<[u8; 32]>,
    /// Revocation lists in PEM. Where there is any, each authority in the server's chain needs one that is in date.
    pub revoked_pem: Vec<Vec<u8>>,
    /// The certificate that is shown to servers that ask for one.
    pub identity: Option<ClientIdentity>,
    /// Nothing older than TLS 1.3.
    pub only_1_3: bool,
    /// A server of a SPIFFE trust domain, in the place of roots and a certificate of files.
    pub spiffe: Option<SpiffePeer>,
}

/// A server that is known by its SPIFFE ID, and gets to see ours.
#[derive(Clone, Debug)]
pub struct SpiffePeer {
    /// What we show, and whom we trust for which names.
    pub workload: Workload,
    /// IDs that it may have; one that ends with `/*` stands for all below.
    pub ids: Vec<String>,
}

impl ClientTls {
    /// The settings for rustls.
    ///
    /// # Errors
    /// What cannot be used.
    pub fn config(&self, http2: bool) -> Result<Arc<ClientConfig>, TlsError> {
        let pinned = Pinned { verifier: self.verifier()?, pins: self.pins.clone() };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions(self.only_1_3))
            .map_err(TlsError::Setup)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pinned));
        let mut config = match (&self.spiffe, &self.identity) {
            (Some(peer), _) => {
                let mut config = builder.with_client_cert_resolver(Arc::new(peer.workload.clone()));
                // A session that goes on asks neither side for its certificate, and these are good for hours.
                config.resumption = Resumption::disabled();
                config
            }
            (None, None) => builder.with_no_client_auth(),
            (None, Some(ClientIdentity { cert_pem, key_pem })) => {
                let key = PrivateKeyDer::from_pem_slice(key_pem.expose());
                let key = key.map_err(|error| TlsError::Key(error.to_string()))?;
                builder.with_client_auth_cert(certificates(cert_pem)?, key).map_err(TlsError::Pair)?
            }
        };
        config.alpn_protocols =
            if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
        Ok(Arc::new(config))
    }

    fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        if let Some(SpiffePeer { workload, ids }) = &self.spiffe {
            return Ok(Arc::new(Named::new(workload.clone(), ids)));
        }
        let roots = Arc::new(roots(&self.roots_pem, self.only_these_roots)?);
        let lists = revocation_lists(&self.revoked_pem).map_err(TlsError::Certificate)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .with_crls(lists)
            .enforce_revocation_expiration()
            .build();
        Ok(verifier.map_err(|error| TlsError::Certificate(error.to_string()))?)
    }
}

/// Judges as the library does, and asks for one of certain keys beside.
#[derive(Debug)]
struct Pinned {
    verifier: Arc<dyn ServerCertVerifier>,
    pins: Vec<[u8; 32]>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verifier.verify_server_cert(leaf, rest, name, ocsp, now)?;
        // The server's own key, not that of anything beside it: what else stands in the chain, the server alone decides.
        let key = digest_of_key(&ParsedCertificate::try_from(leaf)?);
        if self.pins.is_empty() || self.pins.contains(&key) {
            return Ok(verified);
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
