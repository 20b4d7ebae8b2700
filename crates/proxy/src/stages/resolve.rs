//! What the call is aimed at: the server, and the pinned definition of what it names. A definition that changed
//! under us is refused here, before anybody judges the call.

use std::sync::Arc;

use portcullis_core::{Action, Caller, Code, Refusal, Target, TargetKind};
use portcullis_mcp::{method, revision::Era};
use portcullis_policy::RequestContext;

use super::parse::Call;
use crate::{
    catalog::{Item, Standing, State},
    gateway::Gateway,
    rules::{Rules, Server},
    throttle::Hold,
};

/// A call with its server and, where it names one, the pinned definition.
#[derive(Debug)]
pub struct Aimed {
    pub(super) call: Call,
    pub(super) server: Arc<Server>,
    pub(super) target: Target,
    pub(super) item: Option<Arc<Item>>,
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

/// Finds the target of `call`.
///
/// # Errors
/// `server.unknown`, `target.unknown`, `definition.changed`, `definition.unreviewed`, `limit.concurrency`.
pub async fn target(gateway: &Gateway, call: Call, caller: &Caller, rules: &Rules) -> Result<Aimed, Refusal> {
    let server = rules
        .servers
        .get(&call.head.server)
        .ok_or_else(|| Refusal::new(Code::ServerUnknown, format!("server `{}`", call.head.server)))?;
    let running = gateway
        .server_calls
        .start(&server.name, rules.limits.server_calls_max)
        .ok_or_else(|| Refusal::new(Code::LimitConcurrency, "limits.server_calls_max"))?;
    let mut target = Target { server: Arc::clone(&server.name), item: None, digest: None };
    let mut found = None;
    if let Some((kind, name)) = named(&call)? {
        let item = find(server, kind, &name, rules).await;
        let item = item.ok_or_else(|| unknown(&call, kind, &name))?;
        // A template's instance is judged by its own URI under the template's definition.
        target.item = Some((kind, Arc::from(name)));
        target.digest = Some(item.digest);
        standing(gateway, &call, caller, &target, &item, rules)?;
        found = Some(item);
    }
    Ok(Aimed { call, server: Arc::clone(server), target, item: found, running })
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
async fn find(server: &Server, kind: TargetKind, name: &str, rules: &Rules) -> Option<Arc<Item>> {
    let look = |state: &State| {
        let exact = state.find(kind, name);
        let by_template = || (kind == TargetKind::Resource).then(|| state.template_of(name)).flatten();
        exact.or_else(by_template).cloned()
    };
    if let Some(item) = look(&server.catalog.state()) {
        return Some(item);
    }
    let kinds = match kind {
        TargetKind::Prompt => &[TargetKind::Prompt][..],
        TargetKind::Resource | TargetKind::Template => &[TargetKind::Resource, TargetKind::Template],
        TargetKind::Tool => &[TargetKind::Tool],
    };
    // At most once a second for names nobody knows, so that guessing them is no load on the server.
    let recent = |kind: &TargetKind| server.catalog.age_us(*kind).is_some_and(|age| age < 1_000_000);
    if kinds.iter().all(recent) {
        return None;
    }
    server.catalog.freshen(&server.upstream, kinds, &rules.limits).await.ok()?;
    look(&server.catalog.state())
}

/// What is not there looks as it does on a real server of that revision.
fn unknown(call: &Call, kind: TargetKind, name: &str) -> Refusal {
    let private = format!("{kind} `{name}` is not in the catalogue");
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
    let context = RequestContext {
        now: gateway.clock.now(),
        source_ip: Some(call.head.source),
        era: call.era.revision(),
    };
    if rules.policy.may_see(caller, call.action, target, &context) {
        return Err(refusal);
    }
    let name = target.item.as_ref().map_or("", |(_, name)| name);
    Err(hide(refusal, call, kind, name))
}

/// Makes a refusal look as if the thing did not exist.
pub(super) fn hide(refusal: Refusal, call: &Call, kind: TargetKind, name: &str) -> Refusal {
    let Refusal { public, data, .. } = unknown(call, kind, name);
    let hidden = refusal.shown_as(unknown_code(call, kind)).saying(public);
    Refusal { data, ..hidden }
}
