//! Attacks in arguments: what a value would do to the program behind a tool that trusts it.
//!
//! Each detector scores one way; the score is the confidence. A value is read as programs read it, after what it wears
//! has been taken off (percent escapes, entities, backslashes), and the name of the parameter says what is ordinary there.

use alloc::vec::Vec;

use portcullis_core::{Severity, Treatment};

use crate::{Detector, DetectorSettings, Raw, Role, Sighting, Subject};
pub(crate) use decode::Unwrapped;

mod decode;

/// A way to attack through an argument.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attack {
    /// How sure it is, of 1,000; 0 for nothing.
    pub(crate) score: fn(&Argument<'_>) -> u16,
}

/// Bytes of a value that are read; attacks stand at its beginning.
const BYTES_MAX: usize = 4_096;
/// What is reported.
const REPORTED: u16 = 700;

/// Reported and let through: what is an attack in one tool is the work of another.
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

    // Encoders that are careful with HTML escape what attacks are made of.
    fn may_match(&self, raw: &Raw<'_>) -> bool {
        raw.has_escapes() || is_suspect(raw.bytes())
    }

    fn find(&self, subject: &Subject<'_>, found: &mut Vec<Sighting>) {
        if subject.role != Role::Argument || !is_suspect_text(subject.text.as_bytes()) {
            return;
        }
        let confidence = (self.score)(&Argument::new(subject));
        if confidence > 0 {
            found.push(Sighting { confidence, ..Sighting::visible(0..subject.text.len(), Severity::High) });
        }
    }
}

/// One value of an argument.
#[derive(Debug)]
pub(crate) struct Argument<'a> {
    /// The name of its parameter.
    key: &'a str,
    /// As it came.
    pub(crate) raw: &'a [u8],
    /// What it was wrapped in taken off, in lower case.
    pub(crate) plain: Unwrapped,
}

impl<'a> Argument<'a> {
    fn new(subject: &Subject<'a>) -> Self {
        let bytes = subject.text.as_bytes();
        let raw = bytes.get(..BYTES_MAX).unwrap_or(bytes);
        Self { key: subject.key(), raw, plain: Unwrapped::of(raw) }
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
        memchr::memmem::find(self.text(), needle.as_bytes()).is_some()
    }

    pub(crate) fn has_any(&self, needles: &[&str]) -> bool {
        needles.iter().any(|needle| self.has(needle))
    }
}

/// Whether a text has anything that attacks are made of; raw JSON without it holds no such text.
fn is_suspect(raw: &[u8]) -> bool {
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
    let text = text.get(..BYTES_MAX).unwrap_or(text);
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
