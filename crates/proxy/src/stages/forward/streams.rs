//! The streams of a route over several servers: those of its servers, merged. Each event is rewritten here, and judged
//! on its way to the client like any other.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use portcullis_core::{Action, Code, Limits, Refusal, Target, TargetKind};
use portcullis_mcp::{
    alias::{Prefix, split_uri},
    json::JsonLimits,
    jsonrpc::{Message, Shape},
    sse,
};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{Armed, Exchange};
use crate::{
    aggregate::{Group, Member},
    gateway::{self, Gateway},
    head::Verb,
    rules::{Rules, Server},
    session::{Backend, Members, Session},
    upstream::{Events, Merged, Reply, Upstream, stdio::Owner},
};

/// How long a server that cannot be listened to is left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// One server that is listened to.
#[derive(Clone, Debug)]
struct Source {
    prefix: Prefix,
    server: Arc<Server>,
    limits: Limits,
}

impl Source {
    fn of(member: &Member, rules: &Rules) -> Option<Self> {
        let server = Arc::clone(rules.servers.get(&*member.server)?);
        Some(Self { prefix: member.prefix.clone(), server, limits: rules.limits.clone() })
    }

    /// Hands on what comes, under exposed names, until the stream ends.
    async fn follow(&self, mut events: Events, to: &mpsc::Sender<sse::Event>) {
        let json = JsonLimits::answer(&self.limits);
        while let Ok(Some(event)) = events.next(&self.limits, true).await {
            let Some(data) = event.data.filter(|data| !data.is_empty()) else { continue };
            let Ok(message) = Message::parse(data, &json) else { return };
            if gateway::says_changed(&message) {
                self.server.changed(self.limits.clone());
            }
            let acknowledges = message.method_name().as_deref() == Some(ACKNOWLEDGED);
            match message.shape() {
                // The route acknowledged for all of its servers, and goes on when one of them ends.
                Shape::Response | Shape::Error => return,
                Shape::Notification if acknowledges => {}
                Shape::Notification | Shape::Request => {
                    let data = self.prefix.outward(&message).unwrap_or_else(|| message.bytes().clone());
                    if to.send(sse::Event::message(data)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// The stream of a session: what the servers say whose sessions are open, and those that are opened later.
pub(super) fn legacy(
    rules: &Rules,
    group: &Group,
    parts: Option<&Arc<Members>>,
) -> Result<Exchange, Refusal> {
    let parts = Arc::clone(parts.ok_or_else(|| Refusal::new(Code::Internal, "a stream without a session"))?);
    let sources: HashMap<Arc<str>, Source> = group
        .members()
        .iter()
        .filter_map(|member| Some((Arc::clone(&member.server), Source::of(member, rules)?)))
        .collect();
    let mut joins = parts.joins();
    let events = Merged::new(|to| async move {
        let (mut streams, mut running) = (JoinSet::new(), HashMap::<Arc<str>, AbortHandle>::new());
        let mut waiting: Vec<Arc<str>> = parts.open().into_iter().map(|(name, _)| name).collect();
        loop {
            for name in waiting.drain(..) {
                let (Some(source), Some(session)) = (sources.get(&name).cloned(), parts.of(&name)) else {
                    continue;
                };
                let to = to.clone();
                let stream = streams.spawn(async move {
                    if let Some(events) = open_stream(&source, &session).await {
                        source.follow(events, &to).await;
                    }
                });
                if let Some(before) = running.insert(name, stream) {
                    before.abort();
                }
            }
            tokio::select! {
                joined = joins.recv() => match joined {
                    Some(name) => waiting.push(name),
                    // A newer stream of the session took over.
                    None => return,
                },
                Some(_ended) = streams.join_next() => {}
            }
        }
    });
    Ok(stream(events))
}

const fn stream(events: Merged) -> Exchange {
    Exchange::plain(Reply::Stream { events: Events::Merged(events), session: None })
}

async fn open_stream(source: &Source, session: &Session) -> Option<Events> {
    match (&source.server.upstream, &session.backend) {
        (Upstream::Stdio(_), Backend::Stdio { process, .. }) => {
            Some(Events::Stdio(process.open_stream(&session.id)))
        }
        (Upstream::Http(peer), Backend::Http(id)) => {
            let within = (id.as_deref(), session.version.as_str());
            match peer.within(Verb::Get, within, Bytes::new(), &source.limits).await {
                Ok(Reply::Stream { events, .. }) => Some(events),
                // Servers need not offer one.
                Ok(Reply::Accepted | Reply::Unary { .. }) | Err(_) => None,
            }
        }
        (Upstream::Group | Upstream::Http(_) | Upstream::Stdio(_), _) => None,
    }
}

/// `subscriptions/listen`: each server is asked for its part of what the client wants to hear.
pub(super) fn modern(
    gateway: &Gateway,
    rules: &Rules,
    armed: &Armed,
    group: &Group,
) -> Result<Exchange, Refusal> {
    let request =
        armed.message().ok_or_else(|| Refusal::new(Code::Internal, "a request without a message"))?;
    let request: Value = serde_json::from_slice(request.bytes())
        .map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    let wanted = request.pointer("/params/notifications").filter(|wanted| wanted.is_object());
    let wanted = wanted.ok_or_else(|| {
        Refusal::new(Code::RequestMeta, "`notifications` is not an object")
            .saying("`notifications` must be an object")
    })?;
    let caller = &armed.recorded.inspected.permitted.caller;
    let call = &armed.recorded.inspected.permitted.valid.aimed.call;
    let context = call.context(gateway.clock.now());
    let may = |action, target: &Target| rules.policy.may_see(caller, action, target, &context);
    let mut asked = Vec::new();
    for member in group.members() {
        let Some(source) = Source::of(member, rules) else { continue };
        let target = Target { server: Arc::clone(&member.server), item: None, digest: None };
        let part = if may(Action::Connect, &target) { part(wanted, member, &may) } else { None };
        if let Some(part) = part {
            let mut own = request.clone();
            if let Some(slot) = own.pointer_mut("/params/notifications") {
                *slot = part;
            }
            asked.push((source, Bytes::from(own.to_string())));
        }
    }
    let acknowledged = json!({ "jsonrpc": "2.0", "method": ACKNOWLEDGED,
        "params": { "_meta": { SUBSCRIPTION: request.get("id") }, "notifications": wanted } });
    let acknowledged = sse::Event::message(Bytes::from(acknowledged.to_string()));
    let caller: Arc<str> = Arc::from(armed.caller());
    let events = Merged::new(|to| async move {
        if to.send(acknowledged).await.is_err() {
            return;
        }
        let mut streams = JoinSet::new();
        for (source, body) in asked {
            let (to, caller) = (to.clone(), Arc::clone(&caller));
            streams.spawn(async move {
                while listen(&source, &body, &caller, &to).await {
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        while streams.join_next().await.is_some() {}
        // Nobody speaks any more, but the client was promised to be told what changes: it stays until it leaves.
        to.closed().await;
    });
    Ok(stream(events))
}

/// The part of a filter that concerns one server; nothing when that is nothing.
fn part(wanted: &Value, member: &Member, may: &impl Fn(Action, &Target) -> bool) -> Option<Value> {
    let mut part = wanted.as_object()?.clone();
    for (name, kind) in [
        ("toolsListChanged", TargetKind::Tool),
        ("promptsListChanged", TargetKind::Prompt),
        ("resourcesListChanged", TargetKind::Resource),
    ] {
        if !member.selection.any(kind) {
            part.remove(name);
        }
    }
    if let Some(uris) = part.get_mut("resourceSubscriptions") {
        let own = |uri: &Value| {
            let (prefix, own) = split_uri(uri.as_str()?)?;
            let item = Some((TargetKind::Resource, Arc::from(own.as_str())));
            let target = Target { server: Arc::clone(&member.server), item, digest: None };
            let heard = prefix == member.prefix.as_str()
                && member.selection.holds(TargetKind::Resource, &own)
                && may(Action::SubscribeResource, &target);
            heard.then_some(Value::String(own))
        };
        let own: Vec<Value> = uris.as_array().into_iter().flatten().filter_map(own).collect();
        *uris = Value::Array(own);
    }
    let says =
        |value: &Value| value == &Value::Bool(true) || value.as_array().is_some_and(|list| !list.is_empty());
    part.values().any(says).then_some(Value::Object(part))
}

/// Listens to one server until it ends; whether to listen again.
async fn listen(source: &Source, body: &Bytes, caller: &str, to: &mpsc::Sender<sse::Event>) -> bool {
    let events = match &source.server.upstream {
        Upstream::Group => return false,
        Upstream::Http(peer) => match peer.listen(body.clone(), &source.limits).await {
            Ok(Reply::Stream { events, .. }) => events,
            // It has said that it does not: it is of the older revision, or offers nothing to hear.
            Ok(Reply::Accepted | Reply::Unary { .. }) => return false,
            Err(_) => return !to.is_closed(),
        },
        Upstream::Stdio(peer) => {
            let opened = async {
                if !peer.speaks_modern(&source.limits).await? {
                    return Ok(None);
                }
                let process = peer.modern(Owner::Caller(caller), &source.limits).await?;
                let message = Message::parse(body.clone(), &JsonLimits::request(&source.limits))
                    .map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
                process.request(&message, None, true).await.map(Some)
            };
            match opened.await {
                Ok(Some(lines)) => Events::Stdio(lines),
                Ok(None) => return false,
                Err(_) => return !to.is_closed(),
            }
        }
    };
    source.follow(events, to).await;
    !to.is_closed()
}
