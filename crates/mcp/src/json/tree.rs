//! Trees for libraries that want one. No recursion: a deep text costs memory on the heap, never the stack.

use alloc::{string::String, vec::Vec};

use serde_json::{Map, Value};

use super::{Elements, Members, ValueKind, View};

/// A container of the tree under construction.
enum Open<'a> {
    Array(Elements<'a>, Vec<Value>),
    /// The name is that of the value being read.
    Object(Members<'a>, Map<String, Value>, String),
}

impl View<'_> {
    /// The value as a tree, for libraries that want one. Numbers beyond 64 bits become doubles.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut open = Vec::new();
        let mut next = *self;
        loop {
            let (mut done, mut end) = match enter(next.ended_if_scalar(), &mut open) {
                Ok(first) => {
                    next = first;
                    continue;
                }
                Err(complete) => complete,
            };
            next = loop {
                let Some(container) = open.pop() else { return done };
                match container.take(done, end, &mut open) {
                    Ok(following) => break following,
                    Err(complete) => (done, end) = complete,
                }
            };
        }
    }

    /// Containers find their end while they are read.
    fn ended_if_scalar(self) -> Self {
        match self.kind() {
            ValueKind::Array | ValueKind::Object => self,
            ValueKind::Bool | ValueKind::Null | ValueKind::Number | ValueKind::String => self.ended(),
        }
    }

    fn number(&self) -> Value {
        let Some(text) = self.number_text() else { return Value::Null };
        if let Ok(whole) = text.parse::<u64>() {
            return Value::from(whole);
        }
        // Negative zero is a double; as an integer it would lose its sign.
        match text.parse::<i64>() {
            Ok(whole) if whole != 0 => Value::from(whole),
            Ok(_) | Err(_) => text.parse::<f64>().map_or(Value::Null, Value::from),
        }
    }
}

/// A finished part and where it ends in the text.
type Finished = (Value, usize);

/// Opens a container and gives its first part, or gives what is finished at once.
fn enter<'a>(view: View<'a>, open: &mut Vec<Open<'a>>) -> Result<View<'a>, Finished> {
    let scalar = match view.kind() {
        ValueKind::Object => {
            let mut members = view.members();
            let Some((name, value)) = members.next() else {
                return Err((Value::Object(Map::new()), members.end()));
            };
            open.push(Open::Object(members, Map::new(), name.into_owned()));
            return Ok(value);
        }
        ValueKind::Array => {
            let mut elements = view.elements();
            let Some(value) = elements.next() else {
                return Err((Value::Array(Vec::new()), elements.end()));
            };
            open.push(Open::Array(elements, Vec::new()));
            return Ok(value);
        }
        ValueKind::String => Value::String(view.as_str().unwrap_or_default().into_owned()),
        ValueKind::Number => view.number(),
        ValueKind::Bool => Value::Bool(view.as_bool() == Some(true)),
        ValueKind::Null => Value::Null,
    };
    Err((scalar, view.span().end))
}

impl<'a> Open<'a> {
    /// Takes a finished part; gives the view to read next, or the finished container.
    fn take(self, part: Value, end: usize, open: &mut Vec<Self>) -> Result<View<'a>, Finished> {
        match self {
            Self::Array(mut elements, mut list) => {
                list.push(part);
                elements.value_ends(end);
                let Some(next) = elements.next() else { return Err((Value::Array(list), elements.end())) };
                open.push(Self::Array(elements, list));
                Ok(next)
            }
            Self::Object(mut members, mut map, name) => {
                map.insert(name, part);
                members.value_ends(end);
                let Some((name, next)) = members.next() else {
                    return Err((Value::Object(map), members.end()));
                };
                open.push(Self::Object(members, map, name.into_owned()));
                Ok(next)
            }
        }
    }
}
