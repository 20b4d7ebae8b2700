//! Token buckets and concurrency counts per key, bounded in number.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

const SHARDS: usize = 16;

#[derive(Debug)]
struct Bucket {
    /// Microtokens, so that integers suffice. Below nothing it is a debt, which the rate pays off.
    level: i64,
    at_us: u64,
    refusing: bool,
}

/// What a bucket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Within the rate.
    Within,
    /// Beyond it, and the message before was not: worth a record.
    FirstBeyond,
    /// Beyond it, like the message before.
    Beyond,
}

/// Rates per key: a bucket of `burst` tokens that refills at `rate` per second.
#[derive(Debug)]
pub struct Rates {
    shards: [Mutex<HashMap<Box<str>, Bucket>>; SHARDS],
    hasher: RandomState,
}

impl Default for Rates {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

impl Rates {
    /// Takes `cost` tokens of `key` at `now_us`.
    pub fn take(&self, key: &str, cost: u64, rate: u64, burst: u64, entries_max: u64, now_us: u64) -> Taken {
        let Some(shard) = self.shards.get(self.hasher.hash_one(key) as usize % SHARDS) else {
            return Taken::Within;
        };
        let mut buckets = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let full = micro(burst);
        if !buckets.contains_key(key) {
            if buckets.len() >= (entries_max as usize / SHARDS).max(1) {
                forget_longest_idle(&mut buckets);
            }
            buckets.insert(key.into(), Bucket { level: full, at_us: now_us, refusing: false });
        }
        let Some(bucket) = buckets.get_mut(key) else { return Taken::Within };
        let gained = now_us.saturating_sub(bucket.at_us).saturating_mul(rate);
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        bucket.level = bucket.level.saturating_add(gained).min(full);
        bucket.at_us = bucket.at_us.max(now_us);
        let price = micro(cost);
        if bucket.level >= price {
            bucket.level -= price;
            bucket.refusing = false;
            return Taken::Within;
        }
        if std::mem::replace(&mut bucket.refusing, true) { Taken::Beyond } else { Taken::FirstBeyond }
    }

    /// Charges `key` for something that happened already: whatever its bucket holds, so that the last tokens are not
    /// cheaper than the first. Says nothing about the next message, hence begins no run of refusals.
    pub fn charge(&self, key: &str, cost: u64) {
        let Some(shard) = self.shards.get(self.hasher.hash_one(key) as usize % SHARDS) else { return };
        let mut buckets = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(key) {
            bucket.level = bucket.level.saturating_sub(micro(cost));
        }
    }
}

/// Tokens as microtokens.
fn micro(tokens: u64) -> i64 {
    i64::try_from(tokens.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
}

fn forget_longest_idle(buckets: &mut HashMap<Box<str>, Bucket>) {
    // A sample keeps this constant in time; the longest idle of eight is idle enough.
    let oldest = buckets.iter().take(8).min_by_key(|(_, bucket)| bucket.at_us).map(|(key, _)| key.clone());
    if let Some(key) = oldest {
        buckets.remove(&key);
    }
}

/// Counts of what is going on at once, per key. A count ends when its [`Hold`] is dropped.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Mutex<HashMap<Box<str>, Arc<AtomicUsize>>>>);

/// One of the things that are counted; ends when dropped.
#[derive(Debug)]
pub struct Hold(Arc<AtomicUsize>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Counts {
    /// Starts one more of `key`, unless there are `max` already.
    #[must_use]
    pub fn start(&self, key: &str, max: u64) -> Option<Hold> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = match counts.get(key) {
            Some(count) => Arc::clone(count),
            None => {
                if counts.len() >= 4096 {
                    counts.retain(|_, count| count.load(Ordering::Acquire) > 0);
                }
                let count = Arc::<AtomicUsize>::default();
                counts.insert(key.into(), Arc::clone(&count));
                count
            }
        };
        // Under the lock, so that two cannot both see the last place free.
        if count.load(Ordering::Acquire) as u64 >= max {
            return None;
        }
        count.fetch_add(1, Ordering::AcqRel);
        Some(Hold(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate_and_reports_the_first_refusal_once() {
        let rates = Rates::default();
        let take = |at_us| rates.take("a", 1, 2, 3, 100, at_us);
        assert_eq!([take(0), take(0), take(0)], [Taken::Within; 3]);
        assert_eq!([take(0), take(0)], [Taken::FirstBeyond, Taken::Beyond]);
        assert_eq!([take(500_000), take(500_000)], [Taken::Within, Taken::FirstBeyond]);
        assert_eq!(rates.take("b", 1, 2, 3, 100, 0), Taken::Within, "another key has its own bucket");
    }

    #[test]
    fn a_charge_is_a_debt_that_the_rate_pays_off_and_the_run_after_it_is_reported_once() {
        let rates = Rates::default();
        let take = |at_us| rates.take("a", 1, 1, 3, 100, at_us);
        assert_eq!(take(0), Taken::Within);
        rates.charge("a", 9);
        assert_eq!([take(0), take(0), take(7_999_999)], [Taken::FirstBeyond, Taken::Beyond, Taken::Beyond]);
        assert_eq!(take(8_000_000), Taken::Within);
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let rates = Rates::default();
        for n in 0..10_000 {
            rates.take(&n.to_string(), 1, 1, 1, 160, n);
        }
        let held: usize = rates.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(held <= 160, "{held}");
    }

    #[test]
    fn a_count_ends_when_its_hold_is_dropped() {
        let counts = Counts::default();
        let first = counts.start("a", 1);
        assert!(first.is_some() && counts.start("a", 1).is_none() && counts.start("b", 1).is_some());
        drop(first);
        assert!(counts.start("a", 1).is_some());
    }
}
