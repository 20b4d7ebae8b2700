//! What servers and clients say of themselves, and what is subscribed to, is kept only up to a length, and waited for only
//! so long.

use std::time::{Duration, Instant};

use portcullis_testkit::{Era, Gateway, Hostile, HostileServer, McpClient, Outcome};
use portcullis_tests::pair::{Pair, code_of, refusals, verdict};
use serde_json::{Value, json};

/// A server of one era alone, with one resource of each of these URIs.
async fn server_of(era: Era, uris: &[&str]) -> Outcome<HostileServer> {
    let server = HostileServer::start().await?;
    let other = if era == Era::Modern { "initialize" } else { "server/discover" };
    server.on(other, Hostile::AnswerError(404, -32_601, "not in this era".into()));
    server.set_resources(uris.iter().map(|uri| json!({"uri": uri, "name": "r"})).collect());
    Ok(server)
}

/// What a server of the older era answers to `initialize`.
fn introduced(version: &str, instructions: &str) -> Value {
    let capabilities = json!({"tools": {}, "resources": {"subscribe": true}});
    json!({"protocolVersion": version, "capabilities": capabilities, "serverInfo": {"name": "s", "version": "1"},
        "instructions": instructions})
}

#[tokio::test]
async fn a_session_between_eras_is_opened_only_where_it_can_keep_what_both_sides_say_of_themselves() -> Outcome
{
    let pair = Pair::with(server_of(Era::Legacy, &[]).await?, "", &[]).await?;
    let mut client = pair.modern()?;
    let call = |name: &str| {
        let meta = json!({"io.modelcontextprotocol/clientInfo": {"name": name, "version": "1"}});
        json!({"name": "echo", "arguments": {"text": "hello"}, "_meta": meta})
    };
    let answer = client.request("tools/call", call(&"n".repeat(65_600))).await?;
    assert_eq!(code_of(&answer), "request.too_large", "{}", answer.reply.text());
    pair.server.on("initialize", Hostile::Answer(introduced("2025-11-25", &"i".repeat(65_600))));
    let answer = client.request("tools/call", call("n")).await?;
    assert_eq!(code_of(&answer), "answer.too_large", "{}", answer.reply.text());
    assert_eq!(pair.server.count("tools/call"), 0, "nothing was forwarded");
    for code in ["request.too_large", "answer.too_large"] {
        assert_eq!(refusals(&pair.gateway, code, 1).await?.len(), 1, "{code}");
    }
    pair.server.on("initialize", Hostile::Answer(introduced("2025-11-25", &"i".repeat(65_000))));
    let answer = client.request("tools/call", call(&"n".repeat(65_000))).await?;
    assert_eq!(answer.text(), "hello", "{}", answer.reply.text());
    Ok(())
}

#[tokio::test]
async fn a_version_that_is_no_date_but_a_speech_is_not_kept() -> Outcome {
    let pair = Pair::with(server_of(Era::Legacy, &[]).await?, "", &[]).await?;
    let mut client = pair.modern()?;
    pair.server.on("initialize", Hostile::Answer(introduced(&"2025-11-25".repeat(4), "")));
    assert_eq!(client.call("echo", json!({"text": "hello"})).await?.text(), "hello");
    let calls = pair.server.received().into_iter().filter(|request| request.method == "tools/call");
    let versions: Vec<_> = calls.map(|call| call.header("mcp-protocol-version").map(str::to_owned)).collect();
    assert_eq!(versions, [Some("2025-11-25".to_owned())]);
    Ok(())
}

#[tokio::test]
async fn the_id_that_a_server_gives_a_session_is_kept_up_to_a_length() -> Outcome {
    let pair = Pair::with(server_of(Era::Legacy, &[]).await?, "", &[]).await?;
    for (bytes, fits) in [(1_025, false), (1_024, true)] {
        let id = "s".repeat(bytes);
        let body = json!({"jsonrpc": "2.0", "id": 1, "result": introduced("2025-11-25", "")}).to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: {id}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        pair.server.on("initialize", Hostile::Raw([head, body].concat().into_bytes()));
        let mut client = McpClient::new(&pair.gateway.url("s"), Some(pair.gateway.key()?), Era::Legacy);
        let answer = client.initialize().await?;
        if !fits {
            assert_eq!(verdict(&answer), (502, "answer.invalid".into()), "{}", answer.reply.text());
            refusals(&pair.gateway, "answer.invalid", 1).await?;
            continue;
        }
        pair.server.forget();
        assert_eq!(client.call("echo", json!({"text": "hello"})).await?.text(), "hello");
        let received = pair.server.received();
        let call = received.iter().find(|request| request.method == "tools/call").ok_or("no call")?;
        assert_eq!(call.header("mcp-session-id"), Some(&*id));
    }
    Ok(())
}

#[tokio::test]
async fn a_uri_is_subscribed_to_between_eras_up_to_a_length() -> Outcome {
    let [short, long] = [4_096, 4_097].map(|bytes| format!("x://{}", "u".repeat(bytes - 4)));
    let pair = Pair::with(server_of(Era::Modern, &[&short, &long]).await?, "", &[]).await?;
    let mut client = pair.client(Era::Legacy).await?;
    let answer = client.request("resources/subscribe", json!({"uri": long})).await?;
    assert_eq!(code_of(&answer), "limit.concurrency", "{}", answer.reply.text());
    let answer = client.request("resources/subscribe", json!({"uri": short})).await?;
    assert_eq!(answer.result(), &json!({}), "{}", answer.reply.text());
    refusals(&pair.gateway, "limit.concurrency", 1).await?;

    let server = server_of(Era::Legacy, &[&short, &long]).await?;
    server.on("initialize", Hostile::Answer(introduced("2025-11-25", "")));
    server.on("GET", Hostile::HangInStream);
    let pair = Pair::with(server, "", &[]).await?;
    let mut client = pair.modern()?;
    let listen = |uri: &str| json!({"notifications": {"resourceSubscriptions": [uri]}});
    let answer = client.request("subscriptions/listen", listen(&long)).await?;
    assert_eq!(code_of(&answer), "request.too_large", "{}", answer.reply.text());
    assert_eq!(pair.server.count("resources/subscribe"), 0);
    refusals(&pair.gateway, "request.too_large", 1).await?;
    let _stream = client.open("subscriptions/listen", listen(&short)).await?;
    pair.server
        .wait_until(Duration::from_secs(20), |server| server.count("resources/subscribe") == 1)
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_takes_longer_than_it_is_probed_and_refuses_the_older_revision_is_served_in_the_newer()
-> Outcome {
    let server = server_of(Era::Modern, &[]).await?;
    server.on("server/discover", Hostile::Slow(Duration::from_millis(5_500)));
    let pair = Pair::with(server, "", &[]).await?;
    for era in [Era::Modern, Era::Legacy] {
        let mut client = McpClient::new(&pair.gateway.url("s"), Some(pair.gateway.key()?), era)
            .with_patience(Duration::from_secs(40));
        if era == Era::Legacy {
            assert!(!client.initialize().await?.result().is_null(), "bridged");
        }
        let answer = client.call("echo", json!({"text": "hello"})).await?;
        assert_eq!(answer.text(), "hello", "{era:?}: {}", answer.reply.text());
    }
    Ok(())
}

/// What a child that knows no `initialize` is asked by a gateway: it starts for longer than it is probed.
#[tokio::test]
async fn a_child_that_starts_slowly_and_knows_no_initialize_is_served_in_the_newer_revision() -> Outcome {
    let command = json!([env!("CARGO_BIN_EXE_scripted-child"), "--slow", "--gruff"]);
    let gateway = Gateway::start(&format!("servers:\n  s:\n    command: {command}\n")).await?;
    let mut client = McpClient::new(&gateway.url("s"), Some(gateway.key()?), Era::Modern)
        .with_patience(Duration::from_secs(60));
    let answer = client.call("echo", json!({"text": "hello"})).await?;
    assert_eq!(answer.text(), "hello", "{}", answer.reply.text());
    Ok(())
}

#[tokio::test]
async fn a_server_that_talks_without_end_keeps_nobody_waiting_for_what_the_gateway_asks_itself() -> Outcome {
    for (era, method) in [(Era::Modern, "initialize"), (Era::Legacy, "server/discover")] {
        // The client is of the era that its server is not.
        let other = if era == Era::Modern { Era::Legacy } else { Era::Modern };
        let pair = Pair::with(server_of(other, &[]).await?, "", &[("total_timeout_ms", 1_000)]).await?;
        pair.server.on(method, Hostile::EndlessStream);
        let mut client = McpClient::new(&pair.gateway.url("s"), Some(pair.gateway.key()?), era);
        let begun = Instant::now();
        let answer = match era {
            Era::Modern => client.call("echo", json!({"text": "hello"})).await?,
            Era::Legacy => client.initialize().await?,
        };
        assert_eq!(code_of(&answer), "upstream.timeout", "{method}: {}", answer.reply.text());
        assert!(begun.elapsed() >= Duration::from_millis(900), "{method}: {:?}", begun.elapsed());
        refusals(&pair.gateway, "upstream.timeout", 1).await?;
        pair.server.wait_until(Duration::from_secs(20), |server| server.hung_up() >= 1).await?;
    }
    Ok(())
}
