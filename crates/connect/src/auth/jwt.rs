//! Signed tokens of identity providers (RFC 7519, RFC 9068), read as RFC 8725 advises: one strict form, the
//! algorithms the operator listed and the key agrees with, an exact issuer and audience. What was verified once is
//! remembered by the digest of the whole token, since a signature costs as much as the rest of a request.
//!
//! Stricter than the standards, on purpose: whole numbers for times; no `crit`, no keys or addresses of keys in the
//! header.

pub(in crate::auth) mod claims;
pub(in crate::auth) mod compact;
pub(in crate::auth) mod json;
pub(in crate::auth) mod jwks;
mod keyset;
#[cfg(test)]
mod vectors;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use portcullis_core::{
    Caller, CallerKind, Clock, Digest, Limits,
    kind::{Kind, KindError},
};
use url::Url;

use crate::{
    Reach,
    auth::{
        AuthError, Building, Credentials, Introspected, Introspection, Preset, Route, Way,
        cache::DigestCache,
        introspect::Introspector,
        jwt::{
            claims::Times,
            compact::Compact,
            keyset::{KeySource, Readiness},
        },
        possession::{Binding, Possession},
    },
    fetch::is_safe,
};

pub(super) const KIND: Kind<Option<Box<dyn Way>>, Building> = Kind {
    name: "jwt",
    doc: "Signed tokens (JWT) of the configured issuers, in `Authorization: Bearer`.",
    build,
};

/// A signature algorithm that an operator can allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Alg {
    /// ECDSA, P-256, SHA-256.
    Es256,
    /// ECDSA, P-384, SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
    /// HMAC with SHA-256, for a key set in a file only: whoever can verify can also sign.
    Hs256,
    /// RSA-PSS, SHA-256.
    Ps256,
    /// RSA-PSS, SHA-384.
    Ps384,
    /// RSA-PSS, SHA-512.
    Ps512,
    /// RSA PKCS #1 v1.5, SHA-256.
    Rs256,
    /// RSA PKCS #1 v1.5, SHA-384.
    Rs384,
    /// RSA PKCS #1 v1.5, SHA-512.
    Rs512,
}

impl Alg {
    /// Every algorithm.
    pub const ALL: &'static [Self] = &[
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
        Self::Hs256,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
    ];

    /// The name in `alg` members and in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }

    /// The algorithm of that name, written exactly so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|alg| alg.name() == name)
    }
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    /// Where the issuer's own document says (RFC 8414, OpenID Connect Discovery).
    Discovered,
    /// In a file, read at start and again every `jwks_refresh_ms`.
    File(PathBuf),
    /// At an address; `https`, or `http` on this machine.
    Url(Url),
}

/// An issuer whose tokens are accepted.
#[derive(Clone, Debug)]
pub struct JwtIssuer {
    /// The exact `iss`.
    pub issuer: String,
    /// Accepted `aud` values, each exact; empty: the canonical URI of the route that is asked for.
    pub audiences: Vec<String>,
    /// Accepted algorithms.
    pub algorithms: Vec<Alg>,
    /// Where its keys are.
    pub jwks: JwksSource,
    /// The claim that holds roles or groups: a string or a list of strings; `realm_access.roles` reaches into objects
    /// where no claim has that very name.
    pub roles_claim: Option<String>,
    /// Value of the roles claim, or scope, to roles of ours. What is not listed gives no role.
    pub role_map: BTreeMap<String, Vec<String>>,
    /// Roles of every token of this issuer.
    pub default_roles: Vec<String>,
    /// Whether its tokens stand for people or programs.
    pub kind: CallerKind,
    /// Claims that policy may read.
    pub claims: Vec<String>,
    /// Demand `typ: at+jwt` (RFC 9068). Otherwise `JWT` or none will do as well.
    pub require_typ_at_jwt: bool,
    /// How far the issuer's clock may be off.
    pub leeway_s: u64,
    /// Longest time from issue to expiry.
    pub max_lifetime_s: u64,
    /// The provider behind it, where its peculiarities are known.
    pub preset: Option<Preset>,
    /// How it is asked about tokens, where it is.
    pub introspection: Option<Introspection>,
    /// From where its documents may come.
    pub reach: Reach,
}

impl Default for JwtIssuer {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audiences: Vec::new(),
            algorithms: vec![Alg::Es256, Alg::EdDsa, Alg::Rs256],
            jwks: JwksSource::File(PathBuf::new()),
            roles_claim: None,
            role_map: BTreeMap::new(),
            default_roles: Vec::new(),
            kind: CallerKind::User,
            claims: Vec::new(),
            require_typ_at_jwt: false,
            leeway_s: 60,
            max_lifetime_s: 86_400,
            preset: None,
            introspection: None,
            reach: Reach::default(),
        }
    }
}

#[derive(Debug)]
struct Jwt {
    issuers: Vec<Trusted>,
    cache: DigestCache<Remembered>,
    possession: Arc<Possession>,
    clock: Arc<dyn Clock>,
    limits: Limits,
}

/// An issuer and its keys.
#[derive(Debug)]
struct Trusted {
    settings: JwtIssuer,
    keys: Arc<KeySource>,
    /// Asked about each token as well, where the operator wants that.
    introspector: Option<Arc<Introspector>>,
}

/// What is known of a token. Whether it still holds is asked each time.
#[derive(Clone)]
struct Remembered {
    caller: Arc<Caller>,
    audiences: Arc<[String]>,
    times: Times,
    binding: Binding,
    /// Place of the issuer in the list.
    issuer: usize,
    /// Which of the issuer's key sets verified it; another set has to do so anew.
    generation: u64,
}

/// A token that holds on the route, as far as it alone can say.
struct Passed<'w> {
    caller: Arc<Caller>,
    binding: Binding,
    digest: Digest,
    issuer: &'w Trusted,
}

/// What can be said about a token without waiting.
enum Decision<'w> {
    Done(Result<Passed<'w>, AuthError>),
    /// After this issuer's keys were fetched, more can be said.
    Fetch(Arc<KeySource>),
}

fn build(building: &Building) -> Result<Option<Box<dyn Way>>, KindError> {
    let Building { settings, parts, possession, introspectors } = building;
    if settings.issuers.is_empty() {
        return Ok(None);
    }
    let mut issuers: Vec<Trusted> = Vec::new();
    for (issuer, introspector) in settings.issuers.iter().zip(introspectors) {
        check(issuer).map_err(|reason| KindError { name: KIND.name, reason })?;
        if issuers.iter().any(|other| other.settings.issuer == issuer.issuer) {
            let reason = format!("issuer `{}` is configured twice", issuer.issuer);
            return Err(KindError { name: KIND.name, reason });
        }
        let keys = KeySource::open(issuer, parts).map_err(|reason| KindError {
            name: KIND.name,
            reason: format!("issuer `{}`: {reason}", issuer.issuer),
        })?;
        let asked = issuer.introspection.as_ref().is_some_and(|how| how.tokens == Introspected::All);
        let introspector = introspector.clone().filter(|_| asked);
        issuers.push(Trusted { settings: issuer.clone(), keys: Arc::new(keys), introspector });
    }
    Ok(Some(Box::new(Jwt {
        issuers,
        cache: DigestCache::new(parts.limits.token_cache_max),
        possession: Arc::clone(possession),
        clock: Arc::clone(&parts.clock),
        limits: parts.limits.clone(),
    })))
}

/// Refuses settings under which tokens would be confused or keys could be replaced on the way.
fn check(issuer: &JwtIssuer) -> Result<(), String> {
    let name = &issuer.issuer;
    if name.is_empty() || name.len() > 255 || name.contains(|c: char| c.is_control() || c == '#') {
        // `#` parts issuer and subject in a caller's id.
        return Err(format!("`{name}` cannot be an issuer"));
    }
    if issuer.algorithms.is_empty() {
        return Err(format!("issuer `{name}`: no algorithm is allowed"));
    }
    if let Some(objection) = issuer.preset.and_then(|preset| preset.objection(issuer)) {
        return Err(format!("issuer `{name}`: {objection}"));
    }
    let asked = issuer.introspection.as_ref().and_then(|how| how.url.as_ref());
    if let Some(url) = asked.filter(|url| !is_safe(url)) {
        return Err(format!("issuer `{name}`: `{url}` must be https, tokens and a secret are sent there"));
    }
    let url = match &issuer.jwks {
        JwksSource::File(_) => return Ok(()),
        JwksSource::Discovered => None,
        JwksSource::Url(url) => Some(url),
    };
    if issuer.algorithms.contains(&Alg::Hs256) {
        return Err(format!("issuer `{name}`: HS256 needs its key in a file, not at an address"));
    }
    match url.filter(|url| !is_safe(url)) {
        None => Ok(()),
        Some(url) => {
            Err(format!("issuer `{name}`: `{url}` must be https, anybody on the way could replace the keys"))
        }
    }
}

impl Jwt {
    /// Judges with the keys at hand. `waited`: they were just fetched, or could not be.
    fn decide(&self, token: &str, route: &Route, waited: bool) -> Decision<'_> {
        if token.len() as u64 > self.limits.token_bytes_max {
            return Decision::Done(Err(AuthError::invalid("the token exceeds `limits.token_bytes_max`")));
        }
        let digest = Digest::of(token.as_bytes());
        if let Some(known) = self.cache.find(&digest)
            && let Some(decision) = self.decide_known(&known, digest, route)
        {
            return decision;
        }
        match self.decide_new(token, digest, route, waited) {
            Ok(decision) => decision,
            Err(error) => Decision::Done(Err(error)),
        }
    }

    /// Judges a token whose signature was verified before; `None` when that must be done anew.
    fn decide_known(&self, known: &Remembered, digest: Digest, route: &Route) -> Option<Decision<'_>> {
        let issuer = self.issuers.get(known.issuer)?;
        match issuer.keys.ready(route.issuer_down) {
            Readiness::Ready(keys) if keys.generation == known.generation => {}
            Readiness::Ready(_) | Readiness::Unavailable | Readiness::Wait => return None,
        }
        let fits = taken(issuer, route)
            .and_then(|()| known.times.check(self.clock.now(), &issuer.settings))
            .and_then(|()| claims::check_audience(&known.audiences, &issuer.settings, route));
        let passed = Passed { caller: Arc::clone(&known.caller), binding: known.binding, digest, issuer };
        Some(Decision::Done(fits.map(|()| passed)))
    }

    fn decide_new(
        &self,
        token: &str,
        digest: Digest,
        route: &Route,
        waited: bool,
    ) -> Result<Decision<'_>, AuthError> {
        let compact = Compact::parse(token)?;
        let (index, issuer) = self
            .issuers
            .iter()
            .enumerate()
            .find(|(_, issuer)| Some(issuer.settings.issuer.as_str()) == compact.issuer())
            .ok_or(AuthError::invalid("the token is of no configured issuer"))?;
        taken(issuer, route)?;
        if !issuer.settings.algorithms.contains(&compact.alg) {
            return Err(AuthError::invalid("the token's algorithm is not allowed for its issuer"));
        }
        let keys = match issuer.keys.ready(route.issuer_down) {
            Readiness::Ready(keys) => keys,
            Readiness::Wait if !waited => return Ok(Decision::Fetch(Arc::clone(&issuer.keys))),
            Readiness::Wait | Readiness::Unavailable => {
                let name = &issuer.settings.issuer;
                return Err(AuthError::unavailable(format!("the keys of issuer `{name}` cannot be had")));
            }
        };
        let key = match keys.choose(&compact) {
            // The issuer may have a new key; ask, as often as the limit lets us.
            Err(jwks::NoKey::Unknown) if !waited && issuer.keys.may_fetch() => {
                return Ok(Decision::Fetch(Arc::clone(&issuer.keys)));
            }
            other => other.map_err(|reason| AuthError::invalid(reason.text()))?,
        };
        key.verify(&compact)?;
        let accepted = claims::accept(&compact, &issuer.settings, digest, self.clock.now())?;
        claims::check_audience(&accepted.audiences, &issuer.settings, route)?;
        let (caller, binding) = (Arc::new(accepted.caller), accepted.binding);
        self.cache.remember(
            digest,
            Remembered {
                caller: Arc::clone(&caller),
                audiences: accepted.audiences,
                times: accepted.times,
                binding,
                issuer: index,
                generation: keys.generation,
            },
        );
        Ok(Decision::Done(Ok(Passed { caller, binding, digest, issuer })))
    }

    /// The last checks, which are about the request and not the token.
    fn finish(
        &self,
        passed: Passed<'_>,
        credentials: &Credentials<'_>,
        route: &Route,
    ) -> Result<Arc<Caller>, AuthError> {
        let token = credentials.bearer.unwrap_or_default();
        self.possession.check(token, passed.binding, credentials, route)?;
        Ok(passed.caller)
    }
}

/// Whether tokens of the issuer count on the route.
fn taken(issuer: &Trusted, route: &Route) -> Result<(), AuthError> {
    if route.takes(&issuer.settings.issuer) {
        Ok(())
    } else {
        Err(AuthError::invalid("tokens of this issuer do not count on this route"))
    }
}

const REVOKED: AuthError = AuthError {
    code: portcullis_core::Code::AuthInvalid,
    detail: std::borrow::Cow::Borrowed("the issuer says that the token is not active"),
};

#[async_trait]
impl Way for Jwt {
    fn claims(&self, credentials: &Credentials<'_>) -> bool {
        credentials.bearer.is_some()
    }

    fn try_now(
        &self,
        credentials: &Credentials<'_>,
        route: &Route,
    ) -> Option<Result<Arc<Caller>, AuthError>> {
        let passed = match self.decide(credentials.bearer.unwrap_or_default(), route, false) {
            Decision::Done(Ok(passed)) => passed,
            Decision::Done(Err(error)) => return Some(Err(error)),
            Decision::Fetch(_) => return None,
        };
        if let Some(introspector) = &passed.issuer.introspector
            && introspector.known(&passed.digest)?.is_none()
        {
            return Some(Err(REVOKED));
        }
        Some(self.finish(passed, credentials, route))
    }

    async fn judge(&self, credentials: &Credentials<'_>, route: &Route) -> Result<Arc<Caller>, AuthError> {
        let token = credentials.bearer.unwrap_or_default();
        let mut decision = self.decide(token, route, false);
        for last in [false, true] {
            let Decision::Fetch(keys) = decision else { break };
            let newest = keys.fetch_and_wait().await;
            decision = self.decide(token, route, newest || last);
        }
        let passed = match decision {
            Decision::Done(outcome) => outcome?,
            Decision::Fetch(_) => return Err(AuthError::unavailable("the issuer's keys cannot be had")),
        };
        if let Some(introspector) = &passed.issuer.introspector
            && introspector.ask(token, passed.digest).await?.is_none()
        {
            return Err(REVOKED);
        }
        self.finish(passed, credentials, route)
    }

    fn forget(&self) {
        self.cache.clear();
        for introspector in self.issuers.iter().filter_map(|issuer| issuer.introspector.as_ref()) {
            introspector.forget();
        }
    }
}
