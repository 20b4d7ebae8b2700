//! How long values are used, who is on record for them, and what many callers at once cost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use portcullis_secrets::{Failure, Keeping};
use serde_json::json;

use super::{
    server::{Asked, Server, reference, rig, settings, token},
    vault::until,
};

const APP: &str = "/v1/secret/data/app";

/// A Vault whose document has as many versions as it is told, and that may be away.
async fn vault(version: &Arc<AtomicUsize>, away: &Arc<AtomicBool>) -> Server {
    let (version, away) = (Arc::clone(version), Arc::clone(away));
    Server::start(move |asked: &Asked| {
        if away.load(Ordering::SeqCst) {
            return (503, json!({ "errors": ["away"] }).to_string());
        }
        if asked.target.starts_with("/v1/secret/data/") {
            let number = version.load(Ordering::SeqCst);
            let data = json!({ "data": { "f": format!("v{number}") }, "metadata": { "version": number } });
            return (200, json!({ "data": data }).to_string());
        }
        (404, json!({ "errors": [] }).to_string())
    })
    .await
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn many_callers_at_once_cause_one_question_and_a_rotation_fails_none_of_them() {
    let (version, away) = (Arc::new(AtomicUsize::new(1)), Arc::default());
    let server = vault(&version, &away).await;
    let rig = Arc::new(rig(
        settings(&[&server.url], token()),
        Keeping { lasts: seconds(30), ..Keeping::default() },
    ));
    let crowd = async |round: usize| {
        let calls: Vec<_> = (0..128)
            .map(|number| {
                let rig = Arc::clone(&rig);
                tokio::spawn(async move {
                    rig.get_for("vault:secret/app#f", Some(&format!("key:{number}"))).await
                })
            })
            .collect();
        let mut values = std::collections::BTreeSet::new();
        for call in calls {
            values.insert(call.await.unwrap().unwrap_or_else(|failure| panic!("round {round}: {failure}")));
        }
        values
    };
    assert_eq!(crowd(0).await.into_iter().collect::<Vec<_>>(), ["v1"]);
    assert_eq!(server.count(APP), 1);
    for round in 2..12 {
        version.store(round, Ordering::SeqCst);
        rig.clock.advance(seconds(21));
        crowd(round).await;
        until(|| server.count(APP) == round).await;
        until(|| rig.record.rotated.lock().unwrap().len() == round - 1).await;
    }
    let used = rig.record.used.lock().unwrap().clone();
    assert_eq!(used.len(), 128, "each caller is on record once");
    assert!(used.iter().all(|(reference, caller)| reference == "vault:secret/app" && caller.is_some()));
}

#[tokio::test]
async fn a_value_is_used_to_the_end_of_its_time_and_no_longer_while_its_source_is_away() {
    let (version, away) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicBool::new(false)));
    let server = vault(&version, &away).await;
    let rig = rig(settings(&[&server.url], token()), Keeping { lasts: seconds(30), ..Keeping::default() });
    assert_eq!(rig.get("vault:secret/app#f").await.unwrap(), "v1");
    away.store(true, Ordering::SeqCst);
    rig.clock.advance(seconds(29));
    assert_eq!(rig.get("vault:secret/app#f").await.unwrap(), "v1", "it is good still");
    rig.clock.advance(seconds(2));
    let failure = rig.get("vault:secret/app#f").await.unwrap_err();
    assert!(matches!(failure, Failure::Unavailable(_)), "{failure}");
    away.store(false, Ordering::SeqCst);
    rig.clock.advance(seconds(2));
    assert_eq!(rig.get("vault:secret/app#f").await.unwrap(), "v1");
}

#[tokio::test]
async fn where_the_operator_says_so_a_value_outlives_an_outage_for_as_long_as_he_says() {
    let (version, away) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicBool::new(false)));
    let server = vault(&version, &away).await;
    let outage = [("vault:secret/app".to_owned(), seconds(100))].into();
    let rig =
        rig(settings(&[&server.url], token()), Keeping { lasts: seconds(30), outage, ..Keeping::default() });
    for name in ["app", "other"] {
        assert_eq!(rig.get(&format!("vault:secret/{name}#f")).await.unwrap(), "v1");
    }
    away.store(true, Ordering::SeqCst);
    rig.clock.advance(seconds(60));
    assert_eq!(rig.get("vault:secret/app#f").await.unwrap(), "v1");
    assert!(rig.get("vault:secret/other#f").await.is_err(), "the others are refused");
    rig.clock.advance(seconds(71));
    assert!(rig.get("vault:secret/app#f").await.is_err());
}

#[tokio::test]
async fn what_was_taken_away_is_not_used_any_more() {
    let gone = Arc::new(AtomicBool::new(false));
    let there = Arc::clone(&gone);
    let server = Server::start(move |asked: &Asked| {
        if asked.target != APP || there.load(Ordering::SeqCst) {
            return (404, json!({ "errors": [] }).to_string());
        }
        let data = json!({ "data": { "f": "v" }, "metadata": { "version": 1 } });
        (200, json!({ "data": data }).to_string())
    })
    .await;
    let keeping = Keeping {
        lasts: seconds(30),
        outage: [("*".to_owned(), seconds(1_000))].into(),
        ..Keeping::default()
    };
    let rig = rig(settings(&[&server.url], token()), keeping);
    assert_eq!(rig.get("vault:secret/app#f").await.unwrap(), "v");
    gone.store(true, Ordering::SeqCst);
    rig.clock.advance(seconds(31));
    until_refused(&rig).await;
}

async fn until_refused(rig: &super::server::Rig) {
    for _ in 0..2_000 {
        if matches!(rig.get("vault:secret/app#f").await, Err(Failure::Absent(_))) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is used for ever");
}

#[tokio::test]
async fn a_value_that_a_server_does_not_take_is_looked_for_anew_before_its_time() {
    let (version, away) = (Arc::new(AtomicUsize::new(1)), Arc::default());
    let server = vault(&version, &away).await;
    let rig = rig(settings(&[&server.url], token()), Keeping::default());
    let text = "Bearer vault:secret/app#f";
    let old = rig.broker.value(&reference(text), None).await.unwrap();
    rig.clock.advance(seconds(5));
    assert!(rig.broker.refused(&reference(text), None, &old).await.unwrap().is_none(), "there is no other");
    version.store(2, Ordering::SeqCst);
    rig.clock.advance(seconds(5));
    let new = rig.broker.refused(&reference(text), None, &old).await.unwrap().unwrap();
    assert_eq!(new.expose(), "Bearer v2");
    assert_eq!(rig.record.rotated.lock().unwrap().as_slice(), ["vault:secret/app"]);
}

#[tokio::test]
async fn a_use_that_cannot_be_recorded_does_not_happen() {
    let (version, away) = (Arc::new(AtomicUsize::new(1)), Arc::default());
    let server = vault(&version, &away).await;
    let rig = rig(settings(&[&server.url], token()), Keeping::default());
    rig.record.broken.store(true, Ordering::SeqCst);
    assert!(rig.get_for("vault:secret/app#f", Some("key:a")).await.is_err());
    rig.record.broken.store(false, Ordering::SeqCst);
    assert_eq!(rig.get_for("vault:secret/app#f", Some("key:a")).await.unwrap(), "v1");
    assert_eq!(rig.record.used.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn each_caller_has_a_secret_of_its_own_and_nobody_has_one_for_nobody() {
    let server = Server::start(|asked: &Asked| {
        let name = asked.target.strip_prefix("/v1/users/data/").unwrap_or_default();
        let data = json!({ "data": { "token": name }, "metadata": { "version": 1 } });
        if name.is_empty() { (404, "{}".into()) } else { (200, json!({ "data": data }).to_string()) }
    })
    .await;
    let rig = rig(settings(&[&server.url], token()), Keeping::default());
    let text = "vault:users/{caller.id}/github#token";
    for (caller, path) in
        [("key:a", "key_3Aa/github"), ("jwt:https://i#../b", "jwt_3Ahttps_3A_2F_2Fi_23_2E_2E_2Fb/github")]
    {
        assert_eq!(rig.get_for(text, Some(caller)).await.unwrap(), path);
    }
    assert!(rig.get(text).await.is_err());
}

#[tokio::test]
async fn a_file_is_read_anew_and_nothing_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let (version, away) = (Arc::new(AtomicUsize::new(1)), Arc::default());
    let server = vault(&version, &away).await;
    let rig = rig(settings(&[&server.url], token()), Keeping::default());
    let text = format!("Bearer file:{}", file.display());
    assert_eq!(rig.get(&text).await.unwrap(), "Bearer first");
    std::fs::write(&file, "second").unwrap();
    rig.clock.advance(seconds(6));
    assert_eq!(rig.get(&text).await.unwrap(), "Bearer second");
    rig.get("vault:secret/app#f").await.unwrap();
    let printed = format!("{:?} {:?}", rig.broker, rig.broker.states());
    assert!(!printed.contains("second") && !printed.contains("v1") && !printed.contains("root"), "{printed}");
}
