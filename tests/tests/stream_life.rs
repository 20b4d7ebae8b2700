//! A stream lasts longer than what opened it may: it ends with its key, its token, its role, its server and its
//! session, and the ledger says why. While it is open, a client that reads slowly holds it up and loses nothing.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use portcullis_testkit::{Body, Client, Era, Gateway, Hostile, HostileServer, McpClient, Outcome};
use portcullis_tests::{
    issuer::Issuer,
    pair::{Pair, SOON, known, new_key, refusals, soon, verdict},
};
use serde_json::{Value, json};

/// A gateway before two servers, and a role that may listen.
struct House {
    gateway: Gateway,
    one: HostileServer,
    two: HostileServer,
}

impl House {
    async fn start() -> Outcome<Self> {
        Self::with("", None).await
    }

    /// The same with more configuration, and the key set that it names.
    async fn with(more: &str, jwks: Option<String>) -> Outcome<Self> {
        let (one, two) = (HostileServer::start().await?, HostileServer::start().await?);
        for server in [&one, &two] {
            for method in ["GET", "subscriptions/listen"] {
                server.on(method, Hostile::HangInStream);
            }
        }
        let yaml = format!(
            "roles:\n  listener:\n    allow:\n      - actions: [connect]\nservers:\n  s:\n    url: {}\n  t:\n    url: {}\n{more}",
            one.url(),
            two.url()
        );
        let builder = Gateway::builder().config(&yaml);
        let gateway = match jwks {
            Some(keys) => builder.file("jwks.json", keys).start().await?,
            None => builder.start().await?,
        };
        known(&gateway, SOON).await?;
        Ok(Self { gateway, one, two })
    }

    /// Puts a changed file in force.
    async fn change(&self, change: impl FnOnce(&str) -> String) -> Outcome {
        let said = || self.gateway.output().matches("new rules are in force").count();
        let before = said();
        self.gateway.rewrite(change)?;
        self.gateway.reload()?;
        soon("the new rules are in force", || said() > before).await
    }
}

/// Opens a stream without an end of its own and reads its first event.
async fn listen(client: &mut McpClient) -> Outcome<Body> {
    let mut stream = match client.era {
        Era::Modern => {
            client.open("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}})).await?
        }
        Era::Legacy => {
            let bearer = format!("Bearer {}", client.bearer.clone().unwrap_or_default());
            let session = client.session.clone().ok_or("no session")?;
            let headers = [
                ("authorization", bearer.as_str()),
                ("accept", "text/event-stream"),
                ("mcp-session-id", &session),
                ("mcp-protocol-version", "2025-11-25"),
            ];
            Client::default().open(Method::GET, &client.url, &headers, Bytes::new()).await?
        }
    };
    assert_eq!(stream.status, 200);
    let first = stream.next(SOON).await?.ok_or("no event")?;
    assert!(first.starts_with(b"data: ") || first.starts_with(b"event: "), "{first:?}");
    Ok(stream)
}

/// The stream ends, in words where its revision has some, and the ledger names the reason beside the intent.
async fn ends(house: &House, era: Era, mut stream: Body, code: &str, nth: usize) -> Outcome {
    let rest = String::from_utf8(stream.rest(SOON).await?.to_vec())?;
    assert_eq!(rest.contains(&format!("\"code\":\"{code}\"")), era == Era::Modern, "{era:?} {code}: {rest}");
    let recorded = refusals(&house.gateway, code, nth).await?;
    let entry = recorded.last().ok_or("no entry")?;
    assert!(entry["intent"].is_u64() && entry["latency_us"].is_u64(), "{entry}");
    Ok(())
}

#[tokio::test]
async fn a_stream_ends_with_the_key_that_opened_it() -> Outcome {
    let house = House::start().await?;
    for (nth, era) in (1..).zip(Era::ALL) {
        let key = new_key(&house.gateway, &format!("k{nth}"), "listener")?;
        let mut client = McpClient::connect(&house.gateway.url("s"), Some(&key), era).await?;
        let stream = listen(&mut client).await?;
        let id = key.split('_').nth(1).ok_or("no id")?.to_owned();
        assert!(house.gateway.command(&["key", "revoke", &id])?.status.success());
        ends(&house, era, stream, "auth.invalid", nth).await?;
    }
    // The servers are left, too.
    house.one.wait_until(SOON, |server| server.hung_up() == 2).await?;
    let arguments = ["key", "create", "short", "--role", "listener", "--expires", "6s", "--json"];
    let made: Value = serde_json::from_slice(&house.gateway.command(&arguments)?.stdout)?;
    let mut client = McpClient::new(&house.gateway.url("s"), made["text"].as_str(), Era::Modern);
    let stream = listen(&mut client).await?;
    ends(&house, Era::Modern, stream, "auth.invalid", 3).await
}

#[tokio::test]
async fn a_stream_ends_with_the_token_that_opened_it_and_not_with_another_of_its_caller() -> Outcome {
    let issuer = Issuer::new("k1")?;
    let house = House::with(
        "identities:\n  jwt:\n    - issuer: https://issuer.example\n      algorithms: [EdDSA]\n      \
         jwks_file: jwks.json\n      default_roles: [listener]\n      leeway_s: 0\n",
        Some(issuer.jwks()),
    )
    .await?;
    let url = house.gateway.url("s");
    let lasting = issuer.token(&issuer.claims("https://issuer.example", &url))?;
    let mut claims = issuer.claims("https://issuer.example", &url);
    let end = issuer.now() + 12;
    claims["exp"] = json!(end);
    let short = issuer.token(&claims)?;
    // One caller, two tokens.
    let (mut open, mut others) = (Vec::new(), Vec::new());
    for era in Era::ALL {
        for (token, list) in [(&short, &mut open), (&lasting, &mut others)] {
            let mut client = McpClient::connect(&url, Some(token), era).await?;
            list.push((era, listen(&mut client).await?));
        }
    }
    assert!(issuer.now() < end, "this machine is too slow for the test");
    for (nth, (era, stream)) in (1..).zip(open) {
        ends(&house, era, stream, "auth.invalid", nth).await?;
        assert!(issuer.now() >= end, "{era:?}: it ended too early");
    }
    house.one.wait_until(SOON, |server| server.hung_up() == 2).await?;
    for (era, stream) in &mut others {
        // Longer than the pause between two looks; a stream that ended would say so at once.
        let next = stream.next(Duration::from_millis(1_500)).await;
        assert!(next.is_err(), "{era:?}: {next:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_ends_with_the_role_that_allowed_it_and_outlives_any_other_change() -> Outcome {
    let house = House::start().await?;
    let mut open = Vec::new();
    for era in Era::ALL {
        let key = new_key(&house.gateway, "k", "listener")?;
        let mut client = McpClient::connect(&house.gateway.url("s"), Some(&key), era).await?;
        open.push((era, listen(&mut client).await?));
    }
    house
        .change(|yaml| yaml.replace("roles:\n", "roles:\n  more:\n    allow:\n      - actions: [complete]\n"))
        .await?;
    for (era, stream) in &mut open {
        // Longer than the pause between two looks; a stream that ended would say so at once.
        let next = stream.next(Duration::from_millis(2_500)).await;
        assert!(next.is_err(), "{era:?}: {next:?}");
    }
    house.change(|yaml| yaml.replace("actions: [connect]", "actions: [get_prompt]")).await?;
    for (nth, (era, stream)) in (1..).zip(open) {
        ends(&house, era, stream, "policy.denied", nth).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_ends_with_its_server_and_the_streams_of_others_do_not() -> Outcome {
    let house = House::start().await?;
    let key = house.gateway.key()?;
    let (mut open, mut others) = (Vec::new(), Vec::new());
    for era in Era::ALL {
        for (server, list) in [("s", &mut open), ("t", &mut others)] {
            let mut client = McpClient::connect(&house.gateway.url(server), Some(key), era).await?;
            list.push((era, listen(&mut client).await?));
        }
    }
    let line = format!("  s:\n    url: {}\n", house.one.url());
    house.change(|yaml| yaml.replace(&line, "")).await?;
    for (nth, (era, stream)) in (1..).zip(open) {
        ends(&house, era, stream, "server.unknown", nth).await?;
    }
    house.one.wait_until(SOON, |server| server.hung_up() == 2).await?;
    for (era, stream) in &mut others {
        // Longer than the pause between two looks; a stream that ended would say so at once.
        let next = stream.next(Duration::from_millis(1_500)).await;
        assert!(next.is_err(), "{era:?}: {next:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_every_event_of_its_call_once_and_in_order() -> Outcome {
    const EVENTS: usize = 400;
    for era in Era::ALL {
        let pair = Pair::start(&[]).await?;
        let mut client = pair.client(era).await?;
        let note = |number: usize| {
            let data = format!("event {number} {}", "slow ".repeat(2_000));
            json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": data}})
                .to_string()
        };
        let result = r#"{"jsonrpc":"2.0","id":$ID,"result":{"resultType":"complete","content":[]}}"#;
        let events: Vec<_> = (0..EVENTS).map(note).chain([result.to_owned()]).collect();
        pair.server.on("tools/call", Hostile::Events(events));
        let params = json!({"name": "echo", "arguments": {"text": "x"}});
        let mut stream = client.open("tools/call", params).await?;
        let mut seen = Vec::new();
        while let Some(piece) = stream.next(SOON).await? {
            seen.extend_from_slice(&piece);
            // Slower than the server writes and the gateway judges; that is what is tested.
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        let seen = String::from_utf8(seen)?;
        let data = seen.lines().filter_map(|line| line.strip_prefix("data: "));
        let messages: Vec<Value> = data.map(serde_json::from_str).collect::<Result<_, _>>()?;
        assert_eq!(messages.len(), EVENTS + 1, "{era:?}");
        for (number, message) in messages.iter().take(EVENTS).enumerate() {
            let data = message.pointer("/params/data").and_then(Value::as_str).unwrap_or_default();
            assert!(data.starts_with(&format!("event {number} slow")), "{era:?} {number}: {data:.40}");
        }
        assert!(messages[EVENTS].get("result").is_some(), "{era:?}: {}", messages[EVENTS]);
    }
    Ok(())
}

#[tokio::test]
async fn streams_and_sessions_do_not_outlive_the_address_of_their_server() -> Outcome {
    let house = House::start().await?;
    let key = house.gateway.key()?;
    let mut legacy = McpClient::connect(&house.gateway.url("s"), Some(key), Era::Legacy).await?;
    let mut modern = McpClient::connect(&house.gateway.url("s"), Some(key), Era::Modern).await?;
    let mut other = McpClient::connect(&house.gateway.url("t"), Some(key), Era::Legacy).await?;
    let open = [(Era::Legacy, listen(&mut legacy).await?), (Era::Modern, listen(&mut modern).await?)];
    let third = HostileServer::start().await?;
    house.change(|yaml| yaml.replace(&house.one.url(), &third.url())).await?;
    for (nth, (era, stream)) in (1..).zip(open) {
        ends(&house, era, stream, "server.changed", nth).await?;
    }
    for code in ["server.changed", "session.unknown"] {
        let answer = legacy.call("echo", json!({"text": "x"})).await?;
        assert_eq!(verdict(&answer), (404, code.into()));
    }
    assert_eq!(third.count("tools/call"), 0, "a session went to a server that never gave it");
    legacy.session = None;
    legacy.initialize().await?;
    assert_eq!(legacy.call("echo", json!({"text": "again"})).await?.text(), "again");
    assert_eq!(other.call("echo", json!({"text": "kept"})).await?.text(), "kept", "{}", house.two.url());

    // Without an open stream the next call of a session finds out.
    let mut quiet = McpClient::connect(&house.gateway.url("s"), Some(key), Era::Legacy).await?;
    house.change(|yaml| yaml.replace(&third.url(), &house.one.url())).await?;
    house.one.forget();
    let answer = quiet.call("echo", json!({"text": "x"})).await?;
    assert_eq!(verdict(&answer), (404, "server.changed".into()));
    assert_eq!(house.one.count("tools/call"), 0, "a session went to a server that never gave it");
    Ok(())
}
