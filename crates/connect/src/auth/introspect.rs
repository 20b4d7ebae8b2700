//! Asking an issuer about a token (RFC 7662). The answer counts for `cache_s`, which is zero unless the operator says
//! otherwise: then a revocation takes effect with the next request. While the issuer cannot be asked, its tokens are
//! refused; there is no other choice.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use portcullis_core::{Clock, Digest, Limits, Secret};
use portcullis_net::client::{HttpUpstream, UpstreamOptions};
use serde_json::{Map, Value};
use tokio::{sync::Semaphore, time::timeout};
use url::{Url, form_urlencoded};

use crate::{
    Reach,
    auth::{
        AuthError, Parts,
        cache::DigestCache,
        discovery::{discover, discoverable},
        jwt::{JwtIssuer, json},
    },
    fetch::is_local,
};

/// About which tokens the issuer is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Introspected {
    /// Those that are no JWT: nothing else can be known about them.
    Opaque,
    /// All of its tokens; a JWT is verified here as well.
    All,
}

/// How an issuer is asked about tokens.
#[derive(Clone, Debug)]
pub struct Introspection {
    /// Where; `None`: where the issuer's own document says.
    pub url: Option<Url>,
    /// Who asks.
    pub client_id: String,
    /// The secret that goes with it.
    pub client_secret: Secret<String>,
    /// How long an answer counts, in seconds.
    pub cache_s: u64,
    /// About which tokens.
    pub tokens: Introspected,
}

/// What the issuer said: the claims of an active token; `None`: it is not active.
pub(in crate::auth) type Answer = Option<Arc<Map<String, Value>>>;

/// Asks one issuer.
pub(in crate::auth) struct Introspector {
    issuer: String,
    settings: Introspection,
    reach: Reach,
    clock: Arc<dyn Clock>,
    limits: Limits,
    peer: tokio::sync::Mutex<Option<Peer>>,
    places: Semaphore,
    /// Answers, and until when each counts.
    answers: DigestCache<(Answer, u64)>,
}

/// Where to ask, and since when that is known.
struct Peer {
    upstream: Result<HttpUpstream, String>,
    since_us: u64,
}

impl Introspector {
    /// For the issuers that are to be asked.
    pub(in crate::auth) fn open(issuer: &JwtIssuer, parts: &Parts) -> Result<Option<Arc<Self>>, String> {
        let Some(settings) = issuer.introspection.clone() else { return Ok(None) };
        if settings.url.is_none() {
            discoverable(&issuer.issuer)?;
        }
        let limits = parts.limits.clone();
        Ok(Some(Arc::new(Self {
            issuer: issuer.issuer.clone(),
            settings,
            reach: issuer.reach.clone(),
            clock: Arc::clone(&parts.clock),
            peer: tokio::sync::Mutex::default(),
            places: Semaphore::new(usize::try_from(limits.introspections_max).unwrap_or(64)),
            answers: DigestCache::new(limits.token_cache_max),
            limits,
        })))
    }

    /// An answer that still counts.
    pub(in crate::auth) fn known(&self, token: &Digest) -> Option<Answer> {
        let (answer, until_us) = self.answers.find(token)?;
        (self.clock.ticks_us() < until_us).then_some(answer)
    }

    /// Asks, unless an answer still counts.
    pub(in crate::auth) async fn ask(&self, text: &str, token: Digest) -> Result<Answer, AuthError> {
        if let Some(known) = self.known(&token) {
            return Ok(known);
        }
        let limit = Duration::from_millis(self.limits.introspection_timeout_ms);
        let asked_us = self.clock.ticks_us();
        let outcome = timeout(limit, self.exchange(text, limit)).await;
        match outcome.unwrap_or_else(|_late| Err("no answer in time".into())) {
            Ok(answer) => {
                let until_us = asked_us.saturating_add(self.settings.cache_s.saturating_mul(1_000_000));
                if self.settings.cache_s > 0 {
                    self.answers.remember(token, (answer.clone(), until_us));
                }
                Ok(answer)
            }
            Err(reason) => {
                let name = &self.issuer;
                tracing::warn!(issuer = name, reason, "the issuer cannot be asked about a token");
                Err(AuthError::unavailable(format!("issuer `{name}` cannot be asked about the token")))
            }
        }
    }

    pub(in crate::auth) fn forget(&self) {
        self.answers.clear();
    }

    async fn exchange(&self, text: &str, limit: Duration) -> Result<Answer, String> {
        // Who sends made-up tokens must not have us flood the issuer.
        let _place = self.places.acquire().await.map_err(|error| error.to_string())?;
        let upstream = self.upstream().await?;
        let request = self.request(text)?;
        let bytes_max = usize::try_from(self.limits.introspection_bytes_max).unwrap_or(usize::MAX);
        let (status, body) =
            upstream.fetch(request, bytes_max, limit).await.map_err(|error| error.to_string())?;
        if status != StatusCode::OK {
            return Err(format!("it answered `{status}`"));
        }
        let mut claims = json::object(&body).ok_or("its answer is not a JSON object of unique names")?;
        match claims.remove("active") {
            Some(Value::Bool(true)) => Ok(Some(Arc::new(claims))),
            Some(Value::Bool(false)) => Ok(None),
            _ => Err("its answer does not say whether the token is active".into()),
        }
    }

    fn request(&self, text: &str) -> Result<Request<Full<Bytes>>, String> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("token", text).append_pair("token_type_hint", "access_token");
        let mut request = Request::new(Full::new(Bytes::from(form.finish())));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(header::AUTHORIZATION, self.authorization()?);
        Ok(request)
    }

    /// `client_secret_basic`, both parts encoded as RFC 6749 section 2.3.1 asks.
    fn authorization(&self) -> Result<HeaderValue, String> {
        let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let Introspection { client_id, client_secret, .. } = &self.settings;
        let pair = Secret::new(format!("{}:{}", encode(client_id), encode(client_secret.expose())));
        let value = Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())));
        let mut value = HeaderValue::try_from(value.expose()).map_err(|error| error.to_string())?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Where to ask. What the issuer's document says is looked up again as often as its keys are.
    async fn upstream(&self) -> Result<HttpUpstream, String> {
        let mut peer = self.peer.lock().await;
        let now_us = self.clock.ticks_us();
        if let Some(Peer { upstream, since_us }) = &*peer {
            let age_us = now_us.saturating_sub(*since_us);
            let good_ms =
                if upstream.is_ok() { self.limits.jwks_refresh_ms } else { self.limits.jwks_min_refresh_ms };
            if age_us < good_ms.saturating_mul(1000) || (upstream.is_ok() && self.settings.url.is_some()) {
                return upstream.clone();
            }
        }
        // Whoever looks may be cut off by the time that it may take: the next must not begin at once.
        *peer = Some(Peer {
            upstream: Err("where to ask was looked for without success".into()),
            since_us: now_us,
        });
        let upstream = self.find().await;
        *peer = Some(Peer { upstream: upstream.clone(), since_us: now_us });
        upstream
    }

    async fn find(&self) -> Result<HttpUpstream, String> {
        let (url, local) = match &self.settings.url {
            Some(url) => (url.clone(), is_local(url)),
            None => {
                let (bytes_max, timeout_ms) = (self.limits.jwks_bytes_max, self.limits.jwks_timeout_ms);
                let found = discover(&self.issuer, &self.reach, bytes_max, timeout_ms).await?;
                let url = found.introspection.ok_or("the issuer's document names no place to ask")?;
                (url, is_local(&discoverable(&self.issuer)?))
            }
        };
        let mut options = UpstreamOptions::new(self.reach.egress(local), &self.limits);
        options.tls.roots_pem.clone_from(&self.reach.roots_pem);
        options.first_byte_timeout = Duration::from_millis(self.limits.introspection_timeout_ms);
        HttpUpstream::new(&url, &options).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for Introspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspector").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
