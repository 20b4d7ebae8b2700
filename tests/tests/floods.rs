//! Floods: a server that never stops talking, towards clients that read nothing or have gone, and one that says what
//! nobody asked for. What is not read waits at the server, who does not read is cut off, and each end is in the ledger.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_testkit::{
    Body, Era, Gateway, Hostile, HostileServer, McpClient, Outcome, free_ports, self_signed,
};
use portcullis_tests::pair::{Pair, entries, known, new_key};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::Instant};

const CHILD: &str = env!("CARGO_BIN_EXE_scripted-child");

/// What may happen late on a busy machine, and must happen.
const PATIENCE: Duration = Duration::from_secs(90);

/// What the kernel of a client takes that is not read; of everybody else's it takes megabytes.
const SMALL_BUFFER_BYTES: u32 = 8_192;

const MIB: u64 = 1024 * 1024;

/// One message as an event.
fn event(message: &Value) -> String {
    format!("data: {message}\n\n")
}

/// A notification of about so many bytes.
fn note(bytes: usize) -> String {
    let params = json!({"level": "info", "data": "f".repeat(bytes)});
    event(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params}))
}

/// Opens a stream without an end of its own.
async fn listen(client: &mut McpClient) -> Outcome<Body> {
    let stream = match client.era {
        Era::Modern => client.open("subscriptions/listen", json!({"notifications": {}})).await?,
        Era::Legacy => client.stream(None).await?,
    };
    assert_eq!(stream.status, 200);
    Ok(stream)
}

/// The method by which [`listen`] opens it.
fn listening(era: Era) -> &'static str {
    if era == Era::Modern { "subscriptions/listen" } else { "GET" }
}

/// The entry that ends the message with this method, or to this tool, and the most memory that the gateway had until then.
async fn ended(gateway: &Gateway, method: &str) -> Outcome<(Value, u64)> {
    let (due, mut most) = (Instant::now() + PATIENCE, 0);
    loop {
        most = most.max(gateway.rss_bytes()?);
        for event in ["call.outcome", "call.refused"] {
            let found = entries(gateway, &format!("event={event}")).await?;
            let meant = |entry: &Value| entry["method"] == method || entry["target"]["name"] == method;
            if let Some(entry) = found.into_iter().find(|entry| meant(entry) && entry["intent"].is_u64()) {
                return Ok((entry, most));
            }
        }
        assert!(Instant::now() < due, "{method} never ends");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The server is left, behaves again, and has all its places.
async fn recovers(pair: &Pair, era: Era) -> Outcome {
    pair.server.wait_until(PATIENCE, |server| server.hung_up() == 1).await?;
    pair.server.heal();
    let due = Instant::now() + PATIENCE;
    // The entry is there a moment before the place is free.
    loop {
        let called = async { pair.client(era).await?.call("echo", json!({"text": "dry"})).await };
        match called.await {
            Ok(answer) if answer.text() == "dry" => return Ok(()),
            late => assert!(Instant::now() < due, "{era:?}: the place was not given back: {late:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_flood_on_a_stream_waits_at_its_server_and_the_client_that_does_not_read_is_cut_off() -> Outcome {
    for flood in [note(10_000), ": a comment\n\n".repeat(500)] {
        for era in Era::ALL {
            let limits = [("idle_timeout_ms", 2_000), ("server_streams_max", 1), ("caller_streams_max", 1)];
            let pair = Pair::start(&limits).await?;
            let mut client = pair.client(era).await?.with_receive_buffer(SMALL_BUFFER_BYTES);
            pair.server.on(listening(era), Hostile::EndlessEvents(flood.clone()));
            let before = pair.gateway.rss_bytes()?;
            let stream = listen(&mut client).await?;
            let (entry, most) = ended(&pair.gateway, listening(era)).await?;
            assert_eq!(entry["code"], "request.unread", "{era:?}: {entry}");
            let (grown, taken) = (most.saturating_sub(before) / MIB, pair.server.flooded_bytes() / MIB);
            assert!(grown < 24, "{era:?}: {grown} MiB for one client that does not read");
            // Mostly what the kernel holds between server and gateway.
            assert!(taken < 24, "{era:?}: {taken} MiB were taken for a client that does not read");
            drop(stream);
            recovers(&pair, era).await?;
            pair.server.on(listening(era), Hostile::HangInStream);
            listen(&mut pair.client(era).await?).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_call_towards_a_client_that_does_not_read_ends_in_its_time_and_gives_its_place_back() -> Outcome {
    // Under the older revision a client that reads nothing may come back for it: there the total time alone ends a call.
    for (idle_ms, total_ms, eras) in
        [(1_500, 60_000, &[Era::Modern][..]), (1_500, 8_000, &[Era::Legacy]), (60_000, 1_500, &Era::ALL)]
    {
        for era in eras.iter().copied() {
            let limits = [
                ("idle_timeout_ms", idle_ms),
                ("total_timeout_ms", total_ms),
                ("server_calls_max", 1),
                // What comes when the client was cut off is another test.
                ("answer_bytes_max", 1_073_741_824),
            ];
            let pair = Pair::start(&limits).await?;
            let mut client = pair.client(era).await?.with_receive_buffer(SMALL_BUFFER_BYTES);
            pair.server.on("tools/call", Hostile::EndlessEvents(note(10_000)));
            let before = pair.gateway.rss_bytes()?;
            let stream =
                client.open("tools/call", json!({"name": "echo", "arguments": {"text": "x"}})).await?;
            let (entry, most) = ended(&pair.gateway, "tools/call").await?;
            let late = idle_ms > total_ms || era == Era::Legacy;
            let expected = if late { "upstream.timeout" } else { "request.unread" };
            assert_eq!(entry["code"], expected, "{era:?}: {entry}");
            let took_ms = entry["latency_us"].as_u64().unwrap_or_default() / 1_000;
            assert!(took_ms >= if late { total_ms } else { idle_ms }, "{era:?}: {entry}");
            let grown = most.saturating_sub(before) / MIB;
            assert!(grown < 24, "{era:?}: {grown} MiB for one client that does not read");
            drop(stream);
            recovers(&pair, era).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_talks_on_after_its_client_left_is_not_heard_to_the_end_of_its_time() -> Outcome {
    let limits = [("answer_bytes_max", 1_048_576), ("total_timeout_ms", 600_000), ("server_calls_max", 1)];
    for flood in [note(10_000), ": a comment\n\n".to_owned()] {
        let pair = Pair::start(&limits).await?;
        let mut client = pair.client(Era::Legacy).await?;
        pair.server.on("tools/call", Hostile::EndlessEvents(flood));
        let stream = client.open("tools/call", json!({"name": "echo", "arguments": {"text": "x"}})).await?;
        drop(stream);
        let (entry, _) = ended(&pair.gateway, "tools/call").await?;
        assert_eq!(entry["code"], "answer.too_large", "{entry}");
        recovers(&pair, Era::Legacy).await?;
    }
    Ok(())
}

/// Reads and forgets whatever comes, until the end.
async fn drain(mut stream: Body) {
    while let Ok(Some(_)) = stream.next(PATIENCE).await {}
}

#[tokio::test]
async fn a_server_that_asks_without_end_is_left_and_does_not_fill_the_ledger() -> Outcome {
    let question = |method: &str| event(&json!({"jsonrpc": "2.0", "id": 1, "method": method}));
    // One that it may ask, one that it may not, and what is not passed on for its address.
    let unsafe_url = event(&json!({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create",
        "params": {"mode": "url", "url": "http://evil.example/", "message": "x", "elicitationId": "e"}}));
    for flood in [question("ping"), question("sampling/createMessage"), unsafe_url] {
        for method in ["GET", "tools/call"] {
            let pair = Pair::start(&[("server_calls_max", 1), ("server_streams_max", 1)]).await?;
            let mut client = pair.client(Era::Legacy).await?;
            pair.server.on(method, Hostile::EndlessEvents(flood.clone()));
            let begun = Instant::now();
            let stream = match method {
                "GET" => client.stream(None).await?,
                _ => client.open("tools/call", json!({"name": "echo", "arguments": {"text": "x"}})).await?,
            };
            let reading = tokio::spawn(drain(stream));
            let (entry, _) = ended(&pair.gateway, method).await?;
            assert_eq!(entry["code"], "server_request.flood", "{entry}");
            let asked = entries(&pair.gateway, "event=server.request").await?.len() as u64;
            assert!((64..=65 + begun.elapsed().as_secs()).contains(&asked), "{method}: {asked} entries");
            reading.await?;
            recovers(&pair, Era::Legacy).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_tells_without_end_what_nobody_asked_for_costs_one_entry_and_a_fetch_each_second()
-> Outcome {
    let told = |method: &str| event(&json!({"jsonrpc": "2.0", "method": method}));
    for (flood, unknown) in [
        (told("notifications/tools/list_changed"), 0),
        (told("notifications/resources/updated"), 0),
        (told("notifications/nobody/knows"), 1),
    ] {
        for era in Era::ALL {
            let pair = Pair::start(&[]).await?;
            pair.server.on(listening(era), Hostile::EndlessEvents(flood.repeat(20)));
            let (begun, fetched) = (Instant::now(), pair.server.count("tools/list"));
            let before = pair.gateway.rss_bytes()?;
            let reading = tokio::spawn(drain(listen(&mut pair.client(era).await?).await?));
            let mut most = 0;
            // For as long as several fetches take that are a second apart; many more happen in that time if nothing
            // keeps them apart.
            while begun.elapsed() < Duration::from_secs(4) || pair.server.flooded_bytes() < MIB {
                most = most.max(pair.gateway.rss_bytes()?);
                assert!(begun.elapsed() < PATIENCE, "the flood stands still");
                let mut other = pair.client(era).await?;
                assert_eq!(other.call("echo", json!({"text": "through"})).await?.text(), "through");
            }
            let fetches = pair.server.count("tools/list") - fetched;
            let seconds = usize::try_from(begun.elapsed().as_secs())?;
            assert!(fetches <= seconds + 3, "{era:?}: {fetches} fetches in {seconds} s: {flood}");
            let grown = most.saturating_sub(before) / MIB;
            assert!(grown < 24, "{era:?}: {grown} MiB: {flood}");
            let recorded = entries(&pair.gateway, "event=server.request").await?;
            assert_eq!(recorded.len(), unknown, "{era:?}: {recorded:?}");
            assert!(!reading.is_finished(), "{era:?}: the stream ended: {flood}");
            reading.abort();
            pair.server.wait_until(PATIENCE, |server| server.hung_up() == 1).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_does_not_belong_on_a_stream_ends_it_with_a_reason() -> Outcome {
    for wrong in [
        json!({"jsonrpc": "2.0", "id": "another's", "result": {}}),
        json!({"jsonrpc": "2.0", "id": 7, "method": "roots/list"}),
        json!({"hello": "world"}),
    ] {
        let pair = Pair::start(&[]).await?;
        pair.server.on("subscriptions/listen", Hostile::EndlessEvents(event(&wrong)));
        let mut client = pair.client(Era::Modern).await?;
        let mut stream = listen(&mut client).await?;
        let said = String::from_utf8(stream.rest(PATIENCE).await?.to_vec())?;
        assert!(said.contains("\"code\":\"answer.invalid\""), "{wrong}: {said}");
        let (entry, _) = ended(&pair.gateway, "subscriptions/listen").await?;
        assert_eq!(entry["code"], "answer.invalid", "{entry}");
        recovers(&pair, Era::Modern).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_flood_of_a_shared_child_towards_one_that_does_not_read_holds_nobody_up_for_long() -> Outcome {
    const BYTES: u64 = MIB / 4;
    for era in Era::ALL {
        // Whoever waits for the child must not have to wait until the connection of the one that is stuck is cut off.
        let yaml = format!(
            "servers:\n  s:\n    command: [{CHILD}]\n    isolation: shared\nlimits:\n  idle_timeout_ms: 90000\n"
        );
        let gateway = Gateway::start(&yaml).await?;
        let other = new_key(&gateway, "other", "operator")?;
        let mut reads = McpClient::connect(&gateway.url("s"), Some(&other), era).await?;
        let stuck = McpClient::connect(&gateway.url("s"), Some(gateway.key()?), era).await?;
        let mut stuck = stuck.with_receive_buffer(SMALL_BUFFER_BYTES);
        let before = gateway.rss_bytes()?;
        // Several times what the places of its queues would hold if they were not bounded in bytes.
        let params = json!({"name": "flood", "arguments": {"count": 600, "bytes": BYTES},
            "_meta": {"progressToken": "t"}});
        let stream = stuck.open("tools/call", params).await?;
        let (mut most, mut longest, begun) = (0, Duration::ZERO, Instant::now());
        // The child answers in the order in which it is heard, hence behind what nobody reads.
        while entries(&gateway, "event=call.refused&code=request.unread").await?.is_empty() {
            most = most.max(gateway.rss_bytes()?);
            let asked = Instant::now();
            assert_eq!(reads.call("echo", json!({"text": "through"})).await?.text(), "through");
            longest = longest.max(asked.elapsed());
            if begun.elapsed() > Duration::from_secs(20) {
                break;
            }
        }
        assert!(longest < Duration::from_secs(60), "{era:?}: another caller waited {longest:?}");
        let grown = most.saturating_sub(before) / MIB;
        assert!(grown < 32, "{era:?}: {grown} MiB for one client that does not read");
        drop(stream);
        let (entry, _) = ended(&gateway, "flood").await?;
        // Whether the client was found gone or its call given up is a race that it starts.
        assert!(entry["code"].is_null() || entry["code"] == "request.unread", "{era:?}: {entry}");
    }
    Ok(())
}

/// One connection of HTTP/2 whose streams take so many bytes that are not read.
async fn shared(address: SocketAddr, root: &str, window_bytes: u32) -> Outcome<SendRequest<Full<Bytes>>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream =
        connector.connect(ServerName::try_from("localhost")?, TcpStream::connect(address).await?).await?;
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    // All streams together may hold more, so that one that is not read leaves room for the others.
    builder.initial_stream_window_size(window_bytes).initial_connection_window_size(16 * window_bytes);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One request over it.
async fn send(
    connection: &mut SendRequest<Full<Bytes>>,
    client: &mut McpClient,
    method: &str,
    params: Value,
) -> Outcome<Response<Incoming>> {
    let (_, message) = client.message(method, params);
    let mut request = Request::post(&client.url);
    for (name, value) in client.headers(&message) {
        request = request.header(name, value);
    }
    Ok(connection.send_request(request.body(Full::new(Bytes::from(message.to_string())))?).await?)
}

#[tokio::test]
async fn one_stream_of_http_2_that_is_not_read_is_given_up_and_the_others_of_its_connection_go_on() -> Outcome
{
    let (server, own) = (HostileServer::start().await?, self_signed(&["localhost"])?);
    let yaml = format!(
        "listen:\n  address: 127.0.0.1:{}\n  tls:\n    certificate: own.crt\n    key: own.key\nservers:\n  s:\n    url: {}\n\
         limits:\n  idle_timeout_ms: 1000\n  server_streams_max: 1\n  caller_streams_max: 1\n",
        free_ports(1)?[0],
        server.url()
    );
    let builder = Gateway::builder().config(&yaml).tls().file("own.crt", own.certificate_pem.as_str());
    let gateway = builder.file("own.key", own.key_pem.as_str()).start().await?;
    known(&gateway, PATIENCE).await?;
    server.on("subscriptions/listen", Hostile::EndlessEvents(note(10_000)));
    let mut connection = shared(gateway.address(), &own.certificate_pem, 65_535).await?;
    let url = format!("https://localhost:{}/mcp/s", gateway.address().port());
    let mut client = McpClient::new(&url, Some(gateway.key()?), Era::Modern);
    let before = gateway.rss_bytes()?;
    let listen = json!({"notifications": {"toolsListChanged": true}});
    let unread = send(&mut connection, &mut client, "subscriptions/listen", listen.clone()).await?;
    assert_eq!((unread.status(), unread.version()), (StatusCode::OK, Version::HTTP_2));
    let call = json!({"name": "echo", "arguments": {"text": "through"}});
    let (mut calls, due) = (0, Instant::now() + PATIENCE);
    let refused = loop {
        let answer = send(&mut connection, &mut client, "tools/call", call.clone()).await?;
        let body = answer.into_body().collect().await?.to_bytes();
        assert!(String::from_utf8_lossy(&body).contains("through"), "{body:?}");
        calls += 1;
        if let Some(refused) = entries(&gateway, "event=call.refused").await?.pop() {
            break refused;
        }
        assert!(Instant::now() < due, "a stream that is not read never ends");
        // The ledger is not to be filled with calls meanwhile.
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(refused["code"], "request.unread", "{refused}");
    assert_eq!(refused["method"], "subscriptions/listen", "{refused}");
    assert!(calls > 3, "the connection was shared all the time");
    let grown = gateway.rss_bytes()?.saturating_sub(before) / MIB;
    assert!(grown < 24, "{grown} MiB for one stream that is not read");
    server.wait_until(PATIENCE, |server| server.hung_up() == 1).await?;
    drop(unread);
    // Its place is free, on the same connection.
    server.on("subscriptions/listen", Hostile::HangInStream);
    let due = Instant::now() + PATIENCE;
    while send(&mut connection, &mut client, "subscriptions/listen", listen.clone()).await?.status() != 200 {
        assert!(Instant::now() < due, "the place was not given back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
