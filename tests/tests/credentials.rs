//! Who may come in: API keys with their scope, time and revocation, tokens of an issuer with a key set in a file or
//! at an address, and what is never taken for a credential.

use std::time::{Duration, Instant};

use portcullis_testkit::{Client, Era, Gateway, Hostile, HostileServer, McpClient, Outcome};
use portcullis_tests::{
    issuer::Issuer,
    pair::{Pair, SOON, entries, new_key, refusals, verdict},
};
use serde_json::{Value, json};

async fn list(url: &str, key: Option<&str>) -> Outcome<(u16, String)> {
    Ok(verdict(&McpClient::new(url, key, Era::Modern).request("tools/list", json!({})).await?))
}

fn ok() -> (u16, String) {
    (200, String::new())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_key_reaches_its_servers_and_the_others_look_as_if_they_did_not_exist() -> Outcome {
    let server = HostileServer::start().await?;
    let yaml = format!("servers:\n  s:\n    url: {0}\n  other:\n    url: {0}\n", server.url());
    let gateway = Gateway::start(&yaml).await?;
    let made =
        gateway.command(&["key", "create", "scoped", "--role", "operator", "--server", "s", "--json"])?;
    let made: Value = serde_json::from_slice(&made.stdout)?;
    let key = made["text"].as_str().unwrap();
    assert_eq!(list(&gateway.url("s"), Some(key)).await?, ok());
    let mut answers = Vec::new();
    for name in ["other", "nobody"] {
        let answer = McpClient::new(&gateway.url(name), Some(key), Era::Modern)
            .request("tools/list", json!({}))
            .await?;
        assert_eq!(verdict(&answer), refused(404, "server.unknown"));
        answers.push((answer.status(), answer.reply.text()));
    }
    assert_eq!(answers[0], answers[1], "a server out of reach can be told from one that is not there");
    assert_eq!(list(&gateway.url("other"), Some(gateway.key()?)).await?, ok());
    Ok(())
}

#[tokio::test]
async fn a_revoked_key_ends_with_the_next_request_and_an_expired_one_with_its_time() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let url = pair.gateway.url("s");
    let made = pair.gateway.command(&[
        "key",
        "create",
        "short",
        "--role",
        "operator",
        "--expires",
        "8s",
        "--json",
    ])?;
    let short: Value = serde_json::from_slice(&made.stdout)?;
    let short = short["text"].as_str().unwrap();
    assert_eq!(list(&url, Some(short)).await?, ok());

    let key = new_key(&pair.gateway, "ci", "operator")?;
    let id = key.split('_').nth(1).unwrap().to_owned();
    let mut legacy = McpClient::connect(&url, Some(&key), Era::Legacy).await?;
    for round in 0..3 {
        assert_eq!(list(&url, Some(&key)).await?, ok(), "{round}");
    }
    let revoked = pair.gateway.command(&["key", "revoke", &id])?;
    assert!(revoked.status.success());
    assert_eq!(list(&url, Some(&key)).await?, refused(401, "auth.invalid"), "the very next request");
    let answer = legacy.request("tools/list", json!({})).await?;
    assert_eq!(verdict(&answer), refused(401, "auth.invalid"), "a session does not outlive its key");
    assert_eq!(list(&url, Some(pair.gateway.key()?)).await?, ok(), "other keys are not touched");

    let due = Instant::now() + SOON;
    while list(&url, Some(short)).await? != refused(401, "auth.invalid") {
        assert!(Instant::now() < due, "it does not expire");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(refusals(&pair.gateway, "auth.invalid", 3).await?.len(), 3);
    assert_eq!(entries(&pair.gateway, "event=key.revoked").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_credential_counts_in_one_place_once_and_never_in_the_query_or_a_cookie() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let key = pair.gateway.key()?.to_owned();
    let other = new_key(&pair.gateway, "other", "operator")?;
    let bearer = format!("Bearer {key}");
    let lower = format!("bearer {key}");
    let basic = format!("Basic {key}");
    let (cookie, cut) =
        (format!("authorization=Bearer {key}; x-api-key={key}"), key[..key.len() - 1].to_owned());
    let cut_bearer = format!("Bearer {cut}");
    let query = format!("?access_token={key}&api_key={key}&token={key}");
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let cases: &[Case<'_>] = &[
        ("", &[("authorization", &bearer)], "ok"),
        ("", &[("authorization", &lower)], "ok"),
        ("", &[("x-api-key", &key)], "ok"),
        (&query, &[("x-api-key", &other)], "ok"),
        (&query, &[], "auth.missing"),
        ("", &[("cookie", &cookie)], "auth.missing"),
        ("", &[("proxy-authorization", &bearer)], "auth.missing"),
        ("", &[("authorization", &bearer), ("x-api-key", &key)], "auth.invalid"),
        ("", &[("authorization", &bearer), ("authorization", &bearer)], "auth.invalid"),
        ("", &[("x-api-key", &key), ("x-api-key", &other)], "auth.invalid"),
        ("", &[("authorization", &basic)], "auth.invalid"),
        ("", &[("authorization", &key)], "auth.invalid"),
        ("", &[("authorization", "Bearer")], "auth.invalid"),
        ("", &[("authorization", "Bearer ")], "auth.invalid"),
        ("", &[("authorization", &cut_bearer)], "auth.invalid"),
        ("", &[("x-api-key", &cut)], "auth.invalid"),
        ("", &[("x-api-key", "")], "auth.invalid"),
    ];
    let mut client = McpClient::new(&pair.gateway.url("s"), None, Era::Modern);
    for (query, credentials, expected) in cases {
        let (_, message) = client.message("tools/list", json!({}));
        let headers = client.headers(&message);
        let mut headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        headers.extend_from_slice(credentials);
        let url = format!("{}{query}", client.url);
        let reply = Client::default().post(&url, &headers, message.to_string()).await?;
        let names: Vec<_> = credentials.iter().map(|(name, _)| name).collect();
        let body: Value = serde_json::from_slice(&reply.body)?;
        let code = body.pointer("/error/data/code").and_then(Value::as_str).unwrap_or("ok");
        assert_eq!(
            (code, reply.status.as_u16()),
            (*expected, if code == "ok" { 200 } else { 401 }),
            "{names:?} {query:.20}"
        );
        let challenge = reply.header("www-authenticate");
        assert_eq!(
            challenge.contains("invalid_token"),
            *expected == "auth.invalid",
            "{names:?}: {challenge}"
        );
        if code != "ok" {
            let metadata = challenge.split('"').nth(1).unwrap();
            let reply = Client::default().get(metadata, &[]).await?;
            let metadata: Value = serde_json::from_slice(&reply.body)?;
            assert_eq!(metadata["resource"], pair.gateway.url("s"));
        }
    }
    Ok(())
}

fn with_jwt(server: &HostileServer, source: &str, more: &str) -> String {
    format!(
        "servers:\n  s:\n    url: {0}\n  other:\n    url: {0}\nidentities:\n  jwt:\n    - issuer: https://issuer.example\n      algorithms: [EdDSA]\n      \
         {source}\n      roles_claim: groups\n      role_map:\n        dev: [operator]\n        look: [reader]\n{more}",
        server.url()
    )
}

#[tokio::test]
async fn tokens_of_an_issuer_with_a_key_set_in_a_file_are_judged_claim_by_claim() -> Outcome {
    let server = HostileServer::start().await?;
    let (issuer, stranger) = (Issuer::new("k1")?, Issuer::new("k1")?);
    let yaml = with_jwt(&server, "jwks_file: jwks.json", "");
    let gateway = Gateway::builder().config(&yaml).file("jwks.json", issuer.jwks()).start().await?;
    let url = gateway.url("s");
    let good = issuer.claims("https://issuer.example", &url);
    let with = |key: &str, value: Value| {
        let mut claims = good.clone();
        claims[key] = value;
        issuer.token(&claims)
    };
    let now = issuer.now();
    let token = issuer.token(&good)?;
    assert_eq!(list(&url, Some(&token)).await?, ok());
    assert_eq!(list(&url, Some(&token)).await?, ok(), "the second time from the cache");
    // A token for one server is none for another, cached or not (RFC 8707).
    assert_eq!(list(&gateway.url("other"), Some(&token)).await?, refused(401, "auth.invalid"));
    let wrong = [
        ("expired", with("exp", json!(now - 120))?),
        ("without an end", with("exp", Value::Null)?),
        ("not yet valid", with("nbf", json!(now + 600))?),
        ("of another issuer", with("iss", json!("https://issuer.example/"))?),
        ("for another audience", with("aud", json!("https://elsewhere.example"))?),
        ("for a prefix of the audience", with("aud", json!(gateway.base()))?),
        ("without a subject", with("sub", Value::Null)?),
        ("signed by another key of the same name", stranger.token(&good)?),
        ("with algorithm none", issuer.unsigned(&good)),
        ("with one letter changed", flip(&token)),
        ("cut off", token[..token.len() - 2].to_owned()),
    ];
    for (what, token) in wrong {
        assert_eq!(list(&url, Some(&token)).await?, refused(401, "auth.invalid"), "a token {what}");
    }
    let mut look = McpClient::new(&url, Some(&with("groups", json!(["look"]))?), Era::Modern);
    assert_eq!(look.list("tools/list").await?, Vec::<String>::new(), "a reader runs no tool");
    let nobody = with("groups", json!(["unknown"]))?;
    assert_eq!(list(&url, Some(&nobody)).await?, refused(403, "policy.denied"));
    let mut dev = McpClient::new(&url, Some(&token), Era::Modern);
    assert_eq!(dev.call("echo", json!({"text": "hi"})).await?.text(), "hi");
    let called = entries(&gateway, "event=call.intent&tool=echo").await?;
    assert_eq!(called[0]["actor"]["proof"], "jwt");
    assert!(called[0]["actor"]["id"].as_str().unwrap().contains("ada"), "{}", called[0]);
    // The X-API-Key header is for the gateway's own keys.
    let reply =
        Client::default().get(&url, &[("x-api-key", &token), ("accept", "text/event-stream")]).await?;
    assert_eq!(reply.status, 401);
    Ok(())
}

fn flip(token: &str) -> String {
    let (head, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{head}.{first}{}", &signature[1..])
}

fn served(jwks: &str) -> Hostile {
    let length = jwks.len();
    Hostile::Raw(
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{jwks}"
        )
        .into_bytes(),
    )
}

#[tokio::test]
async fn an_issuer_may_rotate_its_keys_and_its_key_server_is_not_asked_at_will() -> Outcome {
    let server = HostileServer::start().await?;
    let keys = HostileServer::start().await?;
    let (old, new) = (Issuer::new("k1")?, Issuer::new("k2")?);
    keys.on("GET", served(&old.jwks()));
    let source = format!("jwks_url: http://{}/jwks.json", keys.address());
    let yaml = with_jwt(&server, &source, "limits:\n  jwks_min_refresh_ms: 300\n");
    let gateway = Gateway::start(&yaml).await?;
    let url = gateway.url("s");
    let claims = old.claims("https://issuer.example", &url);
    let fetched = |keys: &HostileServer| keys.received().len();
    assert_eq!(list(&url, Some(&old.token(&claims)?)).await?, ok());
    assert_eq!(fetched(&keys), 1);
    // Tokens that name unknown keys cost the issuer no more than two fetches per interval.
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(list(&url, Some(&new.token(&claims)?)).await?, refused(401, "auth.invalid"));
    }
    let intervals = usize::try_from(begun.elapsed().as_millis() / 300)? + 1;
    assert!(fetched(&keys) <= 1 + 2 * intervals, "{} fetches in {intervals} intervals", fetched(&keys));
    keys.on("GET", served(&new.jwks()));
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(list(&url, Some(&new.token(&claims)?)).await?, ok(), "the new key is found without a restart");
    let again = old.token(&claims)?;
    assert_eq!(
        list(&url, Some(&again)).await?,
        refused(401, "auth.invalid"),
        "a withdrawn key counts no more"
    );
    Ok(())
}

#[tokio::test]
async fn a_key_server_that_fails_is_a_503_for_its_tokens_and_nothing_for_api_keys() -> Outcome {
    let server = HostileServer::start().await?;
    let keys = HostileServer::start().await?;
    keys.on("GET", Hostile::Status(500, "no".to_owned()));
    let issuer = Issuer::new("k1")?;
    let source = format!("jwks_url: http://{}/jwks.json", keys.address());
    let gateway = Gateway::start(&with_jwt(&server, &source, "")).await?;
    let url = gateway.url("s");
    let token = issuer.token(&issuer.claims("https://issuer.example", &url))?;
    assert_eq!(list(&url, Some(&token)).await?, refused(503, "auth.unavailable"));
    assert_eq!(list(&url, Some(gateway.key()?)).await?, ok());
    Ok(())
}
