//! What operators look for beyond the detectors there are, and what they say is never a find.

use std::fs;

use portcullis_testkit::{Era, Gateway, Hostile, HostileServer, Outcome};
use portcullis_tests::pair::{Pair, SOON, code_of, entries};
use serde_json::{Value, json};

/// The example of the manual, which is what these tests run.
fn example() -> Outcome<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operate/inspection.md");
    let text = fs::read_to_string(path)?;
    let (_, behind) = text.split_once("## Recognisers of your own").ok_or("no such part")?;
    let (_, code) = behind.split_once("```yaml\n").ok_or("no example")?;
    Ok(code.split_once("```").ok_or("no end")?.0.to_owned())
}

async fn answered(pair: &Pair, era: Era, result: Value) -> Outcome<Value> {
    let mut said = result;
    said["resultType"] = json!("complete");
    pair.server.on("tools/call", Hostile::Answer(said));
    let answer = pair.client(era).await?.call("echo", json!({"text": "x"})).await?;
    assert_eq!(code_of(&answer), "", "{}", answer.reply.text());
    Ok(answer.result().clone())
}

#[tokio::test]
async fn what_the_operator_looks_for_is_masked_in_texts_and_data_and_what_he_allows_passes() -> Outcome {
    let pair = Pair::with(HostileServer::start().await?, &example()?, &[]).await?;
    for era in Era::ALL {
        let text = "employee E-123455 and part E-123455-7, support@acme.example, me@acme.example";
        let data = json!({"employee_id": "E-123455", "part": "E-123455", "wrong": "employee E-123456"});
        let content = json!([{"type": "text", "text": text}]);
        let result = answered(&pair, era, json!({"content": content, "structuredContent": data})).await?;
        let text = result.pointer("/content/0/text").and_then(Value::as_str).unwrap_or_default();
        assert!(text.contains("support@acme.example") && text.contains("[masked:email]"), "{text}");
        assert!(text.starts_with("employee <EMPLOYEE_NUMBER_"), "{text}");
        let data = result.get("structuredContent").ok_or("no data")?;
        let id = data["employee_id"].as_str().unwrap_or_default();
        assert!(id.starts_with("<EMPLOYEE_NUMBER_"), "{data}");
        assert_eq!(data["part"], "E-123455", "nothing says that it is an employee");
        assert_eq!(data["wrong"], "employee E-123456", "the check digit is wrong");
        // Encoded it is the same value.
        let result =
            answered(&pair, era, json!({"content": [{"type": "text", "text": "dGhlIHByb2plY3QgdGl0YW4gaXMgbGF0ZSwgYXMgZXZlcg=="}]}))
                .await?;
        let text = &result["content"][0]["text"];
        assert!(text.as_str().is_some_and(|text| text.contains("[masked:code_name]")), "{text}");
        // What stands for a value becomes the value where a rule restores it, and a word that is denied does not leave.
        let mut client = pair.client(era).await?;
        client.call("echo", json!({"text": id})).await?;
        let sent = pair.server.received().pop().ok_or("nothing was sent")?;
        assert!(String::from_utf8_lossy(&sent.body).contains("E-123455"), "{sent:?}");
        let refused = client.call("echo", json!({"text": "what is Project TITAN?"})).await?;
        assert_eq!(code_of(&refused), "arguments.refused", "{}", refused.reply.text());
    }
    let found = serde_json::to_string(&entries(&pair.gateway, "event=call.outcome").await?)?;
    assert!(found.contains("employee_number") && !found.contains("E-123455"), "{found}");
    Ok(())
}

#[tokio::test]
async fn what_is_cut_by_events_is_found_and_a_reload_looks_for_more() -> Outcome {
    let pair = Pair::with(HostileServer::start().await?, &example()?, &[]).await?;
    let event = |text: &str| {
        let params = json!({"level": "info", "data": text});
        json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params}).to_string()
    };
    let end = json!({"jsonrpc": "2.0", "id": "$ID", "result": {"content": [], "resultType": "complete"}});
    let events = ["employee E-12", "3455 came"].map(event).to_vec();
    let all = [events, vec![end.to_string().replace("\"$ID\"", "$ID")]].concat();
    pair.server.on("tools/call", Hostile::Events(all));
    let answer = pair.client(Era::Modern).await?.call("echo", json!({"text": "x"})).await?;
    let text = answer.reply.text();
    assert!(!text.contains("3455"), "{text}");
    let wanted = "VIP-77";
    let result = json!({"content": [{"type": "text", "text": wanted}]});
    assert_eq!(answered(&pair, Era::Modern, result.clone()).await?["content"][0]["text"], wanted);
    pair.gateway.rewrite(|yaml| {
        yaml.replace("recognisers:\n", "recognisers:\n  vip:\n    patterns: ['VIP-\\d{2}']\n")
    })?;
    pair.gateway.reload()?;
    let due = std::time::Instant::now() + SOON;
    while answered(&pair, Era::Modern, result.clone()).await?["content"][0]["text"] == wanted {
        assert!(std::time::Instant::now() < due, "{}", pair.gateway.output());
    }
    assert_eq!(entries(&pair.gateway, "event=config.changed").await?.len(), 1);
    Ok(())
}

#[test]
fn recognisers_that_cannot_work_are_refused_with_place_and_reason() -> Outcome {
    let prepared = Gateway::builder().config("{}").prepare()?;
    for (yaml, place, reason) in [
        ("recognisers: {a: {patterns: ['x+']}}", "1:15: recognisers.a", "without end"),
        ("recognisers: {a: {patterns: ['(']}}", "1:15: recognisers.a", "unclosed group"),
        ("recognisers: {a: {}}", "1:15: recognisers.a", "nothing is looked for"),
        ("recognisers: {email: {words: [x]}}", "recognisers.email", "a detector of this name"),
        ("recognisers: {A-b: {words: [x]}}", "recognisers.A-b", "cannot be the name"),
        ("inspect: {vip: {answers: pass}}", "inspect.vip", "unknown key"),
        ("inspect: {email: {allow: ['*']}}", "inspect.email.allow", "would allow everything"),
    ] {
        fs::write(prepared.folder().join("portcullis.yaml"), yaml)?;
        let output = prepared.command(&["check"])?;
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success() && text.contains(place) && text.contains(reason), "{yaml}: {text}");
    }
    Ok(())
}

#[test]
fn a_text_can_be_tried_with_recognisers_and_what_is_allowed_is_no_find() -> Outcome {
    let prepared = Gateway::builder().config(&example()?).prepare()?;
    fs::write(prepared.folder().join("text"), "employee E-123455, support@acme.example, me@acme.example")?;
    let output = prepared.command(&["inspect", "test", "text", "--json"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said: Value = serde_json::from_str(&text).map_err(|_| text.clone())?;
    let found = said["findings"].as_array().ok_or_else(|| text.clone())?;
    let kinds: Vec<&str> = found.iter().filter_map(|one| one["detector"].as_str()).collect();
    assert_eq!(kinds, ["email", "employee_number"], "{text}");
    Ok(())
}
