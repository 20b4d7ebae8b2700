//! Where messages name tasks, and how the names are exchanged: the client's on the way in, the server's own on the
//! way out. Nothing else of a message changes.

use bytes::Bytes;
use memchr::memmem;
use portcullis_core::{Code, Limits, Obligations, Refusal};
use portcullis_mcp::{
    json::{Edits, JsonLimits, View, quote},
    jsonrpc::{Message, Shape},
};

use super::{Task, Tasks};

/// The member of `_meta` that says which task a message of 2025-11-25 belongs to.
const RELATED: &str = "io.modelcontextprotocol/related-task";

/// Tasks that one message may name.
const NAMED_MAX: usize = 256;

/// Parses what was edited; it was within the limits before.
pub(crate) fn reparsed(bytes: Bytes) -> Result<Message, Refusal> {
    let size = bytes.len();
    let limits =
        JsonLimits { bytes_max: size, depth_max: usize::MAX, nodes_max: usize::MAX, string_bytes_max: size };
    Message::parse(bytes, &limits)
        .map_err(|error| Refusal::new(Code::Internal, format!("an edit broke the message: {error}")))
}

fn applied(edits: Edits, message: &Message) -> Result<Message, Refusal> {
    let bytes = edits.apply(message.bytes());
    reparsed(bytes.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?)
}

/// Whether a message can name a task at all; only escapes could hide it.
fn may_name(message: &Message) -> bool {
    message.stats().unicode_escapes || memmem::find(message.bytes(), b"taskId").is_some()
}

/// The places where a message of a client names tasks.
fn places<'a>(method: &str, message: &'a Message) -> Vec<View<'a>> {
    if !may_name(message) {
        return Vec::new();
    }
    let mut found: Vec<_> = related(message).into_iter().collect();
    let params = message.params();
    match method {
        "tasks/get" | "tasks/result" | "tasks/cancel" | "tasks/update" => {
            found.extend(params.and_then(|params| params.get("taskId")));
        }
        "subscriptions/listen" => {
            let lists = params.into_iter().flat_map(|params| {
                [params.get("taskIds"), params.path(&["notifications", "taskIds"])].into_iter().flatten()
            });
            found.extend(lists.flat_map(|list| list.elements()));
        }
        _ => {}
    }
    found
}

fn related(message: &Message) -> Option<View<'_>> {
    let inside = message.params().or_else(|| message.result())?;
    inside.path(&["_meta", RELATED, "taskId"])
}

/// The tasks that a message of a client names.
///
/// # Errors
/// `task.unknown` when one of them is not this caller's on this server; `request.meta`.
pub(crate) fn named(
    tasks: &Tasks,
    method: &str,
    message: &Message,
    (caller, server): (&str, &str),
    limits: &Limits,
) -> Result<Vec<Task>, Refusal> {
    let places = places(method, message);
    if places.len() > NAMED_MAX {
        return Err(Refusal::new(Code::RequestMeta, "too many tasks in one message"));
    }
    let open = |place: View<'_>| {
        let text = place.as_str();
        let text = text.ok_or_else(|| Refusal::new(Code::RequestMeta, "the id of a task is not a string"))?;
        tasks
            .open(caller, server, &text, limits)
            .ok_or_else(|| Refusal::new(Code::TaskUnknown, "no task of this caller on this server"))
    };
    places.into_iter().map(open).collect()
}

/// The message of a client with the server's own ids in place of ours.
///
/// # Errors
/// `internal`.
pub(crate) fn inward(method: &str, message: &Message, tasks: &[Task]) -> Result<Message, Refusal> {
    let mut edits = Edits::new();
    for place in places(method, message) {
        let task = place.as_str().and_then(|text| tasks.iter().find(|task| *task.sealed == *text));
        let task = task.ok_or_else(|| Refusal::new(Code::Internal, "a task that was not resolved"))?;
        edits.replace(place.span(), quote(&task.own).into_bytes());
    }
    if edits.is_empty() { Ok(message.clone()) } else { applied(edits, message) }
}

/// What is known about the call that a message of a server belongs to.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) tasks: &'a Tasks,
    pub(crate) caller: &'a str,
    pub(crate) server: &'a str,
    /// The method of the call; empty where there is none.
    pub(crate) method: &'a str,
    /// The tool that it calls.
    pub(crate) tool: Option<&'a str>,
    /// What its permit demands.
    pub(crate) obligations: &'a Obligations,
    /// The tasks that it names.
    pub(crate) named: &'a [Task],
    pub(crate) limits: &'a Limits,
}

impl Context<'_> {
    /// The caller's task with the server's own id.
    fn known(&self, own: &str) -> Option<Task> {
        let named = self.named.iter().find(|task| *task.own == *own).cloned();
        named.or_else(|| self.tasks.known(self.caller, self.server, own))
    }

    fn exchange(&self, edits: &mut Edits, place: View<'_>) -> Option<()> {
        let task = self.known(&place.as_str()?)?;
        edits.replace(place.span(), quote(&task.sealed).into_bytes());
        Some(())
    }
}

fn foreign() -> Refusal {
    Refusal::new(Code::AnswerInvalid, "the answer names a task that is not the caller's")
}

/// The message of a server with our ids in place of its own; nothing when it tells of a task of which this caller
/// knows nothing.
///
/// # Errors
/// `answer.invalid` for an answer that names another task than was asked about.
pub(crate) fn outward(context: &Context<'_>, message: Message) -> Result<Option<Message>, Refusal> {
    if context.method != "tasks/list" && !may_name(&message) {
        return Ok(Some(message));
    }
    let mut edits = Edits::new();
    let told = match message.shape() {
        Shape::Response => answer(context, &message, &mut edits)?,
        Shape::Notification | Shape::Request => telling(context, &message, &mut edits),
        Shape::Error => Some(()),
    };
    if told.is_none() {
        tracing::warn!(
            server = context.server,
            "a message about a task of which the caller knows nothing; dropped"
        );
        return Ok(None);
    }
    if edits.is_empty() { Ok(Some(message)) } else { applied(edits, &message).map(Some) }
}

fn answer(context: &Context<'_>, message: &Message, edits: &mut Edits) -> Result<Option<()>, Refusal> {
    let Some(result) = message.result() else { return Ok(Some(())) };
    if context.method == "tasks/list" {
        list(context, result, edits);
    }
    let of_call = result.get("resultType").is_some_and(|kind| kind.is_str("task"));
    let begun = if of_call { Some(result) } else { result.get("task") };
    let begun = begun.and_then(|task| task.get("taskId"));
    match (context.method, begun) {
        ("tasks/get" | "tasks/cancel" | "tasks/update", _) => {
            let Some(place) = result.get("taskId") else { return with_related(context, message, edits) };
            let asked = context.named.iter().find(|task| place.is_str(&task.own)).ok_or_else(foreign)?;
            edits.replace(place.span(), quote(&asked.sealed).into_bytes());
        }
        (_, Some(place)) => {
            let (Some(tool), Some(own)) = (context.tool, place.as_str()) else {
                // An answer of another call of the session, on a stream that goes on where another broke off.
                if context.method.is_empty() {
                    return Ok(context.exchange(edits, place));
                }
                return Err(Refusal::new(
                    Code::AnswerInvalid,
                    "a task as the answer of what is no tool call",
                ));
            };
            let who = (context.caller, context.server);
            let task = context.tasks.begin(who, (tool, &own), context.obligations, context.limits)?;
            edits.replace(place.span(), quote(&task.sealed).into_bytes());
        }
        (_, None) => {}
    }
    with_related(context, message, edits)
}

fn with_related(context: &Context<'_>, message: &Message, edits: &mut Edits) -> Result<Option<()>, Refusal> {
    match related(message) {
        Some(place) => context.exchange(edits, place).map(Some).ok_or_else(foreign),
        None => Ok(Some(())),
    }
}

/// Only the caller's own tasks: many servers cannot tell apart who asks through one gateway.
fn list(context: &Context<'_>, result: View<'_>, edits: &mut Edits) {
    let Some(tasks) = result.get("tasks") else { return };
    let known = |task: View<'_>| task.get("taskId").and_then(|own| context.known(&own.as_str()?)).is_some();
    edits.retain_elements(tasks, known);
    for task in tasks.elements().filter(|task| known(*task)) {
        if let Some(place) = task.get("taskId") {
            let _known = context.exchange(edits, place);
        }
    }
}

fn telling(context: &Context<'_>, message: &Message, edits: &mut Edits) -> Option<()> {
    if let Some(place) = related(message) {
        context.exchange(edits, place)?;
    }
    let name = message.method_name().unwrap_or_default();
    let params = message.params();
    if name.starts_with("notifications/tasks")
        && let Some(place) = params.and_then(|params| params.get("taskId"))
    {
        context.exchange(edits, place)?;
    }
    if name == "notifications/subscriptions/acknowledged" {
        let lists = params.into_iter().flat_map(|params| {
            [params.get("taskIds"), params.path(&["notifications", "taskIds"])].into_iter().flatten()
        });
        for list in lists {
            let known = |own: View<'_>| own.as_str().and_then(|own| context.known(&own)).is_some();
            edits.retain_elements(list, known);
            for own in list.elements().filter(|own| known(*own)) {
                let _known = context.exchange(edits, own);
            }
        }
    }
    Some(())
}
