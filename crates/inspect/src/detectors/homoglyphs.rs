//! Words whose letters come from several scripts and look alike (`раypal` with a Cyrillic `ра`), and words in
//! mathematical letters: they read as one word to people and as another to filters.
//!
//! Defaults: reported everywhere, changed nowhere. Words of one script, units such as `kΩ` and Latin words with an ending
//! of another script are left alone. A definition with such words is held for review.

use alloc::{boxed::Box, vec::Vec};

use portcullis_core::{Severity, Treatment, kind::Kind};

use super::{Detector, Sighting};
use crate::{
    DetectorSettings, Role, Subject,
    plain::{is_look_alike, is_twisted},
    raw::Raw,
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "homoglyphs",
    doc: "Words of letters that look alike from several scripts, and words in mathematical letters.",
    build: |_| Ok(Box::new(Homoglyphs)),
};

/// Mathematical letters in a row that are a word and no formula.
const MATHEMATICAL_MIN: usize = 4;
/// How sure where it is a matter of taste: some write headings so.
const MATHEMATICAL: u16 = 600;
/// How sure of one word of several scripts.
const MIXED: u16 = 700;

#[derive(Debug)]
struct Homoglyphs;

impl Detector for Homoglyphs {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Pass, answers: Treatment::Pass }
    }

    fn threshold(&self, role: Role) -> Option<u16> {
        Some(if role == Role::Definition { MATHEMATICAL } else { MIXED })
    }

    fn holds(&self) -> bool {
        true
    }

    fn may_match(&self, raw: &Raw<'_>) -> bool {
        raw.is_twisted()
    }

    fn find(&self, subject: &Subject<'_>, found: &mut Vec<Sighting>) {
        let text = subject.text;
        if text.is_ascii() || !is_twisted(text.as_bytes()) {
            return;
        }
        let mut at = 0;
        for word in text.split(|c: char| !c.is_alphanumeric()) {
            let range = at..at + word.len();
            at = range.end
                + text.get(range.end..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
            if word.is_ascii() {
                continue;
            }
            let confidence = if is_look_alike(word) {
                MIXED
            } else if word.chars().filter(|c| is_mathematical(*c)).count() >= MATHEMATICAL_MIN {
                MATHEMATICAL
            } else {
                continue;
            };
            found.push(Sighting { confidence, ..Sighting::visible(range, Severity::Medium) });
        }
    }
}

const fn is_mathematical(c: char) -> bool {
    matches!(c, '\u{1d400}'..='\u{1d7cb}')
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_words_of_letters_that_look_alike() {
        found("homoglyphs", "pay \u{440}\u{430}ypal now", "\u{440}\u{430}ypal");
        found("homoglyphs", "Ign\u{43e}r\u{435} it", "Ign\u{43e}r\u{435}");
        found("homoglyphs", "r\u{3bf}\u{3bf}t", "r\u{3bf}\u{3bf}t");
    }

    #[test]
    fn leaves_scripts_beside_each_other_units_and_endings() {
        for text in [
            "\u{43f}\u{440}\u{438}\u{432}\u{435}\u{442} world",
            "SQL-\u{437}\u{430}\u{43f}\u{440}\u{43e}\u{441}, API\u{448}\u{43a}\u{430}, PDF\u{430}",
            "10k\u{3a9}, 5\u{3bc}m, \u{394}t, \u{3b5}KA",
            "ChatGPT\u{30b8}\u{30a7}\u{30a4}\u{30eb}",
            "na\u{ef}ve caf\u{e9}",
        ] {
            nothing("homoglyphs", text);
        }
    }
}
