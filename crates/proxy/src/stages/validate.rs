//! Arguments fit the pinned input schema, and the headers that mirror them agree.

use portcullis_core::{Code, Refusal, TargetKind};
use portcullis_mcp::revision::{Era, agree_params};

use super::{parse, resolve::Aimed};
use crate::rules::Rules;

/// A call whose arguments fit.
#[derive(Debug)]
pub struct Valid {
    pub(super) aimed: Aimed,
}

/// Checks the arguments of a tool call.
///
/// # Errors
/// `arguments.invalid`, `request.header_mismatch`.
pub fn arguments(aimed: Aimed, rules: &Rules) -> Result<Valid, Refusal> {
    let tool = aimed.item.as_deref().filter(|item| item.kind == TargetKind::Tool);
    let (Some(tool), Some(message)) = (tool, aimed.call.message()) else { return Ok(Valid { aimed }) };
    let arguments = message.params().and_then(|params| params.get("arguments"));
    let schema = tool.schema(&rules.limits).map_err(|reason| {
        Refusal::new(Code::ArgumentsInvalid, format!("the tool's input schema cannot be used: {reason}"))
            .saying("the tool's input schema cannot be used")
    })?;
    schema.check(arguments).map_err(|violations| {
        let texts: Vec<_> = violations
            .iter()
            .map(|violation| {
                format!(
                    "{} {}",
                    if violation.place.is_empty() { "arguments" } else { &violation.place },
                    violation.rule
                )
            })
            .collect();
        let text = format!("{}: {}", Code::ArgumentsInvalid.sentence(), texts.join("; "));
        Refusal::new(Code::ArgumentsInvalid, text.clone()).saying(text)
    })?;
    if aimed.call.era == Era::Modern {
        agree_params(tool.headers(), &aimed.call.head.mcp(), arguments)
            .map_err(|error| parse::refused(error, &aimed.call.head, rules))?;
    }
    Ok(Valid { aimed })
}
