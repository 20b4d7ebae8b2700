//! People: where policy or a detector wants to have them asked, only a call passes that they said yes to, once. It is not held open
//! meanwhile.

use std::borrow::Cow;

use portcullis_approve::{Binding, Confirmation, HELD_BYTES_MAX, Held, Shown, Waiting};
use portcullis_core::{Approval, Code, Digest, Direction, Finding, Obligations, Refusal, Treatment};
use portcullis_inspect::{Inspector, Verdict};
use portcullis_mcp::{
    json::{Edits, View},
    jsonrpc::Message,
    revision::META_APART,
};

use portcullis_screen::{Asks, Ways, look};

use super::{
    arm::Armed,
    inspect::{self, Inspected, refused},
    redact,
};
use crate::{
    gateway::Gateway,
    refusal::{CONFIRM, CONFIRMED, CONNECT},
    rules::Rules,
    tasks::{self, reparsed},
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
    let inspected = waited(gateway, inspected, rules, trail, asks).await?;
    let permitted = &inspected.permitted;
    let Some(demand) = inspected.demand.as_ref().filter(|_| inspected.held.is_none()) else {
        return Ok(Approved { inspected });
    };
    let aimed = &permitted.valid.aimed;
    let message = inspected.message.as_ref().filter(|_| aimed.target.item.is_some());
    let message = message.ok_or_else(|| Refusal::new(Code::Internal, "nothing that could be approved"))?;
    let state = message.params().and_then(|params| params.get("requestState"));
    let binding = Binding::of(
        &permitted.caller,
        &aimed.target,
        (rules.policy.digest(), demand),
        &bound(message, &own(&inspected)),
        state.and_then(|state| state.as_str()).as_deref(),
    );
    let shown = || shown(&inspected, message, rules, &trail.findings);
    let waiting = waiting(&inspected, (binding, demand), rules, trail, asks, &shown);
    let confirmation = confirmation(message).filter(|_| demand.by_caller);
    let waiting = Waiting { confirmation, ..waiting };
    let approval = gateway.approvals.pass(&waiting, &rules.limits).await?;
    trail.approval = Some(approval);
    let stripped = without_asides(message)?;
    Ok(Approved { inspected: Inspected { message: stripped.or(inspected.message), ..inspected } })
}

/// The call with the answer that waited for people, where they let it through, or with what its answer is known by.
async fn waited(
    gateway: &Gateway,
    inspected: Inspected,
    rules: &Rules,
    trail: &mut Trail,
    asks: bool,
) -> Result<Inspected, Refusal> {
    let (permitted, message) = (&inspected.permitted, inspected.message.as_ref());
    let mut demanded = permitted.permit.obligations().answers.values();
    let may = rules.inspector.asks_of_answers() || demanded.any(|least| *least == Treatment::Ask);
    let Some(message) = message.filter(|_| may && inspect::can_wait(permitted)) else { return Ok(inspected) };
    let bound = bound(message, &own(&inspected));
    let binding = Binding::of_answer(&permitted.caller, &permitted.valid.aimed.target, &bound);
    let demand = &rules.review.others;
    let shown = || shown(&inspected, message, rules, &[]);
    let waiting = waiting(&inspected, (binding, demand), rules, trail, asks, &shown);
    let held = gateway.approvals.held(&waiting).await?;
    let (approval, held) = held.unzip();
    trail.approval = approval;
    Ok(Inspected { answer: Some(binding), held, ..inspected })
}

/// Asks people whether an answer may pass, which waits meanwhile; what its caller is told.
pub(crate) async fn answer(
    gateway: &Gateway,
    armed: &Armed,
    held: &redact::Held,
    rules: &Rules,
    trail: &Trail,
) -> Refusal {
    let inspected = armed.inspected();
    let (Some(binding), Some(message)) = (inspected.answer, &inspected.message) else {
        return Refusal::new(Code::Internal, "an answer that cannot wait");
    };
    // Who reads it lets nothing through to itself: who may confirm a call there may not confirm its answer.
    let demand = rules.review.and(None, held.asks.iter().copied());
    let demand = demand.map(|demand| Approval { by_caller: false, ..demand });
    let Some(demand) = demand.filter(|demand| !demand.roles.is_empty()) else {
        return refused(Code::AnswerRefused, &trail.findings);
    };
    if held.bytes().len() > HELD_BYTES_MAX {
        let what = format!("more than {HELD_BYTES_MAX} bytes, so that it cannot wait for people");
        return Refusal::new(Code::AnswerTooLarge, what);
    }
    let answer = tasks::reparsed(held.bytes().clone()).map(|said| Held {
        message: String::from_utf8_lossy(held.bytes()).into_owned(),
        shown: shown_answer(inspected, &said, rules),
    });
    let answer = match answer {
        Ok(answer) => answer,
        Err(refusal) => return refusal,
    };
    let shown = || shown(inspected, message, rules, &trail.findings);
    let waiting = waiting(inspected, (binding, &demand), rules, trail, false, &shown);
    let waiting = Waiting { answer: Some(answer), ..waiting };
    gateway.approvals.hold(&waiting, &rules.limits).await.unwrap_or_else(|refusal| refusal)
}

fn waiting<'a>(
    inspected: &'a Inspected,
    (binding, demand): (Binding, &'a Approval),
    rules: &Rules,
    trail: &'a Trail,
    asks: bool,
    shown: &'a (dyn Fn() -> Shown + Sync),
) -> Waiting<'a> {
    let permitted = &inspected.permitted;
    Waiting {
        binding,
        caller: &permitted.caller,
        asks,
        confirmation: None,
        owner: trail.owner.as_deref(),
        target: &permitted.valid.aimed.target,
        demand,
        policy: rules.policy.digest(),
        policies: permitted.policies(),
        findings: &trail.findings,
        session: trail.session,
        trace: trail.trace.as_deref(),
        shown,
        answer: None,
    }
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
    seen(&rules.inspector, &obligations, message, text)
}

/// What people may see of an answer that waits.
fn shown_answer(inspected: &Inspected, message: &Message, rules: &Rules) -> Shown {
    let said = |message: &Message| {
        let said = message.result().or_else(|| message.error());
        said.map_or_else(String::new, |said| String::from_utf8_lossy(said.raw()).into_owned())
    };
    seen(&rules.inspector, inspected.permitted.permit.obligations(), message, said)
}

fn seen(
    inspector: &Inspector,
    obligations: &Obligations,
    message: &Message,
    text: impl Fn(&Message) -> String,
) -> Shown {
    let ways = Ways { asks: Asks::Shown, ..Ways::PLAIN };
    let seen = look(inspector, Direction::Outward, message, (obligations, ways), None, &mut Vec::new());
    let left = match (seen.verdict, seen.masked) {
        (Verdict::Pass | Verdict::Warn, _) | (Verdict::Ask, None) => Some(text(message)),
        (Verdict::Mask | Verdict::Ask, Some(bytes)) => {
            tasks::reparsed(bytes).ok().map(|message| text(&message))
        }
        (Verdict::Mask, None) | (Verdict::Refuse, _) => None,
    };
    let own = text(message);
    Shown { text: left, size: own.len() as u64, digest: Digest::of(own.as_bytes()) }
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
