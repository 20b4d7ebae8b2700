//! The limits in time, and those of sessions and catalogues. The table of all limits is in `limits.rs`.

use std::{collections::BTreeSet, time::Duration};

use portcullis_testkit::{Client, Era, Gateway, Hostile, HostileServer, McpClient, Outcome, RawConnection};
use portcullis_tests::pair::{Pair, SOON, code_of, entries, limits_yaml, new_key, refusals, verdict};
use serde_json::{Value, json};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

/// What a busy machine adds to a limit; the defaults of the limits in question are longer.
const LATE: Duration = Duration::from_secs(20);
const BRIEF: Duration = Duration::from_millis(100);

#[tokio::test]
async fn sessions_are_bounded_in_number_for_all_and_for_each_caller() -> Outcome {
    let pair = Pair::start(&[("sessions_max", 2), ("caller_sessions_max", 1)]).await?;
    let url = pair.gateway.url("s");
    let mut first = pair.client(Era::Legacy).await?;
    let mut second = pair.client(Era::Legacy).await?;
    assert_eq!(verdict(&first.request("ping", json!({})).await?), (404, "session.unknown".into()));
    assert_eq!(second.request("ping", json!({})).await?.status(), 200);
    let mut stranger =
        McpClient::connect(&url, Some(&new_key(&pair.gateway, "b", "operator")?), Era::Legacy).await?;
    let mut third = McpClient::new(&url, Some(&new_key(&pair.gateway, "c", "operator")?), Era::Legacy);
    assert_eq!(verdict(&third.initialize().await?), (429, "limit.concurrency".into()));
    assert_eq!(stranger.request("ping", json!({})).await?.status(), 200);
    assert_eq!(second.request("ping", json!({})).await?.status(), 200, "a stranger ended somebody's session");
    let refused = refusals(&pair.gateway, "limit.concurrency", 1).await?;
    assert_eq!(refused.len(), 1);
    assert!(refused[0]["intent"].is_u64(), "{}", refused[0]);
    Ok(())
}

#[tokio::test]
async fn a_session_ends_when_idle_and_at_last_in_any_case() -> Outcome {
    const IDLE: Duration = Duration::from_millis(1_500);
    let pair = Pair::start(&[("session_idle_ms", 1_500)]).await?;
    let mut client = pair.client(Era::Legacy).await?;
    let (mut begun, due) = (Instant::now(), Instant::now() + 4 * SOON);
    // Used for longer than it may be idle, without ever being idle for so long itself: a machine that is slower than
    // that proves nothing and begins again.
    while begun.elapsed() < 2 * IDLE {
        assert!(Instant::now() < due, "this machine is too slow for a session of {IDLE:?}");
        let asked = Instant::now();
        tokio::time::sleep(BRIEF).await;
        let status = client.request("ping", json!({})).await?.status();
        if asked.elapsed() > IDLE / 2 {
            (client, begun) = (pair.client(Era::Legacy).await?, Instant::now());
        } else {
            assert_eq!(status, 200, "a session in use ended");
        }
    }
    tokio::time::sleep(IDLE + BRIEF).await;
    assert_eq!(verdict(&client.request("ping", json!({})).await?), (404, "session.unknown".into()));

    let pair = Pair::start(&[("session_total_ms", 1_000)]).await?;
    let begun = Instant::now();
    let mut client = pair.client(Era::Legacy).await?;
    while client.request("ping", json!({})).await?.status() == 200 {
        assert!(begun.elapsed() < SOON, "a session does not end");
        tokio::time::sleep(BRIEF).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(1_000), "{:?}", begun.elapsed());
    Ok(())
}

/// The head of a call whose body of 100 bytes does not come.
fn head_without_body(pair: &Pair, more: &str) -> String {
    format!(
        "POST /mcp/s HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{more}Content-Length: 100\r\n\r\n",
        pair.gateway.address()
    )
}

#[tokio::test]
async fn a_stranger_is_refused_before_a_byte_of_its_body_is_read() -> Outcome {
    let pair = Pair::start(&[("request_timeout_ms", 60_000)]).await?;
    let mut stranger = RawConnection::open(pair.gateway.address()).await?;
    stranger.write(head_without_body(&pair, "").as_bytes()).await?;
    let answer = stranger.read_until(SOON, |bytes| bytes.ends_with(b"}}}")).await;
    let answer = String::from_utf8(answer)?;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("auth.missing"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_request_that_does_not_arrive_in_time_is_given_up() -> Outcome {
    let pair = Pair::start(&[("request_timeout_ms", 300)]).await?;
    let address = pair.gateway.address();
    let head = head_without_body(&pair, &format!("Authorization: Bearer {}\r\n", pair.gateway.key()?));
    let mut slow = RawConnection::open(address).await?;
    slow.write(head.as_bytes()).await?;
    slow.write(b"{\"jsonrpc\"").await?;
    let answer = slow.read_until(SOON, |bytes| bytes.ends_with(b"}}}")).await;
    let answer = String::from_utf8(answer)?;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request.timeout"), "{answer}");
    assert_eq!(refusals(&pair.gateway, "request.timeout", 1).await?.len(), 1);
    // What never becomes a request is cut off.
    for start in [&b""[..], b"POST /mcp/s HT", &head.as_bytes()[..head.len() - 10]] {
        let mut silent = RawConnection::open(address).await?;
        silent.write(start).await?;
        assert!(silent.closed_within(SOON).await, "{:?}", String::from_utf8_lossy(start));
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_takes_no_connection_is_given_up_in_time() -> Outcome {
    // A queue that is full drops every further attempt to connect.
    let socket = TcpSocket::new_v4()?;
    socket.bind("127.0.0.1:0".parse()?)?;
    let listener = socket.listen(1)?;
    let address = listener.local_addr()?;
    let mut filling = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        filling.push(stream?);
        assert!(filling.len() < 50, "the queue does not fill");
    }
    let limits = limits_yaml(&[("connect_timeout_ms", 300)]);
    let gateway = Gateway::start(&format!("servers:\n  s:\n    url: http://{address}/mcp\n{limits}")).await?;
    let mut client = McpClient::new(&gateway.url("s"), Some(gateway.key()?), Era::Legacy);
    // Without the limit it would take five seconds; what else this machine does may slow any one of these.
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        let answer = client.initialize().await?;
        assert_eq!(verdict(&answer), (502, "upstream.unavailable".into()));
        fastest = fastest.min(begun.elapsed());
    }
    assert!(fastest >= Duration::from_millis(300) && fastest < Duration::from_secs(4), "{fastest:?}");
    let refused = refusals(&gateway, "upstream.unavailable", 1).await?;
    assert!(refused[0]["intent"].is_u64(), "{}", refused[0]);
    Ok(())
}

#[tokio::test]
async fn each_timeout_of_a_call_ends_it_in_its_own_time() -> Outcome {
    let byte = Hostile::SlowBody(Duration::from_millis(50));
    for (limit, value, behaviour, status) in [
        ("first_byte_timeout_ms", 1_500, Hostile::HangBeforeHeaders, 504),
        ("idle_timeout_ms", 1_500, Hostile::HangInBody, 504),
        ("idle_timeout_ms", 1_500, Hostile::HangInStream, 200),
        ("total_timeout_ms", 2_000, byte.clone(), 504),
        ("total_timeout_ms", 2_000, Hostile::HangInStream, 200),
        ("total_timeout_ms", 2_000, Hostile::HangBeforeHeaders, 504),
    ] {
        let pair = Pair::start(&[(limit, value), ("server_calls_max", 1)]).await?;
        let mut client = pair.modern()?;
        pair.server.on("tools/call", behaviour.clone());
        let begun = Instant::now();
        let answer = client.call("echo", json!({"text": "x"})).await?;
        let took = begun.elapsed();
        assert_eq!(verdict(&answer), (status, "upstream.timeout".into()), "{limit} {behaviour:?}");
        assert!(took >= Duration::from_millis(value), "{limit} {behaviour:?}: too early, {took:?}");
        assert!(took < Duration::from_millis(value) + LATE, "{limit} {behaviour:?}: too late, {took:?}");
        let refused = refusals(&pair.gateway, "upstream.timeout", 1).await?;
        assert_eq!(refused.len(), 1, "{limit} {behaviour:?}");
        assert!(refused[0]["intent"].is_u64(), "{}", refused[0]);
        pair.server.heal();
        assert_eq!(
            client.call("echo", json!({"text": "y"})).await?.text(),
            "y",
            "the place was not given back"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_silent_stream_is_kept_open_by_comments() -> Outcome {
    let pair = Pair::start(&[("keepalive_ms", 1_000), ("idle_timeout_ms", 200)]).await?;
    let mut client = pair.modern()?;
    pair.server.on("subscriptions/listen", Hostile::HangInStream);
    let mut stream = client.open("subscriptions/listen", json!({"notifications": {}})).await?;
    let (mut seen, begun) = (String::new(), Instant::now());
    while seen.matches(": keep-alive\n\n").count() < 2 {
        let piece = stream.next(SOON).await?.ok_or("the stream ended")?;
        seen.push_str(std::str::from_utf8(&piece)?);
    }
    assert!(begun.elapsed() >= Duration::from_millis(1_900), "{:?}", begun.elapsed());
    Ok(())
}

async fn listing(server: HostileServer, limits: &[(&str, u64)]) -> Outcome<(u16, String, usize)> {
    let yaml = format!("servers:\n  s:\n    url: {}\n{}", server.url(), limits_yaml(limits));
    let gateway = Gateway::start(&yaml).await?;
    let mut client = McpClient::new(&gateway.url("s"), Some(gateway.key()?), Era::Modern);
    let answer = client.request("tools/list", json!({})).await?;
    let (status, code) = verdict(&answer);
    Ok((status, code, answer.names().len()))
}

#[tokio::test]
async fn a_catalogue_beyond_its_limits_is_refused_whole() -> Outcome {
    for (limits, paged, expected) in [
        ([("definitions_max", 3), ("list_pages_max", 3)], true, (200, String::new(), 3)),
        ([("definitions_max", 2), ("list_pages_max", 9)], false, (502, "answer.invalid".to_owned(), 0)),
        ([("definitions_max", 9), ("list_pages_max", 2)], true, (502, "answer.invalid".to_owned(), 0)),
    ] {
        let server = HostileServer::start().await?;
        if paged {
            server.set_page_size(1);
        }
        assert_eq!(listing(server, &limits).await?, expected, "{limits:?}");
    }
    // Pages that are small each, and large together.
    for (bytes, expected) in [(600, (502, "answer.too_large".to_owned(), 0)), (100, (200, String::new(), 3))]
    {
        let server = HostileServer::start().await?;
        server.set_page_size(1);
        let tool = |name: &str| json!({"name": name, "description": "x".repeat(bytes), "inputSchema": {"type": "object"}});
        server.set_tools(["a", "b", "c"].map(tool).to_vec());
        assert_eq!(listing(server, &[("answer_bytes_max", 1_500)]).await?, expected, "{bytes}");
    }
    Ok(())
}

#[tokio::test]
async fn a_catalogue_is_fetched_again_when_it_is_old() -> Outcome {
    let often = Pair::start(&[("catalog_refresh_ms", 100)]).await?;
    let seldom = Pair::start(&[]).await?;
    often.server.wait_until(SOON, |server| server.count("tools/list") >= 5).await?;
    assert_eq!(seldom.server.count("tools/list"), 1);
    Ok(())
}

#[tokio::test]
async fn a_tool_with_too_large_a_schema_cannot_be_called() -> Outcome {
    let server = HostileServer::start().await?;
    let schema = |filler: usize| json!({"type": "object", "description": "x".repeat(filler)});
    let tool = |name: &str, filler| json!({"name": name, "inputSchema": schema(filler)});
    server.set_tools(vec![tool("small", 100), tool("large", 300)]);
    let pair = Pair::with(server, "", &[("schema_bytes_max", 256)]).await?;
    let mut client = pair.modern()?;
    assert_eq!(client.call("small", json!({})).await?.text(), "called small with {}");
    let answer = client.call("large", json!({})).await?;
    assert_eq!(code_of(&answer), "arguments.invalid");
    assert_eq!(pair.server.count("tools/call"), 1);
    assert_eq!(refusals(&pair.gateway, "arguments.invalid", 1).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_running_call_gets_its_grace_at_shutdown_and_no_more() -> Outcome {
    let mut pair = Pair::start(&[("shutdown_grace_ms", 1_500)]).await?;
    let client = pair.client(Era::Modern).await?;
    let begin = |behaviour: Hostile| {
        pair.server.on("tools/call", behaviour);
        let (mut client, count) = (client.clone(), pair.server.count("tools/call"));
        let call =
            tokio::spawn(async move { client.call("echo", json!({"text": "late"})).await.map(|a| a.text()) });
        (call, count)
    };
    let (slow, before) = begin(Hostile::Slow(Duration::from_millis(700)));
    pair.server.wait_until(SOON, |server| server.count("tools/call") > before).await?;
    let (stuck, before) = begin(Hostile::HangBeforeHeaders);
    pair.server.wait_until(SOON, |server| server.count("tools/call") > before).await?;
    let begun = Instant::now();
    assert!(pair.gateway.stop().await?.success());
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1_500) && took < LATE, "{took:?}");
    assert_eq!(slow.await??, "late", "a call within the grace was cut off");
    assert!(stuck.await?.is_err(), "a call beyond the grace got an answer");

    pair.gateway.start_again().await?;
    let index = |entry: &Value, key: &str| entry[key].as_u64();
    let ended: BTreeSet<_> =
        entries(&pair.gateway, "event=call.*").await?.iter().filter_map(|e| index(e, "intent")).collect();
    let intents = entries(&pair.gateway, "event=call.intent").await?;
    assert_eq!(
        ended.len(),
        intents.len(),
        "every intent has its outcome, also that of the call that was cut off"
    );
    let stopped = entries(&pair.gateway, "event=gateway.stopped").await?;
    assert_eq!(stopped.len(), 1);
    let health = Client::default().get(&format!("{}/healthz", pair.gateway.base()), &[]).await?;
    assert_eq!(health.status, 200);
    Ok(())
}
