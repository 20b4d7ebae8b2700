//! Fetches what a server says now, completely, and compares it with what is pinned.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use portcullis_core::{Code, Digest, Event, Limits, Refusal, TargetKind};
use portcullis_mcp::{answer, json::View, revision::ParamHeader};
use portcullis_proof::manifest::{self, ManifestError};
use portcullis_store::{Batch, Move, NewRevision, definitions};

use super::{Catalog, OBSERVER, Trust, entries::Change, held, lock, store_refusal};
use portcullis_upstream::{Behalf, Upstream, own::Offer};

/// What a server says about one definition.
struct Observed {
    name: Arc<str>,
    raw: Vec<u8>,
    digest: Digest,
}

/// One complete listing.
#[derive(Default)]
struct Listing {
    observed: Vec<Observed>,
    /// What cannot be pinned, with the reason.
    held: BTreeMap<Arc<str>, Arc<str>>,
}

/// What follows from one complete listing.
#[derive(Default)]
struct Plan {
    batch: Batch,
    events: Vec<Change>,
}

impl Plan {
    fn change(&mut self, event: Event, kind: TargetKind, name: &Arc<str>, digest: Digest) {
        let name = Arc::clone(name);
        self.events.push(Change { event, kind, name, digest: Some(digest), why: None });
    }
}

/// The list method of a kind.
fn method(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Prompt => "prompts/list",
        TargetKind::Resource => "resources/list",
        TargetKind::Template => "resources/templates/list",
        TargetKind::Tool => "tools/list",
    }
}

/// Whether the headers that a tool wants mirrored are as the specification has them.
fn headers(kind: TargetKind, definition: &View<'_>) -> Result<(), String> {
    let schema = definition.get("inputSchema").filter(|_| kind == TargetKind::Tool);
    schema.map_or(Ok(()), |schema| {
        ParamHeader::from_schema(&schema).map(drop).map_err(|error| error.to_string())
    })
}

/// How long a call waits for a server that does not answer, when a pinned catalogue can stand in.
const PATIENCE: Duration = Duration::from_secs(2);

impl Catalog {
    /// As [`Self::refresh`] for a call that waits: once there is a catalogue, a slow or broken server only costs it a
    /// moment.
    ///
    /// # Errors
    /// As [`Self::refresh`], before the first catalogue.
    pub async fn freshen(
        &self,
        upstream: &Upstream,
        kinds: &[TargetKind],
        caller: Option<&Behalf>,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        let refresh = self.refresh_for(upstream, kinds, caller, limits);
        if !kinds.iter().all(|kind| self.state().known(*kind)) {
            return refresh.await;
        }
        let _ = tokio::time::timeout(PATIENCE, refresh).await;
        Ok(())
    }

    /// Fetches the lists of `kinds` and brings the catalogue up to date. A server whose callers have credentials of their
    /// own is asked when one of them calls: nobody's credential serves in the background.
    ///
    /// # Errors
    /// When the server cannot be asked or its catalogue cannot be pinned; the old state stays.
    pub async fn refresh(
        &self,
        upstream: &Upstream,
        kinds: &[TargetKind],
        limits: &Limits,
    ) -> Result<(), Refusal> {
        if upstream.personal() { Ok(()) } else { self.refresh_for(upstream, kinds, None, limits).await }
    }

    /// The same on behalf of `caller`. Whoever waited while another refresh of
    /// the same kinds began and ended takes its result.
    ///
    /// # Errors
    /// When the server cannot be asked or its catalogue cannot be pinned; the old state stays.
    async fn refresh_for(
        &self,
        upstream: &Upstream,
        kinds: &[TargetKind],
        caller: Option<&Behalf>,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        let asked_us = self.parts.clock.ticks_us();
        let _gate = self.gate.lock().await;
        let fresh = |kind: &TargetKind| {
            self.fetched_us.get(*kind as usize).is_some_and(|at| at.load(Ordering::Acquire) > asked_us)
        };
        if kinds.iter().all(fresh) {
            return Ok(());
        }
        let result = self.fetch(upstream, kinds, (caller, limits)).await;
        // That a caller is not connected yet, or has no token to exchange, is nothing that is wrong with the server.
        let wrong = |refusal: &&Refusal| {
            !matches!(refusal.code, Code::ConnectionRequired | Code::ExchangeRefused | Code::ExchangeToken)
        };
        let error = result.as_ref().err().filter(wrong).map(|refusal| refusal.private.clone());
        if let Some(error) = &error {
            upstream.reopen().await;
            tracing::warn!(server = %self.server, error, "the catalogue could not be refreshed; the pinned one stays");
        }
        *lock(&self.error) = error;
        result
    }

    async fn fetch(
        &self,
        upstream: &Upstream,
        kinds: &[TargetKind],
        (caller, limits): (Option<&Behalf>, &Limits),
    ) -> Result<(), Refusal> {
        let begun_us = self.parts.clock.ticks_us().max(1);
        // With the whole catalogue: a server may have learnt to do more since it was asked what it can do.
        let whole = TargetKind::ALL.iter().all(|kind| kinds.contains(kind));
        let offer = if whole {
            upstream.offer_now(caller, limits).await?
        } else {
            upstream.offer(caller, limits).await?
        };
        self.offered.store(Arc::new(offer.versions.clone()));
        self.capabilities.store(Arc::new(offer.capabilities().clone()));
        let mut plan = Plan::default();
        for kind in kinds {
            // Resources that somebody sees with a token of its own are not for the list of another.
            let own = *kind == TargetKind::Resource && upstream.personal();
            let listing = if offer.has(*kind) && !own {
                self.list(upstream, &offer, *kind, (caller, limits)).await?
            } else {
                Listing::default()
            };
            self.compare(*kind, &listing, &mut plan).await.map_err(store_refusal)?;
            let order = listing.observed.into_iter().map(|item| item.name).collect();
            lock(&self.order).insert(*kind, order);
            lock(&self.held).insert(*kind, listing.held);
        }
        self.record(plan.events, limits.definition_entries_max).await?;
        // Heads only move from where the comparison saw them; if a person was faster, the next refresh looks again.
        let new = !plan.batch.puts.is_empty();
        let moved = self.parts.revisions.apply(plan.batch).await.map_err(store_refusal)?;
        for kind in kinds.iter().filter(|_| new) {
            let (prefix, keep) = (definitions::prefix(&self.server), limits.unjudged_definitions_max);
            self.parts.revisions.forget(kind.name(), &prefix, keep).await.map_err(store_refusal)?;
        }
        self.load().await.map_err(store_refusal)?;
        if moved {
            for kind in kinds {
                if let Some(at) = self.fetched_us.get(*kind as usize) {
                    // When it began: what the server changed since then was perhaps not seen.
                    at.store(begun_us, Ordering::Release);
                }
            }
        }
        Ok(())
    }

    async fn list(
        &self,
        upstream: &Upstream,
        offer: &Offer,
        kind: TargetKind,
        (caller, limits): (Option<&Behalf>, &Limits),
    ) -> Result<Listing, Refusal> {
        let unusable =
            |what: String| Refusal::new(Code::AnswerInvalid, format!("`{}`: {what}", method(kind)));
        let (mut listing, mut names) = (Listing::default(), BTreeSet::new());
        let (mut cursor, mut ttl_ms, mut bytes) = (None::<String>, None::<u64>, 0_usize);
        for _ in 0..limits.list_pages_max {
            let page = upstream.page(offer, method(kind), cursor.as_deref(), caller, limits).await?;
            // All pages are held until the last one has come, so that together they may be as much as one.
            bytes = bytes.saturating_add(page.bytes().len());
            if bytes as u64 > limits.answer_bytes_max {
                let what = format!("`{}`: the pages together exceed limits.answer_bytes_max", method(kind));
                return Err(Refusal::new(Code::AnswerTooLarge, what));
            }
            let result = page.result().ok_or_else(|| unusable("no result".into()))?;
            let items =
                answer::list_items(result, kind).ok_or_else(|| unusable("no list in the result".into()))?;
            for (name, view) in items {
                let name = name.ok_or_else(|| unusable("an entry without a name".into()))?;
                let name: Arc<str> = Arc::from(&*name);
                if !names.insert(Arc::clone(&name)) {
                    return Err(unusable(format!("`{name}` is listed twice")));
                }
                // A tool with such an annotation is not to be used; without it nothing holds its headers to its arguments.
                if let Err(error) = headers(kind, &view) {
                    listing.held.insert(name, Arc::from(error));
                    continue;
                }
                match manifest::definition_digest(kind, view.raw()) {
                    Ok(digest) => {
                        listing.observed.push(Observed { name, raw: view.raw().to_vec(), digest });
                    }
                    // All readers agree what it is called and where it ends, so that the others can be used.
                    Err(error @ ManifestError::UnsafeInteger(_)) => {
                        listing.held.insert(name, Arc::from(error.to_string()));
                    }
                    Err(error) => return Err(unusable(format!("`{name}` cannot be pinned: {error}"))),
                }
            }
            if names.len() as u64 > limits.definitions_max {
                return Err(unusable("more than limits.definitions_max definitions".into()));
            }
            let stated = result.get("ttlMs").and_then(|ttl| ttl.as_u64());
            ttl_ms = stated.into_iter().chain(ttl_ms).min();
            cursor = answer::next_cursor(&result).map(|cursor| cursor.into_owned());
            if cursor.is_none() {
                self.fresh.stated(kind, ttl_ms);
                return Ok(listing);
            }
        }
        Err(unusable("more than limits.list_pages_max pages".into()))
    }

    async fn compare(
        &self,
        kind: TargetKind,
        listing: &Listing,
        plan: &mut Plan,
    ) -> Result<(), portcullis_store::StoreError> {
        let mut held = self.heads(kind).await?;
        let first = self.trust == Trust::TrustOnFirstUse && !self.state().known(kind);
        let before = lock(&self.held).get(&kind).cloned().unwrap_or_default();
        let own: BTreeSet<&str> = listing.observed.iter().map(|item| &*item.name).collect();
        let others = self.seat.others(&own);
        for (name, why) in &listing.held {
            // It did not vanish either: what is pinned under its name stays, and cannot be called.
            held.remove(&**name);
            if before.get(name) != Some(why) {
                let (name, why) = (Arc::clone(name), Some(Arc::clone(why)));
                plan.events.push(Change { event: Event::DefinitionObserved, kind, name, digest: None, why });
            }
        }
        for item in &listing.observed {
            let heads = held.remove(&*item.name).unwrap_or_default();
            if heads.observed == Some(item.digest) {
                continue;
            }
            self.put(plan, kind, item, heads.observed);
            self.move_head(plan, kind, &item.name, definitions::OBSERVED, heads.observed, Some(item.digest));
            match heads.pinned {
                None if first => match held::why(&self.seen_in(kind, &item.name, &item.raw, &others)) {
                    None => {
                        self.move_head(plan, kind, &item.name, definitions::PINNED, None, Some(item.digest));
                        plan.change(Event::DefinitionPinned, kind, &item.name, item.digest);
                    }
                    why => plan.events.push(Change {
                        event: Event::DefinitionHeld,
                        kind,
                        name: Arc::clone(&item.name),
                        digest: Some(item.digest),
                        why,
                    }),
                },
                Some(pinned) if pinned == item.digest => {}
                None => plan.change(Event::DefinitionObserved, kind, &item.name, item.digest),
                Some(_) => plan.change(Event::DefinitionChanged, kind, &item.name, item.digest),
            }
        }
        // What is left was not listed.
        for (name, heads) in held {
            let Some(digest) = heads.observed else { continue };
            self.move_head(plan, kind, &name, definitions::OBSERVED, Some(digest), None);
            plan.change(Event::DefinitionVanished, kind, &Arc::from(name), digest);
        }
        Ok(())
    }

    fn put(&self, plan: &mut Plan, kind: TargetKind, item: &Observed, parent: Option<Digest>) {
        plan.batch.puts.push(NewRevision {
            kind: kind.name().to_owned(),
            name: definitions::name(&self.server, &item.name),
            body: item.raw.clone(),
            digest: item.digest,
            parent,
            author: format!("server:{}", self.server),
            reason: "listed by the server".to_owned(),
            at: self.parts.clock.now(),
        });
    }

    fn move_head(
        &self,
        plan: &mut Plan,
        kind: TargetKind,
        name: &str,
        slot: &str,
        expect: Option<Digest>,
        to: Option<Digest>,
    ) {
        plan.batch.moves.push(Move {
            kind: kind.name().to_owned(),
            name: definitions::name(&self.server, name),
            slot: slot.to_owned(),
            expect,
            to,
            by: OBSERVER.to_owned(),
            at: self.parts.clock.now(),
        });
    }
}
