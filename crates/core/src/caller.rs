//! Who is asking, and how that was proven.

use alloc::{collections::BTreeSet, format, string::String, sync::Arc, vec::Vec};
use core::fmt;

use crate::{Digest, Timestamp};

/// Whether a person, a program or nobody known is asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallerKind {
    /// Nobody proved anything. Reaches a server only where policy says so.
    Anonymous,
    /// A program with its own credential.
    Service,
    /// A person, by way of an identity provider.
    User,
}

/// How the identity was proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing was presented, and the listener allows that.
    Anonymous,
    /// An API key of ours.
    ApiKey {
        /// The public part of the key.
        key_id: String,
    },
    /// A client certificate.
    Certificate {
        /// SHA-256 of the certificate.
        fingerprint: Digest,
    },
    /// A token that its issuer was asked about (RFC 7662).
    Introspected {
        /// The issuer.
        issuer: String,
        /// SHA-256 of the token.
        token: Digest,
    },
    /// A signed token (RFC 7519, RFC 9068).
    Jwt {
        /// `iss`, as the token has it.
        issuer: String,
        /// SHA-256 of the token: names it in the ledger without carrying it.
        token: Digest,
    },
    /// The gateway serves one user of this machine alone, over pipes that only this user's programs hold.
    Local {
        /// The user id that the process runs as.
        uid: u32,
    },
}

/// Which servers a credential reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every server, now and later.
    All,
    /// Only these.
    Only(BTreeSet<String>),
}

impl Scope {
    /// Whether `server` is within the scope.
    #[must_use]
    pub fn reaches(&self, server: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(server),
        }
    }
}

/// Who is asking: identity, how it was proven, and what policy may read about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Stable id, unique across ways of proof: `key:ID`, `jwt:ISSUER#SUBJECT`, `client:ISSUER#CLIENT`,
    /// `cert:NAME`, `local:USER` or `anonymous`.
    pub id: Arc<str>,
    /// Person, program or unknown.
    pub kind: CallerKind,
    /// How it was proven.
    pub proof: Proof,
    /// Roles in force for this request, sorted and without repeats.
    pub roles: Arc<[String]>,
    /// Servers that the credential itself reaches; policy may allow less, never more.
    pub servers: Scope,
    /// OAuth scopes of the token, sorted; empty for API keys and certificates.
    pub scopes: Vec<String>,
    /// Claims that configuration lets policy read, as one JSON object.
    pub claims: Option<Arc<serde_json::Map<String, serde_json::Value>>>,
    /// Who acts for the caller, the nearest first (`act`, RFC 8693); ids like the caller's. Empty: it acts for itself.
    pub actors: Arc<[String]>,
    /// When the proof stops being valid, if it does.
    pub expires: Option<Timestamp>,
}

impl Caller {
    /// Whether the credential is an OAuth token, which can have scopes.
    #[must_use]
    pub const fn has_token(&self) -> bool {
        match self.proof {
            Proof::Introspected { .. } | Proof::Jwt { .. } => true,
            Proof::Anonymous | Proof::ApiKey { .. } | Proof::Certificate { .. } | Proof::Local { .. } => {
                false
            }
        }
    }

    /// The caller who presented nothing.
    #[must_use]
    pub fn anonymous(roles: Arc<[String]>) -> Self {
        Self {
            id: "anonymous".into(),
            kind: CallerKind::Anonymous,
            proof: Proof::Anonymous,
            roles,
            servers: Scope::All,
            scopes: Vec::new(),
            claims: None,
            actors: Arc::from([]),
            expires: None,
        }
    }

    /// The user of this machine whom a gateway on standard input and output serves.
    #[must_use]
    pub fn local(user: &str, uid: u32, roles: Arc<[String]>) -> Self {
        Self {
            id: format!("local:{user}").into(),
            kind: CallerKind::User,
            proof: Proof::Local { uid },
            ..Self::anonymous(roles)
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}
