//! Characters that change the order in which text is shown, so that a person approves something else than what is
//! meant (CVE-2021-42574, "Trojan Source").
//!
//! Defaults: refused in arguments, removed from answers. Text in Arabic and Hebrew does not need them.

use alloc::{boxed::Box, vec::Vec};

use portcullis_core::{Severity, Treatment, kind::Kind};

use super::{Detector, Sighting};
use crate::{DetectorSettings, Subject, raw::Raw, unseen::unseen_bytes};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "bidi_controls",
    doc: "Characters that change the order in which text is shown (embeddings, overrides, isolates, marks).",
    build: |_| Ok(Box::new(BidiControls)),
};

#[derive(Debug)]
struct BidiControls;

impl Detector for BidiControls {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Refuse, answers: Treatment::Mask }
    }

    fn holds(&self) -> bool {
        true
    }

    fn may_match(&self, raw: &Raw<'_>) -> bool {
        raw.has_unseen()
    }

    fn find(&self, subject: &Subject<'_>, found: &mut Vec<Sighting>) {
        let text = subject.text;
        if text.is_ascii() || !unseen_bytes(text.as_bytes()) {
            return;
        }
        for (start, c) in text.char_indices().filter(|(_, c)| is_bidi(*c)) {
            let end = start + c.len_utf8();
            match found.last_mut() {
                Some(last) if last.range.end == start => last.range.end = end,
                _ => found.push(Sighting::unseen(start..end, Severity::High)),
            }
        }
    }
}

const fn is_bidi(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_overrides_isolates_and_marks() {
        found("bidi_controls", "a\u{202e}b\u{2066}\u{2069}c", "\u{202e}|\u{2066}\u{2069}");
        found("bidi_controls", "\u{200e}x\u{61c}", "\u{200e}|\u{61c}");
    }

    #[test]
    fn leaves_text_that_runs_from_right_to_left_by_itself() {
        nothing("bidi_controls", "\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{645}\u{631}\u{62d}\u{628}\u{627} \u{200d}");
    }
}
