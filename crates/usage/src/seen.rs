//! What data a session has touched, by the labels that the operator gave to what it used. Where the protocol has no
//! sessions, the calls of a caller under one trace are one; without a trace, all calls of the caller are. Gateways on one
//! store tell each other by way of it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use portcullis_core::{Digest, Limits, Timestamp};
use portcullis_policy::Labels;
use portcullis_store::{SeenLabels, SeenRoom, SeenRow, StoreError};

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

impl Thread {
    /// A name of it that another caller's has never.
    #[must_use]
    pub fn of_caller(self, caller: &str) -> Digest {
        Digest::of_parts(&[b"thread", caller.as_bytes(), &self.0.0])
    }
}

/// What a thread was marked with.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    labels: Labels,
    used: u64,
    /// What of it stands in the store, and when it was used last for all that the store knows.
    kept: Labels,
    kept_used: u64,
}

impl Mark {
    fn add(&mut self, labels: Labels, used: u64) {
        self.labels = self.labels.with(labels);
        self.used = self.used.max(used);
    }

    fn keep(&mut self, labels: Labels, used: u64) {
        self.kept = self.kept.with(labels);
        self.kept_used = self.kept_used.max(used);
    }

    /// Whether the store has to hear of it: of labels at once, of its use now and then.
    fn is_news(&self, idle_ms: u64) -> bool {
        let labels = self.labels.both(self.kept) != self.labels;
        labels || (!self.labels.is_empty() && self.used > self.kept_used.saturating_add(idle_ms / USES_TOLD))
    }
}

/// So often within the time after which a thread is forgotten the store hears that it is still used.
const USES_TOLD: u64 = 8;

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

/// How far what was seen counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Everybody,
    Caller,
    Thread,
}

#[derive(Debug, Default)]
struct Held {
    callers: HashMap<Box<str>, Past>,
    /// What callers touched for whom there was no room: it counts for every caller.
    all: Mark,
}

impl Held {
    /// The mark of a thread, or of more than it where there is no room.
    fn mark(&mut self, (caller, thread): (&str, Thread), room: SeenRoom) -> (Reach, &mut Mark) {
        let (Self { callers, all }, since) = (self, room.since.0);
        if !callers.contains_key(caller) && callers.len() as u64 >= room.callers_max {
            callers.retain(|_, past| past.used() >= since);
        }
        if !callers.contains_key(caller) && callers.len() as u64 >= room.callers_max {
            tracing::warn!(
                "more callers use labelled things than are remembered: labels count for all callers"
            );
            return (Reach::Everybody, all);
        }
        let past = callers.entry(caller.into()).or_default();
        if !past.threads.contains_key(&thread) && past.threads.len() as u64 >= room.threads_max {
            past.forget(since);
        }
        if !past.threads.contains_key(&thread) && past.threads.len() as u64 >= room.threads_max {
            return (Reach::Caller, &mut past.all);
        }
        let own = past.threads.entry(thread).or_default();
        if own.used < since {
            *own = Mark::default();
        }
        (Reach::Thread, own)
    }

    /// The mark that is there already.
    fn known(&mut self, reach: Reach, caller: &str, thread: Thread) -> Option<&mut Mark> {
        match reach {
            Reach::Everybody => Some(&mut self.all),
            Reach::Caller => Some(&mut self.callers.get_mut(caller)?.all),
            Reach::Thread => self.callers.get_mut(caller)?.threads.get_mut(&thread),
        }
    }
}

/// What has to be in the store before anybody learns of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct News {
    reach: Reach,
    caller: Box<str>,
    thread: Thread,
    labels: Labels,
    used: Timestamp,
}

/// What all threads have touched: in memory, and in the store for other gateways and for after a restart.
#[derive(Debug)]
pub struct Seen {
    store: Arc<dyn SeenLabels>,
    held: Mutex<Held>,
    any: AtomicBool,
}

impl Seen {
    /// What `store` remembers.
    #[must_use]
    pub fn new(store: Arc<dyn SeenLabels>) -> Self {
        Self { store, held: Mutex::default(), any: AtomicBool::default() }
    }

    /// Whether nothing labelled was ever used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// The labels of what the thread has used, for all that this gateway knows.
    #[must_use]
    pub fn labels(&self, caller: &str, thread: Thread, now: Timestamp, limits: &Limits) -> Labels {
        let since = room(now, limits).since.0;
        let fresh = |mark: &Mark| if mark.used >= since { mark.labels } else { Labels::NONE };
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(past) = held.callers.get(caller) else { return fresh(&held.all) };
        let own = past.threads.get(&thread).map_or(Labels::NONE, fresh);
        own.with(fresh(&past.all)).with(fresh(&held.all))
    }

    /// Learns what other gateways on the same store, and this one before it started, know of the thread.
    ///
    /// # Errors
    /// What the store reports: then nobody knows what it has seen.
    pub async fn learn(
        &self,
        caller: &str,
        thread: Thread,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<(), StoreError> {
        let room = room(now, limits);
        // They tell of its use only now and then.
        let since = Timestamp(room.since.0.saturating_sub(limits.session_idle_ms / USES_TOLD));
        let rows = self.store.seen(caller, thread.0, since).await?;
        if rows.is_empty() {
            return Ok(());
        }
        self.any.store(true, Ordering::Release);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for SeenRow { caller: whose, thread: which, labels, used } in rows {
            let used = used.0.max(room.since.0);
            let reach = match (whose.is_empty(), which) {
                (true, _) => Reach::Everybody,
                (false, None) => Reach::Caller,
                (false, Some(_)) => Reach::Thread,
            };
            // Where there is no mark of that reach yet, what follows makes the nearest one there is room for.
            let mark = match reach {
                Reach::Everybody => &mut held.all,
                Reach::Caller | Reach::Thread => {
                    let (made, _) = held.mark((caller, thread), room);
                    let reach = if made == Reach::Thread { reach } else { made };
                    let Some(mark) = held.known(reach, caller, thread) else { continue };
                    mark
                }
            };
            if mark.used < room.since.0 {
                *mark = Mark::default();
            }
            mark.add(labels, used);
            mark.keep(labels, used);
        }
        Ok(())
    }

    /// Tells the store.
    ///
    /// # Errors
    /// What the store reports: then other gateways do not know it, and the caller must not get what it is about.
    pub async fn tell(&self, news: News, limits: &Limits) -> Result<(), StoreError> {
        let News { reach, caller, thread, labels, used } = news;
        let row = SeenRow {
            caller: if reach == Reach::Everybody { String::new() } else { caller.clone().into() },
            thread: (reach == Reach::Thread).then_some(thread.0),
            labels,
            used,
        };
        self.store.add_seen(row, room(used, limits)).await?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mark) = held.known(reach, &caller, thread) {
            mark.keep(labels, used.0);
        }
        Ok(())
    }

    /// Forgets what the caller's threads have touched.
    pub fn forget(&self, caller: &str) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).callers.remove(caller);
    }

    /// The thread is over.
    pub fn end(&self, caller: &str, thread: Thread) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = held.callers.get_mut(caller).and_then(|past| past.threads.remove(&thread));
        if ended.is_some() {
            self.store.end_seen(caller, thread.0);
        }
    }

    /// The thread uses something with these labels now. A thread that is used is not forgotten, whatever it uses. What
    /// comes back is to be told ([`Self::tell`]) before anybody learns what was used.
    pub fn note(
        &self,
        caller: &str,
        thread: Thread,
        labels: Labels,
        now: Timestamp,
        limits: &Limits,
    ) -> Option<News> {
        let room = room(now, limits);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (reach, mark) = if labels.is_empty() {
            // Only what is there already stays; a thread that touched nothing needs no room.
            let mark = held.known(Reach::Thread, caller, thread)?;
            (Reach::Thread, Some(mark).filter(|mark| mark.used >= room.since.0)?)
        } else {
            self.any.store(true, Ordering::Release);
            held.mark((caller, thread), room)
        };
        mark.add(labels, now.0);
        let labels = mark.labels;
        mark.is_news(limits.session_idle_ms).then(|| News {
            reach,
            caller: caller.into(),
            thread,
            labels,
            used: now,
        })
    }
}

/// How much is remembered.
const fn room(now: Timestamp, limits: &Limits) -> SeenRoom {
    SeenRoom {
        since: Timestamp(now.0.saturating_sub(limits.session_idle_ms)),
        callers_max: limits.sessions_max,
        threads_max: limits.caller_sessions_max,
    }
}

#[cfg(test)]
mod tests {
    use portcullis_policy::Label;
    use portcullis_store::Sqlite;

    use super::*;

    fn labels(label: Label) -> Labels {
        [label].into_iter().collect()
    }

    fn seen() -> (Seen, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (Seen::new(Arc::new(Sqlite::open(folder.path().join("db")).unwrap())), folder)
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
        let ((seen, _folder), limits) = (seen(), Limits::default());
        let idle = limits.session_idle_ms;
        let _news = seen.note("a", trace(1), labels(Label::ReadsPrivate), Timestamp(0), &limits);
        let _news = seen.note("a", trace(1), labels(Label::SeesUntrusted), Timestamp(idle), &limits);
        let at = |caller, n, ms| seen.labels(caller, trace(n), Timestamp(ms), &limits);
        assert_eq!(at("a", 1, idle).iter().count(), 2);
        assert_eq!(at("a", 2, idle), Labels::NONE, "another trace");
        assert_eq!(at("b", 1, idle), Labels::NONE, "another caller with the same trace");
        let _news = seen.note("a", trace(1), Labels::NONE, Timestamp(2 * idle), &limits);
        assert_eq!(at("a", 1, 3 * idle).iter().count(), 2, "it was used meanwhile");
        assert_eq!(at("a", 1, 3 * idle + 1), Labels::NONE);
    }

    #[test]
    fn what_there_is_no_room_for_counts_for_more_and_never_for_less() {
        let limits = Limits { caller_sessions_max: 2, sessions_max: 2, ..Limits::default() };
        let (seen, _folder) = seen();
        for n in 0..3 {
            let _news = seen.note("a", trace(n), labels(Label::ReadsPrivate), Timestamp(0), &limits);
        }
        let private = labels(Label::ReadsPrivate);
        assert_eq!(seen.labels("a", trace(2), Timestamp(0), &limits), private, "there was no room for it");
        assert_eq!(seen.labels("a", trace(9), Timestamp(0), &limits), private, "nor is there for this");
        assert_eq!(seen.labels("b", trace(2), Timestamp(0), &limits), Labels::NONE, "others are not touched");
        let _news = seen.note("b", trace(0), labels(Label::SeesUntrusted), Timestamp(0), &limits);
        let _news = seen.note("c", trace(0), labels(Label::Destructive), Timestamp(0), &limits);
        for caller in ["b", "c", "d"] {
            assert!(seen.labels(caller, trace(0), Timestamp(0), &limits).has(Label::Destructive), "{caller}");
        }
    }

    #[tokio::test]
    async fn what_one_gateway_has_seen_another_knows_on_the_next_call_and_so_does_it_after_a_restart() {
        let (folder, limits) = (tempfile::tempdir().unwrap(), Limits::default());
        let open = || Seen::new(Arc::new(Sqlite::open(folder.path().join("db")).unwrap()));
        let (one, two, idle) = (open(), open(), limits.session_idle_ms);
        let (private, untrusted) = (labels(Label::ReadsPrivate), labels(Label::SeesUntrusted));
        let at = Timestamp;
        let news = one.note("a", trace(1), private, at(0), &limits).unwrap();
        one.tell(news, &limits).await.unwrap();
        assert_eq!(one.note("a", trace(1), private, at(1), &limits), None, "it is known");
        two.learn("a", trace(1), at(1), &limits).await.unwrap();
        let news = two.note("a", trace(1), untrusted, at(2), &limits).unwrap();
        two.tell(news, &limits).await.unwrap();
        for (caller, n, expected) in
            [("a", 1, private.with(untrusted)), ("a", 2, Labels::NONE), ("b", 1, Labels::NONE)]
        {
            let (again, three) = (open(), trace(n));
            again.learn(caller, three, at(3), &limits).await.unwrap();
            assert_eq!(again.labels(caller, three, at(3), &limits), expected, "{caller} {n}");
            one.learn(caller, three, at(3), &limits).await.unwrap();
            assert_eq!(one.labels(caller, three, at(3), &limits), expected, "{caller} {n}");
        }
        // In use at one of them it stays for all; idle at all it goes.
        for step in 1..20 {
            if let Some(news) = one.note("a", trace(1), Labels::NONE, at(step * idle / 4), &limits) {
                one.tell(news, &limits).await.unwrap();
            }
        }
        let fresh = open();
        fresh.learn("a", trace(1), at(5 * idle), &limits).await.unwrap();
        assert_eq!(fresh.labels("a", trace(1), at(5 * idle), &limits), private.with(untrusted));
        let late = open();
        late.learn("a", trace(1), at(7 * idle), &limits).await.unwrap();
        assert_eq!(late.labels("a", trace(1), at(7 * idle), &limits), Labels::NONE);
    }

    #[tokio::test]
    async fn in_the_store_as_well_what_there_is_no_room_for_counts_for_more_and_an_ended_session_for_nothing()
    {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { caller_sessions_max: 2, sessions_max: 2, ..Limits::default() };
        let open = || Seen::new(Arc::new(Sqlite::open(folder.path().join("db")).unwrap()));
        let private = labels(Label::ReadsPrivate);
        let now = Timestamp(0);
        for (caller, n) in [("a", 0), ("a", 1), ("b", 0)] {
            // Each time another gateway, so that the store alone keeps the bounds.
            let seen = open();
            let news = seen.note(caller, trace(n), private, now, &limits).unwrap();
            seen.tell(news, &limits).await.unwrap();
        }
        let known = async |caller: &str, n| {
            let seen = open();
            seen.learn(caller, trace(n), now, &limits).await.unwrap();
            seen.labels(caller, trace(n), now, &limits)
        };
        assert_eq!(known("a", 7).await, Labels::NONE);
        let seen = open();
        seen.learn("a", trace(1), now, &limits).await.unwrap();
        seen.end("a", trace(1));
        // It goes on writing until it is gone.
        drop(seen);
        assert_eq!(known("a", 1).await, Labels::NONE, "it is over");
        for (n, label) in [(1, private), (2, labels(Label::Destructive))] {
            let seen = open();
            let news = seen.note("a", trace(n), label, now, &limits).unwrap();
            seen.tell(news, &limits).await.unwrap();
        }
        assert!(known("a", 7).await.has(Label::Destructive), "there was no room for it");
        assert!(!known("b", 7).await.has(Label::Destructive), "others are not touched");
        let seen = open();
        let news = seen.note("c", trace(0), labels(Label::WritesExternal), now, &limits).unwrap();
        seen.tell(news, &limits).await.unwrap();
        assert!(known("d", 1).await.has(Label::WritesExternal), "there was no room for the caller");
    }
}
