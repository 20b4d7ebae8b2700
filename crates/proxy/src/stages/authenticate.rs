//! Who is asking.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, header};
use portcullis_connect::auth::{Credentials, Route};
use portcullis_core::{Caller, Code, Refusal};

use crate::{head::Head, rules::Rules};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// How a token is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Whoever bears it (RFC 6750).
    Bearer,
    /// With a proof of possession (RFC 9449).
    Dpop,
}

impl Scheme {
    /// The scheme of a request, whatever follows it.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        Self::named(value.split(' ').next()?)
    }

    const fn named(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("bearer") {
            Some(Self::Bearer)
        } else if text.eq_ignore_ascii_case("dpop") {
            Some(Self::Dpop)
        } else {
            None
        }
    }
}

/// Where credentials stand.
pub(super) const HEADERS: [HeaderName; 2] = [header::AUTHORIZATION, API_KEY];

/// Finds out who is asking, for the route of `head`.
///
/// # Errors
/// `auth.missing`, `auth.invalid`, `auth.proof`, `auth.nonce`, `auth.unavailable`; `server.unknown` when the credential does
/// not reach the server, so that its existence stays hidden.
pub async fn caller(head: &Head, route: &Route, rules: &Rules) -> Result<Arc<Caller>, Refusal> {
    find(head, route, rules, false).await
}

/// The same for a stream that is open: the proof of possession that opened it cannot be shown again.
///
/// # Errors
/// As [`caller`].
pub async fn again(head: &Head, rules: &Rules) -> Result<Arc<Caller>, Refusal> {
    find(head, &rules.access(&head.server), rules, true).await
}

async fn find(head: &Head, route: &Route, rules: &Rules, proven: bool) -> Result<Arc<Caller>, Refusal> {
    let (scheme, bearer) = token(head)?.unzip();
    let credentials = Credentials {
        bearer,
        dpop_scheme: scheme == Some(Scheme::Dpop),
        // Repeated or unreadable, it is no proof, which is told where one is needed.
        dpop: head.one(&DPOP),
        dpop_proven: proven,
        method: head.verb.method(),
        api_key: api_key(head)?,
        certificate: head.certificate.as_ref(),
    };
    if credentials.bearer.is_some() && credentials.api_key.is_some() {
        return Err(Refusal::new(Code::AuthInvalid, "two credentials in one request"));
    }
    let caller = match rules.auth.try_now(&credentials, route) {
        Some(result) => result?,
        None => rules.auth.authenticate(&credentials, route).await?,
    };
    if let (Some(exchange), Some(bearer)) = (&rules.exchange, bearer) {
        exchange.presented_by(&caller, bearer);
    }
    if !caller.servers.reaches(&head.server) {
        return Err(Refusal::new(Code::ServerUnknown, "the credential does not reach this server"));
    }
    Ok(caller)
}

fn token(head: &Head) -> Result<Option<(Scheme, &str)>, Refusal> {
    if !head.headers.contains_key(header::AUTHORIZATION) {
        return Ok(None);
    }
    let unreadable = || Refusal::new(Code::AuthInvalid, "more than one Authorization header, or not text");
    let value = head.one(&header::AUTHORIZATION).ok_or_else(unreadable)?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    let scheme = Scheme::named(scheme).ok_or_else(|| {
        Refusal::new(Code::AuthInvalid, "an Authorization scheme other than Bearer and DPoP")
    })?;
    Ok(Some((scheme, token.trim())))
}

fn api_key(head: &Head) -> Result<Option<&str>, Refusal> {
    if !head.headers.contains_key(&API_KEY) {
        return Ok(None);
    }
    head.one(&API_KEY)
        .map(Some)
        .ok_or_else(|| Refusal::new(Code::AuthInvalid, "more than one X-API-Key header, or not text"))
}
