//! Tokens that only their issuer can read: it is asked about each (RFC 7662).

use std::sync::Arc;

use async_trait::async_trait;
use portcullis_core::{
    Caller, Clock, Digest,
    kind::{Kind, KindError},
};

use crate::auth::{
    AuthError, Building, Credentials, Route, Way,
    introspect::{Answer, Introspector},
    jwt::{JwtIssuer, claims},
    possession::Possession,
};

pub(super) const KIND: Kind<Option<Box<dyn Way>>, Building> = Kind {
    name: "opaque",
    doc: "Tokens that are no JWT, by asking their issuer, in `Authorization: Bearer` or `DPoP`.",
    build,
};

#[derive(Debug)]
struct Opaque {
    issuers: Vec<(JwtIssuer, Arc<Introspector>)>,
    possession: Arc<Possession>,
    clock: Arc<dyn Clock>,
    token_bytes_max: u64,
}

fn build(building: &Building) -> Result<Option<Box<dyn Way>>, KindError> {
    let issuers = building.settings.issuers.iter().zip(&building.introspectors);
    let issuers: Vec<_> = issuers
        .filter_map(|(issuer, introspector)| Some((issuer.clone(), Arc::clone(introspector.as_ref()?))))
        .collect();
    if issuers.is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::new(Opaque {
        issuers,
        possession: Arc::clone(&building.possession),
        clock: Arc::clone(&building.parts.clock),
        token_bytes_max: building.parts.limits.token_bytes_max,
    })))
}

/// Whether the text is of the form of a JWT, right or wrong: its first segment starts as a JSON object does in base64.
fn is_jwt(text: &str) -> bool {
    text.contains('.') && (text.starts_with("ey") || text.starts_with("ew"))
}

/// Whether more than one issuer would have to be asked about an opaque token on `route`: such a token does not say whose
/// it is, and must not be shown to an issuer that did not make it.
#[must_use]
pub fn is_ambiguous(issuers: &[JwtIssuer], route: &Route) -> bool {
    issuers.iter().filter(|one| one.introspection.is_some() && route.takes(&one.issuer)).count() > 1
}

impl Opaque {
    /// The one issuer that can know the token.
    fn asked(&self, text: &str, route: &Route) -> Result<&(JwtIssuer, Arc<Introspector>), AuthError> {
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() as u64 > self.token_bytes_max || !printable {
            return Err(AuthError::invalid("the token is empty, too long or not printable"));
        }
        let mut here = self.issuers.iter().filter(|(issuer, _)| route.takes(&issuer.issuer));
        match (here.next(), here.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err(AuthError::invalid("no issuer of this route can be asked about the token")),
            (Some(_), Some(_)) => Err(AuthError::invalid("more than one issuer could have made the token")),
        }
    }

    fn decide(
        &self,
        text: &str,
        digest: Digest,
        issuer: &JwtIssuer,
        answer: Answer,
        (credentials, route): (&Credentials<'_>, &Route),
    ) -> Result<Arc<Caller>, AuthError> {
        let claims = answer.ok_or(AuthError::invalid("the issuer says that the token is not active"))?;
        let accepted = claims::accept_introspected(&claims, issuer, digest, self.clock.now())?;
        claims::check_audience(&accepted.audiences, issuer, route)?;
        self.possession.check(text, accepted.binding, credentials, route)?;
        Ok(Arc::new(accepted.caller))
    }
}

#[async_trait]
impl Way for Opaque {
    fn claims(&self, credentials: &Credentials<'_>) -> bool {
        credentials.bearer.is_some_and(|text| !is_jwt(text))
    }

    fn try_now(
        &self,
        credentials: &Credentials<'_>,
        route: &Route,
    ) -> Option<Result<Arc<Caller>, AuthError>> {
        let text = credentials.bearer.unwrap_or_default();
        let (issuer, introspector) = match self.asked(text, route) {
            Ok(asked) => asked,
            Err(error) => return Some(Err(error)),
        };
        let digest = Digest::of(text.as_bytes());
        let answer = introspector.known(&digest)?;
        Some(self.decide(text, digest, issuer, answer, (credentials, route)))
    }

    async fn judge(&self, credentials: &Credentials<'_>, route: &Route) -> Result<Arc<Caller>, AuthError> {
        let text = credentials.bearer.unwrap_or_default();
        let (issuer, introspector) = self.asked(text, route)?;
        let digest = Digest::of(text.as_bytes());
        let answer = introspector.ask(text, digest).await?;
        self.decide(text, digest, issuer, answer, (credentials, route))
    }

    fn forget(&self) {
        for (_, introspector) in &self.issuers {
            introspector.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_jwt;

    #[test]
    fn a_jwt_is_known_by_its_form_and_never_sent_to_anybody() {
        for text in ["eyJhbGciOiJub25lIn0.e30.", "ewogfQ.a.b", "eyAi.x", "eyJ.", "eyJ.a.b.c.d"] {
            assert!(is_jwt(text), "{text}");
        }
        for text in ["ya29.a0Af_x", "n7Xy0Z", "eyJnodots", "", "pcl.x"] {
            assert!(!is_jwt(text), "{text}");
        }
    }
}
