//! What of a catalogue is shown to whom, decided once for everybody who is shown the same.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use portcullis_core::TargetKind;
use portcullis_policy::Audience;

/// The decisions made so far about one state of a catalogue: for each definition, in the order of the list.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<Made>);

#[derive(Debug, Default)]
struct Made {
    decisions: HashMap<(TargetKind, Audience), Arc<[bool]>>,
    count: u64,
}

impl Shown {
    /// What `audience` is shown, remembered or decided. At most `decisions_max` decisions are kept; more make it start
    /// anew.
    pub(super) fn of(
        &self,
        kind: TargetKind,
        audience: Audience,
        decisions_max: u64,
        decide: impl FnOnce() -> Arc<[bool]>,
    ) -> Arc<[bool]> {
        let key = (kind, audience);
        if let Some(known) = self.lock().decisions.get(&key) {
            return Arc::clone(known);
        }
        // Not under the lock: deciding takes a while, and twice the same does no harm.
        let shown = decide();
        let size = (shown.len() as u64).max(1);
        if size <= decisions_max {
            let mut made = self.lock();
            if made.count.saturating_add(size) > decisions_max {
                *made = Made::default();
            }
            if made.decisions.insert(key, Arc::clone(&shown)).is_none() {
                made.count += size;
            }
        }
        shown
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Made> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::{Caller, Limits, Target};
    use portcullis_policy::{Policies, PolicySource, builtin_roles};

    use super::*;

    fn audience(policies: &Policies, role: &str) -> Audience {
        let target = Target { server: Arc::from("s"), item: None, digest: None };
        policies.audience(&Caller::anonymous(Arc::from([role.to_owned()])), &target).unwrap()
    }

    #[test]
    fn a_list_is_decided_once_for_an_audience_and_again_when_the_policy_is_another_or_there_is_no_room() {
        let compiled = |cedar: &str| {
            let cedar = vec![("p".to_owned(), cedar.to_owned())];
            let source = PolicySource { roles: builtin_roles(), cedar, ..PolicySource::default() };
            Policies::compile(&source, &Limits::default()).unwrap()
        };
        let (one, other) = (compiled(""), compiled("permit (principal, action, resource);"));
        let shown = Shown::default();
        let asked = std::cell::Cell::new(0);
        let ask = |kind, audience| {
            shown.of(kind, audience, 5, || {
                asked.set(asked.get() + 1);
                Arc::from([true, false])
            })
        };
        let (reader, admin) = (audience(&one, "reader"), audience(&one, "admin"));
        for (kind, audience, decided) in [
            (TargetKind::Tool, &reader, 1),
            (TargetKind::Tool, &reader, 1),
            (TargetKind::Prompt, &reader, 2),
            // No room for six: everything is forgotten.
            (TargetKind::Tool, &admin, 3),
            (TargetKind::Tool, &audience(&other, "admin"), 4),
            (TargetKind::Tool, &admin, 4),
            (TargetKind::Tool, &reader, 5),
        ] {
            assert_eq!(*ask(kind, audience.clone()), [true, false]);
            assert_eq!(asked.get(), decided, "{kind} {audience:?}");
        }
        for _ in 0..2 {
            shown.of(TargetKind::Template, reader.clone(), 1, || Arc::from([true, true]));
        }
        assert!(
            !shown.lock().decisions.contains_key(&(TargetKind::Template, reader)),
            "larger than its room"
        );
    }
}
