//! Detectors over what a tool or a model will read. They only report; the verdict is one pure function.

use std::collections::BTreeSet;

use bytes::Bytes;
use portcullis_approve::Binding;
use portcullis_core::{Action, Approval, Code, Digest, Direction, Finding, Labels, Refusal};
use portcullis_inspect::{Inspector, Role, Subject, Verdict};
use portcullis_mcp::{
    answer::{self, Place},
    json::{Edits, quote},
    jsonrpc::Message,
};
use portcullis_screen::{Asks, FINDINGS_MAX, Ways, look};

use super::{
    alive::Alive,
    authorize::{Permitted, token_scope},
    meaning,
};
use crate::rules::Rules;

/// A call whose content passed, with masked texts replaced.
#[derive(Debug)]
pub struct Inspected {
    pub(super) permitted: Permitted,
    /// The message as it will be forwarded: the client's own bytes unless something was masked.
    pub(super) message: Option<Message>,
    /// Whom policy, and what was found, want to have asked before it is made.
    pub(super) demand: Option<Approval>,
    /// How it is known again where its answer has to wait for people; nothing where none can.
    pub(super) answer: Option<Binding>,
    /// The answer that waited and that they let through: its server is not asked.
    pub(super) held: Option<String>,
}

impl Inspected {
    const fn new(permitted: Permitted, message: Option<Message>, demand: Option<Approval>) -> Self {
        Self { permitted, message, demand, answer: None, held: None }
    }
}

/// Inspects what the caller sends; findings go to `findings` whatever the verdict.
///
/// # Errors
/// `arguments.refused`, `arguments.meaning`, `limit.inspection`, `residency.refused`.
pub fn call(alive: Alive, rules: &Rules, findings: &mut Vec<Finding>) -> Result<Inspected, Refusal> {
    let Alive { permitted } = alive;
    let call = &permitted.valid.aimed.call;
    let obligations = permitted.permit.obligations();
    let demand = obligations.approval.clone();
    let Some(message) = call.message() else { return Ok(Inspected::new(permitted, None, demand)) };
    let scope = token_scope(&permitted, rules);
    if let Some(((_, keys), scope)) = rules.inspector.token_keys().zip(scope) {
        keys.in_use(scope);
    }
    let asks = if can_wait(&permitted) { Asks::Waits } else { Asks::Masked };
    let ways = Ways { scope, asks, ..Ways::PLAIN };
    let seen = look(&rules.inspector, Direction::Inward, message, (obligations, ways), None, findings);
    // A mirrored header would still carry the text, and contradict the body.
    let mirrored = permitted.valid.aimed.item.as_ref().is_some_and(|item| !item.headers().is_empty());
    let again = |bytes| {
        Message::parse(bytes, &rules.request)
            .map_err(|error| Refusal::new(Code::Internal, format!("inspection broke the message: {error}")))
    };
    let mut sent = seen.labels;
    let passed = match (seen.verdict, seen.masked) {
        (Verdict::Pass | Verdict::Warn, _) | (Verdict::Ask, None) => message.clone(),
        (Verdict::Mask | Verdict::Ask, Some(masked)) if !mirrored => again(masked)?,
        (Verdict::Refuse, _) if seen.unread => return Err(unread()),
        (Verdict::Mask | Verdict::Ask | Verdict::Refuse, _) => {
            return Err(refused(Code::ArgumentsRefused, findings));
        }
    };
    let demand = rules.review.and(demand, seen.asks);
    let tokens = &permitted.permit.obligations().restore;
    let restored = if tokens.is_empty() || mirrored {
        None
    } else {
        restored(&rules.inspector, &passed, (tokens, scope), findings)
    };
    if restored.is_some() {
        // They leave as what they stand for, whatever was recorded of them.
        sent = tokens.iter().fold(sent, |all, detector| all.with(rules.inspector.labels(detector)));
    }
    stays(&permitted, sent, rules)?;
    let message = restored.map_or(Ok(passed), again)?;
    meaning::hold(&permitted, &message, rules, findings)?;
    Ok(Inspected::new(permitted, Some(message), demand))
}

/// Whether it is a call of its own, which can be made again once people said yes.
pub(super) fn can_wait(permitted: &Permitted) -> bool {
    let aimed = &permitted.valid.aimed;
    let action = aimed.call.action();
    aimed.target.item.is_some()
        && matches!(action, Action::CallTool | Action::GetPrompt | Action::ReadResource)
}

/// Whether data of these kinds may go to the server that the call is for, or to each where there are several.
fn stays(permitted: &Permitted, labels: Labels, rules: &Rules) -> Result<(), Refusal> {
    let server = &permitted.valid.aimed.server;
    let members = server.group.iter().flat_map(|group| group.members()).map(|member| &member.server);
    let servers = members.chain(server.group.is_none().then_some(&server.name));
    for server in servers {
        let barred = labels.both(rules.policy.barred_from(server));
        if !barred.is_empty() {
            let detail = format!("{barred} data may not go to the region of server `{server}`");
            let said = format!("{}: {barred}", Code::ResidencyRefused.sentence());
            return Err(Refusal::new(Code::ResidencyRefused, detail).saying(said));
        }
    }
    Ok(())
}

/// The message with the tokens in its arguments replaced by what they stand for, where there are any.
fn restored(
    inspector: &Inspector,
    message: &Message,
    (detectors, scope): (&BTreeSet<String>, Option<Digest>),
    findings: &mut Vec<Finding>,
) -> Option<Bytes> {
    let arguments = message.params()?.get("arguments")?;
    let (mut edits, mut edited) = (Edits::new(), false);
    answer::leaves(arguments, "/params/arguments", |place, kind, leaf| {
        let Some(text) = leaf.as_str().filter(|_| kind == Place::Value) else { return };
        let subject = Subject { role: Role::Argument, place, text: &text };
        if let Some((text, mut found)) = inspector.restored(scope, &subject, detectors) {
            edits.replace(leaf.span(), quote(&text).into_bytes());
            edited = true;
            found.truncate(FINDINGS_MAX.saturating_sub(findings.len()));
            findings.append(&mut found);
        }
    });
    if edited { edits.apply(message.bytes()).ok() } else { None }
}

/// A refusal of what hides more than may be read of one message.
pub(super) fn unread() -> Refusal {
    Refusal::new(
        Code::LimitInspection,
        "more than `limits.inspect_bytes_max`, with what is packed or coded in it",
    )
}

/// A refusal that names the detectors, not what they saw.
pub(super) fn refused(code: Code, findings: &[Finding]) -> Refusal {
    let mut kinds: Vec<_> = findings.iter().map(|finding| finding.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let text = format!("{}: {}", code.sentence(), kinds.join(", "));
    Refusal::new(code, text.clone()).saying(text)
}
