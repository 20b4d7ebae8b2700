//! What is remembered of questions: the decision where it depends on nothing but caller, roles, action and target, and
//! otherwise the policies that it depends on.
//! It belongs to one compiled set of policies and dies with it, so nothing has to be invalidated.

use alloc::{boxed::Box, string::String, sync::Arc};
use core::hash::{Hash, Hasher};

use arc_swap::ArcSwapOption;
use portcullis_core::{Action, Caller, CallerKind, Target, TargetKind};

use crate::{Decision, slice::Slice};

/// What is known of a question beforehand.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// The answer.
    Decision(Arc<Decision>),
    /// The policies that it depends on.
    Slice(Arc<Slice>),
}

#[derive(Debug)]
struct Entry {
    id: Arc<str>,
    kind: CallerKind,
    roles: Arc<[String]>,
    action: Action,
    server: Arc<str>,
    item: Option<(TargetKind, Arc<str>)>,
    known: Known,
}

impl Entry {
    fn answers(&self, caller: &Caller, action: Action, target: &Target) -> bool {
        self.action == action
            && self.kind == caller.kind
            && self.id == caller.id
            && (Arc::ptr_eq(&self.roles, &caller.roles) || self.roles == caller.roles)
            && self.server == target.server
            && self.item == target.item
    }
}

/// A table of fixed size: each question has a few places, and a newer question takes one. No lock, no growth.
#[derive(Debug)]
pub(crate) struct DecisionCache {
    places: Box<[ArcSwapOption<Entry>]>,
}

impl DecisionCache {
    /// Questions with longer names are not remembered: what callers send must not decide our memory.
    const NAME_BYTES_MAX: usize = 512;
    /// Places of a question. With one, a list of 500 tools would take a tenth of its questions from each other.
    const WAYS: usize = 4;

    pub(crate) fn new(entries_max: u64) -> Self {
        let places = usize::try_from(entries_max).unwrap_or_default();
        Self { places: (0..places).map(|_| ArcSwapOption::empty()).collect() }
    }

    pub(crate) fn get(&self, caller: &Caller, action: Action, target: &Target) -> Option<Known> {
        self.places(caller, action, target).0.iter().find_map(|place| {
            let entry = place.load();
            let same = entry.as_ref().filter(|entry| entry.answers(caller, action, target))?;
            Some(same.known.clone())
        })
    }

    pub(crate) fn put(&self, caller: &Caller, action: Action, target: &Target, known: &Known) {
        let long = |name: &str| name.len() > Self::NAME_BYTES_MAX;
        if long(&caller.id) || target.item.as_ref().is_some_and(|(_, name)| long(name)) {
            return;
        }
        let (places, turn) = self.places(caller, action, target);
        let free = |place: &&ArcSwapOption<Entry>| {
            place.load().as_ref().is_none_or(|entry| entry.answers(caller, action, target))
        };
        if let Some(place) = places.iter().find(free).or_else(|| places.get(turn % places.len().max(1))) {
            place.store(Some(Arc::new(Entry {
                id: caller.id.clone(),
                kind: caller.kind,
                roles: caller.roles.clone(),
                action,
                server: target.server.clone(),
                item: target.item.clone(),
                known: known.clone(),
            })));
        }
    }

    /// The places of a question, and a number by which to choose one that is taken.
    fn places(&self, caller: &Caller, action: Action, target: &Target) -> (&[ArcSwapOption<Entry>], usize) {
        let mut hasher = Fnv::default();
        caller.id.hash(&mut hasher);
        action.hash(&mut hasher);
        target.server.hash(&mut hasher);
        target.item.hash(&mut hasher);
        let hash = usize::try_from(hasher.finish() >> 1).unwrap_or_default();
        let sets = self.places.len().div_ceil(Self::WAYS).max(1);
        let set = self.places.chunks(Self::WAYS).nth(hash % sets).unwrap_or_default();
        (set, hash / sets)
    }
}

/// FNV-1a. Collisions only cost a place, since entries are compared whole.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec::Vec};

    use portcullis_core::Limits;

    use super::*;

    fn known() -> Known {
        Known::Decision(Arc::new(Decision {
            code: None,
            policies: Arc::from(Vec::new()),
            obligations: Arc::default(),
            reason: String::new(),
        }))
    }

    fn target(n: u32) -> Target {
        Target {
            server: "s".into(),
            item: Some((TargetKind::Tool, format!("tool_{n}").into())),
            digest: None,
        }
    }

    #[test]
    fn a_long_list_is_remembered_and_a_full_table_forgets_and_goes_on() {
        let caller = Caller::anonymous(Arc::from([String::from("reader")]));
        let remembered = |cache: &DecisionCache, count| {
            (0..count).for_each(|n| cache.put(&caller, Action::CallTool, &target(n), &known()));
            (0..count).filter(|n| cache.get(&caller, Action::CallTool, &target(*n)).is_some()).count()
        };
        let usual = DecisionCache::new(Limits::default().decision_cache_max);
        assert!(remembered(&usual, 500) >= 498);
        let small = DecisionCache::new(10);
        let left = remembered(&small, 500);
        assert!((1..=10).contains(&left), "{left}");
        assert_eq!(remembered(&DecisionCache::new(0), 10), 0);
        assert!(usual.get(&caller, Action::ReadResource, &target(1)).is_none());
    }
}
