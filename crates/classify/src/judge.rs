//! The second look: what stands in the part that the table of weights found, and around it, judged by small trees.
//!
//! The table adds up what words say one by one; the trees see which of them stand together, and in what surroundings.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use super::{lexicon::Concept, tokens::Token};

/// Concepts are numbered below this.
const CONCEPTS: usize = Concept::COUNT;
/// Features before those of concepts.
const PLAIN: usize = 20;
/// What is known of a part.
pub const SIGNS: usize = PLAIN + 4 * CONCEPTS;
/// Tokens before and after a part that are its surroundings.
const NEAR: usize = 16;
/// A token that says so much says a lot.
const LOUD_SUM: i32 = 20;

/// What is known of one part of a text: small numbers, each of one meaning.
pub type Signs = [i16; SIGNS];

/// What a part is measured by: the text, its tokens, what each of them scores by its words and by its concepts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Material<'a> {
    pub(super) text: &'a str,
    pub(super) tokens: &'a [Token],
    pub(super) sums: &'a [i32],
    pub(super) concepts: &'a [i32],
}

fn small(value: i32) -> i16 {
    value.clamp(-30_000, 30_000) as i16
}

fn count(value: usize, most: usize) -> i16 {
    value.min(most) as i16
}

impl Material<'_> {
    /// What is known of a part that scores so much.
    pub(super) fn signs(&self, part: &Range<usize>, score: i32) -> Signs {
        let mut signs = [0; SIGNS];
        let plain = self.plain(part, score);
        signs.iter_mut().zip(plain).for_each(|(sign, value)| *sign = value);
        let near = part.start.saturating_sub(NEAR)..(part.end + NEAR).min(self.tokens.len());
        for (at, token) in self.tokens.iter().enumerate() {
            let Some(concept) = token.concept else { continue };
            let concept = concept as usize - 1;
            let mut add = |block: usize, most: i16| {
                if let Some(sign) = signs.get_mut(PLAIN + block * CONCEPTS + concept) {
                    *sign = (*sign + 1).min(most);
                }
            };
            if part.contains(&at) {
                add(0, 7);
                if token.begins {
                    add(1, 3);
                }
            } else {
                if near.contains(&at) {
                    add(2, 7);
                }
                add(3, 15);
            }
        }
        signs
    }

    fn plain(&self, part: &Range<usize>, score: i32) -> [i16; PLAIN] {
        let sums = self.sums.get(part.clone()).unwrap_or_default();
        let tokens = self.tokens.get(part.clone()).unwrap_or_default();
        let length = part.len().max(1) as i32;
        let outside = self.sums.iter().enumerate().filter(|(at, _)| !part.contains(at)).map(|(_, sum)| *sum);
        let (mut above, mut others) = (0_i32, 0_i32);
        outside.for_each(|sum| (above, others) = (above.saturating_add(sum.max(0)), others + 1));
        let mut sorted: Vec<i32> = sums.into();
        sorted.sort_unstable_by(|one, other| other.cmp(one));
        let top = |at: usize| sorted.get(at).copied().unwrap_or_default();
        let of_concepts: i32 = self.concepts.get(part.clone()).unwrap_or_default().iter().sum();
        let having = |fits: fn(&Token) -> bool| count(tokens.iter().filter(|one| fits(one)).count(), 60);
        let mut known = 0_u64;
        tokens.iter().filter_map(|one| one.concept).for_each(|one| known |= 1 << (one as u64));
        [
            small(score),
            small(length),
            small(score * 8 / length),
            count(self.tokens.len(), 2_000),
            small(above * 16 / others.max(1)),
            count(sums.iter().filter(|sum| **sum > LOUD_SUM).count(), 60),
            small(top(0)),
            small(top(1)),
            small(top(2)),
            count(part.start, 60),
            count(self.tokens.len().saturating_sub(part.end), 60),
            having(|one| one.quoted),
            having(|one| one.loud),
            having(|one| one.begins),
            known.count_ones() as i16,
            small(of_concepts),
            small(score - of_concepts),
            self.foreign(part),
            self.foreign(&(0..self.tokens.len())),
            having(|one| one.concept.is_none()),
        ]
    }

    /// Of a hundred bytes of a part, how many are not ASCII.
    fn foreign(&self, part: &Range<usize>) -> i16 {
        let bytes = self.text.as_bytes().get(bytes(self.tokens, part)).unwrap_or_default();
        let foreign = bytes.iter().filter(|byte| !byte.is_ascii()).count();
        count(foreign * 100 / bytes.len().max(1), 100)
    }
}

/// Nodes of a tree: it is full, of this depth, so that a node's children follow from its place.
pub const DEPTH: usize = 4;
const NODES: usize = (1 << DEPTH) - 1;
const LEAVES: usize = 1 << DEPTH;
/// Bytes of a tree in a file: for each node a sign and a border, for each leaf what it adds.
pub const TREE_BYTES: usize = NODES * 3 + LEAVES * 2;

/// Trees, as they are kept in a file.
#[derive(Clone, Copy, Debug)]
pub struct Trees<'a>(&'a [u8]);

impl<'a> Trees<'a> {
    /// The trees of a file; what is left of a tree at its end counts nothing.
    #[must_use]
    pub const fn read(file: &'a [u8]) -> Self {
        Self(file)
    }

    /// Whether there are none: then the table alone decides.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.len() < TREE_BYTES
    }

    /// What they make of a part: 64 is one unit of log odds.
    #[must_use]
    pub fn judge(&self, signs: &Signs) -> i32 {
        let sum: i32 = self.0.chunks_exact(TREE_BYTES).map(|tree| leaf(tree, signs)).sum();
        sum / 16
    }
}

fn leaf(tree: &[u8], signs: &Signs) -> i32 {
    let mut node = 0;
    for _ in 0..DEPTH {
        let Some([sign, low, high]) = tree.get(node * 3..node * 3 + 3) else { return 0 };
        let value = signs.get(usize::from(*sign)).copied().unwrap_or_default();
        node = 2 * node + 1 + usize::from(value > i16::from_le_bytes([*low, *high]));
    }
    let at = NODES * 3 + (node - NODES) * 2;
    match tree.get(at..at + 2) {
        Some([low, high]) => i32::from(i16::from_le_bytes([*low, *high])),
        _ => 0,
    }
}

/// Tokens of a short part: an order of one sentence in the middle of words that look a little like one.
const SHORT: usize = 14;

/// The part of a text that scores most; of what lies before and after it the one that does, and the best short one, as far
/// as they score more than `least`.
pub(super) fn parts(sums: &[i32], least: i32) -> Vec<(Range<usize>, i32)> {
    let Some((first, score)) = super::best(sums) else { return Vec::new() };
    let mut out = vec![(first.clone(), score)];
    if score > least {
        let before = super::best(sums.get(..first.start).unwrap_or_default());
        let after = super::best(sums.get(first.end..).unwrap_or_default())
            .map(|(part, score)| (part.start + first.end..part.end + first.end, score));
        let second = before.into_iter().chain(after).max_by_key(|(_, score)| *score);
        let short = super::best_of(sums, SHORT).filter(|(part, _)| *part != first);
        out.extend(second.into_iter().chain(short).filter(|(_, score)| *score > least));
    }
    out
}

/// The bytes of some tokens.
pub(super) fn bytes(tokens: &[Token], part: &Range<usize>) -> Range<usize> {
    let start = tokens.get(part.start).map_or(0, |token| token.range().start);
    let last = part.end.checked_sub(1).and_then(|at| tokens.get(at));
    start..last.map_or(start, |token| token.range().end.max(start))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::{SIGNS, TREE_BYTES, Trees, parts};

    #[test]
    fn a_tree_adds_the_leaf_that_the_signs_lead_to_and_half_a_tree_adds_nothing() {
        // Every node asks whether the first sign is above 4; the first leaf takes, the last one gives.
        let mut tree: std::vec::Vec<u8> = [0, 4, 0].repeat(15);
        let leaves = (0..16).map(|leaf| if leaf == 0 { -1_600 } else { 160 * i16::from(leaf == 15) });
        tree.extend(leaves.flat_map(i16::to_le_bytes));
        assert_eq!(tree.len(), TREE_BYTES);
        let judge = |first: i16, file: &[u8]| {
            let mut signs = [0; SIGNS];
            signs[0] = first;
            Trees::read(file).judge(&signs)
        };
        assert_eq!((judge(4, &tree), judge(5, &tree)), (-100, 10));
        let twice = tree.repeat(2);
        assert_eq!((judge(5, &twice), judge(5, &twice[..TREE_BYTES + 9]), judge(5, &[])), (20, 10, 0));
    }

    #[test]
    fn the_parts_of_a_text_do_not_overlap_and_the_second_has_to_be_worth_it() {
        let mut sums = [-3_i32; 200];
        sums[20..24].fill(10);
        sums[120..123].fill(10);
        let found = parts(&sums, 5);
        assert_eq!(found, [(20..24, 40), (120..123, 30)]);
        let long = parts(&[2; 60], 5);
        assert_eq!(long.last().map(|(part, score)| (part.len(), *score)), Some((14, 28)));
        assert_eq!((parts(&sums, 30).len(), parts(&[-1], 0).len(), parts(&[], 0).len()), (1, 1, 0));
    }
}
