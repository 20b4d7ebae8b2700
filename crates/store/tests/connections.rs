//! Two gateways on one file: which of them renews a connection, and what takes the place of what.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use portcullis_core::Timestamp;
use portcullis_store::{Claim, ConnectionRow, Connections as _, Seen, Sqlite};

fn row(revision: &str) -> ConnectionRow {
    ConnectionRow {
        caller: "alice".into(),
        server: "s".into(),
        issuer: "https://i.example".into(),
        scopes: "a".into(),
        granted: Timestamp(1),
        refreshed: None,
        expires: Some(Timestamp(9)),
        sealed: format!("sealed {revision}"),
        revision: revision.into(),
    }
}

fn seen(revision: &str) -> Seen {
    Seen { caller: "alice".into(), server: "s".into(), revision: revision.into() }
}

fn two() -> (tempfile::TempDir, Arc<Sqlite>, Arc<Sqlite>) {
    let folder = tempfile::tempdir().unwrap();
    let open = || Arc::new(Sqlite::open(folder.path().join("portcullis.db")).unwrap());
    let (a, b) = (open(), open());
    (folder, a, b)
}

#[tokio::test]
async fn a_renewal_is_one_gateways_until_it_is_done_given_back_or_over() {
    let (_folder, a, b) = two();
    a.put_connection(row("1"), 9).await.unwrap();
    let claim = async |store: &Sqlite, revision: &str, who: &str, now: u64| {
        store.claim_connection(seen(revision), who, Timestamp(now), Timestamp(now + 10)).await.unwrap()
    };
    assert_eq!(claim(&b, "0", "b", 100).await, Claim::Changed, "not what is there");
    assert_eq!(claim(&a, "1", "a", 100).await, Claim::Ours);
    assert_eq!(claim(&b, "1", "b", 100).await, Claim::Theirs);
    assert_eq!(claim(&b, "1", "b", 109).await, Claim::Theirs);
    // Whoever held it has crashed.
    assert_eq!(claim(&b, "1", "b", 110).await, Claim::Ours);
    // What does not hold it does not give it back.
    a.release_connection(seen("1"), "a").await.unwrap();
    assert_eq!(claim(&a, "1", "a", 111).await, Claim::Theirs);
    b.release_connection(seen("1"), "b").await.unwrap();
    assert_eq!(claim(&a, "1", "a", 111).await, Claim::Ours);
    // A clock that was put back makes no claim for ever.
    assert_eq!(claim(&b, "1", "b", 50).await, Claim::Ours);
    assert!(b.replace_connection(row("2"), "1").await.unwrap());
    assert_eq!(claim(&a, "1", "a", 51).await, Claim::Changed);
    assert_eq!(claim(&a, "2", "a", 51).await, Claim::Ours, "what is new is claimed by nobody");
}

#[tokio::test]
async fn nothing_takes_the_place_of_what_was_not_seen() {
    let (_folder, a, b) = two();
    a.put_connection(row("1"), 9).await.unwrap();
    assert!(!b.replace_connection(row("2"), "0").await.unwrap());
    assert!(!b.forget_seen(seen("0")).await.unwrap());
    assert_eq!(a.connection("alice", "s").await.unwrap(), Some(row("1")));
    // The user connects anew, while a renewal of the old connection is under way.
    a.put_connection(row("2"), 9).await.unwrap();
    assert!(!b.replace_connection(row("3"), "1").await.unwrap());
    assert_eq!(b.connection("alice", "s").await.unwrap(), Some(row("2")));
    // It is ended meanwhile, and does not come back.
    assert!(a.forget_seen(seen("2")).await.unwrap());
    assert!(!b.replace_connection(row("3"), "2").await.unwrap());
    assert_eq!(b.connection("alice", "s").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_claim_at_once_one_gets_it() {
    let (_folder, a, b) = two();
    a.put_connection(row("0"), 9).await.unwrap();
    for round in 0..20_u64 {
        let claims = (0..16).map(|who| {
            let store = Arc::clone(if who % 2 == 0 { &a } else { &b });
            tokio::spawn(async move {
                let (now, until) = (Timestamp(round), Timestamp(round + 1_000));
                store.claim_connection(seen(&round.to_string()), &who.to_string(), now, until).await.unwrap()
            })
        });
        let claims: Vec<_> = claims.collect();
        let mut ours = 0;
        for claim in claims {
            match claim.await.unwrap() {
                Claim::Ours => ours += 1,
                Claim::Theirs => {}
                Claim::Changed => panic!("nobody changed it"),
            }
        }
        assert_eq!(ours, 1, "round {round}");
        assert!(a.replace_connection(row(&(round + 1).to_string()), &round.to_string()).await.unwrap());
    }
}
