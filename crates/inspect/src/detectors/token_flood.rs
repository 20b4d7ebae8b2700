//! Text that costs a model far more than its length says: long runs of characters that no language writes in rows (marks
//! stacked on letters, private use, Braille, signs and letters beyond the basic plane), each of which is several tokens.
//!
//! Defaults: reported; masking puts one placeholder in the place of a run. Emoji count half: people do send rows of them.

use alloc::{boxed::Box, vec::Vec};

use portcullis_core::{Severity, Treatment, kind::Kind};

use super::{Detector, Sighting};
use crate::{DetectorSettings, Role, Subject, raw::Raw};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "token_flood",
    doc: "Long runs of rare characters, which cost a model many times what their length says.",
    build: |_| Ok(Box::new(TokenFlood)),
};

/// Rare characters in a run, where emoji count half: two tokens each at the least.
const RUN_MIN: usize = 256;
/// Other characters that do not end a run: stacked marks need letters to stand on.
const BETWEEN_MAX: usize = 2;

/// That it is costly is certain; whether it is meant to be is not, and those that look for attacks are surer.
const SURE: u16 = 500;

#[derive(Debug)]
struct TokenFlood;

impl Detector for TokenFlood {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Pass, answers: Treatment::Pass }
    }

    fn threshold(&self, _role: Role) -> Option<u16> {
        Some(SURE)
    }

    fn may_match(&self, raw: &Raw<'_>) -> bool {
        let bytes = raw.bytes();
        (!bytes.is_ascii() && may_be_rare(bytes).take(RUN_MIN).count() == RUN_MIN)
            || (raw.has_escapes()
                && memchr::memmem::find_iter(bytes, b"\\u").take(RUN_MIN).count() == RUN_MIN)
    }

    fn find(&self, subject: &Subject<'_>, found: &mut Vec<Sighting>) {
        let text = subject.text;
        if text.is_ascii() || may_be_rare(text.as_bytes()).take(RUN_MIN).count() < RUN_MIN {
            return;
        }
        let (mut start, mut end, mut halves, mut between) = (0, 0, 0, 0);
        let mut finish = |start: usize, end: usize, halves: usize| {
            if halves >= 2 * RUN_MIN {
                found.push(Sighting { confidence: SURE, ..Sighting::visible(start..end, Severity::Medium) });
            }
        };
        for (at, c) in text.char_indices() {
            let cost = cost(c);
            if cost > 0 {
                start = if halves == 0 { at } else { start };
                (end, halves, between) = (at + c.len_utf8(), halves + cost, 0);
            } else if halves > 0 {
                between += 1;
                if between > BETWEEN_MAX {
                    finish(start, end, halves);
                    (halves, between) = (0, 0);
                }
            }
        }
        finish(start, end, halves);
    }
}

/// Halves of what a rare character counts; nothing for one that languages are written in.
const fn cost(c: char) -> usize {
    match c as u32 {
        0x1f000..=0x1faff => 1,
        0x300..=0x36f
        | 0x483..=0x489
        | 0x1ab0..=0x1aff
        | 0x1dc0..=0x1dff
        | 0x20d0..=0x20ff
        | 0x2800..=0x28ff
        | 0xe000..=0xf8ff
        | 0xfe20..=0xfe2f
        | 0x1_0000..=0x1_efff
        | 0x1_fb00..=0x1_ffff
        | 0xe_0000..=0x10_ffff => 2,
        _ => 0,
    }
}

/// Bytes that begin a character which may be rare.
fn may_be_rare(bytes: &[u8]) -> impl Iterator<Item = &u8> {
    bytes.iter().filter(|byte| matches!(byte, 0xcc | 0xcd | 0xd2 | 0xe1 | 0xe2 | 0xee | 0xef | 0xf0..=0xf4))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{format, string::String};

    use crate::testing::{found, nothing};

    #[test]
    fn catches_long_runs_of_what_no_language_writes() {
        for rare in ['\u{12000}', '\u{e123}', '\u{2836}', '\u{1d518}'] {
            let run: String = core::iter::repeat_n(rare, 300).collect();
            found("token_flood", &format!("see {run} there"), &run);
        }
        let stacked = "a\u{301}\u{302}\u{303}".repeat(100);
        found("token_flood", &format!("{stacked} x"), stacked.get(1..).unwrap());
        let faces = "\u{1f600}".repeat(600);
        found("token_flood", &faces, &faces);
    }

    #[test]
    fn leaves_languages_and_a_few_signs_alone() {
        for text in [
            "\u{65e5}\u{672c}\u{8a9e}".repeat(400),
            "\u{12a0}\u{121b}\u{122d}\u{129b} ".repeat(400),
            "\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940} ".repeat(400),
            "\u{1f600}".repeat(200),
            "cafe\u{301} au lait ".repeat(400),
            "plain ".repeat(1_000),
        ] {
            nothing("token_flood", &text);
        }
    }
}
