//! Shares with their confidence, and recall at a fixed share of false alarms.

use std::fmt;

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many.
    pub hits: usize,
    /// Of how many.
    pub of: usize,
}

impl Share {
    /// Counts one more.
    pub fn count(&mut self, hit: bool) {
        self.hits += usize::from(hit);
        self.of += 1;
    }

    /// All of them together.
    pub fn sum<'a>(shares: impl Iterator<Item = &'a Self>) -> Self {
        shares.fold(Self::default(), |all, one| Self { hits: all.hits + one.hits, of: all.of + one.of })
    }

    /// The share itself; nothing of nothing is nothing.
    pub fn value(self) -> f64 {
        if self.of == 0 { 0.0 } else { self.hits as f64 / self.of as f64 }
    }

    /// Wilson's interval at 95 %: also right for few and for extremes.
    pub fn interval(self) -> (f64, f64) {
        if self.of == 0 {
            return (0.0, 1.0);
        }
        let (n, p, z) = (self.of as f64, self.value(), 1.959_964_f64);
        let middle = p + z * z / (2.0 * n);
        let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + z * z / n;
        (((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.interval();
        write!(
            f,
            "{:.1} % ({} of {}, {:.1} to {:.1})",
            self.value() * 100.0,
            self.hits,
            self.of,
            low * 100.0,
            high * 100.0
        )
    }
}

/// The least score that at most this share of the benign texts reaches.
pub fn threshold(benign: &[f64], rate: f64) -> f64 {
    let mut sorted = benign.to_vec();
    sorted.sort_by(|one, other| other.total_cmp(one));
    let allowed = (sorted.len() as f64 * rate).floor() as usize;
    // More than the score of the first that may not be flagged.
    sorted.get(allowed).map_or(f64::NEG_INFINITY, |score| score.next_up())
}

/// The mean of shares: each class counts the same.
pub fn mean<'a>(shares: impl Iterator<Item = &'a Share>) -> f64 {
    let shares: Vec<_> = shares.collect();
    shares.iter().map(|share| share.value()).sum::<f64>() / shares.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_agrees_with_published_values() {
        let close = |one: f64, other: f64| (one - other).abs() < 5e-4;
        for (hits, of, low, high) in
            [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (8, 10, 0.4902, 0.9433), (50, 100, 0.4038, 0.5962)]
        {
            let (l, h) = Share { hits, of }.interval();
            assert!(close(l, low) && close(h, high), "{hits}/{of}: {l} {h}");
        }
    }

    #[test]
    fn a_threshold_lets_no_more_benign_texts_over_it_than_allowed() {
        let benign: Vec<f64> = (0..1_000).map(|n| f64::from(n % 500)).collect();
        for rate in [0.0, 0.001, 0.01, 0.5] {
            let least = threshold(&benign, rate);
            let over = benign.iter().filter(|score| **score >= least).count();
            assert!(over as f64 <= rate * 1_000.0, "{rate}: {over}");
        }
        assert_eq!(threshold(&[], 0.01), f64::NEG_INFINITY);
    }
}
