//! When a child that keeps failing may be started again. Nobody's failing child keeps another's from starting, unless
//! the program itself says nothing at all.

use std::{collections::HashMap, time::Duration};

/// Pause after the first failure; each that follows doubles it.
const FIRST_PAUSE_MS: u64 = 100;

/// Owners whose failures are remembered. Beyond, those are forgotten whose pause ends first.
const OWNERS_MAX: usize = 4_096;

/// A child that lived for so long has not failed, whatever ended it.
pub(super) const LIVED: Duration = Duration::from_secs(10);

/// How a child came to its end, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// It never said anything: whoever starts it next sees the same.
    Mute,
    /// It was opened, and of no use to anybody. Once that may be the fault of what it was asked.
    Useless,
    /// It answered somebody, and ended soon all the same. Says nothing about the next.
    Young,
    /// It worked.
    Old,
}

impl End {
    /// The end of a child that lived for so long.
    pub(super) fn of(spoke: bool, served: bool, lived: Duration) -> Self {
        match (spoke, served) {
            _ if lived >= LIVED => Self::Old,
            (_, true) => Self::Young,
            (true, false) => Self::Useless,
            (false, false) => Self::Mute,
        }
    }
}

/// Consecutive failures, and the time before which nothing is started.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    until_us: u64,
}

impl Failures {
    /// After one more there is a pause, unless it is one of the first `free`.
    fn one_more(&mut self, free: u32, now_us: u64, pause_ms_max: u64) {
        let doubled = self.count.checked_sub(free).map(|times| FIRST_PAUSE_MS << times.min(20));
        let pause_ms = doubled.unwrap_or(0).min(pause_ms_max);
        *self = Self { count: self.count.saturating_add(1), until_us: now_us + pause_ms * 1_000 };
    }
}

/// The failures of one server's children.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    all: Failures,
    /// By whose they were.
    own: HashMap<String, Failures>,
}

impl Backoff {
    /// How long `owner` waits for its next child.
    pub(super) fn left_us(&self, owner: &str, now_us: u64) -> u64 {
        let own = self.own.get(owner).map_or(0, |failures| failures.until_us);
        own.max(self.all.until_us).saturating_sub(now_us)
    }

    /// A child of `owner` ended.
    pub(super) fn ended(&mut self, owner: &str, end: End, now_us: u64, pause_ms_max: u64) {
        match end {
            End::Mute => self.all.one_more(0, now_us, pause_ms_max),
            End::Useless => {
                if self.own.len() >= OWNERS_MAX && !self.own.contains_key(owner) {
                    self.forget();
                }
                self.own.entry(owner.to_owned()).or_default().one_more(1, now_us, pause_ms_max);
            }
            End::Young => {}
            End::Old => {
                self.all = Failures::default();
                self.own.remove(owner);
            }
        }
    }

    fn forget(&mut self) {
        let first = self.own.iter().min_by_key(|(_, failures)| failures.until_us);
        if let Some(owner) = first.map(|(owner, _)| owner.clone()) {
            self.own.remove(&owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pauses, in milliseconds, after ends of children of `a`.
    fn pauses(backoff: &mut Backoff, ends: &[End]) -> Vec<u64> {
        let pause = |end: &End| {
            backoff.ended("a", *end, 7, 1_000);
            backoff.left_us("a", 7) / 1_000
        };
        ends.iter().map(pause).collect()
    }

    #[test]
    fn pauses_double_until_a_child_has_worked_for_a_while() {
        use End::{Mute, Old, Useless, Young};
        for (failure, expected) in [
            (Mute, [100, 200, 200, 400, 800, 1_000, 1_000, 0, 100, 200]),
            (Useless, [0, 100, 100, 200, 400, 800, 1_000, 0, 0, 100]),
        ] {
            let mut backoff = Backoff::default();
            let ends = [failure, failure, Young, failure, failure, failure, failure, Old, failure, failure];
            assert_eq!(pauses(&mut backoff, &ends), expected);
            assert_eq!(backoff.left_us("a", 50_007), expected[9] * 1_000 - 50_000, "time passes");
        }
        let short = LIVED - Duration::from_millis(1);
        for (spoke, served, lived, end) in [
            (false, false, short, Mute),
            (true, false, short, Useless),
            (true, true, short, Young),
            (true, true, LIVED, Old),
            (true, false, LIVED, Old),
        ] {
            assert_eq!(End::of(spoke, served, lived), end);
        }
    }

    #[test]
    fn only_a_program_that_says_nothing_makes_another_caller_wait() {
        let mut backoff = Backoff::default();
        backoff.ended("a", End::Useless, 0, 1_000);
        backoff.ended("a", End::Useless, 0, 1_000);
        assert_eq!([backoff.left_us("a", 0), backoff.left_us("b", 0)], [100_000, 0]);
        backoff.ended("a", End::Mute, 0, 1_000);
        assert_eq!(backoff.left_us("b", 0), 100_000);
    }

    #[test]
    fn the_owners_that_are_remembered_are_bounded() {
        let mut backoff = Backoff::default();
        for number in 0..OWNERS_MAX as u64 + 10 {
            for _ in 0..2 {
                backoff.ended(&number.to_string(), End::Useless, number, 1_000);
            }
        }
        assert_eq!(backoff.own.len(), OWNERS_MAX);
        assert_eq!([backoff.left_us("9", 0), backoff.left_us("10", 0)], [0, 100_010]);
    }
}
