//! One document, with what is held of it now.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use portcullis_core::{Digest, Timestamp};

use super::address::Address;
use crate::source::{Document, Failure, Lease};

/// Callers that are remembered as users of a document; beyond, each use is a first one.
const USERS_MAX: usize = 100_000;

/// What is held of a document.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) document: Document,
    pub(super) since: Timestamp,
    pub(super) since_us: u64,
    /// From when on a new value is looked for in the background.
    pub(super) refresh_us: AtomicU64,
    /// Until when it is used without a question.
    pub(super) fresh_us: u64,
    /// From when on it is not used at all.
    pub(super) dead_us: u64,
}

impl Held {
    /// A document for as long as its lease says, or else for `lasts` and, while the source does not answer, for `outage`
    /// more.
    pub(super) fn new(
        document: Document,
        (lasts, outage): (Duration, Duration),
        (since_us, since): (u64, Timestamp),
    ) -> Self {
        let (lasts, outage) = match &document.lease {
            Lease::Unstated => (lasts, outage),
            Lease::Until(stated) => (lasts.min(*stated), outage),
            // Beyond its lease the value is good for nothing.
            Lease::Held { lasts, .. } => (*lasts, Duration::ZERO),
        };
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let fresh_us = since_us.saturating_add(us(lasts));
        Self {
            document,
            since,
            since_us,
            refresh_us: AtomicU64::new(since_us.saturating_add(us(lasts) / 3 * 2)),
            fresh_us,
            dead_us: fresh_us.saturating_add(us(outage)),
        }
    }
}

impl Lease {
    pub(super) fn id(&self) -> Option<&String> {
        match self {
            Self::Held { id, .. } => Some(id),
            Self::Unstated | Self::Until(_) => None,
        }
    }
}

/// Whether two documents say something else.
pub(super) fn differs(before: &Document, now: &Document) -> bool {
    let plain = |document: &Document| -> Vec<(String, Digest)> {
        let digest = |value: &portcullis_core::Secret<String>| Digest::of(value.expose().as_bytes());
        document.fields.iter().map(|(name, value)| (name.clone(), digest(value))).collect()
    };
    plain(before) != plain(now)
}

/// One document.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) address: Address,
    held: ArcSwapOption<Held>,
    /// Held by whoever asks the source.
    pub(super) turn: tokio::sync::Mutex<()>,
    failed: Mutex<Option<(u64, Failure)>>,
    refreshing: AtomicBool,
    /// Its source is asked before it is used again.
    again: AtomicBool,
    /// When it was last asked for because a server did not take it.
    asked_again_us: AtomicU64,
    users: Mutex<HashSet<Option<Digest>>>,
}

impl Slot {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            held: ArcSwapOption::empty(),
            turn: tokio::sync::Mutex::default(),
            failed: Mutex::default(),
            refreshing: AtomicBool::new(false),
            again: AtomicBool::new(false),
            asked_again_us: AtomicU64::new(0),
            users: Mutex::default(),
        }
    }

    pub(super) fn held(&self) -> Option<Arc<Held>> {
        self.held.load_full()
    }

    pub(super) fn keep(&self, held: Arc<Held>) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.held.store(Some(held));
    }

    pub(super) fn clear(&self) {
        self.held.store(None);
    }

    /// Whoever uses it next asks its source first.
    pub(super) fn look_again(&self) {
        self.again.store(true, Ordering::Release);
    }

    /// Whether its source is to be asked now.
    pub(super) fn looks_again(&self) -> bool {
        self.again.load(Ordering::Relaxed) && self.again.swap(false, Ordering::AcqRel)
    }

    /// Whether a value that was not taken may be asked for again by now.
    pub(super) fn asks_again(&self, now_us: u64, pause_us: u64) -> bool {
        let last = self.asked_again_us.load(Ordering::Acquire);
        let asks = last == 0 || now_us >= last.saturating_add(pause_us);
        if asks {
            self.asked_again_us.store(now_us.max(1), Ordering::Release);
        }
        asks
    }

    pub(super) fn begin_refresh(&self) -> bool {
        !self.refreshing.swap(true, Ordering::AcqRel)
    }

    pub(super) fn end_refresh(&self) {
        self.refreshing.store(false, Ordering::Release);
    }

    /// Whether somebody looks for a new value in the background.
    pub(super) fn refreshing(&self) -> bool {
        self.refreshing.load(Ordering::Acquire)
    }

    pub(super) fn fail(&self, now_us: u64, failure: Failure) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some((now_us, failure));
    }

    /// The failure of a moment ago.
    pub(super) fn failure(&self, now_us: u64, lasts_us: u64) -> Option<Failure> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, failure) = failed.as_ref()?;
        (now_us < at.saturating_add(lasts_us)).then(|| failure.clone())
    }

    /// Whether the source was asked in vain since then.
    pub(super) fn failed_since(&self, us: u64) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.as_ref().is_some_and(|(at, _)| *at >= us)
    }

    /// Whether this caller has not used it before.
    pub(super) fn first(&self, caller: Option<&str>) -> bool {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let user = caller.map(|caller| Digest::of(caller.as_bytes()));
        if users.len() >= USERS_MAX {
            return !users.contains(&user);
        }
        users.insert(user)
    }

    /// The use of this caller is not on record.
    pub(super) fn forget(&self, caller: Option<&str>) {
        let user = caller.map(|caller| Digest::of(caller.as_bytes()));
        self.users.lock().unwrap_or_else(PoisonError::into_inner).remove(&user);
    }
}
