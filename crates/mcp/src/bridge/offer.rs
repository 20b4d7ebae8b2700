//! What servers and clients say of themselves: in `initialize`, in `server/discover`, and in every request.

use alloc::{string::String, vec::Vec};

use bytes::Bytes;

use super::{
    Question,
    object::{Change, object, rewrite},
};
use crate::{
    json::{View, quote},
    revision::{LEGACY, LEGACY_SUPPORTED, MODERN},
};

/// Member of `_meta` with what a server of the newer revision calls itself.
const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";

/// Capabilities of servers that mean the same in both revisions. Tasks do not, and extensions are not bridged.
const SERVER: &[&str] = &["completions", "experimental", "logging", "prompts", "resources", "tools"];

/// Kinds of questions that a client can answer.
const CLIENT: &[&str] = &["elicitation", "roots", "sampling"];

fn capabilities(result: &View<'_>) -> Vec<u8> {
    let keep = |name: &str, _: View<'_>| if SERVER.contains(&name) { Change::Keep } else { Change::Drop };
    rewrite(result.get("capabilities").unwrap_or(View::of(b"{}")), keep, &[])
}

/// What a client can do, as far as a server may make use of it: kinds of questions that are `allowed`.
#[must_use]
pub fn client_capabilities(declared: Option<View<'_>>, allowed: impl Fn(&str) -> bool) -> Bytes {
    let keep = |name: &str, _: View<'_>| {
        if CLIENT.contains(&name) && allowed(name) { Change::Keep } else { Change::Drop }
    };
    Bytes::from(rewrite(declared.unwrap_or(View::of(b"{}")), keep, &[]))
}

/// The capability that a question needs and `declared` lacks, as the newer revision names it (JSON text).
#[must_use]
pub fn capability_lacking(declared: Option<View<'_>>, question: &Question) -> Option<String> {
    let has = |path: &[&str]| declared.is_some_and(|declared| declared.path(path).is_some());
    let kind = question.method.split('/').next().unwrap_or_default();
    let by_url = View::of(&question.params).get("mode").is_some_and(|mode| mode.is_str("url"));
    if kind == "elicitation" && by_url {
        return (!has(&[kind, "url"])).then(|| r#"{"elicitation":{"url":{}}}"#.into());
    }
    (!has(&[kind])).then(|| alloc::format!("{{{}:{{}}}}", quote(kind)))
}

/// The result of `server/discover` that follows from the result of `initialize`.
#[must_use]
pub fn discover_result(initialized: &View<'_>) -> Vec<u8> {
    // What a client of this route can speak: over the bridge, and what the server itself does.
    let own = initialized.get("protocolVersion").and_then(|version| version.as_str());
    let own = own.filter(|version| LEGACY_SUPPORTED.contains(&&**version));
    let versions: Vec<_> =
        core::iter::once(quote(MODERN)).chain(own.map(|version| quote(&version))).collect();
    let versions = alloc::format!("[{}]", versions.join(","));
    let capabilities = capabilities(initialized);
    let meta = initialized.get("serverInfo").map(|info| object(&[(META_SERVER, info.raw())]));
    let mut members: Vec<(&str, &[u8])> = alloc::vec![
        ("resultType", br#""complete""#),
        ("supportedVersions", versions.as_bytes()),
        ("capabilities", &capabilities),
    ];
    members.extend(initialized.get("instructions").map(|text| ("instructions", text.raw())));
    members.extend([("ttlMs", &b"0"[..]), ("cacheScope", &br#""private""#[..])]);
    members.extend(meta.as_deref().map(|meta| ("_meta", meta)));
    object(&members)
}

/// The result of `initialize` that follows from the result of `server/discover`, for a client that asked for the
/// version `requested`.
#[must_use]
pub fn initialize_result(discovered: &View<'_>, requested: Option<&str>) -> Vec<u8> {
    let version = requested.filter(|version| LEGACY_SUPPORTED.contains(version)).unwrap_or(LEGACY);
    let (version, capabilities) = (quote(version), capabilities(discovered));
    let info = discovered.path(&["_meta", META_SERVER]).or_else(|| discovered.get("serverInfo"));
    let unnamed = View::of(br#"{"name":"unnamed","version":"0"}"#);
    let mut members: Vec<(&str, &[u8])> = alloc::vec![
        ("protocolVersion", version.as_bytes()),
        ("capabilities", &capabilities),
        ("serverInfo", info.unwrap_or(unnamed).raw()),
    ];
    members.extend(discovered.get("instructions").map(|text| ("instructions", text.raw())));
    object(&members)
}

/// The message that answers the request with this id (JSON text) with this result (JSON text).
#[must_use]
pub fn result_message(id: &[u8], result: &[u8]) -> Bytes {
    Bytes::from(object(&[("jsonrpc", br#""2.0""#), ("id", id), ("result", result)]))
}
