//! What must be seen by somebody at once: a secret of the gateway that comes back, or bait that was taken.

use portcullis_core::{Event, Finding};
use portcullis_inspect::{ARMED, CANARY};
use serde_json::json;

use crate::{gateway::Gateway, rules::Rules, trail::Trail};

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
