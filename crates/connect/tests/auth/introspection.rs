//! Tokens that their issuer is asked about.

use std::{sync::Arc, time::Duration};

use portcullis_connect::auth::{AuthSettings, Introspected, Introspection, JwtIssuer, Route, is_ambiguous};
use portcullis_core::{CallerKind, Code, Limits, Proof, Secret};
use serde_json::{Value, json};

use crate::{
    discovery::discovered,
    provider::Provider,
    world::{AUDIENCE, START_S, World, changed, claims_with, idp, limits},
};

const TOKEN: &str = "n7Xy0ZQ-opaque.token_1";

fn asking(provider: &Provider, cache_s: u64, tokens: Introspected) -> JwtIssuer {
    let introspection = Introspection {
        url: None,
        client_id: "the gateway".into(),
        client_secret: Secret::new("s3:cr%t".into()),
        cache_s,
        tokens,
    };
    JwtIssuer { introspection: Some(introspection), ..discovered(&provider.issuer) }
}

fn active() -> Value {
    json!({"active": true, "aud": AUDIENCE, "sub": "alice", "exp": START_S + 600, "iat": START_S, "scope": "mcp",
        "client_id": "app", "token_type": "Bearer"})
}

async fn world_of(cache_s: u64) -> (World, Provider) {
    let provider = Provider::start().await;
    (World::of(asking(&provider, cache_s, Introspected::Opaque)), provider)
}

#[tokio::test]
async fn an_opaque_token_is_what_its_issuer_says_and_a_revocation_counts_from_the_next_request() {
    let (world, provider) = world_of(0).await;
    world.refuses("unknown to the issuer", TOKEN).await;
    provider.says(TOKEN, active());
    let caller = world.accepts("an active token", TOKEN).await;
    assert_eq!(&*caller.id, format!("jwt:{}#alice", provider.issuer));
    assert_eq!(caller.scopes, ["mcp"]);
    assert!(matches!(&caller.proof, Proof::Introspected { issuer, .. } if *issuer == provider.issuer));
    world.accepts("again", TOKEN).await;
    provider.says(TOKEN, json!({"active": false}));
    world.refuses("revoked", TOKEN).await;
    let asked = provider.asked("/introspect");
    assert_eq!(asked.len(), 6, "each time");
    assert!(asked.iter().all(|one| one.token == TOKEN));
    // RFC 6749, section 2.3.1: both parts are encoded before they are joined.
    let expected =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "the+gateway:s3%3Acr%25t");
    assert_eq!(asked[0].authorization, format!("Basic {expected}"));
    // A program without a subject is never taken for a person of that name.
    let mut program = active();
    program.as_object_mut().unwrap().remove("sub");
    program["client_id"] = json!("alice");
    provider.says(TOKEN, program);
    let caller = world.accepts("a program", TOKEN).await;
    assert_eq!(&*caller.id, format!("client:{}#alice", provider.issuer));
    assert_eq!(caller.kind, CallerKind::Service);
}

#[tokio::test]
async fn what_an_issuer_says_about_a_token_is_judged_like_a_token() {
    let (world, provider) = world_of(0).await;
    let with = |changes: Value| changed(active(), changes);
    let invalid = [
        ("for another audience", with(json!({"aud": "https://gateway.example/mcp/other"}))),
        ("without an audience", with(json!({"aud": null}))),
        ("of another issuer", with(json!({"iss": "https://other.example"}))),
        ("expired, though active", with(json!({"exp": START_S - 100}))),
        ("not valid yet", with(json!({"nbf": START_S + 100}))),
        ("too long-lived", with(json!({"exp": START_S + 100_000}))),
        ("without subject and client", with(json!({"sub": null, "client_id": null}))),
        ("with an empty subject", with(json!({"sub": ""}))),
        ("a refresh token", with(json!({"token_type": "refresh_token"}))),
        ("a refresh token of Keycloak", with(json!({"typ": "Refresh"}))),
        ("an ID token", with(json!({"token_use": "id"}))),
        ("bound to a key", with(json!({"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}))),
        ("bound in an unknown way", with(json!({"cnf": {"kid": "x"}}))),
        ("with scopes of a wrong type", with(json!({"scope": ["mcp"]}))),
    ];
    for (what, answer) in invalid {
        provider.says(TOKEN, answer);
        world.refuses(what, TOKEN).await;
    }
    let broken = [
        ("active as text", with(json!({"active": "true"}))),
        ("active as a number", with(json!({"active": 1}))),
        ("no word on active", with(json!({"active": null}))),
        ("a list", json!([true])),
        ("not JSON", json!("<html>")),
        ("active twice", json!("{\"active\":false,\"active\":true}")),
        ("nothing", json!("")),
        ("another status", json!(401)),
        ("too much", json!(format!("{{\"active\":true,\"x\":\"{}\"}}", "x".repeat(70_000)))),
    ];
    for (what, answer) in broken {
        provider.says(TOKEN, answer);
        assert_eq!(world.present(TOKEN).await.unwrap_err().code, Code::AuthUnavailable, "{what}");
    }
    provider.says(TOKEN, active());
    world.accepts("the control", TOKEN).await;
}

#[tokio::test]
async fn an_answer_counts_for_as_long_as_the_operator_says_and_an_issuer_that_is_down_counts_for_no() {
    let (world, provider) = world_of(10).await;
    provider.says(TOKEN, active());
    world.accepts("asked", TOKEN).await;
    provider.down(true);
    world.clock.advance_ms(9_000);
    world.accepts("remembered", TOKEN).await;
    world.clock.advance_ms(2_000);
    for route in [
        Route::at(AUDIENCE),
        Route { issuer_down: portcullis_connect::auth::IssuerDown::KnownKeys, ..Route::at(AUDIENCE) },
    ] {
        let error = world.present_on(TOKEN, &route).await.unwrap_err();
        assert_eq!(error.code, Code::AuthUnavailable, "there is no key to go on with: {error}");
    }
    provider.down(false);
    world.accepts("asked again", TOKEN).await;
    let before = provider.asked("/introspect").len();
    world.accepts("remembered again", TOKEN).await;
    world.refuses("another token, though most of it is the same", &format!("{TOKEN}x")).await;
    world.refuses("remembered as well", &format!("{TOKEN}x")).await;
    assert_eq!(provider.asked("/introspect").len(), before + 1);
    world.auth.forget();
    world.accepts("forgotten", TOKEN).await;
    assert_eq!(provider.asked("/introspect").len(), before + 2);
}

#[tokio::test]
async fn a_token_is_shown_to_the_one_issuer_that_can_have_made_it_and_a_jwt_to_none() {
    let (one, other) = (Provider::start().await, Provider::start().await);
    let issuers = vec![asking(&one, 0, Introspected::Opaque), asking(&other, 0, Introspected::Opaque)];
    let here = |name: &str| Route { issuers: Some([name.to_owned()].into()), ..Route::at(AUDIENCE) };
    assert!(is_ambiguous(&issuers, &Route::at(AUDIENCE)));
    assert!(!is_ambiguous(&issuers, &here(&one.issuer)));
    let world = World::new(AuthSettings { issuers, ..AuthSettings::default() }, limits());
    one.says(TOKEN, active());
    world.refuses("where both count", TOKEN).await;
    world.present_on(TOKEN, &here(&one.issuer)).await.unwrap();
    assert_eq!(
        world.present_on(TOKEN, &here("https://nobody.example")).await.unwrap_err().code,
        Code::AuthInvalid
    );
    assert!(other.asked("/introspect").is_empty());
    let before = one.asked("/introspect").len();
    let jwt = idp().token("ES256", &claims_with(json!({"iss": one.issuer})));
    for bad in ["eyJ.x", "eyJhbGciOiJub25lIn0.e30.", &jwt[..jwt.len() - 1], "", " ", "a b", "ü"] {
        assert_eq!(
            world.present_on(bad, &here(&one.issuer)).await.unwrap_err().code,
            Code::AuthInvalid,
            "{bad}"
        );
    }
    world.present_on(&jwt, &here(&one.issuer)).await.unwrap();
    assert_eq!(one.asked("/introspect").len(), before, "what is no opaque token is not asked about");
}

#[tokio::test]
async fn a_jwt_can_be_revoked_as_well_where_its_issuer_is_asked_about_all() {
    let provider = Provider::start().await;
    let world = World::of(asking(&provider, 0, Introspected::All));
    let jwt = idp().token("ES256", &claims_with(json!({"iss": provider.issuer})));
    world.refuses("not active", &jwt).await;
    provider.says(&jwt, json!({"active": true}));
    world.accepts("verified and active", &jwt).await;
    world.accepts("verified before, and asked about again", &jwt).await;
    provider.says(&jwt, json!({"active": false}));
    world.refuses("revoked", &jwt).await;
    provider.says(&jwt, json!({"active": true}));
    provider.down(true);
    assert_eq!(world.present(&jwt).await.unwrap_err().code, Code::AuthUnavailable);
    provider.down(false);
    let forged = crate::world::stranger().token("ES256", &claims_with(json!({"iss": provider.issuer})));
    provider.says(&forged, json!({"active": true}));
    let before = provider.asked("/introspect").len();
    world.refuses("a wrong signature, whatever the issuer says", &forged).await;
    assert_eq!(provider.asked("/introspect").len(), before);
}

#[tokio::test]
async fn an_issuer_is_asked_within_a_time_and_by_no_more_at_once_than_the_limit_says() {
    let provider = Provider::start().await;
    let few = Limits { introspections_max: 2, ..limits() };
    let settings =
        AuthSettings { issuers: vec![asking(&provider, 0, Introspected::Opaque)], ..AuthSettings::default() };
    let world = Arc::new(World::new(settings.clone(), few));
    provider.slow(Duration::from_millis(20));
    let mut waiting = tokio::task::JoinSet::new();
    for index in 0..20 {
        let world = Arc::clone(&world);
        waiting.spawn(async move { world.present(&format!("made-up-{index}")).await.unwrap_err().code });
    }
    while let Some(code) = waiting.join_next().await {
        assert_eq!(code.unwrap(), Code::AuthInvalid);
    }
    assert!((1..=2).contains(&provider.at_once_max()), "{} at once", provider.at_once_max());
    let hasty = World::new(settings, Limits { introspection_timeout_ms: 50, ..limits() });
    provider.slow(Duration::from_secs(120));
    let start = std::time::Instant::now();
    assert_eq!(hasty.present(TOKEN).await.unwrap_err().code, Code::AuthUnavailable);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}
