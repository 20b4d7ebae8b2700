//! What masking puts in the place of what was seen.

use alloc::{format, string::String};
use core::ops::Range;

use aws_lc_rs::hmac;

use crate::CATALOG;

/// How a masked text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `[masked:email]`.
    #[default]
    Placeholder,
    /// Letters and digits become stars; of long ones the last four stay, of an address its domain.
    Stars,
    /// `[email:9f86d081884c7d65]`: the same for the same value, and for nobody who has not the key to guess with.
    Pseudonym,
}

/// Letters and digits from which on the last few stay readable, and how many.
const LONG: usize = 12;
const KEPT: usize = 4;

/// Bytes of the longest mark.
const MARK_MAX: usize = 64;

/// The key of pseudonyms.
pub(crate) struct Pseudonyms(hmac::Key);

impl Pseudonyms {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    fn of(&self, detector: &str, seen: &str) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [b"pseudonym".as_slice(), detector.as_bytes(), seen.as_bytes()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        let digits = tag.as_ref().iter().take(8).fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        format!("[{detector}:{digits:016x}]")
    }
}

impl core::fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Pseudonyms")
    }
}

impl Form {
    pub(crate) fn of(self, detector: &str, seen: &str, pseudonyms: &Pseudonyms) -> String {
        match self {
            Self::Placeholder => format!("[masked:{detector}]"),
            Self::Stars => stars(seen),
            Self::Pseudonym => pseudonyms.of(detector, seen),
        }
    }
}

/// Whether a range lies in something that masking wrote: who masks a text again must not find his own marks.
pub(crate) fn is_mark(text: &str, range: &Range<usize>) -> bool {
    let bytes = text.as_bytes();
    let before = bytes.get(..range.start + 1).unwrap_or(bytes);
    let Some(open) = before.iter().rev().take(MARK_MAX).position(|byte| *byte == b'[') else { return false };
    let rest = text.get(range.start - open..).unwrap_or_default();
    let Some(close) = rest.bytes().take(MARK_MAX).position(|byte| byte == b']') else { return false };
    let Some((name, value)) = rest.get(1..close).and_then(|mark| mark.split_once(':')) else { return false };
    let known = |name: &str| CATALOG.iter().any(|kind| kind.name == name);
    let digits = value.len() == 16 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    range.end <= range.start - open + close + 1
        && ((name == "masked" && known(value)) || (known(name) && digits))
}

fn stars(seen: &str) -> String {
    let (stars, rest) = seen
        .rsplit_once('@')
        .map_or((seen, ""), |(local, _)| (local, seen.get(local.len()..).unwrap_or_default()));
    let count = stars.chars().filter(|c| c.is_alphanumeric()).count();
    let hidden = if rest.is_empty() && count >= LONG { count - KEPT } else { count };
    let mut nth = 0;
    let star = |c: char| {
        let counts = c.is_alphanumeric();
        nth += usize::from(counts);
        if counts && nth <= hidden { '*' } else { c }
    };
    stars.chars().map(star).chain(rest.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_within_a_mark_is_one() {
        let text =
            "a [masked:email] [email:9f86d081884c7d65] [other:9f86d081884c7d65] [email:nothexnothexnoth]";
        for (range, expected) in [
            (2..16, true),
            (3..9, true),
            (2..17, false),
            (17..41, true),
            (24..40, true),
            (42..66, false),
            (67..91, false),
            (0..1, false),
        ] {
            assert_eq!(is_mark(text, &range), expected, "{range:?}");
        }
    }

    #[test]
    fn each_form_hides_the_value_and_keeps_what_it_says() {
        let (one, other) = (Pseudonyms::new(b"one"), Pseudonyms::new(b"other"));
        for (seen, expected) in [
            ("4111 1111 1111 1111", "**** **** **** 1111"),
            ("me.too@example.com", "**.***@example.com"),
            ("078-05-1120", "***-**-****"),
            ("DE89370400440532013000", "******************3000"),
            ("", ""),
        ] {
            assert_eq!(Form::Stars.of("x", seen, &one), expected);
        }
        let hashed = Form::Pseudonym.of("email", "me@example.com", &one);
        assert_eq!(hashed, Form::Pseudonym.of("email", "me@example.com", &one));
        assert_eq!(hashed.len(), "[email:]".len() + 16);
        for different in [
            Form::Pseudonym.of("email", "me@example.com", &other),
            Form::Pseudonym.of("email", "me@example.org", &one),
            Form::Pseudonym.of("phone", "me@example.com", &one).replace("phone", "email"),
        ] {
            assert_ne!(hashed, different);
        }
    }
}
