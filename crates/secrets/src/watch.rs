//! Values that were handed out must not come back: every value that is joined to a request or given to a child is looked for
//! in what servers answer, as it is and in the ways in which it is commonly written.

mod needles;
mod table;

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use memchr::memchr;
use portcullis_core::{Clock, Digest};

use needles::Needle;
use table::{Candidate, Table, extent};

pub(crate) use needles::is_secret;
pub use needles::{WATCHED_BYTES_MIN, is_watchable};

/// Values that are looked for. Beyond, the one that was used longest ago is let go.
const WATCHED_MAX: usize = 4_096;
/// Sightings in one text that are told apart; what comes after is one more, to the last.
const FOUND_MAX: usize = 256;
/// Bytes between two pieces of one value that belong to it, too.
const GAP_BYTES: usize = 4;
/// The same leak beside a call is told no more often.
const TOLD_AGAIN_US: u64 = 60_000_000;
/// Leaks beside calls that are remembered.
const TOLD_MAX: usize = 1_024;
/// Pieces of values in one text that are held.
const HOLDS_MAX: usize = 1_024;

/// Why a value is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was joined to a request or given to a child, and must not come back.
    Armed,
    /// It was planted: nobody has a reason to say it anywhere.
    Canary,
}

/// A value where it must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// The reference, or what else names the value.
    pub name: Arc<str>,
    /// SHA-256 of the name; one of the value would be something to guess it with.
    pub id: Digest,
    /// Why it is looked for.
    pub why: Why,
    /// Bytes of the text.
    pub range: Range<usize>,
}

/// One value that is looked for.
struct Known {
    name: Arc<str>,
    id: Digest,
    why: Why,
    needles: Vec<Needle>,
    used_us: AtomicU64,
    /// Shared with whoever keeps the value.
    holders: Arc<()>,
}

/// As long as this is there a value is looked for, however long ago it was handed out.
#[derive(Clone, Debug)]
pub struct Hold(#[expect(dead_code, reason = "how many there are is what counts")] Arc<()>);

/// What is looked for now.
#[derive(Default)]
struct Now {
    values: HashMap<u64, Arc<Known>>,
    /// For each needle of the table whose it is, and which of its needles.
    owners: Vec<(Arc<Known>, usize)>,
    table: Table,
    /// Whether one of them was planted.
    planted: bool,
}

/// All values that are looked for, and for how long.
pub struct Watched {
    now: ArcSwap<Now>,
    changing: Mutex<()>,
    hasher: RandomState,
    clock: Arc<dyn Clock>,
    lasts_us: u64,
    told: Mutex<HashMap<(Digest, Arc<str>), u64>>,
    changes: AtomicU64,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("values", &self.now.load().values.len()).finish_non_exhaustive()
    }
}

impl Watched {
    /// Nothing yet; each value for `lasts` after it was last handed out.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, lasts: Duration) -> Self {
        Self {
            now: ArcSwap::default(),
            changing: Mutex::default(),
            hasher: RandomState::new(),
            clock,
            lasts_us: u64::try_from(lasts.as_micros()).unwrap_or(u64::MAX),
            told: Mutex::default(),
            changes: AtomicU64::new(0),
        }
    }

    /// A value is about to be handed out: from here on it is looked for. Nothing where it is too short.
    pub fn arm(&self, name: impl FnOnce() -> String, value: &str) -> Option<Hold> {
        if !is_watchable(value) {
            return None;
        }
        let hash = self.hasher.hash_one(value);
        let now_us = self.clock.ticks_us();
        if let Some(known) = self.now.load().values.get(&hash) {
            known.used_us.store(now_us, Ordering::Relaxed);
            return Some(Hold(Arc::clone(&known.holders)));
        }
        let known = known(&name(), value, Why::Armed, now_us);
        let hold = Hold(Arc::clone(&known.holders));
        self.change(|values| {
            values.entry(hash).or_insert(known);
        });
        Some(hold)
    }

    /// Keeps the values that stand in a text looked for.
    #[must_use]
    pub fn holds(&self, text: &str) -> Vec<Hold> {
        let now = self.now.load();
        let mut holds = Vec::new();
        now.table.search(text.as_bytes(), |candidate| {
            if let Some((known, needle)) = now.needle(&candidate)
                && extent(needle, text.as_bytes(), candidate.at).is_some()
                && holds.len() < HOLDS_MAX
            {
                holds.push(Hold(Arc::clone(&known.holders)));
            }
            true
        });
        holds
    }

    /// These values, by name, are planted. Those that were and are not among them are let go.
    pub fn plant<'a>(&self, canaries: impl Iterator<Item = (&'a str, &'a str)>) {
        let now_us = self.clock.ticks_us();
        let planted: HashMap<u64, Arc<Known>> = canaries
            .filter(|(_, value)| is_watchable(value))
            .map(|(name, value)| (self.hasher.hash_one(value), known(name, value, Why::Canary, now_us)))
            .collect();
        let same = {
            let now = self.now.load();
            let before = now.values.values().filter(|known| known.why == Why::Canary).count();
            let kept = |hash: &u64| now.values.get(hash).is_some_and(|known| known.why == Why::Canary);
            before == planted.len() && planted.keys().all(kept)
        };
        if !same {
            self.change(|values| {
                values.retain(|_, known| known.why != Why::Canary);
                values.extend(planted);
            });
        }
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<u64, Arc<Known>>)) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut values = self.now.load().values.clone();
        let since_us = self.clock.ticks_us().saturating_sub(self.lasts_us);
        let used = |known: &Arc<Known>| known.used_us.load(Ordering::Relaxed);
        let kept = |known: &Arc<Known>| known.why == Why::Canary || Arc::strong_count(&known.holders) > 1;
        values.retain(|_, known| kept(known) || used(known) >= since_us);
        change(&mut values);
        while values.len() > WATCHED_MAX {
            let oldest = values.iter().filter(|(_, known)| known.why == Why::Armed);
            let Some((hash, _)) = oldest.min_by_key(|(_, known)| (kept(known), used(known))) else { break };
            let hash = *hash;
            if let Some(known) = values.remove(&hash) {
                tracing::warn!(secret = %known.name, "more than {WATCHED_MAX} values are in use, and this one is not looked for any more");
            }
        }
        let owners: Vec<(Arc<Known>, usize)> = values
            .values()
            .flat_map(|known| (0..known.needles.len()).map(|index| (Arc::clone(known), index)))
            .collect();
        let table = Table::new(owners.iter().filter_map(|(known, index)| known.needles.get(*index)));
        let planted = values.values().any(|known| known.why == Why::Canary);
        self.now.store(Arc::new(Now { values, owners, table, planted }));
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// How often what is looked for has changed: what was looked at before has to be looked at again.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whether nothing is looked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.now.load().table.is_empty()
    }

    /// Whether something was planted.
    #[must_use]
    pub fn is_planted(&self) -> bool {
        self.now.load().planted
    }

    /// Whether the JSON text may hold a value in one of its strings. False is certain, unless visible ASCII is written as
    /// escapes.
    #[must_use]
    pub fn may_hold(&self, raw: &[u8]) -> bool {
        let now = self.now.load();
        if now.table.is_evasive() && memchr(b'\\', raw).is_some() {
            return true;
        }
        let mut seen = false;
        now.table.search(raw, |candidate| {
            seen = now.needle(&candidate).is_some();
            !seen
        });
        seen
    }

    /// The values that stand in a text, in order and without overlap.
    #[must_use]
    pub fn find(&self, text: &str) -> Vec<Leak> {
        let now = self.now.load();
        let mut found: Vec<(usize, usize, &Arc<Known>)> = Vec::new();
        now.table.search(text.as_bytes(), |candidate| {
            if let Some((known, needle)) = now.needle(&candidate)
                && let Some((from, to)) = extent(needle, text.as_bytes(), candidate.at)
            {
                let (from, to) = with_margin(text.as_bytes(), (from, to), needle.margin);
                let many = found.len() > FOUND_MAX;
                match found.last_mut() {
                    // The same place in another way of writing, or the next piece of the same value.
                    Some(last)
                        if from <= last.1 + GAP_BYTES && last.0 <= to && Arc::ptr_eq(last.2, known) =>
                    {
                        *last = (last.0.min(from), last.1.max(to), last.2);
                    }
                    Some(last) if many => last.1 = last.1.max(to),
                    Some(_) | None => found.push((from, to, known)),
                }
            }
            true
        });
        found.sort_by_key(|(from, to, _)| (*from, std::cmp::Reverse(*to)));
        let mut leaks: Vec<Leak> = Vec::with_capacity(found.len());
        for (from, to, known) in found {
            match leaks.last_mut() {
                Some(last)
                    if from < last.range.end
                        || (last.id == known.id && from <= last.range.end + GAP_BYTES) =>
                {
                    last.range.end = last.range.end.max(to);
                }
                Some(_) | None => leaks.push(Leak {
                    name: Arc::clone(&known.name),
                    id: known.id,
                    why: known.why,
                    range: from..to,
                }),
            }
        }
        leaks.iter_mut().for_each(|leak| leak.range = at_characters(text, &leak.range));
        leaks
    }

    /// The name of a value that is looked for.
    #[must_use]
    pub fn name(&self, id: Digest) -> Option<Arc<str>> {
        let now = self.now.load();
        now.values.values().find(|known| known.id == id).map(|known| Arc::clone(&known.name))
    }

    /// Whether a leak beside a call, at this place, was not told a moment ago.
    pub(crate) fn is_news(&self, leak: &Leak, place: &Arc<str>) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now_us = self.clock.ticks_us();
        told.retain(|_, at| now_us < at.saturating_add(TOLD_AGAIN_US));
        let key = (leak.id, Arc::clone(place));
        if told.len() >= TOLD_MAX || told.contains_key(&key) {
            return false;
        }
        told.insert(key, now_us);
        true
    }
}

impl Now {
    fn needle(&self, candidate: &Candidate) -> Option<(&Arc<Known>, &Needle)> {
        let (known, index) = self.owners.get(candidate.needle)?;
        Some((known, known.needles.get(*index)?))
    }
}

fn known(name: &str, value: &str, why: Why, now_us: u64) -> Arc<Known> {
    Arc::new(Known {
        name: Arc::from(name),
        id: Digest::of(name.as_bytes()),
        why,
        needles: needles::of(value),
        used_us: AtomicU64::new(now_us),
        holders: Arc::default(),
    })
}

/// With the characters of base64 on both sides that hold some bits of the value.
fn with_margin(text: &[u8], (from, to): (usize, usize), (before, behind): (usize, usize)) -> (usize, usize) {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    let left =
        text.get(..from).unwrap_or_default().iter().rev().take(before).take_while(|byte| is_digit(byte));
    let right = text.get(to..).unwrap_or_default().iter().take(behind).take_while(|byte| is_digit(byte));
    (from - left.count(), to + right.count())
}

/// The range, widened to whole characters.
fn at_characters(text: &str, range: &Range<usize>) -> Range<usize> {
    let start = (0..=range.start).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    let end = (range.end..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    start..end
}

#[cfg(test)]
mod tests;
