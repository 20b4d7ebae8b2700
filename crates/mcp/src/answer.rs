//! Reading results and parameters: every text in them with its place, the entries of lists, cursors.

use alloc::{borrow::Cow, string::String, vec::Vec};
use core::fmt::Write as _;

use portcullis_core::TargetKind;

use crate::json::{Elements, Members, ValueKind, View};

/// Whether a text is a value or the name of a member. A detector reads both: a name reaches the model too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The name of the member at the pointer.
    Name,
    /// The value at the pointer.
    Value,
}

/// A container on the way down.
enum Open<'a> {
    Array(Elements<'a>, usize),
    Object(Members<'a>),
}

/// Gives every string in `view` to `found`, in the order of the text: values and member names, each with its JSON
/// pointer (RFC 6901) that starts with `prefix`. One pass, no recursion.
pub fn leaves<'a>(view: View<'a>, prefix: &str, found: impl FnMut(&str, Place, View<'a>)) {
    walk(view, prefix, false, found);
}

/// As [`leaves`], with every number as well: what a string can hold, a number of enough digits can.
pub fn leaves_and_numbers<'a>(view: View<'a>, prefix: &str, found: impl FnMut(&str, Place, View<'a>)) {
    walk(view, prefix, true, found);
}

fn walk<'a>(view: View<'a>, prefix: &str, numbers: bool, mut found: impl FnMut(&str, Place, View<'a>)) {
    let mut pointer = String::from(prefix);
    // Containers that are open, each with the length of its own pointer.
    let mut open: Vec<(Open<'a>, usize)> = Vec::new();
    let mut next = view;
    loop {
        let mut end = match next.kind() {
            ValueKind::Object => {
                open.push((Open::Object(next.members()), pointer.len()));
                None
            }
            ValueKind::Array => {
                open.push((Open::Array(next.elements(), 0), pointer.len()));
                None
            }
            ValueKind::String => {
                next = next.ended();
                found(&pointer, Place::Value, next);
                Some(next.span().end)
            }
            ValueKind::Number => {
                if numbers {
                    found(&pointer, Place::Value, next);
                }
                Some(next.span().end)
            }
            ValueKind::Bool | ValueKind::Null => Some(next.span().end),
        };
        next = loop {
            let Some((container, own)) = open.last_mut() else { return };
            pointer.truncate(*own);
            match container.step(end.take(), &mut pointer) {
                Ok((name, value)) => {
                    if let Some(name) = name {
                        found(&pointer, Place::Name, name);
                    }
                    break value;
                }
                Err(closed) => {
                    end = Some(closed);
                    open.pop();
                }
            }
        };
    }
}

impl<'a> Open<'a> {
    /// The next item, with its name in an object, its place appended to `pointer`; or where the container ends.
    fn step(
        &mut self,
        end: Option<usize>,
        pointer: &mut String,
    ) -> Result<(Option<View<'a>>, View<'a>), usize> {
        match self {
            Self::Array(elements, index) => {
                if let Some(end) = end {
                    elements.value_ends(end);
                }
                let value = elements.next().ok_or_else(|| elements.end())?;
                // Writing to a string cannot fail.
                let _ = write!(pointer, "/{index}");
                *index += 1;
                Ok((None, value))
            }
            Self::Object(members) => {
                if let Some(end) = end {
                    members.value_ends(end);
                }
                let (name, value) = members.next_view().ok_or_else(|| members.end())?;
                push_token(pointer, &name.as_str().unwrap_or_default());
                Ok((Some(name), value))
            }
        }
    }
}

/// Appends a reference token (RFC 6901) to a JSON pointer.
pub fn push_token(pointer: &mut String, token: &str) {
    pointer.push('/');
    for character in token.chars() {
        match character {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            _ => pointer.push(character),
        }
    }
}

/// The member of a list result that holds the entries of a kind, and the member of an entry that names it.
#[must_use]
pub const fn list_members(kind: TargetKind) -> (&'static str, &'static str) {
    match kind {
        TargetKind::Prompt => ("prompts", "name"),
        TargetKind::Resource => ("resources", "uri"),
        TargetKind::Template => ("resourceTemplates", "uriTemplate"),
        TargetKind::Tool => ("tools", "name"),
    }
}

/// The entries of a list result, each with its name; an entry without a name has none. Nothing when the result
/// has no such list.
pub fn list_items<'a>(
    result: View<'a>,
    kind: TargetKind,
) -> Option<impl Iterator<Item = (Option<Cow<'a, str>>, View<'a>)>> {
    let (member, name) = list_members(kind);
    let list = result.get(member).filter(|list| list.kind() == ValueKind::Array)?;
    Some(list.elements().map(move |entry| (entry.get(name).and_then(|name| name.as_str()), entry)))
}

/// Where the next page starts. An empty string is a valid cursor.
#[must_use]
pub fn next_cursor<'a>(result: &View<'a>) -> Option<Cow<'a, str>> {
    result.get("nextCursor")?.as_str()
}

/// `resultType` of revision 2026-07-28.
#[must_use]
pub fn result_type<'a>(result: &View<'a>) -> Option<Cow<'a, str>> {
    result.get("resultType")?.as_str()
}
