//! Key sets over time: rotation, floods, and issuers that are down, slow or mad.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use portcullis_connect::auth::{Alg, AuthSettings, Credentials, JwksSource, JwtIssuer, Route};
use portcullis_core::{Code, Limits};
use serde_json::json;

use crate::world::{
    AUDIENCE, Answer, Idp, START_S, Server, World, changed, claims, claims_with, header, idp, issuer, limits,
    stranger,
};

fn long_lived() -> String {
    idp().token("ES256", &claims_with(json!({"exp": START_S + 80_000})))
}

fn unknown_kid() -> String {
    let header = changed(header("ES256"), json!({"kid": "new"})).to_string();
    idp().raw("ES256", &header, claims_with(json!({"exp": START_S + 80_000})).to_string())
}

/// Ways for an issuer's key server to be out of order.
fn out_of_order(trap: &Server) -> Vec<(&'static str, Answer)> {
    let html = b"<html>Sign in</html>".to_vec();
    let ok = |body: Vec<u8>| Answer::Reply("200 OK", "content-type: text/html\r\n".into(), body);
    let many = vec![idp().rsa_jwk(); 101];
    vec![
        ("closed", Answer::Closed),
        ("silent", Answer::Silence),
        ("500", Answer::Reply("500 Internal Server Error", String::new(), html.clone())),
        ("500 with keys", Answer::Reply("500 Oops", String::new(), stranger().jwks().to_string().into())),
        ("302", Answer::Reply("302 Found", format!("location: {}\r\n", trap.url), Vec::new())),
        ("204", Answer::Reply("204 No Content", String::new(), Vec::new())),
        ("HTML", ok(html)),
        ("without end", Answer::Endless),
        ("100 MB announced", Answer::Reply("200 OK", "x: y\r\n".into(), vec![b' '; 4 << 20])),
        ("truncated", Answer::Truncated),
        ("a byte now and then", Answer::Trickle(idp().jwks().to_string().into())),
        ("no keys member", ok(b"{}".to_vec())),
        ("keys twice", ok(b"{\"keys\":[],\"keys\":[]}".to_vec())),
        ("a list", ok(b"[]".to_vec())),
        ("101 keys", Answer::json(&json!({"keys": many}))),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
pub(crate) async fn idp_down() {
    let trap = Server::start(Answer::json(&stranger().jwks())).await;
    let mut running = tokio::task::JoinSet::new();
    for (what, answer) in out_of_order(&trap) {
        running.spawn(survives(what, answer));
    }
    let mut survived = 0;
    while let Some(outcome) = running.join_next().await {
        outcome.unwrap();
        survived += 1;
    }
    assert_eq!(survived, 15);
    assert_eq!(trap.hits(), 0, "no redirect was followed");
}

async fn survives(what: &'static str, answer: Answer) {
    let server = Server::start(Answer::json(&idp().jwks())).await;
    let settings = AuthSettings { issuers: vec![issuer(&server.url)], ..AuthSettings::default() };
    // Half of these never end by themselves.
    let world = World::new(settings, Limits { jwks_timeout_ms: 3_000, ..Limits::default() });
    let (token, fresh) = (long_lived(), idp().token("RS256", &claims_with(json!({"exp": START_S + 80_000}))));
    world.accepts(what, &token).await;
    server.answers(answer);
    for _ in 0..3 {
        world.clock.advance_ms(limits().jwks_refresh_ms + 1);
        let start = Instant::now();
        world.accepts(what, &token).await;
        world.accepts(what, &fresh).await;
        world.refuses(what, &unknown_kid()).await;
        assert!(start.elapsed() < Duration::from_secs(60), "{what} took {:?}", start.elapsed());
    }
    // Beyond the limit a withdrawn key could be in use, and nobody would know.
    world.clock.advance_ms(limits().jwks_stale_max_ms);
    for token in [&token, &fresh, &unknown_kid()] {
        let error = world.present(token).await.unwrap_err();
        assert_eq!(error.code, Code::AuthUnavailable, "{what}: {error}");
    }
    server.answers(Answer::json(&idp().jwks()));
    world.clock.advance_ms(limits().jwks_min_refresh_ms);
    world.accepts("after recovery", &token).await;
}

/// What an issuer publishes while it has these keys beside its first, by their ids, and a token by the last of them.
fn rotated(keys: &[(&Idp, &str)]) -> (serde_json::Value, String) {
    let with_id = |(idp, kid): &(&Idp, &str)| changed(idp.p256_jwk(), json!({"kid": kid}));
    let mut all = vec![idp().p256_jwk()];
    all.extend(keys.iter().map(with_id));
    let (last, kid) = keys.last().unwrap();
    let header = changed(header("ES256"), json!({"kid": kid})).to_string();
    (
        json!({"keys": all}),
        last.raw("ES256", &header, claims_with(json!({"exp": START_S + 80_000})).to_string()),
    )
}

#[tokio::test]
async fn a_new_key_of_the_issuer_is_learned_from_the_first_token_that_names_it() {
    let (world, server) = World::plain().await;
    world.accepts("the old key", &long_lived()).await;
    let (second, third) = (Idp::new(), Idp::new());
    let (both, token) = rotated(&[(&second, "second")]);
    server.answers(Answer::json(&both));
    world.accepts("the new key, the moment after the keys were fetched", &token).await;
    world.accepts("the old key still", &long_lived()).await;
    assert_eq!(server.hits(), 2);
    let (all, newest) = rotated(&[(&second, "second"), (&third, "third")]);
    server.answers(Answer::json(&all));
    world.refuses("a third within the same interval", &newest).await;
    assert_eq!(server.hits(), 2, "the limit holds");
    world.clock.advance_ms(limits().jwks_min_refresh_ms);
    world.accepts("the third", &newest).await;
    assert_eq!(server.hits(), 3);
}

#[tokio::test]
async fn an_issuer_rotates_its_keys_again_and_again_and_no_token_of_it_is_refused_meanwhile() {
    let (world, server) = World::plain().await;
    world.accepts("the first key", &long_lived()).await;
    let keys: Vec<Idp> = (0..6).map(|_| Idp::new()).collect();
    let names: Vec<String> = (0..6).map(|number| format!("key-{number}")).collect();
    let mut before = long_lived();
    for (number, pause_ms) in [0, 10_000, 29_999, 75_000, 299_999, 900_000].into_iter().enumerate() {
        // Whatever happened shortly before: the set may have been fetched this very moment because it was old.
        world.clock.advance_ms(limits().jwks_min_refresh_ms + pause_ms);
        world.accepts("the key before", &before).await;
        let held: Vec<(&Idp, &str)> =
            keys.iter().zip(&names).take(number + 1).map(|(key, name)| (key, name.as_str())).collect();
        let (published, token) = rotated(&held);
        server.answers(Answer::json(&published));
        world.accepts("the new key", &token).await;
        world.accepts("the key before, after the rotation", &before).await;
        before = token;
    }
    assert!(server.hits() <= 13, "{} fetches for six rotations", server.hits());
}

#[tokio::test]
async fn keys_that_were_on_their_way_when_the_issuer_rotated_are_not_its_last_word() {
    let server = Server::start(Answer::json(&idp().jwks())).await;
    let settings = AuthSettings { issuers: vec![issuer(&server.url)], ..AuthSettings::default() };
    let world = Arc::new(World::new(settings, limits()));
    let old = long_lived();
    world.accepts("the old key", &old).await;
    world.clock.advance_ms(limits().jwks_refresh_ms / 4 * 3 + 1);
    let go = Arc::new(tokio::sync::Notify::new());
    server.answers(Answer::Held(Arc::clone(&go), idp().jwks().to_string().into()));
    world.accepts("the old key, whose set is fetched again", &old).await;
    let due = Instant::now() + Duration::from_secs(30);
    while server.hits() < 2 {
        assert!(Instant::now() < due, "no fetch was started");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let next = Idp::new();
    let (published, token) = rotated(&[(&next, "next")]);
    server.answers(Answer::json(&published));
    let waiting = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.present(&token).await.map(|caller| caller.id.to_string()) }
    });
    // It waits for the fetch under way or has not begun to; either way that one brings the old keys.
    tokio::task::yield_now().await;
    go.notify_one();
    waiting.await.unwrap().unwrap();
    assert_eq!(server.hits(), 3);
}

#[tokio::test]
async fn a_hundred_tokens_at_once_cost_one_fetch_and_none_is_lost() {
    let (world, server) = World::plain().await;
    let world = Arc::new(world);
    let mut waiting = tokio::task::JoinSet::new();
    for index in 0..100 {
        let world = Arc::clone(&world);
        let token = idp().token("EdDSA", &claims_with(json!({"sub": format!("user-{index}")})));
        waiting.spawn(async move { world.present(&token).await.map(|caller| caller.id.to_string()) });
    }
    let mut accepted = 0;
    while let Some(outcome) = waiting.join_next().await {
        outcome.unwrap().unwrap();
        accepted += 1;
    }
    assert_eq!((accepted, server.hits()), (100, 1));
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_cost_the_others_their_fetch() {
    let (world, server) = World::with_keys(&idp().jwks()).await;
    let token = long_lived();
    {
        let first = world.present(&token);
        // Polled once: the fetch is under way; then the client is gone.
        tokio::select! { biased; _ = first => panic!("no answer can be here yet"), () = std::future::ready(()) => {} }
    }
    world.accepts("the next client", &token).await;
    assert_eq!(server.hits(), 1);
}

#[tokio::test]
async fn keys_are_fetched_again_before_they_are_old_and_nobody_waits_for_it() {
    let (world, server) = World::plain().await;
    let token = long_lived();
    world.accepts("the first", &token).await;
    world.clock.advance_ms(limits().jwks_refresh_ms / 4 * 3 + 1);
    server.answers(Answer::Trickle(idp().jwks().to_string().into()));
    let credentials = Credentials { bearer: Some(&token), ..Credentials::default() };
    assert!(world.auth.try_now(&credentials, &Route::at(AUDIENCE)).unwrap().is_ok(), "no wait");
    let start = Instant::now();
    while server.hits() < 2 {
        assert!(start.elapsed() < Duration::from_secs(30), "a fetch was started");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(world.auth.try_now(&credentials, &Route::at(AUDIENCE)).unwrap().is_ok(), "no wait while it runs");
}

#[tokio::test]
async fn an_issuer_that_was_never_reached_makes_its_tokens_uncheckable_not_wrong() {
    let (world, server) = World::plain().await;
    server.answers(Answer::Closed);
    let token = long_lived();
    let credentials = Credentials { bearer: Some(&token), ..Credentials::default() };
    assert!(world.auth.try_now(&credentials, &Route::at(AUDIENCE)).is_none(), "it takes a wait");
    for _ in 0..20 {
        assert_eq!(world.present(&token).await.unwrap_err().code, Code::AuthUnavailable);
    }
    assert_eq!(server.hits(), 1, "it is not asked again and again");
    world.refuses("what is wrong in any case", "a.b.c").await;
    world
        .refuses("another issuer's", &idp().token("ES256", &claims_with(json!({"iss": "https://x.example"}))))
        .await;
    server.answers(Answer::json(&idp().jwks()));
    world.clock.advance_ms(limits().jwks_min_refresh_ms);
    world.accepts("after recovery", &token).await;
}

#[tokio::test]
async fn keys_of_no_use_are_passed_over_and_the_rest_works() {
    let rsa_1024 = json!({"kty": "RSA", "kid": "rsa", "n": crate::world::b64([0xff; 128]), "e": "AQAB"});
    let odd = [
        json!({"kty": "RSA", "kid": "rsa", "n": "!", "e": "AQAB"}),
        json!({"kty": "EC", "crv": "P-256", "kid": "p256", "x": "AAAA", "y": "AAAA"}),
        json!({"kty": "EC", "crv": "secp256k1", "kid": "p256", "x": "AAAA", "y": "AAAA"}),
        json!({"kty": "oct", "kid": "p256", "k": crate::world::b64([1; 32])}),
        json!({"kty": "unheard of", "kid": "p256"}),
        json!({"kid": "p256"}),
        json!("p256"),
        json!(null),
        rsa_1024,
    ];
    let mut keys = odd.to_vec();
    keys.push(idp().p256_jwk());
    let (world, _server) = World::with_keys(&json!({"keys": keys})).await;
    world.accepts("the key that is sound", &long_lived()).await;
    world.refuses("a key that is not", &idp().token("RS256", &claims())).await;
    let even = changed(idp().rsa_jwk(), json!({"e": "AQAA"}));
    let one = changed(idp().rsa_jwk(), json!({"e": "AQ"}));
    for key in [even, one] {
        let (world, _server) = World::with_keys(&json!({"keys": [key]})).await;
        world.refuses("an exponent that signs for everybody", &idp().token("RS256", &claims())).await;
    }
    // The same id twice for the same algorithm: nobody knows which is meant.
    let twice = json!({"keys": [idp().p256_jwk(), changed(stranger().p256_jwk(), json!({}))]});
    let (world, _server) = World::with_keys(&twice).await;
    world.refuses("an id that is there twice", &long_lived()).await;
}

#[tokio::test]
async fn a_key_set_in_a_file_is_read_at_start_and_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let settings = || AuthSettings {
        issuers: vec![JwtIssuer { jwks: JwksSource::File(path.clone()), ..issuer("http://127.0.0.1:1/") }],
        ..AuthSettings::default()
    };
    let failure = || World::try_new(settings(), limits()).err().unwrap();
    assert!(failure().contains("jwks.json"), "a missing file is named");
    for (text, word) in
        [("", "not a JSON object"), ("{\"keys\":[]}", "no key that can be used"), ("[]", "not a JSON object")]
    {
        std::fs::write(&path, text).unwrap();
        assert!(failure().contains(word), "{}", failure());
    }
    std::fs::write(&path, " ".repeat(300_000)).unwrap();
    assert!(failure().contains("jwks_bytes_max"), "{}", failure());
    std::fs::write(&path, idp().jwks().to_string()).unwrap();
    let world = World::new(settings(), limits());
    let credentials_of = |token| Credentials { bearer: Some(token), ..Credentials::default() };
    let token = long_lived();
    assert!(
        world.auth.try_now(&credentials_of(&token), &Route::at(AUDIENCE)).unwrap().is_ok(),
        "no wait, even for the first"
    );
    std::fs::write(&path, stranger().jwks().to_string()).unwrap();
    world.clock.advance_ms(limits().jwks_refresh_ms + 1);
    world.refuses("a key that left the file", &token).await;
    world
        .accepts(
            "a key that came",
            &stranger().token("ES256", &claims_with(json!({"exp": START_S + 80_000}))),
        )
        .await;
    std::fs::write(&path, "half a fi").unwrap();
    world.clock.advance_ms(limits().jwks_refresh_ms + 1);
    world
        .accepts("a broken file", &stranger().token("ES256", &claims_with(json!({"exp": START_S + 80_000}))))
        .await;
}

#[test]
fn settings_under_which_keys_could_be_replaced_or_callers_confused_are_refused() {
    let plain = || issuer("https://idp.example/jwks");
    for (word, issuers) in [
        ("https", vec![issuer("http://idp.example/jwks")]),
        ("https", vec![issuer("http://10.0.0.1/jwks")]),
        ("https", vec![issuer("file:///etc/passwd")]),
        ("https", vec![issuer("http://localhost.evil.example/jwks")]),
        ("twice", vec![plain(), plain()]),
        ("no algorithm", vec![JwtIssuer { algorithms: vec![], ..plain() }]),
        ("cannot be an issuer", vec![JwtIssuer { issuer: String::new(), ..plain() }]),
        ("cannot be an issuer", vec![JwtIssuer { issuer: "https://idp.example#x".into(), ..plain() }]),
        ("HS256", vec![JwtIssuer { algorithms: vec![Alg::Rs256, Alg::Hs256], ..plain() }]),
    ] {
        let settings = AuthSettings { issuers, ..AuthSettings::default() };
        let error = World::try_new(settings, Limits::default()).err().unwrap();
        assert!(error.contains(word), "{error}");
    }
    for url in ["https://idp.example/jwks", "http://127.0.0.1:1/", "http://[::1]:1/", "http://localhost:1/"] {
        World::of(issuer(url));
    }
}
