//! DPoP: a token that is bound to a key counts with a fresh proof by that key, for this request, once.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_connect::auth::{AuthSettings, Bound, Credentials, Route};
use portcullis_core::{Code, Digest, Limits};
use serde_json::{Value, json};

use crate::world::{
    AUDIENCE, Idp, START_S, Server, World, b64, changed, claims_with, idp, issuer, limits, stranger,
};

/// A client's key, in the algorithms that it can sign with.
fn client() -> &'static Idp {
    static CLIENT: std::sync::LazyLock<Idp> = std::sync::LazyLock::new(Idp::new);
    &CLIENT
}

fn public(alg: &str) -> Value {
    let jwk = match alg {
        "ES256" => client().p256_jwk(),
        "EdDSA" => client().ed_jwk(),
        _ => client().rsa_jwk(),
    };
    changed(jwk, json!({"kid": null, "use": null, "alg": null}))
}

/// The thumbprint by the letter of RFC 7638, made here by other means than in the gateway.
fn jkt(jwk: &Value) -> String {
    let text = |name: &str| jwk[name].as_str().unwrap().to_owned();
    let canonical = match jwk["kty"].as_str().unwrap() {
        "EC" => format!(
            "{{\"crv\":\"{}\",\"kty\":\"EC\",\"x\":\"{}\",\"y\":\"{}\"}}",
            text("crv"),
            text("x"),
            text("y")
        ),
        "OKP" => format!("{{\"crv\":\"{}\",\"kty\":\"OKP\",\"x\":\"{}\"}}", text("crv"), text("x")),
        _ => format!("{{\"e\":\"{}\",\"kty\":\"RSA\",\"n\":\"{}\"}}", text("e"), text("n")),
    };
    URL_SAFE_NO_PAD.encode(Digest::of(canonical.as_bytes()).0)
}

fn bound(alg: &str) -> String {
    idp().token("ES256", &claims_with(json!({"cnf": {"jkt": jkt(&public(alg))}})))
}

fn proof_claims(token: &str, id: &str) -> Value {
    json!({"jti": id, "htm": "POST", "htu": AUDIENCE, "iat": START_S,
        "ath": URL_SAFE_NO_PAD.encode(Digest::of(token.as_bytes()).0)})
}

fn proof(alg: &str, claims: &Value) -> String {
    let header = json!({"typ": "dpop+jwt", "alg": alg, "jwk": public(alg)});
    client().raw(alg, &header.to_string(), claims.to_string())
}

async fn present(world: &World, token: &str, proof: Option<&str>, route: &Route) -> Result<(), Code> {
    let credentials = Credentials {
        bearer: Some(token),
        dpop_scheme: true,
        dpop: proof,
        method: "POST",
        ..Credentials::default()
    };
    world.auth.authenticate(&credentials, route).await.map(drop).map_err(|error| error.code)
}

fn with(nonces: bool, limits: Limits, server: &Server) -> World {
    let issuers = vec![issuer(&server.url)];
    World::new(
        AuthSettings { issuers, dpop_nonces: nonces, api_keys: true, ..AuthSettings::default() },
        limits,
    )
}

#[tokio::test]
async fn a_bound_token_counts_with_a_proof_by_its_key_and_each_proof_once() {
    let (world, _server) = World::plain().await;
    let route = Route::at(AUDIENCE);
    for alg in ["ES256", "EdDSA", "RS256", "PS256"] {
        let token = bound(alg);
        for id in ["a", "b"] {
            let proof = proof(alg, &proof_claims(&token, &format!("{alg}-{id}")));
            assert_eq!(present(&world, &token, Some(&proof), &route).await, Ok(()), "{alg}");
            assert_eq!(present(&world, &token, Some(&proof), &route).await, Err(Code::AuthProof), "again");
        }
        for kind in [Bound::Required, Bound::Dpop] {
            let proof = proof(alg, &proof_claims(&token, &format!("{alg}-{kind:?}")));
            let route = Route { bound: kind, ..Route::at(AUDIENCE) };
            assert_eq!(present(&world, &token, Some(&proof), &route).await, Ok(()), "{kind:?}");
        }
        let proof = proof(alg, &proof_claims(&token, "certificate"));
        let route = Route { bound: Bound::Certificate, ..Route::at(AUDIENCE) };
        assert_eq!(present(&world, &token, Some(&proof), &route).await, Err(Code::AuthInvalid));
    }
}

#[tokio::test]
async fn a_bound_token_is_worth_nothing_as_a_bearer_token_and_an_unbound_one_nothing_as_a_dpop_token() {
    let (world, _server) = World::plain().await;
    let route = Route::at(AUDIENCE);
    let (token, plain) = (bound("ES256"), idp().token("ES256", &claims_with(json!({}))));
    world.refuses("stolen and borne", &token).await;
    let proof = proof("ES256", &proof_claims(&token, "1"));
    let as_bearer =
        Credentials { bearer: Some(&token), dpop: Some(&proof), method: "POST", ..Credentials::default() };
    let error = world.auth.authenticate(&as_bearer, &route).await.unwrap_err();
    assert_eq!(error.code, Code::AuthInvalid, "even with a good proof: {error}");
    assert_eq!(present(&world, &plain, Some(&proof), &route).await, Err(Code::AuthInvalid));
    for kind in [Bound::Required, Bound::Dpop] {
        let demanding = Route { bound: kind, ..Route::at(AUDIENCE) };
        assert_eq!(world.present_on(&plain, &demanding).await.unwrap_err().code, Code::AuthInvalid);
    }
    assert_eq!(
        present(&world, &token, Some(&proof), &route).await,
        Ok(()),
        "the proof was not lost to all that"
    );
    // A stream that is open is judged again: its proof was shown, and its token must still count.
    let open = |token| Credentials {
        bearer: Some(token),
        dpop_scheme: true,
        dpop_proven: true,
        ..Credentials::default()
    };
    world.auth.authenticate(&open(&token), &route).await.unwrap();
    assert_eq!(world.auth.authenticate(&open(&plain), &route).await.unwrap_err().code, Code::AuthInvalid);
    world.clock.advance_ms(700_000);
    assert_eq!(world.auth.authenticate(&open(&token), &route).await.unwrap_err().code, Code::AuthInvalid);
}

/// One row for each way in which a proof can be wrong.
fn wrong_proofs(token: &str) -> Vec<(&'static str, String)> {
    let good = proof_claims(token, "wrong");
    let claims = |changes: Value| proof("ES256", &changed(good.clone(), changes));
    let header = |changes: Value| {
        let header = changed(json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": public("ES256")}), changes);
        client().raw("ES256", &header.to_string(), good.to_string())
    };
    let private = changed(public("ES256"), json!({"d": b64([1; 32])}));
    let other = changed(stranger().p256_jwk(), json!({"kid": null, "use": null, "alg": null}));
    let by_stranger = |jwk: &Value| {
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk});
        stranger().raw("ES256", &header.to_string(), good.to_string())
    };
    let whole = proof("ES256", &good);
    vec![
        ("another method", claims(json!({"htm": "GET"}))),
        ("the method in lower case", claims(json!({"htm": "post"}))),
        ("no method", claims(json!({"htm": null}))),
        ("another route", claims(json!({"htu": "https://gateway.example/mcp/other"}))),
        ("the gateway alone", claims(json!({"htu": "https://gateway.example"}))),
        ("plain http", claims(json!({"htu": "http://gateway.example/mcp/files"}))),
        ("no URL", claims(json!({"htu": null}))),
        ("another token", claims(json!({"ath": URL_SAFE_NO_PAD.encode([0; 32])}))),
        ("no token", claims(json!({"ath": null}))),
        ("too old", claims(json!({"iat": START_S - 61}))),
        ("from the future", claims(json!({"iat": START_S + 61}))),
        ("a time in text", claims(json!({"iat": START_S.to_string()}))),
        ("no time", claims(json!({"iat": null}))),
        ("no id", claims(json!({"jti": null}))),
        ("an empty id", claims(json!({"jti": ""}))),
        ("an id that is a number", claims(json!({"jti": 1}))),
        ("a huge id", claims(json!({"jti": "x".repeat(300)}))),
        ("the type of a token", header(json!({"typ": "JWT"}))),
        ("no type", header(json!({"typ": null}))),
        ("alg none", header(json!({"alg": "none"}))),
        ("a symmetric alg", header(json!({"alg": "HS256"}))),
        ("another alg", header(json!({"alg": "ES384"}))),
        ("no key", header(json!({"jwk": null}))),
        ("a key by address", header(json!({"jwk": null, "jku": "https://x.example/"}))),
        ("a symmetric key", header(json!({"jwk": {"kty": "oct", "k": b64([0; 32])}}))),
        ("a private key", header(json!({"jwk": private}))),
        ("critical extensions", header(json!({"crit": ["exp"]}))),
        ("a stranger's key", by_stranger(&other)),
        ("our key, a stranger's signature", by_stranger(&public("ES256"))),
        ("two proofs in one", format!("{whole},{whole}")),
        ("cut off", whole[..whole.len() - 1].to_owned()),
        ("two segments", whole.rsplit_once('.').unwrap().0.to_owned()),
        ("nothing", String::new()),
        ("huge", format!("{whole}{}", "A".repeat(20_000))),
    ]
}

#[tokio::test]
async fn a_proof_is_for_this_request_this_token_and_this_moment_or_it_is_none() {
    let (world, _server) = World::plain().await;
    let (token, route) = (bound("ES256"), Route::at(AUDIENCE));
    let wrong = wrong_proofs(&token);
    assert_eq!(wrong.len(), 34);
    for (what, proof) in wrong {
        assert_eq!(present(&world, &token, Some(&proof), &route).await, Err(Code::AuthProof), "{what}");
    }
    assert_eq!(present(&world, &token, None, &route).await, Err(Code::AuthProof), "no proof at all");
    for (what, changes) in [
        ("as it should be", json!({})),
        ("a query", json!({"htu": format!("{AUDIENCE}?a=b#c"), "jti": "2"})),
        ("as old as may be", json!({"iat": START_S - 60, "jti": "3"})),
        ("as far ahead as may be", json!({"iat": START_S + 60, "jti": "4"})),
    ] {
        let proof = proof("ES256", &changed(proof_claims(&token, "1"), changes));
        assert_eq!(present(&world, &token, Some(&proof), &route).await, Ok(()), "{what}");
    }
    // By the time that a proof can no longer be taken for fresh, it is forgotten, and not before.
    let early = proof("ES256", &changed(proof_claims(&token, "5"), json!({"iat": START_S + 60})));
    assert_eq!(present(&world, &token, Some(&early), &route).await, Ok(()));
    world.clock.advance_ms(119_000);
    assert_eq!(present(&world, &token, Some(&early), &route).await, Err(Code::AuthProof));
}

#[tokio::test]
async fn where_nonces_are_demanded_a_proof_needs_a_fresh_one_of_ours() {
    let server = World::plain().await.1;
    let world = with(true, limits(), &server);
    let (token, route) = (bound("ES256"), Route::at(AUDIENCE));
    let made = |id: &str, nonce: Value| {
        proof("ES256", &changed(proof_claims(&token, id), json!({"nonce": nonce, "iat": world.clock_s()})))
    };
    for (id, nonce) in [("1", Value::Null), ("2", json!("")), ("3", json!("made up")), ("4", json!(1))] {
        let outcome = present(&world, &token, Some(&made(id, nonce)), &route).await;
        assert_eq!(outcome, Err(Code::AuthNonce), "{id}");
    }
    let nonce = world.auth.dpop_nonce().unwrap();
    assert_eq!(present(&world, &token, Some(&made("5", json!(nonce))), &route).await, Ok(()));
    assert_eq!(
        present(&world, &token, Some(&made("6", json!(nonce))), &route).await,
        Ok(()),
        "not once only"
    );
    world.clock.advance_ms(301_000);
    assert_eq!(present(&world, &token, Some(&made("7", json!(nonce))), &route).await, Err(Code::AuthNonce));
    assert_eq!(with(false, limits(), &server).auth.dpop_nonce(), None);
}

#[tokio::test]
async fn a_proof_is_taken_once_also_across_a_reload_and_a_nonce_ends_with_its_process() {
    let server = World::plain().await.1;
    let settings =
        || AuthSettings { issuers: vec![issuer(&server.url)], dpop_nonces: true, ..AuthSettings::default() };
    let (mut world, other) = (World::new(settings(), limits()), World::new(settings(), limits()));
    let (token, route) = (bound("ES256"), Route::at(AUDIENCE));
    let nonce = world.auth.dpop_nonce().unwrap();
    let made = proof("ES256", &changed(proof_claims(&token, "1"), json!({"nonce": nonce})));
    assert_eq!(present(&world, &token, Some(&made), &route).await, Ok(()));
    world.reload(settings());
    assert_eq!(present(&world, &token, Some(&made), &route).await, Err(Code::AuthProof));
    let next = proof("ES256", &changed(proof_claims(&token, "2"), json!({"nonce": nonce})));
    assert_eq!(present(&world, &token, Some(&next), &route).await, Ok(()), "a reload is no restart");
    // Another process has seen none of these, and does not have to.
    assert_eq!(present(&other, &token, Some(&made), &route).await, Err(Code::AuthNonce));
}

#[tokio::test]
async fn remembered_proofs_are_bounded_and_one_key_does_not_crowd_out_the_others() {
    let server = World::plain().await.1;
    let world = with(false, Limits { dpop_proofs_max: 16, ..limits() }, &server);
    let route = Route::at(AUDIENCE);
    let once = async |alg: &str, id: usize| {
        let token = bound(alg);
        let changes = json!({"iat": world.clock_s()});
        let proof = proof(alg, &changed(proof_claims(&token, &id.to_string()), changes));
        present(&world, &token, Some(&proof), &route).await
    };
    assert_eq!((once("ES256", 1).await, once("ES256", 2).await), (Ok(()), Ok(())));
    assert_eq!(once("ES256", 3).await, Err(Code::AuthUnavailable), "its share is an eighth");
    assert_eq!(once("EdDSA", 1).await, Ok(()), "another key");
    world.clock.advance_ms(122_000);
    assert_eq!(once("ES256", 3).await, Ok(()), "after a while there is room again");
}

#[tokio::test]
async fn an_api_key_is_no_dpop_token_and_counts_on_no_route_that_wants_bound_ones() {
    let server = World::plain().await.1;
    let world = with(false, limits(), &server);
    let (key, _) = crate::api_keys::create(&world, None).await;
    let key = key.as_str();
    world.present_on(key, &Route::at(AUDIENCE)).await.unwrap();
    assert_eq!(present(&world, key, Some("x"), &Route::at(AUDIENCE)).await, Err(Code::AuthInvalid));
    for kind in [Bound::Required, Bound::Dpop, Bound::Certificate] {
        let route = Route { bound: kind, ..Route::at(AUDIENCE) };
        assert_eq!(world.present_on(key, &route).await.unwrap_err().code, Code::AuthInvalid, "{kind:?}");
    }
}
