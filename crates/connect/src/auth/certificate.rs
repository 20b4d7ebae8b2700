//! Client certificates as identities: the connection has shown one that an authority of ours signed, and a name in it
//! stands for a caller. SPIFFE IDs are read as the X.509-SVID standard asks.

use std::{fmt, str::FromStr, sync::Arc};

use async_trait::async_trait;
use portcullis_core::{
    Caller, CallerKind, Proof, Scope,
    kind::{Kind, KindError},
};
use portcullis_net::tls::is_spiffe_id;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME,
    prelude::FromDer as _,
};

use crate::auth::{AuthError, Bound, Building, Credentials, Route, Way, cache::DigestCache};

pub(super) const KIND: Kind<Option<Box<dyn Way>>, Building> = Kind {
    name: "certificate",
    doc: "Client certificates of the configured authorities, where nothing else is presented.",
    build,
};

/// Bytes of a name at most: as long as a SPIFFE ID can be.
const NAME_BYTES_MAX: usize = 2048;

/// A name that a certificate can carry, as it is written in the configuration and in callers' ids.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertificateName {
    /// `cn:NAME`: the only common name of the subject.
    CommonName(String),
    /// `dns:NAME`: a DNS name among the alternative names.
    Dns(String),
    /// `email:ADDRESS`: an address among the alternative names.
    Email(String),
    /// `spiffe://DOMAIN/PATH`: the only URI among the alternative names.
    Spiffe(String),
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommonName(name) => write!(f, "cn:{name}"),
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Email(name) => write!(f, "email:{name}"),
            Self::Spiffe(id) => f.write_str(id),
        }
    }
}

/// Which certificates a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// Those with this name.
    Exact(CertificateName),
    /// Those with a SPIFFE ID below this one, which ends with `/`.
    Below(String),
}

impl NamePattern {
    fn matches(&self, name: &CertificateName) -> bool {
        match (self, name) {
            (Self::Exact(wanted), name) => wanted == name,
            (Self::Below(prefix), CertificateName::Spiffe(id)) => id.starts_with(prefix.as_str()),
            (Self::Below(_), _) => false,
        }
    }
}

impl FromStr for NamePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(parent) = text.strip_suffix("/*").filter(|text| text.starts_with("spiffe://")) {
            return if is_spiffe_id(parent) {
                Ok(Self::Below(format!("{parent}/")))
            } else {
                Err(format!("`{text}` names no part of a SPIFFE trust domain"))
            };
        }
        let plain = |name: &str| {
            let fine = !name.is_empty()
                && name.len() <= NAME_BYTES_MAX
                && !name.contains(|c: char| c.is_control() || c == '*');
            if fine { Ok(name.to_owned()) } else { Err(format!("`{text}` names no certificate")) }
        };
        let name = match text.split_once(':') {
            Some(("cn", name)) => CertificateName::CommonName(plain(name)?),
            Some(("dns", name)) => CertificateName::Dns(plain(name)?.to_ascii_lowercase()),
            Some(("email", name)) => CertificateName::Email(plain(name)?),
            Some(("spiffe", _)) if is_spiffe_id(text) => CertificateName::Spiffe(text.to_owned()),
            _ => return Err(format!("`{text}` is no `spiffe://…`, `dns:…`, `email:…` or `cn:…`")),
        };
        Ok(Self::Exact(name))
    }
}

/// Whom certificates stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRule {
    /// Which certificates.
    pub name: NamePattern,
    /// The roles of their bearers.
    pub roles: Vec<String>,
    /// Whether they stand for people or programs.
    pub kind: CallerKind,
}

#[derive(Debug)]
struct Certificates {
    rules: Vec<CertificateRule>,
    /// Who stands behind certificates that were read before.
    known: DigestCache<Arc<Caller>>,
}

fn build(building: &Building) -> Result<Option<Box<dyn Way>>, KindError> {
    let rules = building.settings.certificates.clone();
    if rules.is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::new(Certificates { rules, known: DigestCache::new(building.parts.limits.token_cache_max) })))
}

impl Certificates {
    fn caller(&self, credentials: &Credentials<'_>, route: &Route) -> Result<Arc<Caller>, AuthError> {
        let shown = credentials.certificate.ok_or(AuthError::invalid("no certificate was shown"))?;
        if route.bound == Bound::Dpop {
            return Err(AuthError::invalid("the route takes only tokens with a DPoP proof"));
        }
        if let Some(caller) = self.known.find(&shown.fingerprint()) {
            return Ok(caller);
        }
        let names = names(shown.der())?;
        let found = self.rules.iter().find_map(|rule| {
            let name = names.iter().find(|name| rule.name.matches(name))?;
            Some((rule, name))
        });
        // A certificate may be there only for the token that is bound to it, and the token be missing.
        let (rule, name) = found.ok_or(AuthError {
            code: portcullis_core::Code::AuthMissing,
            detail: "no credential but a client certificate that stands for nobody".into(),
        })?;
        let mut roles = rule.roles.clone();
        roles.sort();
        roles.dedup();
        let caller = Arc::new(Caller {
            id: format!("cert:{name}").into(),
            kind: rule.kind,
            proof: Proof::Certificate { fingerprint: shown.fingerprint() },
            roles: roles.into(),
            servers: Scope::All,
            scopes: Vec::new(),
            claims: None,
            actors: Arc::from([]),
            expires: None,
        });
        self.known.remember(shown.fingerprint(), Arc::clone(&caller));
        Ok(caller)
    }
}

/// Every name that the certificate carries.
fn names(der: &[u8]) -> Result<Vec<CertificateName>, AuthError> {
    let unreadable = || AuthError::invalid("the client certificate cannot be read");
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| unreadable())?;
    if certificate.is_ca() {
        return Err(AuthError::invalid("the client certificate is that of an authority"));
    }
    let (mut names, mut uris) = (Vec::new(), Vec::new());
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(alternatives) = extension.parsed_extension() else {
            // Names that cannot be read could say something else than the others.
            if extension.oid == OID_X509_EXT_SUBJECT_ALT_NAME {
                return Err(unreadable());
            }
            continue;
        };
        for name in &alternatives.general_names {
            match name {
                GeneralName::DNSName(name) => names.push(CertificateName::Dns(name.to_ascii_lowercase())),
                GeneralName::RFC822Name(name) => names.push(CertificateName::Email((*name).to_owned())),
                GeneralName::URI(uri) => uris.push(*uri),
                _ => {}
            }
        }
    }
    match uris.as_slice() {
        [id] if is_spiffe_id(id) => names.push(CertificateName::Spiffe((*id).to_owned())),
        // With more than one URI, or a malformed ID, nobody can say who is meant (X.509-SVID, section 2).
        uris if uris
            .iter()
            .any(|uri| uri.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("spiffe://"))) =>
        {
            return Err(AuthError::invalid("the client certificate has no single well-formed SPIFFE ID"));
        }
        _ => {}
    }
    let mut common = certificate.subject().iter_common_name();
    if let (Some(name), None) = (common.next(), common.next())
        && let Ok(name) = name.as_str()
    {
        names.push(CertificateName::CommonName(name.to_owned()));
    }
    names.retain(|name| !name.to_string().contains(|c: char| c.is_control()));
    Ok(names)
}

#[async_trait]
impl Way for Certificates {
    fn claims(&self, credentials: &Credentials<'_>) -> bool {
        credentials.certificate.is_some() && credentials.bearer.is_none() && credentials.api_key.is_none()
    }

    fn try_now(
        &self,
        credentials: &Credentials<'_>,
        route: &Route,
    ) -> Option<Result<Arc<Caller>, AuthError>> {
        Some(self.caller(credentials, route))
    }

    async fn judge(&self, credentials: &Credentials<'_>, route: &Route) -> Result<Arc<Caller>, AuthError> {
        self.caller(credentials, route)
    }

    fn forget(&self) {
        self.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_configuration_are_exact_or_a_part_of_a_trust_domain() {
        let read = |text: &str| text.parse::<NamePattern>();
        for good in
            ["spiffe://td.example/ns/a", "spiffe://td/*", "dns:a.example", "email:a@b", "cn:ci runner"]
        {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ci",
            "dns:",
            "dns:*.example",
            "uri:x",
            "cn:*",
            "spiffe://",
            "spiffe:///a",
            "spiffe://TD/a",
            "spiffe://td//a",
            "spiffe://td/../a",
            "spiffe://td:1/a",
            "spiffe://td/a?b",
            "spiffe://td/a*",
            "spiffe://*",
            "spiffe://td/",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let below = read("spiffe://td/ns/*").unwrap();
        let id = |text: &str| CertificateName::Spiffe(text.to_owned());
        assert!(below.matches(&id("spiffe://td/ns/a/b")));
        for other in ["spiffe://td/ns", "spiffe://td/nsx/a", "spiffe://td2/ns/a"] {
            assert!(!below.matches(&id(other)), "{other}");
        }
    }
}
