//! One suite that every store passes, so that callers need not know which one they have. Each check wants a fresh
//! store; [`all`] makes one for each.

use portcullis_core::{CallerKind, Digest, Scope, Timestamp};

use crate::{BODY_BYTES_MAX, Batch, Keys, Move, NewKey, NewRevision, Revisions, StoreError};

/// A store does not do what every store does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Something that has to hold does not.
    #[error("does not hold: {0}")]
    Rule(&'static str),
    /// The store failed where it must not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Names and texts that break quoting, terminals and comparisons where somebody was careless.
pub const HOSTILE_NAMES: [&str; 8] = [
    "a",
    "",
    "'; DROP TABLE keys; --",
    "line\nbreak\0nul",
    "naïve/тест/試験",
    "\u{202e}desrever",
    "%_*?[]",
    "name with \u{1f} separator",
];

fn ensure(holds: bool, rule: &'static str) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken::Rule(rule)) }
}

/// Runs every check, each on a store of its own.
///
/// # Errors
/// The first check that fails.
pub async fn all<S: Keys + Revisions>(make: impl Fn() -> Result<S, StoreError>) -> Result<(), Broken> {
    keys_come_back_as_they_were_given(&make()?).await?;
    a_key_id_is_taken_once(&make()?).await?;
    a_revocation_holds_at_once_and_once(&make()?).await?;
    a_revision_is_stored_once_and_never_changed(&make()?).await?;
    a_huge_body_is_refused(&make()?).await?;
    a_head_moves_only_from_where_its_mover_believes_it(&make()?).await?;
    a_head_points_at_a_revision(&make()?).await?;
    a_batch_happens_whole_or_not_at_all(&make()?).await?;
    heads_come_sorted_and_with_their_bodies(&make()?).await?;
    history_is_in_the_order_of_storing(&make()?).await?;
    only_what_nobody_judged_is_forgotten(&make()?).await?;
    a_catalogue_of_ten_thousand_is_one_change(&make()?).await
}

fn key(id: &str, name: &str) -> NewKey {
    NewKey {
        id: id.into(),
        name: name.into(),
        hash: Digest::of(id.as_bytes()).0,
        roles: vec!["reader".into(), name.into()],
        servers: Scope::Only([name.to_owned(), "files".into()].into()),
        kind: CallerKind::Service,
        created: Timestamp(1),
        expires: Some(Timestamp(u64::from(u32::MAX))),
        created_by: name.into(),
    }
}

fn revision(name: &str, body: &[u8]) -> NewRevision {
    NewRevision {
        kind: "definition".into(),
        name: name.into(),
        body: body.into(),
        digest: Digest::of(body),
        parent: None,
        author: "contract".into(),
        reason: name.into(),
        at: Timestamp(7),
    }
}

fn change(name: &str, expect: Option<&[u8]>, to: Option<&[u8]>) -> Move {
    Move {
        kind: "definition".into(),
        name: name.into(),
        slot: "pinned".into(),
        expect: expect.map(Digest::of),
        to: to.map(Digest::of),
        by: "contract".into(),
        at: Timestamp(8),
    }
}

/// What is created is found and listed, with every part of it.
///
/// # Errors
/// What does not hold.
pub async fn keys_come_back_as_they_were_given(store: &dyn Keys) -> Result<(), Broken> {
    for (index, name) in HOSTILE_NAMES.iter().enumerate() {
        let mut new = key(&format!("k{index}"), name);
        if index % 2 == 1 {
            (new.servers, new.expires, new.kind) = (Scope::All, None, CallerKind::User);
        }
        let row = store.create(new.clone()).await?;
        ensure(store.find(&new.id).as_ref() == Some(&row), "`find` sees a key as soon as `create` returns")?;
        let same = (&row.id, &row.name, &row.hash, &row.roles, &row.servers, &row.created_by)
            == (&new.id, &new.name, &new.hash, &new.roles, &new.servers, &new.created_by);
        let rest = (row.kind, row.created, row.expires) == (new.kind, new.created, new.expires);
        ensure(same && rest, "a key comes back as it was given")?;
        ensure(row.revoked.is_none() && row.revoked_by.is_none(), "a new key is not revoked")?;
    }
    ensure(store.list().await?.len() == HOSTILE_NAMES.len(), "`list` shows every key")?;
    ensure(store.find("k").is_none() && store.find("K0").is_none(), "ids are compared exactly")
}

/// A second key of the same id is refused, and the first one stays.
///
/// # Errors
/// What does not hold.
pub async fn a_key_id_is_taken_once(store: &dyn Keys) -> Result<(), Broken> {
    let first = store.create(key("k", "first")).await?;
    let second = store.create(key("k", "second")).await;
    ensure(second == Err(StoreError::Duplicate("k".into())), "an id is taken once")?;
    ensure(store.find("k") == Some(first), "the first key stays")
}

/// A revocation is visible before it is confirmed, and the first one stands.
///
/// # Errors
/// What does not hold.
pub async fn a_revocation_holds_at_once_and_once(store: &dyn Keys) -> Result<(), Broken> {
    store.create(key("k", "name")).await?;
    store.create(key("other", "name")).await?;
    ensure(!store.revoke("unknown", "me", Timestamp(5)).await?, "an unknown key is not revoked")?;
    ensure(store.revoke("k", "me", Timestamp(5)).await?, "a key is revoked")?;
    let row = store.find("k").ok_or(Broken::Rule("a revoked key stays known"))?;
    ensure(row.revoked == Some(Timestamp(5)), "`find` sees a revocation as soon as `revoke` returns")?;
    ensure(!row.valid(Timestamp(5)) && !row.valid(Timestamp(0)), "a revoked key is not valid")?;
    ensure(!store.revoke("k", "you", Timestamp(9)).await?, "a key is revoked once")?;
    let row = store.find("k").ok_or(Broken::Rule("a revoked key stays known"))?;
    let first = (row.revoked, row.revoked_by.as_deref()) == (Some(Timestamp(5)), Some("me"));
    ensure(first, "the first revocation stands")?;
    let other = store.find("other").ok_or(Broken::Rule("other keys stay"))?;
    ensure(other.valid(Timestamp(5)), "other keys stay valid")?;
    let ends = Timestamp(u64::from(u32::MAX));
    ensure(other.valid(Timestamp(ends.0 - 1)) && !other.valid(ends), "a key is valid until it expires")
}

/// Storing again changes nothing, other bytes under the same digest are refused.
///
/// # Errors
/// What does not hold.
pub async fn a_revision_is_stored_once_and_never_changed(store: &dyn Revisions) -> Result<(), Broken> {
    for name in HOSTILE_NAMES {
        let mut new = revision(name, b"\0body\xff");
        new.parent = Some(Digest::of(b"parent"));
        store.put(new.clone()).await?;
        let again = NewRevision { author: "somebody else".into(), at: Timestamp(99), ..new.clone() };
        store.put(again).await?;
        let found = store.get("definition", name, new.digest).await?;
        let found = found.ok_or(Broken::Rule("a stored revision is found"))?;
        ensure(found.body == new.body, "a body comes back as it was given")?;
        let meta = &found.meta;
        let same = (&meta.kind, &meta.name, &meta.author, &meta.reason)
            == (&new.kind, &new.name, &new.author, &new.reason);
        let rest = (meta.digest, meta.parent, meta.at) == (new.digest, new.parent, new.at);
        ensure(same && rest, "the first storing stands")?;
        let forged = NewRevision { body: b"other".into(), ..new.clone() };
        let conflict = StoreError::Conflict { name: name.into(), digest: new.digest };
        ensure(store.put(forged).await == Err(conflict), "other bytes under a digest are refused")?;
        ensure(store.get("server", name, new.digest).await?.is_none(), "kinds are apart")?;
    }
    ensure(store.get("definition", "b", Digest::of(b"")).await?.is_none(), "what is not stored is not found")
}

/// A body beyond the limit is refused, one at the limit is kept.
///
/// # Errors
/// What does not hold.
pub async fn a_huge_body_is_refused(store: &dyn Revisions) -> Result<(), Broken> {
    store.put(revision("large", &vec![7; BODY_BYTES_MAX])).await?;
    let outcome = store.put(revision("huge", &vec![7; BODY_BYTES_MAX + 1])).await;
    let expected = StoreError::TooLarge { size: BODY_BYTES_MAX + 1, limit: BODY_BYTES_MAX };
    ensure(outcome == Err(expected), "a huge body is refused")
}

/// Two movers cannot both win.
///
/// # Errors
/// What does not hold.
pub async fn a_head_moves_only_from_where_its_mover_believes_it(store: &dyn Revisions) -> Result<(), Broken> {
    for body in [b"1", b"2"] {
        store.put(revision("a", body)).await?;
    }
    let at = async || Ok::<_, StoreError>(store.head("definition", "a", "pinned").await?.map(|h| h.digest));
    ensure(
        !store.move_head(change("a", Some(b"1"), Some(b"2"))).await?,
        "a head that is not there is nowhere",
    )?;
    ensure(store.move_head(change("a", None, Some(b"1"))).await?, "a head is set where there was none")?;
    ensure(!store.move_head(change("a", None, Some(b"2"))).await?, "a head that is there is somewhere")?;
    ensure(at().await? == Some(Digest::of(b"1")), "a move that is refused moves nothing")?;
    ensure(store.move_head(change("a", Some(b"1"), Some(b"2"))).await?, "a head moves")?;
    ensure(at().await? == Some(Digest::of(b"2")), "a moved head is where it was moved to")?;
    ensure(store.head("definition", "a", "seen").await?.is_none(), "slots are apart")?;
    ensure(!store.move_head(change("a", Some(b"1"), None)).await?, "removing asks too")?;
    ensure(store.move_head(change("a", Some(b"2"), None)).await?, "a head is removed")?;
    ensure(at().await?.is_none(), "a removed head is gone")?;
    ensure(store.move_head(change("a", None, None)).await?, "removing what is not there is no change")
}

/// No head points into the void.
///
/// # Errors
/// What does not hold.
pub async fn a_head_points_at_a_revision(store: &dyn Revisions) -> Result<(), Broken> {
    store.put(revision("a", b"1")).await?;
    let outcome = store.move_head(change("b", None, Some(b"1"))).await;
    ensure(outcome == Err(StoreError::Missing), "a head points at a revision of its own name")?;
    ensure(store.heads("definition").await?.is_empty(), "a move that failed moves nothing")
}

/// Versions and moves of a batch stand or fall together.
///
/// # Errors
/// What does not hold.
pub async fn a_batch_happens_whole_or_not_at_all(store: &dyn Revisions) -> Result<(), Broken> {
    let changed = store.changed();
    let before = *changed.borrow();
    let puts = || vec![revision("a", b"1"), revision("b", b"2")];
    let first = change("a", None, Some(b"1"));
    let late = Batch { puts: puts(), moves: vec![first.clone(), change("b", Some(b"1"), Some(b"2"))] };
    ensure(!store.apply(late).await?, "one move that does not fit refuses the batch")?;
    let dangling = Batch { puts: puts(), moves: vec![first.clone(), change("b", None, Some(b"9"))] };
    ensure(
        store.apply(dangling).await == Err(StoreError::Missing),
        "one missing revision refuses the batch",
    )?;
    ensure(store.heads("definition").await?.is_empty(), "no head of a refused batch moved")?;
    ensure(store.history("definition", "a").await?.is_empty(), "no version of a refused batch is stored")?;
    ensure(*changed.borrow() == before, "a refused batch is no change")?;
    let fits = Batch { puts: puts(), moves: vec![first, change("b", None, Some(b"2"))] };
    ensure(store.apply(fits).await?, "a batch that fits happens")?;
    ensure(store.heads("definition").await?.len() == 2, "all its heads moved")?;
    ensure(*changed.borrow() != before, "a batch that happened is a change")
}

/// Lists are in one order, by name and slot, whatever the order of storing.
///
/// # Errors
/// What does not hold.
pub async fn heads_come_sorted_and_with_their_bodies(store: &dyn Revisions) -> Result<(), Broken> {
    for name in ["c", "a", "b"] {
        store.put(revision(name, name.as_bytes())).await?;
        for slot in ["seen", "pinned"] {
            let at = Move { slot: slot.into(), ..change(name, None, Some(name.as_bytes())) };
            ensure(store.move_head(at).await?, "a head is set")?;
        }
    }
    let heads = store.heads("definition").await?;
    let order: Vec<_> = heads.iter().map(|head| (head.name.as_str(), head.slot.as_str())).collect();
    let sorted =
        [("a", "pinned"), ("a", "seen"), ("b", "pinned"), ("b", "seen"), ("c", "pinned"), ("c", "seen")];
    ensure(order == sorted, "heads come by name and slot")?;
    let full = store.heads_with_bodies("definition").await?;
    ensure(full.iter().map(|(head, _)| head).eq(&heads), "both lists show the same heads")?;
    let fits =
        |name: &str, body: &[u8], digest: Digest| name.as_bytes() == body && Digest::of(body) == digest;
    let right = full.iter().all(|(head, found)| fits(&head.name, &found.body, head.digest));
    ensure(
        right && full.iter().all(|(head, found)| found.meta.name == head.name),
        "bodies go with their heads",
    )?;
    ensure(store.heads("server").await?.is_empty(), "kinds are apart")
}

/// The past is told in order.
///
/// # Errors
/// What does not hold.
pub async fn history_is_in_the_order_of_storing(store: &dyn Revisions) -> Result<(), Broken> {
    let bodies: [&[u8]; 4] = [b"3", b"1", b"2", b"0"];
    for body in bodies {
        store.put(revision("a", body)).await?;
        store.put(revision("b", body)).await?;
    }
    let history = store.history("definition", "a").await?;
    ensure(history.iter().map(|meta| meta.digest).eq(bodies.map(Digest::of)), "history is in order")?;
    let grows = history.iter().zip(history.iter().skip(1)).all(|(a, b)| a.sequence < b.sequence);
    ensure(grows, "sequence numbers grow")
}

/// What was judged, or is shown, stays; of the rest the newest stay, for each prefix.
///
/// # Errors
/// What does not hold.
pub async fn only_what_nobody_judged_is_forgotten(store: &dyn Revisions) -> Result<(), Broken> {
    for (index, name) in ["f/x", "f/y", "g/x"].into_iter().enumerate() {
        let mut before: Option<Vec<u8>> = None;
        for version in 0..20_u8 {
            let body = vec![version, u8::try_from(index).unwrap_or_default()];
            let mut seen = change(name, before.as_deref(), Some(&body));
            seen.slot = "observed".into();
            let mut moves = vec![seen];
            // One that was approved, and one that was rejected, long ago.
            let was = |version: u8| before.as_ref().is_some_and(|body| body.first() == Some(&version));
            for (slot, version) in [("pinned", 3), ("rejected", 5)] {
                let judged = before.as_deref().filter(|_| was(version));
                let mut verdict = change(name, None, judged);
                verdict.slot = slot.into();
                let mut lifted = change(name, judged, None);
                lifted.slot = slot.into();
                moves.extend(judged.map(|_| [verdict, lifted]).into_iter().flatten());
            }
            let batch = Batch { puts: vec![revision(name, &body)], moves };
            ensure(store.apply(batch).await?, "it is shown")?;
            before = Some(body);
        }
    }
    // Twenty each, of which one is shown and two were judged.
    ensure(store.forget("definition", "f/", 6).await? == 2 * 17 - 6, "the oldest are gone")?;
    ensure(store.forget("definition", "f/", 6).await? == 0, "once")?;
    let mut left = Vec::new();
    for name in ["f/x", "f/y", "g/x"] {
        left.push(store.history("definition", name).await?);
    }
    let count: Vec<_> = left.iter().map(Vec::len).collect();
    ensure(count == [3, 9, 20], "the newest of all names stay")?;
    let first = left.first().map(|kept| kept.iter().map(|meta| meta.digest).collect::<Vec<_>>());
    let kept = [[3_u8, 0], [5, 0], [19, 0]].map(|body| Digest::of(&body));
    ensure(first.is_some_and(|first| first == kept), "what was judged or is shown stays")
}

/// A whole catalogue is one transaction.
///
/// # Errors
/// What does not hold.
pub async fn a_catalogue_of_ten_thousand_is_one_change(store: &dyn Revisions) -> Result<(), Broken> {
    let before = *store.changed().borrow();
    let names: Vec<_> = (0..10_000).map(|index| format!("server/tool-{index:05}")).collect();
    let batch = Batch {
        puts: names.iter().map(|name| revision(name, name.as_bytes())).collect(),
        moves: names.iter().map(|name| change(name, None, Some(name.as_bytes()))).collect(),
    };
    ensure(store.apply(batch).await?, "a large batch happens")?;
    ensure(*store.changed().borrow() == before.wrapping_add(1), "a batch is one change")?;
    ensure(store.heads_with_bodies("definition").await?.len() == names.len(), "all of it is there")
}
