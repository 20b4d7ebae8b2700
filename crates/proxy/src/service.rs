//! The routes of the data plane.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, service::Service};
use portcullis_connect::auth;
use url::Url;

use crate::{
    aggregate::ROOT,
    body::{self, Body, Inbound},
    connect,
    gateway::Gateway,
    rules::Rules,
};

/// Path of protected-resource metadata (RFC 9728 section 3).
const METADATA: &str = "/.well-known/oauth-protected-resource";

/// Serves `/mcp/{server}`, `/mcp` where it is switched on, the pages below `/connect/`, protected-resource metadata and `/healthz`.
#[derive(Clone, Debug)]
pub struct DataPlane(pub Arc<Gateway>);

impl Service<Request<Incoming>> for DataPlane {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let gateway = Arc::clone(&self.0);
        Box::pin(async move { Ok(route(gateway, request).await) })
    }
}

async fn route(gateway: Arc<Gateway>, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if let Some(server) = path.strip_prefix("/mcp/").filter(|server| is_name(server)) {
        return gateway.answer(server, parts, Inbound::Wire(body)).await;
    }
    if path == "/mcp" && gateway.rules.load().groups.contains_key(ROOT) {
        return gateway.answer(ROOT, parts, Inbound::Wire(body)).await;
    }
    if path.starts_with("/connect/") {
        return connect::answer(&gateway, parts, body).await;
    }
    if parts.method == Method::GET && path == "/healthz" {
        return health(&gateway);
    }
    if let Some(resource) = path.strip_prefix(METADATA)
        && parts.method == Method::GET
    {
        let rules = gateway.rules.load();
        // Behind a proxy that serves us below a path, that path stands in front of ours, and here nobody cuts it off.
        let prefix = Url::parse(&rules.public_url).map(|url| url.path().trim_end_matches('/').to_owned());
        let own = resource.strip_prefix(prefix.as_deref().unwrap_or_default()).unwrap_or(resource);
        let server = own.strip_prefix("/mcp/").unwrap_or_default();
        if is_name(server) {
            return metadata(&rules, server);
        }
        if own == "/mcp" && rules.groups.contains_key(ROOT) {
            return metadata(&rules, ROOT);
        }
    }
    gateway.nowhere(&parts).await
}

/// Whether a path segment can be the name of a server.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// The same for every name, unless the route has access settings of its own: whether a server exists is not told without a
/// credential.
fn metadata(rules: &Rules, server: &str) -> Response<Body> {
    json(StatusCode::OK, auth::metadata(&rules.access(server), &rules.authorization_servers))
}

/// Whether calls can be made. Says no more: it is open to everybody who reaches the listener.
fn health(gateway: &Gateway) -> Response<Body> {
    let healthy = gateway.ledger.status().healthy;
    let (status, word) = if healthy {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable")
    };
    json(status, format!(r#"{{"status":"{word}"}}"#))
}

fn json(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(body::full(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
