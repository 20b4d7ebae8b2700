//! What the sample server offers: definitions, notes, one prompt, completions.

use serde_json::{Map, Value, json};

use super::Fault;

/// For the model that uses the server.
pub(super) const INSTRUCTIONS: &str = "A small notebook. Search it with notes.search.";

/// A note of the built-in notebook.
pub(super) struct Note {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) text: &'static str,
}

/// The notebook. One note holds what no note should: invented, but of the right form, so that masking can be seen.
pub(super) const NOTES: [Note; 4] = [
    Note {
        id: "welcome",
        title: "Welcome",
        text: "This notebook is the sample server of Portcullis. Everything in it is invented.",
    },
    Note { id: "groceries", title: "Groceries", text: "Bread, olives, two lemons, coffee." },
    Note {
        id: "travel",
        title: "Travel",
        // In two parts, so that no scanner takes this file for a leak.
        text: concat!(
            "Hotel paid with card 4111 1111 1111 1111, receipt to mira.lind@corp.example. ",
            "Uploads use the access key AKIA",
            "Q4JX7RM2TBW5ZN3D.",
        ),
    },
    Note {
        id: "meeting",
        title: "Meeting",
        text: "Tuesday: review the gateway's audit log with the operations team.",
    },
];

pub(super) fn server_info() -> Value {
    json!({ "name": "portcullis-sample", "title": "Portcullis sample server", "version": env!("CARGO_PKG_VERSION") })
}

/// `logging` exists in the legacy revision alone.
pub(super) fn capabilities(legacy: bool) -> Value {
    let mut capabilities = json!({ "completions": {}, "prompts": {}, "resources": {}, "tools": {} });
    if let (true, Some(members)) = (legacy, capabilities.as_object_mut()) {
        members.insert("logging".to_owned(), json!({}));
    }
    capabilities
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

pub(super) fn tools() -> Vec<Value> {
    let number = json!({ "type": "number" });
    let matched = object(
        json!({ "id": { "type": "string" }, "title": { "type": "string" }, "text": { "type": "string" } }),
        &["id", "title", "text"],
    );
    vec![
        json!({ "name": "echo", "title": "Echo", "description": "Returns the text it is given.",
            "inputSchema": object(json!({ "text": { "type": "string", "maxLength": 1_000_000 } }), &["text"]),
            "annotations": { "readOnlyHint": true } }),
        json!({ "name": "add", "title": "Add", "description": "Adds two numbers.",
            "inputSchema": object(json!({ "a": number, "b": number }), &["a", "b"]),
            "outputSchema": object(json!({ "sum": number }), &["sum"]),
            "annotations": { "readOnlyHint": true } }),
        json!({ "name": "now", "title": "Now", "description": "Tells the current time (UTC).",
            "inputSchema": object(json!({}), &[]), "annotations": { "readOnlyHint": true } }),
        json!({ "name": "notes.search", "title": "Search notes", "description": "Finds notes that contain a word.",
            "inputSchema": object(json!({ "query": { "type": "string", "maxLength": 200 } }), &["query"]),
            "outputSchema": object(json!({ "notes": { "type": "array", "items": matched } }), &["notes"]),
            "annotations": { "readOnlyHint": true } }),
        json!({ "name": "notes.delete", "title": "Delete a note", "description": "Deletes a note for good.",
            "inputSchema": object(json!({ "id": { "type": "string", "maxLength": 100 } }), &["id"]),
            "annotations": { "readOnlyHint": false, "destructiveHint": true } }),
        json!({ "name": "countdown", "title": "Count down", "description": "Counts down slowly and reports progress.",
            "inputSchema": object(json!({
                "from": { "type": "integer", "minimum": 1, "maximum": 20 },
                "delay_ms": { "type": "integer", "minimum": 0, "maximum": 1_000, "default": 100 },
            }), &["from"]),
            "annotations": { "readOnlyHint": true } }),
    ]
}

pub(super) fn prompts() -> Vec<Value> {
    vec![
        json!({ "name": "summarise", "title": "Summarise a note", "description": "Asks for a summary of one note.",
        "arguments": [{ "name": "note", "description": "Id of the note.", "required": true }] }),
    ]
}

pub(super) fn resources() -> Vec<Value> {
    NOTES
        .iter()
        .take(2)
        .map(|note| {
            json!({ "uri": format!("note:///{}", note.id), "name": note.id, "title": note.title,
            "mimeType": "text/plain" })
        })
        .collect()
}

pub(super) fn templates() -> Vec<Value> {
    vec![json!({ "uriTemplate": "note:///{id}", "name": "note", "title": "A note by its id",
        "mimeType": "text/plain" })]
}

/// Everything fits on one page, so no cursor was ever handed out.
pub(super) fn page(params: &Map<String, Value>, member: &str, items: Vec<Value>) -> Result<Value, Fault> {
    if params.contains_key("cursor") {
        return Err(Fault::params("invalid cursor"));
    }
    Ok(json!({ member: items }))
}

fn note(id: &str) -> Option<&'static Note> {
    NOTES.iter().find(|note| note.id == id)
}

pub(super) fn prompt(params: &Map<String, Value>) -> Result<Value, Fault> {
    let name = params.get("name").and_then(Value::as_str).unwrap_or_default();
    if name != "summarise" {
        return Err(Fault::params(format!("unknown prompt: {name}")));
    }
    let id = params.get("arguments").and_then(|arguments| arguments.get("note")).and_then(Value::as_str);
    let id = id.ok_or_else(|| Fault::params("the argument `note` is required"))?;
    let note = note(id).ok_or_else(|| Fault::params(format!("unknown note: {id}")))?;
    let text = format!("Summarise this note in one sentence.\n\n{}\n\n{}", note.title, note.text);
    Ok(json!({ "description": "A request to summarise a note.",
        "messages": [{ "role": "user", "content": { "type": "text", "text": text } }] }))
}

pub(super) fn read(params: &Map<String, Value>, legacy: bool) -> Result<Value, Fault> {
    let uri =
        params.get("uri").and_then(Value::as_str).ok_or_else(|| Fault::params("`uri` must be a string"))?;
    let found = uri.strip_prefix("note:///").and_then(note);
    let Some(note) = found else {
        let code = if legacy { -32002 } else { -32602 };
        return Err(Fault { data: Some(json!({ "uri": uri })), ..Fault::new(code, "resource not found") });
    };
    Ok(json!({ "contents": [{ "uri": uri, "mimeType": "text/plain", "text": note.text }] }))
}

pub(super) fn complete(params: &Map<String, Value>) -> Result<Value, Fault> {
    let text = |outer: &str, inner: &str| {
        params.get(outer).and_then(|value| value.get(inner)).and_then(Value::as_str).unwrap_or_default()
    };
    let argument = match (text("ref", "type"), text("ref", "name"), text("ref", "uri")) {
        ("ref/prompt", "summarise", _) => "note",
        ("ref/resource", _, "note:///{id}") => "id",
        _ => return Err(Fault::params("unknown reference")),
    };
    if text("argument", "name") != argument {
        return Err(Fault::params("unknown argument"));
    }
    let start = text("argument", "value");
    let values: Vec<&str> = NOTES.iter().map(|note| note.id).filter(|id| id.starts_with(start)).collect();
    Ok(json!({ "completion": { "total": values.len(), "hasMore": false, "values": values } }))
}
