//! Detectors over whole messages: every text of one is looked at, and what was found is treated where it stands.

mod look;
mod spread;

pub use look::{Asks, FINDINGS_MAX, Seen, Ways, look};
