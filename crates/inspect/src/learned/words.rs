//! The lexicon as a table: one look for each letter of a word.

use alloc::{vec, vec::Vec};

use super::{
    hash::Hash,
    lexicon::{Concept, LEXICON},
    tokens::letters,
};

/// Places in the table; a power of two well above the number of words.
const PLACES: usize = 1 << 13;
/// Letters of a word that are compared with beginnings.
const LETTERS_MAX: usize = 12;
/// Bits that say whether a hash may be that of a beginning.
const BITS: usize = 1 << 15;

/// Every word of the lexicon by its hash.
#[derive(Debug)]
pub(crate) struct Words {
    /// Hash of the word, concept, whether any ending fits.
    places: Vec<(u32, Option<Concept>, bool)>,
    /// Whether a beginning has as many letters.
    lengths: u32,
    /// Bits of the hashes of beginnings: nearly always they say that there is none.
    beginnings: Vec<u64>,
}

/// What is known of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) hash: u32,
    pub(super) concept: Option<Concept>,
}

impl Words {
    /// The table.
    pub(crate) fn new() -> Self {
        let mut words =
            Self { places: vec![(0, None, false); PLACES], lengths: 0, beginnings: vec![0; BITS / 64] };
        for (concept, list) in LEXICON {
            for word in list.split_ascii_whitespace() {
                let (word, open) = word.strip_suffix('*').map_or((word, false), |stem| (stem, true));
                // In scripts without blanks a word ends nowhere.
                let open = open || word.chars().all(|c| u32::from(c) >= 0x3040);
                let hash = letters(word).fold(Hash::new(0), Hash::character).get();
                if words.look(hash).is_none() {
                    words.insert(hash, *concept, open);
                    if open {
                        words.lengths |= 1 << letters(word).count().min(31);
                        if let Some(bits) = words.beginnings.get_mut(hash as usize % BITS / 64) {
                            *bits |= 1 << (hash % 64);
                        }
                    }
                }
            }
        }
        words
    }

    fn insert(&mut self, hash: u32, concept: Concept, open: bool) {
        let mut at = hash as usize % PLACES;
        while let Some(place) = self.places.get_mut(at) {
            if place.1.is_none() {
                *place = (hash, Some(concept), open);
                return;
            }
            at = (at + 1) % PLACES;
        }
    }

    fn look(&self, hash: u32) -> Option<(Concept, bool)> {
        let mut at = hash as usize % PLACES;
        loop {
            match self.places.get(at) {
                Some((known, Some(concept), open)) if *known == hash => return Some((*concept, *open)),
                Some((_, Some(_), _)) => at = (at + 1) % PLACES,
                _ => return None,
            }
        }
    }

    /// The concept of words with that beginning.
    fn begun(&self, hash: u32) -> Option<Concept> {
        let bits = self.beginnings.get(hash as usize % BITS / 64).copied().unwrap_or_default();
        if bits >> (hash % 64) & 1 == 0 {
            return None;
        }
        self.look(hash).filter(|(_, open)| *open).map(|(concept, _)| concept)
    }

    /// What a word is about.
    pub(super) fn find(&self, word: &str) -> Found {
        let mut hash = Hash::new(0);
        let mut open = None;
        for (count, letter) in letters(word).enumerate() {
            hash = hash.character(letter);
            let length = count + 1;
            if length < LETTERS_MAX && self.lengths >> length.min(31) & 1 == 1 {
                open = self.begun(hash.get()).or(open);
            }
        }
        let hash = hash.get();
        Found { hash, concept: self.look(hash).map(|(concept, _)| concept).or(open) }
    }

    /// What the word is about with which a text begins that puts no blanks between words; the hash is that of its first
    /// two characters.
    pub(super) fn find_start(&self, text: &str) -> Found {
        let (mut hash, mut pair, mut concept) = (Hash::new(0), Hash::new(3), None);
        for (count, letter) in
            letters(text.get(..text.len().min(32)).unwrap_or_else(|| start(text))).take(5).enumerate()
        {
            hash = hash.character(letter);
            if count < 2 {
                pair = pair.character(letter);
            }
            if self.lengths >> (count + 1) & 1 == 1 {
                concept = self.begun(hash.get()).or(concept);
            }
        }
        Found { hash: pair.get(), concept }
    }

    /// Whether one of the parts of a name has that concept.
    pub(super) fn any_part(&self, name: &str, concept: Concept) -> bool {
        name.split(['/', '\\', '~']).any(|part| {
            self.find(part).concept == Some(concept)
                || self.find(part.trim_start_matches('.')).concept == Some(concept)
                || part.split(['.', '_', '-']).any(|part| {
                    matches!(self.find(part).concept, Some(found) if found == concept || found == Concept::Secret)
                })
        })
    }
}

/// The beginning of a text, up to a border of characters.
fn start(text: &str) -> &str {
    (0..32.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}
