//! What a result may hold: the structure that its tool promised, and no URL that nobody should open.

use portcullis_testkit::{Era, Hostile, HostileServer, Outcome};
use portcullis_tests::pair::{Pair, SOON, code_of, entries, refusals};
use serde_json::{Value, json};

/// Results of a tool whose output schema wants a number `sum`, and whether they fit.
fn results() -> Vec<(Value, bool)> {
    let result = |content: Value| json!({"content": [], "structuredContent": content});
    vec![
        (result(json!({"sum": 3})), true),
        (result(json!({"sum": 3, "more": 1})), true),
        (result(json!({"sum": "3"})), false),
        (result(json!({})), false),
        (result(json!([1])), false),
        (json!({"content": [{"type": "text", "text": "3"}]}), false),
        (json!({"content": [], "isError": true}), true),
        (json!({"content": [], "structuredContent": {"sum": "3"}, "task": {}}), false),
    ]
}

#[tokio::test]
async fn a_result_that_does_not_fit_the_pinned_output_schema_is_refused_or_only_recorded() -> Outcome {
    for (extra, refuses) in
        [("", true), ("    output_schema: refuse\n", true), ("    output_schema: record\n", false)]
    {
        for era in Era::ALL {
            let pair = Pair::with(HostileServer::start().await?, extra, &[]).await?;
            let mut client = pair.client(era).await?;
            let mut unfit = 0;
            for (nth, (mut result, fits)) in results().into_iter().enumerate() {
                if era == Era::Modern {
                    result["resultType"] = json!("complete");
                }
                // Both ways in which an answer travels.
                let behaviour = if nth % 2 == 0 {
                    Hostile::Answer(result.clone())
                } else {
                    Hostile::Events(vec![format!(r#"{{"jsonrpc":"2.0","id":$ID,"result":{result}}}"#)])
                };
                pair.server.on("tools/call", behaviour);
                let answer = client.call("add", json!({"a": 1, "b": 2})).await?;
                unfit += usize::from(!fits);
                let what = format!("{extra} {era:?} {result}: {}", answer.reply.text());
                if fits || !refuses {
                    assert_eq!(code_of(&answer), "", "{what}");
                    assert_eq!(answer.result()["structuredContent"], result["structuredContent"], "{what}");
                } else {
                    assert_eq!(code_of(&answer), "answer.schema", "{what}");
                    assert_eq!(answer.result()["isError"], true, "a model learns of it: {what}");
                    assert!(!answer.reply.text().contains("\"3\""), "{what}");
                }
            }
            let event = if refuses { "call.refused" } else { "call.outcome" };
            let recorded = entries(&pair.gateway, &format!("event={event}&code=answer.schema")).await?;
            assert_eq!(recorded.len(), unfit, "{extra} {era:?}");
            assert!(recorded.iter().all(|entry| entry["intent"].is_u64()));
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_output_schema_that_cannot_be_used_refuses_results_and_one_that_is_costly_is_not_run() -> Outcome {
    let twice =
        |n: usize| json!({"allOf": [{"$ref": format!("#/$defs/d{n}")}, {"$ref": format!("#/$defs/d{n}")}]});
    let mut bomb = json!({"$ref": "#/$defs/d40", "$defs": {"d0": {"type": "string"}}});
    for n in 0..40 {
        bomb["$defs"][format!("d{}", n + 1)] = twice(n);
    }
    for schema in [json!({"type": 7}), json!({"$ref": "https://evil.example/schema.json"}), bomb] {
        let server = HostileServer::start().await?;
        let tool = json!({"name": "add", "inputSchema": {"type": "object"}, "outputSchema": schema});
        server.set_tools(vec![tool]);
        let pair = Pair::with(server, "", &[]).await?;
        let mut client = pair.modern()?;
        pair.server.on("tools/call", Hostile::Answer(json!({"content": [], "structuredContent": {}})));
        let answer = client.call("add", json!({})).await?;
        assert_eq!(code_of(&answer), "answer.schema", "{schema}: {}", answer.reply.text());
    }
    Ok(())
}

/// URLs that a server wants opened, and whether they reach the client.
const URLS: [(&str, bool); 5] = [
    ("https://accounts.example/consent?id=1", true),
    ("http://127.0.0.1:9/consent", true),
    ("http://accounts.example/consent", false),
    ("https://bank.example@evil.example/", false),
    ("javascript:alert(1)", false),
];

#[tokio::test]
async fn a_question_with_a_url_that_nobody_should_open_reaches_no_client_of_either_revision() -> Outcome {
    let extra = "    server_requests: [elicitation]\n";
    for (url, passes) in URLS {
        let params = json!({"mode": "url", "message": "sign in", "url": url, "elicitationId": "e-1"});
        // 2026-07-28: inside a result.
        let pair = Pair::with(HostileServer::start().await?, extra, &[]).await?;
        let mut client = pair.modern()?;
        let asked = json!({"a": {"method": "elicitation/create", "params": params}});
        let result = json!({"resultType": "input_required", "requestState": "s", "inputRequests": asked});
        pair.server.on("tools/call", Hostile::Answer(result));
        let answer = client.call("echo", json!({"text": "x"})).await?;
        let code = if passes { "" } else { "server_request.url" };
        assert_eq!(code_of(&answer), code, "{url}: {}", answer.reply.text());
        assert_eq!(answer.reply.text().contains(url), passes, "{}", answer.reply.text());
        if !passes {
            assert!(refusals(&pair.gateway, code, 1).await?[0]["intent"].is_u64());
        }

        // 2025-11-25: a request on the stream, which is declined, and the error that asks for it.
        let pair = Pair::with(HostileServer::start().await?, extra, &[]).await?;
        let mut client = pair.client(Era::Legacy).await?;
        let question =
            json!({"jsonrpc": "2.0", "id": "q-1", "method": "elicitation/create", "params": params});
        let result = r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"text","text":"done"}]}}"#;
        pair.server.on("tools/call", Hostile::Events(vec![question.to_string(), result.into()]));
        let answer = client.call("echo", json!({"text": "x"})).await?;
        assert_eq!(answer.text(), "done", "{url}");
        assert_eq!(answer.reply.text().contains(url), passes, "{url}: {}", answer.reply.text());
        let recorded = entries(&pair.gateway, "event=server.request").await?;
        assert_eq!(recorded[0]["code"].as_str().unwrap_or_default(), code, "{url}");
        if !passes {
            let declined = |server: &HostileServer| {
                server.received().iter().any(|request| request.json()["error"].is_object())
            };
            pair.server.wait_until(SOON, declined).await?;
        }
        let error = json!({"code": -32042, "message": "sign in first", "data": {"elicitations": [params]}});
        let error = format!(r#"{{"jsonrpc":"2.0","id":$ID,"error":{error}}}"#);
        pair.server.on("tools/call", Hostile::Events(vec![error]));
        let answer = client.call("echo", json!({"text": "x"})).await?;
        assert_eq!(code_of(&answer), code, "{url}: {}", answer.reply.text());
        assert_eq!(answer.reply.text().contains(url), passes, "{url}: {}", answer.reply.text());
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_may_not_ask_may_not_ask_by_an_error_either() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let mut client = pair.client(Era::Legacy).await?;
    let error = r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32042,"message":"x","data":{"elicitations":[{"mode":"url","url":"https://a.example/"}]}}}"#;
    pair.server.on("tools/call", Hostile::Events(vec![error.into()]));
    let answer = client.call("echo", json!({"text": "x"})).await?;
    assert_eq!(code_of(&answer), "server_request.denied", "{}", answer.reply.text());
    assert!(!answer.reply.text().contains("a.example"));
    assert!(refusals(&pair.gateway, "server_request.denied", 1).await?[0]["intent"].is_u64());
    Ok(())
}
