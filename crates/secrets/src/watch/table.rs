//! The search behind the watch: thousands of texts at once, at the speed of memory.
//!
//! Of every text that is looked for there is a part of eight bytes. At whatever place it stands, one of the four pieces of
//! five bytes in it begins at a multiple of four: so only there is looked, in a set of bits that mostly says no. What it does
//! not rule out is compared.

use memchr::memchr2;
use zeroize::Zeroize;

use super::needles::{ANCHOR_BYTES, Needle, hex};

/// How far the places are from one another that are looked at.
const STRIDE: usize = 4;
/// The bytes that are looked at, of eight that are read.
const GRAM: u64 = 0xff_ffff_ffff;
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
/// Bits for each piece in the set: more would not fit the cache that makes it fast.
const BITS_PER_PIECE: usize = 32;
/// Ways of reading the signs before or behind a part that are followed at once.
const READINGS_MAX: usize = 8;

/// One piece of five bytes.
struct Gram {
    /// The part that it is of.
    anchor: u64,
    /// Which needle it is of, and where it stands there.
    needle: u32,
    offset: u32,
    /// The next one with the same place in the table.
    next: u32,
}

/// Where there is no next one.
const END: u32 = u32::MAX;

/// What is looked for, arranged for the search. Overwritten when dropped.
#[derive(Default)]
pub(super) struct Table {
    bits: Vec<u64>,
    bits_shift: u32,
    heads: Vec<u32>,
    heads_shift: u32,
    grams: Vec<Gram>,
    /// Whether something is looked for of which JSON writes every part in more than one way.
    evasive: bool,
}

impl Gram {
    const fn bytes(&self) -> u64 {
        self.anchor >> (8 * self.offset) & GRAM
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.grams.iter_mut().for_each(|gram| gram.anchor.zeroize());
    }
}

/// A part that was found: which needle, and where its anchor stands in the text.
pub(super) struct Candidate {
    pub(super) needle: usize,
    pub(super) at: usize,
}

impl Table {
    /// The search for these, which are asked for by their places in `needles` from now on.
    pub(super) fn new<'a>(needles: impl Iterator<Item = &'a Needle>) -> Self {
        let mut table = Self::default();
        for (index, needle) in needles.enumerate() {
            table.evasive |= !needle.plain;
            let part = needle.bytes.get(needle.anchor..needle.anchor + ANCHOR_BYTES).unwrap_or_default();
            let anchor = part.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
            let needle = u32::try_from(index).unwrap_or(END);
            for offset in 0..STRIDE as u32 {
                table.grams.push(Gram { anchor, needle, offset, next: END });
            }
        }
        if table.grams.is_empty() {
            return table;
        }
        let bits = (table.grams.len() * BITS_PER_PIECE).next_power_of_two().max(4_096);
        let heads = (table.grams.len() * 2).next_power_of_two();
        (table.bits, table.bits_shift) = (vec![0; bits / 64], 64 - bits.ilog2());
        (table.heads, table.heads_shift) = (vec![END; heads], 64 - heads.ilog2());
        for index in 0..table.grams.len() {
            let Some(gram) = table.grams.get_mut(index) else { break };
            let mixed = gram.bytes().wrapping_mul(MIX);
            let place = (mixed >> table.bits_shift) as usize;
            if let Some(word) = table.bits.get_mut(place / 64) {
                *word |= 1 << (place % 64);
            }
            if let Some(head) = table.heads.get_mut((mixed >> table.heads_shift) as usize) {
                gram.next = *head;
                *head = u32::try_from(index).unwrap_or(END);
            }
        }
        table
    }

    /// Whether nothing is looked for.
    pub(super) const fn is_empty(&self) -> bool {
        self.grams.is_empty()
    }

    /// Whether JSON may hide what is looked for where the search does not see it.
    pub(super) const fn is_evasive(&self) -> bool {
        self.evasive
    }

    /// Every place at which an anchor may stand, until `tell` says that it is enough.
    pub(super) fn search(&self, text: &[u8], mut tell: impl FnMut(Candidate) -> bool) {
        if self.is_empty() {
            return;
        }
        let (words, rest) = text.as_chunks::<STRIDE>();
        let mut last = [0; STRIDE];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        let next = words.iter().skip(1).chain((!rest.is_empty()).then_some(&last));
        for (index, (low, high)) in words.iter().zip(next).enumerate() {
            let low = u64::from(u32::from_le_bytes(*low));
            let gram = (low | u64::from(u32::from_le_bytes(*high)) << 32) & GRAM;
            let mixed = gram.wrapping_mul(MIX);
            let place = (mixed >> self.bits_shift) as usize;
            let word = self.bits.get(place / 64).copied().unwrap_or_default();
            if word >> (place % 64) & 1 == 1 && !self.compare(text, (gram, mixed), index * STRIDE, &mut tell)
            {
                return;
            }
        }
    }

    #[cold]
    fn compare(
        &self,
        text: &[u8],
        (gram, mixed): (u64, u64),
        at: usize,
        tell: &mut impl FnMut(Candidate) -> bool,
    ) -> bool {
        let mut next = self.heads.get((mixed >> self.heads_shift) as usize).copied().unwrap_or(END);
        while let Some(known) = self.grams.get(next as usize) {
            if known.bytes() == gram
                && let Some(at) = at.checked_sub(known.offset as usize)
                && let Some(part) = text.get(at..).and_then(<[u8]>::first_chunk::<ANCHOR_BYTES>)
                && u64::from_le_bytes(*part) == known.anchor
                && !tell(Candidate { needle: known.needle as usize, at })
            {
                return false;
            }
            next = known.next;
        }
        true
    }
}

/// Where the needle stands whose anchor stands at `at`: from and to. Before and behind the anchor each of its bytes may be
/// written as itself, or as programs write what has a meaning to them.
#[inline]
pub(super) fn extent(needle: &Needle, text: &[u8], at: usize) -> Option<(usize, usize)> {
    let (before, rest) = needle.bytes.split_at_checked(needle.anchor)?;
    let (anchor, after) = rest.split_at_checked(ANCHOR_BYTES)?;
    if text.get(at..at + ANCHOR_BYTES)? != anchor {
        return None;
    }
    let to = ahead(after, text, at + ANCHOR_BYTES)?;
    Some((behind(before, text, at)?, to))
}

/// Where these bytes end that begin at `at`. Nearly always they stand as they are, or something else does.
fn ahead(bytes: &[u8], text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    if rest.starts_with(bytes) && !bytes.iter().any(|byte| begins(*byte)) {
        return Some(at + bytes.len());
    }
    let same = bytes.iter().zip(rest).take_while(|(byte, found)| byte == found && !begins(**found)).count();
    let (Some(left), next) = (bytes.get(same..), rest.get(same)) else { return None };
    if left.is_empty() {
        return Some(at + same);
    }
    // From here on they may be written otherwise.
    if !next.is_some_and(|byte| begins(*byte)) {
        return None;
    }
    read(left.iter(), at + same, |at, byte, out| forth(text, at, byte, out)).into_iter().max()
}

/// Where these bytes begin that end at `at`.
fn behind(bytes: &[u8], text: &[u8], at: usize) -> Option<usize> {
    let head = text.get(..at)?;
    // Another way of writing ends some bytes behind the sign with which it begins.
    let near = head.get(at.saturating_sub(bytes.len() + WRITTEN_BYTES_MAX)..)?;
    if memchr2(b'\\', b'%', near).is_none() {
        return head.ends_with(bytes).then(|| at - bytes.len());
    }
    read(bytes.iter().rev(), at, |at, byte, out| back(text, at, byte, out)).into_iter().min()
}

/// Whether another way to write a byte begins with this one.
const fn begins(byte: u8) -> bool {
    matches!(byte, b'\\' | b'%')
}

/// Follows every way of reading the bytes from `at` on, to where they end.
fn read<'a>(
    bytes: impl Iterator<Item = &'a u8>,
    at: usize,
    step: impl Fn(usize, u8, &mut Vec<usize>),
) -> Vec<usize> {
    let (mut now, mut next) = (vec![at], Vec::new());
    for byte in bytes {
        next.clear();
        now.iter().for_each(|at| step(*at, *byte, &mut next));
        next.sort_unstable();
        next.dedup();
        next.truncate(READINGS_MAX);
        std::mem::swap(&mut now, &mut next);
        if now.is_empty() {
            break;
        }
    }
    now
}

/// The longest that one byte is written as: `\u002f`.
const WRITTEN_BYTES_MAX: usize = 6;

fn forth(text: &[u8], at: usize, byte: u8, out: &mut Vec<usize>) {
    let rest = text.get(at..).unwrap_or_default();
    out.extend(
        (1..=rest.len().min(WRITTEN_BYTES_MAX))
            .filter_map(|length| is_written(rest.get(..length)?, byte).then_some(at + length)),
    );
}

fn back(text: &[u8], at: usize, byte: u8, out: &mut Vec<usize>) {
    let text = text.get(..at).unwrap_or_default();
    out.extend((1..=text.len().min(WRITTEN_BYTES_MAX)).filter_map(|length| {
        let from = at - length;
        is_written(text.get(from..)?, byte).then_some(from)
    }));
}

/// Whether that is a way to write the byte.
fn is_written(text: &[u8], byte: u8) -> bool {
    let pair = |high: u8, low: u8| hex(high).zip(hex(low)).is_some_and(|(high, low)| high << 4 | low == byte);
    match *text {
        [same] => same == byte,
        [b'\\', short] => match short {
            b'n' => byte == b'\n',
            b'r' => byte == b'\r',
            b't' => byte == b'\t',
            other => other == byte && !other.is_ascii_alphanumeric(),
        },
        [b'%', high, low] | [b'\\', b'x', high, low] | [b'\\', b'u', b'0', b'0', high, low] => {
            pair(high, low)
        }
        _ => false,
    }
}
