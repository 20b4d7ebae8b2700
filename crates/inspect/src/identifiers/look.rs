//! A word with a digit in it, and what stands round it: what a [`super::Scheme`] is shown.

use core::ops::Range;

/// Groups of digits that are read at most.
const GROUPS_MAX: usize = 8;
/// Digits that are read at most.
const DIGITS_MAX: usize = 20;

/// A value that a scheme reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) range: Range<usize>,
    /// Its form or its checksum says what it is, without a label.
    pub(crate) alone: bool,
}

impl Value {
    pub(crate) const fn alone(range: Range<usize>) -> Option<Self> {
        Some(Self { range, alone: true })
    }

    pub(crate) const fn labelled(range: Range<usize>) -> Option<Self> {
        Some(Self { range, alone: false })
    }
}

/// Digits in groups with one separator between two of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Groups {
    digits: [u8; DIGITS_MAX],
    /// Size of each group, and the separator behind it.
    groups: [(u8, u8); GROUPS_MAX],
    count: usize,
}

impl Groups {
    fn read(bytes: &[u8], at: usize) -> Self {
        let mut groups = Self::default();
        let (mut total, mut at) = (0, at);
        for group in &mut groups.groups {
            while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
                let Some(place) = groups.digits.get_mut(total) else { return groups };
                *place = *digit - b'0';
                total += 1;
                group.0 += 1;
                at += 1;
            }
            groups.count += 1;
            match (bytes.get(at), bytes.get(at + 1)) {
                (Some(separator @ (b' ' | b'-' | b'.' | b'/')), Some(b'0'..=b'9')) => group.1 = *separator,
                _ => break,
            }
            at += 1;
        }
        groups
    }

    /// Three digits with blanks between them begin no identifier.
    pub(crate) fn are_scattered(&self) -> bool {
        matches!(self.groups, [(1, b' '), (1, b' '), (1, _), ..])
    }

    /// How many groups there are.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// The size of a group; none is empty.
    pub(crate) fn size(&self, index: usize) -> usize {
        self.groups.get(index).map_or(0, |group| usize::from(group.0))
    }

    /// The separator behind a group; 0 behind the last.
    pub(crate) fn separator(&self, index: usize) -> u8 {
        self.groups.get(index).map_or(0, |group| group.1)
    }

    /// The digits of the first groups when they have these sizes and no more of the same follow, and how many bytes
    /// they take.
    pub(crate) fn fit(&self, sizes: &[u8]) -> Option<(&[u8], usize)> {
        let same = self.groups.iter().zip(sizes).all(|(group, size)| group.0 == *size);
        let last = sizes.len().checked_sub(1)?;
        // Blanks also stand between numbers that have nothing to do with each other.
        let ends = matches!(self.separator(last), 0 | b' ');
        if !same || !ends || self.count < sizes.len() {
            return None;
        }
        let total: usize = sizes.iter().map(|size| usize::from(*size)).sum();
        Some((self.digits.get(..total)?, total + last))
    }
}

/// A word with a digit in it.
#[derive(Debug)]
pub(crate) struct Look<'a> {
    /// The whole text.
    pub(crate) bytes: &'a [u8],
    /// The word: a run of ASCII letters and digits.
    pub(crate) word: Range<usize>,
    /// The digits that begin with the word; empty where it begins with a letter.
    pub(crate) groups: Groups,
}

impl<'a> Look<'a> {
    pub(crate) fn new(bytes: &'a [u8], word: Range<usize>) -> Self {
        let digits = bytes.get(word.start).is_some_and(u8::is_ascii_digit);
        let groups = if digits { Groups::read(bytes, word.start) } else { Groups::default() };
        Self { bytes, word, groups }
    }

    /// The byte at that place, 0 beyond the text.
    pub(crate) fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or_default()
    }

    /// The byte before that place.
    pub(crate) fn before(&self, at: usize) -> u8 {
        at.checked_sub(1).map_or(0, |at| self.byte(at))
    }

    /// The bytes of the word.
    pub(crate) fn text(&self) -> &'a [u8] {
        self.bytes.get(self.word.clone()).unwrap_or_default()
    }

    /// Letters, digits and what binds them begin before that place.
    pub(crate) fn is_begun(&self, at: usize) -> bool {
        let (before, further) = (self.before(at), self.before(at.saturating_sub(1)));
        before.is_ascii_alphanumeric()
            || before == b'_'
            || (matches!(before, b'-' | b'.' | b'/' | b':') && further.is_ascii_digit())
            || (before == b'-' && further.is_ascii_alphanumeric())
    }

    /// Letters, digits and what binds them go on at that place.
    pub(crate) fn goes_on(&self, at: usize) -> bool {
        let (next, further) = (self.byte(at), self.byte(at + 1));
        next.is_ascii_alphanumeric()
            || next == b'_'
            || (matches!(next, b'-' | b'.' | b'/' | b':') && further.is_ascii_digit())
            || (next == b'-' && further.is_ascii_alphanumeric())
    }

    /// The value when nothing belongs to it on either side.
    pub(crate) fn whole(&self, range: Range<usize>) -> Option<Range<usize>> {
        (!self.is_begun(range.start) && !self.goes_on(range.end)).then_some(range)
    }

    /// The run of bytes that fit, up to `most`, forwards from `at`.
    pub(crate) fn run(&self, at: usize, most: usize, fits: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes.get(at..).unwrap_or_default();
        at + rest.iter().take(most).take_while(|byte| fits(**byte)).count()
    }

    /// The run of bytes that fit, up to `most`, backwards from `at`.
    pub(crate) fn run_back(&self, at: usize, most: usize, fits: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes.get(..at).unwrap_or_default();
        at - rest.iter().rev().take(most).take_while(|byte| fits(**byte)).count()
    }
}
