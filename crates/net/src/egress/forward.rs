//! One request of a child to the proxy: `CONNECT` becomes a tunnel, `http://…` is passed on.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit};
use url::Url;

use super::{Grant, Shared, allow};
use crate::{
    client::{ConnectError, dial},
    guard::{self, EgressPolicy},
};

type Reply = Response<Either<Incoming, Full<Bytes>>>;

/// Fields that concern one connection, not the exchange.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What a connection holds of both limits while it is open.
type Slots = (Arc<OwnedSemaphorePermit>, OwnedSemaphorePermit);

/// Answers one request. Who is not known, or asks for what it may not reach, learns that and nothing else.
pub(super) async fn answer(
    mut request: Request<Incoming>,
    shared: Arc<Shared>,
    slot: Arc<OwnedSemaphorePermit>,
) -> Result<Reply, Infallible> {
    let Some(grant) = shared.grant(request.headers().get(header::PROXY_AUTHORIZATION)) else {
        let mut reply = refusal(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "a credential is required");
        let basic = HeaderValue::from_static("Basic realm=\"portcullis\"");
        reply.headers_mut().insert(header::PROXY_AUTHENTICATE, basic);
        return Ok(reply);
    };
    let Ok(own) = Arc::clone(&grant.slots).try_acquire_owned() else {
        return Ok(refusal(StatusCode::TOO_MANY_REQUESTS, "too many connections"));
    };
    let slots = (slot, own);
    let tunnel = request.method() == Method::CONNECT;
    let Some((host, port)) = destination(request.uri(), tunnel) else {
        return Ok(refusal(StatusCode::BAD_REQUEST, "send CONNECT host:port, or GET http://host/…"));
    };
    let stream = match open(&grant, &shared, &host, port).await {
        Ok(stream) => stream,
        Err(reply) => return Ok(*reply),
    };
    if tunnel {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(carry(upgrade, stream, grant, slots));
        return Ok(Response::new(Either::Right(Full::default())));
    }
    Ok(pass_on(request, stream, grant, slots).await)
}

fn destination(uri: &Uri, tunnel: bool) -> Option<(String, u16)> {
    let (host, port) = allow::target(uri.authority()?.as_str())?;
    match (tunnel, uri.scheme_str(), port) {
        (true, None, Some(port)) => Some((host, port)),
        (false, Some("http"), port) => Some((host, port.unwrap_or(80))),
        (true | false, _, _) => None,
    }
}

/// Connects, if the list says so and the guard agrees.
async fn open(grant: &Grant, shared: &Shared, host: &str, port: u16) -> Result<TcpStream, Box<Reply>> {
    let name = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let refused = |reason: &str| {
        grant.refused(&name, reason);
        Box::new(refusal(StatusCode::FORBIDDEN, "this host is not allowed"))
    };
    let policies: Vec<EgressPolicy> =
        grant.hosts.iter().filter_map(|entry| entry.covers(host, port)).collect();
    let Some(policy) = policies.into_iter().reduce(either) else {
        return Err(refused("not on the list of allowed hosts"));
    };
    let url = Url::parse(&format!("http://{name}/")).map_err(|_error| refused("not a host"))?;
    guard::check_url(&url, &policy).map_err(|error| refused(&error.to_string()))?;
    match dial(&*shared.resolver, &policy, host, port, shared.connect_timeout).await {
        Ok(stream) => Ok(stream),
        Err(ConnectError::Guard(error)) => Err(refused(&error.to_string())),
        Err(ConnectError::Io(_) | ConnectError::Tls(_)) => {
            Err(Box::new(refusal(StatusCode::BAD_GATEWAY, "the host cannot be reached")))
        }
        Err(ConnectError::Timeout) => {
            Err(Box::new(refusal(StatusCode::GATEWAY_TIMEOUT, "connecting took too long")))
        }
    }
}

/// Two entries about one host allow what either allows.
fn either(one: EgressPolicy, other: EgressPolicy) -> EgressPolicy {
    EgressPolicy {
        allow_http: one.allow_http || other.allow_http,
        allow_loopback: one.allow_loopback || other.allow_loopback,
        allow_private: one.allow_private || other.allow_private,
        allow_metadata: false,
    }
}

fn refusal(status: StatusCode, words: &'static str) -> Reply {
    let mut reply = Response::new(Either::Right(Full::from(words)));
    *reply.status_mut() = status;
    reply
}

/// Carries bytes both ways until one side ends, or the child does.
async fn carry(upgrade: hyper::upgrade::OnUpgrade, mut stream: TcpStream, grant: Arc<Grant>, slots: Slots) {
    let mut over = grant.over.clone();
    let both = async {
        let mut inner = TokioIo::new(upgrade.await.ok()?);
        tokio::io::copy_bidirectional(&mut inner, &mut stream).await.ok()
    };
    tokio::select! {
        _ = over.changed() => {}
        _ = both => {}
    }
    drop(slots);
}

async fn pass_on(request: Request<Incoming>, stream: TcpStream, grant: Arc<Grant>, slots: Slots) -> Reply {
    let broken = |_error: hyper::Error| refusal(StatusCode::BAD_GATEWAY, "the exchange failed");
    let (mut sender, connection) = match hyper::client::conn::http1::handshake(TokioIo::new(stream)).await {
        Ok(opened) => opened,
        Err(error) => return broken(error),
    };
    let mut over = grant.over.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = over.changed() => {}
            _ = connection => {}
        }
        drop(slots);
    });
    let Some(request) = as_seen_by_the_server(request) else {
        return refusal(StatusCode::BAD_REQUEST, "not a request");
    };
    match sender.send_request(request).await {
        Ok(mut response) => {
            strip(response.headers_mut());
            response.map(Either::Left)
        }
        Err(error) => broken(error),
    }
}

/// Path instead of URL, a `Host` that names where it goes, and nothing that was meant for us.
fn as_seen_by_the_server(mut request: Request<Incoming>) -> Option<Request<Incoming>> {
    let host = HeaderValue::from_str(request.uri().authority()?.as_str()).ok()?;
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    *request.uri_mut() = path.parse().ok()?;
    *request.version_mut() = http::Version::HTTP_11;
    strip(request.headers_mut());
    request.headers_mut().insert(header::HOST, host);
    Some(request)
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}
