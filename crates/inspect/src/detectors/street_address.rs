//! Postal addresses: streets with numbers in the ways of many countries, boxes, and what is called an address.
//!
//! Defaults: off; presets that have a clause for it switch it on.

use alloc::{boxed::Box, vec::Vec};

use portcullis_core::{Severity, Treatment, kind::Kind};
use portcullis_personal::addresses;

use super::{Detector, Sighting};
use crate::{DetectorSettings, Role, Subject, raw::Raw};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "street_address",
    doc: "Postal addresses: streets with numbers in the ways of many countries, boxes, what is called an address.",
    build: |_| Ok(Box::new(StreetAddress)),
};

/// Of one in a known form, or of what is called so.
const REPORTED: u16 = 800;

#[derive(Debug)]
struct StreetAddress;

impl Detector for StreetAddress {
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

    // Each has a number.
    fn may_match(&self, raw: &Raw<'_>) -> bool {
        raw.bytes().iter().any(u8::is_ascii_digit)
    }

    fn find(&self, subject: &Subject<'_>, found: &mut Vec<Sighting>) {
        found.extend(addresses(subject.key(), subject.text).into_iter().map(|one| Sighting {
            confidence: one.confidence,
            ..Sighting::visible(one.range, Severity::Medium)
        }));
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::found;

    #[test]
    fn catches_addresses_and_leaves_the_code_of_a_state_to_others() {
        for (text, expected) in [
            ("12 Main Street, Austin, TX 78701", "12 Main Street, Austin"),
            ("Hauptstra\u{df}e 5a, 10115 Berlin", "Hauptstra\u{df}e 5a, 10115 Berlin"),
            ("{\"address\": \"4 The Glebe Cottages\"}", "4 The Glebe Cottages"),
        ] {
            found("street_address", text, expected);
        }
    }
}
