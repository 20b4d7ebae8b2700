//! What a verified token says, and whether it holds here and now.

use std::{collections::BTreeSet, sync::Arc};

use portcullis_core::{Caller, CallerKind, Digest, Proof, Scope, Timestamp};
use serde_json::{Map, Value};

use crate::auth::{
    AuthError, Route,
    jwt::{JwtIssuer, compact::Compact},
    possession::Binding,
};

/// Bytes of a subject at most.
const SUBJECT_BYTES_MAX: usize = 255;
/// Longest chain of actors.
const ACTORS_MAX: usize = 8;
/// 9999-12-31T23:59:59Z: a time beyond is a mistake of unit or an attack.
const SECONDS_MAX: u64 = 253_402_300_799;
/// `typ` claims of tokens that are not for access, as Keycloak writes them.
const OTHER_TOKEN_TYPES: [&str; 5] = ["ID", "Refresh", "Offline", "Logout", "Registration"];

/// A token that holds, as far as it can be said once for every route.
pub(in crate::auth) struct Accepted {
    pub(in crate::auth) caller: Caller,
    pub(in crate::auth) audiences: Arc<[String]>,
    pub(in crate::auth) times: Times,
    pub(in crate::auth) binding: Binding,
}

/// When a token holds, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(in crate::auth) struct Times {
    expires_s: u64,
    not_before_s: Option<u64>,
    issued_s: Option<u64>,
}

impl Times {
    pub(in crate::auth) fn read(claims: &Map<String, Value>) -> Result<Self, AuthError> {
        Ok(Self {
            expires_s: seconds(claims, "exp")?
                .ok_or(AuthError::invalid("the token never expires (no `exp`)"))?,
            not_before_s: seconds(claims, "nbf")?,
            issued_s: seconds(claims, "iat")?,
        })
    }

    /// Of what holds now and says no more.
    const fn at(now: Timestamp) -> Self {
        Self { expires_s: now.seconds() + 1, not_before_s: None, issued_s: None }
    }

    /// Whether `now` is within them, give or take the issuer's leeway.
    pub(in crate::auth) fn check(&self, now: Timestamp, issuer: &JwtIssuer) -> Result<(), AuthError> {
        let Self { expires_s, not_before_s, issued_s } = *self;
        let (now, leeway) = (now.seconds(), issuer.leeway_s);
        if now >= expires_s.saturating_add(leeway) {
            return Err(AuthError::invalid("the token has expired"));
        }
        for start in [not_before_s, issued_s].into_iter().flatten() {
            if now.saturating_add(leeway) < start {
                return Err(AuthError::invalid("the token is not valid yet"));
            }
        }
        let lifetime = expires_s.saturating_sub(issued_s.unwrap_or(now));
        // Without `iat` the time left is all that can be said about the lifetime.
        let slack = if issued_s.is_none() { leeway } else { 0 };
        if lifetime > issuer.max_lifetime_s.saturating_add(slack) {
            return Err(AuthError::invalid("the token lives longer than `max_lifetime_s`"));
        }
        Ok(())
    }
}

/// Reads the claims of a token whose signature holds. The audience is left to [`check_audience`], since it depends
/// on the route.
pub(in crate::auth) fn accept(
    compact: &Compact<'_>,
    issuer: &JwtIssuer,
    digest: Digest,
    now: Timestamp,
) -> Result<Accepted, AuthError> {
    let claims = &compact.claims;
    check_type(compact, issuer)?;
    let id = format!("jwt:{}#{}", issuer.issuer, subject(claims, "sub")?);
    let proof = Proof::Jwt { issuer: issuer.issuer.clone(), token: digest };
    read(claims, issuer, (id, issuer.kind, proof), Times::read(claims)?, now)
}

/// Reads what an issuer answered about a token that it calls active (RFC 7662).
pub(in crate::auth) fn accept_introspected(
    claims: &Map<String, Value>,
    issuer: &JwtIssuer,
    digest: Digest,
    now: Timestamp,
) -> Result<Accepted, AuthError> {
    let of_another = claims.get("iss").is_some_and(|iss| iss.as_str() != Some(issuer.issuer.as_str()));
    let kind = claims.get("token_type").map(|kind| kind.as_str().unwrap_or_default().to_ascii_lowercase());
    if of_another || kind.is_some_and(|kind| !matches!(kind.as_str(), "bearer" | "dpop" | "n_a")) {
        return Err(AuthError::invalid(
            "the issuer's answer is about another kind of token, or another issuer's",
        ));
    }
    check_use(claims)?;
    // A program that asked for itself has no subject; its own id must not be taken for a person's.
    let (id, kind) = match claims.get("sub") {
        Some(_) => (format!("jwt:{}#{}", issuer.issuer, subject(claims, "sub")?), issuer.kind),
        None => (format!("client:{}#{}", issuer.issuer, subject(claims, "client_id")?), CallerKind::Service),
    };
    let proof = Proof::Introspected { issuer: issuer.issuer.clone(), token: digest };
    // Without an end the answer holds for now, and the next request asks again.
    let times = if claims.contains_key("exp") { Times::read(claims)? } else { Times::at(now) };
    read(claims, issuer, (id, kind, proof), times, now)
}

fn read(
    claims: &Map<String, Value>,
    issuer: &JwtIssuer,
    (id, kind, proof): (String, CallerKind, Proof),
    times: Times,
    now: Timestamp,
) -> Result<Accepted, AuthError> {
    times.check(now, issuer)?;
    if let Some(preset) = issuer.preset {
        preset.check(claims)?;
    }
    let scopes = scopes(claims)?;
    let roles = roles(claims, &scopes, issuer)?;
    let caller = Caller {
        id: id.into(),
        kind,
        proof,
        roles: roles.into_iter().collect::<Vec<_>>().into(),
        servers: Scope::All,
        scopes: scopes.into_iter().collect(),
        claims: readable(claims, issuer),
        actors: actors(claims, issuer)?.into(),
        expires: Some(Timestamp(times.expires_s.saturating_mul(1000))),
    };
    Ok(Accepted { caller, audiences: audiences(claims)?, times, binding: Binding::read(claims)? })
}

/// Whether the token is meant for us: one of its audiences is, letter by letter, one that is accepted. What the route
/// says goes before what the issuer says.
pub(in crate::auth) fn check_audience(
    audiences: &[String],
    issuer: &JwtIssuer,
    route: &Route,
) -> Result<(), AuthError> {
    let ours = |audience: &String| match (route.audiences.as_slice(), issuer.audiences.as_slice()) {
        ([], []) => *audience == route.resource,
        ([], accepted) => accepted.contains(audience),
        (accepted, _) => *audience == route.resource || accepted.contains(audience),
    };
    if audiences.iter().any(ours) {
        Ok(())
    } else {
        Err(AuthError::invalid("the token is for another audience"))
    }
}

/// Whether it is an access token that we can check whole.
fn check_type(compact: &Compact<'_>, issuer: &JwtIssuer) -> Result<(), AuthError> {
    let claims = &compact.claims;
    let typ = compact.typ.as_deref().map(str::to_ascii_lowercase);
    let typ = typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
    let right = match typ {
        Some("at+jwt") => true,
        Some("jwt") | None => !issuer.require_typ_at_jwt,
        Some(_) => false,
    };
    if !right {
        return Err(AuthError::invalid("the token's `typ` is not that of an access token"));
    }
    check_use(claims)
}

/// Whether the claims are those of an access token, and not of another kind of token of the same issuer.
fn check_use(claims: &Map<String, Value>) -> Result<(), AuthError> {
    let is = |name: &str, wrong: &[&str]| {
        claims.get(name).and_then(Value::as_str).is_some_and(|v| wrong.contains(&v))
    };
    let uses = claims.get("token_use").is_some_and(|value| value.as_str() != Some("access"));
    // `htm`: a DPoP proof; `events`: a logout or other security event; `typ` and `token_use`: as some providers say it.
    if uses || is("typ", &OTHER_TOKEN_TYPES) || claims.contains_key("events") || claims.contains_key("htm") {
        return Err(AuthError::invalid("the token is not an access token"));
    }
    if claims.get("jti").is_some_and(|jti| !jti.is_string()) {
        return Err(AuthError::invalid("`jti` is not a string"));
    }
    Ok(())
}

/// A time claim: a whole number of seconds in the range of the calendar.
pub(in crate::auth) fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, AuthError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(seconds) if seconds <= SECONDS_MAX => Ok(Some(seconds)),
            Some(_) | None => {
                Err(AuthError::invalid("a time claim is not a whole number of seconds in range"))
            }
        },
    }
}

fn subject<'c>(claims: &'c Map<String, Value>, name: &str) -> Result<&'c str, AuthError> {
    let subject = claims.get(name).and_then(Value::as_str).unwrap_or_default();
    if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX {
        return Err(AuthError::invalid("the subject is missing, empty or too long"));
    }
    // Exact comparison keeps look-alikes apart; what cannot be seen would fool the people who read the ledger.
    if subject.chars().any(is_invisible) || subject.trim() != subject {
        return Err(AuthError::invalid("the subject has characters that cannot be seen"));
    }
    Ok(subject)
}

/// Who acts for the subject, the nearest first (`act`, RFC 8693 section 4.1). What cannot be understood is refused:
/// an actor that is overlooked would have all that the subject has.
fn actors(claims: &Map<String, Value>, issuer: &JwtIssuer) -> Result<Vec<String>, AuthError> {
    let mut out = Vec::new();
    let mut at = claims.get("act");
    while let Some(act) = at {
        let act = act.as_object().ok_or(AuthError::invalid("`act` is no object"))?;
        let of = match act.get("iss") {
            None => issuer.issuer.as_str(),
            // `#` parts issuer and subject, so an issuer with one could pass for another's actor.
            Some(_) if !subject(act, "iss")?.contains('#') => subject(act, "iss")?,
            Some(_) => return Err(AuthError::invalid("the `iss` of an actor cannot be an issuer")),
        };
        out.push(format!("jwt:{of}#{}", subject(act, "sub")?));
        if out.len() > ACTORS_MAX {
            return Err(AuthError::invalid("the chain of actors is too long"));
        }
        at = act.get("act");
    }
    Ok(out)
}

/// Controls, directional marks, zero-width characters, line separators, variation selectors, tags.
const fn is_invisible(c: char) -> bool {
    c.is_ascii_control()
        || matches!(c, '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{e0000}'..='\u{e0fff}')
}

fn audiences(claims: &Map<String, Value>) -> Result<Arc<[String]>, AuthError> {
    strings(claims.get("aud")).map(Into::into).ok_or(AuthError::invalid("`aud` is missing or not text"))
}

/// OAuth scopes: `scope` as one string (RFC 8693), `scp` as string or list.
fn scopes(claims: &Map<String, Value>) -> Result<BTreeSet<String>, AuthError> {
    let wrong = || AuthError::invalid("the scopes are not as RFC 6749 writes them");
    let split = |text: &str| text.split(' ').filter(|scope| !scope.is_empty()).map(Into::into).collect();
    let scope: Option<BTreeSet<String>> = match claims.get("scope") {
        None => None,
        Some(value) => Some(split(value.as_str().ok_or_else(wrong)?)),
    };
    let scp: Option<BTreeSet<String>> = match claims.get("scp") {
        None => None,
        Some(Value::String(text)) => Some(split(text)),
        Some(list) => Some(strings(Some(list)).ok_or_else(wrong)?.into_iter().collect()),
    };
    let scopes = match (scope, scp) {
        // Two lists that disagree: which of them holds would be a guess.
        (Some(scope), Some(scp)) if scope != scp => return Err(wrong()),
        (Some(scopes), _) | (None, Some(scopes)) => scopes,
        (None, None) => BTreeSet::new(),
    };
    let legal = |byte: u8| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~');
    if scopes.iter().all(|scope| !scope.is_empty() && scope.bytes().all(legal)) {
        Ok(scopes)
    } else {
        Err(wrong())
    }
}

/// Roles of ours, by way of the issuer's map.
fn roles(
    claims: &Map<String, Value>,
    scopes: &BTreeSet<String>,
    issuer: &JwtIssuer,
) -> Result<BTreeSet<String>, AuthError> {
    let values = match issuer.roles_claim.as_deref().and_then(|path| reach(claims, path)) {
        None => Vec::new(),
        value => {
            strings(value).ok_or(AuthError::invalid("the roles claim is neither text nor a list of texts"))?
        }
    };
    let mapped = values.iter().chain(scopes).filter_map(|name| issuer.role_map.get(name)).flatten();
    Ok(issuer.default_roles.iter().chain(mapped).cloned().collect())
}

/// The claim of that name or, where there is none, at that path.
fn reach<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let mut steps = path.split('.');
    let first = claims.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.as_object()?.get(step))
}

/// One string, or a list of nothing but strings.
fn strings(value: Option<&Value>) -> Option<Vec<String>> {
    match value? {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(Into::into)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// The claims that configuration lets policy read.
fn readable(claims: &Map<String, Value>, issuer: &JwtIssuer) -> Option<Arc<Map<String, Value>>> {
    if issuer.claims.is_empty() {
        return None;
    }
    let named = issuer.claims.iter().filter_map(|name| Some((name.clone(), claims.get(name)?.clone())));
    Some(Arc::new(named.collect()))
}
