//! Every family of `vectors/own/jwt-cases.json`, minted with our own keys. Each has a control that is accepted, so that
//! no refusal comes from a mistake of the test.

use std::collections::BTreeSet;

use portcullis_connect::auth::{Alg, AuthSettings, Credentials, JwksSource, JwtIssuer, Route};
use portcullis_core::Code;
use serde_json::{Value, json};

use crate::world::{
    AUDIENCE, Answer, ISSUER, START_S, Server, World, b64, changed, claims, claims_with, header, hs256, idp,
    issuer, limits, stranger,
};

#[test]
fn every_family_of_the_vectors_has_a_test() {
    let covered: [(&str, fn()); 27] = [
        ("alg-none", alg_none),
        ("alg-hs-with-rsa-pub", alg_hs_with_rsa_pub),
        ("alg-swap", alg_swap),
        ("alg-not-configured", alg_not_configured),
        ("psychic-es256", psychic_es256),
        ("eddsa-edge", eddsa_edge),
        ("sig-missing", sig_missing),
        ("segments", segments),
        ("jwk-header", jwk_header),
        ("jku-x5u", jku_x5u),
        ("x5c", x5c),
        ("kid-injection", kid_injection),
        ("kid-unknown-flood", kid_unknown_flood),
        ("crit", crit),
        ("typ", typ),
        ("iss", iss),
        ("aud", aud),
        ("time", time),
        ("sub", sub),
        ("claims-dup", claims_dup),
        ("json", json_texts),
        ("jti-replay", jti_replay),
        ("scope", scope),
        ("nested", nested),
        ("revoked", revoked),
        ("idp-down", crate::key_sets::idp_down),
        ("transport", transport),
    ];
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/own/jwt-cases.json");
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let ids: BTreeSet<&str> =
        file["cases"].as_array().unwrap().iter().map(|case| case["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 27);
    assert_eq!(covered.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>(), ids);
}

/// A plain world in which a plain token is accepted.
async fn controlled() -> (World, Server) {
    let (world, server) = World::plain().await;
    for alg in ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"] {
        world.accepts(alg, &idp().token(alg, &claims())).await;
    }
    (world, server)
}

/// A token with a changed header, correctly signed.
fn with_header(alg: &str, changes: Value) -> String {
    idp().raw(alg, &changed(header(alg), changes).to_string(), claims().to_string())
}

#[tokio::test]
async fn alg_none() {
    let (world, _server) = controlled().await;
    let payload = b64(claims().to_string());
    for alg in [
        "\"none\"",
        "\"None\"",
        "\"NONE\"",
        "\"nOnE\"",
        "null",
        "[\"RS256\"]",
        "\"\"",
        "{}",
        "1",
        "\"rs256\"",
    ] {
        let header = b64(format!("{{\"alg\":{alg},\"kid\":\"rsa\"}}"));
        world.refuses(alg, &format!("{header}.{payload}.")).await;
        let signed = idp().raw("RS256", &format!("{{\"alg\":{alg},\"kid\":\"rsa\"}}"), claims().to_string());
        world.refuses(alg, &signed).await;
    }
    world.refuses("alg missing", &format!("{}.{payload}.", b64("{\"kid\":\"rsa\"}"))).await;
    world
        .refuses("alg missing, signed", &idp().raw("RS256", "{\"kid\":\"rsa\"}", claims().to_string()))
        .await;
}

/// An issuer that lists HS256 beside RS256 and has keys of both kinds in a file.
fn with_secret() -> World {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let oct = json!({"kty": "oct", "kid": "oct", "alg": "HS256", "k": b64([9; 32])});
    std::fs::write(&path, json!({"keys": [idp().rsa_jwk(), oct]}).to_string()).unwrap();
    let world = World::of(JwtIssuer {
        algorithms: vec![Alg::Rs256, Alg::Hs256],
        jwks: JwksSource::File(path),
        ..issuer("http://127.0.0.1:1/")
    });
    drop(directory);
    world
}

#[tokio::test]
async fn alg_hs_with_rsa_pub() {
    let (plain, _server) = controlled().await;
    let secret = with_secret();
    let payload = claims().to_string();
    let hs =
        |key: &[u8], kid: &str| hs256(key, &format!("{{\"alg\":\"HS256\",\"kid\":\"{kid}\"}}"), &payload);
    secret.accepts("a token of the secret key", &hs(&[9; 32], "oct")).await;
    secret.accepts("a token of the RSA key", &idp().token("RS256", &claims())).await;
    let der = idp().rsa_spki();
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
    let jwk = idp().rsa_jwk().to_string();
    let keys: [&[u8]; 5] = [pem.as_bytes(), pem.trim_end().as_bytes(), &der, jwk.as_bytes(), b""];
    for key in keys {
        for kid in ["rsa", "oct"] {
            secret.refuses("HMAC with the public key", &hs(key, kid)).await;
            plain.refuses("HMAC with the public key", &hs(key, kid)).await;
        }
        secret.refuses("without a key id", &hs256(key, "{\"alg\":\"HS256\"}", &payload)).await;
    }
}

#[tokio::test]
async fn alg_swap() {
    let (world, _server) = controlled().await;
    for (signed, labelled) in [
        ("RS256", "PS256"),
        ("RS256", "RS512"),
        ("RS512", "RS256"),
        ("PS256", "RS256"),
        ("ES256", "ES384"),
        ("ES256", "ES256K"),
        ("EdDSA", "ES256"),
        ("ES256", "EdDSA"),
        ("RS256", "EdDSA"),
        ("EdDSA", "Ed448"),
    ] {
        let kid = header(signed)["kid"].clone();
        for header in [json!({"alg": labelled, "kid": kid}), json!({"alg": labelled}), header(labelled)] {
            let token = idp().raw(signed, &header.to_string(), claims().to_string());
            world.refuses(&format!("{signed} as {labelled}"), &token).await;
        }
    }
}

#[tokio::test]
async fn alg_not_configured() {
    let secret = with_secret();
    let hs = hs256(&[9; 32], "{\"alg\":\"HS256\",\"kid\":\"oct\"}", &claims().to_string());
    secret.accepts("a token of the secret key", &hs).await;
    let (plain, server) = World::plain().await;
    plain.refuses("HS256 where it is not listed", &hs).await;
    let only = World::of(JwtIssuer { algorithms: vec![Alg::Rs256], ..issuer(&server.url) });
    only.accepts("RS256", &idp().token("RS256", &claims())).await;
    for alg in ["ES256", "EdDSA", "PS256", "RS512"] {
        only.refuses(alg, &idp().token(alg, &claims())).await;
    }
    let token = idp().token("RS256", &claims());
    for (what, changes, fits) in [
        ("a key for RS256", json!({"alg": "RS256"}), true),
        ("a key for signatures", json!({"use": "sig", "key_ops": ["verify"]}), true),
        ("a key for PS256", json!({"alg": "PS256"}), false),
        ("a key for encryption", json!({"use": "enc"}), false),
        ("a key that only signs", json!({"key_ops": ["sign"]}), false),
        ("a key for nothing", json!({"key_ops": []}), false),
        ("a key for RSA-OAEP", json!({"alg": "RSA-OAEP"}), false),
        ("a key that is disclosed", json!({"d": b64([1; 256])}), false),
        ("a key with a strange use", json!({"use": 1}), false),
    ] {
        let (world, _server) = World::with_keys(&json!({"keys": [changed(idp().rsa_jwk(), changes)]})).await;
        if fits {
            world.accepts(what, &token).await;
        } else {
            world.refuses(what, &token).await;
        }
    }
    // A secret at an address anybody can read is no secret.
    let settings = AuthSettings {
        issuers: vec![JwtIssuer { algorithms: vec![Alg::Hs256], ..issuer(&server.url) }],
        ..AuthSettings::default()
    };
    assert!(World::try_new(settings, limits()).err().unwrap().contains("HS256"));
}

/// The order of P-256.
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

#[tokio::test]
async fn psychic_es256() {
    let (world, _server) = controlled().await;
    let signed = format!("{}.{}", b64(header("ES256").to_string()), b64(claims().to_string()));
    let good = idp().sign("ES256", signed.as_bytes());
    let (zero, order, most, (r, s)) = ([0; 32], P256_ORDER, [0xff; 32], good.split_at(32));
    let mut one = zero;
    one[31] = 1;
    let der = |number: &[u8]| {
        let mut out = vec![2, 33, 0];
        out.extend(number);
        out
    };
    let content = [der(r), der(s)].concat();
    let encoded = [vec![0x30, u8::try_from(content.len()).unwrap()], content].concat();
    for (what, signature) in [
        ("r = s = 0", [zero, zero].concat()),
        ("r = s = n", [order, order].concat()),
        ("r = 0", [&zero, s].concat()),
        ("s = 0", [r, &zero].concat()),
        ("r = n", [&order, s].concat()),
        ("s = n", [r, &order].concat()),
        ("r > n", [&most, s].concat()),
        ("s > n", [r, &most].concat()),
        ("r = s = 1", [one, one].concat()),
        ("63 bytes", good[..63].to_vec()),
        ("65 bytes", [good.as_slice(), &[0]].concat()),
        ("65 bytes, in front", [&[0], good.as_slice()].concat()),
        ("DER", encoded),
        ("twice", [good.as_slice(), &good].concat()),
    ] {
        world.refuses(what, &format!("{signed}.{}", b64(signature))).await;
    }
    world.accepts("the signature itself", &format!("{signed}.{}", b64(good))).await;
}

/// The order of Ed25519's group, little endian.
const ED25519_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

#[tokio::test]
async fn eddsa_edge() {
    let (world, _server) = controlled().await;
    let signed = format!("{}.{}", b64(header("EdDSA").to_string()), b64(claims().to_string()));
    let good = idp().sign("EdDSA", signed.as_bytes());
    let (point, scalar) = good.split_at(32);
    let mut beyond = scalar.to_vec();
    let mut carry = 0;
    for (byte, order) in beyond.iter_mut().zip(ED25519_ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut unreduced = [0xff; 32];
    (unreduced[0], unreduced[31]) = (0xee, 0x7f);
    for (what, signature) in [
        ("S + L", [point, &beyond].concat()),
        ("S = L", [point, &ED25519_ORDER].concat()),
        ("all zero", vec![0; 64]),
        ("small-order R, S = 0", [identity, [0; 32]].concat()),
        ("small-order R", [&identity, scalar].concat()),
        ("non-canonical R", [&unreduced, scalar].concat()),
        ("63 bytes", good[..63].to_vec()),
        ("65 bytes", [good.as_slice(), &[0]].concat()),
    ] {
        world.refuses(what, &format!("{signed}.{}", b64(signature))).await;
    }
    // A key of small order: with R the identity and S = 0 such a key verifies everything.
    for key in [identity, [0; 32], unreduced] {
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": b64(key)});
        let (weak, _server) = World::with_keys(&json!({"keys": [jwk]})).await;
        weak.refuses("a weak key", &format!("{signed}.{}", b64([identity, [0; 32]].concat()))).await;
    }
}

#[tokio::test]
async fn sig_missing() {
    let (world, _server) = controlled().await;
    let token = idp().token("RS256", &claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let swapped = token.replace('-', "+").replace('_', "/");
    // 256 bytes are 342 characters, of which the last carries four bits that have to be zero.
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    for (what, bad) in [
        ("two segments", signed.to_owned()),
        ("a dot at the end", format!("{signed}.")),
        ("cut by one", token[..token.len() - 1].to_owned()),
        ("cut by four", token[..token.len() - 4].to_owned()),
        ("longer by four", format!("{token}AAAA")),
        ("padding", format!("{token}==")),
        ("a space in it", format!("{signed}. {signature}")),
        ("a line end", format!("{token}\n")),
        ("bits that are not zero", format!("{signed}.{}{next}", &signature[..signature.len() - 1])),
        ("another token's signature", {
            let other = idp().token("RS256", &claims_with(json!({"sub": "bob"})));
            format!("{signed}.{}", other.rsplit_once('.').unwrap().1)
        }),
        ("a stranger's signature", stranger().token("RS256", &claims())),
    ] {
        world.refuses(what, &bad).await;
    }
    assert_ne!(swapped, token, "the signature has characters of the two alphabets");
    world.refuses("the other alphabet", &swapped).await;
}

#[tokio::test]
async fn segments() {
    let (world, _server) = controlled().await;
    let token = idp().token("RS256", &claims());
    let parts: Vec<_> = token.split('.').collect();
    for (what, bad) in [
        ("nothing", String::new()),
        ("dots", "..".into()),
        ("four", format!("{token}.{}", parts[2])),
        ("five", format!("{}.{}.{}.{}.{}", parts[0], parts[1], parts[1], parts[1], parts[2])),
        ("an empty one in front", format!(".{token}")),
        ("an empty one behind", format!("{token}.")),
        ("a space in front", format!(" {token}")),
        ("a space behind", format!("{token} ")),
        ("a space within", token.replace('.', " .")),
        ("a tab", format!("\t{token}")),
        ("NUL", format!("{token}\0")),
        ("NUL within", token.replace('.', "\0.")),
        ("percent-encoding", token.replace('.', "%2E")),
        ("no header", format!(".{}.{}", parts[1], parts[2])),
        ("no payload", format!("{}..{}", parts[0], parts[2])),
        ("another dot", token.replace('.', "\u{ff0e}")),
        ("too long", format!("{}.{}.{}", parts[0], "A".repeat(20_000), parts[2])),
        ("JSON form", json!({"payload": parts[1], "protected": parts[0], "signature": parts[2]}).to_string()),
    ] {
        world.refuses(what, &bad).await;
    }
}

#[tokio::test]
async fn jwk_header() {
    let (world, _server) = controlled().await;
    for (alg, jwk) in
        [("RS256", stranger().rsa_jwk()), ("ES256", stranger().p256_jwk()), ("EdDSA", stranger().ed_jwk())]
    {
        for changes in
            [json!({"jwk": jwk}), json!({"jwk": jwk, "kid": null}), json!({"jwk": jwk, "kid": "new"})]
        {
            let header = changed(header(alg), changes);
            world.refuses(alg, &stranger().raw(alg, &header.to_string(), claims().to_string())).await;
        }
    }
    world.refuses("our own key embedded", &with_header("ES256", json!({"jwk": idp().p256_jwk()}))).await;
}

#[tokio::test]
async fn jku_x5u() {
    let (world, server) = controlled().await;
    let trap = Server::start(Answer::json(&stranger().jwks())).await;
    let fetched = server.hits();
    let redirect = format!("{}?next={}", server.url, trap.url);
    for url in
        [trap.url.as_str(), "http://127.0.0.1/", "file:///etc/passwd", "http://[::1]:1/", &redirect, ""]
    {
        for name in ["jku", "x5u"] {
            for kid in [json!("rsa"), json!("new"), Value::Null] {
                let header = changed(header("RS256"), json!({name: url, "kid": kid}));
                let token = stranger().raw("RS256", &header.to_string(), claims().to_string());
                world.refuses(name, &token).await;
            }
            world.refuses(name, &with_header("RS256", json!({name: url}))).await;
        }
    }
    assert_eq!((trap.hits(), server.hits()), (0, fetched), "nothing was fetched");
}

#[tokio::test]
async fn x5c() {
    let (world, _server) = controlled().await;
    let header = changed(header("RS256"), json!({"x5c": [b64(stranger().rsa_spki())]}));
    world.refuses("a chain", &stranger().raw("RS256", &header.to_string(), claims().to_string())).await;
    world.refuses("a chain, our key", &with_header("RS256", json!({"x5c": ["MIIB"]}))).await;
    for name in ["x5t", "x5t#S256"] {
        let key = changed(idp().rsa_jwk(), json!({name: "one"}));
        let (pinned, _server) = World::with_keys(&json!({"keys": [key]})).await;
        pinned.accepts("the same thumbprint", &with_header("RS256", json!({name: "one"}))).await;
        pinned.accepts("no thumbprint", &idp().token("RS256", &claims())).await;
        pinned.refuses("another thumbprint", &with_header("RS256", json!({name: "two"}))).await;
        pinned.refuses("no text", &with_header("RS256", json!({name: 1}))).await;
    }
}

#[tokio::test]
async fn kid_injection() {
    let (world, server) = controlled().await;
    for kid in [
        json!("../../../../dev/null"),
        json!("/dev/null"),
        json!("rsa' OR '1'='1"),
        json!("x' UNION SELECT 'key'; --"),
        json!("rsa\0"),
        json!("rsa\n"),
        json!("RSA"),
        json!("rsa "),
        json!("k".repeat(257)),
        json!("k".repeat(1 << 20)),
        json!("naïve"),
        json!(7),
        json!({"a": 1}),
        json!(["rsa"]),
        json!(true),
        json!(""),
    ] {
        world.refuses("a strange key id", &with_header("RS256", json!({"kid": kid}))).await;
    }
    // One key fits RS256, so the id can be left out; where two do, it cannot.
    world.accepts("no key id", &with_header("RS256", json!({"kid": null}))).await;
    let twice = json!({"keys": [idp().rsa_jwk(), changed(stranger().rsa_jwk(), json!({"kid": "other"}))]});
    let (two, _server) = World::with_keys(&twice).await;
    two.accepts("a key id", &idp().token("RS256", &claims())).await;
    two.refuses("no key id, two keys", &with_header("RS256", json!({"kid": null}))).await;
    // The other issuer has a key of this id, and the token is signed with it.
    let other_keys = Server::start(Answer::json(&stranger().jwks())).await;
    let other = JwtIssuer { issuer: "https://other.example".into(), ..issuer(&other_keys.url) };
    let settings = AuthSettings { issuers: vec![issuer(&server.url), other], ..AuthSettings::default() };
    let both = World::new(settings, limits());
    both.accepts("the issuer's own", &idp().token("RS256", &claims())).await;
    both.accepts(
        "the other's own",
        &stranger().token("RS256", &claims_with(json!({"iss": "https://other.example"}))),
    )
    .await;
    both.refuses("the other issuer's key", &stranger().token("RS256", &claims())).await;
}

#[tokio::test]
async fn kid_unknown_flood() {
    let (world, server) = controlled().await;
    let good = idp().token("ES256", &claims());
    let signature = good.rsplit_once('.').unwrap().1.to_owned();
    let payload = b64(claims().to_string());
    let before = server.hits();
    for index in 0..10_000_u32 {
        world.clock.advance_ms(2);
        let header = b64(format!("{{\"alg\":\"ES256\",\"kid\":\"fresh-{index}\"}}"));
        let error = world.present(&format!("{header}.{payload}.{signature}")).await.unwrap_err();
        assert_eq!(error.code, Code::AuthInvalid, "{error}");
        if index % 100 == 0 {
            world.accepts("a valid token in the flood", &good).await;
        }
    }
    // 20 seconds, at most two fetches in ten.
    let fetched = server.hits() - before;
    assert!((1..=4).contains(&fetched), "{fetched} fetches");
    world.accepts("a new valid token after the flood", &idp().token("RS256", &claims())).await;
}

#[tokio::test]
async fn crit() {
    let (world, _server) = controlled().await;
    for changes in [
        json!({"crit": ["exp"], "exp": START_S + 600}),
        json!({"crit": ["unknown"], "unknown": 1}),
        json!({"crit": []}),
        json!({"crit": ["alg"]}),
        json!({"crit": "b64"}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"b64": false}),
        json!({"b64": true}),
    ] {
        world.refuses("a critical extension", &with_header("ES256", changes)).await;
    }
    let null = "{\"alg\":\"ES256\",\"kid\":\"p256\",\"crit\":null}";
    world.refuses("null", &idp().raw("ES256", null, claims().to_string())).await;
    let unencoded = format!("{}.{}", b64("{\"alg\":\"ES256\",\"kid\":\"p256\",\"b64\":false}"), claims());
    let signature = b64(idp().sign("ES256", unencoded.as_bytes()));
    world.refuses("an unencoded payload", &format!("{unencoded}.{signature}")).await;
}

#[tokio::test]
async fn typ() {
    let (world, server) = controlled().await;
    for typ in [json!("at+jwt"), json!("AT+JWT"), json!("application/at+jwt"), json!("jwt"), Value::Null] {
        world.accepts("an access token", &with_header("ES256", json!({"typ": typ}))).await;
    }
    for typ in ["logout+jwt", "dpop+jwt", "refresh+jwt", "id_token+jwt", "secevent+jwt", "JWE", "", "at+jwt2"]
    {
        world.refuses(typ, &with_header("ES256", json!({"typ": typ}))).await;
    }
    world.refuses("typ of another type", &with_header("ES256", json!({"typ": ["at+jwt"]}))).await;
    let logout = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    for (what, changes) in [
        ("an ID token", json!({"aud": "client-1", "nonce": "n", "at_hash": "h"})),
        ("an ID token as Keycloak marks it", json!({"typ": "ID"})),
        ("a refresh token as Keycloak marks it", json!({"typ": "Refresh"})),
        ("an ID token as Cognito marks it", json!({"token_use": "id"})),
        ("a strange use", json!({"token_use": 1})),
        ("a logout token", json!({"events": logout})),
        ("a DPoP proof", json!({"htm": "POST", "htu": AUDIENCE})),
    ] {
        world.refuses(what, &idp().token("ES256", &claims_with(changes))).await;
    }
    world
        .accepts("as Keycloak marks it", &idp().token("ES256", &claims_with(json!({"typ": "Bearer"}))))
        .await;
    world
        .accepts("as Cognito marks it", &idp().token("ES256", &claims_with(json!({"token_use": "access"}))))
        .await;

    let strict = World::of(JwtIssuer { require_typ_at_jwt: true, ..issuer(&server.url) });
    strict.accepts("at+jwt", &with_header("ES256", json!({"typ": "at+jwt"}))).await;
    for typ in [json!("JWT"), Value::Null] {
        strict.refuses("not at+jwt", &with_header("ES256", json!({"typ": typ}))).await;
    }
    let elsewhere = claims_with(json!({"aud": "https://gateway.example/mcp/other"}));
    let header = changed(header("ES256"), json!({"typ": "at+jwt"})).to_string();
    strict.refuses("at+jwt of another resource", &idp().raw("ES256", &header, elsewhere.to_string())).await;
}

#[tokio::test]
async fn iss() {
    let (world, _server) = controlled().await;
    for iss in [
        Value::Null,
        json!("https://idp.example/"),
        json!("https://IDP.example"),
        json!("https://idp.example:443"),
        json!("http://idp.example"),
        json!("https://user@idp.example"),
        json!("https://idp.example.evil.example"),
        json!("https://\u{456}dp.example"),
        json!(" https://idp.example"),
        json!("https://idp.example\0"),
        json!([ISSUER]),
        json!({"iss": ISSUER}),
        json!(""),
    ] {
        world.refuses(&format!("iss {iss}"), &idp().token("ES256", &claims_with(json!({"iss": iss})))).await;
    }
    world.refuses("null", &idp().token("ES256", &json!({"iss": null, "aud": AUDIENCE, "sub": "a"}))).await;
}

#[tokio::test]
async fn aud() {
    let (world, server) = controlled().await;
    for aud in [
        Value::Null,
        json!("https://gateway.example/mcp/other"),
        json!("https://gateway.example/mcp/file"),
        json!("https://gateway.example/mcp/files/"),
        json!("https://gateway.example/mcp/files2"),
        json!("https://gateway.example/mcp/Files"),
        json!("https://gateway.example"),
        json!(["https://gateway.example/mcp/other", "x"]),
        json!([]),
        json!([AUDIENCE, 1]),
        json!({"aud": AUDIENCE}),
        json!(""),
        json!(1),
        json!([[AUDIENCE]]),
    ] {
        world.refuses(&format!("aud {aud}"), &idp().token("ES256", &claims_with(json!({"aud": aud})))).await;
    }
    world
        .accepts("a list with ours", &idp().token("ES256", &claims_with(json!({"aud": ["x", AUDIENCE]}))))
        .await;
    // A sibling on the same gateway, also when the token is known already.
    let token = idp().token("ES256", &claims());
    world.accepts("ours", &token).await;
    let error = world.present_at(&token, "https://gateway.example/mcp/other").await.unwrap_err();
    assert_eq!(error.code, Code::AuthInvalid);
    world.accepts("ours again", &token).await;
    let listed = World::of(JwtIssuer { audiences: vec!["api://gateway".into()], ..issuer(&server.url) });
    listed
        .accepts("a listed audience", &idp().token("ES256", &claims_with(json!({"aud": "api://gateway"}))))
        .await;
    listed.refuses("the route, where others are listed", &token).await;
}

#[tokio::test]
async fn time() {
    let (world, _server) = controlled().await;
    let token = |changes: Value| idp().token("ES256", &claims_with(changes));
    for (name, value) in [
        ("exp", Value::Null),
        ("exp", json!(START_S - 61)),
        ("exp", json!(START_S - 60)),
        ("exp", json!(START_S + 86_401)),
        ("exp", json!((START_S + 600).to_string())),
        ("exp", json!(1.79e9 + 0.5)),
        ("exp", json!(-1)),
        ("exp", json!(1_u64 << 63)),
        ("exp", json!(u64::MAX)),
        ("exp", json!((START_S + 600) * 1000)),
        ("exp", json!(true)),
        ("exp", json!([START_S + 600])),
        ("nbf", json!(START_S + 61)),
        ("nbf", json!("0")),
        ("iat", json!(START_S + 61)),
        ("iat", json!(-1)),
        ("iat", json!(START_S - 86_400)),
    ] {
        world.refuses(&format!("{name} {value}"), &token(json!({name: value}))).await;
    }
    for (name, value) in [
        ("exp", START_S - 59),
        ("exp", START_S + 86_400),
        ("nbf", START_S + 60),
        ("nbf", START_S + 59),
        ("iat", START_S + 60),
        ("iat", START_S - 85_000),
    ] {
        world.accepts(&format!("{name} {value}"), &token(json!({name: value}))).await;
    }
    for text in ["1e400", "-1e400", "NaN", "Infinity", "0x10", "1790000600.0", "1.790000600e9"] {
        let payload = claims().to_string().replace(&(START_S + 600).to_string(), text);
        world.refuses(text, &idp().raw("ES256", &header("ES256").to_string(), payload)).await;
    }
    // Without `iat` only the time left can be judged.
    world.accepts("no iat", &token(json!({"iat": null, "exp": START_S + 86_400}))).await;
    world.refuses("no iat", &token(json!({"iat": null, "exp": START_S + 86_461}))).await;
    // A token that is remembered expires to the second.
    let token = token(json!({}));
    world.clock.advance_ms(659_999);
    world.accepts("the last millisecond", &token).await;
    world.clock.advance_ms(1);
    world.refuses("the first millisecond after", &token).await;
}

#[tokio::test]
async fn sub() {
    let (world, _server) = controlled().await;
    for sub in [
        Value::Null,
        json!(""),
        json!("a".repeat(256)),
        json!("a".repeat(1 << 20)),
        json!("alice\0"),
        json!("alice\n"),
        json!("\u{1b}[31malice"),
        json!("alice\u{7f}"),
        json!("alice\u{85}"),
        json!("\u{202e}ecila"),
        json!("alice\u{200b}"),
        json!("alice\u{e0041}"),
        json!("\u{feff}alice"),
        json!(" alice"),
        json!("alice "),
        json!(7),
        json!(["alice"]),
    ] {
        let what = sub.to_string().chars().take(30).collect::<String>();
        world.refuses(&what, &idp().token("ES256", &claims_with(json!({"sub": sub})))).await;
    }
    let alice = world.accepts("alice", &idp().token("ES256", &claims())).await;
    assert_eq!(&*alice.id, "jwt:https://idp.example#alice");
    // A look-alike is somebody else.
    let other = world
        .accepts("a look-alike", &idp().token("ES256", &claims_with(json!({"sub": "\u{430}lice"}))))
        .await;
    assert_ne!(other.id, alice.id);
    let longest = "a".repeat(255);
    world.accepts("the longest", &idp().token("ES256", &claims_with(json!({"sub": longest})))).await;
}

#[tokio::test]
async fn claims_dup() {
    let (world, _server) = controlled().await;
    let head = header("ES256").to_string();
    let twice = |text: &str, member: &str| format!("{},{member}}}", text.strip_suffix('}').unwrap());
    for member in [
        "\"aud\":\"https://gateway.example/mcp/files\"",
        "\"sub\":\"alice\"",
        "\"sub\":\"bob\"",
        "\"exp\":9999999999",
        "\"iss\":\"https://idp.example\"",
        "\"\\u0073ub\":\"bob\"",
        "\"x\":{\"a\":1,\"a\":1}",
        "\"x\":[[{\"a\":1,\"a\":2}]]",
    ] {
        let payload = twice(&claims().to_string(), member);
        world.refuses(member, &idp().raw("ES256", &head, payload)).await;
    }
    for member in [
        "\"alg\":\"ES256\"",
        "\"alg\":\"none\"",
        "\"kid\":\"p256\"",
        "\"\\u0061lg\":\"none\"",
        "\"typ\":\"JWT\"",
    ] {
        let header = twice(&head, member);
        world.refuses(member, &idp().raw("ES256", &header, claims().to_string())).await;
    }
    let payload = twice(&claims().to_string(), "\"x\":{\"a\":1,\"b\":1}");
    world.accepts("names that differ", &idp().raw("ES256", &head, payload)).await;
}

#[tokio::test]
async fn json_texts() {
    let (world, _server) = controlled().await;
    let head = header("ES256").to_string();
    let good = claims().to_string();
    let open = good.strip_suffix('}').unwrap();
    let many = (0..100_000).map(|index| format!(",\"c{index}\":1")).collect::<String>();
    let some = (0..900).map(|index| format!(",\"c{index}\":1")).collect::<String>();
    let payloads: Vec<(&str, Vec<u8>)> = vec![
        ("no object", b"[]".into()),
        ("a string", b"\"alice\"".into()),
        ("nothing", b" ".into()),
        ("cut", open.into()),
        ("invalid UTF-8", [open.as_bytes(), b",\"x\":\"\xff\"}"].concat()),
        ("a byte-order mark", [b"\xef\xbb\xbf", good.as_bytes()].concat()),
        ("a lone surrogate", format!("{open},\"x\":\"\\ud800\"}}").into()),
        ("two texts", format!("{good}{good}").into()),
        ("a comment", format!("{good}//").into()),
        ("a trailing comma", format!("{open},}}").into()),
        ("depth 10 000", format!("{open},\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000)).into()),
        ("depth 1 000", format!("{open},\"x\":{}{}}}", "[".repeat(1_000), "]".repeat(1_000)).into()),
        ("a claim of 1 MiB", format!("{open},\"x\":\"{}\"}}", "x".repeat(1 << 20)).into()),
        ("100 000 claims", format!("{open}{many}}}").into()),
    ];
    for (what, payload) in payloads {
        world.refuses(what, &idp().raw("ES256", &head, payload)).await;
    }
    world.accepts("900 claims", &idp().raw("ES256", &head, format!("{open}{some}}}"))).await;
    for header in [
        "[]",
        "",
        "\"ES256\"",
        "{\"alg\":\"ES256\",\"kid\":\"p256\"}}",
        "\u{feff}{\"alg\":\"ES256\"}",
        "null",
    ] {
        world.refuses(header, &idp().raw("ES256", header, &good)).await;
    }
}

/// Replay is not refused for plain bearer tokens, which are meant to be used again; a token bound to a key is never
/// accepted as one. Proofs of possession have their own tests.
#[tokio::test]
async fn jti_replay() {
    let (world, _server) = controlled().await;
    let token = idp().token("ES256", &claims_with(json!({"jti": "1"})));
    for _ in 0..3 {
        world.accepts("a bearer token, again", &token).await;
    }
    for (what, changes) in [
        ("bound by DPoP", json!({"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}})),
        (
            "bound to a certificate",
            json!({"cnf": {"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}}),
        ),
        ("bound to nothing", json!({"cnf": {}})),
        ("bound in a way nobody knows", json!({"cnf": {"kid": "k"}})),
        (
            "bound in two ways, one unknown",
            json!({"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", "kid": "k"}}),
        ),
        ("bound to half a digest", json!({"cnf": {"jkt": "0ZcOCORZNYy"}})),
        ("bound to a number", json!({"cnf": {"jkt": 1}})),
        ("bound to text", json!({"cnf": "jkt"})),
        ("a DPoP proof", json!({"htm": "POST", "htu": AUDIENCE, "jti": "1"})),
        ("jti of another type", json!({"jti": 1})),
    ] {
        world.refuses(what, &idp().token("ES256", &claims_with(changes))).await;
    }
    world.refuses("typ of a DPoP proof", &with_header("ES256", json!({"typ": "dpop+jwt"}))).await;
}

#[tokio::test]
async fn scope() {
    let (_world, server) = controlled().await;
    let role_map = [("read".to_owned(), vec!["operator".to_owned()])].into();
    let world = World::of(JwtIssuer { role_map, ..issuer(&server.url) });
    for (what, changes) in [
        ("a number", json!({"scope": 1})),
        ("a list where text belongs", json!({"scope": ["read"]})),
        ("a tab", json!({"scope": "read\twrite"})),
        ("a no-break space", json!({"scope": "read\u{a0}write"})),
        ("an ideographic space", json!({"scope": "read\u{3000}write"})),
        ("a quote", json!({"scope": "re\"ad"})),
        ("a backslash", json!({"scope": "re\\ad"})),
        ("a line end", json!({"scope": "read\n"})),
        ("a space in a list's item", json!({"scp": ["read write"]})),
        ("an empty item", json!({"scp": [""]})),
        ("a number in a list", json!({"scp": ["read", 1]})),
        ("two lists that disagree", json!({"scope": "read", "scp": ["write"]})),
    ] {
        world.refuses(what, &idp().token("ES256", &claims_with(changes))).await;
    }
    let both = ["operator", "reader"].as_slice();
    let plain = ["reader"].as_slice();
    for (changes, scopes, roles) in [
        (json!({"scope": "read"}), ["read"].as_slice(), both),
        (json!({"scope": "write read read"}), &["read", "write"], both),
        (json!({"scope": " read  write "}), &["read", "write"], both),
        (json!({"scp": ["read"]}), &["read"], both),
        (json!({"scp": "read write"}), &["read", "write"], both),
        (json!({"scope": "read", "scp": ["read"]}), &["read"], both),
        (json!({"scope": "readonly"}), &["readonly"], plain),
        (json!({"scope": "READ"}), &["READ"], plain),
        (json!({"scope": "rea d"}), &["d", "rea"], plain),
        (json!({"scope": ""}), &[], plain),
        (json!({"scp": []}), &[], plain),
        (json!({}), &[], plain),
    ] {
        let what = changes.to_string();
        let caller = world.accepts(&what, &idp().token("ES256", &claims_with(changes))).await;
        assert_eq!(caller.scopes, scopes, "{what}");
        assert_eq!(&*caller.roles, roles, "{what}");
    }
}

#[tokio::test]
async fn nested() {
    let (world, _server) = controlled().await;
    let inner = idp().token("ES256", &claims());
    let head = header("ES256").to_string();
    world.refuses("a token as payload", &idp().raw("ES256", &head, &inner)).await;
    for changes in [
        json!({"cty": "JWT"}),
        json!({"zip": "DEF"}),
        json!({"enc": "A256GCM"}),
        json!({"p2c": 2_147_483_648_u64, "p2s": "AAAA"}),
        json!({"epk": {}}),
    ] {
        let text = changes.to_string();
        world.refuses(&text, &with_header("ES256", changes)).await;
    }
    for header in [
        json!({"alg": "RSA1_5", "enc": "A128CBC-HS256", "kid": "rsa"}),
        json!({"alg": "dir", "enc": "A256GCM", "zip": "DEF"}),
        json!({"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2_147_483_648_u64, "p2s": "AAAA"}),
    ] {
        let header = b64(header.to_string());
        world.refuses("an encrypted token", &format!("{header}.AAAA.AAAA.AAAA.AAAA")).await;
        world
            .refuses("its header in three segments", &format!("{header}.{}.AAAA", b64(claims().to_string())))
            .await;
    }
}

#[tokio::test]
async fn revoked() {
    let (world, server) = controlled().await;
    let token = idp().token("ES256", &claims_with(json!({"exp": START_S + 80_000})));
    world.accepts("before", &token).await;
    // The issuer withdraws the key.
    server.answers(Answer::json(&json!({"keys": [idp().rsa_jwk()]})));
    world.clock.advance_ms(limits().jwks_refresh_ms + 1);
    world.refuses("after the interval, though it was remembered", &token).await;
    world
        .accepts("a key that stayed", &idp().token("RS256", &claims_with(json!({"exp": START_S + 80_000}))))
        .await;
    // It withdraws them all.
    server.answers(Answer::json(&json!({"keys": []})));
    world.clock.advance_ms(limits().jwks_refresh_ms + 1);
    world
        .refuses(
            "after all were withdrawn",
            &idp().token("RS256", &claims_with(json!({"exp": START_S + 80_000}))),
        )
        .await;
    // What is remembered is the whole token: no part of a good one helps a bad one.
    server.answers(Answer::json(&idp().jwks()));
    world.clock.advance_ms(limits().jwks_refresh_ms + 1);
    world.accepts("again", &token).await;
    let (signed, signature) = token.rsplit_once('.').unwrap();
    for at in [0, signature.len() / 2, signature.len() - 2] {
        let mut other = signature.as_bytes().to_vec();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        world.refuses("another signature", &format!("{signed}.{}", String::from_utf8(other).unwrap())).await;
    }
}

/// The headers themselves are the proxy's business; here arrives what it took out of them.
#[tokio::test]
async fn transport() {
    let (world, server) = controlled().await;
    let token = idp().token("ES256", &claims());
    for bad in [
        format!("Bearer {token}"),
        format!("bearer {token}"),
        format!(" {token}"),
        format!("{token},{token}"),
        format!("{token}, Bearer {token}"),
        format!("{token}\t"),
        format!("\"{token}\""),
        format!("access_token={token}"),
        "dXNlcjpwYXNz".into(),
    ] {
        world.refuses("not a token alone", &bad).await;
    }
    let settings = AuthSettings {
        api_keys: true,
        issuers: vec![issuer(&server.url)],
        anonymous_roles: Some(vec!["reader".into()]),
        ..AuthSettings::default()
    };
    let open = World::new(settings, limits());
    open.accepts("the control", &token).await;
    for (what, bearer, api_key) in [
        ("two credentials", Some(token.as_str()), Some("pcl_abc")),
        ("the same one twice", Some(token.as_str()), Some(token.as_str())),
        ("a token as API key", None, Some(token.as_str())),
        ("an empty bearer", Some(""), None),
        ("an empty API key", None, Some("")),
    ] {
        let outcome = open
            .auth
            .authenticate(&Credentials { bearer, api_key, ..Credentials::default() }, &Route::at(AUDIENCE))
            .await;
        assert_eq!(outcome.map_err(|error| error.code), Err(Code::AuthInvalid), "{what}");
    }
}
