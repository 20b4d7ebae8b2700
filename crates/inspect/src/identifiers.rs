//! Identifiers of persons: words with digits in them, what they look like, and what they are called.
//!
//! One pass finds the words that have a digit in them, whatever detectors are on. Each [`Scheme`] says what its values
//! look like; where several read one at the same place, the nearest label decides: `mrn`, `"dob":`, the heading of a
//! column, the name of a member.

use alloc::vec::Vec;
use core::ops::Range;

use portcullis_core::{Treatment, kind::KindError};

use crate::{Detector, DetectorSettings, Raw, Role, Subject};
pub(crate) use labels::is_word;
use labels::{Label, Labels, Lines};
pub(crate) use look::{Look, Value};

pub(crate) use portcullis_personal::check;
mod labels;
mod look;

/// What a word must begin with for a scheme to look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// A digit.
    Digit,
    /// A letter.
    Letter,
    /// Either.
    Any,
}

/// What values look like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// Digits in groups of these sizes, whose check holds. In more than one group they may need no label.
    Digits(&'static [&'static [u8]], fn(&[u8]) -> bool, Alone),
    /// Anything else, read from its first word with a digit, which has so many bytes.
    Word((usize, usize), fn(&Look<'_>) -> Option<Value>),
    /// The same, of what means nothing without a label.
    Called((usize, usize), fn(&Look<'_>) -> Option<Value>),
}

/// Whether digits in groups need a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alone {
    /// They do.
    Never,
    /// Not with these separators between the first groups.
    By(&'static [u8]),
}

/// One kind of identifier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scheme {
    /// What it is called, in lower case. Words of up to five letters count as whole words only.
    pub(crate) labels: &'static [&'static str],
    pub(crate) lead: Lead,
    pub(crate) form: Form,
}

impl Scheme {
    /// Whether a value may begin with a word of that length.
    fn may_begin(&self, digit: bool, length: usize) -> bool {
        let leads = match self.lead {
            Lead::Digit => digit,
            Lead::Letter => !digit,
            Lead::Any => true,
        };
        leads
            && match self.form {
                Form::Word((least, most), _) | Form::Called((least, most), _) => {
                    (least..=most).contains(&length)
                }
                Form::Digits(sizes, ..) => {
                    sizes.iter().any(|sizes| sizes.first().is_some_and(|first| usize::from(*first) == length))
                }
            }
    }

    /// Whether some value of it needs no label.
    fn may_stand_alone(&self) -> bool {
        match self.form {
            Form::Word(..) => true,
            Form::Called(..) | Form::Digits(.., Alone::Never) => false,
            Form::Digits(.., Alone::By(_)) => true,
        }
    }

    fn read(&self, look: &Look<'_>) -> Option<Value> {
        match self.form {
            Form::Word(_, read) => read(look),
            Form::Called(_, read) => read(look).map(|value| Value { alone: false, ..value }),
            Form::Digits(sizes, check, alone) => sizes.iter().find_map(|sizes| {
                let (digits, length) = look.groups.fit(sizes)?;
                let range = look.whole(look.word.start..look.word.start + length)?;
                let separators = (0..sizes.len().saturating_sub(1)).map(|index| look.groups.separator(index));
                let alone = match alone {
                    Alone::Never => false,
                    Alone::By(known) => sizes.len() > 1 && separators.eq(known.iter().copied()),
                };
                check(digits).then_some(Value { range, alone })
            }),
        }
    }
}

/// What a detector of identifiers looks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Schemes(pub(crate) &'static [Scheme]);

impl Schemes {
    /// Of a value that a label or a checksum vouches for, and of one that only looks like it.
    const LABELLED: u16 = 950;
    const ALONE: u16 = 850;
}

/// Such a detector only lists its schemes: one pass looks for those of all.
impl Detector for Schemes {
    // Reported and let through, both ways: much honest work is about them.
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Pass, answers: Treatment::Pass }
    }

    fn threshold(&self, role: Role) -> Option<u16> {
        match role {
            Role::Argument | Role::Answer => Some(Self::ALONE),
            // Definitions are a server's own words about itself, with examples.
            Role::Definition => None,
        }
    }

    fn schemes(&self) -> Schemes {
        *self
    }

    fn may_match(&self, raw: &Raw<'_>) -> bool {
        raw.has_identifiers()
    }
}

/// What was seen, and by which of the schemes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identified {
    pub(crate) owner: usize,
    pub(crate) range: Range<usize>,
    pub(crate) confidence: u16,
}

/// All schemes of the detectors that are switched on.
#[derive(Debug)]
pub(crate) struct Identifiers {
    /// Each scheme, and whose it is.
    schemes: Vec<(usize, &'static Scheme)>,
    /// Which of them may begin with a word of each length, by bits: with a digit, and with a letter.
    by_length: [Vec<u128>; 2],
    /// Those of which some value needs no label.
    alone: u128,
    labels: Labels,
}

/// Longer words are no identifiers.
const WORD_BYTES_MAX: usize = 96;

impl Identifiers {
    /// The schemes of each detector, in their order.
    ///
    /// # Errors
    /// A label is too short.
    pub(crate) fn new(detectors: impl Iterator<Item = Schemes>) -> Result<Self, KindError> {
        let schemes: Vec<(usize, &'static Scheme)> = detectors
            .enumerate()
            .flat_map(|(owner, schemes)| schemes.0.iter().map(move |scheme| (owner, scheme)))
            .take(Labels::SCHEMES_MAX)
            .collect();
        let labels = Labels::new(schemes.iter().map(|(_, scheme)| scheme.labels))?;
        let those = |fits: &dyn Fn(&Scheme) -> bool| {
            let fits = schemes.iter().enumerate().filter(|(_, (_, scheme))| fits(scheme));
            fits.fold(0, |all: u128, (index, _)| all | 1 << index)
        };
        let of_length = |digit, length| those(&|scheme: &Scheme| scheme.may_begin(digit, length));
        let alone = those(&Scheme::may_stand_alone);
        let by_length =
            [true, false].map(|digit| (0..=WORD_BYTES_MAX).map(|length| of_length(digit, length)).collect());
        Ok(Self { schemes, by_length, alone, labels })
    }

    /// The labels of each scheme.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &'static [&'static str]> {
        self.schemes.iter().map(|(_, scheme)| scheme.labels)
    }

    /// What stands in a text, in order and without overlap, where labels of the schemes `called` occur in it or in the
    /// name under which it stands.
    pub(crate) fn find(&self, subject: &Subject<'_>, called: u128) -> Vec<Identified> {
        let wanted = called | self.alone;
        let bytes = subject.text.as_bytes();
        let mut found = Vec::new();
        if self.schemes.is_empty() {
            return found;
        }
        let mut lines = Lines::default();
        let mut from = 0;
        while let Some(word) = next_word(bytes, from) {
            from = word.end;
            // What goes on from a number was read with it.
            if word.len() > WORD_BYTES_MAX || goes_on(bytes, word.start) {
                continue;
            }
            let fits = self.may_begin(bytes, &word) & wanted;
            if fits == 0 {
                continue;
            }
            let look = Look::new(bytes, word);
            if look.groups.are_scattered() {
                continue;
            }
            if let Some(one) = self.at(subject, fits, &look, &mut lines, found.last()) {
                from = one.range.end.max(from);
                found.push(one);
            }
        }
        found
    }

    /// The schemes of which a value may begin with that word.
    fn may_begin(&self, bytes: &[u8], word: &Range<usize>) -> u128 {
        let [digits, letters] = &self.by_length;
        let digit = bytes.get(word.start).is_some_and(u8::is_ascii_digit);
        let fits = if digit { digits } else { letters };
        fits.get(word.len()).copied().unwrap_or_default()
    }

    /// What begins with, or just before, that word, by those schemes.
    fn at(
        &self,
        subject: &Subject<'_>,
        schemes: u128,
        look: &Look<'_>,
        lines: &mut Lines,
        last: Option<&Identified>,
    ) -> Option<Identified> {
        let floor = last.map_or(0, |last| last.range.end);
        let mut labels: Option<(usize, Vec<Label>)> = None;
        let mut best: Option<((usize, usize), Identified)> = None;
        let mut rest = schemes;
        while rest != 0 {
            let index = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let Some((owner, scheme)) = self.schemes.get(index) else { continue };
            let Some(value) = scheme.read(look) else { continue };
            let fits = value.range.start >= floor
                && has_digits(look.bytes.get(value.range.clone()).unwrap_or_default())
                && subject.text.get(value.range.clone()).is_some();
            if !fits {
                continue;
            }
            // Labels end where the value begins, which may differ by what is read.
            if labels.as_ref().is_none_or(|(at, _)| *at != value.range.start) {
                let seen = self.labels.before(subject, &value.range, lines);
                labels = Some((value.range.start, seen));
            }
            let seen = labels.as_ref().map_or(&[][..], |(_, seen)| seen);
            let Some(rank) = rank(seen, index, &value) else { continue };
            if best.as_ref().is_none_or(|(least, _)| rank > *least) {
                best = Some((
                    rank,
                    Identified {
                        owner: *owner,
                        range: value.range,
                        confidence: if rank.0 > 0 { Schemes::LABELLED } else { Schemes::ALONE },
                    },
                ));
            }
        }
        best.map(|(_, one)| one)
    }
}

/// How well the value of a scheme stands where it does: by the nearest label, or without one.
fn rank(seen: &[Label], scheme: usize, value: &Value) -> Option<(usize, usize)> {
    let own = seen.iter().filter(|label| label.schemes >> scheme & 1 == 1 && label.near);
    let own = own.map(|label| (label.end + 1, label.length)).max();
    let other = seen.iter().filter(|label| label.other).map(|label| (label.end + 1, label.length)).max();
    match (own, other) {
        (Some(own), other) if other.is_none_or(|other| own >= other) => Some(own),
        (_, None) if value.alone => Some((0, value.range.len())),
        _ => None,
    }
}

/// Whether a number and what binds it stand before that place.
fn goes_on(bytes: &[u8], at: usize) -> bool {
    matches!(bytes.get(..at), Some([.., digit, b'-' | b'.' | b'/' | b':']) if digit.is_ascii_digit())
}

/// Whether a text has as many digits as the quick look asks for.
fn has_digits(value: &[u8]) -> bool {
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    digits >= DIGITS_MIN
}

/// No value has fewer digits.
const DIGITS_MIN: usize = 3;
/// Bytes within which that many digits of a value stand at least once.
const DIGITS_BYTES: usize = 48;

/// Whether raw JSON may hold an identifier: digits near enough to each other.
pub(crate) fn may_hold(raw: &[u8]) -> bool {
    let mut last = [usize::MAX; 2];
    let mut from = 0;
    while let Some(at) = next_digit(raw, from) {
        from = at + 1;
        let [first, second] = last;
        if first != usize::MAX && at - first < DIGITS_BYTES {
            return true;
        }
        last = [second, at];
    }
    false
}

/// Bytes that are asked one by one for a digit before pieces are.
const NEAR_BYTES: usize = 8;

/// The next ASCII digit from there on.
fn next_digit(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    let rest = bytes.get(from..)?;
    // Where there are digits there are more.
    let (near, far) = rest.split_at_checked(NEAR_BYTES).unwrap_or((rest, &[]));
    if let Some(index) = near.iter().position(u8::is_ascii_digit) {
        return Some(at + index);
    }
    at += near.len();
    // By pieces without a branch inside, so that the compiler makes vectors of it.
    for piece in far.chunks(32) {
        if piece.iter().fold(false, |any, byte| any | byte.is_ascii_digit()) {
            return piece.iter().position(u8::is_ascii_digit).map(|index| at + index);
        }
        at += piece.len();
    }
    None
}

/// The next run of ASCII letters and digits, from `from` on, that has a digit in it.
fn next_word(bytes: &[u8], from: usize) -> Option<Range<usize>> {
    let digit = next_digit(bytes, from)?;
    let before = bytes.get(from..digit)?;
    let start = digit - before.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let after = bytes.get(digit..)?;
    Some(start..digit + after.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count())
}
