//! What a step came to: how many tests passed, failed and were skipped, and why.

use std::ops::AddAssign;

/// Counts, and the sentences that explain those which did not pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that did not run.
    pub skipped: u64,
    /// One line for each failure or skip that has something to say.
    pub notes: Vec<String>,
}

impl Verdict {
    /// One test that passed.
    pub fn passed() -> Self {
        Self { passed: 1, ..Self::default() }
    }

    /// One test that failed.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self { failed: 1, notes: vec![reason.into()], ..Self::default() }
    }

    /// One test that did not run.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self { skipped: 1, notes: vec![reason.into()], ..Self::default() }
    }

    /// This try, or the second one where that passed: then the failures of the first are told beside it.
    pub fn or_second(self, mut second: Self) -> Self {
        if second.failed == 0 {
            let failures = self.notes.iter().filter(|note| !note.starts_with("skip "));
            second.notes.extend(failures.map(|note| format!("passed at the second try: {note}")));
        }
        second
    }

    /// A step that could not run at all: a failure where everything must run (CI), else a skip.
    pub fn missing(reason: impl Into<String>) -> Self {
        if in_ci() { Self::failed(reason) } else { Self::skipped(reason) }
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.notes.extend(other.notes);
    }
}

/// True on a build server, by the variable that all of them set.
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

#[cfg(test)]
mod tests {
    use super::Verdict;

    #[test]
    fn a_second_try_that_passes_counts_and_tells_what_failed_before() {
        let both = Verdict::failed("not ok a call").or_second(Verdict::passed());
        assert_eq!((both.passed, both.failed), (1, 0));
        assert_eq!(both.notes, ["passed at the second try: not ok a call"]);
    }

    #[test]
    fn a_second_try_that_fails_too_is_a_failure() {
        let both = Verdict::failed("not ok a call").or_second(Verdict::failed("not ok another"));
        assert_eq!((both.failed, both.notes), (1, vec![String::from("not ok another")]));
    }
}
