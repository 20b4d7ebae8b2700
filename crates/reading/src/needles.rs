//! A search for very many words at once, in whatever case, that costs a few instructions for each byte of a text.
//!
//! An automaton of a thousand words is larger than what a processor keeps at hand, so that each byte waits for memory. Here
//! the three bytes at each position are asked for in a small table of bits, without a branch; only where it says yes are
//! four asked for, and words compared. A word is looked up by those four of its bytes that are rarest in ordinary texts.

use alloc::{boxed::Box, vec, vec::Vec};

/// Bits in a table.
const BITS: usize = 1 << 16;
/// Bytes of a word by which it is looked up; shorter words by all.
const HEAD: usize = 4;
/// Positions that are asked for together.
const BLOCK: usize = 64;

type Table = [u64; BITS / 64];

/// One word, in lower case.
struct Needle {
    bytes: Box<[u8]>,
    /// Its first bytes, and which of eight they are: nearly always they tell it from what stands there.
    start: u64,
    mask: u64,
    /// Where in it the bytes are by which it is looked up.
    offset: usize,
    /// The next word of the same hash, counted from one.
    next: u16,
}

/// Words, each known by its place in the list.
pub struct Needles {
    words: Vec<Needle>,
    /// Whether a word may be known by what begins with these three bytes.
    begun: Box<Table>,
    /// Whether these three bytes may begin a word of two or three, and a longer one be known by these four.
    short: Box<Table>,
    long: Box<Table>,
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
        let table = || Box::new([0; BITS / 64]);
        let (begun, short, long) = (table(), table(), table());
        let mut all = Self { words: Vec::new(), begun, short, long, first: vec![0; BITS] };
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
        let offset = rarest(&bytes);
        let known = masked(head(bytes.get(offset..).unwrap_or_default()), length);
        match length {
            // Whatever follows a word of two bytes.
            2 => (0..=0xff_u32).for_each(|third| {
                let three = known | masked(third << 16 | FOLD, 3) & 0xff_0000;
                mark(&mut self.short, three);
                mark(&mut self.begun, three);
            }),
            3 => mark(&mut self.short, known),
            _ => mark(&mut self.long, known),
        }
        if length > 2 {
            mark(&mut self.begun, masked(known, 3));
        }
        let mask = if bytes.len() < 8 { (1 << (bytes.len() * 8)) - 1 } else { u64::MAX };
        let number = self.words.len() as u16 + 1;
        let next = self.first.get_mut(hash(known)).map_or(0, |first| core::mem::replace(first, number));
        self.words.push(Needle { start: eight(&bytes) & mask, mask, offset, next, bytes });
    }

    /// Every word, wherever it stands; `tell` says whether to go on. Words that do not overlap come in their order.
    pub fn each(&self, text: &[u8], mut tell: impl FnMut(Hit) -> bool) {
        let mut from = 0;
        while from < text.len() {
            // The last block is filled up with what is the same as a blank.
            let mut last = [0; BLOCK + HEAD - 1];
            let block = match text.get(from..).and_then(|rest| rest.first_chunk()) {
                Some(block) => block,
                None => {
                    last.iter_mut().zip(text.iter().skip(from)).for_each(|(place, byte)| *place = *byte);
                    &last
                }
            };
            let mut hits = self.candidates(block, text.len() - from);
            while hits != 0 {
                let at = hits.trailing_zeros() as usize;
                hits &= hits - 1;
                let bytes = head(block.get(at..).unwrap_or_default());
                let mut look = |length| self.at(text, from + at, (bytes, length), &mut tell);
                let short = is_marked(&self.short, masked(bytes, 3)) == 0 || (look(3) && look(2));
                if !short || !(is_marked(&self.long, bytes) == 0 || look(4)) {
                    return;
                }
            }
            from += BLOCK;
        }
    }

    /// The positions of a block, by bits, at which a word may be known, of which so many are left.
    fn candidates(&self, block: &[u8; BLOCK + HEAD - 1], left: usize) -> u64 {
        let mut hits = 0;
        for (at, window) in block.windows(HEAD).take(left).enumerate() {
            hits |= is_marked(&self.begun, masked(head(window), 3)) << at;
        }
        hits
    }

    /// Tells the words that are looked up by so many bytes at a place, until that is enough.
    fn at(
        &self,
        text: &[u8],
        at: usize,
        (bytes, length): (u32, usize),
        tell: &mut impl FnMut(Hit) -> bool,
    ) -> bool {
        let mut index = self.first.get(hash(masked(bytes, length))).copied().unwrap_or_default();
        while let Some(needle) = usize::from(index).checked_sub(1).and_then(|word| self.words.get(word)) {
            let word = usize::from(index) - 1;
            index = needle.next;
            let Some(start) = at.checked_sub(needle.offset) else { continue };
            let rest = text.get(start..).unwrap_or_default();
            let same = eight(rest) & needle.mask == needle.start
                && needle.bytes.len().min(HEAD) == length
                && rest
                    .get(..needle.bytes.len())
                    .is_some_and(|part| part.eq_ignore_ascii_case(&needle.bytes));
            if same && !tell(Hit { start, end: start + needle.bytes.len(), word }) {
                return false;
            }
        }
        true
    }
}

/// Where the four bytes of a word are that are rarest in ordinary texts.
fn rarest(word: &[u8]) -> usize {
    let often = |bytes: &[u8]| bytes.iter().map(|byte| often(*byte)).sum::<u32>();
    // The first three are asked for first.
    let often = |bytes: &[u8]| often(bytes.get(..HEAD - 1).unwrap_or_default()) * 4 + often(bytes);
    word.windows(HEAD).enumerate().min_by_key(|(_, bytes)| often(bytes)).map_or(0, |(at, _)| at)
}

/// How often a byte stands in ordinary texts, of 1,000, roughly.
const fn often(byte: u8) -> u32 {
    match byte {
        b' ' => 170,
        b'e' => 100,
        b'a' | b'i' | b'n' | b'o' | b's' | b't' => 65,
        b'r' => 55,
        b'd' | b'h' | b'l' => 35,
        b'c' | b'm' | b'u' => 25,
        b'f' | b'g' | b'p' | b'w' | b'y' | 128.. => 18,
        b'b' | b'v' | b'.' | b',' | b'-' | b':' | b'"' | b'/' | b'_' | b'0'..=b'9' => 10,
        _ => 4,
    }
}

fn mark(table: &mut Table, bytes: u32) {
    if let Some(bits) = table.get_mut(hash(bytes) / 64) {
        *bits |= 1 << (hash(bytes) % 64);
    }
}

fn is_marked(table: &Table, bytes: u32) -> u64 {
    table.get(hash(bytes) / 64).map_or(0, |bits| bits >> (hash(bytes) % 64) & 1)
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
    let whole = text.first_chunk().copied().unwrap_or_else(|| {
        let mut bytes = [0; HEAD];
        bytes.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
        bytes
    });
    u32::from_le_bytes(whole) | FOLD
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

    use aho_corasick::AhoCorasick;
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
        fn it_finds_what_an_automaton_finds(text in "([abcdeABCDE0:/]|é|n|né le|api key|k|ey){0,90}") {
            let needles = Needles::new(WORDS.iter().copied()).unwrap();
            let mut seen = Vec::new();
            needles.each(text.as_bytes(), |hit| {
                seen.push((hit.start, hit.end, hit.word));
                true
            });
            let automaton = AhoCorasick::builder().ascii_case_insensitive(true).build(WORDS).unwrap();
            let mut expected: Vec<_> = automaton
                .find_overlapping_iter(&text)
                .map(|hit| (hit.start(), hit.end(), hit.pattern().as_usize()))
                .collect();
            seen.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(seen, expected);
        }
    }
}
