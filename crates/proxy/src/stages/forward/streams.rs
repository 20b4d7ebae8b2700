//! The streams of a route over several servers: those of its servers, merged. Each event is rewritten here, and judged
//! on its way to the client like any other.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use portcullis_core::{Action, Code, Limits, Obligations, Refusal, Target, TargetKind};
use portcullis_mcp::{
    alias::{Prefix, split, split_uri},
    json::JsonLimits,
    jsonrpc::{Message, Shape},
    method, sse,
};
use serde_json::{Map, Value, json};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{Armed, Exchange};
use crate::{
    aggregate::{Group, Member},
    bridge::{Crossing, Unwanted},
    gateway::{self, Gateway},
    rules::{Rules, Server},
    session::{Backend, Members, Session},
    stages::{alive, arm, resolve},
    tasks,
};
use portcullis_net::queue::offer;
use portcullis_upstream::{Behalf, Events, Merged, Reply, Upstream, Verb, stdio::Owner};

/// How long a server that cannot be listened to is left alone.
const PAUSE: Duration = Duration::from_secs(5);

const LISTEN: &str = "subscriptions/listen";

const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// One server that is listened to for a caller.
#[derive(Clone, Debug)]
struct Source {
    gateway: Arc<Gateway>,
    caller: Arc<str>,
    behalf: Behalf,
    prefix: Prefix,
    server: Arc<Server>,
    limits: Limits,
    unwanted: Arc<Unwanted>,
}

impl Source {
    fn of(gateway: &Arc<Gateway>, rules: &Rules, armed: &Armed, member: &Member) -> Option<Self> {
        Some(Self {
            gateway: Arc::clone(gateway),
            caller: Arc::from(armed.caller()),
            behalf: armed.behalf(),
            prefix: member.prefix.clone(),
            server: Arc::clone(rules.servers.get(&*member.server)?),
            limits: rules.limits.clone(),
            unwanted: Arc::clone(&armed.unwanted),
        })
    }

    /// Whether an operator stopped the server or the caller.
    fn killed(&self) -> bool {
        !alive::reaches(&self.gateway, &self.caller, &self.server.name)
    }

    /// Hands on what comes until the stream ends, or an operator stops it.
    async fn follow(&self, events: Events, to: &mpsc::Sender<sse::Event>) {
        tokio::select! {
            biased;
            () = alive::until_stopped(&self.gateway, &self.caller, &self.server.name) => {}
            () = self.hand_on(events, to) => {}
        }
    }

    /// Hands on what comes, under exposed names, until the stream ends.
    async fn hand_on(&self, mut events: Events, to: &mpsc::Sender<sse::Event>) {
        let json = JsonLimits::answer(&self.limits);
        while let Ok(Some(event)) = events.next(&self.limits, true).await {
            let Some(data) = event.data.filter(|data| !data.is_empty()) else { continue };
            let Ok(message) = Message::parse(data, &json) else { return };
            gateway::heed(&self.server, &message, &self.limits);
            let acknowledges = message.method_name().as_deref() == Some(ACKNOWLEDGED);
            let message = match message.shape() {
                // The route acknowledged for all of its servers, and goes on when one of them ends.
                Shape::Response | Shape::Error => return,
                Shape::Notification if acknowledges => continue,
                Shape::Notification => self.told(message),
                // Declined further on, by the id under which it was asked.
                Shape::Request => Some(message),
            };
            let Some(message) = message else { continue };
            let data = self.prefix.outward(&message).unwrap_or_else(|| message.bytes().clone());
            if offer(to, data.len(), sse::Event::message(data)).await.is_err() {
                return;
            }
        }
    }

    /// A notification with our ids of tasks; nothing when it tells of a task of somebody else.
    fn told(&self, message: Message) -> Option<Message> {
        let context = tasks::Context {
            tasks: &self.gateway.tasks,
            caller: &self.caller,
            server: &self.server.name,
            method: "",
            tool: None,
            obligations: &Obligations::default(),
            named: &[],
            limits: &self.limits,
        };
        tasks::outward(&context, message).ok()?
    }

    /// The stream of a session with the server, if it offers one.
    async fn stream(&self, session: &Session) -> Option<Events> {
        let reply = match (&self.server.upstream, &session.backend) {
            (_, Backend::Bridged(bridged)) => {
                let headers = arm::credentials(&self.server, &self.behalf);
                self.gateway.bridge.changes(&self.server, &self.caller, &headers, bridged, &self.unwanted)
            }
            (Upstream::Stdio(_), Backend::Stdio { process, .. }) => {
                return Some(Events::Stdio(process.open_stream(&session.id)));
            }
            (Upstream::Http(peer), Backend::Http(id)) => {
                let within = (id.as_deref(), session.version.as_str());
                peer.within(Verb::Get, within, (&self.behalf, Bytes::new()), &self.limits).await.ok()?
            }
            (Upstream::Group | Upstream::Http(_) | Upstream::Stdio(_), _) => return None,
        };
        match reply {
            Reply::Stream { events, .. } => Some(events),
            Reply::Accepted | Reply::Unary { .. } => None,
        }
    }

    /// Listens until the server ends it; whether to listen again.
    async fn listen(&self, request: &Message, to: &mpsc::Sender<sse::Event>) -> bool {
        alive::until_alive(&self.gateway, &self.caller, &self.server.name).await;
        match self.listening(request).await {
            Ok(Reply::Stream { events, .. }) => {
                self.follow(events, to).await;
                !to.is_closed()
            }
            // It has said that it offers nothing to hear.
            Ok(Reply::Accepted | Reply::Unary { .. }) => false,
            Err(_) => !to.is_closed(),
        }
    }

    async fn listening(&self, request: &Message) -> Result<Reply, Refusal> {
        let (server, limits) = (&self.server, &self.limits);
        if !server.upstream.speaks_modern(&self.behalf, limits).await? {
            let lost = || Refusal::new(Code::Internal, "no such method");
            let crossing = Crossing {
                server,
                caller: &self.caller,
                behalf: self.behalf.clone(),
                message: request,
                row: method::find(LISTEN).ok_or_else(lost)?,
                headers: arm::credentials(server, &self.behalf),
                annotated: &[],
                limits,
                unwanted: &self.unwanted,
            };
            return self.gateway.bridge.from_modern(crossing).await;
        }
        match &server.upstream {
            Upstream::Group => {
                Err(Refusal::new(Code::Internal, "a route over several servers inside another"))
            }
            Upstream::Http(peer) => peer.listen(&self.behalf, request.bytes().clone(), limits).await,
            Upstream::Stdio(peer) => {
                let process = peer.modern(Owner::Caller(&self.caller), limits).await?;
                let lines = process.request(request, None, true).await?;
                Ok(Reply::Stream { events: Events::Stdio(lines), session: None })
            }
        }
    }
}

/// The stream of a session: what the servers say whose sessions are open, and those that are opened later.
pub(super) fn legacy(
    gateway: &Arc<Gateway>,
    rules: &Rules,
    armed: &Armed,
    group: &Group,
    parts: Option<&Arc<Members>>,
) -> Result<Exchange, Refusal> {
    let parts = Arc::clone(parts.ok_or_else(|| Refusal::new(Code::Internal, "a stream without a session"))?);
    let sources: HashMap<Arc<str>, Source> = group
        .members()
        .iter()
        .filter_map(|member| Some((Arc::clone(&member.server), Source::of(gateway, rules, armed, member)?)))
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
                    loop {
                        let server = &source.server.name;
                        alive::until_alive(&source.gateway, &source.caller, server).await;
                        let Some(events) = source.stream(&session).await else { return };
                        source.follow(events, &to).await;
                        // What was stopped goes on when it is let; what its server ended does not.
                        if !source.killed() {
                            return;
                        }
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

/// `subscriptions/listen`: each server is asked for its part of what the client wants to hear.
pub(super) fn modern(
    gateway: &Arc<Gateway>,
    rules: &Rules,
    armed: &Armed,
    group: &Group,
) -> Result<Exchange, Refusal> {
    let request =
        armed.message().ok_or_else(|| Refusal::new(Code::Internal, "a request without a message"))?;
    let request: Value = serde_json::from_slice(request.bytes())
        .map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    let wanted = request.pointer("/params/notifications").and_then(Value::as_object).ok_or_else(|| {
        Refusal::new(Code::RequestMeta, "`notifications` is not an object")
            .saying("`notifications` must be an object")
    })?;
    let caller = &armed.recorded.inspected.permitted.caller;
    let call = &armed.recorded.inspected.permitted.valid.aimed.call;
    let context = call.context(gateway.clock.now());
    let may = |action, target: &Target| rules.policy.may_see(caller, action, target, &context);
    let (mut asked, mut promised) = (Vec::new(), Map::new());
    for member in group.members() {
        let Some(source) = Source::of(gateway, rules, armed, member) else { continue };
        let target = Target { server: Arc::clone(&member.server), item: None, digest: None };
        let part = if may(Action::Connect, &target) { part(wanted, member, &may) } else { None };
        let Some(part) = part else { continue };
        promise(&mut promised, &part, &member.prefix);
        let mut own = request.clone();
        if let Some(slot) = own.pointer_mut("/params/notifications") {
            *slot = Value::Object(part);
        }
        let message = tasks::reparsed(Bytes::from(own.to_string()))?;
        let named = resolve::named_tasks(gateway, call, &message, caller, &source.server, rules)?;
        asked.push((source, tasks::inward(LISTEN, &message, &named)?));
    }
    let count = |of: &Map<String, Value>| of.get("taskIds").and_then(Value::as_array).map_or(0, Vec::len);
    if count(wanted) != count(&promised) {
        return Err(Refusal::new(Code::TaskUnknown, "no task of this caller on this route"));
    }
    let acknowledged = json!({ "jsonrpc": "2.0", "method": ACKNOWLEDGED,
        "params": { "_meta": { SUBSCRIPTION: request.get("id") }, "notifications": promised } });
    let acknowledged = sse::Event::message(Bytes::from(acknowledged.to_string()));
    let events = Merged::new(|to| async move {
        if to.send(acknowledged).await.is_err() {
            return;
        }
        let mut streams = JoinSet::new();
        for (source, request) in asked {
            let to = to.clone();
            streams.spawn(async move {
                while source.listen(&request, &to).await {
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
fn part(
    wanted: &Map<String, Value>,
    member: &Member,
    may: &impl Fn(Action, &Target) -> bool,
) -> Option<Map<String, Value>> {
    let mut part = wanted.clone();
    // What else a filter may hold names things in ways that nobody here could translate.
    part.retain(|name, _| match name.as_str() {
        "toolsListChanged" => member.selection.any(TargetKind::Tool),
        "promptsListChanged" => member.selection.any(TargetKind::Prompt),
        "resourcesListChanged" => member.selection.any(TargetKind::Resource),
        name => matches!(name, "resourceSubscriptions" | "taskIds"),
    });
    let resource = |uri: &str| {
        let (prefix, own) = split_uri(uri)?;
        let item = Some((TargetKind::Resource, Arc::from(own.as_str())));
        let target = Target { server: Arc::clone(&member.server), item, digest: None };
        let heard = prefix == member.prefix.as_str()
            && member.selection.holds(TargetKind::Resource, &own)
            && may(Action::SubscribeResource, &target);
        heard.then_some(own)
    };
    let task = |id: &str| {
        let (prefix, own) = split(id)?;
        (prefix == member.prefix.as_str()).then(|| own.to_owned())
    };
    keep(&mut part, "resourceSubscriptions", resource);
    keep(&mut part, "taskIds", task);
    let says =
        |value: &Value| value == &Value::Bool(true) || value.as_array().is_some_and(|list| !list.is_empty());
    part.values().any(says).then_some(part)
}

/// Leaves of a list of texts what `own` makes of them.
fn keep(part: &mut Map<String, Value>, name: &str, own: impl Fn(&str) -> Option<String>) {
    if let Some(list) = part.get_mut(name) {
        let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
        *list = texts.filter_map(own).map(Value::String).collect();
    }
}

/// What one server is asked for is promised, as the client calls it.
fn promise(promised: &mut Map<String, Value>, part: &Map<String, Value>, prefix: &Prefix) {
    for (name, value) in part {
        let Some(texts) = value.as_array() else {
            promised.insert(name.clone(), value.clone());
            continue;
        };
        let exposed = |text: &str| match name.as_str() {
            "taskIds" => prefix.expose_id(text),
            _ => prefix.expose_uri(text),
        };
        let texts = texts.iter().filter_map(Value::as_str).map(|text| Value::String(exposed(text)));
        let list = promised.entry(name).or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.extend(texts);
        }
    }
}
