//! What a client or a server says: JSON, JSON-RPC, headers, event streams, schemas.

use bytes::Bytes;
use portcullis_core::Limits;
use portcullis_mcp::json::{Edits, JsonError, JsonLimits, ValueKind, View, check, quote};
use portcullis_mcp::jsonrpc::{Message, Shape};
use portcullis_mcp::revision::{McpHeaders, ParamHeader, agree, agree_params, classify};
use portcullis_mcp::schema::Schema;
use portcullis_mcp::sse::{Event, Parser, encode};
use portcullis_mcp::{answer, method};
use portcullis_net::client::chunks::Chunks;
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

/// Headers (`name: value` lines) and a body: whatever era they are said to be of, what agrees also says the same.
pub fn headers(data: &[u8]) {
    let (head, body) = crate::halves(data);
    let Ok(message) = Message::parse(Bytes::copy_from_slice(body), &json_limits()) else { return };
    let head = String::from_utf8_lossy(head);
    let mut headers = McpHeaders::default();
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        match name {
            "MCP-Protocol-Version" => headers.protocol_version = Some(value),
            "Mcp-Method" => headers.method = Some(value),
            "Mcp-Name" => headers.name = Some(value),
            "Mcp-Session-Id" => headers.session_id = Some(value),
            other => headers.params.extend(other.strip_prefix("Mcp-Param-").map(|name| (name, value))),
        }
    }
    let Ok(era) = classify(&headers, &message) else { return };
    let Some(row) = message.method_name().and_then(|name| method::find(&name)) else { return };
    let params = message.params();
    if agree(era, &headers, &message, row).is_ok() {
        assert!(
            headers.method.is_none_or(|method| method == row.name),
            "the header names the method of the body"
        );
        if let (Some(member), Some(name)) = (row.header_name, headers.name) {
            let named = params.and_then(|params| params.get(member)).and_then(|name| name.as_str());
            assert!(
                named.as_deref() == Some(name) || name.starts_with("=?base64?"),
                "the header names what the body names"
            );
        }
    }
    let arguments = params.and_then(|params| params.get("arguments"));
    // The same message serves as a schema: annotations may stand anywhere.
    if let Ok(annotated) = ParamHeader::from_schema(&message.root()) {
        let _ = agree_params(&annotated, &headers, arguments);
    }
    if let Some(params) = params {
        leaves(params);
    }
}

/// Every pointer that is given out leads to the leaf it is given with.
fn leaves(view: View<'_>) {
    let whole = view.to_value();
    answer::leaves(view, "", |pointer, place, leaf| {
        assert!(whole.pointer(pointer).is_some(), "`{pointer}` leads somewhere");
        if place == answer::Place::Value {
            assert_eq!(whole.pointer(pointer), Some(&leaf.to_value()));
        }
    });
}

/// However a chunked body is cut, the same data comes out, and never more than came in; nothing is read beyond its end.
pub fn chunks(data: &[u8]) {
    let read = |sizes: &[usize]| {
        let (mut chunks, mut out, mut rest) = (Chunks::default(), Vec::new(), data);
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() && !chunks.ended() {
            let (piece, behind) = rest.split_at(rest.len().min(*sizes.next().expect("endless")));
            let mut input = Bytes::copy_from_slice(piece);
            loop {
                match chunks.next(&mut input) {
                    Ok(Some(data)) => out.extend_from_slice(&data),
                    Ok(None) => break,
                    Err(error) => return (out, Err(error)),
                }
            }
            rest = behind;
            if chunks.ended() {
                return (out, Ok(input.len() + rest.len()));
            }
        }
        (out, Ok(0))
    };
    let whole = read(&[usize::MAX]);
    assert_eq!(whole, read(&[1]));
    assert_eq!(whole, read(&[5, 1, 2]));
    assert!(whole.0.len() <= data.len());
}

/// However a stream is cut, the same events come out; what is written again reads the same.
pub fn sse(data: &[u8]) {
    let read = |sizes: &[usize]| {
        let (mut parser, mut events, mut rest) = (Parser::new(4_096), Vec::new(), data);
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(rest.len().min(*sizes.next().expect("endless")));
            if let Err(error) = parser.push(chunk, |event| events.push(event)) {
                return (events, Some(error));
            }
            rest = behind;
        }
        (events, None)
    };
    let whole: (Vec<Event>, _) = read(&[usize::MAX]);
    assert_eq!(whole, read(&[1]));
    assert_eq!(whole, read(&[3, 1, 7]));
    for event in &whole.0 {
        let mut again = Vec::new();
        let mut parser = Parser::new(8_192);
        parser.push(&encode(event), |event| again.push(event)).expect("not longer than it was");
        // Writing drops NUL from the type; a type with NUL is none that anybody knows.
        let event = Event { event: event.event.as_ref().map(|kind| kind.replace('\0', "")), ..event.clone() };
        assert_eq!(again, [event]);
    }
}

/// A schema and arguments: compiles or says why not, and its verdict is repeatable.
pub fn schema(data: &[u8]) {
    let (schema, arguments) = crate::halves(data);
    let Ok(schema) = Schema::compile(schema, &Limits::default()) else { return };
    let arguments = check(arguments, &json_limits()).is_ok().then(|| View::of(arguments));
    let first = schema.check(arguments);
    assert_eq!(first, schema.check(arguments));
    if let Err(violations) = first {
        assert!(!violations.is_empty() && violations.len() <= 10);
    }
}
