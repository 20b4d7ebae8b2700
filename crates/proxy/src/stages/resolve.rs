//! What the call is aimed at: the server, and the pinned definition of what it names. A definition that changed
//! under us is refused here, before anybody judges the call.

pub mod member;
pub mod replica;
pub(super) mod scope;

use portcullis_catalog::{Item, Standing, State};
use portcullis_upstream::Behalf;
use std::sync::Arc;

use portcullis_core::{Action, Caller, Code, Refusal, Target, TargetKind};
use portcullis_mcp::{jsonrpc::Message, method, revision::Era};

use super::parse::Call;
use crate::{
    gateway::Gateway,
    rules::{Rules, Server},
    tasks::{self, Task},
    throttle::Hold,
};

/// A call with its server and, where it names one, the pinned definition.
#[derive(Debug)]
pub struct Aimed {
    pub(super) call: Call,
    pub(super) server: Arc<Server>,
    pub(super) target: Target,
    pub(super) item: Option<Arc<Item>>,
    /// The tasks that it names.
    pub(super) tasks: Vec<Task>,
    /// Counts as a running call of the server until the proof is dropped.
    #[expect(dead_code, reason = "held for its drop")]
    running: Hold,
}

impl Aimed {
    /// What the call is aimed at.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Whether the answer is a stream without an end of its own.
    #[must_use]
    pub fn endless(&self) -> bool {
        self.call.endless()
    }
}

/// Finds the target of `call`, at the replica of its server with this place; 0 is the server itself.
///
/// # Errors
/// `server.unknown`, `auth.scope`, `target.unknown`, `task.unknown`, `definition.changed`, `definition.unreviewed`,
/// `limit.concurrency`.
pub async fn target(
    gateway: &Gateway,
    mut call: Call,
    caller: &Caller,
    (rules, place): (&Rules, usize),
) -> Result<Aimed, Refusal> {
    let route = rules
        .route(&call.head.server)
        .ok_or_else(|| Refusal::new(Code::ServerUnknown, format!("server `{}`", call.head.server)))?;
    let server = member::pick(&mut call, route, rules)?;
    let server = &replica::pick(&mut call, &server, place, rules)
        .ok_or_else(|| Refusal::new(Code::ServerUnknown, "there are no more replicas"))?;
    scope::check(&call, caller, &server.name, rules)?;
    let running = gateway
        .server_calls
        .start(&server.name, rules.limits.server_calls_max)
        .ok_or_else(|| Refusal::new(Code::LimitConcurrency, "limits.server_calls_max"))?;
    let mut target = Target { server: Arc::clone(&server.name), item: None, digest: None };
    let mut found = None;
    if let Some((kind, name)) = named(&call)? {
        // What was pinned before the tools of a neighbour were known is judged by them before it is used.
        server.catalog.judge_again(rules.limits.definition_entries_max).await?;
        let item = find(server, kind, &name, (&Behalf::now(caller), rules)).await?;
        let state = server.catalog.state();
        let of_item = |item: &Arc<Item>| state.held(item.kind, &item.name);
        let held = state.held(kind, &name).or_else(|| item.as_ref().and_then(of_item));
        if let Some(why) = held {
            target.item = Some((kind, Arc::from(name)));
            return Err(unusable(gateway, &call, caller, &target, why, rules));
        }
        let item = item.ok_or_else(|| unknown(&call, kind, &name))?;
        // A template's instance is judged by its own URI under the template's definition.
        target.item = Some((kind, Arc::from(name)));
        target.digest = Some(item.digest);
        standing(gateway, &call, caller, &target, &item, rules)?;
        found = Some(item);
    }
    // A route over several servers has no tasks of its own.
    let tasks = match call.message().filter(|_| server.group.is_none()) {
        Some(message) => named_tasks(gateway, &call, message, caller, server, rules)?,
        None => Vec::new(),
    };
    if let (Action::Task, [task]) = (call.action, &*tasks) {
        target = tool_of(server, task).ok_or_else(|| no_task("its tool is not in the catalogue"))?.0;
    }
    Ok(Aimed { call, server: Arc::clone(server), target, item: found, tasks, running })
}

/// The tasks that the call names in `message`. Who may not call the tool of one may not follow what the tool does either, and what
/// a tool does that changed since is withheld; it can only be cancelled.
pub(super) fn named_tasks(
    gateway: &Gateway,
    call: &Call,
    message: &Message,
    caller: &Caller,
    server: &Server,
    rules: &Rules,
) -> Result<Vec<Task>, Refusal> {
    let named =
        tasks::named(&gateway.tasks, &call.method(), message, (&caller.id, &server.name), &rules.limits)?;
    let context = call.context(gateway.clock.now());
    for task in &named {
        let found = tool_of(server, task);
        let (target, item) = found.ok_or_else(|| no_task("its tool is not in the catalogue"))?;
        if !rules.policy.may_see(caller, Action::CallTool, &target, &context) {
            return Err(no_task("the caller may not call its tool"));
        }
        scope::of_task(call, caller, &server.name, rules, &task.tool)?;
        if !call.is("tasks/cancel") {
            standing(gateway, call, caller, &target, &item, rules)?;
        }
    }
    Ok(named)
}

fn no_task(why: &str) -> Refusal {
    Refusal::new(Code::TaskUnknown, format!("a task of which {why}"))
}

fn tool_of(server: &Server, task: &Task) -> Option<(Target, Arc<Item>)> {
    let item = Arc::clone(server.catalog.state().find(TargetKind::Tool, &task.tool)?);
    let name = Some((TargetKind::Tool, Arc::clone(&task.tool)));
    Some((Target { server: Arc::clone(&server.name), item: name, digest: Some(item.digest) }, item))
}

/// The kind and name of what the call names, if its method names something.
fn named(call: &Call) -> Result<Option<(TargetKind, String)>, Refusal> {
    let (Some(row), Some(message)) = (call.row, call.message()) else { return Ok(None) };
    if call.action == Action::Complete {
        let reference = message.params().and_then(|params| method::completion_target(&params));
        let (kind, name) = reference.ok_or_else(|| invalid("`ref` names neither a prompt nor a resource"))?;
        return Ok(Some((kind, name.into_owned())));
    }
    let Some((kind, member)) = row.item else { return Ok(None) };
    let name = message.params().and_then(|params| params.get(member)?.as_str());
    let name = name.ok_or_else(|| invalid(&format!("`params.{member}` is not a string")))?;
    Ok(Some((kind, name.into_owned())))
}

fn invalid(what: &str) -> Refusal {
    Refusal::new(Code::RequestMeta, what).saying(what.to_owned())
}

/// Looks in the catalogue; a name it does not know is asked for once more if the listing is not from just now.
async fn find(
    server: &Server,
    kind: TargetKind,
    name: &str,
    (caller, rules): (&Behalf, &Rules),
) -> Result<Option<Arc<Item>>, Refusal> {
    let look = |state: &State| {
        let exact = state.find(kind, name);
        let by_template = || (kind == TargetKind::Resource).then(|| state.template_of(name)).flatten();
        exact.or_else(by_template).cloned()
    };
    if let Some(item) = look(&server.catalog.state()) {
        return Ok(Some(item));
    }
    let kinds = match kind {
        TargetKind::Prompt => &[TargetKind::Prompt][..],
        TargetKind::Resource | TargetKind::Template => &[TargetKind::Resource, TargetKind::Template],
        TargetKind::Tool => &[TargetKind::Tool],
    };
    // At most once a second for names nobody knows, so that guessing them is no load on the server.
    let recent = |kind: &TargetKind| server.catalog.age_us(*kind).is_some_and(|age| age < 1_000_000);
    if kinds.iter().all(recent) {
        return Ok(None);
    }
    match server.catalog.freshen(&server.upstream, kinds, Some(caller), &rules.limits).await {
        Ok(()) => Ok(look(&server.catalog.state())),
        // Something the caller can do about it, where nobody knows yet what the server offers.
        Err(refusal)
            if matches!(
                refusal.code,
                Code::ConnectionFailed
                    | Code::ConnectionRequired
                    | Code::ExchangeRefused
                    | Code::ExchangeToken
            ) =>
        {
            Err(refusal)
        }
        Err(_) => Ok(None),
    }
}

/// What is not there looks as it does on a real server of that revision.
pub(super) fn unknown(call: &Call, kind: TargetKind, name: &str) -> Refusal {
    let private = format!("{kind} `{name}` is not in the catalogue");
    let name = call.shown(name);
    let public = match kind {
        TargetKind::Tool => format!("Unknown tool: {name}"),
        TargetKind::Prompt => format!("Unknown prompt: {name}"),
        TargetKind::Resource | TargetKind::Template => format!("Unknown resource: {name}"),
    };
    let refusal = Refusal::new(unknown_code(call, kind), private).saying(public);
    match kind {
        TargetKind::Prompt | TargetKind::Tool => refusal,
        // Clients tell resources apart by it (SEP-2164).
        TargetKind::Resource | TargetKind::Template => {
            refusal.with_data(serde_json::json!({ "uri": name }).to_string())
        }
    }
}

/// The code for something unknown in the caller's revision.
pub(super) fn unknown_code(call: &Call, kind: TargetKind) -> Code {
    match (call.era, kind) {
        (Era::Legacy, TargetKind::Resource | TargetKind::Template) => Code::ResourceUnknown,
        _ => Code::TargetUnknown,
    }
}

fn standing(
    gateway: &Gateway,
    call: &Call,
    caller: &Caller,
    target: &Target,
    item: &Item,
    rules: &Rules,
) -> Result<(), Refusal> {
    let what = match item.standing {
        Standing::Approved | Standing::Vanished => return Ok(()),
        Standing::Changed => "changed since it was approved and is quarantined",
        Standing::Rejected => "was rejected by an operator",
        Standing::Pending => "has not been approved yet",
    };
    let command = match item.standing {
        Standing::Pending => "show",
        Standing::Approved | Standing::Changed | Standing::Rejected | Standing::Vanished => "diff",
    };
    let code = if item.pinned { Code::DefinitionChanged } else { Code::DefinitionUnreviewed };
    let kind = item.kind;
    let public =
        format!("{kind} `{target}` {what}; an operator reviews it with `portcullis tool {command} {target}`");
    let refusal = Refusal::new(code, public.clone()).saying(public);
    // Who may not use it does not learn that it exists either.
    let context = call.context(gateway.clock.now());
    if rules.policy.may_see(caller, call.action, target, &context) {
        return Err(refusal);
    }
    let name = target.item.as_ref().map_or("", |(_, name)| name);
    Err(hide(refusal, call, kind, name))
}

/// The server's definition cannot be pinned. Who may not use it does not learn that it exists.
fn unusable(
    gateway: &Gateway,
    call: &Call,
    caller: &Caller,
    target: &Target,
    why: &str,
    rules: &Rules,
) -> Refusal {
    let Some((kind, name)) = &target.item else { return Refusal::new(Code::Internal, why) };
    let public = format!("{kind} `{}` cannot be pinned: {why}", call.shown(name));
    let refusal = Refusal::new(Code::DefinitionUnusable, public.clone()).saying(public);
    if rules.policy.may_see(caller, call.action, target, &call.context(gateway.clock.now())) {
        return refusal;
    }
    hide(refusal, call, *kind, name)
}

/// Makes a refusal look as if the thing did not exist.
pub(super) fn hide(refusal: Refusal, call: &Call, kind: TargetKind, name: &str) -> Refusal {
    let Refusal { public, data, .. } = unknown(call, kind, name);
    let hidden = refusal.shown_as(unknown_code(call, kind)).saying(public);
    Refusal { data, ..hidden }
}
