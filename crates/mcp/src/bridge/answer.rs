//! Answers of servers: the newer revision says what kind of result it is and how long it may be kept; both have codes
//! of their own for the same mistakes.

use alloc::{format, vec::Vec};

use bytes::Bytes;

use super::{
    Question,
    object::{Change, rewrite},
};
use crate::{
    answer::result_type,
    json::{ValueKind, View},
    jsonrpc::{Message, Shape},
};

/// What kind of result a server of the newer revision gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The result.
    Complete,
    /// Questions to the client, or a wish to be asked again.
    InputRequired,
    /// Of an extension that the older revision does not have.
    Unknown,
}

/// The kind of a result; one that says nothing is complete.
#[must_use]
pub fn kind(result: &View<'_>) -> Kind {
    match result_type(result).as_deref() {
        None | Some("complete") => Kind::Complete,
        Some("input_required") => Kind::InputRequired,
        Some(_) => Kind::Unknown,
    }
}

/// The code with which a server of the older revision says that somebody must visit pages first.
const URL_REQUIRED: i64 = -32042;

/// The code with which the newer revision says that the client lacks a capability.
const CAPABILITY_MISSING: i64 = -32021;

/// The pages that an error of a server of the older revision wants visited before the call is made again, as questions
/// of the newer one; none where it is another error.
#[must_use]
pub fn pages_to_visit(message: &Message) -> Vec<Question> {
    let error = message
        .error()
        .filter(|error| error.get("code").and_then(|code| code.as_i64()) == Some(URL_REQUIRED));
    let pages = error.and_then(|error| error.path(&["data", "elicitations"]));
    let pages = pages.into_iter().flat_map(|pages| pages.elements());
    let by_url = pages.filter(|page| page.get("mode").is_some_and(|mode| mode.is_str("url")));
    let question = |(number, page): (usize, View<'_>)| Question {
        key: format!("{}", number + 1),
        method: "elicitation/create".into(),
        params: Bytes::copy_from_slice(page.raw()),
    };
    by_url.enumerate().map(question).collect()
}

/// JSON-RPC codes that only one revision knows, or that mean a mistake of the gateway's own to whoever gets them.
const fn modern_code(code: i64) -> Option<i64> {
    match code {
        // "Resource not found" is an invalid parameter there.
        -32002 => Some(-32602),
        // Reserved by the newer revision with another meaning, or gone from it.
        -32099..=-32020 => Some(-32603),
        _ => None,
    }
}

fn legacy_code(code: i64, method: &str) -> Option<i64> {
    match (code, method) {
        (-32602, "resources/read") => Some(-32002),
        // The client lacks what the server needs: it was told so in `initialize`.
        (CAPABILITY_MISSING, _) => Some(-32600),
        // Headers and versions are the gateway's.
        (-32020 | -32022, _) => Some(-32603),
        _ => None,
    }
}

fn with_error(message: &Message, id: &[u8], translate: impl Fn(i64) -> Option<i64>) -> Bytes {
    let code = |value: View<'_>| match value.as_i64().and_then(&translate) {
        Some(code) => Change::Set(format!("{code}").into_bytes()),
        None => Change::Keep,
    };
    let error =
        |view| rewrite(view, |name, value| if name == "code" { code(value) } else { Change::Keep }, &[]);
    with(message, id, |name, value| (name == "error").then(|| error(value)))
}

/// The message with this id, and with the members that `change` gives anew.
fn with<'a>(message: &'a Message, id: &[u8], change: impl Fn(&str, View<'a>) -> Option<Vec<u8>>) -> Bytes {
    let has_id = message.root().get("id").is_some();
    let extra: &[(&str, &[u8])] = if has_id { &[] } else { &[("id", id)] };
    let whole = rewrite(
        message.root(),
        |name, value| match change(name, value) {
            _ if name == "id" => Change::Set(id.to_vec()),
            Some(text) => Change::Set(text),
            None => Change::Keep,
        },
        extra,
    );
    Bytes::from(whole)
}

/// The answer of a server of the older revision to `method`, for a client of the newer one that asked with `id`.
#[must_use]
pub fn to_modern(message: &Message, id: &[u8], method: &str) -> Bytes {
    if message.shape() == Shape::Error {
        let lacks = message.error().and_then(|error| error.path(&["data", "requiredCapabilities"]));
        let lacks = lacks.is_some_and(|lacks| lacks.kind() == ValueKind::Object);
        // What says the same as the newer revision does may say it in the same words.
        let code = |code| if lacks && code == CAPABILITY_MISSING { None } else { modern_code(code) };
        return with_error(message, id, code);
    }
    let mut extra: Vec<(&str, &[u8])> = alloc::vec![("resultType", br#""complete""#)];
    if method == "resources/read" {
        // The older revision does not say how long it stays true, nor for whom.
        extra.extend([("ttlMs", &b"0"[..]), ("cacheScope", &br#""private""#[..])]);
    }
    let ours =
        |name: &str| matches!(name, "resultType" | "ttlMs" | "cacheScope" | "inputRequests" | "requestState");
    let result = |view| rewrite(view, |name, _| if ours(name) { Change::Drop } else { Change::Keep }, &extra);
    with(message, id, |name, value| (name == "result").then(|| result(value)))
}

/// The answer of a server of the newer revision to `method`, for a client of the older one that asked with `id`.
#[must_use]
pub fn to_legacy(message: &Message, id: &[u8], method: &str) -> Bytes {
    if message.shape() == Shape::Error {
        return with_error(message, id, |code| legacy_code(code, method));
    }
    let theirs = |name: &str| matches!(name, "resultType" | "ttlMs" | "cacheScope");
    let result = |view| rewrite(view, |name, _| if theirs(name) { Change::Drop } else { Change::Keep }, &[]);
    with(message, id, |name, value| (name == "result").then(|| result(value)))
}
