//! Tokens for a server: the section as written, and what is wrong with it although it is well-formed.

use url::Url;

use super::{
    decode::{Walk, choice, section},
    exchange::ExchangeSection,
    values::Reference,
    yaml::Node,
};

section! {
    /// How the gateway gets tokens for a server that wants OAuth. Neither the token nor the key with which a caller comes
    /// in is ever sent there.
    AuthorizationSection {
        /// Whose tokens they are.
        mode: AuthorizationMode = AuthorizationMode::User;
        /// The only authorization server that counts, by its issuer. Default: the one that the server names.
        issuer: Option<String>;
        /// The gateway as registered by hand at `issuer`. Default: the gateway names itself by the URL of a document, or
        /// registers itself, as the authorization server allows.
        client_id: Option<String>;
        /// Secret of `client_id`: `env:NAME` or `file:PATH`.
        client_secret: Option<Reference>;
        /// Key of `client_id` for `private_key_jwt`: `env:NAME` or `file:PATH`, PKCS #8 in PEM; P-256, Ed25519 or RSA.
        client_key: Option<Reference>;
        /// What the authorization server calls the key.
        client_key_id: Option<String>;
        /// Where the gateway's client metadata document is, if not at `/connect/client.json` of `listen.public_url`.
        client_metadata_url: Option<Url>;
        /// Scopes to ask for where the server does not say which it needs. Default: all that it knows of.
        scopes: Vec<String>;
        /// Where the caller's own token is exchanged, in the modes `exchange` and `id_jag`.
        exchange: Option<ExchangeSection>;
    }
}

choice! {
    /// Whose tokens are sent to a server.
    AuthorizationMode {
        /// Each caller connects in a browser and has a token of its own.
        User = "user",
        /// The gateway has one, as itself.
        ClientCredentials = "client_credentials",
        /// The caller's own token is exchanged for one (RFC 8693).
        Exchange = "exchange",
        /// The caller's own token is exchanged for an assertion about its user (ID-JAG), and that for a token at the server's
        /// authorization server (RFC 7523): enterprise-managed authorization.
        IdJag = "id_jag",
    }
}

impl AuthorizationSection {
    /// Reports what cannot work or would show a secret to the wrong side.
    pub(super) fn check(&self, node: &Node, walk: &mut Walk) {
        let at = node.get("authorization").map_or(node, |(_, at)| at);
        walk.key("authorization", |walk| {
            self.check_exchange(at, walk);
            let mut wrong = |key: &str, message: &str, hint: &str| {
                let at = at.get(key).map_or(at, |(_, at)| at);
                walk.key(key, |walk| walk.report(at, message, hint));
            };
            let secrets = [("client_secret", &self.client_secret), ("client_key", &self.client_key)];
            for (key, value) in secrets {
                if value.as_ref().is_some_and(|value| value.as_literal().is_some()) {
                    wrong(
                        key,
                        "this is the place of a secret, and a configuration file is not",
                        "write `env:NAME` or `file:PATH` and keep the secret there",
                    );
                }
                if value.is_some() && self.client_id.is_none() {
                    wrong(key, "has no meaning without `client_id`", "write the `client_id` that it belongs to");
                }
            }
            if self.client_secret.is_some() && self.client_key.is_some() {
                wrong("client_key", "has no meaning beside `client_secret`", "keep one of the two");
            }
            if self.client_id.is_some() && self.issuer.is_none() {
                let hint = "write the issuer where the gateway is registered: another one must not see its credentials";
                wrong("client_id", "has no meaning without `issuer`", hint);
            }
            let registered = matches!(self.mode, AuthorizationMode::ClientCredentials | AuthorizationMode::IdJag);
            if registered && self.client_id.is_none() {
                wrong("mode", "the gateway has to be registered by hand for this", "write `issuer` and `client_id`");
            }
            let parsed = self.issuer.as_deref().map(Url::parse);
            if parsed.is_some_and(|url| !url.is_ok_and(|url| matches!(url.scheme(), "https" | "http"))) {
                wrong("issuer", "is not the URL of an issuer", "write it as the authorization server's metadata does");
            }
        });
    }

    /// Reports what of an exchange cannot work or would show a token to the wrong side.
    fn check_exchange(&self, at: &Node, walk: &mut Walk) {
        let exchanges = matches!(self.mode, AuthorizationMode::Exchange | AuthorizationMode::IdJag);
        let mut wrong = |key: &str, message: &str, hint: &str| {
            let at = at.get(key).map_or(at, |(_, at)| at);
            walk.key(key, |walk| walk.report(at, message, hint));
        };
        match (&self.exchange, exchanges) {
            (None, false) => return,
            (None, true) => {
                let hint = "write the section `exchange` with `issuer` and `client_id`";
                return wrong("mode", "has no meaning without `exchange`", hint);
            }
            (Some(_), false) => {
                let hint = "write `mode: exchange` or `mode: id_jag`, or remove it";
                return wrong("exchange", "has no meaning in this `mode`", hint);
            }
            (Some(_), true) => {}
        }
        if self.mode == AuthorizationMode::Exchange && self.issuer.is_some() {
            wrong(
                "issuer",
                "has no meaning beside `mode: exchange`",
                "write it into `exchange`, or remove it",
            );
        }
        if let (Some(exchange), Some((_, at))) = (&self.exchange, at.get("exchange")) {
            walk.key("exchange", |walk| exchange.check(self.mode == AuthorizationMode::IdJag, at, walk));
        }
    }

    /// Its references to secrets, with their keys.
    pub(crate) fn references(&self) -> Vec<(&'static str, &Reference)> {
        let own = [("client_secret", &self.client_secret), ("client_key", &self.client_key)];
        let exchange = self.exchange.iter().flat_map(|exchange| {
            [
                ("exchange.client_secret", &exchange.client_secret),
                ("exchange.client_key", &exchange.client_key),
                ("exchange.subject_token", &exchange.subject_token),
            ]
        });
        own.into_iter().chain(exchange).filter_map(|(key, one)| Some((key, one.as_ref()?))).collect()
    }

    /// Issuers whose tokens are exchanged, where those of callers are.
    pub fn exchanged_issuers(&self) -> Option<Vec<&str>> {
        let exchange = self.exchange.as_ref().filter(|exchange| exchange.subject_token.is_none())?;
        Some(exchange.subject_issuers.iter().chain([&exchange.issuer]).map(String::as_str).collect())
    }
}
