//! One pass over a text for all words that any detector needs to see before it looks closer.

use alloc::{format, vec::Vec};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use portcullis_core::kind::KindError;

/// The words of all detectors that are switched on, and whose they are.
#[derive(Debug)]
pub(crate) struct Anchors {
    /// None where nobody has any.
    automaton: Option<AhoCorasick>,
    owners: Vec<u64>,
    all: u64,
}

impl Anchors {
    /// Detectors are told apart by the bits of a word.
    pub(crate) const DETECTORS_MAX: usize = 64;

    /// The words of each detector, in their order.
    ///
    /// # Errors
    /// The automaton cannot be built.
    pub(crate) fn new<'a>(detectors: impl Iterator<Item = &'a [&'static str]>) -> Result<Self, KindError> {
        let (mut words, mut owners, mut all) = (Vec::new(), Vec::new(), 0);
        for (index, anchors) in detectors.enumerate().take(Self::DETECTORS_MAX) {
            for word in anchors {
                words.push(*word);
                owners.push(1 << index);
                all |= 1 << index;
            }
        }
        let automaton = if words.is_empty() {
            None
        } else {
            let build = AhoCorasick::builder()
                .kind(Some(AhoCorasickKind::DFA))
                .ascii_case_insensitive(true)
                .match_kind(MatchKind::Standard)
                .build(&words);
            Some(build.map_err(|error| KindError { name: "anchors", reason: format!("{error}") })?)
        };
        Ok(Self { automaton, owners, all })
    }

    /// The detectors of which a word occurs, as bits.
    pub(crate) fn seen(&self, text: &[u8]) -> u64 {
        let Some(automaton) = &self.automaton else { return 0 };
        let mut seen = 0;
        for hit in automaton.find_overlapping_iter(text) {
            seen |= self.owners.get(hit.pattern().as_usize()).copied().unwrap_or_default();
            if seen == self.all {
                break;
            }
        }
        seen
    }
}
