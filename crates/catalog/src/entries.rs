//! Changes of definitions in the ledger: an entry for each, and one for all that are more than a server may cause in an hour.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::try_join_all;
use portcullis_core::{Code, Digest, Event, Refusal, Target, TargetKind};
use portcullis_proof::entry::Entry;
use serde_json::{Value, json};

use super::{Catalog, lock};

/// How long what was taken counts.
const HOUR_US: u64 = 3_600_000_000;

/// One change, for the ledger.
pub(super) struct Change {
    pub(super) event: Event,
    pub(super) kind: TargetKind,
    pub(super) name: Arc<str>,
    pub(super) digest: Option<Digest>,
    /// Why it cannot be pinned.
    pub(super) why: Option<Arc<str>>,
}

impl Change {
    /// What a person should look at comes first.
    fn rank(&self) -> u8 {
        match self.event {
            Event::DefinitionChanged | Event::DefinitionHeld => 0,
            _ if self.why.is_some() => 1,
            Event::DefinitionObserved => 2,
            _ => 3,
        }
    }

    /// As it is digested with others.
    fn row(&self) -> Value {
        let digest = self.digest.map(|digest| digest.to_string());
        json!([self.kind.name(), &*self.name, self.event.name(), digest])
    }
}

/// Entries that one server caused in the hour that began last.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    begun_us: u64,
    taken: u64,
}

impl Allowance {
    /// Takes as many of `wanted` as `most` in an hour leaves.
    fn take(&mut self, now_us: u64, wanted: usize, most: u64) -> usize {
        if self.begun_us == 0 || now_us.saturating_sub(self.begun_us) >= HOUR_US {
            *self = Self { begun_us: now_us.max(1), taken: 0 };
        }
        let left = usize::try_from(most.saturating_sub(self.taken)).unwrap_or(usize::MAX);
        let given = wanted.min(left);
        self.taken += given as u64;
        given
    }
}

impl Catalog {
    /// Every change is in the ledger before it takes effect.
    pub(super) async fn record(&self, mut changes: Vec<Change>, most: u64) -> Result<(), Refusal> {
        changes.sort_by_key(Change::rank);
        let now_us = self.parts.clock.ticks_us();
        let alone = lock(&self.entries).take(now_us, changes.len(), most);
        let together = changes.split_off(alone);
        let mut entries: Vec<Vec<u8>> = changes.iter().map(|change| self.entry(change)).collect();
        if !together.is_empty() {
            entries.push(self.summary(together));
        }
        let appended = entries.into_iter().map(|entry| self.parts.ledger.append(entry));
        try_join_all(appended)
            .await
            .map(|_| ())
            .map_err(|error| Refusal::new(Code::LedgerUnavailable, error.to_string()))
    }

    fn entry(&self, change: &Change) -> Vec<u8> {
        let item = Some((change.kind, Arc::clone(&change.name)));
        let target = Target { server: Arc::clone(&self.server), item, digest: change.digest };
        // As a text it is quoted: a name may hold line breaks.
        let named = target.to_string();
        match (change.event, self.state().known(change.kind)) {
            (Event::DefinitionHeld, _) => {
                tracing::warn!(target = named, seen = change.why.as_deref(), "held for review");
            }
            _ if change.why.is_some() => tracing::warn!(
                target = named,
                why = change.why.as_deref(),
                "the server offers this in a form that cannot be pinned; it is held back"
            ),
            (Event::DefinitionChanged, _) => tracing::warn!(
                target = named,
                "the server changed this since it was approved; it is held back until a person looks at it"
            ),
            (Event::DefinitionObserved, true) => tracing::warn!(
                target = named,
                "the server offers this only now; it is held back until a person approves it"
            ),
            (event, _) => tracing::info!(target = named, event = event.name(), "the catalogue changed"),
        }
        let mut entry = Entry::new(change.event, self.parts.clock.now(), &self.parts.instance);
        entry.target = Some(&target);
        entry.detail = change.why.as_deref();
        let unusable = change.why.is_some() && change.event != Event::DefinitionHeld;
        entry.code = unusable.then_some(Code::DefinitionUnusable);
        entry.to_jcs()
    }

    /// All of them in one entry, whose digest is that of their canonical JSON.
    fn summary(&self, mut changes: Vec<Change>) -> Vec<u8> {
        changes.sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
        let mut counts = BTreeMap::<&str, u64>::new();
        for change in &changes {
            *counts.entry(change.event.name()).or_default() += 1;
        }
        tracing::warn!(
            server = %self.server,
            changes = changes.len(),
            "the server changed more than is recorded and logged one by one (`limits.definition_entries_max`)"
        );
        let rows = Value::Array(changes.iter().map(Change::row).collect()).to_string();
        let target = Target { server: Arc::clone(&self.server), item: None, digest: None };
        let mut entry = Entry::new(Event::DefinitionsChanged, self.parts.clock.now(), &self.parts.instance);
        entry.target = Some(&target);
        entry.data = BTreeMap::from([
            ("changes", json!(counts)),
            ("digest", json!(Digest::of(rows.as_bytes()).to_string())),
        ]);
        entry.to_jcs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_causes_so_many_entries_in_an_hour_and_as_many_in_the_next() {
        let mut allowance = Allowance::default();
        for (at, wanted, given) in [
            (0, 7, 7),
            (1, 7, 3),
            (HOUR_US, 7, 0),
            (HOUR_US + 1, 7, 7),
            (HOUR_US + 2, 0, 0),
            (2 * HOUR_US, 100, 3),
            (9 * HOUR_US, 100, 10),
        ] {
            assert_eq!(allowance.take(at, wanted, 10), given, "{at}");
        }
    }
}
