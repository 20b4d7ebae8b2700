//! Values: where they end, and which are secrets rather than examples, code, or identifiers.

use core::ops::Range;

use aho_corasick::{AhoCorasick, Match};

use super::label::Label;
use crate::chance::{Made, is_random};

/// Parts of values that are put where a secret will stand.
pub(super) const PLACEHOLDERS: &[&str] = &[
    "example",
    "sample",
    "placeholder",
    "changeme",
    "change_me",
    "change-me",
    "your",
    "redacted",
    "masked",
    "dummy",
    "xxxx",
    "****",
    "....",
    "todo",
    "insert",
    "replace",
    "testpass",
    "password",
    "passw0rd",
    "secret",
    "none",
    "null",
    "undefined",
    "true",
    "false",
    "foobar",
    "mytoken",
    "my_",
    "my-",
    "api_key",
    "apikey",
    "api-key",
    "<",
    ">",
    "${",
    "$(",
    "{{",
    "}}",
    "%(",
    "env.",
    "environ",
    "process.",
    "config",
    "settings",
    "self.",
    "this.",
    "::",
    "->",
    "()",
    "abc123",
    "abcdef",
    "qwerty",
    "test",
    "fake",
    "mock",
    "demo",
    "lorem",
    "token",
    "[",
    "]",
    "{",
    "}",
    "sha256",
    "sha512",
    "sha1",
    "http",
    "localhost",
    "user",
    "admin",
    "guest",
    "hidden",
    "removed",
    "encrypted",
    "vault",
    "required",
    "optional",
    "string",
    "..",
    "/path",
    "path/",
    "%s",
    "\\u{",
];

/// Where a value stands in what follows its name.
pub(super) fn at(text: &[u8]) -> Range<usize> {
    let start = text
        .iter()
        .position(|byte| !(byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'`')))
        .unwrap_or(text.len());
    // A scheme may stand before it: `Authorization: Bearer …`.
    let start = [b"Bearer ".as_slice(), b"bearer ", b"Basic ", b"Token ", b"token ", b"ApiKey "]
        .iter()
        .find(|scheme| text.get(start..).is_some_and(|rest| rest.starts_with(scheme)))
        .map_or(start, |scheme| start + scheme.len());
    let rest = text.get(start..).unwrap_or_default();
    let quote =
        start.checked_sub(1).and_then(|at| text.get(at)).filter(|byte| matches!(byte, b'"' | b'\'' | b'`'));
    let ends = |byte: &u8| match quote {
        Some(quote) => byte == quote || matches!(byte, b'\n' | b'\r' | b'\\') || byte.is_ascii_whitespace(),
        None => byte.is_ascii_whitespace() || b"\"'`,;<>|\\(){}[]".contains(byte),
    };
    let mut end = rest.iter().position(ends).unwrap_or(rest.len());
    while end > 0
        && quote.is_none()
        && rest.get(end - 1).is_some_and(|byte| matches!(byte, b'.' | b':' | b'?' | b'*'))
    {
        end -= 1;
    }
    start..start + end
}

/// Whether a value under such a name is a secret; `loose` where words stand between the two.
pub(super) fn is_secret(label: Label, loose: bool, value: &[u8], placeholders: &AhoCorasick) -> bool {
    let fits = value.iter().all(|byte| byte.is_ascii_graphic())
        && !is_placeholder(value, placeholders)
        && !is_code(value);
    fits && match label {
        Label::Password => is_password(value, loose),
        Label::Secret | Label::Bearer => value.len() >= 10 && (is_uuid(value) || is_drawn(value)),
        Label::Key => value.len() >= 12 && is_drawn(value),
        Label::Provider => value.len() >= 16 && is_drawn(value),
    }
}

/// Whether a value only says where a secret will stand, or is a well-known example.
pub(super) fn is_placeholder(value: &[u8], placeholders: &AhoCorasick) -> bool {
    let counted = value.len() < 20 && value.windows(6).any(|text| text == b"123456");
    // Long values hold short words by chance.
    let counts = |hit: &Match| {
        let word = value.get(hit.range()).unwrap_or_default();
        word.len() >= 5 || value.len() < 40 || !word.iter().all(u8::is_ascii_alphanumeric)
    };
    let dollar = value.first().is_some_and(|byte| matches!(byte, b'$' | b'%' | b'@' | b'#' | b'&'));
    dollar
        || counted
        || value.windows(3).any(|text| text == b"://")
        || placeholders.find_overlapping_iter(value).any(|hit| counts(&hit))
}

/// An expression, a name of the program, a path, a number with a unit.
fn is_code(value: &[u8]) -> bool {
    let dots = value.iter().filter(|byte| **byte == b'.').count();
    let slashes = value.iter().filter(|byte| **byte == b'/').count();
    let call = value.iter().any(|byte| matches!(byte, b'(' | b')'));
    let path = value.starts_with(b"/")
        || value.starts_with(b"./")
        || value.starts_with(b"~/")
        || slashes > value.len() / 6;
    call || path || (dots > 0 && dots * 12 > value.len())
}

fn is_password(value: &[u8], loose: bool) -> bool {
    let made = Made::of(value);
    let letters = made.lower + made.upper;
    let kinds = [made.lower, made.upper, made.digits, made.other].iter().filter(|count| **count > 0).count();
    let snake = made.other > 0
        && value.iter().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-' | b'.'));
    (6..=128).contains(&value.len())
        && made.steps * 2 < value.len()
        && !snake
        && ((kinds >= 3 && letters >= 2 && made.digits + made.other >= 1 && made.digits > 0)
            || (kinds >= 3 && value.iter().any(|byte| b"!@#$%^&*+=?~".contains(byte)))
            || (!loose && kinds == 2 && made.digits >= 1 && letters >= 3 && value.len() >= 7)
            || is_drawn(value))
}

/// Drawn by chance, apart from signs that divide it.
fn is_drawn(value: &[u8]) -> bool {
    let divided = value.split(|byte| matches!(byte, b'.' | b'-' | b'_' | b':' | b'=' | b'/' | b'+'));
    is_random(value)
        || divided.max_by_key(|part| part.len()).is_some_and(|part| part.len() >= 12 && is_random(part))
}

fn is_uuid(value: &[u8]) -> bool {
    value.len() == 36
        && value.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
