//! The trees of the second look: gradient boosting on what is known of parts of texts. Whole numbers where it matters, a
//! fixed order and seed, so that the same parts give the same trees.

use portcullis_inspect::learned::{DEPTH, SIGNS, Signs};

use crate::{grammar::Chance, train::sigmoid};

/// Trees.
const TREES: usize = 100;
/// What a tree is trusted.
const RATE: f64 = 0.18;
/// Of the parts, and of the signs, each tree sees so many in a hundred.
const ROWS: usize = 40;
const COLUMNS: usize = 35;
/// What a leaf needs, and what draws it to nothing.
const LEAST: f64 = 8.0;
const RIDGE: f64 = 10.0;
/// Borders that are tried for each sign.
const BINS: usize = 32;
/// Units of a leaf in one of log odds: 64, and 16 for rounding.
const UNIT: f64 = 64.0 * 16.0;

/// A part to learn from.
#[derive(Clone, Debug)]
pub struct Example {
    /// What is known of it.
    pub signs: Signs,
    /// Whether it is an order.
    pub bad: bool,
    /// How much it counts.
    pub weight: f32,
}

struct Table {
    /// Borders of each sign, rising.
    borders: Vec<Vec<i16>>,
    /// For each sign the bin of each example.
    bins: Vec<Vec<u8>>,
}

impl Table {
    fn new(examples: &[Example]) -> Self {
        let (mut borders, mut bins) = (Vec::new(), Vec::new());
        for sign in 0..SIGNS {
            let value = |example: &Example| example.signs.get(sign).copied().unwrap_or_default();
            let mut values: Vec<i16> = examples.iter().map(value).collect();
            values.sort_unstable();
            let mut own: Vec<i16> = (1..BINS)
                .filter_map(|at| values.get(at * values.len() / BINS))
                .copied()
                // What is nearly always nothing still has a border above it, and above small numbers.
                .chain([0, 1, 2, 3])
                .filter(|border| values.last().is_some_and(|last| border < last))
                .collect();
            own.sort_unstable();
            own.dedup();
            bins.push(
                examples.iter().map(|one| own.partition_point(|border| *border < value(one)) as u8).collect(),
            );
            borders.push(own);
        }
        Self { borders, bins }
    }
}

/// The trees, as the crate `inspect` reads them.
pub fn boost(examples: &[Example], seed: u64) -> Vec<u8> {
    let table = Table::new(examples);
    let mut chance = Chance::new(seed);
    let mut scores = vec![0.0_f64; examples.len()];
    let mut out = Vec::new();
    for _ in 0..TREES {
        let slopes: Vec<(f64, f64)> = examples
            .iter()
            .zip(&scores)
            .map(|(one, score)| {
                let p = f64::from(sigmoid(*score as f32));
                let weight = f64::from(one.weight);
                ((p - f64::from(u8::from(one.bad))) * weight, (p * (1.0 - p)).max(1e-6) * weight)
            })
            .collect();
        let rows: Vec<u32> = (0..examples.len() as u32).filter(|_| chance.percent(ROWS)).collect();
        let signs: Vec<usize> = (0..SIGNS).filter(|_| chance.percent(COLUMNS)).collect();
        let tree = Tree::grow(&table, &slopes, rows, &signs);
        for (at, score) in scores.iter_mut().enumerate() {
            *score += f64::from(tree.value(&table, at)) / UNIT;
        }
        tree.write(&table, &mut out);
    }
    out
}

/// A full tree: sign and bin of each node, value of each leaf.
struct Tree {
    nodes: Vec<(usize, u8)>,
    leaves: Vec<i16>,
}

impl Tree {
    fn grow(table: &Table, slopes: &[(f64, f64)], rows: Vec<u32>, signs: &[usize]) -> Self {
        let mut level = vec![rows];
        let mut nodes = Vec::new();
        for _ in 0..DEPTH {
            let mut next = Vec::new();
            for rows in level {
                let (sign, bin) = split(table, slopes, &rows, signs).unwrap_or((0, u8::MAX));
                let bins = table.bins.get(sign).map(Vec::as_slice).unwrap_or_default();
                let (low, high) = rows
                    .into_iter()
                    .partition(|at| bins.get(*at as usize).copied().unwrap_or_default() <= bin);
                nodes.push((sign, bin));
                next.extend([low, high]);
            }
            level = next;
        }
        let leaf = |rows: &Vec<u32>| {
            let (slope, bend) = sum(slopes, rows);
            (-slope / (bend + RIDGE) * RATE * UNIT).round().clamp(-30_000.0, 30_000.0) as i16
        };
        Self { nodes, leaves: level.iter().map(leaf).collect() }
    }

    fn value(&self, table: &Table, at: usize) -> i16 {
        let mut node = 0;
        for _ in 0..DEPTH {
            let Some((sign, bin)) = self.nodes.get(node) else { return 0 };
            let own = table.bins.get(*sign).and_then(|bins| bins.get(at)).copied().unwrap_or_default();
            node = 2 * node + 1 + usize::from(own > *bin);
        }
        self.leaves.get(node - self.nodes.len()).copied().unwrap_or_default()
    }

    fn write(&self, table: &Table, out: &mut Vec<u8>) {
        for (sign, bin) in &self.nodes {
            let border = table.borders.get(*sign).and_then(|own| own.get(usize::from(*bin)));
            out.push(*sign as u8);
            out.extend(border.copied().unwrap_or(i16::MAX).to_le_bytes());
        }
        for leaf in &self.leaves {
            out.extend(leaf.to_le_bytes());
        }
    }
}

fn sum(slopes: &[(f64, f64)], rows: &[u32]) -> (f64, f64) {
    let of = rows.iter().filter_map(|at| slopes.get(*at as usize));
    of.fold((0.0, 0.0), |(slope, bend), one| (slope + one.0, bend + one.1))
}

/// The sign and the border that part these examples best.
fn split(table: &Table, slopes: &[(f64, f64)], rows: &[u32], signs: &[usize]) -> Option<(usize, u8)> {
    let all = sum(slopes, rows);
    let gain = |(slope, bend): (f64, f64)| slope * slope / (bend + RIDGE);
    let mut best: Option<(f64, usize, u8)> = None;
    for sign in signs {
        let (Some(bins), Some(borders)) = (table.bins.get(*sign), table.borders.get(*sign)) else { continue };
        let mut sums = [(0.0_f64, 0.0_f64); BINS + 8];
        for at in rows {
            let at = *at as usize;
            if let (Some(bin), Some(one)) = (bins.get(at), slopes.get(at))
                && let Some(sum) = sums.get_mut(usize::from(*bin))
            {
                *sum = (sum.0 + one.0, sum.1 + one.1);
            }
        }
        let mut low = (0.0, 0.0);
        for (bin, one) in sums.iter().enumerate().take(borders.len()) {
            low = (low.0 + one.0, low.1 + one.1);
            let high = (all.0 - low.0, all.1 - low.1);
            if low.1 < LEAST || high.1 < LEAST {
                continue;
            }
            let won = gain(low) + gain(high) - gain(all);
            if won > best.map_or(1e-3, |(best, _, _)| best) {
                best = Some((won, *sign, bin as u8));
            }
        }
    }
    best.map(|(_, sign, bin)| (sign, bin))
}

#[cfg(test)]
mod tests {
    use portcullis_inspect::learned::Trees;

    use super::*;

    #[test]
    fn trees_learn_what_counts_only_together_and_are_the_same_each_time() {
        let mut chance = Chance::new(3);
        let examples: Vec<Example> = (0..2_000)
            .map(|_| {
                let mut signs = [0; SIGNS];
                signs.fill_with(|| chance.below(10) as i16);
                let bad =
                    signs.get(4).is_some_and(|one| *one > 6) && signs.get(9).is_some_and(|one| *one < 3);
                Example { signs, bad, weight: 1.0 }
            })
            .collect();
        let (one, other) = (boost(&examples, 5), boost(&examples, 5));
        assert!(one == other);
        let trees = Trees::read(&one);
        let right = examples.iter().filter(|one| (trees.judge(&one.signs) > 0) == one.bad).count();
        assert!(right > 1_900, "{right}");
    }
}
