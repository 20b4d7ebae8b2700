//! A certificate authority for clients, and a client that shows its certificates on a connection that stays open.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use portcullis_core::Digest;
use portcullis_testkit::{Era, McpClient, Outcome};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// A client's certificate and key, both in PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    certificate: String,
    key: String,
}

impl Identity {
    /// In PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// In PEM.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The fingerprint of the certificate, as tokens name it that are bound to it (`x5t#S256`, RFC 8705).
    ///
    /// # Errors
    /// None in practice.
    pub fn fingerprint(&self) -> Outcome<String> {
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes())?;
        Ok(URL_SAFE_NO_PAD.encode(Digest::of(&der).0))
    }
}

impl Authority {
    /// With a fresh key.
    ///
    /// # Errors
    /// No randomness.
    pub fn new() -> Outcome<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "clients");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its certificate in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate of this number for a SPIFFE ID.
    ///
    /// # Errors
    /// The id cannot stand in a certificate.
    pub fn signs(&self, number: u64, id: &str) -> Outcome<Identity> {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(number));
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names.push(SanType::URI(id.to_owned().try_into()?));
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }

    /// A certificate for a SPIFFE ID that also names `localhost`, for this long.
    ///
    /// # Errors
    /// The id cannot stand in a certificate.
    pub fn svid(&self, id: &str, life: Duration) -> Outcome<Identity> {
        let now = SystemTime::now();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names.push(SanType::URI(id.to_owned().try_into()?));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (now - Duration::from_secs(60)).into();
        params.not_after = (now + life).into();
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }

    /// A list of the numbers that are revoked, in PEM.
    ///
    /// # Errors
    /// None in practice.
    pub fn revokes(&self, numbers: &[u64]) -> Outcome<String> {
        let revoked = |number: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*number),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: numbers.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.0)?.pem()?)
    }
}

/// One TLS connection to a gateway, kept open.
#[derive(Debug)]
pub struct Secured {
    address: SocketAddr,
    sender: SendRequest<Full<bytes::Bytes>>,
}

impl Secured {
    /// Connects to a gateway whose own certificate is `root`, showing `identity`.
    ///
    /// # Errors
    /// No connection, or no agreement on TLS. Under TLS 1.3 a certificate that is missing may show with the first request.
    pub async fn connect(address: SocketAddr, root: &str, identity: Option<&Identity>) -> Outcome<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(root.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots);
        let config = match identity {
            Some(Identity { certificate, key }) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes())?];
                config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?
            }
            None => config.with_no_client_auth(),
        };
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(address).await?;
        let stream = connector.connect(ServerName::try_from("localhost")?, stream).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { address, sender })
    }

    /// One `tools/list` with this bearer token: status and code, or `ok`.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn list(&mut self, server: &str, bearer: Option<&str>) -> Outcome<String> {
        let mut client = McpClient::new(&format!("https://localhost/mcp/{server}"), bearer, Era::Modern);
        let (_, message) = client.message("tools/list", json!({}));
        let mut request = Request::post(format!("/mcp/{server}"));
        request = request.header("host", format!("localhost:{}", self.address.port()));
        for (name, value) in client.headers(&message) {
            request = request.header(name, value);
        }
        self.sender.ready().await?;
        let body = Full::new(bytes::Bytes::from(message.to_string()));
        let response = self.sender.send_request(request.body(body)?).await?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await?.to_bytes();
        let answer: Value = serde_json::from_slice(&bytes)?;
        Ok(format!("{status} {}", answer.pointer("/error/data/code").and_then(Value::as_str).unwrap_or("ok")))
    }
}
