//! The hostile server does what it is told, and behaves until then.

use std::time::{Duration, Instant};

use portcullis_testkit::{Client, Era, Hostile, HostileServer, McpClient, Outcome, raw_exchange};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(2);

async fn connected(server: &HostileServer, era: Era) -> Outcome<McpClient> {
    Ok(McpClient::connect(&server.url(), Some("secret"), era).await?.with_patience(PATIENCE))
}

#[tokio::test]
async fn it_behaves_in_both_revisions_until_told_otherwise() -> Outcome {
    let server = HostileServer::start().await?;
    for era in Era::ALL {
        let mut client = connected(&server, era).await?;
        assert_eq!(client.session.is_some(), era == Era::Legacy);
        assert_eq!(client.list("tools/list").await?, ["echo", "add", "delete"]);
        let answer = client.call("echo", json!({"text": "hello"})).await?;
        assert_eq!((answer.status().as_u16(), answer.text().as_str()), (200, "hello"));
        let sum = client.call("add", json!({"a": 1, "b": 2})).await?;
        assert_eq!(sum.result().pointer("/structuredContent/sum"), Some(&json!(3.0)));
        assert_eq!(client.call("nothing", json!({})).await?.error_code(), Some(-32602));
        let unknown = client.request("no/such", json!({})).await?;
        assert_eq!(unknown.error_code(), Some(-32601));
        assert_eq!(unknown.status().as_u16(), if era == Era::Modern { 404 } else { 200 });
    }
    let received = server.received();
    let call = received.iter().find(|request| request.method == "tools/call").unwrap();
    assert_eq!(call.header("Authorization"), Some("Bearer secret"));
    assert_eq!(server.count("initialize"), 1);
    assert_eq!(server.count("server/discover"), 1);
    server.forget();
    assert!(server.received().is_empty());
    Ok(())
}

#[tokio::test]
async fn it_pages_and_changes_its_definitions() -> Outcome {
    let server = HostileServer::start().await?;
    server.set_page_size(2);
    let mut client = connected(&server, Era::Modern).await?;
    assert_eq!(client.list("tools/list").await?, ["echo", "add", "delete"]);
    assert_eq!(server.count("tools/list"), 2);
    server.set_tools_after(1, vec![json!({"name": "other", "inputSchema": {"type": "object"}})]);
    assert_eq!(client.list("tools/list").await?.len(), 3);
    assert_eq!(client.list("tools/list").await?, ["other"]);
    Ok(())
}

#[tokio::test]
async fn whatever_hangs_runs_into_the_patience_of_the_client_and_notices_that_it_left() -> Outcome {
    use Hostile::{HangBeforeHeaders, HangInBody, HangInStream, SlowBody};
    let slow = SlowBody(Duration::from_millis(200));
    for behaviour in [HangBeforeHeaders, HangInBody, HangInStream, slow] {
        let server = HostileServer::start().await?;
        let mut client = connected(&server, Era::Modern).await?;
        server.on("tools/call", behaviour.clone());
        let started = Instant::now();
        assert!(client.call("echo", json!({"text": "x"})).await.is_err(), "{behaviour:?}");
        assert!(started.elapsed() >= PATIENCE, "{behaviour:?}");
        server.wait_until(Duration::from_secs(30), |server| server.hung_up() == 1).await?;
        server.wait_until(Duration::from_secs(30), |server| server.open_connections() == 0).await?;
        server.heal();
        assert_eq!(client.call("echo", json!({"text": "x"})).await?.text(), "x");
    }
    Ok(())
}

#[tokio::test]
async fn hanging_at_accept_reads_nothing() -> Outcome {
    let server = HostileServer::start().await?;
    server.on("*", Hostile::HangAtAccept);
    let answer = raw_exchange(server.address(), b"GET / HTTP/1.1\r\n\r\n", PATIENCE).await?;
    assert!(answer.is_empty());
    assert!(server.received().is_empty());
    Ok(())
}

#[tokio::test]
async fn what_breaks_off_is_an_error_at_once() -> Outcome {
    use Hostile::{Close, Reset, ResetInBody, TruncatedBody};
    for behaviour in [Close, Reset, ResetInBody, TruncatedBody] {
        let server = HostileServer::start().await?;
        let mut client = connected(&server, Era::Modern).await?.with_patience(Duration::from_secs(20));
        server.on("tools/call", behaviour.clone());
        let started = Instant::now();
        assert!(client.call("echo", json!({"text": "x"})).await.is_err(), "{behaviour:?}");
        assert!(started.elapsed() < Duration::from_secs(19), "{behaviour:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_endless_goes_on_until_the_client_leaves() -> Outcome {
    for behaviour in [Hostile::EndlessBody, Hostile::EndlessHeaders] {
        let server = HostileServer::start().await?;
        server.on("*", behaviour.clone());
        let request = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
        let answer = raw_exchange(server.address(), request, PATIENCE).await?;
        assert!(answer.len() > 1_000_000, "{behaviour:?}: {}", answer.len());
        server.wait_until(Duration::from_secs(30), |server| server.hung_up() == 1).await?;
    }
    Ok(())
}

#[tokio::test]
async fn wrong_answers_are_wrong_in_the_way_they_are_called() -> Outcome {
    let server = HostileServer::start().await?;
    let mut client = connected(&server, Era::Modern).await?.with_patience(Duration::from_secs(20));
    let arguments = || json!({"text": "x"});

    server.on("tools/call", Hostile::WrongId);
    let answer = client.call("echo", arguments()).await?;
    assert!(answer.response().is_null() && answer.messages.len() == 1);

    server.on("tools/call", Hostile::DuplicateId);
    let answer = client.call("echo", arguments()).await?;
    assert!(answer.messages.len() == 2 && answer.messages.iter().all(|message| message["id"] == answer.id));

    for behaviour in [Hostile::InvalidJson, Hostile::DeepJson(5_000)] {
        server.on("tools/call", behaviour);
        assert!(client.call("echo", arguments()).await.is_err());
    }

    server.on("tools/call", Hostile::NotJsonRpc);
    assert!(client.call("echo", arguments()).await?.response().is_null());

    server.on("tools/call", Hostile::WrongContentType);
    let answer = client.call("echo", arguments()).await?;
    assert!(answer.messages.is_empty() && answer.reply.text().contains("resultType"));

    server.on("tools/call", Hostile::DuplicateMembers);
    let (_, message) = client.message("tools/call", json!({"name": "echo", "arguments": arguments()}));
    let reply = client.send_raw(&message, message.to_string()).await?;
    assert_eq!(reply.text().matches("\"result\"").count(), 2);
    Ok(())
}

#[tokio::test]
async fn big_and_many_are_as_big_and_many_as_asked() -> Outcome {
    let server = HostileServer::start().await?;
    let mut client = connected(&server, Era::Modern).await?.with_patience(Duration::from_secs(20));
    server.on("tools/call", Hostile::HugeText(3_000_000));
    assert_eq!(client.call("echo", json!({"text": "x"})).await?.text().len(), 3_000_000);
    server.on("tools/call", Hostile::HugeEvent(2_000_000));
    let answer = client.call("echo", json!({"text": "x"})).await?;
    assert!(answer.text().len() == 2_000_000 && answer.reply.header("content-type") == "text/event-stream");
    server.on("tools/call", Hostile::SseFlood(500));
    let answer = client.call("echo", json!({"text": "x"})).await?;
    assert_eq!((answer.messages.len(), answer.text().as_str()), (501, "x"));
    Ok(())
}

#[tokio::test]
async fn chosen_answers_are_given_as_they_are() -> Outcome {
    let server = HostileServer::start().await?;
    let mut client = connected(&server, Era::Modern).await?;
    server.on("tools/call", Hostile::Redirect("http://169.254.169.254/".to_owned()));
    let answer = client.call("echo", json!({"text": "x"})).await?;
    assert_eq!((answer.status().as_u16(), answer.reply.header("location")), (307, "http://169.254.169.254/"));
    server.on("tools/call", Hostile::Status(503, "busy".to_owned()));
    assert_eq!(client.call("echo", json!({"text": "x"})).await?.status().as_u16(), 503);
    server.on("tools/call", Hostile::AnswerError(400, -32020, "header mismatch".to_owned()));
    let answer = client.call("echo", json!({"text": "x"})).await?;
    assert_eq!((answer.status().as_u16(), answer.error_code()), (400, Some(-32020)));
    server
        .on("tools/call", Hostile::Events(vec![r#"{"jsonrpc":"2.0","id":$ID,"result":{"a":1}}"#.to_owned()]));
    assert_eq!(client.call("echo", json!({"text": "x"})).await?.result(), &json!({"a": 1}));
    let raw = b"HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\nhi".to_vec();
    server.on("GET", Hostile::Raw(raw));
    let reply = Client::default().get(&server.url(), &[]).await?;
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (299, "hi"));
    Ok(())
}

#[tokio::test]
async fn an_open_stream_is_read_as_it_comes() -> Outcome {
    let server = HostileServer::start().await?;
    let mut client = connected(&server, Era::Modern).await?;
    server.on("tools/call", Hostile::HangInStream);
    let mut body = client.open("tools/call", json!({"name": "echo", "arguments": {"text": "x"}})).await?;
    let first = body.next(Duration::from_secs(5)).await?.unwrap();
    assert!(first.starts_with(b"data: "));
    assert!(body.next(Duration::from_millis(100)).await.is_err());
    drop(body);
    server.wait_until(Duration::from_secs(30), |server| server.hung_up() == 1).await?;
    Ok(())
}
