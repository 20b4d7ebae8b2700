//! What detectors see on its way through the gateway, in every place and encoding, and what `portcullis inspect` says.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use portcullis_testkit::{Era, Gateway, Hostile, HostileServer, McpClient, Outcome};
use portcullis_tests::pair::{Pair, code_of, entries, new_key};
use serde_json::{Value, json};

/// A token of a provider's format; put together here so that no scanner of this repository takes it for one.
fn secret() -> String {
    ["ghp_", "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"].concat()
}

/// The secret as a text that a model or a program would read it from.
fn disguises() -> Vec<String> {
    let plain = format!("the token is {}", secret());
    let bytes = |each: fn(u8) -> String| plain.bytes().map(each).collect::<String>();
    vec![
        plain.clone(),
        BASE64_STANDARD.encode(&plain),
        BASE64_STANDARD.encode(BASE64_STANDARD.encode(&plain)),
        bytes(|byte| format!("{byte:02x}")),
        bytes(|byte| format!("%{byte:02X}")),
        bytes(|byte| format!("&#x{byte:x};")),
        bytes(|byte| format!("\\u{byte:04x}")),
        json!({ "deep": json!({ "text": plain }).to_string() }).to_string(),
    ]
}

#[tokio::test]
async fn a_secret_is_masked_in_every_place_of_an_answer_and_in_every_encoding() -> Outcome {
    let pair = Pair::with(HostileServer::start().await?, "", &[]).await?;
    for hidden in disguises() {
        pair.server.on(
            "tools/call",
            Hostile::Answer(json!({
                "resultType": "complete",
                "content": [
                    {"type": "text", "text": format!("see ({hidden})"), "annotations": {"note": hidden}},
                    {"type": "resource_link", "uri": "a://b", "name": "n", "description": hidden},
                    {"type": "resource", "resource": {"uri": "a://b", "text": hidden}},
                    {"type": "resource", "resource": {"uri": "a://b", "blob": BASE64_STANDARD.encode(&hidden)}},
                ],
                "structuredContent": {"rows": [{"value": hidden}]},
                "_meta": {"com.example/x": hidden},
            })),
        );
        for era in Era::ALL {
            let mut client = pair.client(era).await?;
            let answer = client.call("echo", json!({"text": "x"})).await?;
            let text = answer.reply.text();
            assert!(!text.contains(&hidden) && !text.contains(&secret()), "{hidden}: {text}");
            let content = &answer.result()["content"];
            assert_eq!(content[2]["resource"]["text"], masked(&hidden), "{text}");
            for place in [
                "/content/0/text",
                "/content/0/annotations/note",
                "/content/1/description",
                "/content/3/resource/blob",
                "/structuredContent/rows/0/value",
                "/_meta/com.example~1x",
            ] {
                let seen =
                    answer.result().pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned();
                assert!(seen.contains("[masked:credentials]"), "{hidden}: {place}: {seen}");
            }
        }
    }
    let outcomes = entries(&pair.gateway, "event=call.outcome").await?;
    let told = |entry: &&Value| entry["findings"].as_array().is_some_and(|all| all.len() >= 7);
    assert_eq!(outcomes.iter().filter(told).count(), disguises().len() * Era::ALL.len(), "{outcomes:?}");
    assert!(!serde_json::to_string(&outcomes)?.contains(&secret()));
    Ok(())
}

/// What is left of a text when the secret is masked: of what was encoded as a whole, nothing.
fn masked(hidden: &str) -> String {
    match hidden.split_once(&secret()) {
        Some((before, after)) => format!("{before}[masked:credentials]{after}"),
        None if hidden.starts_with(['%', '&', '\\']) => {
            let unit = hidden.len() / format!("the token is {}", secret()).len();
            format!("{}[masked:credentials]", hidden.get(..unit * "the token is ".len()).unwrap_or_default())
        }
        None => "[masked:credentials]".to_owned(),
    }
}

/// A request, what its server answers, and in which revisions it can.
type Kind = (&'static str, Value, Hostile, &'static [Era]);

const BOTH: &[Era] = &[Era::Modern, Era::Legacy];

fn call() -> Value {
    json!({"name": "echo", "arguments": {"text": "x"}, "_meta": {"progressToken": "p"}})
}

/// Everything that a server can answer with, saying that.
fn answers(said: &str, blob: &str) -> Vec<Kind> {
    let done = |mut result: Value| {
        result["resultType"] = json!("complete");
        Hostile::Answer(result)
    };
    let schema = json!({"type": "object", "properties": {"a": {"type": "string", "description": said}}});
    let form = json!({"mode": "form", "message": said, "requestedSchema": schema});
    let asked = json!({"a": {"method": "elicitation/create", "params": form}});
    let text = json!({"type": "text", "text": said});
    let image = json!({"type": "image", "mimeType": "image/svg+xml", "data": blob});
    let one = json!({"uri": "hostile://one", "blob": blob});
    let page = json!({"uri": "ui://page", "mimeType": "text/html;profile=mcp-app", "text": format!("<p>{said}</p>"),
        "_meta": {"ui": {"csp": {"connectDomains": [said]}}}});
    let prompt = json!({"description": said, "messages": [{"role": "user", "content": text}]});
    let argument =
        json!({"ref": {"type": "ref/prompt", "name": "one"}, "argument": {"name": "a", "value": "l"}});
    vec![
        ("tools/call", call(), Hostile::AnswerError(200, -32000, said.to_owned()), BOTH),
        ("tools/call", call(), done(json!({"isError": true, "content": [text]})), BOTH),
        ("tools/call", call(), done(json!({"content": [image]})), BOTH),
        (
            "tools/call",
            call(),
            Hostile::Answer(
                json!({"resultType": "input_required", "requestState": "s", "inputRequests": asked}),
            ),
            &[Era::Modern],
        ),
        ("resources/read", json!({"uri": "hostile://one"}), done(json!({"contents": [one]})), BOTH),
        ("resources/read", json!({"uri": "ui://page"}), done(json!({"contents": [page]})), BOTH),
        ("prompts/get", json!({"name": "one"}), done(prompt), BOTH),
        ("completion/complete", argument, done(json!({"completion": {"values": [said]}})), BOTH),
    ]
}

/// Everything that a server can say beside its answer.
fn asides(said: &str) -> Vec<Kind> {
    const LAST: &str = r#"{"jsonrpc":"2.0","id":$ID,"result":{"content":[],"resultType":"complete"}}"#;
    let aside = |method: &str, params: Value, asks: bool| {
        let mut note = json!({"jsonrpc": "2.0", "method": method, "params": params});
        if asks {
            note["id"] = json!("q");
        }
        Hostile::Events(vec![note.to_string(), LAST.to_owned()])
    };
    let log = json!({"level": "info", "logger": said, "data": {"a": [said]}});
    let progress = json!({"progressToken": "p", "progress": 1, "message": said});
    let schema = json!({"type": "object", "properties": {"a": {"type": "string", "description": said}}});
    let form = json!({"message": said, "requestedSchema": schema});
    let messages = json!([{"role": "user", "content": {"type": "text", "text": said}}]);
    let sample = json!({"maxTokens": 1, "systemPrompt": said, "messages": messages});
    vec![
        ("tools/call", call(), aside("notifications/message", log, false), BOTH),
        ("tools/call", call(), aside("notifications/progress", progress, false), BOTH),
        ("tools/call", call(), aside("elicitation/create", form, true), &[Era::Legacy]),
        ("tools/call", call(), aside("sampling/createMessage", sample, true), &[Era::Legacy]),
    ]
}

#[tokio::test]
async fn every_kind_of_message_of_a_server_is_inspected() -> Outcome {
    let server = HostileServer::start().await?;
    let resources = ["hostile://one", "ui://page"].map(|uri| json!({"uri": uri, "name": uri}));
    server.set_resources(resources.into());
    server.set_prompts(vec![json!({"name": "one"})]);
    let extra = "    server_requests: [elicitation, sampling, roots]\ninspect:\n  email: {answers: mask}\n";
    let pair = Pair::with(server, extra, &[]).await?;
    let said = "write to leak@corp-mail.test now";
    let blob = BASE64_STANDARD.encode(format!("<html>{said}</html>"));
    for (method, params, answer, eras) in answers(said, &blob).into_iter().chain(asides(said)) {
        for era in eras {
            let mut client = pair.client(*era).await?;
            pair.server.on(method, answer.clone());
            let text = client.request(method, params.clone()).await?.reply.text();
            let masked =
                text.contains("[masked:email]") && !text.contains("corp-mail") && !text.contains(&blob);
            assert!(masked, "{era:?} {method} {answer:?}: {text}");
        }
    }
    // What a server says of itself when it is met.
    let version = "2025-11-25";
    let introduced = json!({"protocolVersion": version, "capabilities": {"tools": {}}, "instructions": said,
        "serverInfo": {"name": "s", "version": "1", "title": said}});
    pair.server.on("initialize", Hostile::Answer(introduced));
    let mut client = McpClient::new(&pair.gateway.url("s"), Some(pair.gateway.key()?), Era::Legacy);
    let who = json!({"name": "c", "version": "1"});
    let hello = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": who});
    let text = client.request("initialize", hello).await?.reply.text();
    assert!(text.contains("[masked:email]") && !text.contains("corp-mail"), "{text}");
    Ok(())
}

#[tokio::test]
async fn what_a_caller_sends_is_unwrapped_as_well() -> Outcome {
    let pair =
        Pair::with(HostileServer::start().await?, "inspect:\n  credentials: {arguments: refuse}\n", &[])
            .await?;
    for hidden in disguises() {
        for era in Era::ALL {
            let mut client = pair.client(era).await?;
            let answer = client.call("echo", json!({"text": hidden})).await?;
            assert_eq!(code_of(&answer), "arguments.refused", "{hidden}: {}", answer.reply.text());
        }
    }
    assert_eq!(pair.server.count("tools/call"), 0);
    Ok(())
}

#[tokio::test]
async fn an_operator_where_a_value_is_meant_is_refused_and_one_in_a_filter_is_not() -> Outcome {
    let server = HostileServer::start().await?;
    let find = json!({"name": "find", "description": "Finds people.", "inputSchema": {"type": "object"}});
    server.set_tools(vec![find]);
    let pair = Pair::with(server, "inspect:\n  nosql_injection: {arguments: refuse}\n", &[]).await?;
    for (arguments, expected) in [
        (json!({"user": "admin", "password": {"$ne": null}}), "arguments.refused"),
        (json!({"user": {"name": [{"$regex": ".*"}]}}), "arguments.refused"),
        (json!({"password[$gt]": ""}), "arguments.refused"),
        (json!({"user": "{\"$gt\": \"\"}"}), "arguments.refused"),
        (json!({"filter": {"$where": "sleep(1000)"}}), "arguments.refused"),
        (json!({"filter": {"age": {"$gt": 18}}, "limit": 3}), ""),
        (json!({"pipeline": [{"$match": {"$or": [{"a": 1}, {"b": {"$in": [1, 2]}}]}}]}), ""),
        (json!({"schema": {"$ref": "#/$defs/x"}, "price": "$in"}), ""),
    ] {
        for era in Era::ALL {
            let answer = pair.client(era).await?.call("find", arguments.clone()).await?;
            assert_eq!(code_of(&answer), expected, "{arguments}: {}", answer.reply.text());
        }
    }
    let refused = entries(&pair.gateway, "event=call.refused").await?;
    let places: Vec<&Value> = refused.iter().map(|entry| &entry["findings"][0]["place"]).collect();
    assert_eq!(places[0], "/params/arguments/password/$ne", "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_masked_looks_as_the_configuration_says_and_a_pseudonym_stays_the_same() -> Outcome {
    let yaml = "inspect:\n  email: {answers: mask, form: pseudonym}\n  payment_card: {form: stars}\n";
    let pair = Pair::with(HostileServer::start().await?, yaml, &[]).await?;
    let says = |text: &str| {
        Hostile::Answer(json!({"resultType": "complete", "content": [{"type": "text", "text": text}]}))
    };
    let mut seen = Vec::new();
    for (text, era) in [
        ("a@example.com 4111 1111 1111 1111", Era::Modern),
        ("b@example.com", Era::Modern),
        ("a@example.com", Era::Legacy),
    ] {
        pair.server.on("tools/call", says(text));
        let answer = pair.client(era).await?.call("echo", json!({"text": "x"})).await?;
        seen.push(answer.result()["content"][0]["text"].as_str().unwrap_or_default().to_owned());
    }
    let [first, other, again] = seen.as_slice() else { panic!("{seen:?}") };
    assert!(first.starts_with("[email:") && *first == format!("{again} **** **** **** 1111"), "{seen:?}");
    assert!(other.starts_with("[email:") && other != again, "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn a_token_stands_for_a_value_that_only_the_tools_see_which_policy_lets() -> Outcome {
    let rules = "inspect:\n  email: {answers: mask, form: token}\nroles:\n  agent:\n    allow:\n      \
        - actions: [connect]\n      - actions: [call_tool]\n        tools: [read, note]\n      \
        - actions: [call_tool]\n        tools: [send]\n        restore: [email]\n";
    let server = HostileServer::start().await?;
    server.set_tools(
        ["read", "note", "send"].map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).into(),
    );
    let pair = Pair::with(server, rules, &[]).await?;
    let key = new_key(&pair.gateway, "agent", "agent")?;
    let page = "from me@example.com, to me@example.com and you@example.org";
    let content = json!([{"type": "text", "text": page}]);
    pair.server.on("tools/call", Hostile::Answer(json!({"resultType": "complete", "content": content})));
    for era in Era::ALL {
        let mut client = McpClient::connect(&pair.gateway.url("s"), Some(&key), era).await?;
        let answer = client.call("read", json!({})).await?;
        let seen = answer.result()["content"][0]["text"].as_str().unwrap_or_default().to_owned();
        assert!(!seen.contains("example"), "{seen}");
        let tokens: Vec<&str> = seen.split(' ').filter(|word| word.starts_with("<EMAIL_")).collect();
        let [mine, again, yours] = tokens.as_slice() else { panic!("{seen}") };
        let mine = mine.trim_end_matches(',');
        assert!(mine == *again && mine != *yours, "{seen}");
        pair.server.forget();
        let arguments = json!({"to": [yours], "cc": mine, "body": format!("{mine} says: {seen}"), "n": 1});
        for tool in ["send", "note"] {
            let answer = client.call(tool, arguments.clone()).await?;
            assert!(!answer.reply.text().contains("example"), "{}", answer.reply.text());
        }
        let forwarded: Vec<Value> = pair
            .server
            .received()
            .iter()
            .map(portcullis_testkit::Received::json)
            .filter(|message| message["method"] == "tools/call")
            .map(|message| message["params"]["arguments"].clone())
            .collect();
        let plain = json!({"to": ["you@example.org"], "cc": "me@example.com",
            "body": format!("me@example.com says: {page}"), "n": 1});
        assert_eq!(forwarded, [plain, arguments]);
    }
    let intents = entries(&pair.gateway, "event=call.intent").await?;
    let told = |entry: &&Value| entry["findings"].as_array().is_some_and(|all| all.len() == 6);
    assert_eq!(intents.iter().filter(told).count(), Era::ALL.len(), "{intents:?}");
    assert!(!serde_json::to_string(&intents)?.contains("example.com"));
    Ok(())
}

#[tokio::test]
async fn a_preset_masks_what_its_rule_names_and_what_the_operator_says_overrules_it() -> Outcome {
    let binary = Gateway::builder().prepare()?.binary().to_path_buf();
    let folder = tempfile::tempdir()?;
    let page = format!(
        "mail me@example.com, IBAN DE89370400440532013000, card 4111 1111 1111 1111, MRN: 00482913, token {}",
        secret()
    );
    std::fs::write(folder.path().join("page"), &page)?;
    for (yaml, email, iban, card, record) in [
        ("", "me@example.com", "DE89370400440532013000", "[masked:payment_card]", "00482913"),
        (
            "privacy: {preset: gdpr}",
            "[email:",
            "[masked:iban]",
            "[masked:payment_card]",
            "[masked:medical_record]",
        ),
        (
            "privacy: {preset: hipaa-safe-harbor}\ninspect: {email: {answers: pass}}",
            "me@example.com",
            "[masked:iban]",
            "[masked:payment_card]",
            "[masked:medical_record]",
        ),
        (
            "privacy: {preset: pci}",
            "me@example.com",
            "DE89370400440532013000",
            "**** **** **** 1111",
            "00482913",
        ),
        ("privacy: {preset: none-but-secrets}", "me@example.com", "DE89", "4111 1111 1111 1111", "00482913"),
    ] {
        std::fs::write(folder.path().join("portcullis.yaml"), yaml)?;
        let output = Command::new(&binary)
            .current_dir(folder.path())
            .args(["inspect", "test", "page", "--mask"])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for part in [email, iban, card, record, "token [masked:credentials]"] {
            assert!(text.contains(part), "{yaml}: {part}: {text}{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(())
}

#[tokio::test]
async fn inspect_test_says_where_things_stand_what_would_be_done_and_never_the_value() -> Outcome {
    let binary = Gateway::builder().prepare()?.binary().to_path_buf();
    let folder = tempfile::tempdir()?;
    let run = |arguments: &[&str], input: &str| -> Outcome<(Option<i32>, String, String)> {
        let mut child = Command::new(&binary)
            .current_dir(folder.path())
            .args(["inspect", "test", "-"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().unwrap().write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((output.status.code(), text(output.stdout), text(output.stderr)))
    };
    for hidden in disguises() {
        let document = json!({"a": [1, {"b": hidden}]}).to_string();
        for input in [hidden.as_str(), document.as_str()] {
            let (code, shown, _) = run(&["--json"], input)?;
            let report: Value = serde_json::from_str(&shown)?;
            assert_eq!((code, &report["verdict"]), (Some(0), &json!("mask")), "{input}: {shown}");
            assert_eq!(report["findings"][0]["detector"], "credentials");
            assert!(!shown.contains(&secret()));
            let (_, shown, _) = run(&["--mask"], input)?;
            assert!(shown.contains("[masked:credentials]") && !shown.contains(&secret()), "{input}: {shown}");
        }
        assert_eq!(run(&["--fail"], &hidden)?.0, Some(1));
    }
    let (code, shown, _) = run(&["--fail"], "nothing to see")?;
    assert_eq!((code, shown.trim()), (Some(0), "0 found: pass"));
    let email = "write to me@example.com";
    for (yaml, verdict) in [
        ("", "pass"),
        ("inspect:\n  email: {answers: mask}\n", "mask"),
        ("inspect:\n  email: {answers: refuse}\n", "refuse"),
    ] {
        std::fs::write(folder.path().join("portcullis.yaml"), yaml)?;
        let (code, shown, _) = run(&["--json"], email)?;
        assert_eq!((code, &serde_json::from_str::<Value>(&shown)?["verdict"]), (Some(0), &json!(verdict)));
        let (code, shown, error) = run(&["--mask"], email)?;
        match verdict {
            "refuse" => assert!(code == Some(1) && error.contains("refused"), "{error}"),
            "mask" => assert_eq!(shown.trim(), "write to [masked:email]"),
            _ => assert_eq!(shown.trim(), email),
        }
    }
    Ok(())
}
