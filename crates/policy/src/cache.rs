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

/// A table of fixed size: each question has one place, and a newer question takes it. No lock, no growth.
#[derive(Debug)]
pub(crate) struct DecisionCache {
    places: Box<[ArcSwapOption<Entry>]>,
}

impl DecisionCache {
    /// Questions with longer names are not remembered: what callers send must not decide our memory.
    const NAME_BYTES_MAX: usize = 512;

    pub(crate) fn new(entries_max: u64) -> Self {
        let places = usize::try_from(entries_max).unwrap_or_default();
        Self { places: (0..places).map(|_| ArcSwapOption::empty()).collect() }
    }

    pub(crate) fn get(&self, caller: &Caller, action: Action, target: &Target) -> Option<Known> {
        let entry = self.place(caller, action, target)?.load();
        entry.as_ref().filter(|entry| entry.answers(caller, action, target)).map(|entry| entry.known.clone())
    }

    pub(crate) fn put(&self, caller: &Caller, action: Action, target: &Target, known: &Known) {
        let long = |name: &str| name.len() > Self::NAME_BYTES_MAX;
        if long(&caller.id) || target.item.as_ref().is_some_and(|(_, name)| long(name)) {
            return;
        }
        if let Some(place) = self.place(caller, action, target) {
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

    fn place(&self, caller: &Caller, action: Action, target: &Target) -> Option<&ArcSwapOption<Entry>> {
        let mut hasher = Fnv::default();
        caller.id.hash(&mut hasher);
        action.hash(&mut hasher);
        target.server.hash(&mut hasher);
        target.item.hash(&mut hasher);
        let places = u64::try_from(self.places.len()).ok().filter(|places| *places > 0)?;
        usize::try_from(hasher.finish() % places).ok().and_then(|index| self.places.get(index))
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
