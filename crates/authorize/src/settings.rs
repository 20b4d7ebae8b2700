//! What the operator declares about the authorization of one server.

use portcullis_core::{Digest, Secret};
use portcullis_net::guard::EgressPolicy;
use url::Url;

/// How tokens for a server are obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Each caller has its own, by the consent of the user in a browser (authorization code with PKCE).
    User,
    /// The gateway has one, as itself (RFC 6749 section 4.4).
    ClientCredentials,
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
    /// Digest of the declaration: a link that was given out before a change of it does not open.
    pub digest: Digest,
}
