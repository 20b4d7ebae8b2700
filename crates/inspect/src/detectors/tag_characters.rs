//! Text that nobody sees but a model reads: Unicode tags (U+E0000 to U+E007F, "ASCII smuggling") and long runs of
//! zero-width characters or variation selectors, which can carry any bytes.
//!
//! Defaults: refused in arguments, removed from answers. Flags made of tags and single joiners, as emoji and Persian
//! use them, are left alone.

use alloc::{boxed::Box, vec::Vec};

use portcullis_core::{Severity, Treatment, kind::Kind};

use super::{Detector, Sighting};
use crate::{
    DetectorSettings, Subject,
    raw::{Raw, is_invisible, unseen_bytes},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "tag_characters",
    doc: "Invisible text: Unicode tags, and runs of four or more zero-width characters or variation selectors.",
    build: |_| Ok(Box::new(TagCharacters)),
};

/// So many invisible characters in a row have no honest use.
const RUN_MIN: usize = 4;

#[derive(Debug)]
struct TagCharacters;

impl Detector for TagCharacters {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Refuse, answers: Treatment::Mask }
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
                    run = Run { start: at, flag: before == Some('\u{1f3f4}'), ..Run::default() };
                }
                run.extend(at, c);
            } else {
                run.finish(found);
                run = Run::default();
            }
            before = Some(c);
        }
        run.finish(found);
    }
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
}

impl Run {
    fn extend(&mut self, at: usize, c: char) {
        self.end = at + c.len_utf8();
        self.length += 1;
        self.tags += usize::from(matches!(c, '\u{e0000}'..='\u{e007f}'));
        self.cancelled = c == '\u{e007f}';
    }

    fn finish(&self, found: &mut Vec<Sighting>) {
        let region =
            self.flag && self.cancelled && self.tags == self.length && (4..=7).contains(&self.length);
        if region || (self.tags == 0 && self.length < RUN_MIN) {
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

    use crate::testing::{found, nothing};

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
    fn leaves_emoji_flags_and_joiners() {
        for text in [
            "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{2764}\u{fe0f}",
            "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
            "\u{feff}start, soft\u{ad}hyphen",
            "plain",
        ] {
            nothing("tag_characters", text);
        }
    }
}
