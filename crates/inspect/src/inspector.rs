//! Runs every detector that is switched on.

use alloc::{string::String, vec::Vec};
use core::ops::Range;

use portcullis_core::{Direction, Finding};

use crate::{InspectError, InspectSettings, Window};

/// One sighting in a text: what, where, and what to put in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// What was seen; its treatment is the configured one until [`crate::verdict`] raises it.
    pub finding: Finding,
    /// Bytes of the scanned text.
    pub range: Range<usize>,
    /// What masking puts in their place.
    pub replacement: String,
}

/// The detectors that are switched on, with their treatments. Immutable; shared by all calls.
#[derive(Debug)]
pub struct Inspector {
    settings: InspectSettings,
}

impl Inspector {
    /// Builds the detectors.
    ///
    /// # Errors
    /// Settings that name an unknown detector.
    pub fn new(settings: &InspectSettings) -> Result<Self, InspectError> {
        Ok(Self { settings: settings.clone() })
    }

    /// Whether the JSON text `raw` may hold something to find. False is certain: no string in it, decoded, would make
    /// [`Self::scan`] report anything. `raw` is well-formed JSON in UTF-8; `unicode_escapes` says whether it
    /// contains `\u` (true when unknown).
    #[must_use]
    pub fn quick(&self, raw: &[u8], unicode_escapes: bool) -> bool {
        let _ = (raw, unicode_escapes, &self.settings);
        true
    }

    /// Appends what the detectors see in `text`, a decoded string at `place` (a JSON pointer), in order of position.
    pub fn scan(&self, direction: Direction, place: &str, text: &str, out: &mut Vec<Match>) {
        let _ = (direction, place, text, out);
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
        let _ = window;
        self.scan(direction, place, text, out);
    }
}
