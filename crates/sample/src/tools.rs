//! The tools of the sample server.

use portcullis_core::Timestamp;
use serde_json::{Map, Number, Value, json};

use super::{Fault, catalog::NOTES};

/// A result of one text.
pub(super) fn text(text: impl Into<String>) -> Value {
    json!({ "content": [{ "type": "text", "text": text.into() }], "isError": false })
}

/// A result that tells the model what it did wrong.
fn failed(text: impl Into<String>) -> Value {
    json!({ "content": [{ "type": "text", "text": text.into() }], "isError": true })
}

/// The same as text, for clients that know no structured content, and as structure.
fn structured(value: Value) -> Value {
    json!({ "content": [{ "type": "text", "text": value.to_string() }], "structuredContent": value, "isError": false })
}

/// Runs every tool but `countdown`.
pub(super) fn call(params: &Map<String, Value>, now: Timestamp) -> Result<Value, Fault> {
    let name =
        params.get("name").and_then(Value::as_str).ok_or_else(|| Fault::params("`name` must be a string"))?;
    let arguments = Arguments::of(params)?;
    match name {
        "echo" => Ok(text(arguments.string("text")?)),
        "add" => Ok(add(arguments.number("a")?, arguments.number("b")?)),
        "now" => Ok(text(now.to_string())),
        "notes.search" => Ok(search(arguments.string("query")?)),
        "notes.delete" => Ok(delete(arguments.string("id")?)),
        _ => Err(Fault::params(format!("Unknown tool: {name}"))),
    }
}

/// Integers stay integers as long as they fit.
fn add(a: &Number, b: &Number) -> Value {
    if let Some(sum) = a.as_i64().zip(b.as_i64()).and_then(|(a, b)| a.checked_add(b)) {
        return structured(json!({ "sum": sum }));
    }
    match a.as_f64().zip(b.as_f64()).map(|(a, b)| a + b) {
        Some(sum) if sum.is_finite() => structured(json!({ "sum": sum })),
        _ => failed("the sum is too large"),
    }
}

fn search(query: &str) -> Value {
    let query = query.to_lowercase();
    let found: Vec<Value> = NOTES
        .iter()
        .filter(|note| {
            note.title.to_lowercase().contains(&query) || note.text.to_lowercase().contains(&query)
        })
        .map(|note| json!({ "id": note.id, "title": note.title, "text": note.text }))
        .collect();
    structured(json!({ "notes": found }))
}

/// Says what it would do: the notebook is compiled in, and each start of the demonstration should find it whole.
fn delete(id: &str) -> Value {
    match NOTES.iter().find(|note| note.id == id) {
        Some(note) => text(format!("deleted `{}` (until this notebook is opened again)", note.id)),
        None => failed(format!("there is no note `{id}`")),
    }
}

/// Arguments of `countdown`, within their bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Countdown {
    pub(super) from: u64,
    pub(super) delay_ms: u64,
}

pub(super) fn countdown(params: &Map<String, Value>) -> Result<Countdown, Fault> {
    let arguments = Arguments::of(params)?;
    let from = arguments.integer("from", None, 1, 20)?;
    Ok(Countdown { from, delay_ms: arguments.integer("delay_ms", Some(100), 0, 1_000)? })
}

struct Arguments<'a>(Option<&'a Map<String, Value>>);

impl<'a> Arguments<'a> {
    fn of(params: &'a Map<String, Value>) -> Result<Self, Fault> {
        match params.get("arguments") {
            None => Ok(Self(None)),
            Some(Value::Object(arguments)) => Ok(Self(Some(arguments))),
            Some(_) => Err(Fault::params("`arguments` must be an object")),
        }
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.and_then(|arguments| arguments.get(name))
    }

    fn string(&self, name: &str) -> Result<&'a str, Fault> {
        self.get(name)
            .and_then(Value::as_str)
            .ok_or_else(|| Fault::params(format!("`{name}` must be a string")))
    }

    fn number(&self, name: &str) -> Result<&'a Number, Fault> {
        self.get(name)
            .and_then(Value::as_number)
            .ok_or_else(|| Fault::params(format!("`{name}` must be a number")))
    }

    fn integer(&self, name: &str, default: Option<u64>, min: u64, max: u64) -> Result<u64, Fault> {
        let given = match self.get(name) {
            None => default,
            Some(value) => value.as_u64(),
        };
        given
            .filter(|value| (min..=max).contains(value))
            .ok_or_else(|| Fault::params(format!("`{name}` must be an integer from {min} to {max}")))
    }
}
