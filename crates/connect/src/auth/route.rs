//! One route of the gateway as a protected resource: whose tokens count there, for which audience, and how they must
//! be held.

use std::collections::BTreeSet;

/// What must be shown beside a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bound {
    /// Nothing, unless the token itself says that it is bound to a key.
    #[default]
    Any,
    /// Possession of a key, one way or the other; bearer credentials are refused.
    Required,
    /// A DPoP proof (RFC 9449).
    Dpop,
    /// The client certificate that the token is bound to (RFC 8705), or that is the credential itself.
    Certificate,
}

/// What happens while the keys of an issuer cannot be fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IssuerDown {
    /// Its tokens are refused once the keys are older than `limits.jwks_refresh_ms`.
    #[default]
    Refuse,
    /// The keys known last stay in use until `limits.jwks_stale_max_ms`.
    KnownKeys,
}

/// One route, as far as it is about who may come in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Its canonical URI: the audience of tokens for it (RFC 8707).
    pub resource: String,
    /// Issuers whose tokens count here; `None`: all that are configured.
    pub issuers: Option<BTreeSet<String>>,
    /// Accepted `aud` values beside the canonical URI.
    pub audiences: Vec<String>,
    /// OAuth scopes that every token needs here, for challenges and metadata.
    pub scopes: Vec<String>,
    /// What must be shown beside a token.
    pub bound: Bound,
    /// What happens while an issuer cannot be reached.
    pub issuer_down: IssuerDown,
}

impl Route {
    /// A route at that URI, with every default.
    #[must_use]
    pub fn at(resource: impl Into<String>) -> Self {
        Self { resource: resource.into(), ..Self::default() }
    }

    /// Whether tokens of `issuer` count here.
    #[must_use]
    pub fn takes(&self, issuer: &str) -> bool {
        self.issuers.as_ref().is_none_or(|issuers| issuers.contains(issuer))
    }
}
