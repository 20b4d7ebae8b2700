//! Names of persons, by a dictionary of given and family names in several languages and by what stands before them: a title, a
//! greeting, what is called a patient or a name.
//!
//! Defaults: off; presets that have a clause for it switch it on.

use alloc::{boxed::Box, vec::Vec};

use portcullis_core::{Severity, Treatment, kind::Kind};
use portcullis_personal::Names;

use super::{Detector, Sighting};
use crate::{DetectorSettings, Role, Subject, raw::Raw};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "person_name",
    doc: "Names of persons, by a dictionary of given and family names and by what stands before them.",
    build: |_| Ok(Box::new(PersonName(Names::default()))),
};

/// Given names alone count as well.
const REPORTED: u16 = 600;

#[derive(Debug)]
struct PersonName(Names);

impl Detector for PersonName {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: false, arguments: Treatment::Pass, answers: Treatment::Pass }
    }

    fn threshold(&self, role: Role) -> Option<u16> {
        match role {
            Role::Argument | Role::Answer => Some(REPORTED),
            // Definitions are a server's own words about itself, with examples.
            Role::Definition => None,
        }
    }

    // Any word may be one.
    fn may_match(&self, raw: &Raw<'_>) -> bool {
        raw.bytes().iter().any(u8::is_ascii_alphabetic)
    }

    fn find(&self, subject: &Subject<'_>, found: &mut Vec<Sighting>) {
        found.extend(self.0.find(subject.key(), subject.text).into_iter().map(|one| Sighting {
            confidence: one.confidence,
            ..Sighting::visible(one.range, Severity::Medium)
        }));
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::found;

    #[test]
    fn catches_names_in_texts_and_under_their_members() {
        for (text, expected) in [
            ("Patient Francis Allen (MRN 3678997), seen by Dr. Okonkwo", "Francis Allen|Okonkwo"),
            ("{\"full_name\": \"Xochitl Quispe\"}", "Xochitl Quispe"),
            ("said Wendy to Piotr", "Wendy|Piotr"),
            ("J\u{f6}rg M\u{fc}ller", "J\u{f6}rg M\u{fc}ller"),
        ] {
            found("person_name", text, expected);
        }
    }
}
