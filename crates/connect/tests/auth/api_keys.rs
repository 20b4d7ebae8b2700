//! API keys through the real store.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use portcullis_connect::auth::{
    AuthError, AuthSettings, Authenticator, Credentials, Parts, ProofMemory, Route, new_api_key,
};
use portcullis_core::{Caller, CallerKind, Clock as _, Code, Limits, Proof, Scope, Secret, Timestamp};
use portcullis_store::{Keys as _, NewKey, Sqlite};

use crate::world::{Chance, World, limits};

const AUDIENCE: &str = "https://gateway.example/mcp/files";

fn world() -> World {
    World::new(AuthSettings { api_keys: true, ..AuthSettings::default() }, limits())
}

pub(crate) async fn create(world: &World, expires: Option<Timestamp>) -> (String, String) {
    let (text, id, hash) = new_api_key(&Chance, &world.pepper);
    let key = NewKey {
        id: id.clone(),
        name: "test".into(),
        hash,
        roles: vec!["reader".into(), "operator".into(), "reader".into()],
        servers: Scope::Only(["files".to_owned()].into()),
        kind: CallerKind::Service,
        created: world.clock.now(),
        expires,
        created_by: "test".into(),
    };
    world.store.create(key).await.unwrap();
    (text.expose().clone(), id)
}

fn bearer(world: &World, text: &str) -> Result<Arc<Caller>, AuthError> {
    world
        .auth
        .try_now(&Credentials { bearer: Some(text), ..Credentials::default() }, &Route::at(AUDIENCE))
        .unwrap()
}

#[tokio::test]
async fn a_key_stands_for_its_roles_and_servers_in_either_header() {
    let world = world();
    let (text, id) = create(&world, Some(Timestamp(u64::MAX / 2))).await;
    let caller = bearer(&world, &text).unwrap();
    assert_eq!(*caller.id, format!("key:{id}"));
    assert_eq!(caller.proof, Proof::ApiKey { key_id: id });
    assert_eq!(&*caller.roles, ["operator", "reader"]);
    assert!(caller.servers.reaches("files") && !caller.servers.reaches("other"));
    assert_eq!(caller.kind, CallerKind::Service);
    assert_eq!(caller.expires, Some(Timestamp(u64::MAX / 2)));
    let header = Credentials { api_key: Some(&text), ..Credentials::default() };
    assert_eq!(world.auth.try_now(&header, &Route::at(AUDIENCE)).unwrap().unwrap(), caller);
    let again = world.auth.authenticate(&header, &Route::at(AUDIENCE)).await.unwrap();
    assert!(Arc::ptr_eq(&again, &caller), "the caller is made once");
}

#[test]
fn keys_have_one_form_and_do_not_repeat() {
    let pepper = Secret::new(vec![1; 32]);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..1_000 {
        let (text, id, hash) = new_api_key(&Chance, &pepper);
        let secret = text.expose().strip_prefix(&format!("pcl_{id}_")).unwrap();
        assert_eq!((id.len(), secret.len()), (12, 43));
        assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        assert!(seen.insert(id) && seen.insert(secret.to_owned()) && seen.insert(format!("{hash:?}")));
        assert!(!format!("{text:?}").contains("pcl_"), "it does not print");
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused_whatever_is_wrong_and_the_message_tells_no_secret() {
    let world = world();
    let (text, id) = create(&world, None).await;
    let (other, other_id) = create(&world, None).await;
    let (unknown, ..) = new_api_key(&Chance, &world.pepper);
    let secret = text.rsplit_once(&format!("{id}_")).unwrap().1;
    let flip = |c: char| if c == 'A' { 'B' } else { 'A' };
    let mut wrong = vec![
        unknown.expose().clone(),
        format!("pcl_{other_id}_{secret}"),
        text.to_uppercase(),
        text.to_ascii_lowercase(),
        format!("{text} "),
        format!(" {text}"),
        format!("{text}A"),
        format!("{text}="),
        text[..text.len() - 1].to_owned(),
        format!("PCL_{id}_{secret}"),
        format!("pcl_{id}{secret}"),
        format!("pcl_{id}_"),
        format!("pcl__{secret}"),
        "pcl_".into(),
        "pcl".into(),
        String::new(),
        "pcl_naïve".into(),
        "\0".repeat(60),
        "x".repeat(1 << 20),
    ];
    // Every character of the text counts, the last one's unused bits too.
    wrong.extend((0..text.len()).map(|at| {
        let flipped = flip(text.chars().nth(at).unwrap());
        format!("{}{flipped}{}", &text[..at], &text[at + 1..])
    }));
    for wrong in wrong.iter().filter(|wrong| **wrong != text) {
        let api_key = world
            .auth
            .authenticate(
                &Credentials { api_key: Some(wrong), ..Credentials::default() },
                &Route::at(AUDIENCE),
            )
            .await;
        for outcome in [bearer(&world, wrong), api_key] {
            let error = outcome.unwrap_err();
            assert_eq!(error.code, Code::AuthInvalid, "{wrong}");
            assert!(!error.to_string().contains(secret) && error.to_string().len() < 200, "{error}");
        }
    }
    assert!(bearer(&world, &text).is_ok() && bearer(&world, &other).is_ok(), "the right ones still work");
}

#[tokio::test]
async fn a_key_expires_to_the_millisecond() {
    let world = world();
    let (text, _) = create(&world, Some(world.clock.now().plus_ms(1_000))).await;
    world.clock.advance_ms(999);
    assert!(bearer(&world, &text).is_ok());
    world.clock.advance_ms(1);
    assert_eq!(bearer(&world, &text).unwrap_err().code, Code::AuthInvalid);
}

#[tokio::test]
async fn a_revocation_takes_effect_on_the_next_request_though_the_caller_was_known() {
    let world = world();
    let ((text, id), (other, _)) = (create(&world, None).await, create(&world, None).await);
    assert!(bearer(&world, &text).is_ok() && bearer(&world, &other).is_ok());
    assert!(world.store.revoke(&id, "me", world.clock.now()).await.unwrap());
    let error = bearer(&world, &text).unwrap_err();
    assert_eq!(
        (error.code, error.detail.as_ref()),
        (Code::AuthInvalid, format!("API key `{id}` was revoked").as_str())
    );
    assert!(bearer(&world, &other).is_ok());
}

#[tokio::test]
async fn a_revocation_by_another_process_takes_effect_soon() {
    let world = world();
    let (text, id) = create(&world, None).await;
    assert!(bearer(&world, &text).is_ok());
    let other = Sqlite::open(world.directory.path().join("store.db")).unwrap();
    assert!(other.revoke(&id, "me", world.clock.now()).await.unwrap());
    let start = Instant::now();
    while bearer(&world, &text).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(40), "never noticed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_key_is_worth_nothing_under_another_pepper() {
    let world = world();
    let (text, _) = create(&world, None).await;
    let build = |pepper: Vec<u8>| {
        let parts = Parts {
            keys: world.store.clone(),
            pepper: Some(Secret::new(pepper)),
            clock: world.clock.clone(),
            proofs: Arc::new(ProofMemory::new(&Chance)),
            limits: Limits::default(),
        };
        Authenticator::new(AuthSettings { api_keys: true, ..AuthSettings::default() }, parts)
    };
    let credentials = Credentials { bearer: Some(&text), ..Credentials::default() };
    let same = build(vec![42; 32]).unwrap().try_now(&credentials, &Route::at(AUDIENCE)).unwrap();
    let other = build(vec![43; 32]).unwrap().try_now(&credentials, &Route::at(AUDIENCE)).unwrap();
    assert!(same.is_ok() && other.is_err());
    assert!(build(vec![42; 31]).unwrap_err().to_string().contains("pepper"));
}

#[tokio::test]
async fn who_presents_nothing_is_anonymous_only_where_that_is_allowed() {
    let open = World::new(
        AuthSettings {
            api_keys: true,
            anonymous_roles: Some(vec!["reader".into(), "a".into(), "a".into()]),
            ..AuthSettings::default()
        },
        limits(),
    );
    let nothing = Credentials::default();
    let caller = open.auth.try_now(&nothing, &Route::at(AUDIENCE)).unwrap().unwrap();
    assert_eq!(
        (caller.kind, &*caller.id, &*caller.roles),
        (CallerKind::Anonymous, "anonymous", &["a".into(), "reader".into()][..])
    );
    for closed in [world(), World::new(AuthSettings::default(), limits())] {
        let error = closed.auth.authenticate(&nothing, &Route::at(AUDIENCE)).await.unwrap_err();
        assert_eq!(error.code, Code::AuthMissing);
    }
    // What is presented and wrong does not make its bearer anonymous.
    let (unknown, ..) = new_api_key(&Chance, &open.pepper);
    for text in [unknown.expose().as_str(), "", "x"] {
        for credentials in [
            Credentials { bearer: Some(text), ..Credentials::default() },
            Credentials { api_key: Some(text), ..Credentials::default() },
        ] {
            let error = open.auth.authenticate(&credentials, &Route::at(AUDIENCE)).await.unwrap_err();
            assert_eq!(error.code, Code::AuthInvalid);
        }
    }
    // A way that is not open takes nothing.
    let shut = World::new(AuthSettings::default(), limits());
    let (text, _) = create(&shut, None).await;
    assert_eq!(bearer(&shut, &text).unwrap_err().code, Code::AuthInvalid);
}

#[test]
fn credentials_do_not_print() {
    let text = format!(
        "{:?}",
        Credentials { bearer: Some("pcl_secret"), api_key: Some("pcl_secret"), ..Credentials::default() }
    );
    assert!(!text.contains("secret"), "{text}");
}
