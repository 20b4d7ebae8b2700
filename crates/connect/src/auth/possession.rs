//! Tokens that are bound to a key (`cnf`, RFC 7800): such a token is worth nothing without the key, whoever bears it.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_core::{Clock, Digest};
use serde_json::{Map, Value};

use crate::auth::{AuthError, Bound, Credentials, Route, dpop::Proofs};

/// What a token is bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::auth) struct Binding {
    /// Thumbprint of a DPoP key (`jkt`).
    key: Option<Digest>,
    /// Fingerprint of a client certificate (`x5t#S256`).
    certificate: Option<Digest>,
}

impl Binding {
    /// Reads `cnf`. A way to be bound that nobody checks here is refused: without it the token is stolen goods.
    pub(in crate::auth) fn read(claims: &Map<String, Value>) -> Result<Self, AuthError> {
        let Some(value) = claims.get("cnf") else { return Ok(Self::default()) };
        let wrong =
            || AuthError::invalid("the token is bound to a key (`cnf`) in a way that is not known here");
        let members = value.as_object().filter(|members| !members.is_empty()).ok_or_else(wrong)?;
        let mut binding = Self::default();
        for (name, value) in members {
            let digest = value.as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            let digest = digest.and_then(|bytes| bytes.try_into().ok()).map(Digest).ok_or_else(wrong)?;
            match name.as_str() {
                "jkt" => binding.key = Some(digest),
                "x5t#S256" => binding.certificate = Some(digest),
                _ => return Err(wrong()),
            }
        }
        Ok(binding)
    }
}

/// Judges possession.
#[derive(Debug)]
pub(in crate::auth) struct Possession {
    pub(in crate::auth) proofs: Proofs,
    pub(in crate::auth) clock: Arc<dyn Clock>,
}

impl Possession {
    /// Whether the sender of `token` shows what the token and the route ask for. Last of all checks: a proof is taken once,
    /// and must not be lost to a token that does not count.
    pub(in crate::auth) fn check(
        &self,
        token: &str,
        binding: Binding,
        credentials: &Credentials<'_>,
        route: &Route,
    ) -> Result<(), AuthError> {
        let Binding { key, certificate } = binding;
        let enough = match route.bound {
            Bound::Any => true,
            Bound::Required => key.is_some() || certificate.is_some(),
            Bound::Dpop => key.is_some(),
            Bound::Certificate => certificate.is_some(),
        };
        if !enough {
            return Err(AuthError::invalid("the route takes only tokens that are bound to a key"));
        }
        if let Some(bound) = certificate {
            // That the certificate itself holds was asked before.
            if credentials.certificate.is_none_or(|shown| shown.fingerprint() != bound) {
                return Err(AuthError::invalid("the token is bound to another client certificate"));
            }
        }
        match (key, credentials.dpop_scheme) {
            (None, false) => Ok(()),
            (None, true) => {
                Err(AuthError::invalid("a token that is not bound to a key came as a DPoP token"))
            }
            // A thief without the key would do so (RFC 9449, section 7.2).
            (Some(_), false) => {
                Err(AuthError::invalid("a token that is bound to a key came as a bearer token"))
            }
            (Some(_), true) if credentials.dpop_proven => Ok(()),
            (Some(key), true) => self.proofs.verify(credentials, token, &key, &route.resource),
        }
    }
}
