//! Servers of both eras, over HTTP and as child processes, behind one route: what reaches them from clients of either
//! era, what they ask and tell, and under which names.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use portcullis_testkit::{
    Answer, Body as Stream, Client, Era, Gateway, Hostile, HostileServer, McpClient, Outcome,
};
use portcullis_tests::pair::{SOON, code_of, known, new_key, soon};
use serde_json::{Value, json};

const ERA_CHILD: &str = env!("CARGO_BIN_EXE_era-child");
const SCRIPTED_CHILD: &str = env!("CARGO_BIN_EXE_scripted-child");

/// A gateway before `old` and `new`, children of one era each, `both`, a child of both eras, and `web`, over HTTP.
struct World {
    gateway: Gateway,
    web: HostileServer,
}

async fn world(extra: &str) -> Outcome<World> {
    world_before(HostileServer::start().await?, extra).await
}

/// The same with a `web` that was prepared.
async fn world_before(web: HostileServer, extra: &str) -> Outcome<World> {
    let yaml = format!(
        "servers:\n  old:\n    command: {}\n    server_requests: [elicitation, roots]\n  new:\n    command: {}\n    \
         server_requests: [elicitation, roots]\n  both:\n    command: {}\n  web:\n    url: {}\n    server_requests: [elicitation]\n\
         aggregate:\n  enabled: true\n  member_timeout_ms: 4000\n{extra}",
        json!([ERA_CHILD, "--era", "legacy"]),
        json!([ERA_CHILD, "--era", "modern"]),
        json!([SCRIPTED_CHILD]),
        web.url(),
    );
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    Ok(World { gateway, web })
}

impl World {
    fn url(&self) -> String {
        format!("{}/mcp", self.gateway.base())
    }

    async fn client(&self, era: Era) -> Outcome<McpClient> {
        McpClient::connect(&self.url(), Some(self.gateway.key()?), era).await
    }

    /// The stream of a session.
    async fn stream(&self, client: &McpClient, last: Option<&str>) -> Outcome<Stream> {
        let bearer = format!("Bearer {}", self.gateway.key()?);
        let session = client.session.clone().ok_or("no session")?;
        let mut headers = vec![
            ("authorization", bearer.as_str()),
            ("accept", "text/event-stream"),
            ("mcp-session-id", &session),
            ("mcp-protocol-version", "2025-11-25"),
        ];
        headers.extend(last.map(|last| ("last-event-id", last)));
        Client::default().open(Method::GET, &client.url, &headers, Bytes::new()).await
    }
}

fn result(answer: &Answer) -> Outcome<&Value> {
    let result = answer.result();
    if result.is_null() { Err(answer.reply.text().into()) } else { Ok(result) }
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
async fn a_client_of_either_era_uses_members_of_either_era_by_names_uris_and_references_of_the_route()
-> Outcome {
    let world = world("").await?;
    for era in Era::ALL {
        let mut client = world.client(era).await?;
        let names = client.list("tools/list").await?;
        for member in ["old", "new"] {
            let what = format!("{era:?} to {member}");
            assert!(names.contains(&format!("{member}__mirrored")), "{what}: {names:?}");
            let answer = client.call(&format!("{member}__echo"), json!({"n": 1})).await?;
            assert_eq!(answer.text(), r#"{"n":1} false"#, "{what}");
            let prompt = client.request("prompts/get", json!({"name": format!("{member}__hello")})).await?;
            assert_eq!(result(&prompt)?["messages"][0]["content"]["text"], "hello", "{what}");
            for uri in [format!("mcp://{member}/x://a"), format!("mcp://{member}/x://t/7")] {
                let read = client.request("resources/read", json!({"uri": uri})).await?;
                assert_eq!(result(&read)?["contents"][0]["uri"], *uri, "{what}: {}", read.reply.text());
            }
            let gone =
                client.request("resources/read", json!({"uri": format!("mcp://{member}/x://gone")})).await?;
            assert_eq!(gone.error_code(), Some(if era == Era::Modern { -32602 } else { -32002 }), "{what}");
            for reference in [
                json!({"type": "ref/prompt", "name": format!("{member}__hello")}),
                json!({"type": "ref/resource", "uri": format!("mcp://{member}/x://t/{{n}}")}),
            ] {
                let params = json!({"ref": reference, "argument": {"name": "a", "value": "o"}});
                let completed = client.request("completion/complete", params).await?;
                assert_eq!(
                    result(&completed)?["completion"]["values"],
                    json!(["one"]),
                    "{what}: {reference}"
                );
            }
            let elsewhere = json!({"ref": {"type": "ref/prompt", "name": "hello"}, "argument": {"name": "a", "value": "o"}});
            let elsewhere = client.request("completion/complete", elsewhere).await?;
            assert!(elsewhere.result().is_null(), "{what}: {}", elsewhere.reply.text());
            let templates = client.request("resources/templates/list", json!({})).await?;
            let listed = result(&templates)?["resourceTemplates"].to_string();
            assert!(listed.contains(&format!("mcp://{member}/x://t/{{n}}")), "{what}: {listed}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_version_that_some_client_speaks_is_supported_since_members_are_bridged() -> Outcome {
    let world = world("").await?;
    let mut client = McpClient::new(&world.url(), Some(world.gateway.key()?), Era::Modern);
    let said = client.request("server/discover", json!({})).await?;
    let versions = result(&said)?["supportedVersions"].clone();
    // `old` is of 2025-11-25 alone: for clients before that nobody speaks for it.
    assert_eq!(versions, json!(["2026-07-28", "2025-11-25"]));
    let offered = &result(&said)?["capabilities"];
    assert_eq!(offered["resources"], json!({"listChanged": true, "subscribe": true}));
    assert_eq!(offered["completions"], json!({}));
    let mut client = McpClient::new(&world.url(), Some(world.gateway.key()?), Era::Legacy);
    let said = client.initialize().await?;
    assert_eq!(result(&said)?["capabilities"]["logging"], json!({}), "{}", said.reply.text());
    Ok(())
}

#[tokio::test]
async fn a_modern_client_is_asked_by_members_of_either_era_and_answers_by_calling_again() -> Outcome {
    let world = world("").await?;
    let mut client = world.client(Era::Modern).await?;
    let other = new_key(&world.gateway, "other", "operator")?;
    let mut other = McpClient::connect(&world.url(), Some(&other), Era::Modern).await?;
    for member in ["old", "new"] {
        let capable =
            json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}}});
        let mut params = json!({"name": format!("{member}__ask"), "arguments": {}, "_meta": capable});
        let asked = client.request("tools/call", params.clone()).await?;
        let asked = result(&asked)?.clone();
        assert_eq!(asked["resultType"], "input_required", "{member}");
        let requests = asked["inputRequests"].as_object().ok_or("nothing asked")?;
        let (key, question) = requests.iter().next().ok_or("nothing asked")?;
        assert_eq!(question["params"]["message"], "who are you?", "{member}");
        params["requestState"] = asked["requestState"].clone();
        params["inputResponses"] = json!({key: {"action": "accept", "content": {"name": "ada"}}});
        if member == "old" {
            let stolen = other.request("tools/call", params.clone()).await?;
            assert_eq!(code_of(&stolen), "bridge.state", "{}", stolen.reply.text());
        }
        let answer = client.request("tools/call", params.clone()).await?;
        assert!(answer.text().contains(r#""name":"ada""#), "{member}: {}", answer.reply.text());
        params["name"] = json!(format!("{member}__sample"));
        for gone in ["requestState", "inputResponses"] {
            params.as_object_mut().ok_or("no object")?.remove(gone);
        }
        let denied = client.request("tools/call", params).await?;
        assert_eq!(code_of(&denied), "server_request.denied", "{member}: {}", denied.reply.text());
    }
    Ok(())
}

#[tokio::test]
async fn a_legacy_client_is_asked_by_members_of_either_era_and_each_answer_finds_its_own() -> Outcome {
    let world = world("").await?;
    let mut client = world.client(Era::Legacy).await?;
    let twin = world.client(Era::Legacy).await?;
    // Both wait at once, and are answered in the other order.
    let mut waiting = Vec::new();
    for member in ["old", "new"] {
        let params = json!({"name": format!("{member}__ask"), "arguments": {}});
        let (mut stream, mut seen) = (client.open("tools/call", params).await?, String::new());
        let question = next(&mut stream, &mut seen).await?;
        assert_eq!(question["method"], "elicitation/create", "{member}");
        assert!(
            question["id"].as_str().is_some_and(|id| id.starts_with(&format!("{member}__"))),
            "{question}"
        );
        waiting.push((member, stream, seen, question["id"].clone()));
    }
    for (member, mut stream, mut seen, id) in waiting.into_iter().rev() {
        let said = json!({"jsonrpc": "2.0", "id": id,
            "result": {"action": "accept", "content": {"name": member}}});
        assert_eq!(twin.notify(&said).await?.status, 400, "{member}: another session was not asked");
        assert_eq!(client.notify(&said).await?.status, 202, "{member}");
        let answer = next(&mut stream, &mut seen).await?;
        let text = answer.pointer("/result/content/0/text").and_then(Value::as_str).unwrap_or_default();
        assert!(text.contains(&format!(r#""name":"{member}""#)), "{member}: {answer}");
        assert_eq!(client.notify(&said).await?.status, 400, "{member}: an answer counts once");
    }
    let nobody = json!({"jsonrpc": "2.0", "id": "nobody__1", "result": {}});
    assert_eq!(client.notify(&nobody).await?.status, 400);
    let denied = client.call("new__sample", json!({})).await?;
    assert_eq!(code_of(&denied), "server_request.denied", "{}", denied.reply.text());
    Ok(())
}

#[tokio::test]
async fn members_of_either_era_learn_the_roots_of_clients_of_either_era() -> Outcome {
    let world = world("").await?;
    let roots = json!({"roots": [{"uri": "file:///work", "name": "work"}]});
    let arguments = json!({"roots": true});
    let mut modern = world.client(Era::Modern).await?;
    for member in ["old", "new"] {
        let capable = json!({"io.modelcontextprotocol/clientCapabilities": {"roots": {}}});
        let mut params = json!({"name": format!("{member}__ask"), "arguments": arguments, "_meta": capable});
        let asked = modern.request("tools/call", params.clone()).await?;
        let asked = result(&asked)?.clone();
        let (key, question) =
            asked["inputRequests"].as_object().and_then(|all| all.iter().next()).ok_or("nothing asked")?;
        assert_eq!(question["method"], "roots/list", "{member}: {asked}");
        params["requestState"] = asked["requestState"].clone();
        params["inputResponses"] = json!({key: roots});
        let answer = modern.request("tools/call", params).await?;
        assert!(answer.text().contains("file:///work"), "{member}: {}", answer.reply.text());
    }
    let mut legacy = world.client(Era::Legacy).await?;
    for member in ["old", "new"] {
        let params = json!({"name": format!("{member}__ask"), "arguments": arguments});
        let (mut stream, mut seen) = (legacy.open("tools/call", params).await?, String::new());
        let question = next(&mut stream, &mut seen).await?;
        assert_eq!(question["method"], "roots/list", "{member}: {question}");
        let said = json!({"jsonrpc": "2.0", "id": question["id"], "result": roots});
        assert_eq!(legacy.notify(&said).await?.status, 202, "{member}");
        let answer = next(&mut stream, &mut seen).await?;
        assert!(answer.to_string().contains("file:///work"), "{member}: {answer}");
    }
    // The newer revision has no such notification.
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"});
    assert_eq!(legacy.notify(&changed).await?.status, 202);
    let due = tokio::time::Instant::now() + SOON;
    let method = json!({"method": "notifications/roots/list_changed"});
    while legacy.call("old__told", method.clone()).await?.text() == "[]" {
        assert!(tokio::time::Instant::now() < due, "the member is not told that roots changed");
    }
    assert_eq!(legacy.call("new__told", method).await?.text(), "[]");
    Ok(())
}

#[tokio::test]
async fn a_call_that_is_cancelled_or_left_is_cancelled_at_children_of_either_era() -> Outcome {
    let world = world("").await?;
    for (era, member, other) in [
        (Era::Modern, "old", "new"),
        (Era::Modern, "new", "old"),
        (Era::Legacy, "old", "new"),
        (Era::Legacy, "new", "old"),
    ] {
        let what = format!("{era:?} to {member}");
        // A caller of its own, so that no process has seen another's.
        let key = new_key(&world.gateway, &format!("{era:?}-{member}").to_lowercase(), "operator")?;
        let mut client = McpClient::connect(&world.url(), Some(&key), era).await?;
        let slow = json!({"name": format!("{member}__slow"), "arguments": {}});
        let told = |member: &str| (format!("{member}__told"), json!({}));
        let due = tokio::time::Instant::now() + Duration::from_secs(30);
        let (id, call) = client.message("tools/call", slow.clone());
        let cancel =
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
        let (name, arguments) = told(member);
        let calling = client.clone().with_patience(Duration::from_secs(4));
        let calling = tokio::spawn(async move { calling.notify(&call).await.is_ok() });
        let seen = loop {
            if era == Era::Legacy {
                // It may overtake the call, so it is sent until the member hears of it.
                assert_eq!(client.notify(&cancel).await?.status, 202, "{what}");
            }
            let seen = client.call(&name, arguments.clone()).await?.text();
            if seen.contains("requestId") {
                break seen;
            }
            assert!(tokio::time::Instant::now() < due, "{what}: the member was not told");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let seen: Vec<Value> = serde_json::from_str(&seen)?;
        assert_eq!(seen.len(), 1, "{what}: {seen:?}");
        calling.abort();
        let (name, arguments) = told(other);
        assert_eq!(client.call(&name, arguments).await?.text(), "[]", "{what}: the other was told");
    }
    Ok(())
}

/// Calls a tool again and again until the stream has all these texts.
async fn told(client: &McpClient, tools: &[&str], stream: &mut Stream, texts: &[&str]) -> Outcome<String> {
    let (mut caller, tools) =
        (client.clone(), tools.iter().map(|tool| (*tool).to_owned()).collect::<Vec<_>>());
    let calling = tokio::spawn(async move {
        loop {
            for tool in &tools {
                let _ = caller.call(tool, json!({})).await;
            }
            // A change is told to who listens already; when the member does is not the client's to see.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut seen = String::new();
    while !texts.iter().all(|text| seen.contains(text)) {
        let piece = stream.next(SOON).await.map_err(|error| format!("{error}: {seen}"))?;
        seen.push_str(std::str::from_utf8(&piece.ok_or_else(|| format!("the stream ended: {seen}"))?)?);
    }
    calling.abort();
    Ok(seen)
}

const TOUCH: [&str; 2] = ["old__touch", "new__touch"];

#[tokio::test]
async fn a_listener_hears_of_changes_of_every_member_under_the_routes_uris() -> Outcome {
    let world = world("").await?;
    let mut client = world.client(Era::Modern).await?;
    let uris = json!(["mcp://old/x://a", "mcp://new/x://a", "mcp://nobody/x://a"]);
    let wanted =
        json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": uris, "later": true}});
    let mut stream = client.open("subscriptions/listen", wanted).await?;
    let first = next(&mut stream, &mut String::new()).await?;
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    let promised = &first["params"]["notifications"];
    assert_eq!(promised["toolsListChanged"], true);
    assert_eq!(
        promised["resourceSubscriptions"],
        json!(["mcp://new/x://a", "mcp://old/x://a"]),
        "{promised}"
    );
    assert!(promised.get("later").is_none(), "{promised}");
    let texts = [r#""mcp://old/x://a""#, r#""mcp://new/x://a""#, "tools/list_changed"];
    let seen = told(&client, &TOUCH, &mut stream, &texts).await?;
    let id = format!(
        r#""io.modelcontextprotocol/subscriptionId":{}"#,
        first["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"]
    );
    assert!(seen.lines().filter(|line| line.starts_with("data:")).all(|line| line.contains(&id)), "{seen}");
    assert_eq!(seen.matches("subscriptions/acknowledged").count(), 0, "acknowledged once: {seen}");
    Ok(())
}

#[tokio::test]
async fn the_stream_of_a_session_brings_changes_of_every_member_also_of_those_opened_later() -> Outcome {
    let world = world("").await?;
    let mut client = world.client(Era::Legacy).await?;
    let mut stream = world.stream(&client, None).await?;
    told(&client, &TOUCH, &mut stream, &["tools/list_changed"]).await?;
    for member in ["old", "new"] {
        let params = json!({"uri": format!("mcp://{member}/x://a")});
        let answer = client.request("resources/subscribe", params).await?;
        assert_eq!(result(&answer)?, &json!({}), "{member}");
    }
    let texts = [r#""mcp://old/x://a""#, r#""mcp://new/x://a""#];
    let seen = told(&client, &TOUCH, &mut stream, &texts).await?;
    assert!(!seen.contains("subscriptionId"), "{seen}");
    let answer = client.request("resources/unsubscribe", json!({"uri": "mcp://new/x://a"})).await?;
    assert_eq!(result(&answer)?, &json!({}));
    Ok(())
}

#[tokio::test]
async fn a_level_of_logs_reaches_every_member_also_those_opened_later() -> Outcome {
    let world = world("").await?;
    let mut client = world.client(Era::Legacy).await?;
    client.call("web__echo", json!({"text": "opens its session"})).await?;
    let answer = client.request("logging/setLevel", json!({"level": "info"})).await?;
    assert_eq!(result(&answer)?, &json!({}));
    let heard = world.web.received().into_iter().rfind(|one| one.method == "logging/setLevel");
    assert_eq!(heard.ok_or("nothing heard")?.json()["params"]["level"], "info");
    for member in ["old", "new"] {
        let answer = client.call(&format!("{member}__count"), json!({})).await?;
        assert!(
            answer.messages.iter().any(|told| told["method"] == "notifications/message"),
            "{member}: {answer:?}"
        );
    }
    let seen = client.call("both__seen", json!({})).await?.text();
    assert!(seen.contains("logging/setLevel"), "told when its session was opened: {seen}");
    let wrong = client.request("logging/setLevel", json!({"level": 7})).await?;
    assert_eq!(code_of(&wrong), "request.meta");
    Ok(())
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_where_it_runs_and_nowhere_else() -> Outcome {
    let world = world("").await?;
    let mut client = world.client(Era::Legacy).await?;
    let (id, message) = client.message("tools/call", json!({"name": "both__hang", "arguments": {}}));
    let mut other = client.clone();
    let waiting =
        tokio::spawn(async move { client.with_patience(Duration::from_secs(3)).notify(&message).await });
    let due = tokio::time::Instant::now() + SOON;
    while !other.call("both__seen", json!({})).await?.text().contains(r#""hang""#) {
        assert!(tokio::time::Instant::now() < due, "the call does not arrive");
    }
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
    assert_eq!(other.notify(&cancel).await?.status, 202);
    let seen = other.call("both__seen", json!({})).await?.text();
    let lines: Vec<Value> = seen.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let hang =
        lines.iter().find(|line| line.pointer("/params/name") == Some(&json!("hang"))).ok_or("no call")?;
    let cancelled: Vec<_> = lines.iter().filter(|line| line["method"] == "notifications/cancelled").collect();
    assert_eq!(cancelled.len(), 1, "{seen}");
    assert_eq!(cancelled[0]["params"]["requestId"], hang["id"], "by the id that the member knows");
    assert_eq!(world.web.count("notifications/cancelled"), 0);
    waiting.abort();
    // Under the newer revision whoever leaves cancels.
    let mut modern = world.client(Era::Modern).await?;
    world.web.on("tools/call", Hostile::HangBeforeHeaders);
    let before = world.web.hung_up();
    let mut leaving = modern.clone().with_patience(Duration::from_secs(2));
    assert!(leaving.call("web__echo", json!({"text": "x"})).await.is_err());
    soon("the member sees nobody waiting", || world.web.hung_up() > before).await?;
    assert_eq!(modern.call("new__echo", json!({})).await?.status(), 200, "others go on");
    Ok(())
}

#[tokio::test]
async fn a_stream_that_broke_off_is_resumed_on_the_member_it_came_from() -> Outcome {
    let world = world("").await?;
    let mut client = world.client(Era::Legacy).await?;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    world.web.on("tools/call", Hostile::Raw(format!("{head}id: 7\ndata: \n\n").into_bytes()));
    let mut stream =
        client.open("tools/call", json!({"name": "web__echo", "arguments": {"text": "x"}})).await?;
    let text = String::from_utf8(stream.rest(SOON).await?.to_vec())?;
    assert!(text.contains("id: web__7"), "{text}");
    let answer = json!({"jsonrpc": "2.0", "id": 3, "result": {"content": [{"type": "resource_link", "name": "a", "uri": "x://late"}]}});
    world.web.on("GET", Hostile::Raw(format!("{head}id: 8\ndata: {answer}\n\n").into_bytes()));
    let text = String::from_utf8(world.stream(&client, Some("web__7")).await?.rest(SOON).await?.to_vec())?;
    assert!(text.contains("id: web__8") && text.contains("mcp://web/x://late"), "{text}");
    let heard =
        world.web.received().into_iter().rfind(|one| one.http_method == "GET").ok_or("nothing heard")?;
    assert_eq!(heard.header("last-event-id"), Some("7"), "by the id that the member knows");
    Ok(())
}

#[tokio::test]
async fn one_slow_member_keeps_no_call_to_another_waiting() -> Outcome {
    let world = world("limits:\n  first_byte_timeout_ms: 5000\n").await?;
    for era in Era::ALL {
        let mut client = world.client(era).await?;
        world.web.on("*", Hostile::HangBeforeHeaders);
        let mut slow = client.clone();
        let slow = tokio::spawn(async move { slow.call("web__echo", json!({"text": "x"})).await });
        assert!(client.call("new__echo", json!({})).await?.text().contains("false"));
        assert!(!slow.is_finished(), "{era:?}: it waited for the one that is slow");
        assert_eq!(code_of(&slow.await??), "upstream.timeout", "{era:?}");
        world.web.heal();
    }
    Ok(())
}

/// A task as the older revision tells of it.
fn task(own: &str) -> Value {
    json!({"taskId": own, "status": "working", "createdAt": "2026-11-22T00:00:00Z",
        "lastUpdatedAt": "2026-11-22T00:00:00Z", "ttl": 60000})
}

#[tokio::test]
async fn tasks_of_a_member_are_followed_listed_and_heard_of_by_ids_of_the_route_and_by_nobody_else() -> Outcome
{
    let web = HostileServer::start().await?;
    let tasked = json!({"protocolVersion": "2025-11-25", "serverInfo": {"name": "t", "version": "1"},
        "capabilities": {"tools": {}, "tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}}});
    web.on("initialize", Hostile::Answer(tasked.clone()));
    let mut modern = tasked;
    modern["supportedVersions"] = json!(["2026-07-28", "2025-11-25"]);
    modern["resultType"] = json!("complete");
    web.on("server/discover", Hostile::Answer(modern));
    let world = world_before(web, "").await?;
    let mut client = world.client(Era::Legacy).await?;
    let other = new_key(&world.gateway, "other", "operator")?;
    let mut other = McpClient::connect(&world.url(), Some(&other), Era::Legacy).await?;
    let mut ids = Vec::new();
    for (who, own) in [(&mut client, "job-1"), (&mut other, "job-2")] {
        world.web.on("tools/call", Hostile::Answer(json!({"task": task(own)})));
        let params = json!({"name": "web__echo", "arguments": {"text": "x"}, "task": {"ttl": 60000}});
        let begun = who.request("tools/call", params).await?;
        let id = begun
            .result()
            .pointer("/task/taskId")
            .and_then(Value::as_str)
            .ok_or_else(|| begun.reply.text())?;
        assert!(id.starts_with("web__pct_"), "{id}");
        ids.push(id.to_owned());
    }
    for method in ["tasks/get", "tasks/cancel"] {
        world.web.on(method, Hostile::Answer(task("job-1")));
        let answer = client.request(method, json!({"taskId": ids[0]})).await?;
        assert_eq!(result(&answer)?["taskId"], *ids[0], "{method}");
        let heard =
            world.web.received().into_iter().rfind(|one| one.method == method).ok_or("nothing heard")?;
        assert_eq!(heard.json()["params"]["taskId"], "job-1", "{method}");
        let stolen = other.request(method, json!({"taskId": ids[0]})).await?;
        assert_eq!(code_of(&stolen), "task.unknown", "{method}: {}", stolen.reply.text());
    }
    let mixed = json!({"tasks": [task("job-2"), task("job-1"), task("job-3")]});
    world.web.on("tasks/list", Hostile::Answer(mixed));
    for (who, id) in [(&mut client, &ids[0]), (&mut other, &ids[1])] {
        let answer = who.request("tasks/list", json!({})).await?;
        assert_eq!(result(&answer)?["tasks"][0]["taskId"], **id, "{}", answer.reply.text());
        assert!(result(&answer)?["tasks"][1].is_null(), "{}", answer.reply.text());
        assert!(!answer.reply.text().contains("job-"), "{}", answer.reply.text());
    }
    // A member that does not answer is named, and the others are listed.
    world.web.on("tasks/list", Hostile::HangBeforeHeaders);
    let answer = client.request("tasks/list", json!({})).await?;
    assert_eq!(result(&answer)?.pointer("/_meta/dev.portcullis~1unavailable"), Some(&json!(["web"])));
    Ok(())
}

#[tokio::test]
async fn a_listener_hears_of_its_own_tasks_alone_by_ids_of_the_route() -> Outcome {
    let world = world("").await?;
    let mut client = world.client(Era::Modern).await?;
    let mut begun = task("job-1");
    begun["resultType"] = json!("task");
    world.web.on("tools/call", Hostile::Answer(begun));
    let begun = client.call("web__echo", json!({"text": "x"})).await?;
    let id = result(&begun)?["taskId"].as_str().ok_or("no task")?.to_owned();
    let status = |own: &str, text: &str| {
        json!({"jsonrpc": "2.0", "method": "notifications/tasks", "params": {"taskId": own,
            "status": "completed", "result": {"content": [{"type": "text", "text": text}]}}})
        .to_string()
    };
    world.web.on(
        "subscriptions/listen",
        Hostile::Events(vec![status("job-2", "not yours"), status("job-1", "mine")]),
    );
    let mut stream = client.open("subscriptions/listen", json!({"notifications": {"taskIds": [id]}})).await?;
    let mut seen = String::new();
    let first = next(&mut stream, &mut seen).await?;
    assert_eq!(first["params"]["notifications"]["taskIds"], json!([id]));
    let told = next(&mut stream, &mut seen).await?;
    assert_eq!((&told["params"]["taskId"], told.to_string().contains("mine")), (&json!(id), true), "{told}");
    assert!(!seen.contains("not yours") && !told.to_string().contains("job-"), "{seen}");
    let heard = world.web.received().into_iter().rfind(|one| one.method == "subscriptions/listen");
    assert_eq!(heard.ok_or("nothing heard")?.json()["params"]["notifications"]["taskIds"], json!(["job-1"]));
    for id in ["job-1", "web__job-1", "nobody__pct_AAAA"] {
        let answer =
            client.request("subscriptions/listen", json!({"notifications": {"taskIds": [id]}})).await?;
        assert_eq!(code_of(&answer), "task.unknown", "{id}: {}", answer.reply.text());
    }
    Ok(())
}

#[tokio::test]
async fn pages_of_apps_and_links_are_named_as_the_route_names_them() -> Outcome {
    let web = HostileServer::start().await?;
    web.set_tools(vec![json!({"name": "app", "inputSchema": {"type": "object"},
        "_meta": {"ui": {"resourceUri": "ui://w/x"}, "ui/resourceUri": "ui://w/x"}})]);
    web.set_resources(vec![json!({"uri": "ui://w/x", "name": "page", "mimeType": "text/html"})]);
    let yaml = format!("servers:\n  web:\n    url: {}\naggregate:\n  enabled: true\n", web.url());
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    for era in Era::ALL {
        let mut client =
            McpClient::connect(&format!("{}/mcp", gateway.base()), Some(gateway.key()?), era).await?;
        let list = client.request("tools/list", json!({})).await?;
        let meta = result(&list)?.pointer("/tools/0/_meta").ok_or("no _meta")?;
        assert_eq!(meta, &json!({"ui": {"resourceUri": "ui://web/w/x"}, "ui/resourceUri": "ui://web/w/x"}));
        let read = client.request("resources/read", json!({"uri": "ui://web/w/x"})).await?;
        assert_eq!(result(&read)?["contents"][0]["uri"], "ui://web/w/x");
        let heard =
            web.received().into_iter().rfind(|one| one.method == "resources/read").ok_or("nothing heard")?;
        assert_eq!(heard.json()["params"]["uri"], "ui://w/x");
        let mut linked = json!({"content": [{"type": "resource_link", "name": "a", "uri": "x://a"},
            {"type": "resource", "resource": {"uri": "x://b", "text": "inside"}}]});
        if era == Era::Modern {
            linked["resultType"] = json!("complete");
        }
        web.on("tools/call", Hostile::Answer(linked));
        let answer = client.call("web__app", json!({})).await?;
        let content = &result(&answer)?["content"];
        assert_eq!(content[0]["uri"], "mcp://web/x://a", "{era:?}");
        assert_eq!(content[1]["resource"]["uri"], "mcp://web/x://b", "{era:?}");
        web.heal();
    }
    Ok(())
}

#[tokio::test]
async fn a_list_is_each_callers_own_and_changes_with_the_policy_and_the_catalogue() -> Outcome {
    let role = |name: &str, tools: &str| {
        format!(
            "  {name}:\n    allow:\n      - actions: [connect]\n      - actions: [call_tool]\n        tools: [{tools}]\n"
        )
    };
    let roles = format!("roles:\n{}{}", role("one", "echo"), role("two", "add"));
    let web = HostileServer::start().await?;
    let yaml = format!("servers:\n  web:\n    url: {}\naggregate:\n  enabled: true\n{roles}", web.url());
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let keys = [new_key(&gateway, "one", "one")?, new_key(&gateway, "two", "two")?];
    let lists = async || -> Outcome<Vec<Vec<String>>> {
        let mut lists = Vec::new();
        for path in ["/mcp", "/mcp/web"] {
            for key in &keys {
                let url = format!("{}{path}", gateway.base());
                let mut client = McpClient::connect(&url, Some(key), Era::Modern).await?;
                let names = client.list("tools/list").await?;
                lists.push(
                    names.into_iter().map(|name| name.trim_start_matches("web__").to_owned()).collect(),
                );
            }
        }
        Ok(lists)
    };
    for _ in 0..3 {
        assert_eq!(lists().await?, [["echo"], ["add"], ["echo"], ["add"]]);
    }
    gateway.rewrite(|yaml| yaml.replace(&role("two", "add"), &role("two", "delete")))?;
    gateway.reload()?;
    let due = tokio::time::Instant::now() + SOON;
    while lists().await? != [["echo"], ["delete"], ["echo"], ["delete"]] {
        assert!(tokio::time::Instant::now() < due, "{:?}", lists().await?);
    }
    web.set_tools(vec![json!({"name": "echo", "inputSchema": {"type": "object"}})]);
    let expected: [&[&str]; 4] = [&["echo"], &[], &["echo"], &[]];
    assert_eq!(lists().await?, expected, "`ttlMs: 0` is asked for each time");
    Ok(())
}
