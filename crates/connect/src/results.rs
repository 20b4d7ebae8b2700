//! Results of servers that several calls may share, for as long as their server says. What one of them says to a caller
//! is judged for each caller anew: nothing here is fit to be shown as it is.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use portcullis_core::Digest;

/// What an entry costs beside its bytes: keys, maps, counts.
const ENTRY_BYTES: u64 = 256;

/// The largest result that is kept, as a part of all: one must not displace the others.
const LARGEST: u64 = 4;

/// What was asked, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The declaration of the server, and what else the result may depend on.
    pub depends_on: Digest,
    /// What was read.
    pub uri: &'a str,
    /// Who asks.
    pub caller: &'a str,
}

/// For whom a result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The caller that asked.
    Private,
    /// Every caller.
    Public,
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Results.
    pub entries_max: u64,
    /// Bytes of all of them.
    pub bytes_max: u64,
}

/// A result that may still be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The server's message.
    pub bytes: Bytes,
    /// How long it may be used from now on, in microseconds.
    pub left_us: u64,
}

/// Taken before the server is asked: what it answers is kept only if nothing changed meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    epoch: u64,
    begun_us: u64,
}

/// The results of one server.
#[derive(Debug, Default)]
pub struct Results(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Digest, Entry>,
    /// Keys in the order in which they were last used.
    order: BTreeMap<u64, Digest>,
    uses: u64,
    bytes: u64,
    /// How often everything was dropped.
    epoch: u64,
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    until_us: u64,
    cost: u64,
    used: u64,
}

impl Results {
    /// The result that `question` may use: its caller's own, or one for everybody.
    #[must_use]
    pub fn get(&self, question: Question<'_>, now_us: u64) -> Option<Kept> {
        let mut state = self.state();
        [Scope::Private, Scope::Public].into_iter().find_map(|scope| state.get(&key(question, scope), now_us))
    }

    /// Begins to ask the server at `now_us`.
    #[must_use]
    pub fn ask(&self, now_us: u64) -> Ticket {
        Ticket { epoch: self.state().epoch, begun_us: now_us }
    }

    /// Keeps what the server answered for `ttl_us` from the moment in which it was asked, so never longer than it said.
    pub fn put(
        &self,
        question: Question<'_>,
        scope: Scope,
        ticket: Ticket,
        (bytes, ttl_us): (&[u8], u64),
        bounds: Bounds,
    ) {
        let cost = (bytes.len() as u64).saturating_add(ENTRY_BYTES);
        let mut state = self.state();
        let fits = cost <= bounds.bytes_max / LARGEST && bounds.entries_max > 0;
        if state.epoch != ticket.epoch || ttl_us == 0 || !fits {
            return;
        }
        let key = key(question, scope);
        state.remove(&key);
        while state.entries.len() as u64 >= bounds.entries_max
            || state.bytes.saturating_add(cost) > bounds.bytes_max
        {
            let Some((_, oldest)) = state.order.pop_first() else { break };
            state.remove(&oldest);
        }
        state.uses = state.uses.saturating_add(1);
        let used = state.uses;
        let until_us = ticket.begun_us.saturating_add(ttl_us);
        state.bytes = state.bytes.saturating_add(cost);
        state.order.insert(used, key);
        // Copied: it may be a part of something larger.
        state.entries.insert(key, Entry { bytes: Bytes::copy_from_slice(bytes), until_us, cost, used });
    }

    /// The server said that something changed. Everything goes: which resources lie inside which is for it alone to know.
    pub fn clear(&self) {
        let mut state = self.state();
        let epoch = state.epoch.saturating_add(1);
        *state = State { epoch, ..State::default() };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn get(&mut self, key: &Digest, now_us: u64) -> Option<Kept> {
        let until_us = self.entries.get(key)?.until_us;
        let left_us = until_us.saturating_sub(now_us);
        if left_us == 0 {
            self.remove(key);
            return None;
        }
        self.uses = self.uses.saturating_add(1);
        let used = self.uses;
        let entry = self.entries.get_mut(key)?;
        self.order.remove(&entry.used);
        self.order.insert(used, *key);
        entry.used = used;
        Some(Kept { bytes: entry.bytes.clone(), left_us })
    }

    fn remove(&mut self, key: &Digest) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.order.remove(&entry.used);
        self.bytes = self.bytes.saturating_sub(entry.cost);
    }
}

/// Lengths keep the parts apart; a caller's own results and those of everybody never share a key.
fn key(question: Question<'_>, scope: Scope) -> Digest {
    let (mark, caller): (u8, &str) = match scope {
        Scope::Private => (0, question.caller),
        Scope::Public => (1, ""),
    };
    let mut text = vec![mark];
    for part in [&question.depends_on.0[..], question.uri.as_bytes(), caller.as_bytes()] {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part);
    }
    Digest::of(&text)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const BOUNDS: Bounds = Bounds { entries_max: 4, bytes_max: 4_096 };

    fn question<'a>(server: &str, uri: &'a str, caller: &'a str) -> Question<'a> {
        Question { depends_on: Digest::of(server.as_bytes()), uri, caller }
    }

    fn text(results: &Results, question: Question<'_>, now_us: u64) -> Option<String> {
        results.get(question, now_us).map(|kept| String::from_utf8(kept.bytes.to_vec()).unwrap())
    }

    #[test]
    fn a_public_result_is_everybodys_and_a_private_one_its_callers_and_both_end_in_time() {
        let results = Results::default();
        let ticket = results.ask(1_000);
        results.put(question("s", "x://p", "ada"), Scope::Public, ticket, (b"public", 500), BOUNDS);
        results.put(question("s", "x://q", "ada"), Scope::Private, ticket, (b"private", 500), BOUNDS);
        assert_eq!(text(&results, question("s", "x://p", "bob"), 1_499).as_deref(), Some("public"));
        assert_eq!(text(&results, question("s", "x://q", "ada"), 1_499).as_deref(), Some("private"));
        assert_eq!(text(&results, question("s", "x://q", "bob"), 1_001), None, "another caller");
        assert_eq!(text(&results, question("s", "x://q", ""), 1_001), None, "nobody");
        assert_eq!(text(&results, question("t", "x://p", "ada"), 1_001), None, "another declaration");
        assert_eq!(results.get(question("s", "x://p", "bob"), 1_400).unwrap().left_us, 100);
        assert_eq!(text(&results, question("s", "x://p", "bob"), 1_500), None, "over");
        assert_eq!(text(&results, question("s", "x://q", "ada"), u64::MAX), None, "over");
    }

    #[test]
    fn what_was_asked_before_a_change_is_not_kept_after_it() {
        let results = Results::default();
        let asked = question("s", "x://p", "ada");
        let (before, bytes) = (results.ask(0), (&b"old"[..], 1_000));
        results.put(asked, Scope::Public, before, bytes, BOUNDS);
        results.clear();
        assert_eq!(text(&results, asked, 1), None);
        results.put(asked, Scope::Public, before, bytes, BOUNDS);
        assert_eq!(text(&results, asked, 1), None, "the answer was on its way when it changed");
        results.put(asked, Scope::Public, results.ask(0), (b"new", 1_000), BOUNDS);
        assert_eq!(text(&results, asked, 1).as_deref(), Some("new"));
    }

    #[test]
    fn the_longest_unused_makes_room_and_what_is_too_large_is_not_kept() {
        let results = Results::default();
        let put = |uri: &str, bytes: &[u8]| {
            results.put(question("s", uri, "a"), Scope::Public, results.ask(0), (bytes, 10), BOUNDS);
        };
        for uri in ["1", "2", "3", "4"] {
            put(uri, b"x");
        }
        assert!(text(&results, question("s", "1", "a"), 1).is_some());
        put("5", b"x");
        assert_eq!(text(&results, question("s", "2", "a"), 1), None);
        assert!(["1", "3", "4", "5"].iter().all(|uri| text(&results, question("s", uri, "a"), 1).is_some()));
        put("6", &[b'x'; 1_000]);
        assert_eq!(text(&results, question("s", "6", "a"), 1), None);
        let none = Bounds { entries_max: 0, ..BOUNDS };
        results.put(question("s", "7", "a"), Scope::Public, results.ask(0), (b"x", 10), none);
        assert_eq!(text(&results, question("s", "7", "a"), 1), None, "switched off");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put { uri: u8, caller: u8, public: bool, size: usize, ttl_us: u64 },
        Get { uri: u8, caller: u8 },
        Clear,
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (0..6_u8, 0..3_u8, any::<bool>(), 0..1_200_usize, 0..40_u64).prop_map(
                |(uri, caller, public, size, ttl_us)| Step::Put { uri, caller, public, size, ttl_us }
            ),
            5 => (0..6_u8, 0..3_u8).prop_map(|(uri, caller)| Step::Get { uri, caller }),
            1 => Just(Step::Clear),
            2 => (0..30_u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Against what was said last about each resource: whatever is found is true still, for this caller.
        #[test]
        fn whatever_happens_nothing_crosses_callers_outlives_its_time_or_grows_over_its_bounds(
            steps in vec(step(), 1..200)
        ) {
            let (results, mut now, mut put) = (Results::default(), 0_u64, Vec::new());
            for (index, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Put { uri, caller, public, size, ttl_us } => {
                        let mut bytes = format!("{index}:").into_bytes();
                        bytes.resize(bytes.len() + size, b'x');
                        let scope = if public { Scope::Public } else { Scope::Private };
                        let (uri, caller) = (uri.to_string(), caller.to_string());
                        let asked = question("s", &uri, &caller);
                        results.put(asked, scope, results.ask(now), (&bytes, ttl_us), BOUNDS);
                        put.push((uri, caller, public, bytes, now + ttl_us));
                    }
                    Step::Get { uri, caller } => {
                        let (uri, caller) = (uri.to_string(), caller.to_string());
                        if let Some(kept) = results.get(question("s", &uri, &caller), now) {
                            let found = put.iter().find(|one| one.3 == kept.bytes);
                            let (of, by, public, _, until) = found.expect("what was put since the last change");
                            prop_assert!(*of == uri && (*public || *by == caller));
                            prop_assert_eq!(now + kept.left_us, *until);
                            prop_assert!(kept.left_us > 0);
                        }
                    }
                    Step::Clear => {
                        results.clear();
                        put.clear();
                    }
                    Step::Wait(us) => now += us,
                }
                let state = results.state();
                prop_assert!(state.entries.len() as u64 <= BOUNDS.entries_max && state.bytes <= BOUNDS.bytes_max);
                prop_assert_eq!(state.entries.len(), state.order.len());
                prop_assert_eq!(state.entries.values().map(|entry| entry.cost).sum::<u64>(), state.bytes);
            }
        }
    }
}
