//! The small trained classifier: from a text to hashed features of its tokens, from these, by a table of weights, to the
//! parts of it that look most like an order to a model, and from what stands in these and around them, by trees, to a score.
//!
//! Training, evaluation and detectors share this code. All arithmetic is on integers, so that a text has one score.
#![no_std]

extern crate alloc;

use alloc::{borrow::Cow, string::String, vec, vec::Vec};
use core::ops::Range;

use portcullis_reading::{decode, plain::Plain};

mod hash;
mod judge;
mod lexicon;
mod tokens;
mod turned;
mod words;

use hash::Hash;
pub use judge::{DEPTH, SIGNS, Signs, TREE_BYTES, Trees};
use lexicon::Concept;
use tokens::{Token, tokens};
pub use turned::MARKS;
use turned::{Marks, Turned};
use words::Words as Table;

/// Features are numbered below this.
pub const FEATURES: usize = 1 << 16;
/// Tokens of which the part that is scored has at most so many.
pub const WINDOW: usize = 48;
/// Tokens between two whose concepts are seen together.
const REACH: usize = 10;
/// Concepts before one that are seen together with it.
const BEFORE: usize = 4;

/// A part that scores no more by the table is no order, whatever the trees would say.
const DOUBTLESS: i32 = -64;
/// What the trees make of one that they do not see.
const UNSEEN: i32 = -256;

/// The words that features are made of, and how words look that are written otherwise.
#[derive(Debug)]
pub struct Words {
    table: Table,
    marks: Marks,
}

impl Default for Words {
    fn default() -> Self {
        Self { table: Table::new(), marks: Marks::new() }
    }
}

/// One token: where it stands and what it contributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes of the text.
    pub range: Range<usize>,
    /// Features that say which words.
    pub words: Vec<u16>,
    /// Features that say what they are about.
    pub concepts: Vec<u16>,
}

/// The text without its disguises: what features are made of.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    Plain::of(text).map_or(Cow::Borrowed(text), |plain| Cow::Owned(plain.text))
}

/// All that a text says: without its disguises, and what is written in it in codes or in other letters.
#[must_use]
pub fn readings(words: &Words, text: &str) -> Vec<String> {
    let layers = decode::unwrap(text);
    let coded = layers.iter().map(|layer| plain(&layer.text).into_owned());
    let mut readings: Vec<String> = core::iter::once(plain(text).into_owned()).chain(coded).collect();
    let turned: Vec<String> = readings
        .iter()
        .flat_map(|reading| words.marks.turned(reading).into_iter().map(|turned| turned.text))
        .collect();
    readings.extend(turned);
    readings
}

/// The features of every token of a text, in order.
#[must_use]
pub fn places(words: &Words, text: &str) -> Vec<Place> {
    let tokens = tokens(text, &words.table);
    let mut out: Vec<Place> = tokens
        .iter()
        .map(|token| Place { range: token.range(), words: Vec::new(), concepts: Vec::new() })
        .collect();
    features(&tokens, |at, feature, of_concept| {
        if let Some(place) = out.get_mut(at) {
            if of_concept { place.concepts.push(feature) } else { place.words.push(feature) }
        }
    });
    out
}

/// Tells each feature: of which token, which one, and whether it is one of what the words are about. What was told within a
/// window is not told again: said twice, it says no more.
fn features(tokens: &[Token], mut tell: impl FnMut(usize, u16, bool)) {
    let mut recent = Recent::new(tokens.len() * 8);
    // The last concepts, the latest first.
    let mut before: [Option<(usize, Concept)>; BEFORE] = [None; BEFORE];
    let (mut last, mut other) = (None, None);
    for (at, token) in tokens.iter().enumerate() {
        let place = Recent::count(at);
        let mut add = |hash: Hash, of_concept: bool| {
            let feature = (hash.get() as usize % FEATURES) as u16;
            if recent.is_new(feature, place) {
                tell(at, feature, of_concept);
            }
        };
        add(Hash::new(10).word(token.hash), false);
        if let Some(last) = last {
            add(Hash::new(11).word(last).word(token.hash), false);
        }
        if let Some(other) = other {
            add(Hash::new(12).word(other).word(token.hash), false);
        }
        if token.begins {
            add(Hash::new(13).word(token.hash), false);
        }
        if let Some(concept) = token.concept {
            of_concepts(token, at, concept, &before, &mut |hash| add(hash, true));
            before.rotate_right(1);
            before[0] = Some((at, concept));
        }
        (other, last) = (last, Some(token.hash));
    }
}

/// What was told last, and where. A place holds one feature; another one that belongs there takes it.
struct Recent {
    /// A feature, and where it was told, counted from one; nothing was told at zero.
    places: Vec<(u16, u16)>,
    mask: usize,
}

impl Recent {
    fn new(features: usize) -> Self {
        let places = features.clamp(64, 4_096).next_power_of_two();
        Self { places: vec![(0, 0); places], mask: places - 1 }
    }

    /// A place in the text as it is remembered.
    const fn count(at: usize) -> u16 {
        (at % u16::MAX as usize) as u16 + 1
    }

    fn is_new(&mut self, feature: u16, at: u16) -> bool {
        let Some(place) = self.places.get_mut(usize::from(feature) & self.mask) else { return true };
        let (known, last) = *place;
        *place = (feature, at);
        last == 0 || known != feature || at.wrapping_sub(last) >= WINDOW as u16
    }
}

/// What the concept of a token adds, alone and together with those before it.
fn of_concepts(
    token: &Token,
    at: usize,
    concept: Concept,
    before: &[Option<(usize, Concept)>; BEFORE],
    add: &mut impl FnMut(Hash),
) {
    let own = |salt: u8| Hash::new(salt).byte(concept as u8).byte(u8::from(token.quoted));
    add(own(20));
    if token.begins {
        add(own(21));
    }
    if token.loud {
        add(own(22));
    }
    let near = before.iter().flatten().filter(|(other, _)| at - other <= REACH);
    let mut last: Option<Concept> = None;
    for (count, (other, earlier)) in near.enumerate() {
        add(own(23).byte(*earlier as u8).byte(u8::from(at - other <= 3)));
        match (count, last) {
            (1, Some(last)) => add(own(24).byte(last as u8).byte(*earlier as u8)),
            (2, Some(last)) => add(own(25).byte(last as u8).byte(*earlier as u8)),
            _ => {}
        }
        if count == 0 {
            last = Some(*earlier);
        }
    }
}

/// The part of the text that scores most: `sums` are what its tokens contribute, and no part is longer than
/// [`WINDOW`]. None of an empty text.
#[must_use]
pub fn best(sums: &[i32]) -> Option<(Range<usize>, i32)> {
    best_of(sums, WINDOW)
}

/// The same for parts of at most `window` tokens, of which there are no more than in [`WINDOW`].
fn best_of(sums: &[i32], window: usize) -> Option<(Range<usize>, i32)> {
    let window = window.clamp(1, WINDOW);
    // The sum of a part is that of all tokens to its end without that of all before its start. The least of these within
    // reach is the least of two: of the block of starts that ends here, from its beginning, and of the block before it,
    // to its end.
    let mut totals = Vec::with_capacity(sums.len() + 1);
    let mut total = 0_i32;
    totals.push(total);
    totals.extend(sums.iter().map(|sum| {
        total = total.saturating_add(*sum);
        total
    }));
    let starts = totals.get(..sums.len())?;
    let mut before = [i32::MAX; WINDOW + 1];
    let mut most: Option<(usize, i32)> = None;
    for (index, block) in starts.chunks(window).enumerate() {
        let first = index * window;
        let mut least = i32::MAX;
        for (at, start) in block.iter().enumerate() {
            least = least.min(*start);
            let reached = least.min(before.get(at + 1).copied().unwrap_or(i32::MAX));
            let score = totals.get(first + at + 1).map_or(i32::MIN, |total| total.saturating_sub(reached));
            if most.is_none_or(|(_, most)| score > most) {
                most = Some((first + at, score));
            }
        }
        let mut least = i32::MAX;
        for (place, start) in before.iter_mut().zip(block).rev() {
            least = least.min(*start);
            *place = least;
        }
    }
    let (last, score) = most?;
    let least = totals.get(last + 1)?.saturating_sub(score);
    let from = (last + 1).saturating_sub(window);
    let start = (from..=last).rev().find(|at| starts.get(*at) == Some(&least)).unwrap_or(from);
    Some((start..last + 1, score))
}

/// A part of a text that may be an order.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its tokens.
    pub tokens: Range<usize>,
    /// Its bytes.
    pub bytes: Range<usize>,
    /// What the table of weights makes of it.
    pub score: i32,
    /// What is known of it; nothing where the table alone says that it is no order.
    pub signs: Option<Signs>,
}

/// What was trained: a table of weights, and trees for a second look.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    /// One for each feature, signed.
    weights: &'a [u8],
    /// Added to every score.
    bias: i32,
    trees: Trees<'a>,
}

impl<'a> Model<'a> {
    /// The table and the trees; a table that is too short has no weight for what it lacks.
    #[must_use]
    pub const fn new(weights: &'a [u8], bias: i32, trees: &'a [u8]) -> Self {
        Self { weights, bias, trees: Trees::read(trees) }
    }

    /// As it is kept in a file: the weights, the bias, the trees.
    #[must_use]
    pub fn read(file: &'a [u8]) -> Self {
        let (weights, rest) = file.split_at_checked(FEATURES).unwrap_or((file, &[]));
        let (bias, trees) = rest.split_first_chunk().unwrap_or((&[0; 4], &[]));
        Self::new(weights, i32::from_le_bytes(*bias), trees)
    }

    /// The parts of a text that look most like an order, and what is known of them.
    #[must_use]
    pub fn parts(&self, words: &Words, text: &str) -> Vec<Part> {
        let tokens = tokens(text, &words.table);
        let mut sums = vec![0_i32; tokens.len()];
        let mut concepts = sums.clone();
        features(&tokens, |at, feature, of_concept| {
            let weight =
                self.weights.get(usize::from(feature)).map_or(0, |weight| i32::from(weight.cast_signed()));
            if let (Some(sum), Some(concept)) = (sums.get_mut(at), concepts.get_mut(at)) {
                *sum += weight;
                *concept += if of_concept { weight } else { 0 };
            }
        });
        let material = judge::Material { text, tokens: &tokens, sums: &sums, concepts: &concepts };
        let parts = judge::parts(&sums, DOUBTLESS - self.bias).into_iter();
        parts
            .map(|(part, score)| {
                let score = score.saturating_add(self.bias);
                let signs = (score > DOUBTLESS).then(|| material.signs(&part, score));
                Part { bytes: judge::bytes(&tokens, &part), signs, score, tokens: part }
            })
            .collect()
    }

    /// What looks most like an order in a text, as bytes of it, and how much, also in other letters than it is written in.
    #[must_use]
    pub fn read_through(&self, words: &Words, text: &str) -> Option<(Range<usize>, u16)> {
        self.read_all(words, text, &words.marks.turned(text))
    }

    /// As [`Self::read_through`], of a text in which [`MARKS`] occur: where, and which by their places in the list, in the
    /// order in which they do.
    #[must_use]
    pub fn read_marked(
        &self,
        words: &Words,
        text: &str,
        marks: &[(usize, usize)],
    ) -> Option<(Range<usize>, u16)> {
        self.read_all(words, text, &words.marks.turned_by(text, marks))
    }

    fn read_all(&self, words: &Words, text: &str, turned: &[Turned]) -> Option<(Range<usize>, u16)> {
        let turned = turned.iter().filter_map(|turned| {
            let (range, score) = self.look(words, &turned.text)?;
            Some((turned.range(&range), score))
        });
        // Of what is said twice, the text itself counts.
        turned.chain(self.look(words, text)).max_by_key(|(_, score)| *score)
    }

    /// What looks most like an order in a text, as bytes of it, and how much: 500 is undecided, 1,000 the most.
    #[must_use]
    pub fn look(&self, words: &Words, text: &str) -> Option<(Range<usize>, u16)> {
        let parts = self.parts(words, text).into_iter();
        let judged = parts.map(|part| {
            if self.trees.is_empty() {
                return (part.bytes, part.score);
            }
            let second = part.signs.map_or(UNSEEN, |signs| self.trees.judge(&signs));
            (part.bytes, (part.score / 2).saturating_add(second) / 2)
        });
        let (bytes, score) = judged.max_by_key(|(_, score)| *score)?;
        Some((bytes, confidence(score)))
    }
}

/// Of a score (64 is one unit of log odds), rising without end towards 1,000.
#[must_use]
pub const fn confidence(score: i32) -> u16 {
    let score = if score > 1 << 20 {
        1 << 20
    } else if score < -(1 << 20) {
        -(1 << 20)
    } else {
        score
    };
    let size = score.abs();
    (500 + score * 500 / (size + 256)) as u16
}
