//! Changing a text without re-encoding it: spans are replaced, everything else keeps its bytes.

use alloc::vec::Vec;
use core::ops::Range;

use bytes::Bytes;

use super::{ValueKind, View, quote};

/// The edits cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// A span lies outside the text or runs backwards.
    #[error("edit of {start}..{end} lies outside the text")]
    Outside {
        /// Start of the span.
        start: usize,
        /// End of the span.
        end: usize,
    },
    /// Two spans share bytes.
    #[error("edits overlap at offset {offset}")]
    Overlap {
        /// Start of the later span.
        offset: usize,
    },
}

/// Replacements of spans of one text, in any order.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    list: Vec<(Range<usize>, Vec<u8>)>,
}

impl Edits {
    /// No edits.
    #[must_use]
    pub const fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// Whether nothing is to be changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Replaces a span; an empty span inserts.
    pub fn replace(&mut self, span: Range<usize>, with: Vec<u8>) {
        self.list.push((span, with));
    }

    /// Sets a member of an object to `value` (JSON text): replaces the value in place, or inserts the member in
    /// front of the others. Does nothing to what is not an object.
    pub fn set_member(&mut self, object: View<'_>, name: &str, value: &[u8]) {
        if object.kind() != ValueKind::Object {
            return;
        }
        if let Some(old) = object.get(name) {
            return self.replace(old.span(), value.to_vec());
        }
        let inside = object.span().start + 1;
        let empty = object.members().next().is_none();
        let mut member = Vec::with_capacity(name.len() + value.len() + 4);
        if empty && self.list.iter().any(|(span, _)| *span == (inside..inside)) {
            member.push(b',');
        }
        member.extend_from_slice(quote(name).as_bytes());
        member.push(b':');
        member.extend_from_slice(value);
        if !empty {
            member.push(b',');
        }
        self.replace(inside..inside, member);
    }

    /// Removes a member of an object, with the comma that goes with it.
    pub fn remove_member(&mut self, object: View<'_>, name: &str) {
        self.retain_members(object, |key| key != name);
    }

    /// Keeps the members of an object for whose names `keep` says so, with the commas that go with them.
    pub fn retain_members(&mut self, object: View<'_>, mut keep: impl FnMut(&str) -> bool) {
        let mut spans = Vec::new();
        let mut members = object.members();
        while let Some((key, value)) = members.next_view() {
            let kept = key.as_str().is_some_and(|name| keep(&name));
            spans.push((key.span().start..value.span().end, kept));
        }
        self.keep(&spans);
    }

    /// Keeps the elements of an array for which `keep` says so, with the commas that go with them.
    pub fn retain_elements(&mut self, array: View<'_>, mut keep: impl FnMut(View<'_>) -> bool) {
        let spans: Vec<_> = array.elements().map(|element| (element.span(), keep(element))).collect();
        self.keep(&spans);
    }

    /// Removes the items that are not kept. Each run of them goes with one comma: the one behind it, or the one in
    /// front where it is the last.
    fn keep(&mut self, items: &[(Range<usize>, bool)]) {
        let mut kept_before = None;
        let mut run: Option<Range<usize>> = None;
        for (span, kept) in items {
            match (kept, run.take()) {
                (true, Some(gone)) => {
                    self.replace(gone.start..span.start, Vec::new());
                    kept_before = Some(span.end);
                }
                (true, None) => kept_before = Some(span.end),
                (false, Some(gone)) => run = Some(gone.start..span.end),
                (false, None) => run = Some(span.clone()),
            }
        }
        if let Some(gone) = run {
            self.replace(kept_before.unwrap_or(gone.start)..gone.end, Vec::new());
        }
    }

    /// With what `removal` takes away, and without the edits inside of that.
    #[must_use]
    pub fn and_without(mut self, mut removal: Self) -> Self {
        removal.list.sort_by_key(|(span, _)| span.start);
        self.list.retain(|(span, _)| {
            let next = removal.list.partition_point(|(gone, _)| gone.start <= span.start);
            let before = next.checked_sub(1).and_then(|at| removal.list.get(at));
            before.is_none_or(|(gone, _)| span.end > gone.end)
        });
        self.list.append(&mut removal.list);
        self
    }

    /// The text with all edits made; the same bytes when there are none.
    ///
    /// # Errors
    /// A span outside the text, or two that overlap.
    pub fn apply(mut self, text: &Bytes) -> Result<Bytes, EditError> {
        if self.list.is_empty() {
            return Ok(text.clone());
        }
        // Stable: insertions at one place keep the order they were asked for.
        self.list.sort_by_key(|(span, _)| (span.start, span.end));
        let grown: usize = self.list.iter().map(|(_, with)| with.len()).sum();
        let mut out = Vec::with_capacity(text.len() + grown);
        let mut at = 0;
        for (span, with) in &self.list {
            if span.start < at && span.start <= span.end {
                return Err(EditError::Overlap { offset: span.start });
            }
            let outside = EditError::Outside { start: span.start, end: span.end };
            if span.start > span.end || span.end > text.len() {
                return Err(outside);
            }
            out.extend_from_slice(text.get(at..span.start).ok_or(outside)?);
            out.extend_from_slice(with);
            at = span.end;
        }
        out.extend_from_slice(text.get(at..).unwrap_or_default());
        Ok(Bytes::from(out))
    }
}
