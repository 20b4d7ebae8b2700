//! What keeps findings small, whatever a text holds.

use alloc::vec::Vec;

use super::Inspector;
use crate::detectors::Sighting;

/// As much of a place as a finding keeps. Member names are a server's own and may be as long as a message.
pub(super) fn start_of(place: &str) -> &str {
    let to = place.len().min(Inspector::PLACE_BYTES_MAX);
    (0..=to).rev().find_map(|end| place.get(..end)).unwrap_or_default()
}

/// A text full of sightings must not grow into a list many times its size.
pub(super) fn bound(found: &mut Vec<Sighting>) {
    let Some(end) = found.last().map(|last| last.range.end) else { return };
    found.truncate(Inspector::MATCHES_MAX);
    if let Some(last) = found.last_mut() {
        last.range.end = end;
    }
}
