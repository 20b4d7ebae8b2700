//! From a message to the head of the HTTP request that a client of its revision would send.

use std::net::{Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header, request::Parts};
use portcullis_core::TargetKind;
use portcullis_mcp::{
    json::{ValueKind, View},
    jsonrpc::Message,
    method,
    revision::{Era, META_VERSION, ParamHeader, mirrored},
};
use portcullis_net::listen::PeerInfo;

use super::{Front, session::Open};
use crate::{
    head::{NAME, PARAM_PREFIX},
    rules::Rules,
};
use portcullis_upstream::{Verb, headers::METHOD, headers::SESSION, headers::VERSION};

/// The version that a message states in `_meta`, unless it is one of the handshake.
pub(super) fn stated(message: &Message) -> Option<String> {
    let version = message.params()?.path(&["_meta", META_VERSION])?.as_str()?;
    (Era::of(&version) != Some(Era::Legacy)).then(|| version.into_owned())
}

/// The revision by whose rules a message is answered and cancelled.
pub(super) fn era(message: &Message) -> Era {
    if stated(message).is_some() { Era::Modern } else { Era::Legacy }
}

/// What every request has. There is no address: the peer is this machine.
pub(super) fn head(verb: Verb, server: &str, rules: &Rules) -> Parts {
    let mut request = Request::new(());
    *request.method_mut() = match verb {
        Verb::Delete => Method::DELETE,
        Verb::Get => Method::GET,
        Verb::Post => Method::POST,
    };
    // A name of a server is a path segment; the pipeline takes it from its own argument anyway.
    *request.uri_mut() = format!("/mcp/{server}").parse().unwrap_or_default();
    let headers = request.headers_mut();
    let host = rules.hosts.iter().next().and_then(|host| HeaderValue::try_from(host).ok());
    headers.insert(header::HOST, host.unwrap_or_else(|| HeaderValue::from_static("localhost")));
    let accept = match verb {
        Verb::Get => "text/event-stream",
        Verb::Delete | Verb::Post => "application/json, text/event-stream",
    };
    headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
    if verb == Verb::Post {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    request.extensions_mut().insert(PeerInfo { addr, tls: false });
    request.into_parts().0
}

/// Adds what names a session.
pub(super) fn in_session(headers: &mut HeaderMap, session: &Open) {
    put(headers, SESSION, &session.id);
    if let Some(version) = &session.version {
        put(headers, VERSION, version);
    }
}

impl Front {
    /// The head of the request that carries `message`.
    pub(super) async fn head(&self, message: &Message) -> Parts {
        let rules = self.gateway.rules.load_full();
        let mut parts = head(Verb::Post, &self.server, &rules);
        let headers = &mut parts.headers;
        let Some(version) = stated(message) else {
            let opens = message.method_name().as_deref() == Some("initialize");
            if let Some(session) = self.open().filter(|_| !opens) {
                in_session(headers, &session);
            }
            return parts;
        };
        put(headers, VERSION, &version);
        let name = message.method_name().unwrap_or_default();
        put(headers, METHOD, &name);
        let Some(row) = method::find(&name) else { return parts };
        let member = row.header_name.and_then(|member| message.params()?.get(member)?.as_str());
        let Some(member) = member else { return parts };
        put(headers, NAME, &mirrored(&member));
        if row.item.is_some_and(|(kind, _)| kind == TargetKind::Tool) {
            self.mirror(headers, &rules, message, &member).await;
        }
        parts
    }

    /// Adds the arguments that the tool's schema wants mirrored. A client on stdio does not mirror them.
    async fn mirror(&self, headers: &mut HeaderMap, rules: &Rules, message: &Message, tool: &str) {
        let Some(server) = rules.servers.get(&*self.server) else { return };
        if !server.catalog.state().known(TargetKind::Tool) {
            let _ = server.catalog.freshen(&server.upstream, &[TargetKind::Tool], None, &rules.limits).await;
        }
        let state = server.catalog.state();
        let Some(item) = state.find(TargetKind::Tool, tool) else { return };
        let arguments = message.params().and_then(|params| params.get("arguments"));
        for ParamHeader { header, path } in item.headers() {
            let value = path.iter().try_fold(arguments, |view, step| Some(view?.get(step))).flatten();
            let text = value.and_then(|value| text(&value));
            let name = HeaderName::try_from(format!("{PARAM_PREFIX}{}", header.to_ascii_lowercase()));
            if let (Some(text), Ok(name)) = (text, name) {
                put(headers, name, &mirrored(&text));
            }
        }
    }
}

/// An argument as its header has it.
fn text(value: &View<'_>) -> Option<String> {
    match value.kind() {
        ValueKind::String => value.as_str().map(std::borrow::Cow::into_owned),
        ValueKind::Bool | ValueKind::Number => String::from_utf8(value.raw().to_vec()).ok(),
        ValueKind::Array | ValueKind::Null | ValueKind::Object => None,
    }
}

/// Adds a header; a value that no header can hold is left out, and the pipeline refuses what lacks it.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
