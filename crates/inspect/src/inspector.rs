//! Runs every detector that is switched on.

use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::ops::Range;

use portcullis_core::{Digest, Direction, Finding};

use crate::{
    CATALOG, Detector, DetectorSettings, InspectError, InspectSettings, Window, detectors::Sighting, raw::Raw,
};

/// One sighting in a text: what, where, and what to put in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// What was seen; its treatment is the configured one until [`crate::verdict`] raises it.
    pub finding: Finding,
    /// Bytes of the scanned text.
    pub range: Range<usize>,
    /// What masking puts in their place: `[masked:email]`, or nothing for what nobody sees.
    pub replacement: String,
}

#[derive(Debug)]
struct Active {
    name: &'static str,
    settings: DetectorSettings,
    detector: Box<dyn Detector>,
}

/// The detectors that are switched on, with their treatments. Immutable; shared by all calls.
#[derive(Debug)]
pub struct Inspector {
    active: Vec<Active>,
}

impl Inspector {
    /// Sightings of one detector in one text that are told apart; what comes after is one more, to the last.
    pub const MATCHES_MAX: usize = 256;
    /// Bytes of a place that a finding keeps.
    pub const PLACE_BYTES_MAX: usize = 1_024;

    /// Builds the detectors.
    ///
    /// # Errors
    /// Settings that name an unknown detector.
    pub fn new(settings: &InspectSettings) -> Result<Self, InspectError> {
        if let Some(name) =
            settings.detectors.keys().find(|name| !CATALOG.iter().any(|kind| kind.name == **name))
        {
            return Err(InspectError::Unknown { name: name.clone() });
        }
        let mut active = Vec::new();
        for kind in CATALOG {
            let detector = (kind.build)(&())?;
            let settings = settings.detectors.get(kind.name).copied().unwrap_or_else(|| detector.defaults());
            if settings.enabled {
                active.push(Active { name: kind.name, settings, detector });
            }
        }
        Ok(Self { active })
    }

    /// Whether the JSON text `raw` may hold something to find. False is certain: no string in it (member names and
    /// numbers included), decoded, would make [`Self::scan`] report anything. `raw` is well-formed JSON in UTF-8;
    /// `unicode_escapes` says whether it contains `\u` (true when unknown).
    ///
    /// It says nothing about patterns cut across two messages: for streams, scan what a [`Window`] must remember.
    #[must_use]
    pub fn quick(&self, raw: &[u8], unicode_escapes: bool) -> bool {
        let raw = Raw::new(raw, unicode_escapes);
        self.active.iter().any(|one| one.detector.may_match(&raw))
    }

    /// Appends what the detectors see in `text`, a decoded string at `place` (a JSON pointer), detector by detector,
    /// each in order of position.
    pub fn scan(&self, direction: Direction, place: &str, text: &str, out: &mut Vec<Match>) {
        let mut found = Vec::new();
        for one in &self.active {
            found.clear();
            one.detector.find(text, &mut found);
            bound(&mut found);
            out.extend(found.iter().map(|sighting| one.report(direction, place, text, sighting)));
        }
    }

    /// As [`Self::scan`], for one event of a stream: what began at the end of the text before at the same place is
    /// seen too, with the range of the part that lies in `text`.
    pub fn scan_event(
        &self,
        direction: Direction,
        place: &str,
        text: &str,
        window: &mut Window,
        out: &mut Vec<Match>,
    ) {
        self.scan(direction, place, text, out);
        let tail = window.tail(place);
        if !tail.is_empty() {
            let cut = tail.len();
            let joined = format!("{tail}{}", window.start_of(text));
            let mut both = Vec::new();
            self.scan(direction, place, &joined, &mut both);
            for mut found in both {
                if found.range.start < cut && cut < found.range.end {
                    found.range = 0..found.range.end - cut;
                    out.push(found);
                }
            }
        }
        window.push(place, text);
    }
}

impl Active {
    fn report(&self, direction: Direction, place: &str, text: &str, sighting: &Sighting) -> Match {
        let seen = text.get(sighting.range.clone()).unwrap_or_default();
        Match {
            finding: Finding {
                kind: self.name,
                severity: sighting.severity,
                place: start_of(place).into(),
                evidence: Digest::of(seen.as_bytes()),
                treatment: self.settings.treatment(direction),
            },
            range: sighting.range.clone(),
            replacement: if sighting.vanishes { String::new() } else { format!("[masked:{}]", self.name) },
        }
    }
}

/// As much of a place as a finding keeps. Member names are a server's own and may be as long as a message.
fn start_of(place: &str) -> &str {
    let to = place.len().min(Inspector::PLACE_BYTES_MAX);
    (0..=to).rev().find_map(|end| place.get(..end)).unwrap_or_default()
}

/// A text full of sightings must not grow into a list many times its size.
fn bound(found: &mut Vec<Sighting>) {
    let Some(end) = found.last().map(|last| last.range.end) else { return };
    found.truncate(Inspector::MATCHES_MAX);
    if let Some(last) = found.last_mut() {
        last.range.end = end;
    }
}
