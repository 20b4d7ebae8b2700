//! What the operator declares about the authorization of one server.

use std::{fmt, sync::Arc};

use portcullis_core::{Digest, Secret};
use portcullis_net::guard::EgressPolicy;
use url::Url;

use crate::key::is_signing_key;

/// How tokens for a server are obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Each caller has its own, by the consent of the user in a browser (authorization code with PKCE).
    User,
    /// The gateway has one, as itself (RFC 6749 section 4.4).
    ClientCredentials,
    /// Each caller's own token is exchanged for one (RFC 8693).
    Exchange,
    /// Each caller's own token is exchanged for an assertion about its user, and that one for a token at the authorization
    /// server of the server (RFC 7523).
    IdJag,
}

/// How the gateway proves to a token endpoint which client it is.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// Not at all: a public client, which PKCE protects.
    None,
    /// With a secret, as the authorization server wants it sent.
    Secret(Secret<String>),
    /// With an assertion signed by this key (RFC 7523, `private_key_jwt`), PKCS #8 in PEM.
    Key {
        /// The key.
        pem: Secret<String>,
        /// What the authorization server calls it.
        id: Option<String>,
    },
}

/// What is exchanged.
#[derive(Clone)]
pub enum Subject {
    /// The token with which the caller came.
    Caller,
    /// What is there to read when it is needed, for everybody the same.
    Reference(Arc<dyn Fn() -> Result<Secret<String>, String> + Send + Sync>),
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "Caller",
            Self::Reference(_) => "Reference",
        })
    }
}

/// Where and how tokens are exchanged.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The authorization server: the only place that the caller's token is shown to.
    pub issuer: String,
    /// Its token endpoint; `None`: where its metadata says.
    pub token_endpoint: Option<Url>,
    /// The gateway as registered there.
    pub client: ClientSettings,
    /// What is exchanged.
    pub subject: Subject,
    /// What kind of token that is: the last part of its name (RFC 8693 section 3).
    pub subject_kind: &'static str,
    /// Issuers, beside it, whose tokens it is shown.
    pub subject_issuers: Vec<String>,
    /// What the server is called there, in the place of its URL.
    pub audience: Option<String>,
    /// Whether the gateway says with a token of its own that it acts for the caller.
    pub actor: bool,
    /// Which addresses it may have.
    pub egress: EgressPolicy,
}

impl ClientAuth {
    /// With a secret, else with a key, else not at all; nothing where the key is none.
    #[must_use]
    pub fn of(
        secret: Option<Secret<String>>,
        key: Option<Secret<String>>,
        id: Option<String>,
    ) -> Option<Self> {
        Some(match (secret, key) {
            (Some(secret), _) => Self::Secret(Secret::new(secret.expose().trim().to_owned())),
            (None, Some(pem)) if is_signing_key(&pem) => Self::Key { pem, id },
            (None, Some(_)) => return None,
            (None, None) => Self::None,
        })
    }
}

/// The gateway as registered at one authorization server.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// What it is called there.
    pub id: String,
    /// How it proves that.
    pub auth: ClientAuth,
}

/// What the operator declares about the authorization of a server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How tokens are obtained.
    pub mode: Mode,
    /// The endpoint that tokens are for.
    pub url: Url,
    /// The only authorization server that counts; `None`: the one that the server names.
    pub issuer: Option<String>,
    /// The gateway as registered by hand, at `issuer` and nowhere else.
    pub client: Option<ClientSettings>,
    /// Where the gateway's client metadata document is, if not at the gateway itself.
    pub metadata_url: Option<Url>,
    /// Scopes to ask for, where the server does not say which it needs.
    pub scopes: Vec<String>,
    /// Which addresses metadata, registration and tokens may come from.
    pub egress: EgressPolicy,
    /// Where tokens are exchanged, where they are.
    pub exchange: Option<Arc<Exchange>>,
    /// Digest of the declaration: a link that was given out before a change of it does not open.
    pub digest: Digest,
}
