//! Leaving members out: the one that holds a place goes with its name; an element of a list becomes `null`, so that the
//! others keep their places.

use alloc::{string::String, vec::Vec};
use core::ops::Range;

use bytes::Bytes;

use super::{Edits, JsonLimits, ValueKind, View, check};

/// What leaves those members out of `root` that hold one of `places`: spans of names, texts or numbers, in order.
#[must_use]
pub fn removal(root: View<'_>, places: &[Range<usize>]) -> Edits {
    let mut edits = Edits::new();
    let mut open = Vec::from([root]);
    while let Some(view) = open.pop() {
        match view.kind() {
            ValueKind::Object => {
                let mut gone = Vec::new();
                let mut members = view.members();
                while let Some((name, value)) = members.next_view() {
                    let leaves =
                        hit(places, &name.span()) || (!is_container(value) && hit(places, &value.span()));
                    gone.push(leaves);
                    if !leaves && is_container(value) && hit(places, &value.span()) {
                        open.push(value);
                    }
                }
                if gone.contains(&true) {
                    let mut gone = gone.into_iter();
                    edits.retain_members(view, |_| gone.next() == Some(false));
                }
            }
            ValueKind::Array => {
                for element in view.elements().filter(|element| hit(places, &element.span())) {
                    if is_container(element) {
                        open.push(element);
                    } else {
                        edits.replace(element.span(), b"null".to_vec());
                    }
                }
            }
            ValueKind::Bool | ValueKind::Null | ValueKind::Number | ValueKind::String => {}
        }
    }
    edits
}

/// A text that is a JSON object or list, without the members that hold one of `places`, spans of the text in order.
/// Nothing where it is none, or no member holds any.
#[must_use]
pub fn without(text: &str, places: &[Range<usize>], limits: &JsonLimits) -> Option<String> {
    if !text.trim_start().starts_with(['{', '[']) || check(text.as_bytes(), limits).is_err() {
        return None;
    }
    let edits = removal(View::of(text.as_bytes()), places);
    if edits.is_empty() {
        return None;
    }
    String::from_utf8(edits.apply(&Bytes::copy_from_slice(text.as_bytes())).ok()?.to_vec()).ok()
}

fn is_container(view: View<'_>) -> bool {
    matches!(view.kind(), ValueKind::Array | ValueKind::Object)
}

/// Whether one of the places, which are in order, shares bytes with the span.
fn hit(places: &[Range<usize>], span: &Range<usize>) -> bool {
    let from = places.partition_point(|place| place.end <= span.start);
    places.get(from).is_some_and(|place| place.start < span.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_go_with_their_commas_and_lists_keep_their_places() {
        for (text, expected) in [
            (r#"{"a": 1, "b": "X", "c": 2}"#, r#"{"a": 1, "c": 2}"#),
            (r#"{"a": "X"}"#, "{}"),
            (r#"{"a": "X", "b": "X"}"#, "{}"),
            (r#"{"a": "X", "b": 1}"#, r#"{"b": 1}"#),
            (r#"{"b": 1, "a": "X"}"#, r#"{"b": 1}"#),
            (r#"{"X": {"deep": ["X"]}, "b": [1]}"#, r#"{"b": [1]}"#),
            (r#"["X", {"a": [2, "X"]}]"#, r#"[null, {"a": [2, null]}]"#),
            (r#" {"a": {"b": "it is X", "c": "Y"}}"#, r#" {"a": {"c": "Y"}}"#),
        ] {
            let places: Vec<_> = text.match_indices('X').map(|(at, _)| at..at + 1).collect();
            let limits = JsonLimits::answer(&portcullis_core::Limits::default());
            assert_eq!(without(text, &places, &limits).as_deref(), Some(expected), "{text}");
            assert_eq!(without(text, &[], &limits), None);
        }
        let limits = JsonLimits::answer(&portcullis_core::Limits::default());
        for text in ["{ no JSON X", "\"X\""] {
            let places: Vec<_> = text.match_indices('X').map(|(at, _)| at..at + 1).collect();
            assert_eq!(without(text, &places, &limits), None, "{text}");
        }
    }
}
