//! Throw-away certificates for TLS tests.

use crate::Outcome;

/// A self-signed certificate and its key, both as PEM.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate; also the root to trust.
    pub certificate_pem: String,
    /// The private key.
    pub key_pem: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Certificate").field("key_pem", &"****").finish_non_exhaustive()
    }
}

/// Makes a certificate for `names` (host names or addresses).
///
/// # Errors
/// A name is not valid in a certificate.
pub fn self_signed(names: &[&str]) -> Outcome<Certificate> {
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let made = rcgen::generate_simple_self_signed(names)?;
    Ok(Certificate { certificate_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_and_its_key_are_pem() {
        let made = self_signed(&["localhost", "127.0.0.1"]).unwrap();
        assert!(made.certificate_pem.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(made.key_pem.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert!(!format!("{made:?}").contains("BEGIN"));
    }
}
