//! Where the tokens of callers are exchanged: the section as written, and what is wrong with it although it is well-formed.

use url::Url;

use super::{
    decode::{Walk, choice, section},
    values::{Reference, is_local},
    yaml::Node,
};

section! {
    /// The authorization server that exchanges tokens (RFC 8693). The token with which a caller comes is shown to it, and to
    /// nobody else.
    ExchangeSection {
        /// Its issuer. Tokens of this issuer are exchanged, and of those in `subject_issuers`.
        issuer: String;
        /// Its token endpoint. Default: the one that the issuer's metadata names.
        token_endpoint: Option<Url>;
        /// The gateway as registered there.
        client_id: String;
        /// Secret of `client_id`: `env:NAME` or `file:PATH`.
        client_secret: Option<Reference>;
        /// Key of `client_id` for `private_key_jwt`: `env:NAME` or `file:PATH`, PKCS #8 in PEM; P-256, Ed25519 or RSA.
        client_key: Option<Reference>;
        /// What the authorization server calls the key.
        client_key_id: Option<String>;
        /// What the server is called there (`audience`). Default: its `url`, as `resource` (RFC 8707).
        audience: Option<String>;
        /// Sends a token of the gateway as `actor_token`, so that the new one says who acts for the caller.
        actor: bool = false;
        /// Issuers whose tokens are shown to this one, beside its own.
        subject_issuers: Vec<String>;
        /// What kind of token is exchanged.
        subject_token_type: SubjectTokenType = SubjectTokenType::AccessToken;
        /// A token to exchange for everybody, in the place of the caller's: `env:NAME` or `file:PATH`, read anew for every
        /// exchange. For `portcullis wrap`, and for identities of workloads.
        subject_token: Option<Reference>;
    }
}

choice! {
    /// A kind of token (RFC 8693 section 3).
    SubjectTokenType {
        /// An access token.
        AccessToken = "access_token",
        /// An ID token of OpenID Connect.
        IdToken = "id_token",
        /// Any JWT.
        Jwt = "jwt",
    }
}

impl ExchangeSection {
    /// Reports what cannot work or would show a token to the wrong side.
    pub(super) fn check(&self, id_jag: bool, node: &Node, walk: &mut Walk) {
        let mut wrong = |key: &str, message: &str, hint: &str| {
            let at = node.get(key).map_or(node, |(_, at)| at);
            walk.key(key, |walk| walk.report(at, message, hint));
        };
        let secrets = [
            ("client_secret", &self.client_secret),
            ("client_key", &self.client_key),
            ("subject_token", &self.subject_token),
        ];
        for (key, _) in secrets
            .into_iter()
            .filter(|(_, value)| value.as_ref().is_some_and(|value| value.as_literal().is_some()))
        {
            let message = "this is the place of a secret, and a configuration file is not";
            wrong(key, message, "write `env:NAME` or `file:PATH` and keep the secret there");
        }
        if self.client_secret.is_some() && self.client_key.is_some() {
            wrong("client_key", "has no meaning beside `client_secret`", "keep one of the two");
        }
        let safe = |url: &Url| url.scheme() == "https" || is_local(url);
        if !Url::parse(&self.issuer).is_ok_and(|url| safe(&url)) {
            let hint = "write the `https` URL of the issuer as its metadata does; tokens are sent there";
            wrong("issuer", "is not the URL of an issuer that tokens can be shown to", hint);
        }
        if self.token_endpoint.as_ref().is_some_and(|url| !safe(url)) {
            wrong("token_endpoint", "tokens would be sent in the clear", "write an `https` URL");
        }
        if self.subject_token.is_some() && !self.subject_issuers.is_empty() {
            wrong("subject_issuers", "has no meaning beside `subject_token`", "keep one of the two");
        }
        if id_jag && self.audience.is_some() {
            let message = "has no meaning in `mode: id_jag`, where it is the server's authorization server";
            wrong("audience", message, "remove it");
        }
    }
}
