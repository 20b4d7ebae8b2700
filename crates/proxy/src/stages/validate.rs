//! Arguments fit the pinned input schema, and the headers that mirror them agree.

use std::collections::BTreeMap;

use portcullis_core::{Code, Refusal, TargetKind};
use portcullis_mcp::{
    json::View,
    revision::{Era, agree_params},
};

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
    // Only clients of the newer revision mirror arguments.
    let mirrored = if aimed.call.era == Era::Modern { tool.headers() } else { &[] };
    schema.check_call(arguments, mirrored.iter().map(|one| one.path.as_slice())).map_err(|violations| {
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
    let declared = View::of(&tool.raw).get("inputSchema").and_then(|schema| schema.get("properties"));
    if let Some(twin) = arguments.and_then(|arguments| twin(&arguments, declared)) {
        let text =
            format!("{}: `{twin}` is another argument but for its case", Code::ArgumentsInvalid.sentence());
        return Err(Refusal::new(Code::ArgumentsInvalid, text.clone()).saying(text));
    }
    if aimed.call.era == Era::Modern {
        agree_params(tool.headers(), &aimed.call.head.mcp(), arguments)
            .map_err(|error| parse::refused(error, &aimed.call.head, rules))?;
    }
    Ok(Valid { aimed })
}

/// An argument that only case tells from another one, or from one that the tool declares. A server that ignores case,
/// as Go's `encoding/json` does, would take it for that one: policy and schema judged something else.
fn twin(arguments: &View<'_>, declared: Option<View<'_>>) -> Option<String> {
    let folded = |name: &str| name.replace('\u{17f}', "s").replace('\u{212a}', "k").to_ascii_lowercase();
    let mut seen: BTreeMap<String, String> = declared
        .into_iter()
        .flat_map(|declared| declared.members())
        .map(|(name, _)| (folded(&name), name.into_owned()))
        .collect();
    for (name, _) in arguments.members() {
        let known = seen.entry(folded(&name)).or_insert_with(|| name.clone().into_owned());
        let declares = |name: &str| declared.is_some_and(|declared| declared.get(name).is_some());
        if *known != *name && !declares(&name) {
            return Some(name.into_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_that_only_case_tells_from_another_is_found_unless_the_tool_declares_both() {
        let declared = r#"{"properties":{"path":{},"mode":{},"Mode":{}}}"#;
        for (arguments, expected) in [
            (r#"{"path":"/ok","text":1}"#, None),
            (r#"{"path":"/ok","Path":"/etc"}"#, Some("Path")),
            (r#"{"Path":"/etc"}"#, Some("Path")),
            (r#"{"x":1,"X":2}"#, Some("X")),
            (r#"{"\u212aey":1,"key":2}"#, Some("key")),
            (r#"{"mode":1,"Mode":2}"#, None),
        ] {
            let (declared, arguments) = (View::of(declared.as_bytes()), View::of(arguments.as_bytes()));
            assert_eq!(twin(&arguments, declared.get("properties")).as_deref(), expected);
        }
    }
}
