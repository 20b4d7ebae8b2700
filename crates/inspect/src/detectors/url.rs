//! Web addresses in texts. Those by which the protocol names resources are left: a client could not follow them.
//!
//! Defaults: off; presets that have a clause for it switch it on.

use alloc::{boxed::Box, vec::Vec};

use portcullis_core::{Severity, Treatment, kind::Kind};
use portcullis_personal::urls;

use super::{Detector, Sighting};
use crate::{DetectorSettings, Role, Subject, raw::Raw};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "url",
    doc: "Web addresses in texts; not those by which the protocol names resources.",
    build: |_| Ok(Box::new(Url)),
};

#[derive(Debug)]
struct Url;

impl Detector for Url {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: false, arguments: Treatment::Pass, answers: Treatment::Pass }
    }

    fn threshold(&self, role: Role) -> Option<u16> {
        match role {
            Role::Argument | Role::Answer => Some(Sighting::CERTAIN),
            // Definitions are a server's own words about itself, with examples.
            Role::Definition => None,
        }
    }

    fn anchors(&self) -> Vec<&'static str> {
        ["://", "www."].into()
    }

    // Where slashes are escaped, the quick look looks closer in any case.
    fn may_match(&self, _raw: &Raw<'_>) -> bool {
        true
    }

    fn find(&self, subject: &Subject<'_>, found: &mut Vec<Sighting>) {
        if !is_of_protocol(subject.place) {
            found.extend(
                urls(subject.text).into_iter().map(|one| Sighting::visible(one.range, Severity::Low)),
            );
        }
    }
}

/// Whether what stands there names a resource, a schema or a picture for a client.
fn is_of_protocol(place: &str) -> bool {
    let last = place.rsplit('/').next().unwrap_or_default();
    let lists =
        ["/result/content/", "/result/contents/", "/result/messages/", "/params/uri", "/params/icons/"];
    matches!(last, "uri" | "src" | "$schema" | "$ref") && lists.iter().any(|list| place.starts_with(list))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use portcullis_core::Direction;

    use crate::testing::{found, nothing, only};

    #[test]
    fn catches_addresses_in_texts_and_leaves_those_of_the_protocol() {
        found(
            "url",
            "see https://a.example/x?y=1, or www.b.example.",
            "https://a.example/x?y=1|www.b.example",
        );
        nothing("url", "std::fs://x a://b c@www.d.example");
        for (place, count) in [
            ("/result/content/0/uri", 0),
            ("/result/contents/0/uri", 0),
            ("/result/structuredContent/uri", 1),
            ("/result/content/0/text", 1),
        ] {
            let mut matches = Vec::new();
            only("url").scan(Direction::Outward, place, "https://a.example/x", &mut matches);
            assert_eq!(matches.len(), count, "{place}");
        }
    }
}
