//! Servers of the transport before Streamable HTTP (HTTP+SSE): only by an explicit switch, one connection per caller,
//! and nothing sent where the server's stream does not come from.

use portcullis_testkit::{Era, Gateway, HostileServer, McpClient, Outcome};
use portcullis_tests::{
    pair::{SOON, code_of, entries, known, new_key, soon},
    sse_server::SseServer,
};
use serde_json::json;

async fn before(server: &SseServer, more: &str) -> Outcome<Gateway> {
    let yaml = format!("servers:\n  s:\n    url: {}\n    transport: legacy_sse\n{more}", server.url());
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    Ok(gateway)
}

#[tokio::test]
async fn each_caller_has_a_connection_of_its_own_and_our_credential_goes_with_every_request() -> Outcome {
    let server = SseServer::start().await?;
    let gateway = before(&server, "    headers:\n      X-Own: ours\n").await?;
    let keys = [gateway.key()?.to_owned(), new_key(&gateway, "other", "operator")?];
    let own = server.opened();
    for (index, key) in keys.iter().enumerate() {
        let mut client = McpClient::connect(&gateway.url("s"), Some(key), Era::Legacy).await?;
        assert_eq!(client.list("tools/list").await?, ["drop", "echo", "note", "twice"]);
        for round in 0..3 {
            let words = format!("caller {index} round {round}");
            let answer = client.call("echo", json!({"text": words})).await?;
            assert_eq!(answer.text(), words, "{}", answer.reply.text());
        }
        let answer = client.call("note", json!({"text": "x"})).await?;
        assert!(answer.reply.text().contains("[masked:payment_card]"), "{}", answer.reply.text());
        assert_eq!(server.opened(), own + index + 1);
    }
    let posted = server.posted();
    let heads = server.heads().into_iter().chain(posted.into_iter().map(|(head, _)| head));
    for head in heads {
        assert!(head.to_ascii_lowercase().contains("x-own: ours"), "{head}");
        assert!(!head.contains("pcl_"), "the caller's credential reached the server: {head}");
    }
    assert!(!entries(&gateway, "event=call.outcome&tool=echo").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn calls_at_once_over_one_connection_each_get_their_own_answer_and_only_one() -> Outcome {
    let server = SseServer::start().await?;
    let gateway = before(&server, "    isolation: shared\n").await?;
    let other = new_key(&gateway, "other", "operator")?;
    let mut tasks = tokio::task::JoinSet::new();
    for (caller, key) in [gateway.key()?.to_owned(), other].into_iter().enumerate() {
        let client = McpClient::connect(&gateway.url("s"), Some(&key), Era::Legacy).await?;
        for number in 0..100 {
            // Clones count alike, so that ids are the same many times over.
            let mut client = client.clone();
            tasks.spawn(async move {
                let words = format!("{caller}-{number}");
                let tool = if number % 2 == 0 { "echo" } else { "twice" };
                let answer = client.call(tool, json!({"text": words})).await.map_err(|e| e.to_string())?;
                if answer.text() == words && answer.messages.len() == 1 {
                    Ok(())
                } else {
                    Err(answer.reply.text())
                }
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    assert_eq!(server.opened(), 1);
    Ok(())
}

#[tokio::test]
async fn a_stream_that_ends_fails_its_calls_at_once_and_the_next_call_opens_another() -> Outcome {
    let server = SseServer::start().await?;
    let gateway = before(&server, "").await?;
    let mut client = McpClient::connect(&gateway.url("s"), Some(gateway.key()?), Era::Legacy).await?;
    let opened = server.opened();
    let begun = std::time::Instant::now();
    let answer = client.call("drop", json!({})).await?;
    assert_eq!(code_of(&answer), "upstream.unavailable", "{}", answer.reply.text());
    assert!(begun.elapsed() < SOON);
    let answer = client.call("echo", json!({"text": "again"})).await?;
    assert_eq!(answer.text(), "again", "{}", answer.reply.text());
    assert_eq!(server.opened(), opened + 1);
    Ok(())
}

#[tokio::test]
async fn an_endpoint_on_another_origin_gets_neither_a_message_nor_a_credential() -> Outcome {
    let (server, other) = (SseServer::start().await?, HostileServer::start().await?);
    server.name_endpoint(&other.url());
    let gateway = before(&server, "    headers:\n      X-Own: ours\n").await?;
    soon("the reason is told", || gateway.output().contains("an `endpoint` on another origin")).await?;
    let mut client = McpClient::new(&gateway.url("s"), Some(gateway.key()?), Era::Legacy);
    let answer = client.initialize().await?;
    assert_eq!(code_of(&answer), "upstream.unavailable", "{}", answer.reply.text());
    assert_eq!(other.accepted_connections(), 0);
    assert!(server.posted().is_empty());
    Ok(())
}

#[tokio::test]
async fn the_older_transport_is_not_tried_unless_the_switch_says_so() -> Outcome {
    let server = SseServer::start().await?;
    let yaml = format!("servers:\n  s:\n    url: {}\n", server.url());
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let mut client = McpClient::new(&gateway.url("s"), Some(gateway.key()?), Era::Legacy);
    let answer = client.initialize().await?;
    assert!(answer.result().is_null(), "{}", answer.reply.text());
    assert_eq!(server.opened(), 0);
    let yaml = "servers:\n  s:\n    command: [x]\n    transport: legacy_sse\n";
    let (status, text) = Gateway::builder().config(yaml).refused().await?;
    assert!(!status.success() && text.contains("has no meaning beside `command`"), "{text}");
    Ok(())
}
