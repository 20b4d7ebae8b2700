//! C0 and C1 controls except tab, line feed and carriage return, and terminal escape sequences as a whole. They
//! hide text from the person who reads an answer in a terminal, and split words for filters.
//!
//! Defaults: pass in arguments (a server may be asked to press keys or write such a file), removed from answers.

use alloc::{boxed::Box, vec::Vec};

use portcullis_core::{Severity, Treatment, kind::Kind};

use super::{Detector, Sighting};
use crate::{DetectorSettings, Role, Subject, plain::sequence, raw::Raw};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "control_characters",
    doc: "Control characters (C0, C1) except tab and line ends, and terminal escape sequences.",
    build: |_| Ok(Box::new(ControlCharacters)),
};

/// How sure that a control character hides something that is no escape sequence: files of other formats have them.
const ALONE: u16 = 500;

#[derive(Debug)]
struct ControlCharacters;

impl Detector for ControlCharacters {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Pass, answers: Treatment::Mask }
    }

    fn threshold(&self, _role: Role) -> Option<u16> {
        Some(ALONE)
    }

    fn holds(&self) -> bool {
        true
    }

    fn may_match(&self, raw: &Raw<'_>) -> bool {
        raw.has_unseen()
    }

    fn find(&self, subject: &Subject<'_>, found: &mut Vec<Sighting>) {
        let text = subject.text;
        // By pieces without a branch inside, so that the compiler makes vectors of it.
        let suspect = |byte: &u8| (matches!(byte, 0x00..=0x1f | 0x7f | 0xc2)) & !is_layout(*byte);
        if !text.as_bytes().chunks(64).any(|piece| piece.iter().fold(false, |any, byte| any | suspect(byte)))
        {
            return;
        }
        let mut done = 0;
        for (start, c) in text.char_indices() {
            if start < done || !c.is_control() || (c.is_ascii() && is_layout(c as u8)) {
                continue;
            }
            let after = text.get(start + c.len_utf8()..).unwrap_or_default();
            let end = start + c.len_utf8() + sequence(c, after);
            match found.last_mut() {
                Some(last) if last.vanishes && last.range.end == start && done == start => {
                    last.range.end = end
                }
                _ => {
                    let alone = end == start + c.len_utf8() && !matches!(c, '\u{1b}' | '\u{9b}');
                    let confidence = if alone { ALONE } else { Sighting::CERTAIN };
                    found.push(Sighting { confidence, ..Sighting::unseen(start..end, Severity::Medium) });
                }
            }
            done = end;
        }
    }
}

const fn is_layout(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_controls_and_whole_escape_sequences() {
        for (text, expected) in [
            ("a\u{0}b", "\u{0}"),
            ("a\u{8}\u{8}b", "\u{8}\u{8}"),
            ("\u{1b}[31;1mred\u{1b}[0m", "\u{1b}[31;1m|\u{1b}[0m"),
            ("\u{1b}]8;;http://x\u{7}link", "\u{1b}]8;;http://x\u{7}"),
            ("x\u{9b}2Jy", "\u{9b}2J"),
            ("\u{7f}", "\u{7f}"),
            ("\u{1b}", "\u{1b}"),
            ("\u{1b}[", "\u{1b}["),
        ] {
            found("control_characters", text, expected);
        }
    }

    #[test]
    fn leaves_layout_and_letters() {
        for text in ["a\tb\r\nc", "caf\u{e9} \u{201c}x\u{201d}", "\u{a0}\u{a9}", ""] {
            nothing("control_characters", text);
        }
    }
}
