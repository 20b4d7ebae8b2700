//! The structure of a tool's result is the one that its pinned definition promises: what a model or a program reads
//! there was reviewed with the definition.

use std::sync::Arc;

use portcullis_catalog::Item;
use portcullis_core::{Code, Limits, Refusal, TargetKind};
use portcullis_mcp::{
    answer::result_type,
    json::{ValueKind, View},
    jsonrpc::Message,
    schema::Violation,
};

use super::arm::Armed;

/// Judges the answer to a call of a tool, or to a question for the result of a task that one became. What is no
/// result of a tool fits.
///
/// # Errors
/// `answer.schema`, with the places that do not fit and never what stands there.
pub fn answer(armed: &Armed, message: &Message, limits: &Limits) -> Result<(), Refusal> {
    let Some(result) = message.result() else { return Ok(()) };
    let Some((tool, result)) = of_tool(armed, result) else { return Ok(()) };
    let refused = |what: String| {
        let text = format!("{}: {what}", Code::AnswerSchema.sentence());
        Refusal::new(Code::AnswerSchema, format!("tool `{}`: {what}", tool.name)).saying(text)
    };
    // Most tools promise nothing: their results, which may be large, are not looked through for it.
    let Some(schema) = tool.output(limits).transpose() else { return Ok(()) };
    if !due(&result) {
        return Ok(());
    }
    let schema = schema.map_err(|reason| {
        Refusal::new(Code::AnswerSchema, format!("the output schema cannot be used: {reason}"))
            .saying("the tool's output schema cannot be used")
    })?;
    let content = result.get("structuredContent");
    let content = content.ok_or_else(|| refused("there is no `structuredContent`".into()))?;
    schema.check(Some(content)).map_err(|violations| {
        let text = |violation: &Violation| format!("{} {}", violation.place, violation.rule);
        refused(violations.iter().map(text).collect::<Vec<_>>().join("; "))
    })
}

/// The tool whose result is in the answer, and where in it.
fn of_tool<'a>(armed: &Armed, result: View<'a>) -> Option<(Arc<Item>, View<'a>)> {
    let aimed = &armed.recorded.inspected.permitted.valid.aimed;
    let (tool, result) = match aimed.call.row.map_or("", |row| row.name) {
        "tools/call" => (aimed.item.clone(), result),
        "tasks/result" | "tasks/get" => {
            let [task] = &*aimed.tasks else { return None };
            let tool = aimed.server.catalog.state().find(TargetKind::Tool, &task.tool).cloned();
            // The newer revision has the result inside of the task, once there is one.
            let inside = if aimed.call.is("tasks/get") { result.get("result")? } else { result };
            (tool, inside)
        }
        _ => return None,
    };
    Some((tool.filter(|tool| tool.kind == TargetKind::Tool)?, result))
}

/// Whether this must have the structure: a question to the user, or a task that was begun, is no result yet, and what
/// has the structure of a result is one.
fn due(result: &View<'_>) -> bool {
    let failed = result.get("isError").and_then(|failed| failed.as_bool()) == Some(true);
    let begun = result.get("task").is_some_and(|task| task.kind() == ValueKind::Object);
    let complete = result_type(result).is_none_or(|kind| kind == "complete");
    !failed && (result.get("structuredContent").is_some() || (complete && !begun))
}
