//! How long a listing may be served: as long as the server says, and not past its word that it changed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use portcullis_core::TargetKind;

/// No `ttlMs` was stated.
const UNSTATED: u64 = u64::MAX;

/// Time between two fetches that a server causes by saying that its lists changed.
const PAUSE_US: u64 = 1_000_000;

/// What a server said about how long its listings last.
#[derive(Debug)]
pub(super) struct Fresh {
    ttl_ms: [AtomicU64; TargetKind::ALL.len()],
    changed_us: AtomicU64,
    /// When what changed was fetched last, because the server had said that it did.
    turn_us: AtomicU64,
    /// Whether somebody waits to fetch it again.
    queued: AtomicBool,
}

impl Default for Fresh {
    fn default() -> Self {
        Self {
            ttl_ms: std::array::from_fn(|_| AtomicU64::new(UNSTATED)),
            changed_us: AtomicU64::new(0),
            turn_us: AtomicU64::new(0),
            queued: AtomicBool::new(false),
        }
    }
}

impl Fresh {
    /// A complete listing stated this `ttlMs`: of several pages the least.
    pub(super) fn stated(&self, kind: TargetKind, ttl_ms: Option<u64>) {
        if let Some(slot) = self.ttl_ms.get(kind as usize) {
            slot.store(ttl_ms.unwrap_or(UNSTATED), Ordering::Release);
        }
    }

    /// The server said at `now_us` that its lists changed.
    pub(super) fn changed(&self, now_us: u64) {
        self.changed_us.fetch_max(now_us, Ordering::AcqRel);
    }

    /// Whether nobody waited to fetch what changed; somebody does now.
    pub(super) fn queue(&self) -> bool {
        !self.queued.swap(true, Ordering::AcqRel)
    }

    /// How long that is to be waited for at `now_us`.
    pub(super) fn pause_us(&self, now_us: u64) -> u64 {
        let last = self.turn_us.load(Ordering::Acquire);
        if last == 0 { 0 } else { (last + PAUSE_US).saturating_sub(now_us) }
    }

    /// What changed is fetched from `now_us` on: whoever hears of a change after this waits for its own turn.
    pub(super) fn turn(&self, now_us: u64) {
        self.turn_us.store(now_us, Ordering::Release);
        self.queued.store(false, Ordering::Release);
    }

    /// Whether a listing fetched at `fetched_us` (zero: never) may be served at `now_us`.
    pub(super) fn lasts(
        &self,
        kind: TargetKind,
        fetched_us: u64,
        now_us: u64,
        unstated_ms: u64,
        max_ms: u64,
    ) -> bool {
        if fetched_us == 0 || self.changed_us.load(Ordering::Acquire) >= fetched_us {
            return false;
        }
        let ttl_ms = self.ttl_ms(kind, unstated_ms).min(max_ms);
        now_us.saturating_sub(fetched_us) < ttl_ms.saturating_mul(1_000)
    }

    /// What was stated, or `unstated_ms`.
    pub(super) fn ttl_ms(&self, kind: TargetKind, unstated_ms: u64) -> u64 {
        let stated = self.ttl_ms.get(kind as usize).map_or(0, |ttl| ttl.load(Ordering::Acquire));
        if stated == UNSTATED { unstated_ms } else { stated }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_served_as_long_as_its_server_says_and_never_past_a_change() {
        let fresh = Fresh::default();
        let lasts = |fetched, now| fresh.lasts(TargetKind::Tool, fetched, now, 5, 100);
        assert!(!lasts(0, 1), "never fetched");
        assert!(lasts(1_000, 5_999) && !lasts(1_000, 6_000), "unstated");
        fresh.stated(TargetKind::Tool, Some(50));
        assert!(lasts(1_000, 50_999) && !lasts(1_000, 51_000), "stated");
        fresh.stated(TargetKind::Tool, Some(u64::MAX - 1));
        assert!(lasts(1_000, 100_999) && !lasts(1_000, 101_000), "bounded by ours");
        fresh.stated(TargetKind::Tool, Some(0));
        assert!(!lasts(1_000, 1_000), "stale at once");
        fresh.stated(TargetKind::Tool, None);
        fresh.changed(2_000);
        assert!(!lasts(2_000, 2_001) && lasts(2_001, 2_002), "changed since");
    }

    #[test]
    fn what_changes_without_end_is_fetched_once_a_second_by_one_that_waits() {
        let fresh = Fresh::default();
        assert!(fresh.queue() && !fresh.queue(), "one waits for all");
        assert_eq!(fresh.pause_us(7), 0, "the first change is fetched at once");
        fresh.turn(7);
        assert!(fresh.queue(), "what changes while it is fetched is fetched again");
        assert_eq!([fresh.pause_us(8), fresh.pause_us(1_000_007)], [999_999, 0]);
    }
}
