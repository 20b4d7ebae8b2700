//! The embedded store on real files: the contract, other processes on the same file, damage, and a model.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use portcullis_core::{CallerKind, Digest, Scope, Timestamp};
use portcullis_store::{
    Batch, CheckpointKeeper, Keys, Move, NewKey, NewRevision, Revisions, Sqlite, StoreError, contract,
};
use proptest::prelude::*;

fn file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("portcullis.db");
    (directory, path)
}

fn key(id: &str) -> NewKey {
    NewKey {
        id: id.into(),
        name: id.into(),
        hash: [7; 32],
        roles: vec!["reader".into()],
        servers: Scope::All,
        kind: CallerKind::Service,
        created: Timestamp(1),
        expires: None,
        created_by: "test".into(),
    }
}

fn revision(name: &str, body: &[u8]) -> NewRevision {
    NewRevision {
        kind: "definition".into(),
        name: name.into(),
        body: body.into(),
        digest: Digest::of(body),
        parent: None,
        author: "test".into(),
        reason: "test".into(),
        at: Timestamp(1),
    }
}

fn change(name: &str, expect: Option<Digest>, to: Option<Digest>) -> Move {
    Move {
        kind: "definition".into(),
        name: name.into(),
        slot: "pinned".into(),
        expect,
        to,
        by: "test".into(),
        at: Timestamp(2),
    }
}

/// Polls until `holds`; far longer than the store may take.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(40), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn keeps_the_contract_of_stores() {
    let directory = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    let make = || {
        count.set(count.get() + 1);
        Sqlite::open(directory.path().join(format!("{}.db", count.get())))
    };
    assert_eq!(contract::all(make).await, Ok(()));
    assert_eq!(count.get(), 12, "every check ran on a store of its own");
}

#[tokio::test]
async fn what_was_stored_is_there_after_opening_again() {
    let (_directory, path) = file();
    let store = Sqlite::open(&path).unwrap();
    let (kept, revoked) =
        (store.create(key("kept")).await.unwrap(), store.create(key("revoked")).await.unwrap());
    assert!(store.revoke("revoked", "me", Timestamp(9)).await.unwrap());
    store.put(revision("a", b"1")).await.unwrap();
    assert!(store.move_head(change("a", None, Some(Digest::of(b"1")))).await.unwrap());
    let heads = store.heads_with_bodies("definition").await.unwrap();
    drop(store);
    let store = Sqlite::open(&path).unwrap();
    assert_eq!(store.find("kept"), Some(kept));
    let found = store.find("revoked").unwrap();
    assert_eq!((found.revoked, found.revoked_by.as_deref()), (Some(Timestamp(9)), Some("me")));
    assert_eq!(found.created_by, revoked.created_by);
    assert_eq!(store.heads_with_bodies("definition").await.unwrap(), heads);
}

#[test]
fn the_last_checkpoint_is_kept_and_replaced() {
    let (_directory, path) = file();
    let store = Sqlite::open(&path).unwrap();
    assert_eq!(store.load("a"), Ok(None));
    store.save("a\none\n").unwrap();
    store.save("a\ntwo\n\n— sig\n").unwrap();
    store.save("b\n3\n").unwrap();
    assert_eq!(store.load("a"), Ok(Some("a\ntwo\n\n— sig\n".into())));
    drop(store);
    let store = Sqlite::open(&path).unwrap();
    assert_eq!(store.load("a"), Ok(Some("a\ntwo\n\n— sig\n".into())));
    assert_eq!(store.load("b"), Ok(Some("b\n3\n".into())), "of another gateway on the same store");
    assert_eq!(store.load("c"), Ok(None));
}

#[tokio::test]
async fn another_store_on_the_same_file_notices_keys_revocations_and_revisions() {
    let (_directory, path) = file();
    let (one, two) = (Sqlite::open(&path).unwrap(), Sqlite::open(&path).unwrap());
    let changed = two.changed();
    one.create(key("k")).await.unwrap();
    eventually("the key is seen", || two.find("k").is_some()).await;
    one.revoke("k", "me", Timestamp(3)).await.unwrap();
    eventually("the revocation is seen", || two.find("k").unwrap().revoked.is_some()).await;
    let before = *changed.borrow();
    one.put(revision("a", b"1")).await.unwrap();
    eventually("the revision is noticed", || *changed.borrow() != before).await;
    assert!(two.get("definition", "a", Digest::of(b"1")).await.unwrap().is_some());
}

#[tokio::test]
async fn two_stores_cannot_both_move_a_head_from_the_same_place() {
    let (_directory, path) = file();
    let (one, two) = (Sqlite::open(&path).unwrap(), Sqlite::open(&path).unwrap());
    for round in 0_u32..50 {
        let (name, body) = (format!("n{round}"), round.to_le_bytes());
        one.put(revision(&name, &body)).await.unwrap();
        let to = || change(&name, None, Some(Digest::of(&body)));
        let (a, b) = tokio::join!(one.move_head(to()), two.move_head(to()));
        assert!(a.unwrap() != b.unwrap(), "exactly one of them moved the head");
    }
}

#[tokio::test]
async fn a_head_goes_to_and_fro_between_versions_and_stays_where_it_is() {
    let (_directory, path) = file();
    let store = Sqlite::open(&path).unwrap();
    let (a, b) = (b"a".as_slice(), b"b".as_slice());
    for body in [a, b] {
        store.put(revision("n", body)).await.unwrap();
    }
    let mut from = None;
    for body in [a, b, a, a, b] {
        let to = Some(Digest::of(body));
        assert!(store.move_head(change("n", from, to)).await.unwrap());
        from = to;
    }
}

#[test]
fn a_new_database_is_made_once_however_many_open_it_and_leaves_nothing_beside() {
    let (directory, path) = file();
    let path = &path;
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let store = Sqlite::open(path).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(store.create(key(&format!("k{number}")))).unwrap();
            });
        }
    });
    let store = Sqlite::open(path).unwrap();
    assert!(
        (0..8).all(|number| store.find(&format!("k{number}")).is_some()),
        "no store lost its file to another"
    );
    let names = fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().contains("new")));
}

#[test]
fn opening_a_current_database_writes_nothing_that_would_have_to_be_flushed() {
    let (directory, path) = file();
    drop(Sqlite::open(&path).unwrap());
    let _store = Sqlite::open(&path).unwrap();
    let log = directory.path().join(format!("{}-wal", path.file_name().unwrap().to_string_lossy()));
    assert_eq!(fs::metadata(log).map_or(0, |log| log.len()), 0);
}

#[test]
fn its_files_are_private() {
    let (directory, path) = file();
    let _store = Sqlite::open(&path).unwrap();
    let files: Vec<_> = fs::read_dir(directory.path()).unwrap().map(Result::unwrap).collect();
    assert!(files.len() >= 2, "the database and its log");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.path().display());
    }
}

fn tamper(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_database_of_a_later_version_is_refused_and_left_alone() {
    let (_directory, path) = file();
    drop(Sqlite::open(&path).unwrap());
    tamper(&path, "INSERT INTO migrations VALUES (999, 'from the future')");
    let before = fs::read(&path).unwrap();
    let error = Sqlite::open(&path).unwrap_err();
    assert_eq!(error, StoreError::Newer { found: 999, known: 13 });
    assert!(error.to_string().contains("hint: run the version that wrote it"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    let (_directory, path) = file();
    tamper(&path, "CREATE TABLE photos (id INTEGER)");
    let before = fs::read(&path).unwrap();
    assert_eq!(Sqlite::open(&path).unwrap_err(), StoreError::NotOurs);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn the_database_itself_refuses_to_change_a_revision_or_to_give_a_key_more() {
    let (_directory, path) = file();
    let store = Sqlite::open(&path).unwrap();
    store.put(revision("a", b"1")).await.unwrap();
    // In force once, and not any more.
    let digest = Some(Digest::of(b"1"));
    assert_eq!(store.move_head(change("a", None, digest)).await, Ok(true));
    assert_eq!(store.move_head(change("a", digest, None)).await, Ok(true));
    store.create(key("k")).await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    for sql in [
        "UPDATE revisions SET body = x'00'",
        "UPDATE judged SET name = 'b'",
        "DELETE FROM judged",
        "UPDATE revisions SET author = 'somebody'",
        "DELETE FROM revisions",
        "UPDATE keys SET roles = '[\"admin\"]', revoked = 1",
        "UPDATE keys SET servers = '[]', revoked = 1",
        "UPDATE keys SET expires = 1, revoked = 1",
        "UPDATE keys SET hash = zeroblob(32), revoked = 1",
        "UPDATE keys SET name = 'x'",
    ] {
        assert!(raw.execute(sql, []).is_err(), "{sql}");
    }
    assert_eq!(raw.execute("UPDATE keys SET revoked = 1, revoked_by = 'x'", []), Ok(1));
    for sql in ["UPDATE keys SET revoked = NULL", "UPDATE keys SET revoked = 2"] {
        assert!(raw.execute(sql, []).is_err(), "{sql}");
    }
}

/// Whatever byte is wrong: an error or an answer, no panic and no hang.
#[tokio::test]
async fn a_damaged_file_is_an_error_and_never_a_panic() {
    let (directory, path) = file();
    let store = Sqlite::open(&path).unwrap();
    for id in 0..40 {
        store.create(key(&format!("k{id}"))).await.unwrap();
        store.put(revision(&format!("n{id}"), &[id; 600])).await.unwrap();
    }
    drop(store);
    let good = fs::read(&path).unwrap();
    let bad = directory.path().join("bad.db");
    let mut refused = 0;
    for (index, at) in (0..good.len()).step_by(397).enumerate() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (index % 8);
        fs::write(&bad, &bytes).unwrap();
        let outcome = match Sqlite::open(&bad) {
            Ok(store) => store.heads_with_bodies("definition").await.map(|_| ()),
            Err(error) => Err(error),
        };
        refused += usize::from(outcome.is_err());
        for leftover in ["bad.db-wal", "bad.db-shm", "bad.db-journal"] {
            let _absent = fs::remove_file(directory.path().join(leftover));
        }
    }
    assert!(refused > 0, "some of the damage was noticed");
    for cut in [0, 1, 100, 1_000, 4_096, good.len() / 2] {
        fs::write(&bad, &good[..cut]).unwrap();
        let outcome = Sqlite::open(&bad);
        // Of nothing at all a fresh database is made.
        assert_eq!(outcome.is_ok(), cut == 0, "cut to {cut} bytes");
        drop(outcome);
        for leftover in ["bad.db-wal", "bad.db-shm", "bad.db-journal"] {
            let _absent = fs::remove_file(directory.path().join(leftover));
        }
    }
    fs::write(&bad, b"this is no database, whatever its name says, and it is long enough to look".repeat(20))
        .unwrap();
    let error = Sqlite::open(&bad).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains("hint: restore"), "{error}");
}

#[test]
fn a_path_that_cannot_be_used_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().to_owned(), directory.path().join("missing/portcullis.db")] {
        let error = Sqlite::open(&path).unwrap_err();
        assert!(
            matches!(&error, StoreError::Io(text) if text.contains(&path.display().to_string())),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_file_that_another_process_holds_is_reported_as_locked() {
    let (_directory, path) = file();
    let store = Sqlite::open(&path).unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(store.put(revision("a", b"1")).await, Err(StoreError::Locked));
    raw.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.put(revision("a", b"1")).await, Ok(()));
}

#[tokio::test]
async fn a_request_nobody_waits_for_any_more_is_done_all_the_same() {
    let (_directory, path) = file();
    let store = Sqlite::open(&path).unwrap();
    for id in 0..20 {
        let name = format!("k{id}");
        let create = store.create(key(&name));
        // Polled once, then dropped: the request is on its way.
        tokio::select! { biased; _ = create => {}, () = std::future::ready(()) => {} }
    }
    eventually("every key is there", || (0..20).all(|id| store.find(&format!("k{id}")).is_some())).await;
}

#[derive(Clone, Debug)]
struct Step {
    puts: Vec<(u8, u8)>,
    moves: Vec<(u8, Option<u8>, Option<u8>)>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let small = || 0_u8..3;
    let step = (
        prop::collection::vec((small(), small()), 0..3),
        prop::collection::vec((small(), prop::option::of(small()), prop::option::of(small())), 0..3),
    );
    prop::collection::vec(step.prop_map(|(puts, moves)| Step { puts, moves }), 1..12)
}

/// What the store has to do, on maps.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    stored: BTreeMap<u8, Vec<u8>>,
    heads: BTreeMap<u8, u8>,
}

impl Model {
    fn apply(&mut self, step: &Step) -> Result<bool, StoreError> {
        let mut next = self.clone();
        for (name, body) in &step.puts {
            let bodies = next.stored.entry(*name).or_default();
            if !bodies.contains(body) {
                bodies.push(*body);
            }
        }
        for (name, expect, to) in &step.moves {
            if next.heads.get(name) != expect.as_ref() {
                return Ok(false);
            }
            match to {
                None => next.heads.remove(name),
                Some(to) if next.stored.get(name).is_some_and(|bodies| bodies.contains(to)) => {
                    next.heads.insert(*name, *to)
                }
                Some(_) => return Err(StoreError::Missing),
            };
        }
        *self = next;
        Ok(true)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_of_batches_does_what_a_model_on_maps_does(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (_directory, path) = file();
        let store = Sqlite::open(&path).unwrap();
        let mut model = Model::default();
        runtime.block_on(async {
            for step in &steps {
                let digest = |body: u8| Digest::of(&[body]);
                let batch = Batch {
                    puts: step.puts.iter().map(|(name, body)| revision(&name.to_string(), &[*body])).collect(),
                    moves: step.moves.iter().map(|(name, expect, to)| {
                        change(&name.to_string(), expect.map(digest), to.map(digest))
                    }).collect(),
                };
                assert_eq!(store.apply(batch).await, model.apply(step));
                for name in 0..3_u8 {
                    let history = store.history("definition", &name.to_string()).await.unwrap();
                    let stored = model.stored.get(&name).cloned().unwrap_or_default();
                    assert!(history.iter().map(|meta| meta.digest).eq(stored.into_iter().map(digest)));
                }
                let heads = store.heads("definition").await.unwrap();
                let expected = model.heads.iter().map(|(name, body)| (name.to_string(), digest(*body)));
                assert!(heads.into_iter().map(|head| (head.name, head.digest)).eq(expected));
            }
        });
    }
}
