//! People: where policy or a detector wants to have them asked, only a call passes that they said yes to, once. It is not held open
//! meanwhile.

use std::borrow::Cow;

use portcullis_approve::{Binding, Confirmation, Shown, Waiting};
use portcullis_core::{Code, Digest, Direction, Finding, Refusal, Treatment};
use portcullis_inspect::Verdict;
use portcullis_mcp::{
    json::{Edits, View},
    jsonrpc::Message,
    revision::META_APART,
};

use portcullis_screen::{Asks, Ways, look};

use super::inspect::Inspected;
use crate::{
    gateway::Gateway,
    refusal::{CONFIRM, CONFIRMED, CONNECT},
    rules::Rules,
    tasks::reparsed,
    trail::Trail,
};

/// An inspected call that needs no approval, or has one, which is used up.
#[derive(Debug)]
pub struct Approved {
    pub(super) inspected: Inspected,
}

/// Asks for the approval of a call where its permit, or what was found in it, demands one; the trail learns its name. `asks` where the client can
/// show its user a form.
///
/// # Errors
/// `approval.required`, `approval.denied`, `limit.approvals`, `approval.unavailable`, `ledger.unavailable`.
pub async fn call(
    gateway: &Gateway,
    inspected: Inspected,
    rules: &Rules,
    trail: &mut Trail,
    asks: bool,
) -> Result<Approved, Refusal> {
    let permitted = &inspected.permitted;
    let Some(demand) = &inspected.demand else { return Ok(Approved { inspected }) };
    let aimed = &permitted.valid.aimed;
    let message = inspected.message.as_ref().filter(|_| aimed.target.item.is_some());
    let message = message.ok_or_else(|| Refusal::new(Code::Internal, "nothing that could be approved"))?;
    let state = message.params().and_then(|params| params.get("requestState"));
    let policy = rules.policy.digest();
    let waiting = Waiting {
        binding: Binding::of(
            &permitted.caller,
            &aimed.target,
            (policy, demand),
            &bound(message, &own(&inspected)),
            state.and_then(|state| state.as_str()).as_deref(),
        ),
        caller: &permitted.caller,
        asks,
        confirmation: confirmation(message).filter(|_| demand.by_caller),
        owner: trail.owner.as_deref(),
        target: &aimed.target,
        demand,
        policy,
        policies: permitted.policies(),
        findings: &trail.findings,
        session: trail.session,
        trace: trail.trace.as_deref(),
        shown: &|| shown(&inspected, message, rules, &trail.findings),
    };
    let approval = gateway.approvals.pass(&waiting, &rules.limits).await?;
    trail.approval = Some(approval);
    let stripped = without_asides(message)?;
    Ok(Approved { inspected: Inspected { message: stripped.or(inspected.message), ..inspected } })
}

/// The message without what its client says beside the call, where it does: clients fill `_meta` anew for each try, so
/// nobody said yes to it, and its server must not act on it.
fn without_asides(message: &Message) -> Result<Option<Message>, Refusal> {
    let meta = message.params().and_then(|params| params.get("_meta"));
    let aside = |meta: &View<'_>| meta.members().any(|(name, _)| !META_APART.contains(&&*name));
    let Some(meta) = meta.filter(aside) else { return Ok(None) };
    let mut edits = Edits::new();
    edits.retain_members(meta, |name| META_APART.contains(&name));
    let bytes =
        edits.apply(message.bytes()).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    reparsed(bytes).map(Some)
}

/// A call went no further before its server saw it: its approval counts for it as before.
pub async fn unused(gateway: &Gateway, trail: &Trail) {
    if let Some(approval) = &trail.approval {
        gateway.approvals.unused(approval).await;
    }
}

/// Names under which the gateway may have asked the user of the client something about the call.
pub(super) fn own(inspected: &Inspected) -> Vec<&'static str> {
    let permitted = &inspected.permitted;
    let connects = permitted.valid.aimed.server.authorization.is_some();
    let confirms = inspected.demand.as_ref().is_some_and(|demand| demand.by_caller);
    [(CONNECT, connects), (CONFIRM, confirms)]
        .into_iter()
        .filter_map(|(name, may)| may.then_some(name))
        .collect()
}

/// What the user said who was asked to confirm the call; nothing where the user closed the question.
fn confirmation(message: &Message) -> Option<Confirmation> {
    let params = message.params()?;
    let answer = params.path(&["inputResponses", CONFIRM])?;
    let id = params.get("requestState")?.as_str()?.into_owned();
    let action = answer.get("action")?.as_str()?;
    let confirmed = answer.path(&["content", CONFIRMED]).and_then(|confirmed| confirmed.as_bool());
    match &*action {
        "accept" => Some(Confirmation { id, yes: confirmed == Some(true) }),
        "decline" => Some(Confirmation { id, yes: false }),
        _ => None,
    }
}

/// What is approved of a message. What the gateway asked the user of the client is between the two of them, where it
/// is nothing but that.
fn bound<'a>(message: &'a Message, own: &[&str]) -> Vec<(Cow<'a, str>, &'a [u8])> {
    let mut members = members(message);
    let Some(answers) = message.params().and_then(|params| params.get("inputResponses")) else {
        return members;
    };
    let ours = answers.members().next().is_some() && answers.members().all(|(name, _)| own.contains(&&*name));
    let stated = ours && answers.get(CONFIRM).is_some();
    members.retain(|(name, _)| !(ours && name == "inputResponses" || stated && name == "requestState"));
    members
}

fn members(message: &Message) -> Vec<(Cow<'_, str>, &[u8])> {
    message.params().iter().flat_map(View::members).map(|(name, value)| (name, value.raw())).collect()
}

/// What people may see of the arguments: what the caller would see of them in an answer, and of somebody's data that they
/// are asked about nothing. What an attack would be they see, or they could not judge it.
fn shown(inspected: &Inspected, message: &Message, rules: &Rules, asked: &[Finding]) -> Shown {
    let mut obligations = inspected.permitted.permit.obligations().clone();
    for one in asked.iter().filter(|one| one.treatment == Treatment::Ask) {
        obligations.at_least(one.kind, Treatment::Ask);
    }
    let (inspector, mut findings) = (&rules.inspector, Vec::new());
    let seen = look(
        inspector,
        Direction::Outward,
        message,
        (&obligations, Ways { asks: Asks::Shown, ..Ways::PLAIN }),
        None,
        &mut findings,
    );
    let arguments = match (seen.verdict, seen.masked) {
        (Verdict::Pass | Verdict::Warn, _) | (Verdict::Ask, None) => Some(text(message)),
        (Verdict::Mask | Verdict::Ask, Some(bytes)) => {
            Message::parse(bytes, &rules.request).ok().map(|message| text(&message))
        }
        (Verdict::Mask, None) | (Verdict::Refuse, _) => None,
    };
    let own = text(message);
    Shown { arguments, size: own.len() as u64, digest: Digest::of(own.as_bytes()) }
}

/// The arguments of a call; of one that says more than that, all of it.
fn text(message: &Message) -> String {
    let said = |(name, _): &(Cow<'_, str>, &[u8])| !matches!(&**name, "_meta" | "name");
    let members: Vec<_> = members(message).into_iter().filter(said).collect();
    if let [(name, raw)] = &*members
        && name == "arguments"
    {
        return String::from_utf8_lossy(raw).into_owned();
    }
    let one = |(name, raw): &(Cow<'_, str>, &[u8])| {
        format!("{}:{}", portcullis_mcp::json::quote(name), String::from_utf8_lossy(raw))
    };
    format!("{{{}}}", members.iter().map(one).collect::<Vec<_>>().join(","))
}
