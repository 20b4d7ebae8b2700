//! The list of detectors. Each lives in a file of its own: purpose, defaults, logic, samples.

use alloc::{boxed::Box, vec::Vec};
use core::{fmt, ops::Range};

use portcullis_core::{Severity, catalog, kind::Kind};

use crate::{DetectorSettings, raw::Raw};

/// Looks for one kind of thing. It only reports; the verdict decides.
pub trait Detector: fmt::Debug + Send + Sync {
    /// What is done about its finds unless configuration says otherwise.
    fn defaults(&self) -> DetectorSettings;

    /// Whether the raw JSON text may hold something that [`Self::find`] would report in one of its strings, decoded.
    /// False is certain.
    fn may_match(&self, raw: &Raw<'_>) -> bool;

    /// Appends what it sees in a decoded string, in order and without overlap.
    fn find(&self, text: &str, found: &mut Vec<Sighting>);
}

/// What a detector saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Bytes of the text.
    pub range: Range<usize>,
    /// How bad it is.
    pub severity: Severity,
    /// Whether masking takes it out without a trace (what nobody sees needs no placeholder).
    pub vanishes: bool,
}

catalog! {
    /// Every detector.
    pub CATALOG: [Kind<Box<dyn Detector>>] =
        bidi_controls, control_characters, credentials, email, payment_card, tag_characters
}
