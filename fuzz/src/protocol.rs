//! What a client or a server says: JSON, JSON-RPC, headers, event streams, schemas.

use bytes::Bytes;
use portcullis_core::Limits;
use portcullis_mcp::json::{Edits, JsonError, JsonLimits, ValueKind, View, check, quote};
use portcullis_mcp::jsonrpc::{Message, Shape};
use serde_json::Value;

pub(crate) fn json_limits() -> JsonLimits {
    JsonLimits::request(&Limits::default())
}

/// The strict pass agrees with `serde_json`, apart from what it is stricter about; views read the same values.
pub fn json(data: &[u8]) {
    let theirs = serde_json::from_slice::<Value>(data);
    match check(data, &json_limits()) {
        Ok(stats) => {
            let theirs = theirs.expect("what is accepted here is accepted by serde_json");
            let view = View::of(data);
            assert_eq!(view.to_value(), theirs, "both read the same value");
            assert_eq!(walk(view, data), stats.nodes, "every value is counted once");
            assert_eq!(stats.non_ascii, !data.is_ascii());
            edit(view, data);
        }
        Err(error) => {
            assert!(error.offset() <= data.len(), "the offset lies in the text");
            let stricter = match error {
                JsonError::DuplicateName { .. }
                | JsonError::Depth { .. }
                | JsonError::Nodes { .. }
                | JsonError::Size { .. }
                | JsonError::String { .. } => true,
                JsonError::ByteOrderMark { .. }
                | JsonError::LoneSurrogate { .. }
                | JsonError::Malformed { .. }
                | JsonError::Number { .. }
                | JsonError::Trailing { .. }
                | JsonError::Utf8 { .. } => false,
            };
            assert!(stricter || theirs.is_err(), "refused as {error}, yet serde_json reads it");
        }
    }
}

/// Visits every value; spans nest and read back to the same bytes.
fn walk(view: View<'_>, text: &[u8]) -> usize {
    let mut todo = vec![view];
    let mut seen = 0;
    while let Some(view) = todo.pop() {
        seen += 1;
        assert_eq!(text.get(view.span()), Some(view.raw()));
        match view.kind() {
            ValueKind::Object => {
                for (name, member) in view.members() {
                    assert_eq!(view.get(&name).map(|found| found.span()), Some(member.span()));
                    todo.push(member);
                }
            }
            ValueKind::Array => todo.extend(view.elements()),
            ValueKind::String => {
                let text = view.as_str().expect("a string has text");
                let again = serde_json::from_str::<String>(&quote(&text)).expect("quoting gives JSON");
                assert_eq!(again, text);
            }
            _ => {}
        }
    }
    seen
}

/// Replacing one member changes that member and nothing else.
fn edit(view: View<'_>, data: &[u8]) {
    let Value::Object(mut members) = view.to_value() else { return };
    let Some(name) = members.keys().next().cloned() else { return };
    let mut edits = Edits::new();
    edits.set_member(view, &name, b"[\"new\"]");
    let after = edits.apply(&Bytes::copy_from_slice(data)).expect("one edit inside the text applies");
    members.insert(name, serde_json::json!(["new"]));
    assert_eq!(serde_json::from_slice::<Value>(&after).ok(), Some(Value::Object(members)));
}

/// What is accepted as a message is one JSON-RPC object, and changing its id changes only that.
pub fn jsonrpc(data: &[u8]) {
    let Ok(message) = Message::parse(Bytes::copy_from_slice(data), &json_limits()) else { return };
    assert_eq!(message.bytes(), data);
    let value: Value = serde_json::from_slice(data).expect("a message is JSON");
    assert_eq!(value["jsonrpc"], "2.0");
    match message.shape() {
        Shape::Request | Shape::Notification => {
            assert_eq!(value["method"].as_str(), message.method_name().as_deref());
            assert!(value.get("result").is_none() && value.get("error").is_none());
        }
        Shape::Response => {
            assert!(value.get("result").is_some_and(Value::is_object) && value.get("error").is_none())
        }
        Shape::Error => {
            assert!(value.get("error").is_some_and(Value::is_object) && value.get("result").is_none())
        }
    }
    if message.shape() == Shape::Request {
        let id = message.id().expect("a request has an id");
        assert!(
            value["id"].is_string() || value["id"].is_i64() || value["id"].is_u64() || value["id"].is_f64()
        );
        let other = message.with_id(b"\"remapped\"");
        let mut expected = value;
        expected["id"] = "remapped".into();
        assert_eq!(serde_json::from_slice::<Value>(&other).ok(), Some(expected));
        let again = Message::parse(other, &json_limits()).expect("still a message");
        let back = again.with_id(id.raw());
        assert_eq!(&back[..], data, "the id goes back as it was");
    }
}
