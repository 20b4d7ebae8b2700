//! What a route over several servers asks all of them for one client of the older revision: to log from a level on, and
//! for their lists of tasks. A server that is slow or gone keeps the answer waiting no longer than its own time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use portcullis_core::{Action, Code, Limits, Refusal, Target};
use portcullis_mcp::{
    answer::next_cursor,
    json::{View, quote},
    jsonrpc::{Message, Shape},
    method,
};
use tokio::time::timeout;

use super::{Armed, members};
use crate::{
    aggregate::{Group, Member},
    bridge::Crossing,
    gateway::Gateway,
    rules::{Rules, Server},
    session::{Backend, Members, Session},
    stages::{alive, arm},
    tasks,
};
use portcullis_upstream::{Behalf, Events, Reply, Upstream, Verb};

/// How long a server may take to hear from which level on to log.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells the gateway's own requests in a session from each other, and from those of its client.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// The answer of a server to a request in a session with it.
pub(super) async fn ask(
    gateway: &Gateway,
    (server, session): (&Arc<Server>, &Arc<Session>),
    request: &Message,
    limits: &Limits,
) -> Result<Message, Refusal> {
    let behalf = Behalf::of(&session.caller);
    let reply = match (&server.upstream, &session.backend) {
        (_, Backend::Bridged(bridged)) => {
            let row = request.method_name().and_then(|name| method::find(&name));
            let crossing = Crossing {
                server,
                caller: &session.caller,
                behalf: behalf.clone(),
                message: request,
                row: row.ok_or_else(|| Refusal::new(Code::Internal, "no such method"))?,
                headers: arm::credentials(server, &behalf),
                annotated: &[],
                limits,
                unwanted: &Arc::default(),
            };
            gateway.bridge.from_legacy(crossing, bridged).await?
        }
        (Upstream::Http(peer), Backend::Http(id)) => {
            let within = (id.as_deref(), session.version.as_str());
            peer.within(Verb::Post, within, (&behalf, request.bytes().clone()), limits).await?
        }
        (Upstream::Stdio(_), Backend::Stdio { process, .. }) => {
            let lines = process.request(request, Some(&session.id), true).await?;
            Reply::Stream { events: Events::Stdio(lines), session: None }
        }
        (Upstream::Group | Upstream::Http(_) | Upstream::Stdio(_), _) => {
            return Err(Refusal::new(Code::SessionUnknown, "the server is reached another way now"));
        }
    };
    reply.answer(limits).await
}

/// A request of the gateway itself in somebody's session.
fn request(method: &str, params: &str) -> Result<Message, Refusal> {
    let id = SERIAL.fetch_add(1, Ordering::Relaxed);
    let text = format!(r#"{{"jsonrpc":"2.0","id":"portcullis-{id}","method":"{method}","params":{params}}}"#);
    tasks::reparsed(Bytes::from(text))
}

/// `logging/setLevel`: every server with a session hears it now, the others when theirs is opened.
pub(super) async fn set_level(
    gateway: &Gateway,
    rules: &Rules,
    armed: &Armed,
    parts: &Members,
) -> Result<(), Refusal> {
    let params = armed.message().and_then(Message::params);
    let level = params.and_then(|params| params.get("level")?.as_str());
    let level = level.filter(|level| level.len() <= 16).ok_or_else(|| {
        Refusal::new(Code::RequestMeta, "`level` is not a level").saying("`level` is not a level")
    })?;
    parts.set_level(&level);
    let open = parts.open();
    let told = open.iter().map(|(name, session)| async move {
        let Some(server) = rules.servers.get(&**name) else { return };
        if !alive::reaches(gateway, armed.caller(), name) {
            return;
        }
        log_from(gateway, server, session, parts, &rules.limits).await;
    });
    join_all(told).await;
    Ok(())
}

/// Tells a server from which level on its client wants to be told. One that does not log, or does not answer in time,
/// logs as it likes.
pub(super) async fn log_from(
    gateway: &Gateway,
    server: &Arc<Server>,
    session: &Arc<Session>,
    parts: &Members,
    limits: &Limits,
) {
    let logs = View::of(&server.catalog.capabilities()).get("logging").is_some();
    let Some(level) = parts.level().filter(|_| logs) else { return };
    let Ok(request) = request("logging/setLevel", &format!(r#"{{"level":{}}}"#, quote(&level))) else {
        return;
    };
    let answer = timeout(PATIENCE, ask(gateway, (server, session), &request, limits)).await;
    if !answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.shape() == Shape::Response)) {
        tracing::info!(server = %server.name, "the level of logs did not reach a server of a route over several");
    }
}

/// `tasks/list`: the caller's own tasks on every server that lists tasks, on one page.
pub(super) async fn tasks(
    gateway: &Gateway,
    rules: &Rules,
    armed: &Armed,
    group: &Group,
) -> Result<Bytes, Refusal> {
    let caller = &armed.recorded.inspected.permitted.caller;
    let context = armed.recorded.inspected.permitted.valid.aimed.call.context(gateway.clock.now());
    let wait = Duration::from_millis(group.bounds.member_timeout_ms);
    let may = |action, server: &Arc<str>| {
        let target = Target { server: Arc::clone(server), item: None, digest: None };
        rules.policy.may_see(caller, action, &target, &context)
    };
    let listing = group.members().iter().filter_map(|member| {
        let server = rules.servers.get(&*member.server)?;
        let lists = View::of(&server.catalog.capabilities()).path(&["tasks", "list"]).is_some();
        let alive = alive::reaches(gateway, &caller.id, &server.name);
        (lists && alive && may(Action::Task, &server.name)).then_some(async move {
            let own = timeout(wait, of_member(gateway, armed, member, server, &rules.limits)).await;
            (member, own.ok().and_then(Result::ok))
        })
    });
    let (mut found, mut down) = (Vec::new(), Vec::new());
    for (member, own) in join_all(listing).await {
        match own {
            Some(own) => found.extend(own),
            None if may(Action::Connect, &member.server) => down.push(quote(&member.server)),
            None => {}
        }
    }
    let id = armed.message().and_then(Message::id);
    let id = id.ok_or_else(|| Refusal::new(Code::Internal, "a request without an id"))?;
    let id = String::from_utf8_lossy(id.raw()).into_owned();
    let meta = match down.as_slice() {
        [] => String::new(),
        down => format!(r#""_meta":{{"dev.portcullis/unavailable":[{}]}},"#, down.join(",")),
    };
    let tasks = found.join(",");
    Ok(Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{{meta}"tasks":[{tasks}]}}}}"#)))
}

/// The caller's own tasks on one server, as its client calls them (JSON texts).
async fn of_member(
    gateway: &Gateway,
    armed: &Armed,
    member: &Member,
    server: &Arc<Server>,
    limits: &Limits,
) -> Result<Vec<String>, Refusal> {
    let session = members::open_part(gateway, armed, server, limits).await?;
    let context = tasks::Context {
        tasks: &gateway.tasks,
        caller: armed.caller(),
        server: &server.name,
        method: "tasks/list",
        tool: None,
        obligations: armed.obligations(),
        named: &[],
        limits,
    };
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    for _ in 0..limits.list_pages_max {
        let params =
            cursor.as_ref().map_or_else(String::new, |cursor| format!(r#""cursor":{}"#, quote(cursor)));
        let request = request("tasks/list", &format!("{{{params}}}"))?;
        let answer = ask(gateway, (server, &session), &request, limits).await?;
        let answer = tasks::outward(&context, answer)?;
        let unusable = || Refusal::new(Code::AnswerInvalid, "an unusable answer to `tasks/list`");
        let answer = answer.filter(|answer| answer.shape() == Shape::Response).ok_or_else(unusable)?;
        cursor = answer.result().and_then(|result| next_cursor(&result)).map(|cursor| cursor.into_owned());
        let exposed = member.prefix.outward(&answer).unwrap_or_else(|| answer.bytes().clone());
        let tasks = View::of(&exposed).path(&["result", "tasks"]);
        let tasks = tasks.into_iter().flat_map(|tasks| tasks.elements());
        found.extend(tasks.map(|task| String::from_utf8_lossy(task.raw()).into_owned()));
        if found.len() as u64 > limits.caller_tasks_max {
            return Err(unusable());
        }
        if cursor.is_none() {
            return Ok(found);
        }
    }
    Err(Refusal::new(Code::AnswerInvalid, "more than limits.list_pages_max pages of tasks"))
}
