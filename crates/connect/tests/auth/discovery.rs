//! Issuers that are known by name alone, several of them, and what happens while one is down.

use portcullis_connect::auth::{AuthSettings, IssuerDown, JwksSource, JwtIssuer, Route};
use portcullis_core::Code;
use serde_json::json;

use crate::{
    provider::Provider,
    world::{AUDIENCE, START_S, World, claims_with, idp, issuer, limits},
};

/// An issuer whose keys are looked for where its name says.
pub(crate) fn discovered(name: &str) -> JwtIssuer {
    JwtIssuer { issuer: name.into(), jwks: JwksSource::Discovered, ..issuer("http://127.0.0.1:1/") }
}

fn token_of(name: &str) -> String {
    idp().token("ES256", &claims_with(json!({"iss": name, "exp": START_S + 80_000})))
}

#[tokio::test]
async fn keys_are_found_through_the_document_of_the_issuer_wherever_it_stands() {
    for (path, place) in [
        ("", "/.well-known/oauth-authorization-server"),
        ("", "/.well-known/openid-configuration"),
        ("/t/v2.0", "/.well-known/oauth-authorization-server/t/v2.0"),
        ("/t/v2.0", "/.well-known/openid-configuration/t/v2.0"),
        ("/t/v2.0", "/t/v2.0/.well-known/openid-configuration"),
        ("/t/", "/t/.well-known/openid-configuration"),
    ] {
        let provider = Provider::start().await;
        provider.remove("/.well-known/oauth-authorization-server");
        let name = format!("{}{path}", provider.issuer);
        let world = World::of(discovered(&name));
        let error = world.present(&token_of(&name)).await.unwrap_err();
        assert_eq!(error.code, Code::AuthUnavailable, "{place}: nothing is there yet");
        provider.document(place, &provider.about(&name));
        world.clock.advance_ms(limits().jwks_min_refresh_ms);
        world.accepts(place, &token_of(&name)).await;
        world.refuses("the issuer with a slash more", &token_of(&format!("{name}/"))).await;
    }
}

#[tokio::test]
async fn a_document_that_is_not_the_issuers_own_brings_no_keys() {
    let provider = Provider::start().await;
    let name = provider.issuer.clone();
    let first = "/.well-known/oauth-authorization-server";
    let wrong = [
        ("of another issuer", provider.about("https://other.example")),
        ("with a slash more", provider.about(&format!("{name}/"))),
        ("without keys", json!({"issuer": name})),
        ("with keys in a file", json!({"issuer": name, "jwks_uri": "file:///etc/passwd"})),
        ("with keys over plain HTTP", json!({"issuer": name, "jwks_uri": "http://keys.example/jwks"})),
        // Only this machine was written by the operator, not the machines around it.
        ("with keys in the neighbourhood", json!({"issuer": name, "jwks_uri": "https://10.0.0.1/jwks"})),
        (
            "with keys at the cloud's own address",
            json!({"issuer": name, "jwks_uri": "https://169.254.169.254/"}),
        ),
    ];
    for (what, document) in wrong {
        provider.document(first, &document);
        let world = World::of(discovered(&name));
        let error = world.present(&token_of(&name)).await.unwrap_err();
        assert_eq!(error.code, Code::AuthUnavailable, "{what}");
    }
    assert_eq!(provider.asked("/jwks").len(), 0);
    provider.document(first, &provider.about(&name));
    World::of(discovered(&name)).accepts("the control", &token_of(&name)).await;
}

#[tokio::test]
async fn an_issuer_may_move_its_keys_and_is_asked_no_more_than_the_limit_says() {
    let provider = Provider::start().await;
    let name = provider.issuer.clone();
    let world = World::of(discovered(&name));
    world.accepts("the first", &token_of(&name)).await;
    let mut moved = provider.about(&name);
    moved["jwks_uri"] = json!(format!("{name}/elsewhere"));
    provider.document("/.well-known/oauth-authorization-server", &moved);
    provider.document("/elsewhere", &idp().jwks());
    provider.remove("/jwks");
    world.clock.advance_ms(limits().jwks_refresh_ms + 1);
    world.accepts("after the move", &token_of(&name)).await;
    let before = provider.asked("/elsewhere").len() + 1;
    for index in 0..100 {
        let header = json!({"alg": "ES256", "kid": format!("made-up-{index}")}).to_string();
        world
            .refuses(
                "a made-up key",
                &idp().raw("ES256", &header, claims_with(json!({"iss": name})).to_string()),
            )
            .await;
    }
    assert_eq!(provider.asked("/elsewhere").len(), before);
}

#[tokio::test]
async fn tokens_of_several_issuers_count_each_with_its_own_keys_on_the_routes_that_take_them() {
    let (one, other) = (Provider::start().await, Provider::start().await);
    other.document("/jwks", &crate::world::stranger().jwks());
    let issuers = vec![discovered(&one.issuer), discovered(&other.issuer)];
    let world = World::new(AuthSettings { issuers, ..AuthSettings::default() }, limits());
    let (first, second) = (
        token_of(&one.issuer),
        crate::world::stranger().token("ES256", &claims_with(json!({"iss": other.issuer}))),
    );
    world.accepts("of the first", &first).await;
    world.accepts("of the second", &second).await;
    world
        .refuses("of the first, by the keys of the second", &{
            crate::world::stranger().token("ES256", &claims_with(json!({"iss": one.issuer})))
        })
        .await;
    let narrow = Route { issuers: Some([one.issuer.clone()].into()), ..Route::at(AUDIENCE) };
    world.present_on(&first, &narrow).await.unwrap();
    // Known from before, and still not here.
    let error = world.present_on(&second, &narrow).await.unwrap_err();
    assert_eq!(error.code, Code::AuthInvalid, "{error}");
    world.accepts("elsewhere it counts on", &second).await;
}

#[tokio::test]
async fn while_an_issuer_is_down_its_tokens_are_refused_unless_the_route_says_otherwise() {
    let provider = Provider::start().await;
    let name = provider.issuer.clone();
    let world = World::of(discovered(&name));
    let route = |issuer_down| Route { issuer_down, ..Route::at(AUDIENCE) };
    let (closed, open) = (route(IssuerDown::Refuse), route(IssuerDown::KnownKeys));
    assert_eq!(Route::at(AUDIENCE), closed, "closed is what nobody has to ask for");
    let (token, short) =
        (token_of(&name), idp().token("ES256", &claims_with(json!({"iss": name, "exp": START_S + 400}))));
    world.present_on(&token, &closed).await.unwrap();
    provider.down(true);
    world.clock.advance_ms(limits().jwks_refresh_ms - 1);
    world.present_on(&token, &closed).await.unwrap();
    world.clock.advance_ms(2);
    for _ in 0..2 {
        let error = world.present_on(&token, &closed).await.unwrap_err();
        assert_eq!(error.code, Code::AuthUnavailable, "{error}");
        world.present_on(&token, &open).await.unwrap();
        world.present_on(&short, &open).await.unwrap();
    }
    world.clock.advance_ms(200_000);
    assert_eq!(
        world.present_on(&short, &open).await.unwrap_err().code,
        Code::AuthInvalid,
        "open until expiry"
    );
    world.present_on(&token, &open).await.unwrap();
    world.clock.advance_ms(limits().jwks_stale_max_ms);
    assert_eq!(world.present_on(&token, &open).await.unwrap_err().code, Code::AuthUnavailable);
    provider.down(false);
    world.clock.advance_ms(limits().jwks_min_refresh_ms);
    world.present_on(&token, &closed).await.unwrap();
}

#[tokio::test]
async fn another_audience_counts_on_the_route_that_lists_it_and_nowhere_else() {
    let (world, _server) = World::plain().await;
    let token = idp().token("ES256", &claims_with(json!({"aud": "api://billing"})));
    let listing = Route { audiences: vec!["api://billing".into()], ..Route::at(AUDIENCE) };
    world.present_on(&token, &listing).await.unwrap();
    world.present_on(&idp().token("ES256", &claims_with(json!({}))), &listing).await.unwrap();
    for route in
        [Route::at(AUDIENCE), Route { audiences: vec!["api://billin".into()], ..Route::at(AUDIENCE) }]
    {
        assert_eq!(world.present_on(&token, &route).await.unwrap_err().code, Code::AuthInvalid);
    }
}
