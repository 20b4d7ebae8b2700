//! What a user granted: tokens, who issued them, and what they are for.

use portcullis_core::{Secret, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How long before its end a token is renewed, unless it lasts so shortly that this would be always.
const EARLY_MS: u64 = 60_000;
/// Which part of a short life is its end.
const EARLY_PART: u64 = 4;

/// Tokens for one server.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// Who issued them; they are shown to nobody else but the server.
    pub(crate) issuer: String,
    /// What they are for (RFC 8707).
    pub(crate) resource: String,
    pub(crate) access: Secret<String>,
    pub(crate) refresh: Option<Secret<String>>,
    pub(crate) expires: Option<Timestamp>,
    /// Scopes that were asked for.
    pub(crate) requested: Vec<String>,
    /// Scopes that were granted.
    pub(crate) scopes: Vec<String>,
    pub(crate) granted: Timestamp,
    pub(crate) refreshed: Option<Timestamp>,
    /// How often the user was asked again although nothing was left to ask for.
    pub(crate) fruitless: u8,
    /// Where the server said that its metadata is; `None`: at its well-known place.
    pub(crate) hint: Option<String>,
    /// Names this state of it in the store; empty before it is kept.
    pub(crate) revision: String,
}

/// As it is sealed.
#[derive(Deserialize, Serialize)]
struct Written {
    resource: String,
    access: String,
    refresh: Option<String>,
    requested: Vec<String>,
    scopes: Vec<String>,
    expires: Option<Timestamp>,
    granted: Timestamp,
    refreshed: Option<Timestamp>,
    fruitless: u8,
    #[serde(default)]
    hint: Option<String>,
}

impl Grant {
    /// Whether the token can be sent at `now`.
    pub(crate) fn lasts(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// Whether it is time to renew it, where that can be done.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        let since = self.refreshed.unwrap_or(self.granted);
        self.expires.is_some_and(|expires| {
            let life_ms = expires.0.saturating_sub(since.0);
            now.plus_ms(EARLY_MS.min(life_ms / EARLY_PART)) >= expires
        })
    }

    /// The token whose end is the end of all of them, and its kind (RFC 7009).
    pub(crate) fn revocable(&self) -> (&Secret<String>, &'static str) {
        match &self.refresh {
            Some(refresh) => (refresh, "refresh_token"),
            None => (&self.access, "access_token"),
        }
    }

    pub(crate) fn to_bytes(&self) -> Option<Zeroizing<Vec<u8>>> {
        let written = Written {
            resource: self.resource.clone(),
            access: self.access.expose().clone(),
            refresh: self.refresh.as_ref().map(|token| token.expose().clone()),
            requested: self.requested.clone(),
            scopes: self.scopes.clone(),
            expires: self.expires,
            granted: self.granted,
            refreshed: self.refreshed,
            fruitless: self.fruitless,
            hint: self.hint.clone(),
        };
        serde_json::to_vec(&written).ok().map(Zeroizing::new)
    }

    pub(crate) fn of_bytes((issuer, revision): (&str, &str), bytes: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(bytes).ok()?;
        Some(Self {
            issuer: issuer.to_owned(),
            revision: revision.to_owned(),
            resource: written.resource,
            access: Secret::new(written.access),
            refresh: written.refresh.map(Secret::new),
            expires: written.expires,
            requested: written.requested,
            scopes: written.scopes,
            granted: written.granted,
            refreshed: written.refreshed,
            fruitless: written.fruitless,
            hint: written.hint,
        })
    }
}
