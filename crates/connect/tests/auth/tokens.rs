//! What a caller is made of, what is remembered, and that no change to a token goes unnoticed.

use std::sync::Arc;

use portcullis_connect::auth::{AuthSettings, Credentials, JwtIssuer, Route};
use portcullis_core::{CallerKind, Digest, Limits, Proof, Scope, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use crate::world::{AUDIENCE, ISSUER, START_S, World, claims, claims_with, idp, issuer, limits};

#[tokio::test]
async fn a_caller_is_what_the_token_and_the_settings_say() {
    let (_world, server) = World::plain().await;
    let settings = JwtIssuer {
        roles_claim: Some("realm_access.roles".into()),
        role_map: [
            ("admins".to_owned(), vec!["admin".to_owned(), "operator".to_owned()]),
            ("tools:run".to_owned(), vec!["operator".to_owned()]),
        ]
        .into(),
        kind: CallerKind::Service,
        claims: vec!["department".into(), "level".into(), "missing".into()],
        ..issuer(&server.url)
    };
    let world = World::of(settings);
    let token = idp().token(
        "ES256",
        &claims_with(json!({
            "realm_access": {"roles": ["admins", "unmapped"]}, "scope": "tools:run email",
            "department": {"name": "x"}, "level": 3, "private": "not for policy",
        })),
    );
    let caller = world.accepts("a token", &token).await;
    assert_eq!(&*caller.id, "jwt:https://idp.example#alice");
    assert_eq!(caller.kind, CallerKind::Service);
    assert_eq!(&*caller.roles, ["admin", "operator", "reader"]);
    assert_eq!(caller.scopes, ["email", "tools:run"]);
    assert_eq!(caller.servers, Scope::All);
    assert_eq!(caller.expires, Some(Timestamp((START_S + 600) * 1000)));
    assert_eq!(caller.proof, Proof::Jwt { issuer: ISSUER.into(), token: Digest::of(token.as_bytes()) });
    let claims = caller.claims.as_deref().unwrap();
    assert_eq!(serde_json::Value::Object(claims.clone()), json!({"department": {"name": "x"}, "level": 3}));

    for wrong in [json!(1), json!({"a": 1}), json!(["admins", 1]), json!(null), json!([["admins"]])] {
        let claims = claims_with(json!({"realm_access": {"roles": wrong}}));
        world.refuses("roles of a wrong type", &idp().token("ES256", &claims)).await;
    }
    for none in [json!({}), json!({"roles": []}), json!("admins"), json!(["admins"])] {
        let caller = world
            .accepts("no roles", &idp().token("ES256", &claims_with(json!({"realm_access": none}))))
            .await;
        assert_eq!(&*caller.roles, ["reader"]);
    }
    // A claim of the whole name is meant before a path is tried.
    let flat = claims_with(json!({"realm_access.roles": "admins", "realm_access": {"roles": ["x"]}}));
    let caller = world.accepts("a flat name", &idp().token("ES256", &flat)).await;
    assert_eq!(&*caller.roles, ["admin", "operator", "reader"]);
}

#[tokio::test]
async fn a_verified_token_is_remembered_until_forgotten_and_within_the_limit() {
    let (_world, server) = World::plain().await;
    let settings = || AuthSettings { issuers: vec![issuer(&server.url)], ..AuthSettings::default() };
    let world = World::new(settings(), Limits { token_cache_max: 8, ..limits() });
    let token = idp().token("EdDSA", &claims());
    let first = world.accepts("a token", &token).await;
    let again = world.accepts("a token", &token).await;
    assert!(Arc::ptr_eq(&first, &again), "remembered");
    let credentials = Credentials { bearer: Some(&token), ..Credentials::default() };
    let now = world.auth.try_now(&credentials, &Route::at(AUDIENCE)).unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &now), "without a wait");
    world.auth.forget();
    let anew = world.accepts("a token", &token).await;
    assert!(!Arc::ptr_eq(&first, &anew) && first == anew, "forgotten, verified anew");
    for index in 0..20 {
        let other = idp().token("EdDSA", &claims_with(json!({"sub": format!("user-{index}")})));
        world.accepts("another", &other).await;
        // In use, it stays although more tokens come than there is room for.
        let kept = world.accepts("a token in use", &token).await;
        assert!(Arc::ptr_eq(&anew, &kept), "after {index}");
    }
    for index in 0..20 {
        let other = idp().token("EdDSA", &claims_with(json!({"sub": format!("later-{index}")})));
        world.accepts("another", &other).await;
    }
    let last = world.accepts("a token out of use", &token).await;
    assert!(!Arc::ptr_eq(&anew, &last), "it made room");

    let none = World::new(settings(), Limits { token_cache_max: 0, ..limits() });
    let first = none.accepts("a token", &token).await;
    assert!(!Arc::ptr_eq(&first, &none.accepts("a token", &token).await), "nothing is remembered");
}

#[tokio::test]
async fn no_single_changed_character_goes_unnoticed() {
    let (world, _server) = World::plain().await;
    for alg in ["ES256", "EdDSA"] {
        let token = idp().token(alg, &claims());
        world.accepts(alg, &token).await;
        for at in 0..token.len() {
            for replacement in ['A', 'Q', '.', '=', ' '] {
                let mut other: Vec<char> = token.chars().collect();
                if other[at] == replacement {
                    continue;
                }
                other[at] = replacement;
                let other: String = other.into_iter().collect();
                assert!(world.present(&other).await.is_err(), "{alg}: {replacement} at {at}");
            }
        }
        world.accepts(alg, &token).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_whatever_panics_or_is_accepted(
        text in prop_oneof![
            any::<String>(),
            "[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}",
            "pcl_[a-z2-9]{12}_[A-Za-z0-9_-]{43}",
        ],
        header in prop_oneof![any::<String>(), "\\{\"alg\":\"(ES256|EdDSA|RS256)\"(,\"kid\":\"[a-z]{0,4}\")?\\}"],
        payload in any::<String>(),
    ) {
        thread_local! {
            static WORLD: (tokio::runtime::Runtime, World) = {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let world = runtime.block_on(async {
                    let (_world, server) = World::plain().await;
                    let settings = AuthSettings { api_keys: true, issuers: vec![issuer(&server.url)], ..AuthSettings::default() };
                    let world = World::new(settings, limits());
                    world.accepts("the control", &idp().token("ES256", &claims())).await;
                    world
                });
                (runtime, world)
            };
        }
        WORLD.with(|(runtime, world)| runtime.block_on(async {
            assert!(world.present(&text).await.is_err());
            let credentials = Credentials { api_key: Some(&text), ..Credentials::default() };
            assert!(world.auth.authenticate(&credentials, &Route::at(AUDIENCE)).await.is_err());
            // Well signed, whatever it says.
            assert!(world.present(&idp().raw("EdDSA", &header, &payload)).await.is_err());
        }));
    }
}
