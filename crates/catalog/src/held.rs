//! What a person has to look at before anybody uses it: seen in a definition when it comes, and in what was pinned unseen
//! when tools of other servers come to be known that it speaks of or imitates.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use portcullis_core::{Event, Refusal, TargetKind};
use portcullis_mcp::{answer, json::View};
use portcullis_store::{Batch, Move, StoreError, definitions};

use super::{Catalog, Item, OBSERVER, entries::Change, neighbours::Others, store_refusal};

/// What was seen, as a ledger entry has it; nothing of nothing.
pub(super) fn why(seen: &BTreeSet<&str>) -> Option<Arc<str>> {
    let names: Vec<&str> = seen.iter().copied().collect();
    (!names.is_empty()).then(|| Arc::from(names.join(", ")))
}

impl Catalog {
    /// What is seen in a definition that a person should look at before anybody uses it.
    pub(super) fn seen_in(
        &self,
        kind: TargetKind,
        name: &str,
        raw: &[u8],
        others: &Others,
    ) -> BTreeSet<&'static str> {
        let inspector = self.parts.inspector.load();
        let mut found = of_others(name, raw, others);
        answer::leaves(View::of(raw), "", |place, _, leaf| {
            if let Some(text) = leaf.as_str() {
                found.extend(inspector.holds(place, &text));
            }
        });
        if crate::imitation::imitates(name) {
            found.insert("look_alike_name");
        }
        tracing::debug!(server = %self.server, name, %kind, seen = ?found, "looked at");
        found
    }

    /// Looks again at what was pinned on first use, where more tools of other servers are known since: in whichever order
    /// two catalogues came, the same definitions wait for a person. What a person approved stays approved.
    ///
    /// # Errors
    /// The ledger or the store fails; then the next call looks again.
    pub async fn judge_again(&self, entries_max: u64) -> Result<(), Refusal> {
        let version = self.parts.neighbours.version();
        if self.judged.load(Ordering::Acquire) == version {
            return Ok(());
        }
        let _one = self.judging.lock().await;
        if self.judged.load(Ordering::Acquire) >= version {
            return Ok(());
        }
        let (mut batch, mut changes) = (Batch::default(), Vec::new());
        for (item, why) in self.suspects().await.map_err(store_refusal)? {
            batch.moves.push(Move {
                kind: item.kind.name().to_owned(),
                name: definitions::name(&self.server, &item.name),
                slot: definitions::PINNED.to_owned(),
                expect: Some(item.digest),
                to: None,
                by: OBSERVER.to_owned(),
                at: self.parts.clock.now(),
            });
            let (kind, name, digest) = (item.kind, Arc::clone(&item.name), Some(item.digest));
            changes.push(Change { event: Event::DefinitionHeld, kind, name, digest, why: Some(why) });
        }
        if !changes.is_empty() {
            self.record(changes, entries_max).await?;
            if !self.parts.revisions.apply(batch).await.map_err(store_refusal)? {
                // A person was faster; the next call looks at what is pinned then.
                return Ok(());
            }
            self.load().await.map_err(store_refusal)?;
        }
        self.judged.store(version, Ordering::Release);
        Ok(())
    }

    /// What was pinned on first use, in which something of other servers is seen now.
    async fn suspects(&self) -> Result<Vec<(Arc<Item>, Arc<str>)>, StoreError> {
        let state = self.state();
        let own: BTreeSet<&str> = state.list(TargetKind::Tool).map(|item| &*item.name).collect();
        let others = self.seat.pinned_by_others(&own);
        let mut suspects = Vec::new();
        for kind in TargetKind::ALL {
            let pinned = state.list(*kind).filter(|item| item.pinned);
            let seen = pinned.filter_map(|item| {
                Some((Arc::clone(item), why(&of_others(&item.name, &item.raw, &others))?))
            });
            for (item, why) in seen {
                let name = definitions::name(&self.server, &item.name);
                let head = self.parts.revisions.head(kind.name(), &name, definitions::PINNED).await?;
                let unseen =
                    |head: &portcullis_store::Head| head.moved_by == OBSERVER && head.digest == item.digest;
                if head.as_ref().is_some_and(unseen) {
                    suspects.push((item, why));
                }
            }
        }
        Ok(suspects)
    }
}

/// What a definition has of other servers.
fn of_others(name: &str, raw: &[u8], others: &Others) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    answer::leaves(View::of(raw), "", |_, _, leaf| {
        if leaf.as_str().is_some_and(|text| others.are_named_in(&text)) {
            found.insert("tool_of_another_server");
        }
    });
    if others.are_imitated_by(name) {
        found.insert("look_alike_name");
    }
    found
}
