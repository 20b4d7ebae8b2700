//! Requests of clients: what the newer revision says in every request, the older one says once.

use alloc::{format, string::String, vec::Vec};

use bytes::Bytes;

use super::{
    RESERVED,
    object::{Change, object, rewrite},
};
use crate::{
    json::{ValueKind, View, quote},
    jsonrpc::Message,
    revision::{META_CAPABILITIES, META_CLIENT, META_VERSION, MODERN, ParamHeader, mirrored},
};

/// Member of `_meta` with the least severity of log messages.
const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// What a client of the older revision said once and the newer one wants to hear every time. All is JSON text.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// What the client can do.
    pub capabilities: Bytes,
    /// What it calls itself, if it did.
    pub client: Option<Bytes>,
    /// What log messages it wants, if it said so.
    pub log_level: Option<Bytes>,
}

/// What a further round of the same request brings along. All is JSON text.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// The client's answers, an object.
    pub responses: Option<Bytes>,
    /// The server's own words, as it wrote them.
    pub state: Option<Bytes>,
}

/// A request of the newer revision as a server of the older one understands it, with the number `id` as its id and as
/// its progress token.
#[must_use]
pub fn to_legacy(message: &Message, id: u64) -> Bytes {
    let number = || format!("{id}").into_bytes();
    let meta = |view: View<'_>| {
        let text = rewrite(
            view,
            |name, _| match name {
                "progressToken" => Change::Set(number()),
                name if name.starts_with(RESERVED) => Change::Drop,
                _ => Change::Keep,
            },
            &[],
        );
        if text.len() > 2 { Change::Set(text) } else { Change::Drop }
    };
    let params = |view| {
        rewrite(
            view,
            |name, value| match name {
                "_meta" => meta(value),
                "inputResponses" | "requestState" => Change::Drop,
                _ => Change::Keep,
            },
            &[],
        )
    };
    let whole = rewrite(
        message.root(),
        |name, value| match name {
            "id" => Change::Set(number()),
            "params" => Change::Set(params(value)),
            _ => Change::Keep,
        },
        &[],
    );
    Bytes::from(whole)
}

/// What must be equal in two rounds of one request: its method and everything that it asks.
#[must_use]
pub fn same_in_each_round(message: &Message) -> Vec<u8> {
    let mut out: Vec<u8> = message.method_name().unwrap_or_default().as_bytes().to_vec();
    out.push(b'\n');
    let ask = |name: &str| !matches!(name, "_meta" | "inputResponses" | "requestState");
    let keep = |name: &str, _: View<'_>| if ask(name) { Change::Keep } else { Change::Drop };
    out.extend(rewrite(message.params().unwrap_or(View::of(b"{}")), keep, &[]));
    out
}

impl Declared {
    /// `_meta` with everything the newer revision wants, and with what else stood in `old`.
    fn meta(&self, old: Option<View<'_>>) -> Vec<u8> {
        let version = quote(MODERN);
        let mut members = alloc::vec![
            (META_VERSION, version.as_bytes()),
            (META_CAPABILITIES, if self.capabilities.is_empty() { b"{}" } else { &*self.capabilities }),
        ];
        members.extend(self.client.as_deref().map(|client| (META_CLIENT, client)));
        members.extend(self.log_level.as_deref().map(|level| (META_LOG_LEVEL, level)));
        let keep = |name: &str, _: View<'_>| {
            if name.starts_with(RESERVED) { Change::Drop } else { Change::Keep }
        };
        rewrite(old.unwrap_or(View::of(b"{}")), keep, &members)
    }
}

/// A request of the older revision as a server of the newer one understands it, with the number `id` as its id.
#[must_use]
pub fn to_modern(message: &Message, id: u64, declared: &Declared, round: &Round) -> Bytes {
    let params = message.params();
    let meta = declared.meta(params.and_then(|params| params.get("_meta")));
    let mut extra: Vec<(&str, &[u8])> = alloc::vec![("_meta", &*meta)];
    extra.extend(round.responses.as_deref().map(|responses| ("inputResponses", responses)));
    extra.extend(round.state.as_deref().map(|state| ("requestState", state)));
    let params = match params {
        Some(params) => rewrite(
            params,
            |name, _| match name {
                "_meta" | "inputResponses" | "requestState" => Change::Drop,
                _ => Change::Keep,
            },
            &extra,
        ),
        None => object(&extra),
    };
    let whole = rewrite(
        message.root(),
        |name, _| match name {
            "id" => Change::Set(format!("{id}").into_bytes()),
            "params" => Change::Drop,
            _ => Change::Keep,
        },
        &[("params", &params)],
    );
    Bytes::from(whole)
}

/// The headers that mirror annotated arguments: what follows `Mcp-Param-`, and the value. An argument that cannot be
/// mirrored is left to its server to miss.
#[must_use]
pub fn param_headers(annotated: &[ParamHeader], arguments: Option<View<'_>>) -> Vec<(String, String)> {
    let value = |header: &ParamHeader| {
        let path: Vec<&str> = header.path.iter().map(String::as_str).collect();
        let view = arguments?.path(&path)?;
        match view.kind() {
            ValueKind::String => Some(mirrored(&view.as_str()?).into_owned()),
            ValueKind::Bool | ValueKind::Number => Some(String::from_utf8_lossy(view.raw()).into_owned()),
            ValueKind::Array | ValueKind::Null | ValueKind::Object => None,
        }
    };
    annotated.iter().filter_map(|header| Some((header.header.clone(), value(header)?))).collect()
}
