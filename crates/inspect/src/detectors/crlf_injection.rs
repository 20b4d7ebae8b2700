//! Line ends that would begin a header, a mail field or a command of a line protocol: CRLF injection.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::attacks::{Argument, Attack};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "crlf_injection",
    doc: "Line ends that begin a header, in arguments.",
    build: |_| Ok(Box::new(Attack { score })),
};

/// Fields that a header or a mail would have, and commands of line protocols.
const FIELDS: &[&str] = &[
    "set-cookie:",
    "location:",
    "content-length:",
    "content-type:",
    "transfer-encoding:",
    "host:",
    "bcc:",
    "cc:",
    "to:",
    "subject:",
    "x-",
    "access-control-",
    "refresh:",
    "http/1.",
    "link:",
    "authorization:",
    "cookie:",
    "rcpt to:",
    "mail from:",
    "quit",
    "<script",
    "<html",
    "set ",
    "config set",
    "flushall",
];

fn score(argument: &Argument<'_>) -> u16 {
    let text = argument.text();
    let escaped = argument.plain.rounds > 0 && memchr::memchr2(b'\r', b'\n', argument.raw).is_none();
    let mut best = 0;
    // Where the last blanks end: after line ends in a row the same follows.
    let mut next = 0;
    for at in memchr::memchr2_iter(b'\r', b'\n', text) {
        if at >= next {
            let after = text.get(at + 1..).unwrap_or_default();
            next = text.len() - after.trim_ascii_start().len();
        }
        let rest = text.get(next..).unwrap_or_default();
        let field = FIELDS.iter().any(|field| rest.starts_with(field.as_bytes()));
        best = best.max(match (field, escaped) {
            (true, true) => 900,
            (true, false) if text.get(at) == Some(&b'\r') => 750,
            (true, false) => 300,
            (false, true) => 500,
            (false, false) => 0,
        });
    }
    if argument.is_prose() || argument.is_long() || argument.is_command() { best / 4 } else { best }
}

#[cfg(test)]
mod tests {
    use crate::testing::{attacks, harmless};

    #[test]
    fn catches_line_ends_that_begin_a_header() {
        for text in [
            "/a%0d%0aSet-Cookie:%20x=1",
            "en\r\nLocation: https://x.example",
            "a@b.example%0Abcc:c@d.example",
            "x%250d%250aContent-Length:%200",
        ] {
            attacks("crlf_injection", "redirect", text);
        }
    }

    #[test]
    fn leaves_texts_of_many_lines() {
        for text in ["one\ntwo", "one\r\ntwo", "a%20b"] {
            harmless("crlf_injection", "redirect", text);
        }
        harmless("crlf_injection", "message", "Hi\r\nSubject: x");
    }
}
