//! What a route over several servers answers itself: what it offers, its lists, the life of its sessions.

use std::sync::Arc;

use bytes::Bytes;
use portcullis_core::{Action, Code, Refusal, Target, TargetKind};
use portcullis_mcp::{
    json::{ValueKind, View},
    revision::{Era, LEGACY, LEGACY_SUPPORTED, MODERN, SUPPORTED},
};
use serde_json::{Map, Value, json};

use super::{Armed, Exchange, INITIALIZE_BYTES_MAX, members, merged, streams, together};
use crate::{
    aggregate::Group,
    gateway::Gateway,
    rules::Rules,
    session::{Backend, Members},
    stages::{alive, parse::Content},
};
use portcullis_upstream::Reply;

/// Extensions whose links and ids are rewritten, so that they work through a route over several servers.
const EXTENSIONS: [&str; 2] = ["io.modelcontextprotocol/tasks", "io.modelcontextprotocol/ui"];

/// Answers a call that is for the route and not for one of its servers.
///
/// # Errors
/// `method.unknown` for what a route over several servers does not offer; and as the lists.
pub(super) async fn call(
    gateway: &Arc<Gateway>,
    rules: &Rules,
    armed: &Armed,
    group: &Group,
) -> Result<Exchange, Refusal> {
    let parts = armed.session().and_then(members::of_group).map(|(_, members)| members);
    let call = &armed.recorded.inspected.permitted.valid.aimed.call;
    match armed.content() {
        Content::EndSession => {
            if let Some(parts) = parts {
                members::end(parts, rules).await;
            }
            return Ok(Exchange::plain(Reply::Accepted));
        }
        Content::OpenStream => return streams::legacy(gateway, rules, armed, group, parts),
        Content::Message(_) => {}
    }
    if let Some(kind) = call.row.and_then(|row| row.list) {
        return merged::answer(gateway, rules, armed, group, kind).await;
    }
    match &*call.method() {
        "initialize" => initialize(rules, armed, group),
        "server/discover" => answer(armed, &discover(rules, group)),
        "ping" => answer(armed, &json!({})),
        "subscriptions/listen" => streams::modern(gateway, rules, armed, group),
        "tasks/list" => together::tasks(gateway, rules, armed, group).await.map(unary),
        "logging/setLevel" => {
            if let Some(parts) = parts {
                together::set_level(gateway, rules, armed, parts).await?;
            }
            answer(armed, &json!({}))
        }
        // Each server is told that its session is initialized when it is opened. What is running no more needs no
        // cancelling, and a token that no server gave is nobody's progress.
        "notifications/initialized" | "notifications/cancelled" | "notifications/progress" => {
            Ok(Exchange::plain(Reply::Accepted))
        }
        "notifications/roots/list_changed" => {
            if let (Some(parts), Some(message)) = (parts, armed.message()) {
                let context = call.context(gateway.clock.now());
                let caller = &armed.recorded.inspected.permitted.caller;
                let may = |server: &Arc<str>| {
                    let target = Target { server: Arc::clone(server), item: None, digest: None };
                    alive::reaches(gateway, &caller.id, server)
                        && rules.policy.may_see(caller, Action::Answer, &target, &context)
                };
                members::tell(parts, rules, message, may).await;
            }
            Ok(Exchange::plain(Reply::Accepted))
        }
        method => {
            Err(Refusal::new(Code::MethodUnknown, format!("`{method}` on a route over several servers")))
        }
    }
}

const fn unary(bytes: Bytes) -> Exchange {
    Exchange::plain(Reply::Unary { status: 200, bytes, session: None })
}

fn answer(armed: &Armed, result: &Value) -> Result<Exchange, Refusal> {
    let id = armed.message().and_then(portcullis_mcp::jsonrpc::Message::id);
    let id = id.ok_or_else(|| Refusal::new(Code::Internal, "a request without an id"))?;
    let id = String::from_utf8_lossy(id.raw()).into_owned();
    Ok(unary(Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))))
}

fn initialize(rules: &Rules, armed: &Armed, group: &Group) -> Result<Exchange, Refusal> {
    let params = armed.message().and_then(portcullis_mcp::jsonrpc::Message::params);
    if params.is_some_and(|params| params.raw().len() > INITIALIZE_BYTES_MAX) {
        let what = "the params of `initialize` are more than a session keeps";
        return Err(Refusal::new(Code::RequestTooLarge, what).saying(what));
    }
    let asked = params.and_then(|params| params.get("protocolVersion")?.as_str());
    let version = LEGACY_SUPPORTED.iter().find(|known| asked.as_deref() == Some(**known)).unwrap_or(&LEGACY);
    let mut result = offer(rules, group, Era::Legacy);
    result.insert("protocolVersion".into(), json!(version));
    result.insert("serverInfo".into(), info());
    let mut exchange = answer(armed, &Value::Object(result))?;
    exchange.opens = Some(Backend::Group(Arc::new(Members::default())));
    Ok(exchange)
}

fn discover(rules: &Rules, group: &Group) -> Value {
    let mut result = offer(rules, group, Era::Modern);
    result.insert("resultType".into(), json!("complete"));
    result.insert("supportedVersions".into(), json!(versions(rules, group)));
    result.insert("ttlMs".into(), json!(rules.limits.catalog_refresh_ms));
    result.insert("cacheScope".into(), json!("private"));
    result.insert("_meta".into(), json!({ "io.modelcontextprotocol/serverInfo": info() }));
    Value::Object(result)
}

fn info() -> Value {
    json!({ "name": "portcullis", "version": env!("CARGO_PKG_VERSION") })
}

/// What every server of the route can be spoken to in: its own versions, the newer revision where it speaks an older
/// one, and the older ones where it speaks the newer, since it is bridged then. A server that was not asked yet
/// excludes nothing.
fn versions(rules: &Rules, group: &Group) -> Vec<&'static str> {
    let spoken: Vec<_> = servers(rules, group).map(|server| server.catalog.versions()).collect();
    let speaks = |own: &[String], version: &str| {
        let named = |version: &str| own.iter().any(|own| own == version);
        own.is_empty()
            || named(version)
            || if version == MODERN { LEGACY_SUPPORTED.iter().any(|one| named(one)) } else { named(MODERN) }
    };
    let common = |version: &&str| spoken.iter().all(|own| speaks(own, version));
    SUPPORTED.iter().copied().filter(common).collect()
}

fn servers<'r>(rules: &'r Rules, group: &'r Group) -> impl Iterator<Item = &'r Arc<crate::rules::Server>> {
    group.members().iter().filter_map(|member| rules.servers.get(&*member.server))
}

/// Capabilities and instructions: the union of what is routed.
fn offer(rules: &Rules, group: &Group, era: Era) -> Map<String, Value> {
    let mut capabilities = Map::new();
    for member in group.members() {
        let Some(server) = rules.servers.get(&*member.server) else { continue };
        let stated = server.catalog.capabilities();
        let stated = View::of(&stated);
        for (kind, name) in [
            (TargetKind::Prompt, "prompts"),
            (TargetKind::Resource, "resources"),
            (TargetKind::Tool, "tools"),
        ] {
            let known = server.catalog.state().list(kind).next().is_some();
            if member.selection.any(kind) && (known || stated.get(name).is_some()) {
                let merged = capabilities.entry(name).or_insert_with(|| json!({ "listChanged": true }));
                let subscribes = stated.path(&["resources", "subscribe"]).and_then(|view| view.as_bool());
                if let (TargetKind::Resource, Some(true), Some(merged)) =
                    (kind, subscribes, merged.as_object_mut())
                {
                    merged.insert("subscribe".into(), json!(true));
                }
            }
        }
        if stated.get("completions").is_some() {
            capabilities.insert("completions".into(), json!({}));
        }
        if era == Era::Legacy {
            if stated.get("logging").is_some() {
                capabilities.insert("logging".into(), json!({}));
            }
            if stated.path(&["tasks", "requests"]).is_some() {
                let offered = json!({ "cancel": {}, "list": {}, "requests": { "tools": { "call": {} } } });
                capabilities.insert("tasks".into(), offered);
            }
        }
        extensions(stated, &mut capabilities);
    }
    let mut out = Map::new();
    out.insert("capabilities".into(), Value::Object(capabilities));
    if let Some(description) = &group.description {
        out.insert("instructions".into(), json!(description));
    }
    out
}

fn extensions(stated: View<'_>, capabilities: &mut Map<String, Value>) {
    for id in EXTENSIONS {
        let Some(own) = stated.path(&["extensions", id]).filter(|own| own.kind() == ValueKind::Object) else {
            continue;
        };
        let merged = capabilities.entry("extensions").or_insert_with(|| json!({}));
        if let Some(merged) = merged.as_object_mut() {
            merged.entry(id).or_insert_with(|| own.to_value());
        }
    }
}
