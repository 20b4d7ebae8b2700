//! A search for very many words at once, in whatever case, that costs a few instructions for each byte of a text.
//!
//! An automaton of a thousand words is larger than what a processor keeps at hand, so that each byte waits for memory. Here
//! the first three and four bytes of each position are asked for in two small tables of bits; only where one of them
//! says yes are words compared.

use alloc::{boxed::Box, vec, vec::Vec};

/// Bits in a table.
const BITS: usize = 1 << 16;
/// Bytes of a word by which it is looked up.
const HEAD: usize = 4;

type Table = [u64; BITS / 64];

/// One word, in lower case.
struct Needle {
    bytes: Box<[u8]>,
    /// Its first bytes, and which of eight they are: nearly always they tell it from what stands there.
    start: u64,
    mask: u64,
    /// The next word of the same hash, counted from one.
    next: u16,
}

/// Words, each known by its place in the list.
pub struct Needles {
    words: Vec<Needle>,
    /// Whether a word of two or three bytes may begin with these three, and a longer one with these four.
    tables: Box<[Table; 2]>,
    /// The first word of each hash, counted from one.
    first: Vec<u16>,
}

impl core::fmt::Debug for Needles {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Needles").field("words", &self.words.len()).finish_non_exhaustive()
    }
}

/// One word at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its first byte.
    pub start: usize,
    /// The byte behind it.
    pub end: usize,
    /// Which word.
    pub word: usize,
}

impl Needles {
    /// The most words that are told apart.
    pub const WORDS_MAX: usize = u16::MAX as usize - 1;

    /// Words of two bytes and more; shorter ones, and what is beyond [`Self::WORDS_MAX`], make it none.
    pub fn new<'a>(words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut all = Self { words: Vec::new(), tables: Box::new([[0; BITS / 64]; 2]), first: vec![0; BITS] };
        for word in words {
            if word.len() < 2 || all.words.len() >= Self::WORDS_MAX {
                return None;
            }
            all.add(word.to_ascii_lowercase().into_bytes().into());
        }
        Some(all)
    }

    fn add(&mut self, bytes: Box<[u8]>) {
        let length = bytes.len().min(HEAD);
        let begins = masked(head(&bytes), length);
        let [short, long] = &mut *self.tables;
        let mark = |table: &mut Table, bytes: u32| {
            if let Some(bits) = table.get_mut(hash(bytes) / 64) {
                *bits |= 1 << (hash(bytes) % 64);
            }
        };
        match length {
            // Whatever follows a word of two bytes.
            2 => (0..=0xff_u32)
                .for_each(|third| mark(short, begins | masked(third << 16 | FOLD, 3) & 0xff_0000)),
            3 => mark(short, begins),
            _ => mark(long, begins),
        }
        let mask = if bytes.len() < 8 { (1 << (bytes.len() * 8)) - 1 } else { u64::MAX };
        let number = self.words.len() as u16 + 1;
        let next = self.first.get_mut(hash(begins)).map_or(0, |first| core::mem::replace(first, number));
        self.words.push(Needle { start: eight(&bytes) & mask, mask, next, bytes });
    }

    /// Whether a word may begin with these bytes.
    fn may(&self, bytes: u32) -> bool {
        self.may_be_short(bytes) | self.may_be_long(bytes)
    }

    fn may_be_short(&self, bytes: u32) -> bool {
        let [short, _] = &*self.tables;
        is_marked(short, masked(bytes, 3))
    }

    fn may_be_long(&self, bytes: u32) -> bool {
        let [_, long] = &*self.tables;
        is_marked(long, bytes)
    }

    /// Tells each place from `from` on where a word may begin, until that is enough.
    fn candidates(&self, text: &[u8], from: usize, mut tell: impl FnMut(usize, u32) -> bool) {
        let rest = text.get(from..).unwrap_or_default();
        for (at, window) in rest.windows(HEAD).enumerate() {
            let bytes = <[u8; HEAD]>::try_from(window).map_or(0, u32::from_le_bytes) | FOLD;
            if self.may(bytes) && !tell(from + at, bytes) {
                return;
            }
        }
        for at in rest.len().saturating_sub(HEAD - 1)..rest.len() {
            let bytes = head(rest.get(at..).unwrap_or_default());
            if self.may(bytes) && !tell(from + at, bytes) {
                return;
            }
        }
    }

    /// Tells the words that stand at a place which begins with these bytes, until that is enough.
    fn at(&self, text: &[u8], start: usize, bytes: u32, tell: &mut impl FnMut(Hit) -> bool) -> bool {
        let rest = text.get(start..).unwrap_or_default();
        let eight = eight(rest);
        let short = self.may_be_short(bytes);
        let lengths = [(self.may_be_long(bytes), 4), (short, 3), (short, 2)];
        for (_, length) in lengths.into_iter().filter(|(may, _)| *may) {
            let mut index = self.first.get(hash(masked(bytes, length))).copied().unwrap_or_default();
            while let Some(word) = usize::from(index).checked_sub(1) {
                let Some(needle) = self.words.get(word) else { break };
                index = needle.next;
                let same = eight & needle.mask == needle.start
                    && needle.bytes.len().min(HEAD) == length
                    && rest
                        .get(..needle.bytes.len())
                        .is_some_and(|part| part.eq_ignore_ascii_case(&needle.bytes));
                if same && !tell(Hit { start, end: start + needle.bytes.len(), word }) {
                    return false;
                }
            }
        }
        true
    }

    /// Every word, wherever it stands, in order of their beginnings; `tell` says whether to go on.
    pub fn each(&self, text: &[u8], mut tell: impl FnMut(Hit) -> bool) {
        self.candidates(text, 0, |start, bytes| self.at(text, start, bytes, &mut tell));
    }

    /// The longest word at the first place, the longest behind it, and so on.
    pub fn longest(&self, text: &[u8]) -> impl Iterator<Item = Hit> {
        let mut from = 0;
        core::iter::from_fn(move || {
            let mut found: Option<Hit> = None;
            self.candidates(text, from, |start, bytes| {
                self.at(text, start, bytes, &mut |hit| {
                    if found.is_none_or(|known| known.end < hit.end) {
                        found = Some(hit);
                    }
                    true
                });
                found.is_none()
            });
            from = found.map_or(text.len(), |hit| hit.end);
            found
        })
    }
}

fn is_marked(table: &Table, bytes: u32) -> bool {
    table.get(hash(bytes) / 64).is_some_and(|bits| bits >> (hash(bytes) % 64) & 1 == 1)
}

/// Makes letters small, and other bytes something that is the same on both sides.
const FOLD: u32 = 0x2020_2020;

/// The first eight bytes, folded.
fn eight(text: &[u8]) -> u64 {
    let whole = text.first_chunk::<8>().copied().unwrap_or_else(|| {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
        bytes
    });
    u64::from_le_bytes(whole) | 0x2020_2020_2020_2020
}

fn head(text: &[u8]) -> u32 {
    let mut bytes = [0; HEAD];
    bytes.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
    u32::from_le_bytes(bytes) | FOLD
}

const fn masked(bytes: u32, length: usize) -> u32 {
    match length {
        2 => bytes & 0xffff,
        3 => bytes & 0x00ff_ffff,
        _ => bytes,
    }
}

const fn hash(bytes: u32) -> usize {
    (bytes.wrapping_mul(0x9e37_79b1) >> 16) as usize
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use aho_corasick::{AhoCorasick, MatchKind};
    use proptest::prelude::*;

    use super::Needles;

    const WORDS: &[&str] =
        &["ab", "abc", "abcd", "abcde", "bcd", "cd", "://", "né", "né le", "key", "api key", "apikey", "0a"];

    #[test]
    fn words_of_one_byte_are_none() {
        assert!(Needles::new(["a"].into_iter()).is_none());
        assert!(Needles::new(core::iter::empty()).is_some());
    }

    proptest! {
        #[test]
        fn it_finds_what_an_automaton_finds(text in "([abcdeABCDE0:/]|é|n|né le|api key|k|ey){0,24}") {
            let needles = Needles::new(WORDS.iter().copied()).unwrap();
            let build = |kind| AhoCorasick::builder().ascii_case_insensitive(true).match_kind(kind).build(WORDS).unwrap();
            let mut seen = Vec::new();
            needles.each(text.as_bytes(), |hit| {
                seen.push((hit.start, hit.end, hit.word));
                true
            });
            let mut expected: Vec<_> = build(MatchKind::Standard)
                .find_overlapping_iter(&text)
                .map(|hit| (hit.start(), hit.end(), hit.pattern().as_usize()))
                .collect();
            seen.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(seen, expected);
            let longest: Vec<_> = needles.longest(text.as_bytes()).map(|hit| (hit.start, hit.end, hit.word)).collect();
            let expected: Vec<_> = build(MatchKind::LeftmostLongest)
                .find_iter(&text)
                .map(|hit| (hit.start(), hit.end(), hit.pattern().as_usize()))
                .collect();
            prop_assert_eq!(longest, expected);
        }
    }
}
