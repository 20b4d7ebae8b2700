//! What goes in and what comes out: detectors report, the verdict decides, masking replaces.
//!
//! [`Inspector::quick`] reads the raw JSON text and says "certainly nothing" without decoding anything;
//! only when it cannot say that are the strings decoded and given to [`Inspector::scan`].
#![no_std]

extern crate alloc;

mod anchors;
mod attacks;
mod budget;
mod detectors;
mod form;
#[cfg(test)]
mod gates;
mod identifiers;
mod inspector;
mod labels;
mod preset;
mod raw;
mod recogniser;
mod settings;
mod subject;
#[cfg(test)]
mod testing;
mod verdict;
mod watch;
mod window;

pub use portcullis_classify as learned;
use portcullis_reading::{chance, decode, needles, plain, unseen};

pub use attacks::Attack;
pub use budget::Budget;
pub use detectors::{CATALOG, Detector, Sighting};
pub use form::{Form, TokenKeys, TokenScope, subject_of};
pub use identifiers::Schemes;
pub use inspector::{Inspector, Match};
pub use labels::labels_of;
pub use preset::{Beyond, Clause, Preset};
pub use raw::Raw;
pub use recogniser::{Check, Recogniser};
pub use settings::{DetectorSettings, InspectError, InspectSettings};
pub use subject::{Role, Subject};
pub use verdict::{Verdict, mask, takes, verdict};
pub use watch::{ARMED, CANARY, Watch, Watched};
pub use window::Window;
