//! Detectors over what a tool or a model will read. They only report; the verdict is one pure function.

use std::collections::BTreeSet;

use bytes::Bytes;
use portcullis_core::{Code, Direction, Finding, Labels, Obligations, Refusal, Treatment};
use portcullis_inspect::{Inspector, Match, Role, Subject, Verdict, Window, verdict};
use portcullis_mcp::{
    answer::{self, Place},
    json::{Edits, ValueKind, View, quote},
    jsonrpc::Message,
};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{alive::Alive, authorize::Permitted};
use crate::rules::Rules;

/// Bytes of a message from which on looking at it takes so long that nothing else may wait for it.
const LARGE: usize = 262_144;

/// Findings of one call that are recorded; each is treated, recorded or not.
const FINDINGS_MAX: usize = 256;

/// A call whose content passed, with masked texts replaced.
#[derive(Debug)]
pub struct Inspected {
    pub(super) permitted: Permitted,
    /// The message as it will be forwarded: the client's own bytes unless something was masked.
    pub(super) message: Option<Message>,
}

/// What inspection made of a message.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) verdict: Verdict,
    /// The message with matches masked, where the verdict says so.
    pub(super) masked: Option<Bytes>,
    /// The labels of what still stands in it.
    pub(super) labels: Labels,
    /// Whether it is refused for where it would go.
    pub(super) abroad: bool,
}

/// Inspects what the caller sends; findings go to `findings` whatever the verdict.
///
/// # Errors
/// `arguments.refused`.
pub fn call(alive: Alive, rules: &Rules, findings: &mut Vec<Finding>) -> Result<Inspected, Refusal> {
    let Alive { permitted } = alive;
    let call = &permitted.valid.aimed.call;
    let Some(message) = call.message() else { return Ok(Inspected { permitted, message: None }) };
    let seen =
        look(&rules.inspector, Direction::Inward, message, permitted.permit.obligations(), None, findings);
    // A mirrored header would still carry the text, and contradict the body.
    let mirrored = permitted.valid.aimed.item.as_ref().is_some_and(|item| !item.headers().is_empty());
    let again = |bytes| {
        Message::parse(bytes, &rules.request)
            .map_err(|error| Refusal::new(Code::Internal, format!("inspection broke the message: {error}")))
    };
    let mut sent = seen.labels;
    let passed = match seen.verdict {
        Verdict::Pass => message.clone(),
        Verdict::Refuse => return Err(refused(Code::ArgumentsRefused, findings)),
        Verdict::Mask => {
            let masked = seen.masked.filter(|_| !mirrored);
            again(masked.ok_or_else(|| refused(Code::ArgumentsRefused, findings))?)?
        }
    };
    let tokens = &permitted.permit.obligations().restore;
    let restored = if tokens.is_empty() || mirrored {
        None
    } else {
        restored(&rules.inspector, &passed, tokens, findings)
    };
    if restored.is_some() {
        // They leave as what they stand for, whatever was recorded of them.
        sent = tokens.iter().fold(sent, |all, detector| all.with(rules.inspector.labels(detector)));
    }
    stays(&permitted, sent, rules)?;
    let message = restored.map_or(Ok(passed), again)?;
    Ok(Inspected { message: Some(message), permitted })
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
    detectors: &BTreeSet<String>,
    findings: &mut Vec<Finding>,
) -> Option<Bytes> {
    let arguments = message.params()?.get("arguments")?;
    let (mut edits, mut edited) = (Edits::new(), false);
    answer::leaves(arguments, "/params/arguments", |place, kind, leaf| {
        let Some(text) = leaf.as_str().filter(|_| kind == Place::Value) else { return };
        let subject = Subject { role: Role::Argument, place, text: &text };
        if let Some((text, mut found)) = inspector.restored(&subject, detectors) {
            edits.replace(leaf.span(), quote(&text).into_bytes());
            edited = true;
            found.truncate(FINDINGS_MAX.saturating_sub(findings.len()));
            findings.append(&mut found);
        }
    });
    if edited { edits.apply(message.bytes()).ok() } else { None }
}

/// A refusal that names the detectors, not what they saw.
pub(super) fn refused(code: Code, findings: &[Finding]) -> Refusal {
    let mut kinds: Vec<_> = findings.iter().map(|finding| finding.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let text = format!("{}: {}", code.sentence(), kinds.join(", "));
    Refusal::new(code, text.clone()).saying(text)
}

/// Looks at every text of a message. What else runs on this thread goes on elsewhere while a large one is looked at: a
/// server that answers much must not hold up calls to others, their deadlines or the kill switch.
pub(super) fn look(
    inspector: &Inspector,
    direction: Direction,
    message: &Message,
    obligations: &Obligations,
    window: Option<&mut Window>,
    findings: &mut Vec<Finding>,
) -> Seen {
    let threads = Handle::try_current().map(|handle| handle.runtime_flavor());
    let aside = message.bytes().len() >= LARGE && matches!(threads, Ok(RuntimeFlavor::MultiThread));
    let look = || search(inspector, direction, message, obligations, window, findings);
    if aside { tokio::task::block_in_place(look) } else { look() }
}

fn search(
    inspector: &Inspector,
    direction: Direction,
    message: &Message,
    obligations: &Obligations,
    window: Option<&mut Window>,
    findings: &mut Vec<Finding>,
) -> Seen {
    let clean = Seen { verdict: Verdict::Pass, masked: None, labels: Labels::NONE, abroad: false };
    if window.is_none() && !inspector.quick(direction, message.bytes(), message.stats().unicode_escapes) {
        return clean;
    }
    let mut search = Search {
        inspector,
        direction,
        obligations,
        window,
        edits: Edits::new(),
        worst: Verdict::Pass,
        edited: false,
        labels: Labels::NONE,
        abroad: false,
        findings,
    };
    // Members that the protocol does not know as well: they are relayed like the others.
    answer::leaves_and_numbers(message.root(), "", |place, kind, leaf| search.leaf(place, kind, leaf));
    let Search { edits, worst, edited, labels, abroad, .. } = search;
    let masked = if edited && worst == Verdict::Mask { edits.apply(message.bytes()).ok() } else { None };
    // What should have been masked and could not be is refused, never let through.
    let verdict = if worst == Verdict::Mask && masked.is_none() { Verdict::Refuse } else { worst };
    Seen { verdict, masked, labels, abroad }
}

struct Search<'a> {
    inspector: &'a Inspector,
    direction: Direction,
    obligations: &'a Obligations,
    window: Option<&'a mut Window>,
    edits: Edits,
    worst: Verdict,
    edited: bool,
    labels: Labels,
    abroad: bool,
    findings: &'a mut Vec<Finding>,
}

impl Search<'_> {
    fn leaf(&mut self, place: &str, kind: Place, leaf: View<'_>) {
        if matches!(place, "/id" | "/jsonrpc" | "/method") {
            return;
        }
        // Byte-exact by the specification, opaque to everybody but the server itself.
        if kind == Place::Value && matches!(place, "/params/requestState" | "/result/requestState") {
            return;
        }
        let number = leaf.kind() == ValueKind::Number;
        let text = if number { Some(String::from_utf8_lossy(leaf.raw())) } else { leaf.as_str() };
        let Some(text) = text else { return };
        let mut matches: Vec<Match> = Vec::new();
        match &mut self.window {
            Some(window) => self.inspector.scan_event(self.direction, place, &text, window, &mut matches),
            None => self.inspector.scan(self.direction, place, &text, &mut matches),
        }
        if matches.is_empty() {
            return;
        }
        let found = verdict(self.direction, &mut matches, self.obligations);
        self.worst = self.worst.max(found);
        let role = Role::of(self.direction, place);
        self.labels = self.labels.with(Inspector::brought(&matches));
        self.abroad |= role.direction() == Direction::Outward
            && matches.iter().any(|found| is_barred(found, self.obligations));
        // A tool that wants a number gets none where a text takes its place.
        let replaceable = !(number && self.direction == Direction::Inward) && maskable(place);
        if found == Verdict::Mask {
            let subject = Subject { role, place, text: &text };
            let masked = self.inspector.masked(&subject, &mut matches, self.obligations);
            if let Some(masked) = masked.filter(|_| kind == Place::Value && replaceable) {
                self.edits.replace(leaf.span(), quote(&masked).into_bytes());
                self.edited = true;
            } else {
                self.worst = Verdict::Refuse;
            }
        }
        let room = FINDINGS_MAX.saturating_sub(self.findings.len());
        self.findings.extend(matches.into_iter().take(room).map(|found| found.finding));
    }
}

/// Whether it may not go where the caller is, not even masked.
fn is_barred(found: &Match, obligations: &Obligations) -> bool {
    obligations.abroad.iter().any(|(label, least)| *least == Treatment::Refuse && found.labels.has(*label))
}

/// Whether a text may be replaced: content, yes; what the protocol itself reads, no.
fn maskable(place: &str) -> bool {
    match place.split('/').nth(1) {
        Some("params") => {
            let protocol = ["/params/name", "/params/uri", "/params/cursor", "/params/_meta", "/params/ref"];
            !protocol.iter().any(|member| place.starts_with(member))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use portcullis_core::Limits;
    use portcullis_inspect::InspectSettings;
    use portcullis_mcp::json::JsonLimits;

    use super::*;

    /// What inspection makes of an answer with these members.
    fn answer(members: &str) -> (Seen, Vec<Finding>) {
        let inspector = Inspector::new(&InspectSettings::default()).unwrap();
        let text = format!("{{\"jsonrpc\":\"2.0\",{members}}}");
        let message = Message::parse(text.into(), &JsonLimits::answer(&Limits::default())).unwrap();
        let mut findings = Vec::new();
        let seen =
            look(&inspector, Direction::Outward, &message, &Obligations::default(), None, &mut findings);
        (seen, findings)
    }

    #[test]
    fn only_the_id_and_the_servers_own_request_state_go_unread_and_nothing_beside_them() {
        let key = ["AKIA", "IOSFODNN7EXAMPLQ"].concat();
        for (members, clean) in [
            (r#""id":1,"result":{"requestState":"KEY"}"#, true),
            (r#""id":1,"result":{"structuredContent":{"requestState":"KEY"}}"#, false),
            (r#""id":1,"result":{},"beside":["KEY"]"#, false),
            (r#""id":"KEY","result":{}"#, true),
            (r#""id":1,"error":{"code":1,"message":"","requestState":"KEY"}"#, false),
        ] {
            assert_eq!(answer(&members.replace("KEY", &key)).1.is_empty(), clean, "{members}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_runs_beside_a_large_message_goes_on_while_it_is_looked_at() {
        let (large, small) = ("key=a1b2 ".repeat(LARGE / 8), "key=a1b2 ".to_owned());
        for (text, goes_on) in [(large, true), (small, false)] {
            let told = tokio::spawn(async move {
                let beside = Arc::new(AtomicBool::new(false));
                let ran = Arc::clone(&beside);
                // On the one thread there is, which this task does not give up before it is done.
                let other = tokio::spawn(async move { ran.store(true, Ordering::SeqCst) });
                answer(&format!(r#""id":1,"result":{{"text":"{text}"}}"#));
                let went_on = beside.load(Ordering::SeqCst);
                other.await.unwrap();
                went_on
            });
            assert_eq!(told.await.unwrap(), goes_on);
        }
    }

    #[test]
    fn a_card_number_is_masked_in_an_answer_also_where_it_is_a_json_number() {
        let text = r#""id":1,"result":{"structuredContent":{"card":4111111111111111,"n":17}}"#;
        let (seen, findings) = answer(text);
        assert!(seen.masked.unwrap().ends_with(br#"{"card":"[masked:payment_card]","n":17}}}"#));
        assert_eq!(findings[0].place, "/result/structuredContent/card");
    }
}
