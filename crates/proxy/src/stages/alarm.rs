//! What must be seen by somebody at once: a secret of the gateway that comes back, or bait that was taken.

use memchr::memmem;
use portcullis_core::{Direction, Event, Finding, Obligations, Severity};
use portcullis_inspect::{ARMED, CANARY};
use portcullis_mcp::jsonrpc::Message;
use portcullis_screen::{Ways, look};
use serde_json::json;

use super::authenticate::HEADERS;
use crate::{gateway::Gateway, head::Head, rules::Rules, trail::Trail};

/// Secrets of one call that are told of.
const TOLD_MAX: usize = 16;

/// Records each secret once for each call, and logs it. Where the ledger takes nothing the log has it, and the outcome of
/// the call, which has the finding too, is not released.
pub async fn raise(gateway: &Gateway, rules: &Rules, intent: Option<u64>, trail: &mut Trail) {
    let Some(watch) = rules.inspector.watch() else { return };
    loop {
        let fresh = |finding: &&Finding| {
            matches!(finding.kind, ARMED | CANARY) && !trail.alarms.contains(&finding.evidence)
        };
        let Some(finding) = trail.findings.iter().find(fresh).filter(|_| trail.alarms.len() < TOLD_MAX)
        else {
            return;
        };
        let (event, member) = match finding.kind {
            CANARY => (Event::CanarySeen, "canary"),
            _ => (Event::SecretLeaked, "secret"),
        };
        let name = watch.name(finding.evidence).unwrap_or_default();
        let target = trail.target.as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::error!(%name, place = finding.place, target, alarm = event.name(), "a secret is where it must not be");
        let mut entry = trail.entry(event, &gateway.instance);
        entry.intent = intent;
        entry.data.insert(member, json!(&*name));
        entry.data.insert("place", json!(finding.place));
        let (evidence, bytes) = (finding.evidence, entry.to_jcs());
        if let Err(error) = gateway.ledger.append(bytes).await {
            tracing::error!(%name, %error, "an alarm could not be recorded");
        }
        trail.alarms.insert(evidence);
    }
}

/// Looks for bait in a message that was refused before anybody inspected it, and tells of it.
pub async fn refused(gateway: &Gateway, rules: &Rules, trail: &mut Trail) {
    if let Some(bytes) = trail.unseen.take() {
        sent(rules, &bytes, &mut trail.findings);
    }
    raise(gateway, rules, None, trail).await;
}

fn sent(rules: &Rules, bytes: &bytes::Bytes, findings: &mut Vec<Finding>) {
    let Some(watch) = rules.inspector.watch().filter(|watch| watch.looks(Direction::Inward)) else { return };
    if !watch.may_hold(bytes) && memmem::find(bytes, b"\\u").is_none() {
        return;
    }
    let mut found = Vec::new();
    if let Ok(message) = Message::parse(bytes.clone(), &rules.request) {
        let ways = (&Obligations::default(), Ways::PLAIN);
        look(&rules.inspector, Direction::Inward, &message, ways, None, &mut found);
    } else {
        found.extend(found_in(rules, &String::from_utf8_lossy(bytes), "body"));
    }
    findings.extend(found.into_iter().filter(|finding| finding.kind == CANARY).take(TOLD_MAX));
}

/// Looks for bait in credentials that let nobody in.
pub fn presented(rules: &Rules, head: &Head, findings: &mut Vec<Finding>) {
    for name in HEADERS {
        let values = head.headers.get_all(&name).iter().filter_map(|value| value.to_str().ok());
        let found = values.flat_map(|value| found_in(rules, value, name.as_str()));
        findings.extend(found.take(TOLD_MAX));
    }
}

fn found_in(rules: &Rules, text: &str, place: &str) -> Vec<Finding> {
    let Some(watch) = rules.inspector.watch().filter(|watch| watch.looks(Direction::Inward)) else {
        return Vec::new();
    };
    let finding = |one: portcullis_inspect::Watched| Finding {
        kind: one.kind,
        severity: Severity::Critical,
        confidence: Finding::CERTAIN,
        place: place.to_owned(),
        evidence: one.id,
        treatment: one.treatment,
    };
    watch.find(Direction::Inward, text).into_iter().map(finding).collect()
}
