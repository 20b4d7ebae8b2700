//! A certificate with its key, as it is kept, and what is shown until there is one.

use portcullis_core::{Digest, Secret, Timestamp};
use portcullis_net::tls::{ServerIdentity, ServerTls};
use rustls::{
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    server::ParsedCertificate,
};
use serde::{Deserialize, Serialize};
use x509_parser::parse_x509_certificate;
use zeroize::Zeroizing;

/// A certificate that was obtained.
pub(crate) struct Held {
    chain: String,
    key: Secret<String>,
    /// From when it is good.
    pub(crate) from: Timestamp,
    /// Until when.
    pub(crate) until: Timestamp,
}

/// As it is kept, before it is sealed.
#[derive(Deserialize, Serialize)]
struct Text<'a> {
    chain: std::borrow::Cow<'a, str>,
    key: std::borrow::Cow<'a, str>,
}

impl Held {
    /// A chain and its key, if they belong together and are for all of `names`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn new(chain: String, key: Secret<String>, names: &[String]) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| format!("the certificate cannot be used: {error}");
        ServerTls::new(chain.as_bytes(), key.expose().as_bytes()).map_err(|error| text(&error))?;
        let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).map_err(|error| text(&error))?;
        let parsed = ParsedCertificate::try_from(&leaf).map_err(|error| text(&error))?;
        for name in names {
            let name = ServerName::try_from(name.as_str()).map_err(|error| text(&error))?;
            verify_server_name(&parsed, &name).map_err(|error| text(&error))?;
        }
        let (_, read) = parse_x509_certificate(&leaf).map_err(|error| text(&error))?;
        let at = |seconds: i64| Timestamp(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000));
        let validity = read.validity();
        let (from, until) = (at(validity.not_before.timestamp()), at(validity.not_after.timestamp()));
        Ok(Self { chain, key, from, until })
    }

    /// From the text of [`Held::text`].
    pub(crate) fn read(text: &[u8], names: &[String]) -> Result<Self, String> {
        let Text { chain, key } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        Self::new(chain.into_owned(), Secret::new(key.into_owned()), names)
    }

    /// To be sealed.
    pub(crate) fn text(&self) -> Zeroizing<Vec<u8>> {
        let text = Text { chain: self.chain.as_str().into(), key: self.key.expose().as_str().into() };
        Zeroizing::new(serde_json::to_vec(&text).unwrap_or_default())
    }

    /// Names it among others.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(self.chain.as_bytes())
    }

    /// As a listener shows it.
    pub(crate) fn identity(&self) -> ServerIdentity {
        ServerIdentity::new(self.chain.as_bytes(), self.key.expose().as_bytes())
    }
}

/// What a listener shows that has no certificate yet: one of its own, which no client trusts.
///
/// # Errors
/// A name that cannot stand in a certificate.
pub fn placeholder(names: &[String]) -> Result<ServerIdentity, String> {
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| error.to_string())?;
    Ok(ServerIdentity::new(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(names: &[&str]) -> (String, Secret<String>) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), Secret::new(made.signing_key.serialize_pem()))
    }

    #[test]
    fn only_a_certificate_for_every_name_and_with_its_own_key_is_taken() {
        let names = ["one.example".to_owned(), "two.example".to_owned()];
        let (chain, key) = made(&["one.example", "two.example"]);
        let held = Held::new(chain.clone(), key, &names).unwrap();
        assert!(held.from < held.until);
        let again = Held::read(&held.text(), &names).unwrap();
        assert_eq!(again.digest(), held.digest());
        let (other, other_key) = made(&["one.example"]);
        assert!(Held::new(chain, Secret::new(other_key.expose().clone()), &names).is_err(), "another key");
        assert!(Held::new(other, other_key, &names).is_err(), "a name is missing");
    }
}
