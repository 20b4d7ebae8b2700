//! Authentication: a credential becomes a [`Caller`], or a refusal that tells its bearer nothing. Each way of
//! proving who one is lives in one file; the catalogue below is the list of them.

use std::{borrow::Cow, fmt, sync::Arc};

use async_trait::async_trait;
use portcullis_core::{
    Caller, Clock, Code, Limits, Refusal, Secret,
    kind::{Kind, KindError, build_all},
};
use portcullis_net::tls::PeerCertificate;
use portcullis_store::Keys;

mod cache;
mod discovery;
mod dpop;
mod introspect;
mod metadata;
mod possession;
mod preset;
mod route;

portcullis_core::catalog! {
    /// Every way to prove who one is, in the order in which they are asked whether a credential is theirs.
    pub CATALOG: [Kind<Option<Box<dyn Way>>, Building>] = api_key, opaque, jwt, certificate
}

pub use api_key::{key_holder, new_api_key};
pub use certificate::{CertificateName, CertificateRule, NamePattern};
pub use dpop::ProofMemory;
pub use introspect::{Introspected, Introspection};
pub use jwt::{Alg, JwksSource, JwtIssuer};
pub use metadata::{Challenge, metadata, metadata_url};
pub use opaque::is_ambiguous;
pub use preset::Preset;
pub use route::{Bound, IssuerDown, Route};

use self::{dpop::Proofs, introspect::Introspector, possession::Possession};

/// What a request presents. Borrowed: it is read once and kept nowhere.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// What follows `Bearer ` or `DPoP ` in the Authorization header.
    pub bearer: Option<&'a str>,
    /// Whether it followed `DPoP `.
    pub dpop_scheme: bool,
    /// The one DPoP header.
    pub dpop: Option<&'a str>,
    /// The proof was judged when the stream was opened that is judged again now.
    pub dpop_proven: bool,
    /// The HTTP method, which a DPoP proof names.
    pub method: &'a str,
    /// The X-API-Key header.
    pub api_key: Option<&'a str>,
    /// The certificate that the client has shown when the connection was made.
    pub certificate: Option<&'a PeerCertificate>,
}

/// Says what was presented, not its value.
impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("bearer", &self.bearer.map(|_| "****"))
            .field("api_key", &self.api_key.map(|_| "****"))
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// Which ways are open.
#[derive(Clone, Debug, Default)]
pub struct AuthSettings {
    /// Accept API keys of ours.
    pub api_keys: bool,
    /// Accept tokens of these issuers.
    pub issuers: Vec<JwtIssuer>,
    /// Take client certificates for these callers.
    pub certificates: Vec<CertificateRule>,
    /// Demand a nonce of ours in every DPoP proof.
    pub dpop_nonces: bool,
    /// Roles of whoever presents nothing; `None`: presenting nothing is refused.
    pub anonymous_roles: Option<Vec<String>>,
}

/// What authentication works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The API keys.
    pub keys: Arc<dyn Keys>,
    /// The key under which API keys are hashed; nothing while the keys of the store are not open.
    pub pepper: Option<Secret<Vec<u8>>>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// The proofs of possession that were seen; the same one after every reload.
    pub proofs: Arc<ProofMemory>,
    /// Sizes and times.
    pub limits: Limits,
}

/// What a way is built from.
#[derive(Debug)]
pub struct Building {
    /// Which ways are open.
    pub settings: AuthSettings,
    /// What they work with.
    pub parts: Parts,
    /// Judges what tokens are bound to.
    possession: Arc<Possession>,
    /// Asks each issuer about tokens, where that is configured.
    introspectors: Vec<Option<Arc<Introspector>>>,
}

/// A credential that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.name())]
pub struct AuthError {
    /// `auth.missing`, `auth.invalid`, `auth.proof`, `auth.nonce` or `auth.unavailable`.
    pub code: Code,
    /// Why, for log and ledger. Never holds the credential or a part of it.
    pub detail: Cow<'static, str>,
}

impl AuthError {
    pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Code::AuthInvalid, detail: detail.into() }
    }

    pub(crate) fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Code::AuthUnavailable, detail: detail.into() }
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        Self::new(error.code, error.detail)
    }
}

/// One way to prove who one is.
#[async_trait]
pub trait Way: Send + Sync + fmt::Debug {
    /// Whether the credential is of this way's form, right or wrong. At most one way is asked to judge.
    fn claims(&self, credentials: &Credentials<'_>) -> bool;

    /// Judges without waiting; `None` when that takes a wait.
    fn try_now(&self, credentials: &Credentials<'_>, route: &Route)
    -> Option<Result<Arc<Caller>, AuthError>>;

    /// Judges, waiting where it must.
    async fn judge(&self, credentials: &Credentials<'_>, route: &Route) -> Result<Arc<Caller>, AuthError>;

    /// Forgets whatever was verified before.
    fn forget(&self);
}

/// Turns credentials into callers.
#[derive(Debug)]
pub struct Authenticator {
    ways: Vec<Box<dyn Way>>,
    anonymous: Option<Arc<Caller>>,
    possession: Option<Arc<Possession>>,
}

impl Authenticator {
    /// Opens the ways that the settings name. Reads key sets that are files; fetches nothing yet.
    ///
    /// # Errors
    /// Settings that cannot work, with the reason.
    pub fn new(settings: AuthSettings, parts: Parts) -> Result<Self, KindError> {
        let anonymous = settings.anonymous_roles.clone().map(|mut roles| {
            roles.sort();
            roles.dedup();
            Arc::new(Caller::anonymous(roles.into()))
        });
        let proofs = Proofs::new(&parts, settings.dpop_nonces);
        let possession = Arc::new(Possession { proofs, clock: Arc::clone(&parts.clock) });
        let introspectors = settings.issuers.iter().map(|issuer| Introspector::open(issuer, &parts));
        let introspectors = introspectors
            .collect::<Result<_, _>>()
            .map_err(|reason| KindError { name: "introspection", reason })?;
        let building = Building { settings, parts, possession: Arc::clone(&possession), introspectors };
        let ways = build_all(CATALOG, &building)?.into_iter().flatten().collect();
        Ok(Self { ways, anonymous, possession: Some(possession) })
    }

    /// Takes whoever presents nothing for `caller`, and nobody else: for a gateway without a listener, which only the
    /// programs of one user can reach.
    #[must_use]
    pub fn local(caller: Arc<Caller>) -> Self {
        Self { ways: Vec::new(), anonymous: Some(caller), possession: None }
    }

    /// The caller behind the credentials, if that can be said at once: always for API keys, certificates and known tokens.
    pub fn try_now(
        &self,
        credentials: &Credentials<'_>,
        route: &Route,
    ) -> Option<Result<Arc<Caller>, AuthError>> {
        match self.way(credentials) {
            Ok(Some(way)) => way.try_now(credentials, route),
            Ok(None) => Some(self.nobody(route)),
            Err(error) => Some(Err(error)),
        }
    }

    /// The caller behind the credentials.
    ///
    /// # Errors
    /// [`AuthError`] with `auth.missing`, `auth.invalid`, `auth.proof`, `auth.nonce` or, when an issuer's keys cannot be had
    /// or it cannot be asked, `auth.unavailable`.
    pub async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        route: &Route,
    ) -> Result<Arc<Caller>, AuthError> {
        match self.way(credentials)? {
            Some(way) => way.judge(credentials, route).await,
            None => self.nobody(route),
        }
    }

    /// A nonce for the next DPoP proof, where they are demanded.
    #[must_use]
    pub fn dpop_nonce(&self) -> Option<String> {
        self.possession.as_ref()?.proofs.nonce()
    }

    /// Forgets every credential verified before; each is verified anew.
    pub fn forget(&self) {
        for way in &self.ways {
            way.forget();
        }
    }

    /// The way that has to judge; `None` when nothing was presented.
    fn way(&self, credentials: &Credentials<'_>) -> Result<Option<&dyn Way>, AuthError> {
        // Whatever else is presented: a connection can outlive the certificate that it was made with.
        if let (Some(shown), Some(possession)) = (credentials.certificate, &self.possession) {
            shown.check(possession.clock.now()).map_err(AuthError::invalid)?;
        }
        match (credentials.bearer, credentials.api_key) {
            (None, None) => {
                return Ok(self.ways.iter().find(|way| way.claims(credentials)).map(AsRef::as_ref));
            }
            // Which of the two would count is a guess that parts along the way may make differently.
            (Some(_), Some(_)) => return Err(AuthError::invalid("two credentials were presented")),
            (Some(_), None) | (None, Some(_)) => {}
        }
        match self.ways.iter().find(|way| way.claims(credentials)) {
            Some(way) => Ok(Some(way.as_ref())),
            None => Err(AuthError::invalid("no configured way of authentication takes this credential")),
        }
    }

    /// Whoever presented nothing. A credential that is presented and wrong never comes here.
    fn nobody(&self, route: &Route) -> Result<Arc<Caller>, AuthError> {
        self.anonymous.clone().filter(|_| route.bound == Bound::Any).ok_or(AuthError {
            code: Code::AuthMissing,
            detail: Cow::Borrowed("no credential was presented"),
        })
    }
}
