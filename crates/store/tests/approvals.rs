//! Questions for approval in the store: one for a call at a time, one use of each yes, whichever gateway asks.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, path::Path, sync::Arc};

use portcullis_core::{Approval, Digest, Timestamp};
use portcullis_store::{Answered, ApprovalAnswer, ApprovalState, Approvals, NewApproval, Sqlite};

const NOW: Timestamp = Timestamp(1_790_000_000_000);

fn later(ms: u64) -> Timestamp {
    NOW.plus_ms(ms)
}

fn open(folder: &Path) -> Arc<dyn Approvals> {
    Arc::new(Sqlite::open(folder.join("portcullis.db")).unwrap())
}

fn question(id: &str, call: &str, people: u8) -> NewApproval {
    let any = BTreeSet::from(["lead".to_owned(), "a \"quoted\" role".to_owned()]);
    NewApproval {
        answer: None,
        id: id.into(),
        call: Digest::of(call.as_bytes()),
        first: Digest::of(format!("first {call}").as_bytes()),
        caller: "key:asker".into(),
        askers: vec!["key:asker".into(), "client:agent".into()],
        question: "{}".into(),
        demand: Approval { people, roles: BTreeSet::from([any]), expires_s: 60, by_caller: true },
        created: NOW,
        expires: later(60_000),
    }
}

fn answer(by: &str, yes: bool) -> ApprovalAnswer {
    ApprovalAnswer { by: by.into(), yes, via: "test".into(), reason: "why".into(), at: later(1) }
}

#[tokio::test]
async fn of_many_gateways_that_use_an_approval_at_once_one_alone_gets_it_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let stores = [open(folder.path()), open(folder.path()), open(folder.path())];
    let asked = stores[0].ask(question("apr_1", "call", 2)).await.unwrap();
    assert_eq!(asked.asked, question("apr_1", "call", 2), "what is asked comes back as it was");
    // Asked by another gateway, it is the same question.
    assert_eq!(stores[1].ask(question("apr_2", "call", 2)).await.unwrap().asked.id, "apr_1");
    let call = Digest::of(b"call");
    for (store, by) in stores.iter().zip(["key:b", "key:c"]) {
        assert_eq!(store.redeem(call, later(1)).await.unwrap(), None, "not enough said yes");
        assert!(matches!(store.answer("apr_1", answer(by, true)).await.unwrap(), Answered::Counts(_)));
    }
    drop(stores);
    let stores = [open(folder.path()), open(folder.path()), open(folder.path())];
    let asking = (0..60).map(|index| {
        let store = Arc::clone(&stores[index % 3]);
        tokio::spawn(async move { store.redeem(call, later(2)).await.unwrap() })
    });
    let mut got = Vec::new();
    for one in asking.collect::<Vec<_>>() {
        got.extend(one.await.unwrap());
    }
    assert_eq!(got, ["apr_1"]);
    let row = stores[2].approval("apr_1").await.unwrap().unwrap();
    assert_eq!((row.written, row.redeemed, row.given()), (ApprovalState::Redeemed, Some(later(2)), 2));
    // A call that was not made gives it back.
    stores[0].restore("apr_1").await.unwrap();
    assert_eq!(stores[1].redeem(call, later(3)).await.unwrap().as_deref(), Some("apr_1"));
}

#[tokio::test]
async fn an_answer_is_kept_for_as_long_as_somebody_may_let_it_through_and_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let holding = |id: &str| NewApproval { answer: Some(format!("answer {id}")), ..question(id, id, 1) };
    for id in ["apr_1", "apr_2", "apr_3"] {
        let row = store.ask(holding(id)).await.unwrap();
        assert_eq!(row.asked.answer, None, "lists do not carry it");
    }
    // Who asks once more while it waits changes nothing of it.
    store
        .ask(NewApproval { answer: Some("another".into()), id: "apr_4".into(), ..question("", "apr_1", 1) })
        .await
        .unwrap();
    let (again, gone) = (open(folder.path()), store.held("apr_4").await.unwrap());
    assert_eq!((again.held("apr_1").await.unwrap().as_deref(), gone), (Some("answer apr_1"), None));
    // A no takes it away at once; a yes keeps it for whoever could not use it.
    store.answer("apr_2", answer("key:b", false)).await.unwrap();
    assert_eq!(store.held("apr_2").await.unwrap(), None);
    store.answer("apr_1", answer("key:b", true)).await.unwrap();
    assert!(store.redeem(Digest::of(b"apr_1"), later(2)).await.unwrap().is_some());
    assert!(store.held("apr_1").await.unwrap().is_some());
    let next =
        |id: &str, ms| NewApproval { created: later(ms), expires: later(ms + 1), ..question(id, id, 1) };
    store.ask(next("apr_5", 59_000)).await.unwrap();
    assert!(store.held("apr_1").await.unwrap().is_some() && store.held("apr_3").await.unwrap().is_some());
    store.ask(next("apr_6", 60_002)).await.unwrap();
    assert_eq!((store.held("apr_1").await.unwrap(), store.held("apr_3").await.unwrap()), (None, None));
}

#[tokio::test]
async fn each_person_counts_once_a_no_counts_at_once_and_what_is_over_takes_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let call = Digest::of(b"call");
    store.ask(question("apr_1", "call", 2)).await.unwrap();
    let say = |by: &str, yes| {
        let (store, answer) = (Arc::clone(&store), answer(by, yes));
        async move { store.answer("apr_1", answer).await.unwrap() }
    };
    let state = |answered: &Answered| match answered {
        Answered::Counts(row) => Some(row.written),
        Answered::Before | Answered::Closed => None,
    };
    assert_eq!(state(&say("key:b", true).await), Some(ApprovalState::Open));
    assert_eq!(say("key:b", true).await, Answered::Before);
    assert_eq!(state(&say("key:c", true).await), Some(ApprovalState::Approved));
    assert_eq!(say("key:d", true).await, Answered::Closed);
    // Whoever said yes may think better of it until the call is made.
    assert_eq!(state(&say("key:b", false).await), Some(ApprovalState::Denied));
    assert_eq!(store.redeem(call, later(2)).await.unwrap(), None);
    assert_eq!(say("key:b", true).await, Answered::Closed);
    assert_eq!(say("key:c", false).await, Answered::Closed);
    // Until its time is over it stands in the way of another question for the same call.
    assert_eq!(store.ask(question("apr_2", "call", 2)).await.unwrap().asked.id, "apr_1");
    let again =
        NewApproval { created: later(60_000), expires: later(120_000), ..question("apr_3", "call", 2) };
    assert_eq!(store.ask(again).await.unwrap().asked.id, "apr_3");
    assert_eq!(store.approval("apr_1").await.unwrap().unwrap().written, ApprovalState::Expired);
    assert_eq!(store.answer("apr_4", answer("key:b", true)).await.unwrap(), Answered::Closed);
}

#[tokio::test]
async fn time_ends_questions_and_approvals_and_ended_ones_are_forgotten_at_last() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let call = Digest::of(b"call");
    store.ask(question("apr_1", "call", 1)).await.unwrap();
    store.ask(question("apr_2", "other", 1)).await.unwrap();
    assert_eq!(store.open_questions("key:asker", later(1)).await.unwrap(), (2, 2));
    assert_eq!(store.open_questions("key:b", later(1)).await.unwrap(), (2, 0));
    store.answer("apr_1", answer("key:b", true)).await.unwrap();
    assert_eq!(store.open_questions("key:asker", later(1)).await.unwrap(), (1, 1));
    assert!(!store.expire("apr_1", later(59_999)).await.unwrap());
    let late = ApprovalAnswer { at: later(60_000), ..answer("key:b", true) };
    assert_eq!(store.answer("apr_2", late).await.unwrap(), Answered::Closed);
    assert_eq!(store.redeem(call, later(60_000)).await.unwrap(), None);
    assert_eq!(store.open_questions("key:asker", later(60_000)).await.unwrap(), (0, 0));
    let row = store.asked(call).await.unwrap().unwrap();
    assert_eq!(
        (row.state(later(59_999)), row.state(later(60_000))),
        (ApprovalState::Approved, ApprovalState::Expired)
    );
    assert!(store.expire("apr_1", later(60_000)).await.unwrap());
    assert!(!store.expire("apr_1", later(60_000)).await.unwrap(), "once");
    assert_eq!(store.asked(call).await.unwrap(), None);
    let week = 8 * 86_400_000;
    let new = NewApproval { created: later(week), expires: later(week + 1), ..question("apr_3", "third", 1) };
    store.ask(new).await.unwrap();
    let left: Vec<String> = store.approvals().await.unwrap().iter().map(|row| row.asked.id.clone()).collect();
    assert_eq!(left, ["apr_3"]);
}

#[tokio::test]
async fn of_questions_that_ended_the_newest_thousand_are_kept_and_every_one_that_has_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.ask(question("apr_open", "open", 1)).await.unwrap();
    for index in 0..1_010 {
        let id = format!("apr_{index}");
        let created = later(index);
        let new = NewApproval { created, expires: later(index + 1), ..question(&id, &id, 1) };
        store.ask(new).await.unwrap();
    }
    let kept: Vec<String> = store.approvals().await.unwrap().iter().map(|row| row.asked.id.clone()).collect();
    // The newest is not over yet, and the oldest that are went.
    assert_eq!(kept.len(), 1 + 1_000 + 1);
    assert_eq!((&*kept[0], &*kept[1], &*kept[1_001]), ("apr_open", "apr_9", "apr_1009"));
}

#[tokio::test]
async fn a_further_round_is_good_once_for_the_state_that_the_server_wants_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (call, first) = (Digest::of(b"call"), Digest::of(b"first call"));
    let [one, two] = [Digest::of(b"one"), Digest::of(b"two")];
    store.ask(question("apr_1", "call", 1)).await.unwrap();
    store.again("apr_1", one, later(1_000)).await.unwrap();
    assert_eq!(store.take_round(first, one, later(1)).await.unwrap(), None, "it was not made yet");
    store.answer("apr_1", answer("key:b", true)).await.unwrap();
    store.redeem(call, later(1)).await.unwrap().unwrap();
    store.again("apr_1", one, later(1_000)).await.unwrap();
    assert_eq!(store.take_round(first, two, later(2)).await.unwrap(), None, "another state");
    assert_eq!(store.take_round(call, one, later(2)).await.unwrap(), None, "another call");
    assert_eq!(store.take_round(first, one, later(1_000)).await.unwrap(), None, "too late");
    assert_eq!(store.take_round(first, one, later(2)).await.unwrap().as_deref(), Some("apr_1"));
    assert_eq!(store.take_round(first, one, later(2)).await.unwrap(), None, "once");
    store.again("apr_1", two, later(1_000)).await.unwrap();
    assert_eq!(store.take_round(first, two, later(2)).await.unwrap().as_deref(), Some("apr_1"));
}
