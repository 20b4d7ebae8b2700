//! One pass over a text for all words that any detector needs to see before it looks closer: its anchors, and what
//! identifiers are called.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use portcullis_core::kind::KindError;

use crate::{
    Role,
    identifiers::is_word,
    needles::{Hit, Needles},
};

/// The words of all detectors that are switched on, and whose they are.
#[derive(Debug)]
pub(crate) struct Anchors {
    needles: Needles,
    owners: Vec<Owners>,
    /// Detectors, by bits, that are told where their anchors stand.
    told: u128,
    /// Of each word, as anchor of which of these, and which of theirs it is.
    anchors: Vec<Vec<(usize, usize)>>,
}

/// Where anchors stand, of those detectors that are told.
#[derive(Debug, Default)]
pub(crate) struct Places(Vec<(usize, Hit)>);

impl Places {
    /// Those of one detector, in order of their beginnings.
    pub(crate) fn of(&self, detector: usize) -> Vec<Hit> {
        let mut hits: Vec<Hit> =
            self.0.iter().filter(|(owner, _)| *owner == detector).map(|(_, hit)| *hit).collect();
        hits.sort_unstable_by_key(|hit| (hit.start, hit.end));
        hits
    }
}

/// Whose a word is.
#[derive(Clone, Copy, Debug, Default)]
struct Owners {
    seen: Seen,
    /// Detectors, by bits, that ask for two of their weak words near each other.
    weak: u128,
}

/// Whose words occur.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Detectors of which an anchor occurs, by bits.
    pub(crate) detectors: u128,
    /// Schemes of which a label occurs, by bits.
    pub(crate) schemes: u128,
}

impl Seen {
    pub(crate) const fn and(self, other: Self) -> Self {
        Self { detectors: self.detectors | other.detectors, schemes: self.schemes | other.schemes }
    }
}

impl Anchors {
    /// Detectors are told apart by the bits of a word.
    pub(crate) const DETECTORS_MAX: usize = 128;

    /// Bytes within which two weak words begin that count.
    const REACH: usize = 320;

    /// The words of each detector, the weak ones second, in their order, and the labels of each scheme, in theirs. The
    /// detectors of `told`, by bits, are told where theirs stand.
    ///
    /// # Errors
    /// A word is too short.
    pub(crate) fn new(
        detectors: impl Iterator<Item = [Vec<&'static str>; 2]>,
        schemes: impl Iterator<Item = &'static [&'static str]>,
        told: u128,
    ) -> Result<Self, KindError> {
        let mut words: BTreeMap<String, (Owners, Vec<(usize, usize)>)> = BTreeMap::new();
        let mut add = |word: &str, seen: Seen, weak: u128| {
            let (owners, _) = words.entry(word.to_ascii_lowercase()).or_default();
            *owners = Owners { seen: owners.seen.and(seen), weak: owners.weak | weak };
        };
        let detectors: Vec<_> = detectors.take(Self::DETECTORS_MAX).collect();
        for (index, [anchors, weak]) in detectors.iter().enumerate() {
            anchors.iter().for_each(|word| add(word, Seen { detectors: 1 << index, schemes: 0 }, 0));
            weak.iter().for_each(|word| add(word, Seen::default(), 1 << index));
        }
        for (index, labels) in schemes.enumerate() {
            labels.iter().for_each(|word| add(word, Seen { detectors: 0, schemes: 1 << index }, 0));
        }
        for (index, [anchors, _]) in detectors.iter().enumerate().filter(|(index, _)| told >> index & 1 == 1)
        {
            for (at, word) in anchors.iter().enumerate() {
                words.entry(word.to_ascii_lowercase()).or_default().1.push((index, at));
            }
        }
        let needles = Needles::new(words.keys().map(String::as_str));
        let needles = needles.ok_or_else(|| KindError {
            name: "anchors",
            reason: "a word is too short, or there are too many".into(),
        })?;
        let (owners, anchors) = words.into_values().unzip();
        Ok(Self { needles, owners, told, anchors })
    }

    /// Whose words occur in raw JSON, until those of `enough` do. How near words stand to each other it does not say: one
    /// weak one counts.
    pub(crate) fn seen_raw(&self, raw: &[u8], enough: u128) -> Seen {
        let mut seen = Seen::default();
        self.needles.each(raw, |hit| {
            let owners = self.owners.get(hit.word).copied().unwrap_or_default();
            seen = seen.and(owners.seen).and(Seen { detectors: owners.weak, schemes: 0 });
            seen.detectors & enough == 0
        });
        seen
    }

    /// Whose words occur; of weak ones one is enough in a definition, which is looked at once and read by every model.
    pub(crate) fn seen(&self, role: Role, text: &[u8], places: &mut Places) -> Seen {
        let mut seen = Seen::default();
        let mut last = None::<usize>;
        self.needles.each(text, |hit| {
            let Some(owners) = self.owners.get(hit.word) else { return true };
            // A label in the middle of a word is none.
            let Seen { detectors, schemes } = owners.seen;
            let new = schemes & !seen.schemes != 0 && is_word(text, hit.start..hit.end);
            seen = seen.and(Seen { detectors, schemes: if new { schemes } else { 0 } });
            if detectors & self.told != 0 {
                let anchors = self.anchors.get(hit.word).into_iter().flatten();
                places.0.extend(anchors.map(|(owner, word)| (*owner, Hit { word: *word, ..hit })));
            }
            if owners.weak != 0 {
                let near = last.is_some_and(|last| hit.start.abs_diff(last) <= Self::REACH);
                if near || role == Role::Definition {
                    seen.detectors |= owners.weak;
                }
                last = Some(hit.start);
            }
            true
        });
        seen
    }
}
