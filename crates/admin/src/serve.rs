//! The listener of the admin API: loopback only, every request judged before it is read (host, origin, token), every
//! refusal recorded.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Method, Request, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use portcullis_approve::Signature;
use portcullis_core::{Digest, Event};
use portcullis_net::{
    body::{BodyError, read_bounded},
    listen::{Bound, ListenOptions, PeerInfo},
};
use portcullis_proof::Entry;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;
use tower_service::Service as _;

use crate::{
    api::{Access, Api, By, Control, ENDPOINTS, Endpoint, Input, Reply},
    parts::AdminParts,
    problem::Problem,
};

/// Bytes of one request body.
const BODY_BYTES_MAX: usize = 262_144;
/// Time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Refusals recorded per second; the rest is only counted, so that a local program cannot fill the ledger.
const REFUSALS_PER_S_MAX: u64 = 10;

/// What every request is judged with.
struct Gate {
    api: Arc<dyn Api>,
    parts: AdminParts,
    token: Digest,
    /// The second of the last recorded refusal times 1000, plus how many there were in it.
    refusals: AtomicU64,
}

/// The routes over `parts`, for tests and for [`serve`].
pub fn router(parts: AdminParts) -> Router {
    let token = Digest::of(parts.token.expose().as_bytes());
    let api: Arc<dyn Api> = Arc::new(Control::new(parts.clone()));
    let gate = Arc::new(Gate { api, parts, token, refusals: AtomicU64::new(0) });
    let mut paths: BTreeMap<&str, Vec<&'static Endpoint>> = BTreeMap::new();
    for endpoint in ENDPOINTS {
        paths.entry(endpoint.path).or_default().push(endpoint);
    }
    let mut router = Router::new();
    for (path, endpoints) in paths {
        let gate = Arc::clone(&gate);
        let prefix = path.split_once('{').map_or("", |(prefix, _)| prefix);
        router = router.route(
            path,
            axum::routing::any(move |request: Request<Body>| {
                let gate = Arc::clone(&gate);
                let endpoint =
                    endpoints.iter().copied().find(|endpoint| endpoint.method == request.method().as_str());
                let missing = if endpoint.is_some() { None } else { Some(Problem::MethodNotAllowed) };
                async move { gate.answer(endpoint, missing, prefix, request).await }
            }),
        );
    }
    router.fallback(move |request: Request<Body>| {
        let gate = Arc::clone(&gate);
        let missing = Some(Problem::NotFound(String::from("there is nothing here")));
        async move { gate.answer(None, missing, "", request).await }
    })
}

/// Serves the admin API on `bound` until `shutdown`.
pub async fn serve(bound: Bound, parts: AdminParts, shutdown: watch::Receiver<bool>) {
    let options = ListenOptions::new(None, &parts.limits);
    let router = router(parts);
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let mut router = router.clone();
        async move { router.call(request.map(Body::new)).await }
    });
    portcullis_net::listen::serve(bound, options, service, shutdown, Duration::from_secs(2)).await;
}

impl Gate {
    async fn answer(
        &self,
        endpoint: Option<&'static Endpoint>,
        missing: Option<Problem>,
        prefix: &str,
        request: Request<Body>,
    ) -> Response {
        let (head, body) = request.into_parts();
        let peer = head.extensions.get::<PeerInfo>().map(|peer| peer.addr);
        let access = endpoint.map_or(Access::Token, |endpoint| endpoint.access);
        let by = match self.admit(access, &head.headers, &head.uri) {
            Ok(by) => by,
            Err(problem) => {
                self.record_refusal(&problem, &head.method, head.uri.path(), peer).await;
                return no(&problem);
            }
        };
        let (Some(endpoint), None) = (endpoint, missing.as_ref()) else {
            return no(&missing.unwrap_or(Problem::MethodNotAllowed));
        };
        let body = match read(endpoint, &head.headers, body).await {
            Ok(body) => body,
            Err(problem) => return no(&problem),
        };
        let path = match decode(head.uri.path().strip_prefix(prefix).unwrap_or_default()) {
            Some(path) => path,
            None => {
                return no(&Problem::invalid("the path is not valid", "encode it as UTF-8 percent escapes"));
            }
        };
        let (query, signature) = (head.uri.query().unwrap_or_default().to_owned(), signature(&head.headers));
        let input = Input { path, query, body, by, signature };
        match (endpoint.call)(Arc::clone(&self.api), input).await {
            Ok(reply) => yes(reply),
            Err(problem) => {
                if matches!(problem, Problem::Signature(_) | Problem::NotAllowed(_)) {
                    self.record_refusal(&problem, &head.method, head.uri.path(), peer).await;
                }
                no(&problem)
            }
        }
    }

    /// Before anything is read: a web page that found the port must get nowhere, nor a program without the token.
    fn admit(&self, access: Access, headers: &HeaderMap, uri: &Uri) -> Result<By, Problem> {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .or(uri.authority().map(|a| a.as_str()));
        if headers.get_all(header::HOST).iter().count() > 1 || !host.is_some_and(is_loopback_host) {
            return Err(Problem::Forbidden(String::from("this host name is not served here")));
        }
        if headers.contains_key(header::ORIGIN) {
            return Err(Problem::Forbidden(String::from("web pages may not use the admin API")));
        }
        match access {
            Access::Open | Access::Signed => Ok(None),
            Access::Metrics if self.parts.metrics_public => Ok(None),
            Access::Metrics | Access::Token => self.check_token(presented(headers)).map(|()| None),
            Access::Key => {
                let presented = presented(headers);
                self.check_token(presented).map(|()| None).or_else(|wrong| {
                    presented.and_then(|text| (self.parts.holder)(text)).map(Some).ok_or(wrong)
                })
            }
        }
    }

    fn check_token(&self, presented: Option<&str>) -> Result<(), Problem> {
        // Digests are compared, in constant time: neither length nor prefix of the token shows in the timing.
        let digest = Digest::of(presented.unwrap_or_default().as_bytes());
        let same = bool::from(digest.0.ct_eq(&self.token.0));
        if same && presented.is_some_and(|token| !token.is_empty()) {
            Ok(())
        } else {
            Err(Problem::Unauthorized)
        }
    }

    async fn record_refusal(&self, problem: &Problem, method: &Method, path: &str, peer: Option<SocketAddr>) {
        let path: String = path.chars().take(128).collect();
        tracing::warn!(target: "admin", code = problem.code(), %method, path, "admin request refused");
        if !self.may_record() {
            return;
        }
        let mut entry = Entry::new(Event::AdminRefused, self.parts.clock.now(), &self.parts.info.instance);
        entry.data = BTreeMap::from([
            ("code", json!(problem.code())),
            ("method", json!(method.as_str())),
            ("path", json!(path)),
        ]);
        entry.source = peer.map(|peer| peer.ip());
        entry.status = Some(problem.status());
        // The request is refused whether or not that can be recorded.
        if let Err(error) = self.parts.ledger.append(entry.to_jcs()).await {
            tracing::error!(target: "admin", %error, "a refusal could not be recorded");
        }
    }

    fn may_record(&self) -> bool {
        let second = self.parts.clock.ticks_us() / 1_000_000;
        let counted = self.refusals.fetch_update(Ordering::AcqRel, Ordering::Acquire, |seen| {
            let count = if seen / 1_000 == second { seen % 1_000 } else { 0 };
            (count < REFUSALS_PER_S_MAX).then_some(second * 1_000 + count + 1)
        });
        counted.is_ok()
    }
}

/// The headers of a signed message; what is there twice is not there.
fn signature(headers: &HeaderMap) -> Signature {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return String::new() };
        value.to_str().unwrap_or_default().to_owned()
    };
    Signature {
        id: one("webhook-id"),
        timestamp: one("webhook-timestamp"),
        signature: one("webhook-signature"),
    }
}

/// The one bearer credential.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Whether a Host header names this machine's own loopback.
fn is_loopback_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name.to_ascii_lowercase().as_str(), "localhost" | "[::1]")
        || name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

async fn read(endpoint: &Endpoint, headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Problem> {
    if endpoint.body.is_none() {
        return Ok(Vec::new());
    }
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        return Err(Problem::MediaType);
    }
    match read_bounded(body, BODY_BYTES_MAX, BODY_TIMEOUT).await {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(BodyError::TooLarge { .. }) => Err(Problem::TooLarge(BODY_BYTES_MAX)),
        Err(error) => Err(Problem::invalid(format!("the body cannot be read: {error}"), "send it again")),
    }
}

/// Percent escapes undone; `None` when that is not UTF-8.
fn decode(path: &str) -> Option<String> {
    let mut bytes = path.bytes();
    let mut out = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

fn yes(reply: Reply) -> Response {
    match reply {
        Reply::Json(value) => reply_json(200, &value),
        Reply::Status(status, value) => reply_json(status, &value),
        Reply::Text(text) => {
            // What the metrics are encoded as; the only text there is.
            let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, openmetrics)], text).into_response()
        }
    }
}

fn no(problem: &Problem) -> Response {
    reply_json(problem.status(), &json!(problem.body()))
}

fn reply_json(status: u16, value: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, headers, Bytes::from(value.to_string())).into_response()
}
