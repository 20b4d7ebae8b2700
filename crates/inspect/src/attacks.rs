//! Attacks in arguments: what a value would do to the program behind a tool that trusts it.
//!
//! Each detector scores one way; the score is the confidence. A value is read as programs read it, after what it wears
//! has been taken off (percent escapes, entities, backslashes), and the name of the parameter says what is ordinary there.

use core::ops::Range;

use portcullis_core::{Severity, Treatment};
use portcullis_reading::worn::Unwrapped;

use crate::{Detector, DetectorSettings, Raw, Role, Sighting, Subject};

/// A way to attack through an argument.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// How sure it is, of 1,000; 0 for nothing.
    pub(crate) score: fn(&Argument<'_>) -> u16,
}

/// Bytes of a value that are read; attacks stand at its beginning.
const BYTES_MAX: usize = 4_096;
/// What is reported.
const REPORTED: u16 = 700;

/// Such a detector only scores: an argument is unwrapped once for all. Reported and let through: what is an attack in one
/// tool is the work of another.
impl Detector for Attack {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Pass, answers: Treatment::Pass }
    }

    fn threshold(&self, role: Role) -> Option<u16> {
        match role {
            Role::Argument => Some(REPORTED),
            Role::Answer | Role::Definition => None,
        }
    }

    fn attack(&self) -> Option<Self> {
        Some(*self)
    }

    fn may_match(&self, raw: &Raw<'_>) -> bool {
        raw.has_attacks()
    }
}

impl Attack {
    /// What it makes of an argument, and of the same without its disguises.
    pub(crate) fn sight(
        &self,
        argument: Option<&Argument<'_>>,
        plain: Option<(&Argument<'_>, Range<usize>)>,
    ) -> Option<Sighting> {
        let own = argument.map_or(0, |argument| (self.score)(argument));
        let whole = argument.map_or(0..0, |argument| 0..argument.length);
        let said = plain.map_or((0, 0..0), |(plain, range)| ((self.score)(plain), range));
        let (confidence, range) = match (own, said) {
            (0, said) => said,
            (own, (said, _)) => (own.max(said), whole),
        };
        let seen = confidence > 0 && !range.is_empty();
        seen.then(|| Sighting { confidence, ..Sighting::visible(range, Severity::High) })
    }
}

/// One value of an argument.
#[derive(Debug)]
pub(crate) struct Argument<'a> {
    /// The name of its parameter.
    key: &'a str,
    /// Where it stands: a JSON pointer into its message.
    place: &'a str,
    length: usize,
    /// As it came.
    pub(crate) raw: &'a [u8],
    /// What it was wrapped in taken off, in lower case.
    pub(crate) plain: Unwrapped,
    grams: Grams,
}

impl<'a> Argument<'a> {
    /// None of a text that has nothing that attacks are made of, or is no argument.
    pub(crate) fn of(subject: &Subject<'a>) -> Option<Self> {
        let bytes = subject.text.as_bytes();
        let raw = bytes.get(..BYTES_MAX).unwrap_or(bytes);
        let suspect = subject.role == Role::Argument && is_suspect_text(raw);
        suspect.then(|| {
            let plain = Unwrapped::of(raw);
            let grams = Grams::of(&plain.bytes);
            Self { key: subject.key(), place: subject.place, length: bytes.len(), raw, plain, grams }
        })
    }

    /// The value as programs read it.
    pub(crate) fn text(&self) -> &[u8] {
        &self.plain.bytes
    }

    /// The parameter has one of these words in its name.
    pub(crate) fn is_called(&self, words: &[&str]) -> bool {
        let key = self.key.as_bytes();
        words
            .iter()
            .any(|word| key.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes())))
    }

    /// What it stands in, from the nearest on, where it is the name of a member itself.
    pub(crate) fn named_in(&self) -> Option<impl Iterator<Item = &'a str>> {
        let around = self.place.strip_suffix(self.key).filter(|_| self.raw == self.key.as_bytes())?;
        Some(around.split('/').rev().filter(|part| !part.is_empty()))
    }

    /// Options of programs are what it is meant for.
    pub(crate) fn takes_options(&self) -> bool {
        self.is_command()
            || self.is_prose()
            || self.is_called(&["arg", "option", "flag", "param", "expression", "formula"])
    }

    /// A shell is what it is meant for.
    pub(crate) fn is_command(&self) -> bool {
        self.is_called(&["command", "cmd", "shell", "script", "exec", "bash"])
    }

    /// A whole query is what it is meant for.
    pub(crate) fn is_query(&self) -> bool {
        self.is_called(&["sql", "query", "statement"])
    }

    /// Texts of any kind are what it is meant for: files, messages, code.
    pub(crate) fn is_prose(&self) -> bool {
        self.is_called(&[
            "content",
            "code",
            "text",
            "message",
            "description",
            "comment",
            "prompt",
            "answer",
            "summary",
            "note",
            "thought",
            "markdown",
            "diff",
            "patch",
        ])
    }

    /// More than that many blanks: prose, or a program.
    pub(crate) fn is_long(&self) -> bool {
        self.raw.len() > 600
    }

    pub(crate) fn has(&self, needle: &str) -> bool {
        self.grams.find(self.text(), needle)
    }

    pub(crate) fn has_any(&self, needles: &[&str]) -> bool {
        needles.iter().any(|needle| self.has(needle))
    }
}

/// Which pairs of bytes a text has: most of the words that are asked for hold one that it has not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grams([u64; 64]);

impl Grams {
    pub(crate) fn of(text: &[u8]) -> Self {
        let mut grams = [0; 64];
        for pair in text.windows(2) {
            let (word, bit) = Self::place(pair);
            if let Some(bits) = grams.get_mut(word) {
                *bits |= bit;
            }
        }
        Self(grams)
    }

    fn place(pair: &[u8]) -> (usize, u64) {
        let pair = <[u8; 2]>::try_from(pair).map_or(0, u16::from_le_bytes);
        let hash = pair.wrapping_mul(0x9e37) >> 4;
        (usize::from(hash / 64), 1 << (hash % 64))
    }

    /// Whether `needle` is in the text that these are of.
    pub(crate) fn find(&self, text: &[u8], needle: &str) -> bool {
        let has = |pair: &[u8]| {
            let (word, bit) = Self::place(pair);
            self.0.get(word).is_some_and(|bits| bits & bit != 0)
        };
        needle.as_bytes().windows(2).all(has) && memchr::memmem::find(text, needle.as_bytes()).is_some()
    }
}

/// Whether a text has anything that attacks are made of; raw JSON without it holds no such text.
pub(crate) fn is_suspect(raw: &[u8]) -> bool {
    let followed = |at: usize, first: u8| match raw.get(at + 1) {
        Some(next) => matches!(
            (first, next),
            (b'.', b'.') | (b'-' | b' ' | b'"', b'-') | (b'{', b'{') | (b'[', b'[') | (b'0', b'x')
        ),
        None => false,
    };
    let begins = |at: usize, word: &&str| {
        raw.get(at..at + word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word.as_bytes()))
    };
    raw.iter().enumerate().any(|(at, byte)| match byte {
        0..b' '
        | b'#'
        | b'$'
        | b'%'
        | b'&'
        | b'\''
        | b'('
        | b')'
        | b'*'
        | b'/'
        | b';'
        | b'<'
        | b'='
        | b'\\'
        | b'`'
        | b'|' => true,
        b'.' | b'-' | b' ' | b'"' | b'{' | b'[' | b'0' => followed(at, *byte),
        // The first letters of the words.
        b'u' | b's' | b'w' | b'o' | b'h' | b'f' | b'U' | b'S' | b'W' | b'O' | b'H' | b'F' => {
            WORDS.iter().any(|word| begins(at, word))
        }
        _ => false,
    })
}

/// As [`is_suspect`], of a decoded text.
fn is_suspect_text(text: &[u8]) -> bool {
    matches!(text.first(), Some(b'-')) || memchr::memchr(b'"', text).is_some() || is_suspect(text)
}

/// Words without which no statement is made that has none of the signs.
const WORDS: &[&str] = &["union", "select", "waitfor", "order by", "having", "outfile", "false", "where"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_attacks_are_made_of_is_noticed_wherever_it_stands() {
        for sign in ["#", "..", "--", "{{", "[[", " -", "0x", "\"-", "\n"].iter().chain(WORDS) {
            for text in [alloc::format!("ab{sign}"), alloc::format!("{sign}ab"), sign.to_uppercase()] {
                // The sign of a hexadecimal number has a small letter.
                assert!(is_suspect(text.as_bytes()) || text == "0X", "{text}");
            }
        }
        assert!(!is_suspect(b"a plain sentence, 100 words: of [nothing] {else}.- \"x\""));
    }
}
