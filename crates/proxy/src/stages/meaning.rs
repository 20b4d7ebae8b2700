//! Arguments are what the operator declared their parameters to be: in the bytes that leave, once everything in them was
//! masked or restored.

use portcullis_core::{Code, Finding, Refusal, TargetKind};
use portcullis_mcp::jsonrpc::Message;

use super::authorize::Permitted;
use crate::rules::Rules;

/// Breaches that the caller is told of.
const TOLD_MAX: usize = 4;
/// Characters of a place that the caller is told.
const PLACE_MAX: usize = 120;

/// Refuses a call of a tool with an argument that is something else.
pub(super) fn hold(
    permitted: &Permitted,
    message: &Message,
    rules: &Rules,
    findings: &mut Vec<Finding>,
) -> Result<(), Refusal> {
    let aimed = &permitted.valid.aimed;
    let Some(meanings) = rules.meanings.get(&*aimed.server.name) else { return Ok(()) };
    let Some((TargetKind::Tool, tool)) = &aimed.target.item else { return Ok(()) };
    let breaches = meanings.check(tool, message.params().and_then(|params| params.get("arguments")));
    if breaches.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = breaches
        .iter()
        .take(TOLD_MAX)
        .map(|breach| {
            let place: String = breach.place.chars().take(PLACE_MAX).collect();
            format!("`{place}` {}", breach.why)
        })
        .collect();
    findings.extend(breaches.iter().map(portcullis_meaning::Breach::finding));
    let text = format!("{}: {}", Code::ArgumentsMeaning.sentence(), told.join("; "));
    Err(Refusal::new(Code::ArgumentsMeaning, text.clone()).saying(text))
}
