//! What a caller is told whose call waits, or was said no to.

use portcullis_core::{Code, Refusal, Timestamp};
use portcullis_store::{ApprovalRow, LedgerError, StoreError};
use serde_json::{Value, json};

/// Characters of arguments that a person is shown in a client.
const CONFIRM_CHARS_MAX: usize = 4_000;

/// It waits for people; `asks` where the client can show its user the question.
pub(crate) fn waiting(row: &ApprovalRow, asks: bool) -> Refusal {
    let (id, expires, people) = (&row.asked.id, row.asked.expires, row.asked.demand.people);
    let count =
        if people == 1 { String::new() } else { format!(" ({} of {people} people so far)", row.given()) };
    let waits = serde_json::from_str::<Value>(&row.asked.question)
        .is_ok_and(|question| question.get("answer_digest").is_some());
    let (what, gets) = if waits {
        (
            "the call was made, and its answer waits for people",
            " and gets that answer: the server is not called again",
        )
    } else {
        (Code::ApprovalRequired.sentence(), "")
    };
    let public = format!(
        "{what}: approval `{id}`{count}. Tell the user, and make the same call again, unchanged, once it is granted, before {expires}{gets}"
    );
    let by_caller = row.asked.demand.by_caller;
    let alone = by_caller && row.asked.demand.roles.is_empty() && !asks;
    let public =
        if alone { format!("{public}. Only its user can, in a client that can ask") } else { public };
    let mut data = json!({
        "approval": id,
        "code": Code::ApprovalRequired.name(),
        "expires": expires.to_string(),
        "given": row.given(),
        "people": people,
    });
    if let (true, Some(members)) = (by_caller && asks, data.as_object_mut()) {
        members.insert("confirm".to_owned(), json!(confirm(&row.asked.question)));
    }
    Refusal::new(Code::ApprovalRequired, format!("approval `{id}` waits for people"))
        .saying(public)
        .with_data(data.to_string())
}

/// What the person behind a client is asked.
fn confirm(question: &str) -> String {
    let question: Value = serde_json::from_str(question).unwrap_or_default();
    let text = |name: &str| question.get(name).and_then(Value::as_str).unwrap_or_default();
    let arguments = question.get("arguments").and_then(Value::as_str);
    let shown: String = arguments.unwrap_or_default().chars().take(CONFIRM_CHARS_MAX).collect();
    let all = arguments.is_some_and(|all| all.len() == shown.len())
        && question.get("arguments_complete") == Some(&Value::Bool(true));
    let bytes = question.get("arguments_bytes").and_then(Value::as_u64).unwrap_or_default();
    let note = if all { String::new() } else { format!("\n(NOT ALL of {bytes} bytes is shown)") };
    let what = format!(
        "Shall the {} `{}` of server `{}` be called with",
        text("kind"),
        text("name"),
        text("server")
    );
    format!("{} {}{note}", plain(&what), plain(&shown))
}

/// What could make a text look like another one is spelled out.
fn plain(text: &str) -> String {
    let seen = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if seen(c) { out.push(c) } else { out.extend(c.escape_unicode()) }
    }
    out
}

/// Somebody said no.
pub(crate) fn denied(row: &ApprovalRow) -> Refusal {
    let (id, expires) = (&row.asked.id, row.asked.expires);
    let by = row.answers.iter().find(|answer| !answer.yes);
    let private = by.map_or_else(String::new, |by| format!(" by {} at {}: {}", by.by, by.at, by.reason));
    let public = format!("{} (approval `{id}`), until {expires}", Code::ApprovalDenied.sentence());
    let data = json!({ "approval": id, "code": Code::ApprovalDenied.name(), "expires": expires.to_string() });
    Refusal::new(Code::ApprovalDenied, format!("approval `{id}` was denied{private}"))
        .saying(public)
        .with_data(data.to_string())
}

/// Too many wait.
pub(crate) fn too_many(limit: &str) -> Refusal {
    Refusal::new(Code::LimitApprovals, format!("limits.{limit}"))
}

pub(crate) fn unavailable(error: &StoreError) -> Refusal {
    Refusal::new(Code::ApprovalUnavailable, error.to_string()).retry_after_s(1)
}

pub(crate) fn unrecorded(error: &LedgerError) -> Refusal {
    Refusal::new(Code::LedgerUnavailable, error.to_string()).retry_after_s(1)
}

/// A moment so much later.
pub(crate) const fn later(now: Timestamp, seconds: u32) -> Timestamp {
    now.plus_ms(seconds as u64 * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_shown_what_is_called_with_all_that_could_deceive_spelled_out_and_told_what_is_missing() {
        let ask = |arguments: Option<&str>, complete: bool| {
            let question = json!({
                "kind": "tool", "name": "send", "server": "mail", "arguments": arguments,
                "arguments_complete": complete, "arguments_bytes": 9,
            });
            confirm(&question.to_string())
        };
        assert_eq!(ask(Some("{}"), true), "Shall the tool `send` of server `mail` be called with {}");
        assert!(ask(Some("\u{202e}a\u{200b}\n"), true).ends_with("with \\u{202e}a\\u{200b}\\u{a}"));
        for (arguments, complete) in [(None, false), (Some("{}"), false), (Some(&*"ä".repeat(5_000)), true)]
        {
            assert!(ask(arguments, complete).ends_with("(NOT ALL of 9 bytes is shown)"), "{complete}");
        }
    }
}
