//! What a caller is told whose call waits, or was said no to.

use portcullis_core::{Code, Refusal, Timestamp};
use portcullis_store::{ApprovalRow, LedgerError, StoreError};
use serde_json::json;

/// It waits for people, or is approved and can be made now.
pub(crate) fn waiting(row: &ApprovalRow) -> Refusal {
    let (id, expires, people) = (&row.asked.id, row.asked.expires, row.asked.demand.people);
    let count =
        if people == 1 { String::new() } else { format!(" ({} of {people} people so far)", row.given()) };
    let public = format!(
        "{}: approval `{id}`{count}. Tell the user, and make the same call again, unchanged, once it is granted, before {expires}",
        Code::ApprovalRequired.sentence()
    );
    let data = json!({
        "approval": id,
        "code": Code::ApprovalRequired.name(),
        "expires": expires.to_string(),
        "given": row.given(),
        "people": people,
    });
    Refusal::new(Code::ApprovalRequired, format!("approval `{id}` waits for people"))
        .saying(public)
        .with_data(data.to_string())
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
