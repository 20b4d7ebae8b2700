//! Answers to lists that were made before, for all who are shown the same: what a list costs does not grow with the
//! number of its tools each time it is asked for. What a caller is shown is decided each time; only what follows from it
//! is kept, and only as long as everything it was made of is the same.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, Weak},
};

use bytes::Bytes;
use portcullis_core::{Obligations, TargetKind};
use portcullis_inspect::Inspector;
use portcullis_mcp::{json::JsonLimits, revision::Era};

use super::{State, lock};

/// Answers that are kept for one route.
const LISTS_MAX: usize = 8;
/// Bytes of one of them; larger ones are made each time.
const LIST_BYTES_MAX: usize = 1_048_576;

/// What an answer is made of.
#[derive(Clone, Debug)]
pub struct Made {
    /// What is listed.
    pub kind: TargetKind,
    /// For which revision.
    pub era: Era,
    /// How long the client may keep it.
    pub ttl_ms: u64,
    /// Names (JSON text) of servers that could not be asked.
    pub down: Vec<String>,
    /// The catalogues in their order, and what of each is shown.
    pub parts: Vec<(Arc<State>, Arc<[bool]>)>,
}

impl Made {
    fn is_of(&self, other: &Self) -> bool {
        let same = |one: &(Arc<State>, Arc<[bool]>), other: &(Arc<State>, Arc<[bool]>)| {
            Arc::ptr_eq(&one.0, &other.0) && (Arc::ptr_eq(&one.1, &other.1) || one.1 == other.1)
        };
        self.kind == other.kind
            && self.era == other.era
            && self.ttl_ms == other.ttl_ms
            && self.down == other.down
            && self.parts.len() == other.parts.len()
            && self.parts.iter().zip(&other.parts).all(|(one, other)| same(one, other))
    }

    /// Whether it is made of catalogues that `newer` has in other states.
    fn is_older_than(&self, newer: &Self) -> bool {
        self.parts.len() != newer.parts.len()
            || self.parts.iter().zip(&newer.parts).any(|(one, other)| !Arc::ptr_eq(&one.0, &other.0))
    }
}

/// How an answer is judged.
#[derive(Clone, Copy, Debug)]
pub struct Judges<'a> {
    /// Detectors.
    pub inspector: &'a Arc<Inspector>,
    /// Bounds of its JSON.
    pub limits: &'a JsonLimits,
    /// What the permit demands.
    pub obligations: &'a Obligations,
    /// How often the values had changed that must not be in it.
    pub watched: u64,
}

/// Detectors, bounds, obligations, and how often the values had changed that must not be in it.
type Passed = (Weak<Inspector>, JsonLimits, Obligations, u64);

/// One answer without the id of its request.
#[derive(Debug)]
pub struct List {
    made: Made,
    /// Everything behind the id.
    rest: Bytes,
    /// By whom it was judged last and passed untouched, with nothing found in it.
    passed: Mutex<Option<Passed>>,
}

impl List {
    /// An answer that was just made.
    #[must_use]
    pub fn new(made: Made, rest: Bytes) -> Self {
        Self { made, rest, passed: Mutex::default() }
    }

    /// The answer to the request with this id (JSON text).
    #[must_use]
    pub fn answer(&self, id: &[u8]) -> Bytes {
        Bytes::from([br#"{"jsonrpc":"2.0","id":"#, id, &self.rest].concat())
    }

    /// Whether `answer` is this list, behind whatever id.
    #[must_use]
    pub fn is_in(&self, answer: &[u8]) -> bool {
        answer.ends_with(&self.rest)
    }

    /// Whether it passed these judges with nothing found.
    #[must_use]
    pub fn passed(&self, judges: Judges<'_>) -> bool {
        let Judges { inspector, limits, obligations, watched } = judges;
        lock(&self.passed).as_ref().is_some_and(|(by, within, under, after)| {
            // A weak pointer keeps the place, so that no other detectors can be there.
            by.as_ptr() == Arc::as_ptr(inspector)
                && within == limits
                && under == obligations
                && *after == watched
        })
    }

    /// Notes that it did.
    pub fn pass(&self, judges: Judges<'_>) {
        let Judges { inspector, limits, obligations, watched } = judges;
        *lock(&self.passed) = Some((Arc::downgrade(inspector), *limits, obligations.clone(), watched));
    }
}

/// The answers of one route.
#[derive(Debug, Default)]
pub struct Lists(Mutex<VecDeque<Arc<List>>>);

impl Lists {
    /// The answer that is made of the same; otherwise what `make` makes, kept unless it is too large.
    pub fn of(&self, made: Made, make: impl FnOnce(&Made) -> Bytes) -> Arc<List> {
        if let Some(known) = lock(&self.0).iter().find(|known| known.made.is_of(&made)) {
            return Arc::clone(known);
        }
        let rest = make(&made);
        let list = Arc::new(List::new(made, rest));
        if list.rest.len() <= LIST_BYTES_MAX {
            let mut lists = lock(&self.0);
            lists.retain(|known| known.made.kind != list.made.kind || !known.made.is_older_than(&list.made));
            lists.truncate(LISTS_MAX - 1);
            lists.push_front(Arc::clone(&list));
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(state: &Arc<State>, shown: &[bool]) -> Made {
        Made {
            kind: TargetKind::Tool,
            era: Era::Modern,
            ttl_ms: 5,
            down: Vec::new(),
            parts: vec![(Arc::clone(state), Arc::from(shown))],
        }
    }

    #[test]
    fn an_answer_is_made_once_of_the_same_and_again_of_anything_else() {
        let (lists, state, other) =
            (Lists::default(), Arc::new(State::default()), Arc::new(State::default()));
        let times = std::cell::Cell::new(0);
        let ask = |made: Made| {
            lists.of(made, |_| {
                times.set(times.get() + 1);
                Bytes::from(format!(r#","result":{}}}"#, times.get()))
            })
        };
        let first = made(&state, &[true, false]);
        let list = ask(first.clone());
        assert_eq!(list.answer(b"7"), r#"{"jsonrpc":"2.0","id":7,"result":1}"#);
        assert!(list.is_in(&list.answer(b"\"x\"")) && !list.is_in(br#"{"jsonrpc":"2.0","id":7,"result":2}"#));
        for (asked, expected) in [
            (first.clone(), 1),
            (made(&state, &[true, true]), 2),
            (Made { era: Era::Legacy, ..first.clone() }, 3),
            (Made { ttl_ms: 6, ..first.clone() }, 4),
            (Made { kind: TargetKind::Prompt, ..first.clone() }, 5),
            (Made { down: vec!["\"s\"".to_owned()], ..first.clone() }, 6),
            (made(&state, &[true, true]), 6),
            (first.clone(), 6),
            // The catalogue changed: what was made of the old one is gone.
            (made(&other, &[true, false]), 7),
            (first.clone(), 8),
        ] {
            ask(asked);
            assert_eq!(times.get(), expected);
        }
        let kept = |kind| lock(&lists.0).iter().filter(|list| list.made.kind == kind).count();
        assert_eq!((kept(TargetKind::Tool), kept(TargetKind::Prompt)), (1, 1));
    }

    #[test]
    fn few_answers_are_kept_and_none_that_is_large() {
        let (lists, state) = (Lists::default(), Arc::new(State::default()));
        for ttl_ms in 0..50 {
            lists.of(Made { ttl_ms, ..made(&state, &[true]) }, |_| Bytes::from_static(b"small"));
        }
        assert_eq!(lock(&lists.0).len(), LISTS_MAX);
        let large = Made { ttl_ms: 99, ..made(&state, &[true]) };
        lists.of(large.clone(), |_| Bytes::from(vec![b'x'; LIST_BYTES_MAX + 1]));
        assert!(!lock(&lists.0).iter().any(|list| list.made.is_of(&large)));
    }
}
