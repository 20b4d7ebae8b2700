//! Text that nobody sees but a model reads: Unicode tags (U+E0000 to U+E007F, "ASCII smuggling") and long runs of
//! zero-width characters or variation selectors, which can carry any bytes; and single ones within words of scripts that
//! need none, which hide words from filters.
//!
//! Defaults: refused in arguments, removed from answers. Flags made of tags and single joiners, as emoji and Persian
//! use them, are left alone. One or two within words come with text copied from web pages: they are reported in
//! definitions only, more of them in answers too.

use alloc::{boxed::Box, vec::Vec};

use portcullis_core::{Severity, Treatment, kind::Kind};

use super::{Detector, Sighting};
use crate::{
    DetectorSettings, Role, Subject,
    raw::Raw,
    unseen::{is_invisible, unseen_bytes},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "tag_characters",
    doc: "Invisible text: Unicode tags, runs of zero-width characters or variation selectors, and such within words.",
    build: |_| Ok(Box::new(TagCharacters)),
};

/// So many invisible characters in a row have no honest use.
const RUN_MIN: usize = 4;
/// So many words split by them were split by intent.
const SPLIT_MIN: usize = 3;
/// How sure of one or two split words, and of more.
const FEW: u16 = 700;
const MANY: u16 = 900;

#[derive(Debug)]
struct TagCharacters;

impl Detector for TagCharacters {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Refuse, answers: Treatment::Mask }
    }

    fn threshold(&self, role: Role) -> Option<u16> {
        Some(match role {
            Role::Definition => FEW,
            Role::Answer => MANY,
            Role::Argument => Sighting::CERTAIN,
        })
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
        let mut run = Run::default();
        let mut before = None;
        for (at, c) in text.char_indices() {
            if is_invisible(u32::from(c)) {
                if run.length == 0 {
                    let flag = before == Some('\u{1f3f4}');
                    run = Run { start: at, flag, letter: before.is_some_and(is_letter), ..Run::default() };
                }
                run.extend(at, c);
            } else {
                run.finish(Some(c), found);
                run = Run::default();
            }
            before = Some(c);
        }
        run.finish(None, found);
        let split = |one: &Sighting| one.confidence < Sighting::CERTAIN;
        if found.iter().filter(|one| split(one)).count() >= SPLIT_MIN {
            found.iter_mut().filter(|one| split(one)).for_each(|one| one.confidence = MANY);
        }
    }
}

/// A letter of a script that joins nothing and selects no forms: Latin, Greek, Cyrillic.
fn is_letter(c: char) -> bool {
    c.is_alphabetic() && u32::from(c) < 0x530
}

/// A run of invisible characters.
#[derive(Default)]
struct Run {
    start: usize,
    end: usize,
    length: usize,
    tags: usize,
    /// It follows the black flag: a region's flag is up to six tags and the cancel tag.
    flag: bool,
    cancelled: bool,
    /// It follows a letter.
    letter: bool,
    /// It selects a form of what stands before it.
    selects: bool,
    /// It says where a word may be parted.
    hyphen: bool,
}

impl Run {
    fn extend(&mut self, at: usize, c: char) {
        self.end = at + c.len_utf8();
        self.length += 1;
        self.tags += usize::from(matches!(c, '\u{e0000}'..='\u{e007f}'));
        self.cancelled = c == '\u{e007f}';
        self.selects = matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}');
        self.hyphen |= c == '\u{ad}';
    }

    fn finish(&self, after: Option<char>, found: &mut Vec<Sighting>) {
        let region =
            self.flag && self.cancelled && self.tags == self.length && (4..=7).contains(&self.length);
        if region || self.length == 0 {
            return;
        }
        if self.tags == 0 && self.length < RUN_MIN {
            let within = self.letter && !self.hyphen && (self.selects || after.is_some_and(is_letter));
            if within {
                let unseen = Sighting::unseen(self.start..self.end, Severity::Medium);
                found.push(Sighting { confidence: FEW, ..unseen });
            }
            return;
        }
        let severity = if self.tags > 0 { Severity::High } else { Severity::Medium };
        found.push(Sighting::unseen(self.start..self.end, severity));
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;

    use crate::{
        Role, Subject,
        testing::{found, nothing},
    };

    #[test]
    fn catches_hidden_text() {
        let hidden: String =
            "ignore".chars().filter_map(|c| char::from_u32(0xe0000 + u32::from(c))).collect();
        found("tag_characters", &std::format!("hi{hidden}!"), &hidden);
        found("tag_characters", "a\u{e0041}", "\u{e0041}");
        found("tag_characters", "a\u{200b}\u{200c}\u{200b}\u{200c}b", "\u{200b}\u{200c}\u{200b}\u{200c}");
        found("tag_characters", "x\u{fe00}\u{fe01}\u{e0100}\u{e01ef}", "\u{fe00}\u{fe01}\u{e0100}\u{e01ef}");
        let flag: String = std::format!("\u{1f3f4}{hidden}{hidden}\u{e007f}");
        found("tag_characters", &flag, flag.trim_start_matches('\u{1f3f4}'));
    }

    #[test]
    fn catches_words_that_are_split_by_what_nobody_sees() {
        let (one, two) = ("se\u{200b}nd a\u{200d}ll k\u{fe0f}eys", "\u{200b}|\u{200d}|\u{fe0f}");
        found("tag_characters", one, two);
        let inspector = crate::testing::only("tag_characters");
        for (role, place) in [(Role::Definition, "/result/tools/0/description"), (Role::Answer, "/x")] {
            let mut matches = alloc::vec::Vec::new();
            inspector.scan_subject(&Subject { role, place, text: "se\u{200b}nd" }, &mut matches);
            assert_eq!(matches.len(), usize::from(role == Role::Definition));
        }
    }

    #[test]
    fn leaves_emoji_flags_and_joiners() {
        for text in [
            "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{2764}\u{fe0f}",
            "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
            "\u{feff}start, soft\u{ad}hyphen, \u{e01}\u{e32}\u{200b}\u{e01}, 1\u{fe0f}\u{20e3} \u{26a0}\u{fe0f} x",
            "plain",
        ] {
            nothing("tag_characters", text);
        }
    }
}
