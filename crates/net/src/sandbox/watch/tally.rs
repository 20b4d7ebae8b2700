//! Counts attempts, so that a flood of them cannot drown what else is in the ledger: of equal ones the first is told at
//! once and the rest as a number, and of different ones so many a minute.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    incident::{Incident, IncidentKind, Report},
    visible::visible,
};

/// How often what was counted is told.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Different targets of one kind in one window; beyond, they are counted together.
const TARGETS_MAX: usize = 64;
/// Characters of a target.
const TARGET_CHARS_MAX: usize = 512;
/// Attempts in a row after which every further one has to wait: a flood costs us as much as who makes it.
const BURST: u32 = 256;
/// So long.
pub(super) const DELAY: Duration = Duration::from_millis(2);
/// What stands for the targets that are not told apart.
const OTHERS: &str = "others";

/// One kind of attempt: what, on what, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attempt {
    pub(super) kind: IncidentKind,
    pub(super) target: String,
    pub(super) detail: String,
}

pub(super) struct Tally {
    server: Arc<str>,
    report: Report,
    /// How often each was seen since it was last told.
    seen: BTreeMap<Attempt, u64>,
    targets: BTreeMap<IncidentKind, usize>,
    window_end: Instant,
    burst: u32,
}

impl Tally {
    pub(super) fn new(server: Arc<str>, report: Report, now: Instant) -> Self {
        let (seen, targets) = (BTreeMap::new(), BTreeMap::new());
        Self { server, report, seen, targets, window_end: now + WINDOW, burst: 0 }
    }

    /// Counts one; whether it should wait.
    pub(super) fn add(&mut self, mut attempt: Attempt) -> bool {
        attempt.target = visible(&attempt.target.chars().take(TARGET_CHARS_MAX).collect::<String>());
        self.burst = self.burst.saturating_add(1);
        if let Some(count) = self.seen.get_mut(&attempt) {
            *count = count.saturating_add(1);
        } else {
            let targets = self.targets.entry(attempt.kind).or_default();
            if *targets < TARGETS_MAX {
                *targets += 1;
                self.tell(&attempt, 1);
                self.seen.insert(attempt, 0);
            } else {
                let others = Attempt { target: OTHERS.to_owned(), detail: String::new(), kind: attempt.kind };
                *self.seen.entry(others).or_default() += 1;
            }
        }
        self.burst > BURST
    }

    /// Time until [`Self::tick`] has something to do; `None` where nothing was counted.
    pub(super) fn due(&self, now: Instant) -> Option<Duration> {
        (!self.seen.is_empty()).then(|| self.window_end.saturating_duration_since(now))
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if now >= self.window_end {
            self.flush();
            self.window_end = now + WINDOW;
        }
    }

    /// Tells what was counted and forgets it.
    pub(super) fn flush(&mut self) {
        for (attempt, count) in std::mem::take(&mut self.seen) {
            if count > 0 {
                self.tell(&attempt, count);
            }
        }
        self.targets.clear();
        self.burst = 0;
    }

    fn tell(&self, attempt: &Attempt, count: u64) {
        let Attempt { kind, target, detail } = attempt.clone();
        tracing::warn!(
            server = %self.server, kind = kind.name(), target_of_it = %target, detail, count, "a confined child tried what it may not"
        );
        self.report.send(Incident { server: Arc::clone(&self.server), kind, target, detail, count });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_flood_becomes_numbers_and_hides_no_other_attempt() {
        let told: Arc<Mutex<Vec<Incident>>> = Arc::default();
        let sink = Arc::clone(&told);
        let start = Instant::now();
        let report = Report::new(move |incident| sink.lock().unwrap().push(incident));
        let mut tally = Tally::new("s".into(), report, start);
        assert_eq!(tally.due(start), None);
        let attempt = |kind, target: &str| Attempt { kind, target: target.to_owned(), detail: String::new() };
        for number in 0..1_000 {
            tally.add(attempt(IncidentKind::Read, &format!("/secret/{number}")));
            tally.add(attempt(IncidentKind::Read, "/secret/0"));
        }
        assert!(tally.add(attempt(IncidentKind::Connect, "10.0.0.1:80\u{202e}\n")), "a flood has to wait");
        let seen = told.lock().unwrap().clone();
        assert_eq!(seen.len(), TARGETS_MAX + 1);
        assert_eq!(seen.last().unwrap().target, "10.0.0.1:80\\u{202e}\\u{a}");
        assert!(tally.due(start).is_some_and(|due| due == WINDOW));

        tally.tick(start + WINDOW / 2);
        assert_eq!(told.lock().unwrap().len(), seen.len(), "not before the window ends");
        tally.tick(start + WINDOW);
        let counted: BTreeMap<String, u64> = told
            .lock()
            .unwrap()
            .iter()
            .skip(seen.len())
            .map(|incident| (incident.target.clone(), incident.count))
            .collect();
        let expected = [("/secret/0".to_owned(), 1_000), (OTHERS.to_owned(), 1_000 - TARGETS_MAX as u64)];
        assert_eq!(counted, BTreeMap::from(expected));
        assert!(!tally.add(attempt(IncidentKind::Read, "/secret/0")));
    }

    #[test]
    fn a_target_is_bounded() {
        let told: Arc<Mutex<Vec<Incident>>> = Arc::default();
        let sink = Arc::clone(&told);
        let report = Report::new(move |incident| sink.lock().unwrap().push(incident));
        let mut tally = Tally::new("s".into(), report, Instant::now());
        tally.add(Attempt { kind: IncidentKind::Read, target: "\u{7}".repeat(5_000), detail: String::new() });
        assert!(told.lock().unwrap()[0].target.len() <= TARGET_CHARS_MAX * "\\u{7}".len());
    }
}
