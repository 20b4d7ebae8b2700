//! What data a session has touched, by the labels that the operator gave to what it used. Where the protocol has no
//! sessions, the calls of a caller under one trace are one; without a trace, all calls of the caller are.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use portcullis_core::{Digest, Limits, Timestamp};
use portcullis_policy::Labels;

/// What belongs together: a session, or the calls of a caller under one trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Thread(Digest);

impl Thread {
    /// By the digest of a session, else by a W3C `traceparent`, else everything that the caller does.
    #[must_use]
    pub fn of(session: Option<Digest>, trace_parent: Option<&str>) -> Self {
        // `VERSION-TRACE-PARENT-FLAGS`: each call may have another parent and the same trace.
        let trace = trace_parent.and_then(|text| text.split('-').nth(1));
        Self(match (session, trace) {
            (Some(session), _) => Digest::of_parts(&[b"session", &session.0]),
            (None, Some(trace)) => Digest::of_parts(&[b"trace", trace.as_bytes()]),
            (None, None) => Digest::of(b"caller"),
        })
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    labels: Labels,
    used: u64,
}

impl Mark {
    fn add(&mut self, other: Self) {
        self.labels = self.labels.with(other.labels);
        self.used = self.used.max(other.used);
    }
}

/// One caller's threads.
#[derive(Debug, Default)]
struct Past {
    /// What threads touched for which there was no room: it counts for every thread of the caller.
    all: Mark,
    threads: HashMap<Thread, Mark>,
}

impl Past {
    fn used(&self) -> u64 {
        self.threads.values().map(|mark| mark.used).fold(self.all.used, u64::max)
    }

    fn forget(&mut self, since: u64) {
        self.threads.retain(|_, mark| mark.used >= since);
        if self.all.used < since {
            self.all = Mark::default();
        }
    }
}

#[derive(Debug, Default)]
struct Held {
    callers: HashMap<Box<str>, Past>,
    /// What callers touched for whom there was no room: it counts for every caller.
    all: Mark,
}

/// What all threads have touched. In memory: a restart forgets it, as it ends the sessions.
#[derive(Debug, Default)]
pub struct Seen {
    held: Mutex<Held>,
    any: AtomicBool,
}

impl Seen {
    /// Whether nothing labelled was ever used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// The labels of what the thread has used.
    #[must_use]
    pub fn labels(&self, caller: &str, thread: Thread, now: Timestamp, limits: &Limits) -> Labels {
        let since = now.0.saturating_sub(limits.session_idle_ms);
        let fresh = |mark: &Mark| if mark.used >= since { mark.labels } else { Labels::NONE };
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(past) = held.callers.get(caller) else { return fresh(&held.all) };
        let own = past.threads.get(&thread).map_or(Labels::NONE, fresh);
        own.with(fresh(&past.all)).with(fresh(&held.all))
    }

    /// Forgets what the caller's threads have touched.
    pub fn forget(&self, caller: &str) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).callers.remove(caller);
    }

    /// The thread uses something with these labels now. A thread that is used is not forgotten, whatever it uses.
    pub fn note(&self, caller: &str, thread: Thread, labels: Labels, now: Timestamp, limits: &Limits) {
        let since = now.0.saturating_sub(limits.session_idle_ms);
        let mark = Mark { labels, used: now.0 };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Held { callers, all } = &mut *held;
        if labels.is_empty() {
            // Only what is there already stays; a thread that touched nothing needs no room.
            if let Some(mark) = callers.get_mut(caller).and_then(|past| past.threads.get_mut(&thread)) {
                mark.used = if mark.used >= since { now.0 } else { mark.used };
            }
            return;
        }
        self.any.store(true, Ordering::Release);
        if !callers.contains_key(caller) && callers.len() as u64 >= limits.sessions_max {
            callers.retain(|_, past| past.used() >= since);
        }
        if !callers.contains_key(caller) && callers.len() as u64 >= limits.sessions_max {
            tracing::warn!(
                "more callers use labelled things than are remembered: labels count for all callers"
            );
            all.add(mark);
            return;
        }
        let past = callers.entry(caller.into()).or_default();
        if !past.threads.contains_key(&thread) && past.threads.len() as u64 >= limits.caller_sessions_max {
            past.forget(since);
        }
        if !past.threads.contains_key(&thread) && past.threads.len() as u64 >= limits.caller_sessions_max {
            past.all.add(mark);
            return;
        }
        let own = past.threads.entry(thread).or_default();
        if own.used < since {
            *own = Mark::default();
        }
        own.add(mark);
    }
}

#[cfg(test)]
mod tests {
    use portcullis_policy::Label;

    use super::*;

    fn labels(label: Label) -> Labels {
        [label].into_iter().collect()
    }

    fn trace(n: u32) -> Thread {
        Thread::of(None, Some(&format!("00-{n:032x}-0000000000000001-01")))
    }

    #[test]
    fn calls_under_one_trace_or_session_belong_together_and_others_do_not() {
        let one = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
        let two = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        assert_eq!(Thread::of(None, Some(one)), Thread::of(None, Some(two)), "the same trace");
        let session = Some(Digest::of(b"s"));
        assert_eq!(Thread::of(session, Some(one)), Thread::of(session, None), "a session is stronger");
        let all = [Thread::of(session, None), Thread::of(None, None), Thread::of(None, Some(one))];
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), 3);
    }

    #[test]
    fn labels_stay_with_their_thread_until_it_is_idle_for_too_long() {
        let (seen, limits) = (Seen::default(), Limits::default());
        let idle = limits.session_idle_ms;
        seen.note("a", trace(1), labels(Label::ReadsPrivate), Timestamp(0), &limits);
        seen.note("a", trace(1), labels(Label::SeesUntrusted), Timestamp(idle), &limits);
        let at = |caller, n, ms| seen.labels(caller, trace(n), Timestamp(ms), &limits);
        assert_eq!(at("a", 1, idle).iter().count(), 2);
        assert_eq!(at("a", 2, idle), Labels::NONE, "another trace");
        assert_eq!(at("b", 1, idle), Labels::NONE, "another caller with the same trace");
        seen.note("a", trace(1), Labels::NONE, Timestamp(2 * idle), &limits);
        assert_eq!(at("a", 1, 3 * idle).iter().count(), 2, "it was used meanwhile");
        assert_eq!(at("a", 1, 3 * idle + 1), Labels::NONE);
    }

    #[test]
    fn what_there_is_no_room_for_counts_for_more_and_never_for_less() {
        let limits = Limits { caller_sessions_max: 2, sessions_max: 2, ..Limits::default() };
        let seen = Seen::default();
        for n in 0..3 {
            seen.note("a", trace(n), labels(Label::ReadsPrivate), Timestamp(0), &limits);
        }
        let private = labels(Label::ReadsPrivate);
        assert_eq!(seen.labels("a", trace(2), Timestamp(0), &limits), private, "there was no room for it");
        assert_eq!(seen.labels("a", trace(9), Timestamp(0), &limits), private, "nor is there for this");
        assert_eq!(seen.labels("b", trace(2), Timestamp(0), &limits), Labels::NONE, "others are not touched");
        seen.note("b", trace(0), labels(Label::SeesUntrusted), Timestamp(0), &limits);
        seen.note("c", trace(0), labels(Label::Destructive), Timestamp(0), &limits);
        for caller in ["b", "c", "d"] {
            assert!(seen.labels(caller, trace(0), Timestamp(0), &limits).has(Label::Destructive), "{caller}");
        }
    }
}
