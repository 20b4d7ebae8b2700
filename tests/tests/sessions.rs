//! Sessions of revision 2025-11-25 are ours and their caller's; versions and mirrored headers are held to the rules.

use bytes::Bytes;
use http::Method;
use portcullis_testkit::{Client, Era, Gateway, Hostile, HostileServer, McpClient, Outcome, Reply};
use portcullis_tests::pair::{Pair, entries, new_key, refusals, verdict};
use serde_json::{Value, json};

/// Sends without a body, with the headers of a session.
async fn bare(method: Method, client: &McpClient, version: Option<&str>) -> Outcome<Reply> {
    let bearer = format!("Bearer {}", client.bearer.clone().unwrap_or_default());
    let mut headers = vec![("authorization", bearer.as_str()), ("accept", "text/event-stream")];
    headers.extend(client.session.as_deref().map(|session| ("mcp-session-id", session)));
    headers.extend(version.map(|version| ("mcp-protocol-version", version)));
    Client::default().send(method, &client.url, &headers, Bytes::new()).await
}

fn code(reply: &Reply) -> String {
    let value: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
    value.pointer("/error/data/code").and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn our_session_id_is_not_the_servers_and_neither_side_sees_the_others() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let mut client = pair.client(Era::Legacy).await?;
    let ours = client.session.clone().ok_or("no session")?;
    assert!(ours.starts_with("pcs_") && ours.len() == 36, "{ours}");
    assert_eq!(client.call("echo", json!({"text": "x"})).await?.text(), "x");
    let received = pair.server.received();
    let call = received.iter().find(|request| request.method == "tools/call").ok_or("no call")?;
    assert_eq!(call.header("mcp-session-id"), Some("scripted-1"));
    for request in &received {
        assert!(!format!("{:?}", request.headers).contains(&ours), "{request:?}");
    }
    let recorded = entries(&pair.gateway, "event=call.*").await?;
    assert!(!json!(recorded).to_string().contains(&ours), "the ledger gives the session id away");
    assert!(recorded.iter().any(|entry| entry["session"].is_string()), "no entry names the session");
    assert_eq!(pair.gateway.files_with(&ours)?, Vec::<std::path::PathBuf>::new());
    Ok(())
}

#[tokio::test]
async fn a_session_exists_for_its_caller_on_its_server_alone() -> Outcome {
    let (one, two) = (HostileServer::start().await?, HostileServer::start().await?);
    let yaml = format!("servers:\n  s:\n    url: {}\n  t:\n    url: {}\n", one.url(), two.url());
    let gateway = Gateway::start(&yaml).await?;
    let mut owner = McpClient::connect(&gateway.url("s"), Some(gateway.key()?), Era::Legacy).await?;
    let other = new_key(&gateway, "other", "operator")?;
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let twin = |change: &dyn Fn(&mut McpClient)| {
        let mut twin = owner.clone();
        change(&mut twin);
        twin
    };
    let (url, session) = (gateway.url("t"), owner.session.clone().ok_or("no session")?);
    let cases = [
        ("another caller", twin(&|c| c.bearer = Some(other.clone())), 404, "session.unknown"),
        ("another server", twin(&|c| c.url = url.clone()), 404, "session.unknown"),
        ("no session", twin(&|c| c.session = None), 400, "session.missing"),
        ("an invented one", twin(&|c| c.session = Some("pcs_00".into())), 404, "session.unknown"),
        ("the server's own", twin(&|c| c.session = Some("scripted-1".into())), 404, "session.unknown"),
        ("in capitals", twin(&|c| c.session = Some(session.to_uppercase())), 404, "session.unknown"),
        ("an empty one", twin(&|c| c.session = Some(String::new())), 404, "session.unknown"),
    ];
    for (what, client, status, expected) in &cases {
        let reply = client.notify(&ping).await?;
        assert_eq!((reply.status.as_u16(), code(&reply).as_str()), (*status, *expected), "{what}");
        for method in [Method::GET, Method::DELETE] {
            let reply = bare(method.clone(), client, None).await?;
            assert_eq!(reply.status.as_u16(), *status, "{what}: {method}: {}", reply.text());
        }
    }
    let two_ids = {
        let mut headers = owner.headers(&ping);
        headers.push(("mcp-session-id".into(), session.clone()));
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        Client::default().post(&owner.url, &headers, ping.to_string()).await?
    };
    assert_eq!((two_ids.status.as_u16(), code(&two_ids).as_str()), (400, "request.header_mismatch"));
    assert_eq!(owner.request("ping", json!({})).await?.status(), 200, "somebody else ended the session");
    let unknown = cases.iter().filter(|(.., expected)| *expected == "session.unknown").count() * 3;
    assert_eq!(refusals(&gateway, "session.unknown", unknown).await?.len(), unknown);
    assert_eq!(one.count("ping"), 1);
    Ok(())
}

#[tokio::test]
async fn a_session_ends_by_delete_on_both_sides() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let mut client = pair.client(Era::Legacy).await?;
    let reply = bare(Method::DELETE, &client, Some("2025-11-25")).await?;
    assert!(reply.status.is_success(), "{}", reply.text());
    assert_eq!(verdict(&client.request("ping", json!({})).await?), (404, "session.unknown".into()));
    let received = pair.server.received();
    let delete = received.iter().find(|request| request.http_method == "DELETE").ok_or("not told")?;
    assert_eq!(delete.header("mcp-session-id"), Some("scripted-1"));
    assert_eq!(bare(Method::DELETE, &client, None).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn when_the_server_ends_its_session_ours_ends_too() -> Outcome {
    let body =
        json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32001, "message": "Session not found"}});
    let body = body.to_string();
    let with_json = format!(
        "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for behaviour in [Hostile::Status(404, "gone".into()), Hostile::Raw(with_json.into_bytes())] {
        let pair = Pair::start(&[]).await?;
        let mut client = pair.client(Era::Legacy).await?;
        pair.server.on("tools/call", behaviour.clone());
        let answer = client.call("echo", json!({"text": "x"})).await?;
        assert_eq!(answer.status(), 404, "{behaviour:?}");
        pair.server.heal();
        let calls = pair.server.count("tools/call");
        let answer = client.call("echo", json!({"text": "x"})).await?;
        assert_eq!(verdict(&answer), (404, "session.unknown".into()), "{behaviour:?}");
        assert_eq!(pair.server.count("tools/call"), calls);
        client.initialize().await?;
        assert_eq!(client.call("echo", json!({"text": "again"})).await?.text(), "again");
    }
    Ok(())
}

#[tokio::test]
async fn an_unsupported_version_is_refused_whatever_the_http_method() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let client = pair.client(Era::Legacy).await?;
    pair.server.forget();
    for version in ["1999-01-01", "2025-11-26", "latest", "2026-07-28 ", "2025-11-25,2025-06-18", ""] {
        let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
        let mut headers = client.headers(&ping);
        headers
            .iter_mut()
            .filter(|(n, _)| n == "mcp-protocol-version")
            .for_each(|(_, v)| *v = version.into());
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let reply = Client::default().post(&client.url, &headers, ping.to_string()).await?;
        // White space around a value is no part of it; then the method is what that revision lacks.
        let expected = if version.trim() == "2026-07-28" { 404 } else { 400 };
        assert_eq!(reply.status, expected, "POST {version}: {}", reply.text());
        if version == "1999-01-01" {
            let value: Value = serde_json::from_slice(&reply.body)?;
            assert_eq!(value["error"]["code"], -32022);
            assert!(value["error"]["data"]["supported"].as_array().is_some_and(|list| !list.is_empty()));
            assert_eq!(value["error"]["data"]["requested"], version);
        }
        for method in [Method::GET, Method::DELETE] {
            let reply = bare(method.clone(), &client, Some(version)).await?;
            let expected = if version.trim() == "2026-07-28" { 405 } else { 400 };
            assert_eq!(reply.status, expected, "{method} {version}: {}", reply.text());
        }
    }
    assert!(pair.server.received().iter().all(|request| !request.method.is_empty()
        && request.method != "ping"
        && request.http_method == "POST"));
    Ok(())
}

#[tokio::test]
async fn a_client_may_initialize_twice_and_has_two_sessions() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let first = pair.client(Era::Legacy).await?;
    let mut again = first.clone();
    again.initialize().await?;
    assert_ne!(first.session, again.session);
    for mut client in [first, again] {
        assert_eq!(client.call("echo", json!({"text": "x"})).await?.text(), "x");
    }
    Ok(())
}

/// How the headers of a correct call are changed: name, and the values it has then.
type Change<'a> = (&'a str, &'a [&'a str]);

/// Requests that lack what revision 2026-07-28 wants in every one, and were answered otherwise than with `expected`.
async fn without_meta(client: &mut McpClient, expected: (u16, i64)) -> Outcome<Vec<String>> {
    let mut wrong = Vec::new();
    let (_, mut message) = client.message("tools/call", json!({"name": "echo", "arguments": {}}));
    for member in ["protocolVersion", "clientCapabilities"] {
        let mut lacking = message.clone();
        let own = lacking["params"]["_meta"].as_object_mut().ok_or("no _meta")?;
        own.remove(&format!("io.modelcontextprotocol/{member}"));
        let reply = client.notify(&lacking).await?;
        let value: Value = serde_json::from_slice(&reply.body)?;
        let got = (reply.status.as_u16(), value["error"]["code"].as_i64().unwrap_or_default());
        if got != expected {
            wrong.push(format!("without {member}: {got:?}"));
        }
    }
    message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2025-11-25");
    assert_eq!(client.notify(&message).await?.status, 400);
    Ok(wrong)
}

#[tokio::test]
async fn mirrored_headers_agree_with_the_body_or_nothing_is_forwarded() -> Outcome {
    let server = HostileServer::start().await?;
    let schema = json!({"type": "object", "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"}, "n": {"type": "integer", "x-mcp-header": "N"}}});
    server.set_tools(vec![json!({"name": "echo", "inputSchema": schema})]);
    let pair = Pair::with(server, "", &[]).await?;
    let mut client = pair.modern()?;
    let (mismatch, meta) = ((400, -32020), (400, -32602));
    let ok = (200, 0);
    let cases: &[(Change<'_>, Value, (u16, i64))] = &[
        (("mcp-method", &["tools/call"]), json!({}), ok),
        (("mcp-method", &["  tools/call  "]), json!({}), ok),
        (("mcp-method", &[]), json!({}), mismatch),
        (("mcp-method", &["TOOLS/CALL"]), json!({}), mismatch),
        (("mcp-method", &["tools/list"]), json!({}), mismatch),
        (("mcp-method", &["tools/call", "tools/call"]), json!({}), mismatch),
        (("mcp-method", &[""]), json!({}), mismatch),
        (("mcp-name", &[]), json!({}), mismatch),
        (("mcp-name", &["Echo"]), json!({}), mismatch),
        (("mcp-name", &["echo", "echo"]), json!({}), mismatch),
        (("mcp-name", &["echo", "delete"]), json!({}), mismatch),
        (("mcp-name", &["=?base64?ZWNobw==?="]), json!({}), ok),
        (("mcp-name", &["=?base64?ZWNobw?="]), json!({}), mismatch),
        (("mcp-name", &["=?BASE64?ZWNobw==?="]), json!({}), mismatch),
        (("mcp-name", &["=?base64?/////w==?="]), json!({}), mismatch),
        (("mcp-name", &["=?base64?ZGVsZXRl?="]), json!({}), mismatch),
        (("mcp-name", &["\u{e9}cho"]), json!({}), mismatch),
        (("mcp-protocol-version", &[]), json!({}), mismatch),
        (("mcp-protocol-version", &["2025-11-25"]), json!({}), mismatch),
        (("mcp-protocol-version", &["2026-07-28", "2026-07-28"]), json!({}), mismatch),
        (("mcp-protocol-version", &["2026-07-28", "2025-11-25"]), json!({}), mismatch),
        (("x-unknown", &["y"]), json!({}), ok),
        (("mcp-param-other", &["anything"]), json!({}), ok),
        (("mcp-param-region", &["eu"]), json!({"region": "eu"}), ok),
        (("mcp-param-region", &["=?base64?ZXU=?="]), json!({"region": "eu"}), ok),
        (("mcp-param-region", &["us"]), json!({"region": "eu"}), mismatch),
        (("mcp-param-region", &["EU"]), json!({"region": "eu"}), mismatch),
        (("mcp-param-region", &[]), json!({"region": "eu"}), mismatch),
        (("mcp-param-region", &["eu"]), json!({}), mismatch),
        (("mcp-param-region", &["eu", "eu"]), json!({"region": "eu"}), mismatch),
        (("mcp-param-region", &["=?base64?!?="]), json!({"region": "eu"}), mismatch),
        (("mcp-param-n", &["42"]), json!({"n": 42}), ok),
        (("mcp-param-n", &["43"]), json!({"n": 42}), mismatch),
        (("mcp-param-n", &["forty-two"]), json!({"n": 42}), mismatch),
    ];
    pair.server.forget();
    let (mut wrong, mut passed) = (Vec::new(), 0);
    for ((name, values), arguments, expected) in cases {
        let (id, message) = client.message("tools/call", json!({"name": "echo", "arguments": arguments}));
        let mut headers = client.headers(&message);
        headers.retain(|(own, _)| own != name);
        headers.extend(values.iter().map(|value| ((*name).to_owned(), (*value).to_owned())));
        let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let reply = Client::default().post(&client.url, &headers, message.to_string()).await?;
        let value: Value = serde_json::from_slice(&reply.body)?;
        let got = (reply.status.as_u16(), value["error"]["code"].as_i64().unwrap_or_default());
        passed += usize::from(*expected == ok);
        if got != *expected || value["id"] != id {
            wrong.push(format!("{name} {values:?} {arguments}: {got:?}, not {expected:?}: {}", reply.text()));
        }
    }
    wrong.extend(without_meta(&mut client, meta).await?);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(pair.server.count("tools/call"), passed, "something refused was forwarded");
    let received = pair.server.received();
    let brought = |name: &str| received.iter().filter(|request| request.header(name).is_some()).count();
    assert_eq!((brought("mcp-param-region"), brought("mcp-param-n")), (2, 1));
    assert_eq!(brought("mcp-param-other"), 0, "words that no definition knows were forwarded unread");
    let refused = cases.iter().filter(|(.., expected)| *expected == mismatch).count() + 1;
    assert_eq!(refusals(&pair.gateway, "request.header_mismatch", refused).await?.len(), refused);
    Ok(())
}

#[tokio::test]
async fn the_stateless_revision_has_no_sessions_and_only_post() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let mut client = pair.client(Era::Modern).await?;
    client.session = Some("pcs_whatever".into());
    let (_, message) = client.message("tools/call", json!({"name": "echo", "arguments": {"text": "x"}}));
    let mut headers = client.headers(&message);
    headers.push(("mcp-session-id".into(), "pcs_whatever".into()));
    let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let reply = Client::default().post(&client.url, &headers, message.to_string()).await?;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("mcp-session-id"), "");
    let received = pair.server.received();
    let call = received.iter().rfind(|request| request.method == "tools/call").ok_or("no call")?;
    assert_eq!(call.header("mcp-session-id"), None);
    for method in [Method::GET, Method::DELETE] {
        let reply = bare(method, &client, Some("2026-07-28")).await?;
        assert!(reply.status == 405 && reply.header("allow").starts_with("POST"), "{}", reply.text());
    }
    Ok(())
}

#[tokio::test]
async fn a_404_of_a_server_that_gave_no_session_ends_none() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let opened = json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
        "serverInfo": {"name": "stateless", "version": "1"}});
    pair.server.on("initialize", Hostile::Answer(opened));
    pair.server.on("GET", Hostile::Status(404, "Cannot GET /mcp".into()));
    let mut client = pair.client(Era::Legacy).await?;
    let headers = client.headers(&json!({"method": "GET"}));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let reply = Client::default().get(&client.url, &headers).await?;
    assert_eq!(reply.status, 405, "{}", reply.text());
    let answer = client.call("echo", json!({"text": "still here"})).await?;
    assert_eq!(answer.status(), 200, "{}", answer.reply.text());
    Ok(())
}
