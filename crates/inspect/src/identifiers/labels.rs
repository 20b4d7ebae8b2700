//! What identifiers are called: words before a value, the heading of its column, the name of its member.

use alloc::{collections::BTreeMap, vec::Vec};
use core::ops::Range;

use portcullis_core::kind::KindError;

use crate::{Subject, needles::Needles};

/// Bytes before a value in which its label stands.
const WINDOW_BYTES: usize = 56;
/// Bytes before a value in which a word says that it is something else.
const OTHER_BYTES: usize = 24;
/// Bytes of a line or a heading that are looked at.
const LINE_BYTES_MAX: usize = 2_048;

/// What numbers are called that are no identifiers of persons, in lower case.
const OTHERS: &[&str] = &[
    "order",
    "sku",
    "isbn",
    "issn",
    "ean",
    "upc",
    "version",
    "release",
    "driver version",
    "firmware",
    "build",
    "ticket",
    "issue",
    "commit",
    "uuid",
    "guid",
    "epoch",
    "timestamp",
    "tracking",
    "invoice",
    "part no",
    "part number",
    "model",
    "serial",
    "revision",
    "checksum",
    "hash",
    "sha",
    "doi",
    "arxiv",
    "pull request",
    "trace",
    "pid",
    "port",
    "batch",
    "bestellung",
    "rechnung",
    "commande",
    "facture",
    "pedido",
    "factura",
    "chapter",
    "admitted",
    "discharged",
    "expires",
    "expiry",
    "issued",
    "created",
    "updated",
    "modified",
    "published",
    "deadline",
    "due",
];

/// A label before a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label {
    /// Whose it is, by bits.
    pub(super) schemes: u128,
    /// It says that the value is no identifier.
    pub(super) other: bool,
    /// Nothing parts it from the value.
    pub(super) near: bool,
    /// Where it ends; 0 where it stands elsewhere: in a heading, in a name.
    pub(super) end: usize,
    pub(super) length: usize,
}

/// All labels.
#[derive(Debug)]
pub(super) struct Labels {
    words: Needles,
    owners: Vec<u128>,
}

impl Labels {
    /// Schemes are told apart by the bits of a word; the last stands for what is none.
    pub(super) const SCHEMES_MAX: usize = 127;
    const OTHER: u128 = 1 << Self::SCHEMES_MAX;

    pub(super) fn new(schemes: impl Iterator<Item = &'static [&'static str]>) -> Result<Self, KindError> {
        let own = schemes
            .enumerate()
            .flat_map(|(index, labels)| labels.iter().map(move |label| (*label, 1 << index)));
        let mut words: BTreeMap<&str, u128> = BTreeMap::new();
        for (word, owner) in own.chain(OTHERS.iter().map(|word| (*word, Self::OTHER))) {
            *words.entry(word).or_default() |= owner;
        }
        let needles = Needles::new(words.keys().copied())
            .ok_or_else(|| KindError { name: "identifiers", reason: "a label is too short".into() })?;
        Ok(Self { words: needles, owners: words.into_values().collect() })
    }

    /// The labels of the value that stands there.
    pub(super) fn before(
        &self,
        subject: &Subject<'_>,
        value: &Range<usize>,
        lines: &mut Lines,
    ) -> Vec<Label> {
        let bytes = subject.text.as_bytes();
        let from = value.start.saturating_sub(WINDOW_BYTES);
        let window = bytes.get(from..value.start).unwrap_or_default();
        // What stood before a placeholder belonged to what it stands for.
        let from = from + memchr::memrchr(b']', window).map_or(0, |at| at + 1);
        let window = bytes.get(from..value.start).unwrap_or_default();
        let parted = from + parted(window);
        let mut labels = Vec::new();
        self.seen(bytes, from..value.start, |mut label| {
            label.near = label.end >= parted;
            label.other &= value.start - label.end <= OTHER_BYTES;
            labels.push(label);
        });
        if from == 0 && parted == 0 {
            self.seen(subject.key().as_bytes(), 0..subject.key().len(), |label| {
                labels.push(Label { end: 0, other: false, near: true, ..label });
            });
        }
        if !labels.iter().any(|label| label.near && label.schemes != 0) {
            self.behind(bytes, value, &mut labels);
            if let Some(heading) = lines.heading(bytes, value.start) {
                self.seen(bytes, heading, |label| {
                    labels.push(Label { end: 0, other: label.other, near: true, ..label });
                });
            }
        }
        labels
    }

    /// `5551234567 (mobile)`, `5551234567 is my phone number`.
    fn behind(&self, bytes: &[u8], value: &Range<usize>, labels: &mut Vec<Label>) {
        let after = bytes.get(value.end..bytes.len().min(value.end + 40)).unwrap_or_default();
        if !after.starts_with(b" (") && !after.starts_with(b" is ") {
            return;
        }
        let ends = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b',' | b'\n' | b':' | b'=');
        let length = after.iter().position(ends).unwrap_or(after.len());
        self.seen(bytes, value.end..value.end + length, |label| {
            if !label.other {
                labels.push(Label { end: 0, near: true, ..label });
            }
        });
    }

    fn seen(&self, bytes: &[u8], range: Range<usize>, mut tell: impl FnMut(Label)) {
        let window = bytes.get(range.clone()).unwrap_or_default();
        self.words.each(window, |hit| {
            let (start, end) = (range.start + hit.start, range.start + hit.end);
            if is_word(bytes, start..end) {
                let owners = self.owners.get(hit.word).copied().unwrap_or_default();
                tell(Label {
                    schemes: owners & !Self::OTHER,
                    other: owners & Self::OTHER != 0,
                    near: true,
                    end,
                    length: end - start,
                });
            }
            true
        });
    }
}

/// Whether a label is not part of another word. Longer ones may be: `Telefonnummer`.
pub(crate) fn is_word(bytes: &[u8], range: Range<usize>) -> bool {
    let at = |at: usize| bytes.get(at).copied().unwrap_or_default();
    let before = range.start.checked_sub(1).map(at).unwrap_or_default();
    let (first, last, next) = (at(range.start), at(range.end.saturating_sub(1)), at(range.end));
    let camel = first.is_ascii_uppercase() && before.is_ascii_lowercase();
    let begins = !before.is_ascii_alphabetic() || camel;
    let plural = next == b's' && !at(range.end + 1).is_ascii_alphabetic();
    let ends =
        !next.is_ascii_alphabetic() || plural || (last.is_ascii_lowercase() && next.is_ascii_uppercase());
    if range.len() <= 5 { begins && ends } else { begins || ends }
}

/// Where the last thing ends that parts a label from its value: another number, the end of a sentence.
fn parted(window: &[u8]) -> usize {
    let abbreviated = |before: &[u8]| {
        let start = before.iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let word = before.get(before.len() - start..).unwrap_or_default();
        word.len() <= 3
    };
    let parts = |(index, byte): (usize, &u8)| match byte {
        b'0'..=b'9' | b'!' | b';' => true,
        b'.' => {
            window.get(index + 1).is_some_and(u8::is_ascii_whitespace)
                && !abbreviated(window.get(..index).unwrap_or_default())
        }
        b'\n' => window.get(index + 1..).is_some_and(|rest| rest.iter().any(u8::is_ascii_alphanumeric)),
        _ => false,
    };
    window.iter().enumerate().rev().find(|one| parts(*one)).map_or(0, |(index, _)| index + 1)
}

/// Where the lines of a text begin, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Lines {
    upto: usize,
    line: usize,
    /// The first line of the block.
    heading: Range<usize>,
}

impl Lines {
    /// The cell above the value in the first line of its block, where that is a table.
    fn heading(&mut self, bytes: &[u8], at: usize) -> Option<Range<usize>> {
        self.read(bytes, at);
        if self.line <= self.heading.start || self.heading.len() > LINE_BYTES_MAX {
            return None;
        }
        let line = bytes.get(self.line..at).filter(|line| line.len() <= LINE_BYTES_MAX)?;
        let heading = bytes.get(self.heading.clone())?;
        let sign = *b"|\t;,".iter().find(|sign| memchr::memchr(**sign, heading).is_some())?;
        let mut index = cells(line, sign).count().checked_sub(1)?;
        let mut start = self.heading.start;
        for cell in cells(heading, sign) {
            if index == 0 {
                return Some(start..start + cell);
            }
            index -= 1;
            start += cell + 1;
        }
        None
    }

    fn read(&mut self, bytes: &[u8], at: usize) {
        for newline in memchr::memchr_iter(b'\n', bytes.get(self.upto..at).unwrap_or_default()) {
            let end = self.upto + newline;
            let empty = bytes.get(self.line..end).is_some_and(|line| line.trim_ascii().is_empty());
            if empty {
                self.heading = end + 1..end + 1;
            } else if self.heading.start == self.line {
                self.heading.end = end;
            }
            self.line = end + 1;
        }
        self.upto = self.upto.max(at);
    }
}

/// The lengths of the cells of a line.
fn cells(line: &[u8], sign: u8) -> impl Iterator<Item = usize> {
    let mut quoted = false;
    line.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == sign && !quoted
    })
    .map(<[u8]>::len)
}
