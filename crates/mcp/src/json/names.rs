//! Finding duplicate member names without hashing and without an allocation per object.

use alloc::vec::Vec;
use core::ops::Range;

use super::text;

/// Objects up to this many members compare each new name with the earlier ones; larger ones sort when they close,
/// which stays near linear for any input, chosen by an enemy or not.
const COMPARED_MAX: usize = 16;

/// A name as its decoded bytes: a span of the text, or of the arena where it had escapes.
#[derive(Clone, Copy)]
struct Name {
    start: usize,
    end: usize,
    /// Where it stands in the text, for the error.
    offset: usize,
    in_arena: bool,
}

/// The names of all open objects, innermost last.
pub(super) struct Names<'a> {
    doc: &'a [u8],
    list: Vec<Name>,
    arena: Vec<u8>,
}

/// Where the names of one object start.
#[derive(Clone, Copy, Default)]
pub(super) struct Mark {
    list: usize,
    arena: usize,
}

impl<'a> Names<'a> {
    pub(super) fn new(doc: &'a [u8]) -> Self {
        Self { doc, list: Vec::with_capacity(32), arena: Vec::new() }
    }

    /// An object opens.
    pub(super) fn open(&self) -> Mark {
        Mark { list: self.list.len(), arena: self.arena.len() }
    }

    /// Takes a name of the object opened at `mark`. The error is the offset of a duplicate.
    #[inline]
    pub(super) fn add(&mut self, mark: Mark, written: Range<usize>, escaped: bool) -> Result<(), usize> {
        let offset = written.start.saturating_sub(1);
        let mut name = Name { start: written.start, end: written.end, offset, in_arena: false };
        if escaped {
            let start = self.arena.len();
            text::unescape_into(&mut self.arena, self.doc.get(written).unwrap_or_default());
            name = Name { start, end: self.arena.len(), offset, in_arena: true };
        }
        let earlier = self.list.get(mark.list..).unwrap_or_default();
        if earlier.len() < COMPARED_MAX {
            let new = self.bytes(name);
            if earlier.iter().any(|other| self.bytes(*other) == new) {
                return Err(offset);
            }
        }
        self.list.push(name);
        Ok(())
    }

    /// The object opened at `mark` closes. The error is the offset of a duplicate.
    #[inline]
    pub(super) fn close(&mut self, mark: Mark) -> Result<(), usize> {
        if self.list.len() - mark.list > COMPARED_MAX {
            let mut sorted = self.list.split_off(mark.list);
            sorted.sort_unstable_by(|a, b| {
                self.bytes(*a).cmp(self.bytes(*b)).then_with(|| a.offset.cmp(&b.offset))
            });
            let twice = |pair: &[Name]| match pair {
                [a, b] if self.bytes(*a) == self.bytes(*b) => Some(b.offset),
                _ => None,
            };
            if let Some(offset) = sorted.windows(2).find_map(twice) {
                return Err(offset);
            }
        }
        self.list.truncate(mark.list);
        self.arena.truncate(mark.arena);
        Ok(())
    }

    fn bytes(&self, name: Name) -> &[u8] {
        let from = if name.in_arena { self.arena.as_slice() } else { self.doc };
        from.get(name.start..name.end).unwrap_or_default()
    }
}
