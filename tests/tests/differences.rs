//! What the gateway changes on purpose is a table; each row of it is shown here to change that and nothing beside it.

use std::collections::BTreeSet;
use std::path::Path;

use portcullis_testkit::{Client, Era, Gateway, Hostile, HostileServer, McpClient, Outcome, Reply};
use portcullis_tests::{
    differ::{INTENDED, Recording, events, on_one_line},
    odd,
    pair::{Pair, SOON, known},
};
use serde_json::{Value, json};

const CHILD: &str = env!("CARGO_BIN_EXE_recording-child");
const CALL: &str =
    r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"text":"x"}}}"#;

fn raw(status: u16, headers: &str, body: &str) -> Hostile {
    let length = body.len();
    Hostile::Raw(
        format!("HTTP/1.1 {status} Scripted\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into(),
    )
}

/// A legacy client at a server that answers calls so, and its answer direct and through the gateway.
async fn answered(behaviour: Hostile) -> Outcome<(Reply, Reply)> {
    let pair = Pair::start(&[]).await?;
    let (direct, through) =
        (McpClient::new(&pair.server.url(), None, Era::Legacy), pair.client(Era::Legacy).await?);
    pair.server.on("tools/call", behaviour);
    let shape = json!({"method": "tools/call"});
    Ok((direct.send_raw(&shape, CALL).await?, through.send_raw(&shape, CALL).await?))
}

async fn offered_extensions() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let client = McpClient::new(&pair.gateway.url("s"), Some(pair.gateway.key()?), Era::Legacy);
    let body = r#"{"jsonrpc":"2.0","id":7, "method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"extensions":{"io.modelcontextprotocol/ui":{"x":1.0} , "com.acme/x":{}},"y":1e0},"clientInfo":{"name":"c","version":"1"}}}"#;
    let answer = r#"{"jsonrpc":"2.0","id":7,"result":{"protocolVersion":"2025-11-25", "capabilities":{"extensions":{"com.acme/x":{}, "io.modelcontextprotocol/ui":{"x":1.0}},"tools":{}},"serverInfo":{"name":"s","version":"1"}}}"#;
    pair.server.on("initialize", raw(200, "Content-Type: application/json\r\n", answer));
    pair.server.forget();
    let reply = client.send_raw(&json!({"method": "initialize"}), body).await?;
    assert_eq!(reply.text(), answer.replace(r#""com.acme/x":{}, "#, ""));
    let heard = pair.server.received();
    let heard = heard.iter().find(|request| request.method == "initialize").ok_or("nothing heard")?;
    assert_eq!(String::from_utf8_lossy(&heard.body), body.replace(r#" , "com.acme/x":{}"#, ""));
    Ok(())
}

async fn task_ids() -> Outcome {
    let body =
        r#"{"jsonrpc":"2.0", "id":7,"result":{"x":1.0,"task":{"taskId" : "job-1","ttl":6e4}, "z":[] }}"#;
    let (direct, through) = answered(raw(200, "Content-Type: application/json\r\n", body)).await?;
    let sealed: Value = serde_json::from_slice(&through.body)?;
    let sealed = sealed["result"]["task"]["taskId"].as_str().ok_or_else(|| through.text())?;
    assert!(sealed.starts_with("pct_"), "{sealed}");
    assert_eq!(through.text().replace(sealed, "job-1"), direct.text());
    Ok(())
}

async fn child(folder: &Path, more: &str) -> Outcome<(Gateway, Recording, McpClient)> {
    let child = Recording::new(CHILD, folder, "child");
    let gateway =
        Gateway::start(&format!("servers:\n  s:\n    command: {}\n{more}", child.command())).await?;
    known(&gateway, SOON).await?;
    let client = McpClient::new(&gateway.url("s"), Some(gateway.key()?), Era::Legacy);
    Ok((gateway, child, client))
}

async fn request_headers() -> Outcome {
    let pair = Pair::with(HostileServer::start().await?, "    headers:\n      X-Own: ours\n", &[]).await?;
    let client = pair.client(Era::Legacy).await?;
    let mut headers = client.headers(&json!({"method": "tools/call"}));
    for (name, value) in
        [("cookie", "a=b"), ("x-forwarded-for", "192.0.2.1"), ("x-own", "theirs"), ("user-agent", "u")]
    {
        headers.push((name.to_owned(), value.to_owned()));
    }
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    pair.server.forget();
    let reply = Client::default().post(&pair.gateway.url("s"), &headers, CALL).await?;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let received = pair.server.received();
    let last = received.last().ok_or("nothing came")?;
    assert_eq!(last.body, CALL.as_bytes());
    let names: BTreeSet<&str> = last.headers.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "accept",
        "content-length",
        "content-type",
        "host",
        "mcp-protocol-version",
        "mcp-session-id",
        "x-own",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    assert_eq!(last.header("x-own"), Some("ours"));
    Ok(())
}

async fn session_ids() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let mut client = pair.client(Era::Legacy).await?;
    let own = client.session.clone().ok_or("no session")?;
    assert_ne!(own, "scripted-1");
    client.call("echo", json!({"text": "x"})).await?;
    let received = pair.server.received();
    assert_eq!(received.last().and_then(|last| last.header("mcp-session-id")), Some("scripted-1"));
    assert!(!received.iter().any(|one| String::from_utf8_lossy(&one.body).contains(&own)));
    Ok(())
}

async fn ids_and_breaks_over_stdio() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (_gateway, child, mut client) = child(folder.path(), "").await?;
    client.initialize().await?;
    child
        .answers(&["{\"id\":$ID,\"result\":{\"content\":[],\"t\":$TOKEN},\"jsonrpc\":\"2.0\"}".to_owned()])?;
    let body = "{\n\"id\":\"a\\u0062\",\r\n\"method\":\"tools/call\",\"params\":{\"name\":\"echo\",\"_meta\":{\"progressToken\":\"t\"}},\"jsonrpc\":\"2.0\"}";
    let reply = client.send_raw(&json!({"method": "tools/call"}), body).await?;
    let line = child.last()?;
    let id = serde_json::from_str::<Value>(&line)?.get("id").and_then(Value::as_u64).ok_or("no number")?;
    let numbered = body.replace("\"a\\u0062\"", &id.to_string()).replace("\"t\"", &id.to_string());
    assert_eq!(line, on_one_line(&numbered));
    assert!(line.contains("{ \"id\""), "{line}");
    // Only what names the request is given back; a server that copies its token elsewhere is not edited.
    let expected =
        format!("{{\"id\":\"a\\u0062\",\"result\":{{\"content\":[],\"t\":{id}}},\"jsonrpc\":\"2.0\"}}");
    assert_eq!(reply.text(), expected);
    Ok(())
}

async fn opening_over_stdio() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (_gateway, child, mut client) = child(folder.path(), "    isolation: shared\n").await?;
    let answer = client.initialize().await?;
    client.initialize().await?;
    let seen = child.seen()?;
    let openings: Vec<_> = seen.lines().filter(|line| line.contains("\"initialize\"")).collect();
    assert_eq!(openings.len(), 1, "{seen}");
    assert!(!seen.contains("testkit"), "the child was told of a client: {seen}");
    assert!(answer.reply.text().contains(&odd::in_definitions()), "{}", answer.reply.text());
    Ok(())
}

async fn lists() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (_gateway, _child, mut client) = child(folder.path(), "").await?;
    client.initialize().await?;
    for (method, item) in [
        ("tools/list", r#","name" :"\u0065cho","inputSchema":{"type":"object"}}"#),
        ("prompts/list", r#","name":"review","arguments":[{"name":"subject"}]}"#),
        ("resources/list", r#","name":"one","uri":"demo:\/\/one"}"#),
    ] {
        let answer = client.request(method, json!({})).await?;
        let item = format!("{{{}{item}", odd::in_definitions());
        assert!(answer.reply.text().contains(&item), "{method}: {}", answer.reply.text());
    }
    let pages = HostileServer::start().await?;
    pages.set_page_size(1);
    let pair = Pair::with(pages, "", &[]).await?;
    let mut direct = McpClient::new(&pair.server.url(), None, Era::Legacy);
    let first = direct.request("tools/list", json!({})).await?;
    assert!(first.result().get("nextCursor").is_some() && first.names().len() == 1);
    let whole = pair.client(Era::Legacy).await?.request("tools/list", json!({})).await?;
    assert!(whole.result().get("nextCursor").is_none());
    assert_eq!(whole.names(), direct.list("tools/list").await?);
    Ok(())
}

async fn masked_values() -> Outcome {
    let key = ["AKIA", "R5KY8SN3", "UCX6AP4E"].concat();
    let odd = odd::MEMBERS;
    let body = format!(
        "{{\"id\":7,\"result\":{{{odd},\"content\":[{{{odd},\"text\":\"the key is {key}.\",\"type\":\"text\"}}],\n\"b2\":{{{odd}}}}},\"jsonrpc\":\"2.0\"}}\n"
    );
    let (direct, through) = answered(raw(200, "Content-Type: application/json\r\n", &body)).await?;
    let (direct, through) = (direct.text(), through.text());
    assert_eq!(direct, body);
    let (before, after) = direct.split_once(&key).ok_or("no key")?;
    assert!(through.starts_with(before) && through.ends_with(after), "{through}");
    assert!(through.len() > before.len() + after.len() && !through.contains(&key), "{through}");
    Ok(())
}

async fn cache_scope() -> Outcome {
    let odd = odd::MEMBERS;
    let body = format!(
        "{{\"id\":7,\"result\":{{{odd},\"cacheScope\" : \"public\",\"contents\":[]}},\"jsonrpc\":\"2.0\"}}"
    );
    let (direct, through) = answered(raw(200, "Content-Type: application/json\r\n", &body)).await?;
    assert_eq!(direct.text(), body);
    assert_eq!(through.text(), body.replace("\"public\"", "\"private\""));
    Ok(())
}

async fn kept_reads() -> Outcome {
    let server = HostileServer::start().await?;
    server.set_resources(vec![json!({"uri": "x://a", "name": "a"})]);
    let pair = Pair::with(server, "", &[]).await?;
    let mut client = pair.modern()?;
    let (_, message) = client.message("resources/read", json!({"uri": "x://a"}));
    let body = format!(
        "{{\"id\":{},\"result\":{{\"resultType\":\"complete\",\"x\":1e0, \"ttlMs\" : 60000,\"cacheScope\":\"private\",\"contents\":[]}},\"jsonrpc\":\"2.0\"}}",
        message["id"]
    );
    pair.server.on("resources/read", raw(200, "Content-Type: application/json\r\n", &body));
    let asked = client.send_raw(&message, message.to_string()).await?;
    let kept = client.send_raw(&message, message.to_string()).await?;
    assert_eq!(pair.server.count("resources/read"), 1, "the second is the first again");
    assert_eq!(asked.text(), body);
    let left: Value = serde_json::from_slice(&kept.body)?;
    let left = left["result"]["ttlMs"].as_u64().ok_or_else(|| kept.text())?;
    assert!(left <= 60_000, "{left}");
    assert_eq!(kept.text().replace(&format!("\"ttlMs\" : {left}"), "\"ttlMs\" : 60000"), body);
    Ok(())
}

async fn event_framing() -> Outcome {
    let body =
        "\u{feff}:x\r\rid:1\revent:message\rdata:{\"id\":7,\rdata: \"result\":{ } ,\"jsonrpc\":\"2.0\"}\r\r";
    let (direct, through) = answered(raw(200, "Content-Type: text/event-stream\r\n", body)).await?;
    assert_ne!(direct.body, through.body);
    let read = |reply: &Reply| events(reply.text().trim_start_matches('\u{feff}'));
    assert_eq!(read(&direct), read(&through));
    assert_eq!(
        read(&through).last().map(|event| event.data.as_str()),
        Some("{\"id\":7,\n\"result\":{ } ,\"jsonrpc\":\"2.0\"}")
    );
    let beside = format!(": words\n\nevent: other\ndata: words\n\nid: {}\ndata:\n\n", "words".repeat(300));
    let (direct, through) = answered(raw(
        200,
        "Content-Type: text/event-stream\r\n",
        &(beside + body.trim_start_matches('\u{feff}')),
    ))
    .await?;
    assert!(direct.text().contains("words") && !through.text().contains("words"), "{}", through.text());
    assert_eq!(read(&direct).last(), read(&through).last());
    Ok(())
}

async fn response_headers() -> Outcome {
    let head =
        "Content-Type: application/json; charset=utf-8\r\nSet-Cookie: a=b\r\nServer: s\r\nX-Own: o\r\n";
    let body = "{\"id\":7,\"result\":{\"content\":[]},\"jsonrpc\":\"2.0\"}";
    let (direct, through) = answered(raw(200, head, body)).await?;
    assert_eq!(direct.body, through.body);
    assert_eq!(direct.header("set-cookie"), "a=b");
    let names: BTreeSet<&str> = through.headers.keys().map(http::HeaderName::as_str).collect();
    let allowed =
        BTreeSet::from(["content-type", "content-length", "date", "x-content-type-options", "cache-control"]);
    assert!(names.is_subset(&allowed), "{names:?}");
    assert_eq!(through.header("content-type"), "application/json");
    Ok(())
}

async fn refused_credential() -> Outcome {
    for status in [401, 403] {
        let head = "Content-Type: application/json\r\nWWW-Authenticate: Bearer realm=\"theirs\"\r\n";
        let (direct, through) = answered(raw(status, head, "{\"theirs\":1}")).await?;
        assert_eq!(direct.status.as_u16(), status);
        assert!(through.text().contains("\"upstream.unavailable\""), "{}", through.text());
        assert!(!through.text().contains("theirs") && through.header("www-authenticate").is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn what_is_meant_to_differ_differs_in_that_and_in_nothing_else() -> Outcome {
    for (name, _) in INTENDED {
        let shown = match *name {
            "request headers" => request_headers().await,
            "session ids" => session_ids().await,
            "task ids" => task_ids().await,
            "extensions" => offered_extensions().await,
            "request ids over stdio" | "line breaks over stdio" => ids_and_breaks_over_stdio().await,
            "opening over stdio" => opening_over_stdio().await,
            "lists" => lists().await,
            "masked values" => masked_values().await,
            "cache scope" => cache_scope().await,
            "reads" => kept_reads().await,
            "event framing" => event_framing().await,
            "response headers" => response_headers().await,
            "a server's 401 and 403" => refused_credential().await,
            other => Err(format!("nothing shows `{other}`").into()),
        };
        shown.map_err(|fault| format!("{name}: {fault}"))?;
    }
    Ok(())
}

#[test]
fn the_page_on_what_changes_holds_the_table_of_the_tests() -> Outcome {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operate/what-changes.md");
    let page = std::fs::read_to_string(page)?;
    let rows: Vec<&str> =
        page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what")).collect();
    let expected: Vec<String> = INTENDED.iter().map(|(name, why)| format!("| {name} | {why} |")).collect();
    assert_eq!(rows, expected);
    Ok(())
}
