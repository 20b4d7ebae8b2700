//! The lexicon as a table: one look for each letter of a word.

use alloc::{vec, vec::Vec};

use portcullis_reading::plain::fold;

use crate::{
    hash::Hash,
    lexicon::{Concept, LEXICON},
};

/// Places in the table; a power of two well above the number of words.
const PLACES: usize = 1 << 13;
/// Letters of a word that are compared with beginnings.
const LETTERS_MAX: usize = 12;
/// Places of hashes of three letters.
const THREES: usize = 1 << 13;
/// Bits that say whether a hash may be that of a beginning.
const BITS: usize = 1 << 15;

/// The letters of a word as they are compared.
fn letters(word: &str) -> impl Iterator<Item = char> + '_ {
    word.chars().filter_map(fold)
}

/// Every word of the lexicon by its hash.
#[derive(Debug)]
pub(crate) struct Words {
    /// Hash of the word, concept, whether any ending fits.
    places: Vec<(u32, Option<Concept>, bool)>,
    /// Whether a beginning has as many letters.
    lengths: u32,
    /// Bits of the hashes of beginnings, and of all words: nearly always they say that there is none.
    beginnings: Vec<u64>,
    known: Vec<u64>,
    /// By the hash of the first three letters of beginnings, how many letters these have, by bits.
    threes: Vec<u16>,
}

/// What is known of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) hash: u32,
    pub(super) concept: Option<Concept>,
}

/// A word of ASCII, as far as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spelling {
    hash: Hash,
    /// [`SMALL`] and [`LARGE`], as letters of that kind occurred.
    kinds: u8,
}

/// What a byte is in a word: its letter in lower case, and of what kind it is. Nothing for what ends a word.
#[expect(clippy::indexing_slicing, reason = "made when it is compiled")]
static LETTERS: [(u8, u8); 256] = {
    let mut letters = [(0, 0); 256];
    let mut byte = 0_u8;
    while byte < 128 {
        letters[byte as usize] = match byte {
            b'a'..=b'z' => (byte, SMALL),
            b'A'..=b'Z' => (byte.to_ascii_lowercase(), LARGE),
            b'0'..=b'9' => (byte, DIGIT),
            _ => (0, 0),
        };
        byte += 1;
    }
    letters
};
const SMALL: u8 = 1;
const LARGE: u8 = 2;
const DIGIT: u8 = 4;

impl Spelling {
    pub(super) const fn new() -> Self {
        Self { hash: Hash::new(0), kinds: 0 }
    }

    /// Reads the ASCII letters and digits that a text begins with, and tells how many there are.
    pub(super) fn read(&mut self, text: &[u8]) -> usize {
        let Self { mut hash, mut kinds } = *self;
        let mut length = 0;
        for byte in text {
            let (letter, kind) = LETTERS.get(usize::from(*byte)).copied().unwrap_or_default();
            if kind == 0 {
                break;
            }
            hash = hash.byte(letter);
            kinds |= kind;
            length += 1;
        }
        *self = Self { hash, kinds };
        length
    }

    /// Reads one byte more, whatever it is.
    pub(super) const fn add(&mut self, byte: u8) {
        self.hash = self.hash.byte(byte.to_ascii_lowercase());
    }

    pub(super) const fn has_letters(&self) -> bool {
        self.kinds & (SMALL | LARGE) != 0
    }

    pub(super) const fn has_small(&self) -> bool {
        self.kinds & SMALL != 0
    }
}

impl Words {
    /// The table.
    pub(crate) fn new() -> Self {
        let mut words = Self {
            places: vec![(0, None, false); PLACES],
            lengths: 0,
            beginnings: vec![0; BITS / 64],
            known: vec![0; BITS / 64],
            threes: vec![0; THREES],
        };
        for (concept, list) in LEXICON {
            for word in list.split_ascii_whitespace() {
                let (word, open) = word.strip_suffix('*').map_or((word, false), |stem| (stem, true));
                // In scripts without blanks a word ends nowhere.
                let open = open || word.chars().all(|c| u32::from(c) >= 0x3040);
                let hash = letters(word).fold(Hash::new(0), Hash::character).get();
                if words.look(hash).is_none() {
                    words.insert(hash, *concept, open);
                    mark(&mut words.known, hash);
                    if open {
                        words.lengths |= 1 << letters(word).count().min(31);
                        mark(&mut words.beginnings, hash);
                        let three = letters(word).take(3).fold(Hash::new(0), Hash::character).get();
                        let length = letters(word).count();
                        if let Some(lengths) = words.threes.get_mut(three as usize % THREES) {
                            *lengths |= if length < LETTERS_MAX { 1 << length } else { 0 };
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
        if !is_marked(&self.beginnings, hash) {
            return None;
        }
        self.look(hash).filter(|(_, open)| *open).map(|(concept, _)| concept)
    }

    /// What a word of ASCII is about that was spelt: as [`Self::find`].
    pub(super) fn spelt(&self, word: &[u8], spelling: &Spelling) -> Found {
        self.found(spelling.hash.get(), self.opened(word))
    }

    /// The concept of words that begin as a word of ASCII does: of the longest such beginning. None has fewer than three
    /// letters.
    fn opened(&self, word: &[u8]) -> Option<Concept> {
        let (three, rest) = word.split_first_chunk::<3>()?;
        let mut hash = three.iter().fold(Hash::new(0), |hash, letter| hash.byte(letter.to_ascii_lowercase()));
        let mut lengths = self.threes.get(hash.get() as usize % THREES).copied().unwrap_or_default() >> 3;
        let mut open = None;
        let mut rest = rest.iter();
        // As many letters as the longest of them has.
        while lengths != 0 {
            if lengths & 1 == 1 {
                open = self.begun(hash.get()).or(open);
            }
            lengths >>= 1;
            let Some(letter) = rest.next() else { break };
            hash = hash.byte(letter.to_ascii_lowercase());
        }
        open
    }

    fn found(&self, hash: u32, open: Option<Concept>) -> Found {
        let known = if is_marked(&self.known, hash) { self.look(hash) } else { None };
        Found { hash, concept: known.map(|(concept, _)| concept).or(open) }
    }

    /// What a word is about.
    pub(super) fn find(&self, word: &str) -> Found {
        if word.is_ascii() {
            let mut spelling = Spelling::new();
            word.bytes().for_each(|byte| spelling.add(byte));
            return self.spelt(word.as_bytes(), &spelling);
        }
        let mut hash = Hash::new(0);
        let mut open = None;
        for (count, letter) in letters(word).enumerate() {
            hash = hash.character(letter);
            let length = count + 1;
            if length < LETTERS_MAX && self.lengths >> length.min(31) & 1 == 1 {
                open = self.begun(hash.get()).or(open);
            }
        }
        self.found(hash.get(), open)
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

fn mark(bits: &mut [u64], hash: u32) {
    if let Some(bits) = bits.get_mut(hash as usize % BITS / 64) {
        *bits |= 1 << (hash % 64);
    }
}

fn is_marked(bits: &[u64], hash: u32) -> bool {
    bits.get(hash as usize % BITS / 64).is_some_and(|bits| bits >> (hash % 64) & 1 == 1)
}

/// The beginning of a text, up to a border of characters.
fn start(text: &str) -> &str {
    (0..32.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}
