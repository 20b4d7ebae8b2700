//! Certificates: what a listener shows, and what is wanted of servers.

use std::{net::SocketAddr, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_net::tls::is_spiffe_id;
use url::Url;

use super::{
    decode::{Setting, Shape, Walk, choice, section},
    primitives::Bounded,
    values::Reference,
    yaml::Node,
};

section! {
    /// A further certificate of a listener, shown to clients that ask for one of its names (SNI).
    CertificateSection {
        /// PEM file with the certificate chain, leaf first.
        certificate: PathBuf;
        /// PEM file with the private key.
        key: PathBuf;
        /// File with the OCSP response of its authority (DER), which is shown beside it. Reloaded when it changes.
        ocsp_response: Option<PathBuf>;
    }
}

section! {
    /// How OCSP answers are fetched.
    OcspSection {
        /// The responder, in the place of the one that a certificate names.
        url: Option<Url>;
        /// Responders that certificates name may be on this machine.
        allow_loopback: bool = false;
        /// They may have private addresses.
        allow_private: bool = false;
    }
}

section! {
    /// A certificate of an ACME server (RFC 8555), such as Let's Encrypt.
    AcmeSection {
        /// The server's directory, for example `https://acme-v02.api.letsencrypt.org/directory`. All requests go to its host.
        directory: Url;
        /// The names of the certificate.
        domains: Vec<String>;
        /// Whether you agree to the terms of service that the directory names. Without it there is no account.
        agree_to_terms: bool = false;
        /// Whom the server tells of trouble: `mailto:` addresses.
        contact: Vec<String>;
        /// How the server finds out whose the names are.
        challenge: AcmeChallenge = AcmeChallenge::TlsAlpn01;
        /// For `http-01`: the address where its request arrives, which is port 80 of each name.
        http: Option<SocketAddr>;
        /// An account elsewhere to which the one at the server is bound, where the server wants that.
        external_account: Option<ExternalAccount>;
        /// PEM file with authorities that are trusted for the directory, beside the platform's.
        ca: Option<PathBuf>;
        /// Whether the name of the directory may resolve to private addresses.
        allow_private: bool = false;
    }
}

section! {
    /// An account to which the one at the ACME server is bound (RFC 8555 section 7.3.4).
    ExternalAccount {
        /// Its key identifier.
        id: String;
        /// Its MAC key in Base64url, as a reference.
        key: Reference;
    }
}

choice! {
    /// How an ACME server finds out whose a name is.
    AcmeChallenge {
        /// By a handshake with the listener, which must be reachable at port 443 of each name (RFC 8737).
        TlsAlpn01 = "tls-alpn-01",
        /// By a request to port 80 of each name.
        Http01 = "http-01",
    }
}

section! {
    /// What is wanted of a server's certificate, and what is shown to it.
    ServerTlsSection {
        /// PEM files of the authorities that are trusted for this server, in the place of the platform's.
        ca: Vec<PathBuf>;
        /// PEM files with revocation lists. Where there is any, each authority in the server's chain needs one that is in date.
        crls: Vec<PathBuf>;
        /// Public keys of which the server's own certificate must have one, besides all else: `sha256/` and the SHA-256 of its
        /// SubjectPublicKeyInfo in Base64 (as RFC 7469 writes it). `portcullis tls pin FILE` says it of a certificate.
        pins: Vec<Pin>;
        /// PEM file with the certificate that is shown to the server (mTLS), leaf first.
        certificate: Option<PathBuf>;
        /// PEM file with its private key.
        key: Option<PathBuf>;
        /// SPIFFE IDs of which the server must have one, in the place of its host name and of `ca`: `spiffe://DOMAIN/PATH`, or
        /// `spiffe://DOMAIN/PATH/*` for all below. The gateway then shows its own of the section `spiffe`.
        spiffe: Vec<SpiffeName>;
        /// The oldest version that the server may speak.
        min_version: TlsVersion = TlsVersion::V12;
    }
}

impl ServerTlsSection {
    /// What contradicts itself, with what to do.
    #[must_use]
    pub fn flaw(&self) -> Option<(&'static str, &'static str)> {
        if self.certificate.is_some() != self.key.is_some() {
            return Some(("`certificate` and `key` go together", "write both, or none"));
        }
        let files = self.certificate.is_some() || !self.ca.is_empty() || !self.crls.is_empty();
        if !self.spiffe.is_empty() && files {
            let hint = "remove `ca`, `crls`, `certificate` and `key`: the SPIFFE Workload API gives them";
            return Some(("`spiffe` comes with authorities and a certificate of its own", hint));
        }
        None
    }
}

section! {
    /// The SPIFFE Workload API that gives the gateway its certificate, and the authorities of trust domains.
    SpiffeSection {
        /// Its socket, `unix:/path`. Default: what the environment variable `SPIFFE_ENDPOINT_SOCKET` says.
        socket: Option<String>;
        /// The ID of the gateway, where the agent gives it several; the first one otherwise.
        id: Option<SpiffeName>;
        /// How long the start waits for the first certificate; then it is refused.
        wait_s: Bounded<1, 600> = Bounded(30);
    }
}

/// A SPIFFE ID, or all below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpiffeName(pub String);

impl Setting for SpiffeName {
    fn shape() -> Shape {
        Shape::Text("SPIFFE ID")
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let text = String::read(node, walk)?;
        if !is_spiffe_id(text.strip_suffix("/*").unwrap_or(&text)) {
            walk.report(node, "is no SPIFFE ID", "write `spiffe://DOMAIN/PATH`; `/*` may end it");
            return None;
        }
        Some(Self(text))
    }

    fn json(&self) -> Option<serde_json::Value> {
        Some(serde_json::json!(self.0))
    }
}

choice! {
    /// A version of TLS.
    TlsVersion {
        /// TLS 1.2 and 1.3.
        V12 = "TLSv1.2",
        /// TLS 1.3 alone.
        V13 = "TLSv1.3",
    }
}

/// SHA-256 of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin(pub [u8; 32]);

impl Setting for Pin {
    fn shape() -> Shape {
        Shape::Text("pin")
    }

    fn read(node: &Node, walk: &mut Walk) -> Option<Self> {
        let text = String::read(node, walk)?;
        let bytes = text.strip_prefix("sha256/").and_then(|rest| STANDARD.decode(rest).ok());
        let pin = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok()).map(Self);
        if pin.is_none() {
            walk.report(
                node,
                "is no pin of a public key",
                "write `sha256/` and 44 characters of Base64; `portcullis tls pin FILE` prints it",
            );
        }
        pin
    }

    fn json(&self) -> Option<serde_json::Value> {
        Some(serde_json::json!(self.text()))
    }
}

impl Pin {
    /// As it is written.
    #[must_use]
    pub fn text(&self) -> String {
        format!("sha256/{}", STANDARD.encode(self.0))
    }
}
