//! What a client would say of a certificate, found out without a connection: whether it trusts the chain, whether the
//! name fits, and until when.

use std::{sync::Arc, time::Duration};

use portcullis_core::Timestamp;
use rustls::{
    CertificateError, Error,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::{ServerName, UnixTime},
};

use crate::tls::{self, TlsError};

/// Far beyond the end of any certificate that ends: its verifier then says when that is.
const FAR_S: u64 = 1 << 38;

/// What keeps clients from taking a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// It is for other names.
    Name,
    /// No root that is trusted here leads to it.
    Issuer,
    /// Something else, in words.
    Other(String),
}

/// A certificate as a client at some time sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// What is wrong.
    pub flaw: Option<Flaw>,
    /// When it ends; `None` where that is further away than anybody plans, or cannot be known.
    pub ends: Option<Timestamp>,
}

/// Looks at the chain in `chain_pem` (leaf first) as a client does that connects to `name` at `now`, and that trusts the
/// platform's roots and those in `extra_roots_pem`.
///
/// # Errors
/// The text holds no certificate, the name cannot be one, or there are no roots.
pub fn look(
    chain_pem: &[u8],
    name: &str,
    extra_roots_pem: &[Vec<u8>],
    now: Timestamp,
) -> Result<Look, TlsError> {
    let chain = tls::certificates(chain_pem)?;
    let Some((leaf, rest)) = chain.split_first() else { return Err(TlsError::Roots) };
    let name =
        ServerName::try_from(name.to_owned()).map_err(|error| TlsError::Certificate(error.to_string()))?;
    let roots = Arc::new(tls::roots(extra_roots_pem, false)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, tls::provider())
        .build()
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    let at = |seconds: u64| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        verifier.verify_server_cert(leaf, rest, &name, &[], time).map(drop)
    };
    let ends = match at(FAR_S) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(Timestamp(not_after.as_secs().saturating_mul(1_000)))
        }
        Ok(()) | Err(_) => None,
    };
    Ok(Look { flaw: at(now.0 / 1_000).err().map(flaw), ends })
}

fn flaw(error: Error) -> Flaw {
    match error {
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Flaw::Expired
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => Flaw::NotYetValid,
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Flaw::Name,
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => Flaw::Issuer,
        other => Flaw::Other(other.to_string()),
    }
}
