//! How many calls a caller has made within the last minute.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Seconds of one slot.
const SLOT_S: u64 = 5;
/// Slots of a minute.
const SLOTS: usize = 12;

#[derive(Debug, Default)]
struct Minute {
    /// The slot that counts now, since 1970.
    slot: u64,
    calls: [u32; SLOTS],
}

impl Minute {
    /// Forgets what is older than a minute.
    fn advance(&mut self, slot: u64) {
        let passed = slot.saturating_sub(self.slot).min(SLOTS as u64);
        for step in 1..=passed {
            let old = (self.slot + step) % SLOTS as u64;
            if let Some(calls) = usize::try_from(old).ok().and_then(|old| self.calls.get_mut(old)) {
                *calls = 0;
            }
        }
        if passed as usize >= SLOTS {
            self.calls = [0; SLOTS];
        }
        self.slot = self.slot.max(slot);
    }

    fn sum(&self) -> u64 {
        self.calls.iter().map(|calls| u64::from(*calls)).sum()
    }
}

/// The calls of each caller within the last minute, to five seconds.
#[derive(Debug, Default)]
pub struct Pace(Mutex<HashMap<Box<str>, Minute>>);

impl Pace {
    /// Counts one more call of `caller`; says how many there were before. At most `entries_max` callers are
    /// remembered; beyond, those go who have been silent for a minute.
    pub fn count(&self, caller: &str, now_s: u64, entries_max: u64) -> u64 {
        let slot = now_s / SLOT_S;
        let mut minutes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !minutes.contains_key(caller) {
            if minutes.len() as u64 >= entries_max {
                minutes.retain(|_, minute| minute.slot + SLOTS as u64 > slot);
            }
            if minutes.len() as u64 >= entries_max {
                // Nobody can be counted any more, so the caller counts as the fastest there is.
                return u64::MAX;
            }
            minutes.insert(caller.into(), Minute { slot, ..Minute::default() });
        }
        let Some(minute) = minutes.get_mut(caller) else { return u64::MAX };
        minute.advance(slot);
        let before = minute.sum();
        let here = usize::try_from(minute.slot % SLOTS as u64).unwrap_or_default();
        if let Some(calls) = minute.calls.get_mut(here) {
            *calls = calls.saturating_add(1);
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Pace;

    proptest! {
        #[test]
        fn the_count_is_that_of_the_last_minute_to_five_seconds(steps in proptest::collection::vec(0_u64..40, 1..60)) {
            let (pace, mut now, mut times) = (Pace::default(), 1_000_000_u64, Vec::<u64>::new());
            for step in steps {
                now += step;
                let within = |s: u64| times.iter().filter(|at| now - **at < s).count() as u64;
                let (least, most) = (within(55), within(61));
                let counted = pace.count("a", now, 10);
                prop_assert!((least..=most).contains(&counted), "{counted} is not within {least}..={most}");
                times.push(now);
            }
        }
    }

    #[test]
    fn callers_beyond_the_bound_count_as_the_fastest_until_others_are_silent() {
        let pace = Pace::default();
        assert_eq!([pace.count("a", 0, 1), pace.count("a", 1, 1)], [0, 1]);
        assert_eq!(pace.count("b", 1, 1), u64::MAX);
        assert_eq!(pace.count("b", 70, 1), 0);
    }
}
