//! Long-running tasks of both revisions: whose they are, what the server is told, and that what comes late is judged
//! like what comes at once.

use portcullis_testkit::{Era, Gateway, Hostile, HostileServer, McpClient, Outcome};
use portcullis_tests::pair::{Pair, SOON, code_of, entries, known, new_key, refusals};
use serde_json::{Value, json};

/// The answer to `tools/call` by which a task begins, in each revision.
fn begun(era: Era, own: &str) -> Value {
    let task = json!({"taskId": own, "status": "working", "createdAt": "2026-11-22T00:00:00Z",
        "lastUpdatedAt": "2026-11-22T00:00:00Z", "ttl": 60000});
    match era {
        Era::Legacy => json!({"task": task}),
        Era::Modern => {
            let mut result = task;
            result["resultType"] = "task".into();
            result
        }
    }
}

/// Calls a tool that becomes the task `own`; returns the id that the client gets.
async fn begin(server: &HostileServer, client: &mut McpClient, own: &str) -> Outcome<String> {
    server.on("tools/call", Hostile::Answer(begun(client.era, own)));
    let mut params = json!({"name": "echo", "arguments": {"text": "x"}});
    if client.era == Era::Legacy {
        params["task"] = json!({"ttl": 60000});
    }
    let answer = client.request("tools/call", params).await?;
    let place = if client.era == Era::Legacy { "/task/taskId" } else { "/taskId" };
    let id = answer.result().pointer(place).and_then(Value::as_str);
    Ok(id.ok_or_else(|| answer.reply.text())?.to_owned())
}

#[tokio::test]
async fn a_task_is_its_callers_alone_and_its_server_hears_its_own_id_in_body_and_header() -> Outcome {
    let mut pair = Pair::start(&[]).await?;
    let other_key = new_key(&pair.gateway, "other", "operator")?;
    for era in Era::ALL {
        let mut client = pair.client(era).await?;
        let sealed = begin(&pair.server, &mut client, "job-1").await?;
        assert!(sealed.starts_with("pct_") && !sealed.contains("job"), "{sealed}");
        pair.server.on(
            "tasks/get",
            Hostile::Answer(json!({"resultType": "complete", "taskId": "job-1",
            "status": "working"})),
        );
        let answer = client.request("tasks/get", json!({"taskId": sealed})).await?;
        assert_eq!(answer.result()["taskId"], *sealed, "{}", answer.reply.text());
        let heard = pair.server.received().into_iter().rfind(|request| request.method == "tasks/get");
        let heard = heard.ok_or("the server heard nothing")?;
        assert_eq!(heard.json()["params"]["taskId"], "job-1");
        assert_eq!(heard.header("mcp-name"), (era == Era::Modern).then_some("job-1"));
        let count = pair.server.count("tasks/get");
        let mut other = McpClient::connect(&pair.gateway.url("s"), Some(&other_key), era).await?;
        for (others, id) in [(true, &*sealed), (false, "job-1"), (false, "pct_AAAA")] {
            let who = if others { &mut other } else { &mut client };
            for method in ["tasks/get", "tasks/cancel"] {
                let answer = who.request(method, json!({"taskId": id})).await?;
                assert_eq!((code_of(&answer).as_str(), answer.error_code()), ("task.unknown", Some(-32602)));
            }
        }
        assert_eq!(pair.server.count("tasks/get"), count, "a task of another reached the server");
        refusals(&pair.gateway, "task.unknown", 6).await?;
        if era == Era::Modern {
            pair.gateway.stop().await?;
            pair.gateway.start_again().await?;
            known(&pair.gateway, SOON).await?;
            let answer = client.request("tasks/get", json!({"taskId": sealed})).await?;
            assert_eq!(answer.result()["taskId"], *sealed, "lost by a restart: {}", answer.reply.text());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_list_of_tasks_shows_a_caller_its_own_and_an_answer_about_another_is_withheld() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let other_key = new_key(&pair.gateway, "other", "operator")?;
    let mut client = pair.client(Era::Legacy).await?;
    let mut other = McpClient::connect(&pair.gateway.url("s"), Some(&other_key), Era::Legacy).await?;
    let mine = begin(&pair.server, &mut client, "job-1").await?;
    let theirs = begin(&pair.server, &mut other, "job-2").await?;
    let all = json!({"tasks": [{"taskId": "job-2", "status": "working"}, {"taskId": "job-1",
        "status": "working"}, {"taskId": "job-3", "status": "working"}]});
    pair.server.on("tasks/list", Hostile::Answer(all));
    for (who, id) in [(&mut client, &mine), (&mut other, &theirs)] {
        let answer = who.request("tasks/list", json!({})).await?;
        assert_eq!(answer.result(), &json!({"tasks": [{"taskId": id, "status": "working"}]}));
    }
    pair.server.on("tasks/get", Hostile::Answer(json!({"taskId": "job-2", "status": "working"})));
    let answer = client.request("tasks/get", json!({"taskId": mine})).await?;
    assert_eq!(code_of(&answer), "answer.invalid", "{}", answer.reply.text());
    Ok(())
}

#[tokio::test]
async fn what_a_task_answers_late_is_masked_as_the_call_that_began_it_was_permitted() -> Outcome {
    let server = HostileServer::start().await?;
    let role = "roles:\n  r:\n    allow:\n      - actions: [connect, task]\n      - actions: [call_tool]\n        tools: [echo]\n        mask: [email]\n";
    let yaml = format!("servers:\n  s:\n    url: {}\n{role}", server.url());
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let keys = [(new_key(&gateway, "k", "r")?, true), (gateway.key()?.to_owned(), false)];
    let late = json!({"content": [{"type": "text", "text": "write to ada@example.org"}]});
    for era in Era::ALL {
        for (key, masked) in &keys {
            let mut client = McpClient::connect(&gateway.url("s"), Some(key), era).await?;
            let sealed = begin(&server, &mut client, "job-1").await?;
            let (method, result) = match era {
                Era::Legacy => ("tasks/result", late.clone()),
                Era::Modern => (
                    "tasks/get",
                    json!({"resultType": "complete", "taskId": "job-1",
                    "status": "completed", "result": late}),
                ),
            };
            server.on(method, Hostile::Answer(result));
            let answer = client.request(method, json!({"taskId": sealed})).await?;
            let text = answer.reply.text();
            assert_eq!(text.contains("[masked:email]"), *masked, "{era:?}: {text}");
            assert_eq!(text.contains("ada@example.org"), !*masked, "{era:?}: {text}");
            let outcome = entries(&gateway, "event=call.outcome&tool=echo&last=1").await?;
            assert_eq!(outcome[0]["method"], method, "{outcome:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_task_of_a_tool_that_changed_or_may_no_longer_be_called_is_withheld() -> Outcome {
    let server = HostileServer::start().await?;
    let role = |tools: &str| {
        format!(
            "roles:\n  r:\n    allow:\n      - actions: [connect, task]\n      - actions: [call_tool]\n        tools: [{tools}]\n"
        )
    };
    let yaml = format!(
        "servers:\n  s:\n    url: {}\n{}limits:\n  catalog_refresh_ms: 100\n",
        server.url(),
        role("echo")
    );
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let key = new_key(&gateway, "k", "r")?;
    let mut client = McpClient::connect(&gateway.url("s"), Some(&key), Era::Modern).await?;
    let sealed = begin(&server, &mut client, "job-1").await?;
    server.on(
        "tasks/get",
        Hostile::Answer(json!({"resultType": "complete", "taskId": "job-1",
        "status": "working"})),
    );
    server.on("tasks/cancel", Hostile::Answer(json!({"resultType": "complete"})));
    let due = std::time::Instant::now() + SOON;
    server.set_tools(vec![json!({"name": "echo", "description": "new", "inputSchema": {"type": "object"}})]);
    loop {
        let answer = client.request("tasks/get", json!({"taskId": sealed})).await?;
        if code_of(&answer) == "definition.changed" {
            break;
        }
        assert!(std::time::Instant::now() < due, "still told: {}", answer.reply.text());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let answer = client.request("tasks/cancel", json!({"taskId": sealed})).await?;
    assert_eq!(code_of(&answer), "", "what runs can be stopped: {}", answer.reply.text());
    gateway.rewrite(|yaml| yaml.replace(&role("echo"), &role("add")))?;
    gateway.reload()?;
    loop {
        let answer = client.request("tasks/cancel", json!({"taskId": sealed})).await?;
        if code_of(&answer) == "task.unknown" {
            return Ok(());
        }
        assert!(std::time::Instant::now() < due, "still followed: {}", answer.reply.text());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_a_task_asks_is_asked_only_where_the_server_may_ask() -> Outcome {
    for (allowed, code) in [("", "server_request.denied"), ("    server_requests: [elicitation]\n", "")] {
        let pair = Pair::with(HostileServer::start().await?, allowed, &[]).await?;
        let mut client = pair.client(Era::Modern).await?;
        let sealed = begin(&pair.server, &mut client, "job-1").await?;
        pair.server.on(
            "tasks/get",
            Hostile::Answer(json!({"resultType": "complete", "taskId": "job-1",
            "status": "input_required", "inputRequests": {"n": {"method": "elicitation/create",
            "params": {"message": "name?", "requestedSchema": {"type": "object", "properties": {}}}}}})),
        );
        let answer = client.request("tasks/get", json!({"taskId": sealed})).await?;
        assert_eq!(code_of(&answer), code, "{}", answer.reply.text());
        pair.server.on("tasks/update", Hostile::Answer(json!({"resultType": "complete"})));
        let params = json!({"taskId": sealed, "inputResponses": {"n": {"action": "decline"}}});
        let answer = client.request("tasks/update", params).await?;
        assert_eq!(answer.status(), 200, "{}", answer.reply.text());
        let heard = pair.server.received().into_iter().rfind(|request| request.method == "tasks/update");
        assert_eq!(heard.ok_or("nothing heard")?.json()["params"]["taskId"], "job-1");
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_tells_a_caller_of_its_own_tasks_alone() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let mut client = pair.client(Era::Modern).await?;
    let sealed = begin(&pair.server, &mut client, "job-1").await?;
    let status = |own: &str, text: &str| {
        json!({"jsonrpc": "2.0", "method": "notifications/tasks", "params": {"taskId": own,
            "status": "completed", "result": {"content": [{"type": "text", "text": text}]}}})
        .to_string()
    };
    let ack = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
        "params": {"notifications": {"taskIds": ["job-1", "job-2"]}}});
    let events =
        vec![ack.to_string(), status("job-2", "not yours"), status("job-1", "card 4111111111111111")];
    pair.server.on("subscriptions/listen", Hostile::Events(events));
    let params = json!({"notifications": {"taskIds": [sealed]}});
    let answer = client.request("subscriptions/listen", params).await?;
    let text = answer.reply.text();
    assert_eq!(answer.messages[0]["params"]["notifications"]["taskIds"], json!([sealed]), "{text}");
    assert!(!text.contains("not yours") && !text.contains("job-"), "{text}");
    assert!(text.contains("[masked:payment_card]") && !text.contains("4111111111111111"), "{text}");
    let heard = pair.server.received().into_iter().rfind(|request| request.method == "subscriptions/listen");
    let heard = heard.ok_or("nothing heard")?.json();
    assert_eq!(heard["params"]["notifications"]["taskIds"], json!(["job-1"]));
    let answer =
        client.request("subscriptions/listen", json!({"notifications": {"taskIds": ["job-2"]}})).await?;
    assert_eq!(code_of(&answer), "task.unknown");
    Ok(())
}
