//! THE table of methods, both revisions. What is not in it is refused.

use alloc::borrow::Cow;

use portcullis_core::{Action, TargetKind};

use crate::json::View;

/// Whether an answer is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// No answer.
    Notification,
    /// An answer with the same id.
    Request,
}

/// Who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Either.
    Both,
    /// Only the client.
    Client,
    /// Only the server.
    Server,
}

/// One method.
#[derive(Clone, Copy, Debug)]
pub struct MethodRow {
    /// The name on the wire.
    pub name: &'static str,
    /// What it asks for, in the words of policy.
    pub action: Action,
    /// Request or notification.
    pub form: Form,
    /// Who sends it. In revision 2026-07-28 a server sends no requests, whatever this says.
    pub from: Side,
    /// Part of 2025-11-25 or an earlier revision.
    pub legacy: bool,
    /// Part of 2026-07-28 or the tasks extension.
    pub modern: bool,
    /// The kind of thing it names, and the member of `params` with the name.
    pub item: Option<(TargetKind, &'static str)>,
    /// The member of `params` that 2026-07-28 mirrors in `Mcp-Name`.
    pub header_name: Option<&'static str>,
    /// It lists things of this kind.
    pub list: Option<TargetKind>,
}

/// The row of that name. Names are case-sensitive.
#[must_use]
pub fn find(name: &str) -> Option<&'static MethodRow> {
    TABLE.iter().find(|row| row.name == name)
}

/// The row of a method beyond the specification that an operator lists for a server. Its name is the message's own.
#[must_use]
pub const fn listed(form: Form) -> &'static MethodRow {
    match form {
        Form::Notification => &LISTED_NOTIFICATION,
        Form::Request => &LISTED_REQUEST,
    }
}

/// Whether a server may send a notification of that name, in any revision.
#[must_use]
pub fn is_told(name: &str) -> bool {
    find(name).is_some_and(|row| row.form == Form::Notification && row.from != Side::Client)
}

/// What a `completion/complete` refers to: a prompt by name or a template by URI.
#[must_use]
pub fn completion_target<'a>(params: &View<'a>) -> Option<(TargetKind, Cow<'a, str>)> {
    let reference = params.get("ref")?;
    match reference.get("type")?.as_str()?.as_ref() {
        "ref/prompt" => Some((TargetKind::Prompt, reference.get("name")?.as_str()?)),
        "ref/resource" => Some((TargetKind::Template, reference.get("uri")?.as_str()?)),
        _ => None,
    }
}

/// A row that names nothing and lists nothing.
const fn row(
    name: &'static str,
    action: Action,
    form: Form,
    from: Side,
    (legacy, modern): (bool, bool),
) -> MethodRow {
    MethodRow { name, action, form, from, legacy, modern, item: None, header_name: None, list: None }
}

const fn item(row: MethodRow, kind: TargetKind, member: &'static str) -> MethodRow {
    MethodRow { item: Some((kind, member)), ..row }
}

const fn mirrored(row: MethodRow, member: &'static str) -> MethodRow {
    MethodRow { header_name: Some(member), ..row }
}

const fn list(row: MethodRow, kind: TargetKind) -> MethodRow {
    MethodRow { list: Some(kind), ..row }
}

const BOTH: (bool, bool) = (true, true);
const LEGACY: (bool, bool) = (true, false);
const MODERN: (bool, bool) = (false, true);

static LISTED_REQUEST: MethodRow = row("", CallMethod, Ask, Both, BOTH);
static LISTED_NOTIFICATION: MethodRow = row("", CallMethod, Note, Both, BOTH);

use Action::{
    Answer, CallMethod, CallTool, Complete, Connect, GetPrompt, ReadResource, SubscribeResource, Task,
};
use Form::{Notification as Note, Request as Ask};
use Side::{Both, Client, Server};

/// Every method of revisions 2025-11-25 and 2026-07-28, its notifications, the questions of servers, the tasks of
/// 2025-11-25 and the tasks extension.
pub const TABLE: &[MethodRow] = &[
    // Most frequent first: the table is searched in order.
    mirrored(item(row("tools/call", CallTool, Ask, Client, BOTH), TargetKind::Tool, "name"), "name"),
    mirrored(
        item(row("resources/read", ReadResource, Ask, Client, BOTH), TargetKind::Resource, "uri"),
        "uri",
    ),
    mirrored(item(row("prompts/get", GetPrompt, Ask, Client, BOTH), TargetKind::Prompt, "name"), "name"),
    list(row("tools/list", Connect, Ask, Client, BOTH), TargetKind::Tool),
    list(row("prompts/list", Connect, Ask, Client, BOTH), TargetKind::Prompt),
    list(row("resources/list", Connect, Ask, Client, BOTH), TargetKind::Resource),
    list(row("resources/templates/list", Connect, Ask, Client, BOTH), TargetKind::Template),
    row("notifications/progress", Connect, Note, Both, BOTH),
    row("notifications/message", Connect, Note, Server, BOTH),
    row("notifications/cancelled", Connect, Note, Both, BOTH),
    row("completion/complete", Complete, Ask, Client, BOTH),
    row("server/discover", Connect, Ask, Client, MODERN),
    row("subscriptions/listen", Connect, Ask, Client, MODERN),
    row("notifications/subscriptions/acknowledged", Connect, Note, Server, MODERN),
    row("initialize", Connect, Ask, Client, LEGACY),
    row("notifications/initialized", Connect, Note, Client, LEGACY),
    row("ping", Connect, Ask, Both, LEGACY),
    row("logging/setLevel", Connect, Ask, Client, LEGACY),
    item(row("resources/subscribe", SubscribeResource, Ask, Client, LEGACY), TargetKind::Resource, "uri"),
    item(row("resources/unsubscribe", SubscribeResource, Ask, Client, LEGACY), TargetKind::Resource, "uri"),
    row("notifications/roots/list_changed", Answer, Note, Client, LEGACY),
    row("notifications/resources/updated", Connect, Note, Server, BOTH),
    row("notifications/resources/list_changed", Connect, Note, Server, BOTH),
    row("notifications/tools/list_changed", Connect, Note, Server, BOTH),
    row("notifications/prompts/list_changed", Connect, Note, Server, BOTH),
    // Questions of a server. 2026-07-28 carries them inside results, never as messages.
    row("sampling/createMessage", Answer, Ask, Server, LEGACY),
    row("elicitation/create", Answer, Ask, Server, LEGACY),
    row("roots/list", Answer, Ask, Server, LEGACY),
    row("notifications/elicitation/complete", Answer, Note, Server, LEGACY),
    // Tasks: of 2025-11-25 (either side may hold one) and of the extension (only the server does).
    mirrored(row("tasks/get", Task, Ask, Both, BOTH), "taskId"),
    mirrored(row("tasks/cancel", Task, Ask, Both, BOTH), "taskId"),
    mirrored(row("tasks/update", Task, Ask, Client, MODERN), "taskId"),
    row("tasks/result", Task, Ask, Both, LEGACY),
    row("tasks/list", Task, Ask, Both, LEGACY),
    row("notifications/tasks/status", Task, Note, Both, LEGACY),
    row("notifications/tasks", Task, Note, Server, MODERN),
];
