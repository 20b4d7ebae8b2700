//! A client of one era before a server of the other, over HTTP and on standard input: each says what its revision says,
//! and understands the other.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_mcp::{
    bridge::{Passage, passage},
    method::{Form, Side, TABLE},
    revision,
};
use portcullis_testkit::{Answer, Body as Stream, Client, Era, Gateway, McpClient, Outcome};
use portcullis_tests::{
    era::{Server, Shared, Wire},
    pair::{SOON, code_of, entries, known, limits_yaml, new_key, soon, verdict},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

const CHILD: &str = env!("CARGO_BIN_EXE_era-child");

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

fn full(text: String) -> Body {
    http_body_util::Full::new(Bytes::from(text)).boxed()
}

fn error(status: u16, code: i64) -> Response<Body> {
    let body = json!({"jsonrpc": "2.0", "id": null, "error": {"code": code, "message": "refused"}});
    let mut response = Response::new(full(body.to_string()));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}

/// Messages as events, as they come.
fn events(mut messages: mpsc::UnboundedReceiver<Value>, first: Vec<Value>, endless: bool) -> Response<Body> {
    let (to, from) = mpsc::unbounded_channel::<String>();
    tokio::spawn(async move {
        for message in first {
            let _ = to.send(format!("data: {message}\n\n"));
        }
        loop {
            tokio::select! {
                () = to.closed() => return,
                message = messages.recv() => {
                    let Some(message) = message else { return };
                    let last = message.get("method").is_none() && !endless;
                    if to.send(format!("data: {message}\n\n")).is_err() || last {
                        return;
                    }
                }
            }
        }
    });
    let pieces =
        futures_util::stream::unfold(from, |mut from| async move { Some((from.recv().await?, from)) });
    let frames = pieces.map(|text| Ok::<_, Infallible>(Frame::data(Bytes::from(text))));
    let mut response = Response::new(http_body_util::BodyExt::boxed(StreamBody::new(frames)));
    response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
    response
}

/// What the server of an era demands of headers, beyond what it demands of bodies.
fn demands(modern: bool, head: &http::request::Parts, message: &Value) -> Option<Response<Body>> {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let method = message.get("method").and_then(Value::as_str);
    if !modern {
        let fine = method == Some("initialize")
            || (header("mcp-session-id") == Some("era-1")
                && header("mcp-protocol-version") == Some("2025-11-25"));
        let foreign = header("mcp-method").is_some() || header("mcp-name").is_some();
        return (!fine || foreign).then(|| error(400, -32600));
    }
    let named = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
    let name = match method {
        Some("tools/call" | "prompts/get") => named("/params/name"),
        Some("resources/read") => named("/params/uri"),
        _ => None,
    };
    let region = named("/params/arguments/region").filter(|_| named("/params/name") == Some("mirrored"));
    let fine = header("mcp-protocol-version") == Some("2026-07-28")
        && header("mcp-method") == method
        && header("mcp-name") == name
        && header("mcp-param-region") == region
        && header("mcp-session-id").is_none();
    (!fine).then(|| error(400, if header("mcp-protocol-version").is_none() { -32022 } else { -32020 }))
}

async fn serve(server: Shared, modern: bool, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let message: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    if let Some(refused) = demands(modern, &head, &message) {
        return refused;
    }
    let (out, mut messages) = mpsc::unbounded_channel();
    match head.method {
        Method::GET if !modern => {
            server.changes(out, json!({}));
            return events(messages, Vec::new(), true);
        }
        Method::DELETE if !modern => {
            server.take(Wire::Http, json!({"method": "DELETE"}), out).await;
            return Response::new(full(String::new()));
        }
        Method::POST => {}
        _ => return error(405, -32600),
    }
    let is = |name: &str| message.get("method").is_some_and(|method| method == name);
    if message.get("id").is_none() || message.get("method").is_none() {
        server.take(Wire::Http, message, out).await;
        let mut response = Response::new(full(String::new()));
        *response.status_mut() = http::StatusCode::ACCEPTED;
        return response;
    }
    let (listens, opens) = (is("subscriptions/listen"), is("initialize"));
    if listens {
        server.changes(out.clone(), message.clone());
    }
    let working = tokio::spawn({
        let (server, message) = (Arc::clone(&server), message.clone());
        async move { server.take(Wire::Http, message, out).await }
    });
    // The call lives as long as somebody waits for it.
    let guard = Abort(working);
    let Some(first) = messages.recv().await else { return error(500, -32603) };
    let mut response = if first.get("method").is_none() {
        let mut response = Response::new(full(first.to_string()));
        let status = match first.pointer("/error/code").and_then(Value::as_i64) {
            Some(-32601) if modern => 404,
            _ => 200,
        };
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        response.headers_mut().insert("content-type", "application/json".parse().unwrap());
        response
    } else {
        let (relay, relayed) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let guard = guard;
            loop {
                tokio::select! {
                    () = relay.closed() => break,
                    message = messages.recv() => {
                        let Some(message) = message else { break };
                        let _ = relay.send(message);
                    }
                }
            }
            drop(guard);
        });
        events(relayed, vec![first], listens)
    };
    if opens {
        response.headers_mut().insert("mcp-session-id", "era-1".parse().unwrap());
    }
    response
}

/// A task that ends with this value.
struct Abort(tokio::task::JoinHandle<()>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves on a port of loopback for as long as the test runs.
async fn http_server(modern: bool) -> Outcome<(Shared, String)> {
    let server = Arc::new(Server::new(modern));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}/mcp", listener.local_addr()?);
    let shared = Arc::clone(&server);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = Arc::clone(&shared);
            let service = hyper::service::service_fn(move |request| {
                let server = Arc::clone(&server);
                async move { Ok::<_, Infallible>(serve(server, modern, request).await) }
            });
            let connection = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok((server, url))
}

/// A gateway before a server of one era.
struct Bridge {
    gateway: Gateway,
    /// The server, where it runs in this process.
    server: Option<Shared>,
    what: String,
}

const SHARED: &str = "    isolation: shared\n";

const ASKS: &str = "    server_requests: [elicitation]\n";

async fn start(wire: Wire, server: Era, extra: &str) -> Outcome<Bridge> {
    let modern = server == Era::Modern;
    let (known_server, how) = match wire {
        Wire::Http => {
            let (server, url) = http_server(modern).await?;
            (Some(server), format!("    url: {url}\n"))
        }
        Wire::Stdio => {
            let era = if modern { "modern" } else { "legacy" };
            (None, format!("    command: {}\n", json!([CHILD, "--era", era])))
        }
    };
    let gateway = Gateway::start(&format!("servers:\n  s:\n{how}{extra}")).await?;
    known(&gateway, SOON).await?;
    Ok(Bridge { gateway, server: known_server, what: format!("{wire:?}, a server of {server:?}") })
}

impl Bridge {
    async fn client(&self, era: Era) -> Outcome<McpClient> {
        McpClient::connect(&self.gateway.url("s"), Some(self.gateway.key()?), era).await
    }
}

/// Both wires, with the era of the server that is not the client's.
const WAYS: [(Wire, Era, Era); 4] = [
    (Wire::Http, Era::Modern, Era::Legacy),
    (Wire::Http, Era::Legacy, Era::Modern),
    (Wire::Stdio, Era::Modern, Era::Legacy),
    (Wire::Stdio, Era::Legacy, Era::Modern),
];

fn result<'a>(what: &str, answer: &'a Answer) -> Outcome<&'a Value> {
    if answer.result().is_null() {
        return Err(format!("{what}: {:?} {}", verdict(answer), answer.reply.text()).into());
    }
    Ok(answer.result())
}

#[tokio::test]
async fn every_request_of_one_era_is_understood_by_a_server_of_the_other() -> Outcome {
    for (wire, client_era, server_era) in WAYS {
        let bridge = start(wire, server_era, "").await?;
        let what = &bridge.what;
        let mut client = bridge.client(client_era).await?;
        let modern = client_era == Era::Modern;
        let mut names = client.list("tools/list").await?;
        names.sort();
        assert_eq!(names.len(), 15, "{what}: {names:?}");
        let answer = client.call("echo", json!({"n": 1, "text": "ü"})).await?;
        assert_eq!(answer.text(), r#"{"n":1,"text":"ü"} false"#, "{what}");
        assert_eq!(answer.result().get("resultType").is_some(), modern, "{what}");
        if !modern {
            // The header that the server demands is the gateway's work: its client knows of none.
            let answer = client.call("mirrored", json!({"region": "eu"})).await?;
            result(what, &answer)?;
        }
        let read = client.request("resources/read", json!({"uri": "x://a"})).await?;
        let read = result(what, &read)?;
        assert_eq!(read["contents"][0]["text"], "content", "{what}");
        assert_eq!(
            (read.get("ttlMs").is_some(), read.get("cacheScope").is_some()),
            (modern, modern),
            "{what}"
        );
        let gone = client.request("resources/read", json!({"uri": "x://gone"})).await?;
        assert_eq!(gone.error_code(), Some(if modern { -32602 } else { -32002 }), "{what}");
        let prompt = client.request("prompts/get", json!({"name": "hello"})).await?;
        assert_eq!(result(what, &prompt)?["messages"][0]["content"]["text"], "hello", "{what}");
        let reference =
            json!({"ref": {"type": "ref/prompt", "name": "hello"}, "argument": {"name": "a", "value": "o"}});
        let completed = client.request("completion/complete", reference).await?;
        assert_eq!(result(what, &completed)?["completion"]["values"], json!(["one"]), "{what}");
        let missing = client.request("prompts/get", json!({"name": "none"})).await?;
        assert_eq!(missing.error_code(), Some(-32602), "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_is_introduced_in_the_words_of_its_clients_era() -> Outcome {
    for (wire, client_era, server_era) in WAYS {
        let bridge = start(wire, server_era, "").await?;
        let what = &bridge.what;
        let key = bridge.gateway.key()?;
        let mut client = McpClient::new(&bridge.gateway.url("s"), Some(key), client_era);
        let said = match client_era {
            Era::Legacy => {
                let answer = client.initialize().await?;
                let said = result(what, &answer)?.clone();
                assert_eq!(said["protocolVersion"], "2025-11-25", "{what}");
                assert_eq!(said["serverInfo"]["name"], "era", "{what}");
                assert!(client.session.as_ref().is_some_and(|id| id.starts_with("pcs_")), "{what}");
                let ping = client.request("ping", json!({})).await?;
                assert_eq!(result(what, &ping)?, &json!({}), "{what}");
                let level = client.request("logging/setLevel", json!({"level": "info"})).await?;
                assert_eq!(result(what, &level)?, &json!({}), "{what}");
                said
            }
            Era::Modern => {
                let answer = client.request("server/discover", json!({})).await?;
                let said = result(what, &answer)?.clone();
                assert_eq!(said["supportedVersions"], json!(["2026-07-28", "2025-11-25"]), "{what}");
                let (_, mut message) = client.message("server/discover", json!({}));
                let mut headers = client.headers(&message);
                message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2099-01-01");
                headers.retain(|(name, _)| !name.eq_ignore_ascii_case("mcp-protocol-version"));
                headers.push(("mcp-protocol-version".into(), "2099-01-01".into()));
                let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
                let body = Bytes::from(message.to_string());
                let refused = Client::default().send(Method::POST, &client.url, &headers, body).await?;
                let refused: Value = serde_json::from_slice(&refused.body)?;
                assert_eq!(refused["error"]["code"], -32022, "{what}: {refused}");
                assert_eq!(refused["error"]["data"]["supported"], said["supportedVersions"], "{what}");
                assert_eq!(said["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "era", "{what}");
                assert_eq!((&said["ttlMs"], &said["cacheScope"]), (&json!(0), &json!("private")), "{what}");
                said
            }
        };
        assert_eq!(said["instructions"], "be kind", "{what}");
        assert_eq!(said["capabilities"]["tools"], json!({"listChanged": true}), "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn what_has_no_counterpart_is_refused_with_its_own_code() -> Outcome {
    for (wire, client_era, server_era) in WAYS {
        let bridge = start(wire, server_era, "").await?;
        let what = &bridge.what;
        let mut client = bridge.client(client_era).await?;
        if client_era == Era::Modern {
            let answer = client.call("fail", json!({})).await?;
            assert_eq!(
                answer.error_code(),
                Some(-32603),
                "{what}: a code that is gone from the newer revision"
            );
            continue;
        }
        let answer = client.call("task", json!({})).await?;
        assert_eq!(code_of(&answer), "bridge.untranslatable", "{what}: {}", answer.reply.text());
        let note = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}});
        let reply = client.notify(&note).await?;
        assert!(reply.text().contains("bridge.untranslatable"), "{what}: {}", reply.text());
        let unasked = json!({"jsonrpc": "2.0", "id": "portcullis-9", "result": {}});
        assert_eq!(client.notify(&unasked).await?.status, 400, "{what}: nobody asked");
    }
    Ok(())
}

#[tokio::test]
async fn progress_and_logs_of_a_call_reach_a_client_of_the_other_era_in_its_words() -> Outcome {
    for (wire, client_era, server_era) in WAYS {
        let bridge = start(wire, server_era, "").await?;
        let what = &bridge.what;
        let mut client = bridge.client(client_era).await?;
        for (wants_logs, expected_logs) in [(false, 0), (true, 1)] {
            let mut meta = json!({"progressToken": "mine"});
            if wants_logs && client_era == Era::Modern {
                meta["io.modelcontextprotocol/logLevel"] = json!("info");
            } else if wants_logs {
                client.request("logging/setLevel", json!({"level": "info"})).await?;
            }
            let answer = client.request("tools/call", json!({"name": "count", "_meta": meta})).await?;
            assert_eq!(answer.text(), "counted", "{what}: {}", answer.reply.text());
            let of = |method: &str| {
                let told = answer.messages.iter().filter(|message| message["method"] == method);
                told.cloned().collect::<Vec<_>>()
            };
            let progress = of("notifications/progress");
            assert_eq!(progress.len(), 2, "{what}");
            assert!(
                progress.iter().all(|told| told["params"]["progressToken"] == "mine"),
                "{what}: {progress:?}"
            );
            assert_eq!(of("notifications/message").len(), expected_logs, "{what}: logs wanted: {wants_logs}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_modern_client_answers_a_legacy_servers_question_by_calling_again() -> Outcome {
    for wire in [Wire::Http, Wire::Stdio] {
        let bridge = start(wire, Era::Legacy, ASKS).await?;
        let what = &bridge.what;
        let mut client = bridge.client(Era::Modern).await?;
        let capable = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
        let params = json!({"name": "ask", "arguments": {}, "_meta": capable});
        let answer = client.request("tools/call", params.clone()).await?;
        let asked = result(what, &answer)?.clone();
        assert_eq!(asked["resultType"], "input_required", "{what}");
        assert_eq!(asked["inputRequests"]["1"]["method"], "elicitation/create", "{what}");
        assert_eq!(asked["inputRequests"]["1"]["params"]["message"], "who are you?", "{what}");
        let state = asked["requestState"].as_str().ok_or("no state")?.to_owned();
        let retry = |state: &str, change: &dyn Fn(&mut Value)| {
            let mut params = params.clone();
            params["requestState"] = json!(state);
            params["inputResponses"] = json!({"1": {"action": "accept", "content": {"name": "ada"}}});
            change(&mut params);
            params
        };
        let same = |_: &mut Value| {};
        // Whoever else has the state has nothing, and neither takes anything away.
        let other_key = new_key(&bridge.gateway, "other", "operator")?;
        let mut other = McpClient::connect(&bridge.gateway.url("s"), Some(&other_key), Era::Modern).await?;
        let stolen = other.request("tools/call", retry(&state, &same)).await?;
        assert_eq!(code_of(&stolen), "bridge.state", "{what}: {}", stolen.reply.text());
        let changed = |params: &mut Value| params["arguments"] = json!({"other": true});
        let changed = client.request("tools/call", retry(&state, &changed)).await?;
        assert_eq!(code_of(&changed), "bridge.state", "{what}");
        let damaged = client.request("tools/call", retry(&format!("{state}A"), &same)).await?;
        assert_eq!(code_of(&damaged), "bridge.state", "{what}");
        let mute = |params: &mut Value| params["inputResponses"] = json!({});
        let mute = client.request("tools/call", retry(&state, &mute)).await?;
        assert_eq!(code_of(&mute), "request.meta", "{what}");

        let answer = client.request("tools/call", retry(&state, &same)).await?;
        assert!(answer.text().contains(r#""name":"ada""#), "{what}: {}", answer.reply.text());
        let again = client.request("tools/call", retry(&state, &same)).await?;
        assert_eq!(code_of(&again), "bridge.elsewhere", "{what}: an answer counts once");
        let outcomes = entries(&bridge.gateway, "event=call.outcome").await?;
        assert!(outcomes.len() >= 3, "{what}: each round is a call of its own");
    }
    Ok(())
}

#[tokio::test]
async fn a_question_that_policy_does_not_allow_never_reaches_the_client() -> Outcome {
    for wire in [Wire::Http, Wire::Stdio] {
        let bridge = start(wire, Era::Legacy, ASKS).await?;
        let what = &bridge.what;
        let mut client = bridge.client(Era::Modern).await?;
        let capable =
            json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}}});
        let params = json!({"name": "sample", "arguments": {}, "_meta": capable});
        let answer = client.request("tools/call", params).await?;
        assert_eq!(code_of(&answer), "server_request.denied", "{what}: {}", answer.reply.text());
        let denied = entries(&bridge.gateway, "event=server.request").await?;
        let codes: Vec<_> = denied.iter().map(|entry| (&entry["method"], &entry["code"])).collect();
        assert_eq!(codes, [(&json!("sampling/createMessage"), &json!("server_request.denied"))], "{what}");
        if let Some(server) = &bridge.server {
            let opened = server.of("initialize");
            let offered =
                opened.iter().filter(|opened| opened.pointer("/params/capabilities/sampling").is_some());
            assert_eq!(offered.count(), 0, "{what}: the server was told that it may ask");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_modern_client_that_leaves_cancels_the_call_on_a_legacy_server() -> Outcome {
    let bridge = start(Wire::Http, Era::Legacy, "").await?;
    let server = bridge.server.clone().ok_or("no server")?;
    let client = bridge.client(Era::Modern).await?;
    let mut leaving = client.clone().with_patience(Duration::from_secs(3));
    assert!(leaving.call("slow", json!({})).await.is_err(), "it was answered");
    soon("the server is told", || !server.of("notifications/cancelled").is_empty()).await?;
    let told = server.of("notifications/cancelled");
    let call = server.of("tools/call");
    assert_eq!(told[0]["params"]["requestId"], call[0]["id"]);
    Ok(())
}

#[tokio::test]
async fn a_modern_client_that_says_so_cancels_its_own_call_on_a_legacy_server() -> Outcome {
    for (wire, extra) in [(Wire::Http, ""), (Wire::Stdio, SHARED)] {
        let bridge = start(wire, Era::Legacy, extra).await?;
        let what = &bridge.what;
        let mut client = bridge.client(Era::Modern).await?;
        let (id, call) = client.message("tools/call", json!({"name": "slow", "arguments": {}}));
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.notify(&call).await.map(|reply| reply.text()) }
        });
        let cancel = |id: &Value| json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
        let other = new_key(&bridge.gateway, "other", "operator")?;
        let other = McpClient::connect(&bridge.gateway.url("s"), Some(&other), Era::Modern).await?;
        assert_eq!(other.notify(&cancel(&id)).await?.status, 202, "{what}: another caller has no such call");
        assert_eq!(client.notify(&cancel(&json!(99))).await?.status, 202, "{what}: no such call");
        // The call may not have begun yet when it is cancelled, so it is cancelled until it is.
        let mut waiting = waiting;
        let answer = loop {
            assert_eq!(client.notify(&cancel(&id)).await?.status, 202, "{what}");
            tokio::select! {
                answer = &mut waiting => break answer??,
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        };
        assert!(answer.contains("request.cancelled"), "{what}: {answer}");
        let due = std::time::Instant::now() + SOON;
        loop {
            let told = client.call("told", json!({})).await?.text();
            if told.contains("requestId") {
                break;
            }
            assert!(std::time::Instant::now() < due, "{what}: the server was not told: {told}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_cancellation_that_could_mean_two_calls_of_one_caller_ends_neither() -> Outcome {
    let bridge = start(Wire::Http, Era::Legacy, "").await?;
    let server = bridge.server.clone().ok_or("no server")?;
    let mut client = bridge.client(Era::Modern).await?;
    let (id, call) = client.message("tools/call", json!({"name": "slow", "arguments": {}}));
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let (client, call) = (client.clone(), call.clone());
            tokio::spawn(async move { client.notify(&call).await.map(|reply| reply.text()) })
        })
        .collect();
    soon("both calls arrive", || server.of("tools/call").len() == 2).await?;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
    let refused = client.notify(&cancel).await?.text();
    assert!(refused.contains("bridge.untranslatable"), "{refused}");
    assert!(calls.iter().all(|call| !call.is_finished()) && server.of("notifications/cancelled").is_empty());
    for call in calls {
        call.abort();
    }
    Ok(())
}

#[tokio::test]
async fn pages_that_a_legacy_server_wants_visited_are_asked_for_and_the_call_is_made_again() -> Outcome {
    for (wire, extra) in [(Wire::Http, ""), (Wire::Stdio, SHARED)] {
        let bridge = start(wire, Era::Legacy, &format!("{ASKS}{extra}")).await?;
        let what = &bridge.what;
        let mut client = bridge.client(Era::Modern).await?;
        let meta = |elicitation: Value| json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": elicitation}});
        let mut params = json!({"name": "visit", "arguments": {}, "_meta": meta(json!({"url": {}}))});
        let asked = client.request("tools/call", params.clone()).await?;
        let asked = result(what, &asked)?.clone();
        assert_eq!(asked["resultType"], "input_required", "{what}");
        assert_eq!(
            asked["inputRequests"]["1"],
            json!({"method": "elicitation/create", "params": {"mode": "url", "message": "sign in",
                "url": "https://pages.example/consent"}}),
            "{what}"
        );
        params["requestState"] = asked["requestState"].clone();
        params["inputResponses"] = json!({"1": {"action": "accept"}});
        let mut changed = params.clone();
        changed["arguments"] = json!({"other": true});
        let changed = client.request("tools/call", changed).await?;
        assert_eq!(code_of(&changed), "bridge.state", "{what}: a state is of one request");
        let answer = client.request("tools/call", params).await?;
        assert_eq!(answer.text(), "visited", "{what}: {}", answer.reply.text());
    }
    Ok(())
}

#[tokio::test]
async fn a_legacy_server_that_asks_for_what_a_modern_client_did_not_declare_is_declined() -> Outcome {
    for wire in [Wire::Http, Wire::Stdio] {
        let bridge = start(wire, Era::Legacy, ASKS).await?;
        let what = &bridge.what;
        let mut client = bridge.client(Era::Modern).await?;
        for (tool, lacking) in
            [("ask", json!({"elicitation": {}})), ("visit", json!({"elicitation": {"url": {}}}))]
        {
            let answer = client.call(tool, json!({})).await?;
            assert_eq!(answer.status(), 400, "{what}: {}", answer.reply.text());
            assert_eq!(answer.error_code(), Some(-32021), "{what}");
            assert_eq!(answer.response()["error"]["data"]["requiredCapabilities"], lacking, "{what}");
        }
        let recorded = entries(&bridge.gateway, "event=call.refused&code=bridge.capability").await?;
        assert_eq!(recorded.len(), 2, "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn a_question_beside_a_call_is_of_the_one_call_that_runs_and_declined_where_several_do() -> Outcome {
    let bridge = start(Wire::Http, Era::Legacy, ASKS).await?;
    let server = bridge.server.clone().ok_or("no server")?;
    let mut client = bridge.client(Era::Modern).await?;
    let capable = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
    let params = json!({"name": "aside", "arguments": {}, "_meta": capable});
    let asked = client.request("tools/call", params.clone()).await?;
    let asked = result("aside", &asked)?.clone();
    assert_eq!(asked["resultType"], "input_required");
    let mut retry = params.clone();
    retry["requestState"] = asked["requestState"].clone();
    retry["inputResponses"] = json!({"1": {"action": "accept", "content": {"name": "ada"}}});
    let answer = client.request("tools/call", retry).await?;
    assert!(answer.text().contains(r#""name":"ada""#), "{}", answer.reply.text());

    let (_, slow) = client.message("tools/call", json!({"name": "slow", "arguments": {}, "_meta": capable}));
    let running = tokio::spawn({
        let client = client.clone();
        async move { client.notify(&slow).await }
    });
    soon("the other call runs", || server.of("tools/call").len() == 2).await?;
    let declined = client.request("tools/call", params).await?;
    assert!(declined.text().contains("-32601"), "{}", declined.reply.text());
    running.abort();
    Ok(())
}

#[tokio::test]
async fn what_a_server_tells_in_vain_is_in_the_ledger_once_for_each_call() -> Outcome {
    for (wire, client_era, server_era) in WAYS {
        let bridge = start(wire, server_era, "").await?;
        let what = &bridge.what;
        let mut client = bridge.client(client_era).await?;
        let answer = client.call("chatter", json!({})).await?;
        assert_eq!(answer.text(), "chattered", "{what}: {}", answer.reply.text());
        assert_eq!(answer.messages.len(), 1, "{what}: {:?}", answer.messages);
        let told = entries(&bridge.gateway, "event=server.request").await?;
        let mut told: Vec<_> = told
            .iter()
            .map(|entry| format!("{} {}", entry["method"], entry["code"]).replace('"', ""))
            .collect();
        told.sort();
        assert_eq!(
            told,
            [
                "notifications/cancelled bridge.unwanted",
                "notifications/chatter method.unknown",
                "notifications/elicitation/complete bridge.unwanted",
                "notifications/progress bridge.unwanted",
                "notifications/tasks bridge.unwanted",
                "notifications/tasks/status bridge.unwanted",
            ],
            "{what}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_a_server_of_the_same_revision_tells_passes_unless_it_is_of_a_stranger() -> Outcome {
    for era in [Era::Legacy, Era::Modern] {
        let bridge = start(Wire::Http, era, "").await?;
        let answer = bridge.client(era).await?.call("chatter", json!({})).await?;
        let mut told: Vec<_> =
            answer.messages.iter().filter_map(|message| message["method"].as_str()).collect();
        told.sort_unstable();
        let passed =
            ["notifications/cancelled", "notifications/elicitation/complete", "notifications/progress"];
        assert_eq!(told, passed, "{era:?}: tasks are of their caller, and what nobody knows passes nowhere");
    }
    Ok(())
}

#[tokio::test]
async fn a_question_without_a_counterpart_is_declined_and_refuses_its_call() -> Outcome {
    for (wire, client_era, server_era) in WAYS {
        let bridge = start(wire, server_era, ASKS).await?;
        let what = &bridge.what;
        let mut client = bridge.client(client_era).await?;
        let answer = client.call("prod", json!({})).await?;
        assert_eq!(code_of(&answer), "bridge.untranslatable", "{what}: {}", answer.reply.text());
        assert_eq!(answer.messages.len(), 1, "{what}: {:?}", answer.messages);
        assert_eq!(entries(&bridge.gateway, "event=call.refused&code=bridge.untranslatable").await?.len(), 1);
        let recorded = entries(&bridge.gateway, "event=server.request").await?;
        let codes: Vec<_> = recorded.iter().map(|entry| entry["code"].clone()).collect();
        // A question inside a result is part of the answer; one of its own is recorded by itself.
        let by_itself = server_era == Era::Legacy;
        assert_eq!(codes, vec![json!("bridge.untranslatable"); usize::from(by_itself)], "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_or_cancels_is_told_to_a_child_of_the_other_era() -> Outcome {
    for (client_era, server_era) in [(Era::Modern, Era::Legacy), (Era::Legacy, Era::Modern)] {
        let bridge = start(Wire::Stdio, server_era, SHARED).await?;
        let what = &bridge.what;
        let mut client = bridge.client(client_era).await?;
        if client_era == Era::Modern {
            let mut leaving = client.clone().with_patience(Duration::from_secs(3));
            assert!(leaving.call("slow", json!({})).await.is_err(), "{what}: it was answered");
        } else {
            let (id, call) = client.message("tools/call", json!({"name": "slow", "arguments": {}}));
            let sent = client.clone();
            let mut waiting = tokio::spawn(async move { sent.notify(&call).await.map(|reply| reply.text()) });
            let params = json!({"requestId": id});
            let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
            // The call may not have begun yet when it is cancelled, so it is cancelled until it is.
            let answer = loop {
                assert_eq!(client.notify(&cancel).await?.status, 202, "{what}");
                tokio::select! {
                    answer = &mut waiting => break answer??,
                    () = tokio::time::sleep(Duration::from_millis(50)) => {}
                }
            };
            assert!(answer.contains("request.cancelled"), "{what}: {answer}");
        }
        let due = std::time::Instant::now() + SOON;
        while !client.call("told", json!({})).await?.text().contains("requestId") {
            assert!(std::time::Instant::now() < due, "{what}: the server was not told");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_was_missed_on_a_stream_between_eras_is_refused_with_its_own_code() -> Outcome {
    let bridge = start(Wire::Http, Era::Modern, "").await?;
    let client = bridge.client(Era::Legacy).await?;
    let (bearer, session) =
        (format!("Bearer {}", bridge.gateway.key()?), client.session.clone().ok_or("no session")?);
    let headers = [
        ("authorization", bearer.as_str()),
        ("accept", "text/event-stream"),
        ("mcp-session-id", &session),
        ("mcp-protocol-version", "2025-11-25"),
        ("last-event-id", "7"),
    ];
    let reply = Client::default().send(Method::GET, &client.url, &headers, Bytes::new()).await?;
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert!(reply.text().contains("bridge.resumption"), "{}", reply.text());
    assert_eq!(entries(&bridge.gateway, "event=call.refused&code=bridge.resumption").await?.len(), 1);
    Ok(())
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> Outcome {
    std::fs::create_dir_all(to)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_state_is_taken_by_a_replica_that_can_go_on_and_refused_with_the_reason_by_one_that_cannot()
-> Outcome {
    let mut bridge = start(Wire::Http, Era::Legacy, ASKS).await?;
    let key = bridge.gateway.key()?.to_owned();
    bridge.gateway.stop().await?;
    let folder = tempfile::tempdir()?;
    copy(&bridge.gateway.data(), &folder.path().join("portcullis-data"))?;
    bridge.gateway.start_again().await?;
    let yaml = std::fs::read_to_string(bridge.gateway.folder().join("portcullis.yaml"))?;
    let servers = yaml.split("listen:").next().unwrap_or_default();
    let replica = Gateway::builder().folder(folder.path()).config(servers).start().await?;
    for gateway in [&bridge.gateway, &replica] {
        known(gateway, SOON).await?;
    }
    let mut here = McpClient::connect(&bridge.gateway.url("s"), Some(&key), Era::Modern).await?;
    let mut there = McpClient::connect(&replica.url("s"), Some(&key), Era::Modern).await?;
    let capable = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"url": {}}}});
    let answers = json!({"1": {"action": "accept", "content": {"name": "ada"}}});
    // Nothing of this call waits anywhere: any replica makes it again.
    let mut visit = json!({"name": "visit", "arguments": {}, "_meta": capable});
    let asked = here.request("tools/call", visit.clone()).await?;
    visit["requestState"] = result("visit", &asked)?["requestState"].clone();
    visit["inputResponses"] = answers.clone();
    let answer = there.request("tools/call", visit).await?;
    assert_eq!(answer.text(), "visited", "{}", answer.reply.text());
    // This one waits on the first: the other says so, and takes nothing away.
    let mut ask = json!({"name": "ask", "arguments": {}, "_meta": capable});
    let asked = here.request("tools/call", ask.clone()).await?;
    ask["requestState"] = result("ask", &asked)?["requestState"].clone();
    ask["inputResponses"] = answers;
    let elsewhere = there.request("tools/call", ask.clone()).await?;
    assert_eq!(code_of(&elsewhere), "bridge.elsewhere", "{}", elsewhere.reply.text());
    assert_eq!(entries(&replica, "event=call.refused&code=bridge.elsewhere").await?.len(), 1);
    let answer = here.request("tools/call", ask).await?;
    assert!(answer.text().contains(r#""name":"ada""#), "{}", answer.reply.text());
    // One that shares nothing opens nothing.
    let stranger = start(Wire::Http, Era::Legacy, ASKS).await?;
    let mut client = stranger.client(Era::Modern).await?;
    let mut foreign = json!({"name": "visit", "arguments": {}, "_meta": capable});
    let state = here.request("tools/call", json!({"name": "ask", "arguments": {}, "_meta": capable})).await?;
    foreign["requestState"] = result("ask", &state)?["requestState"].clone();
    let refused = client.request("tools/call", foreign).await?;
    assert_eq!(code_of(&refused), "bridge.state", "{}", refused.reply.text());
    Ok(())
}

#[tokio::test]
async fn a_legacy_client_that_cancels_ends_the_call_on_a_modern_server() -> Outcome {
    let bridge = start(Wire::Http, Era::Modern, "").await?;
    let server = bridge.server.clone().ok_or("no server")?;
    let mut client = bridge.client(Era::Legacy).await?;
    let (id, message) = client.message("tools/call", json!({"name": "slow", "arguments": {}}));
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.notify(&message).await.map(|reply| reply.text()) }
    });
    soon("the call arrives", || !server.of("tools/call").is_empty()).await?;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
    assert_eq!(client.notify(&cancel).await?.status, 202);
    assert!(waiting.await??.contains("request.cancelled"));
    soon("the server sees nobody waiting", || !server.of("abandoned").is_empty()).await
}

#[tokio::test]
async fn sessions_with_a_legacy_server_are_shared_by_the_calls_of_one_caller_alone() -> Outcome {
    let bridge = start(Wire::Http, Era::Legacy, ASKS).await?;
    let server = bridge.server.clone().ok_or("no server")?;
    let mut client = bridge.client(Era::Modern).await?;
    let before = server.of("initialize").len();
    for _ in 0..5 {
        client.call("echo", json!({})).await?;
    }
    assert_eq!(server.of("initialize").len(), before, "a session for each call");
    let capable = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
    client.request("tools/call", json!({"name": "echo", "_meta": capable})).await?;
    assert_eq!(server.of("initialize").len(), before + 1, "other capabilities, another session");
    let other = new_key(&bridge.gateway, "other", "operator")?;
    let mut other = McpClient::connect(&bridge.gateway.url("s"), Some(&other), Era::Modern).await?;
    other.call("echo", json!({})).await?;
    assert_eq!(server.of("initialize").len(), before + 2, "another caller, another session");
    let ids: Vec<_> = server.of("tools/call").iter().map(|call| call["id"].clone()).collect();
    assert!(ids.iter().all(Value::is_u64), "{ids:?}");
    Ok(())
}

/// The next message of a stream.
async fn next(stream: &mut Stream, seen: &mut String) -> Outcome<Value> {
    loop {
        if let Some((event, rest)) = seen.clone().split_once("\n\n") {
            rest.clone_into(seen);
            if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) {
                return Ok(serde_json::from_str(data)?);
            }
            continue;
        }
        let piece = stream.next(SOON).await?.ok_or_else(|| format!("the stream ended: {seen}"))?;
        seen.push_str(std::str::from_utf8(&piece)?);
    }
}

#[tokio::test]
async fn a_legacy_client_is_asked_what_a_modern_server_wants_to_know() -> Outcome {
    for wire in [Wire::Http, Wire::Stdio] {
        let bridge = start(wire, Era::Modern, ASKS).await?;
        let what = &bridge.what;
        let mut client = bridge.client(Era::Legacy).await?;
        let twin = bridge.client(Era::Legacy).await?;
        let (mut stream, mut seen) =
            (client.open("tools/call", json!({"name": "ask", "arguments": {}})).await?, String::new());
        let question = next(&mut stream, &mut seen).await?;
        assert_eq!(question["method"], "elicitation/create", "{what}");
        assert_eq!(question["params"]["message"], "who are you?", "{what}");
        let said = json!({"jsonrpc": "2.0", "id": question["id"],
            "result": {"action": "accept", "content": {"name": "ada"}}});
        assert_eq!(twin.notify(&said).await?.status, 400, "{what}: another session was not asked");
        assert_eq!(client.notify(&said).await?.status, 202, "{what}");
        assert_eq!(client.notify(&said).await?.status, 400, "{what}: an answer counts once");
        let answer = next(&mut stream, &mut seen).await?;
        let text = answer.pointer("/result/content/0/text").and_then(Value::as_str).unwrap_or_default();
        assert!(text.contains(r#""name":"ada""#), "{what}: {answer}");
        assert!(answer.pointer("/result/resultType").is_none(), "{what}: {answer}");
        // A person may be unable to answer; the server is told so in the words it has for that.
        let (mut stream, mut seen) =
            (client.open("tools/call", json!({"name": "ask", "arguments": {}})).await?, String::new());
        let question = next(&mut stream, &mut seen).await?;
        let failed =
            json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -32601, "message": "no"}});
        assert_eq!(client.notify(&failed).await?.status, 202, "{what}");
        let answer = next(&mut stream, &mut seen).await?.to_string();
        assert!(answer.contains("cancel"), "{what}: {answer}");
        // What policy does not allow never reaches the client.
        let denied = client.call("sample", json!({})).await?;
        assert_eq!(code_of(&denied), "server_request.denied", "{what}: {}", denied.reply.text());
        assert_eq!(denied.messages.len(), 1, "{what}: {:?}", denied.messages);
        let recorded = entries(&bridge.gateway, "event=server.request").await?;
        let codes: Vec<_> = recorded.iter().map(|entry| entry["code"].as_str().unwrap_or_default()).collect();
        assert_eq!(codes, ["", "", "server_request.denied"], "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn a_question_that_policy_forbids_is_declined_for_the_client_where_the_server_can_be_told_so() -> Outcome
{
    let bridge = start(Wire::Http, Era::Modern, "").await?;
    let mut client = bridge.client(Era::Legacy).await?;
    let answer = client.call("ask", json!({})).await?;
    assert_eq!(answer.text(), r#"you said {"action":"decline"}"#, "{}", answer.reply.text());
    assert_eq!(answer.messages.len(), 1, "the client was asked");
    Ok(())
}

/// Lets the server tell of changes again and again until the stream has this text.
async fn told(client: &McpClient, stream: &mut Stream, text: &str) -> Outcome<String> {
    let mut toucher = client.clone();
    let touching = tokio::spawn(async move {
        loop {
            let _ = toucher.call("touch", json!({})).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut seen = String::new();
    while !seen.contains(text) {
        let piece = stream.next(SOON).await?.ok_or_else(|| format!("the stream ended: {seen}"))?;
        seen.push_str(std::str::from_utf8(&piece)?);
    }
    touching.abort();
    Ok(seen)
}

#[tokio::test]
async fn changes_of_a_legacy_server_reach_a_modern_listener_that_asked_for_them() -> Outcome {
    for wire in [Wire::Http, Wire::Stdio] {
        let bridge = start(wire, Era::Legacy, "").await?;
        let what = &bridge.what;
        let mut client = bridge.client(Era::Modern).await?;
        let wanted = json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true,
            "resourceSubscriptions": ["x://a"]}});
        let mut stream = client.open("subscriptions/listen", wanted).await?;
        let first = next(&mut stream, &mut String::new()).await?;
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{what}");
        assert_eq!(
            first["params"]["notifications"],
            json!({"toolsListChanged": true, "resourceSubscriptions": ["x://a"]}),
            "{what}: what the server does not offer is not promised"
        );
        let seen = told(&client, &mut stream, "resources/updated").await?;
        let seen = if seen.contains("tools/list_changed") {
            seen
        } else {
            told(&client, &mut stream, "tools/list_changed").await?
        };
        let id = r#""io.modelcontextprotocol/subscriptionId":2"#;
        assert!(
            seen.lines().filter(|line| line.starts_with("data:")).all(|line| line.contains(id)),
            "{what}: {seen}"
        );
        drop(stream);
        if let Some(server) = &bridge.server {
            soon("the listener's session ends", || !server.of("DELETE").is_empty()).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn changes_of_a_modern_server_reach_the_stream_of_a_legacy_session() -> Outcome {
    for wire in [Wire::Http, Wire::Stdio] {
        let bridge = start(wire, Era::Modern, "").await?;
        let what = &bridge.what;
        let mut client = bridge.client(Era::Legacy).await?;
        let mut stream = client.stream(None).await?;
        let seen = told(&client, &mut stream, "tools/list_changed").await?;
        assert!(!seen.contains("resources/updated"), "{what}: nobody subscribed: {seen}");
        let answer = client.request("resources/subscribe", json!({"uri": "x://a"})).await?;
        assert_eq!(result(what, &answer)?, &json!({}), "{what}");
        let seen = told(&client, &mut stream, "resources/updated").await?;
        assert!(!seen.contains("subscriptionId") && !seen.contains("acknowledged"), "{what}: {seen}");
        let answer = client.request("resources/unsubscribe", json!({"uri": "x://a"})).await?;
        assert_eq!(result(what, &answer)?, &json!({}), "{what}");
        if let Some(server) = &bridge.server {
            soon("the server is asked without it", || {
                let last = server.of("subscriptions/listen").pop();
                last.is_some_and(|last| last.pointer("/params/notifications/resourceSubscriptions").is_none())
            })
            .await?;
        }
        let ended = client.end().await?;
        assert!(ended.status.is_success(), "{what}");
        stream.rest(SOON).await?;
        assert_eq!(
            verdict(&client.request("ping", json!({})).await?),
            (404, "session.unknown".into()),
            "{what}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_session_with_a_legacy_server_ends_when_idle_and_when_its_caller_has_too_many() -> Outcome {
    let limits = limits_yaml(&[("caller_sessions_max", 1), ("session_idle_ms", 1_000)]);
    let bridge = start(Wire::Http, Era::Legacy, &format!("{ASKS}{limits}")).await?;
    let server = bridge.server.clone().ok_or("no server")?;
    let mut client = bridge.client(Era::Modern).await?;
    let capable = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
    client.request("tools/call", json!({"name": "echo", "_meta": capable})).await?;
    soon("the first gives way", || server.of("DELETE").len() == 1).await?;
    soon("the second is not used", || server.of("DELETE").len() == 2).await?;
    assert_eq!(client.call("echo", json!({})).await?.status(), 200, "another one is opened when needed");
    Ok(())
}

#[tokio::test]
async fn a_call_whose_question_is_not_answered_in_time_is_given_up() -> Outcome {
    let limits = limits_yaml(&[("total_timeout_ms", 4_000)]);
    let bridge = start(Wire::Http, Era::Legacy, &format!("{ASKS}{limits}")).await?;
    let server = bridge.server.clone().ok_or("no server")?;
    let mut client = bridge.client(Era::Modern).await?;
    let capable = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
    let mut params = json!({"name": "ask", "arguments": {}, "_meta": capable});
    let asked = client.request("tools/call", params.clone()).await?;
    params["requestState"] = result("asked", &asked)?["requestState"].clone();
    params["inputResponses"] = json!({"1": {"action": "cancel"}});
    soon("the server is told", || !server.of("notifications/cancelled").is_empty()).await?;
    let late = client.request("tools/call", params).await?;
    assert_eq!(code_of(&late), "bridge.state", "{}", late.reply.text());
    Ok(())
}

/// Params with which each method is well-formed.
fn sample(method: &str) -> Value {
    match method {
        "tools/call" => json!({"name": "echo", "arguments": {}}),
        "prompts/get" => json!({"name": "hello"}),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => json!({"uri": "x://a"}),
        "completion/complete" => {
            json!({"ref": {"type": "ref/prompt", "name": "hello"}, "argument": {"name": "a", "value": "o"}})
        }
        "logging/setLevel" => json!({"level": "info"}),
        "initialize" => {
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}})
        }
        "tasks/get" | "tasks/cancel" | "tasks/result" | "tasks/update" => json!({"taskId": "t"}),
        "notifications/cancelled" => json!({"requestId": 99}),
        "notifications/progress" => json!({"progressToken": 1, "progress": 1}),
        _ => json!({}),
    }
}

#[tokio::test]
async fn every_method_of_a_client_fares_on_the_bridge_as_the_table_says() -> Outcome {
    for (wire, client_era, server_era) in WAYS {
        let bridge = start(wire, server_era, "").await?;
        let mut client = bridge.client(client_era).await?;
        let era = |era| if era == Era::Modern { revision::Era::Modern } else { revision::Era::Legacy };
        let rows = TABLE.iter().filter(|row| row.from != Side::Server);
        for row in rows {
            let what = format!("{}: {}", bridge.what, row.name);
            let (_, mut message) = client.message(row.name, sample(row.name));
            if row.form == Form::Notification {
                message.as_object_mut().ok_or("no object")?.remove("id");
            }
            if row.name == "subscriptions/listen" && client_era == Era::Modern {
                let wanted = json!({"notifications": {"toolsListChanged": true}});
                let mut stream = client.open(row.name, wanted).await?;
                let first = next(&mut stream, &mut String::new()).await?;
                assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{what}");
                continue;
            }
            let reply = client.notify(&message).await?;
            let body: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
            let code = body.pointer("/error/data/code").and_then(Value::as_str).unwrap_or_default();
            match passage(row, Side::Client, era(client_era), era(server_era)) {
                Passage::Absent => assert_eq!(code, "method.unknown", "{what}"),
                // No task can have begun on the bridge, so that none is known.
                Passage::Refused if message.pointer("/params/taskId").is_some() => {
                    assert_eq!(code, "task.unknown", "{what}: {}", reply.text());
                }
                Passage::Refused => assert_eq!(code, "bridge.untranslatable", "{what}: {}", reply.text()),
                Passage::Answered | Passage::Translated if row.form == Form::Notification => {
                    assert_eq!(reply.status, 202, "{what}: {}", reply.text());
                }
                Passage::Answered | Passage::Translated => {
                    assert!(body.get("result").is_some(), "{what}: {}", reply.text());
                }
                Passage::Straight => return Err(format!("{what} goes straight").into()),
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn listeners_with_equal_ids_on_a_shared_process_do_not_take_each_others_stream() -> Outcome {
    let bridge = start(Wire::Stdio, Era::Legacy, "    isolation: shared\n").await?;
    let other = new_key(&bridge.gateway, "other", "operator")?;
    let mut first = bridge.client(Era::Modern).await?;
    let mut second = McpClient::connect(&bridge.gateway.url("s"), Some(&other), Era::Modern).await?;
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let mut one = first.open("subscriptions/listen", wanted.clone()).await?;
    let mut two = second.open("subscriptions/listen", wanted).await?;
    for stream in [&mut one, &mut two] {
        let told_first = next(stream, &mut String::new()).await?;
        assert_eq!(told_first["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 2);
    }
    told(&first, &mut one, "tools/list_changed").await?;
    told(&first, &mut two, "tools/list_changed").await?;
    Ok(())
}

#[tokio::test]
async fn a_listener_is_acknowledged_first_hears_only_what_it_asked_for_and_listens_again_after_an_end()
-> Outcome {
    for (wire, extra) in [(Wire::Http, ""), (Wire::Stdio, SHARED)] {
        let bridge = start(wire, Era::Modern, extra).await?;
        let what = &bridge.what;
        let mut client = bridge.client(Era::Modern).await?;
        let resource = json!({"resourceSubscriptions": ["x://a"]});
        let list = json!({"toolsListChanged": true});
        let id =
            |message: &Value| message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone();
        // The second round is after the server ended the first.
        for round in 0..2 {
            let mut open = Vec::new();
            for wanted in [&resource, &list] {
                let (before, _) = client.message("ping", json!({}));
                let own = json!(before.as_u64().ok_or("no id")? + 1);
                let mut stream =
                    client.open("subscriptions/listen", json!({"notifications": wanted})).await?;
                let first = next(&mut stream, &mut String::new()).await?;
                assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{what} {round}");
                assert_eq!((&first["params"]["notifications"], id(&first)), (wanted, own.clone()), "{what}");
                open.push((stream, own));
            }
            for ((stream, own), (told_of, not)) in open.iter_mut().zip([
                ("notifications/resources/updated", "tools/list_changed"),
                ("notifications/tools/list_changed", "resources/updated"),
            ]) {
                let seen = told(&client, stream, told_of).await?;
                assert!(!seen.contains(not), "{what} {round}: it never asked for this: {seen}");
                for data in seen.lines().filter_map(|line| line.strip_prefix("data: ")) {
                    assert_eq!(id(&serde_json::from_str(data)?), *own, "{what} {round}");
                }
            }
            assert_eq!(client.call("end", json!({})).await?.text(), "ended", "{what}");
            for (mut stream, own) in open {
                let rest = String::from_utf8(stream.rest(SOON).await?.to_vec())?;
                let last = rest.lines().filter_map(|line| line.strip_prefix("data: ")).next_back();
                let last: Value = serde_json::from_str(last.ok_or("no last word")?)?;
                assert_eq!(
                    (&last["id"], &last["result"]["resultType"]),
                    (&own, &json!("complete")),
                    "{what}"
                );
                let meta = &last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"];
                assert_eq!(meta, &own, "{what}: {last}");
            }
        }
        let outcomes = entries(&bridge.gateway, "event=call.outcome").await?;
        let ended = outcomes.iter().filter(|entry| entry["method"] == "subscriptions/listen");
        assert_eq!(ended.count(), 4, "{what}: one outcome for each stream");

        // A client that closes its stream cancels it at the server.
        let mut stream = client.open("subscriptions/listen", json!({"notifications": list})).await?;
        next(&mut stream, &mut String::new()).await?;
        let before = bridge.server.as_ref().map(|server| server.listening());
        drop(stream);
        match (&bridge.server, before) {
            (Some(server), Some(before)) => {
                soon("the server is left", || server.listening() == before - 1).await?;
            }
            _ => {
                let due = std::time::Instant::now() + SOON;
                while !client.call("told", json!({})).await?.text().contains("requestId") {
                    assert!(std::time::Instant::now() < due, "{what}: the server was not told");
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_legacy_client_cancels_its_own_call_on_a_legacy_server_and_not_that_of_another() -> Outcome {
    for (wire, extra) in [(Wire::Http, ""), (Wire::Stdio, SHARED)] {
        let bridge = start(wire, Era::Legacy, extra).await?;
        let what = &bridge.what;
        let mut client = bridge.client(Era::Legacy).await?;
        let other = new_key(&bridge.gateway, "other", "operator")?;
        let mut other = McpClient::connect(&bridge.gateway.url("s"), Some(&other), Era::Legacy).await?;
        let (id, call) = client.message("tools/call", json!({"name": "slow", "arguments": {}}));
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.notify(&call).await.map(|reply| reply.text()) }
        });
        let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
            "params": {"requestId": id, "reason": "enough"}});
        let told = async |client: &mut McpClient| -> Outcome<Vec<Value>> {
            Ok(serde_json::from_str(&client.call("told", json!({})).await?.text())?)
        };
        if wire == Wire::Stdio {
            // On a process of two callers the same id means another call, which this caller does not have.
            assert_eq!(other.notify(&cancel).await?.status, 202, "{what}");
            assert_eq!(
                told(&mut other).await?,
                Vec::<Value>::new(),
                "{what}: it reached the call of another"
            );
        }
        let due = std::time::Instant::now() + SOON;
        // The call may not have begun yet when it is cancelled, so it is cancelled until it is.
        let heard = loop {
            assert_eq!(client.notify(&cancel).await?.status, 202, "{what}");
            if let Some(heard) = told(&mut client).await?.pop() {
                break heard;
            }
            assert!(std::time::Instant::now() < due, "{what}: the server was not told");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(heard["params"]["reason"], "enough", "{what}: {heard}");
        if let Some(server) = &bridge.server {
            // Each is a request of its own, so that the cancellation may be there first.
            let slow = || server.of("tools/call").into_iter().find(|call| call["params"]["name"] == "slow");
            soon("the call is there", || slow().is_some()).await?;
            assert_eq!(heard["params"]["requestId"], slow().ok_or("no call")?["id"], "{what}");
        }
        waiting.abort();
    }
    Ok(())
}

#[tokio::test]
async fn clients_of_both_eras_use_the_one_process_of_a_server_of_either_at_the_same_time() -> Outcome {
    const CALLS: usize = 60;
    for server_era in Era::ALL {
        let bridge = start(Wire::Stdio, server_era, &format!("{SHARED}{ASKS}")).await?;
        let what = &bridge.what;
        let other = new_key(&bridge.gateway, "other", "operator")?;
        let mut working = Vec::new();
        for era in Era::ALL {
            for (who, key) in [("one", bridge.gateway.key()?), ("two", &other)] {
                let mut client = McpClient::connect(&bridge.gateway.url("s"), Some(key), era).await?;
                let who = format!("{era:?} {who}");
                working.push(tokio::spawn(async move {
                    for number in 0..CALLS {
                        let words = format!("{who} {number}");
                        let answer = client.call("echo", json!({"text": words})).await.unwrap();
                        let said = answer.text();
                        assert!(said.contains(&format!("{words:?}")), "{words}: {}", answer.reply.text());
                        let modern = answer.result().get("resultType").is_some();
                        assert_eq!(modern, era == Era::Modern, "{words}: {}", answer.reply.text());
                    }
                    client
                }));
            }
        }
        let mut clients = Vec::new();
        for one in working {
            clients.push(one.await?);
        }
        // What one of them cancels, the others see at the server: it is the one process.
        let mut leaving = bridge.client(Era::Modern).await?.with_patience(Duration::from_secs(3));
        assert!(leaving.call("slow", json!({})).await.is_err(), "{what}: it was answered");
        let due = std::time::Instant::now() + SOON;
        for client in &mut clients {
            while !client.call("told", json!({})).await?.text().contains("requestId") {
                assert!(std::time::Instant::now() < due, "{what}: not the same process");
            }
        }
    }
    Ok(())
}
