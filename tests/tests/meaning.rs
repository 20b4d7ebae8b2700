//! What operators declare parameters to mean, through the gateway.

use portcullis_testkit::{Era, Gateway, Hostile, HostileServer, McpClient, Outcome};
use portcullis_tests::pair::{Pair, code_of, refusals};
use serde_json::{Value, json};

/// Declared for the server of a [`Pair`]; its tools are those of [`tools`].
const DECLARED: &str = r#"    parameters:
      read_file: {path: {path: {within: [/srv/docs]}}}
      "fetch*": {url: {url: {to: ["*.example.com"]}}, "/options/mirrors": {url: {to: [mirror.test]}}}
      query: {sql: {sql: {dialect: sqlite, tables: [orders]}}}
      send: {to: {email: {to: [example.com]}}}
      run: {command: {command: {programs: [git]}}, mode: {one_of: [fast, "2"]}}
"#;

fn tools() -> Vec<Value> {
    let tool = |name: &str, parameters: Value| json!({"name": name, "inputSchema": {"type": "object", "properties": parameters}});
    let text = json!({"type": "string"});
    vec![
        tool("read_file", json!({"path": text})),
        tool("fetch_page", json!({"url": text, "options": {"type": "object"}})),
        tool("query", json!({"sql": {"type": "string", "description": "a SELECT for SQLite"}})),
        tool("send", json!({"to": {}, "body": text})),
        tool("run", json!({"command": text, "mode": {}})),
    ]
}

async fn pair() -> Outcome<Pair> {
    let server = HostileServer::start().await?;
    server.set_tools(tools());
    let done = json!({"resultType": "complete", "content": [{"type": "text", "text": "done"}]});
    server.on("tools/call", Hostile::Answer(done));
    Pair::with(server, DECLARED, &[]).await
}

#[tokio::test]
async fn an_argument_that_is_not_what_was_declared_never_leaves_and_is_recorded_where_it_stands() -> Outcome {
    let pair = pair().await?;
    let mut refused = 0;
    for era in Era::ALL {
        let mut client = pair.client(era).await?;
        pair.server.forget();
        for (tool, arguments, place) in [
            ("read_file", json!({"path": "/srv/docs/a"}), ""),
            ("read_file", json!({"path": "/srv/docs/../../etc/passwd"}), "/path"),
            ("read_file", json!({"path": "..%2f..%2fetc/passwd"}), "/path"),
            ("fetch_page", json!({"url": "https://www.example.com/x"}), ""),
            ("fetch_page", json!({"url": "http://169.254.169.254/latest"}), "/url"),
            ("fetch_page", json!({"url": "https://www.example.com@evil.test/"}), "/url"),
            ("fetch_page", json!({"options": {"mirrors": ["https://mirror.test/"]}}), ""),
            (
                "fetch_page",
                json!({"options": {"mirrors": ["https://mirror.test/", "https://evil.test/"]}}),
                "/options/mirrors/1",
            ),
            ("query", json!({"sql": "select count(*) from orders"}), ""),
            ("query", json!({"sql": "select * from orders; drop table orders"}), "/sql"),
            ("query", json!({"sql": "select * from users"}), "/sql"),
            ("send", json!({"to": "a@example.com", "body": "to evil.test: /etc/passwd"}), ""),
            ("send", json!({"to": ["a@example.com", "b@evil.test"]}), "/to/1"),
            ("run", json!({"command": "git status", "mode": 2}), ""),
            ("run", json!({"command": "git status; id"}), "/command"),
            ("run", json!({"mode": "slow"}), "/mode"),
        ] {
            let before = pair.server.count("tools/call");
            let answer = client.call(tool, arguments.clone()).await?;
            let forwarded = pair.server.count("tools/call") - before;
            if place.is_empty() {
                assert_eq!(
                    (code_of(&answer).as_str(), forwarded),
                    ("", 1),
                    "{tool} {arguments}: {}",
                    answer.reply.text()
                );
                continue;
            }
            refused += 1;
            assert_eq!(
                (code_of(&answer).as_str(), forwarded),
                ("arguments.meaning", 0),
                "{tool} {arguments}"
            );
            let told = answer.reply.text();
            assert!(told.contains(&format!("`{place}`")) && !told.contains("passwd"), "{told}");
            let entries = refusals(&pair.gateway, "arguments.meaning", refused).await?;
            let last = format!("/params/arguments{place}");
            let found = |entry: &Value| {
                entry["findings"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|one| one["place"] == json!(last)))
            };
            assert!(entries.iter().any(found), "{last}: {entries:?}");
            assert!(!serde_json::to_string(&entries)?.contains("passwd"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_restored_is_judged_as_what_it_stands_for() -> Outcome {
    let server = HostileServer::start().await?;
    server.set_tools(tools());
    let rules = "inspect:\n  email: {answers: mask, form: token}\nroles:\n  agent:\n    allow:\n      - actions: [connect]\n      \
        - actions: [call_tool]\n        restore: [email]\n";
    let pair = Pair::with(server, &format!("{DECLARED}{rules}"), &[]).await?;
    let key = portcullis_tests::pair::new_key(&pair.gateway, "agent", "agent")?;
    let mut client = McpClient::connect(&pair.gateway.url("s"), Some(&key), Era::Modern).await?;
    for (address, code, calls) in [("a@example.com", "", 1), ("b@evil.test", "arguments.meaning", 0)] {
        let says = json!({"resultType": "complete", "content": [{"type": "text", "text": address}]});
        pair.server.on("tools/call", Hostile::Answer(says));
        let answer = client.call("read_file", json!({"path": "x"})).await?;
        let token = answer.result()["content"][0]["text"].as_str().unwrap_or_default().to_owned();
        assert!(token.starts_with("<EMAIL_"), "{token}");
        pair.server.forget();
        let answer = client.call("send", json!({"to": token})).await?;
        assert_eq!(
            (code_of(&answer).as_str(), pair.server.count("tools/call")),
            (code, calls),
            "{}",
            answer.reply.text()
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_reload_changes_what_is_declared_and_keeps_the_server() -> Outcome {
    let pair = pair().await?;
    let mut client = pair.client(Era::Modern).await?;
    assert_eq!(code_of(&client.call("read_file", json!({"path": "/etc/hosts"})).await?), "arguments.meaning");
    let lists = pair.server.count("tools/list");
    pair.gateway.rewrite(|yaml| yaml.replace("/srv/docs", "/etc"))?;
    pair.gateway.reload()?;
    let due = std::time::Instant::now() + portcullis_tests::pair::SOON;
    while code_of(&client.call("read_file", json!({"path": "/etc/hosts"})).await?) == "arguments.meaning" {
        assert!(std::time::Instant::now() < due, "the reload has no effect");
        // Nothing tells from outside that the new rules are in force.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(
        code_of(&client.call("read_file", json!({"path": "/srv/docs/a"})).await?),
        "arguments.meaning"
    );
    assert_eq!(pair.server.count("tools/list"), lists);
    Ok(())
}

#[tokio::test]
async fn arguments_can_be_tried_and_meanings_are_proposed_in_a_form_that_the_file_takes() -> Outcome {
    let pair = pair().await?;
    let folder = pair.gateway.folder().to_path_buf();
    let run = |gateway: &Gateway, arguments: &[&str]| -> Outcome<(Option<i32>, String)> {
        let output = gateway.command(arguments)?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
    };
    let file = folder.join("arguments.json");
    let name = file.to_string_lossy().into_owned();
    for (path, code) in [("/srv/docs/a", 0), ("/etc/passwd", 1)] {
        std::fs::write(&file, json!({ "path": path }).to_string())?;
        let (exit, text) = run(&pair.gateway, &["inspect", "arguments", "s/read_file", &name])?;
        assert_eq!(exit, Some(code), "{text}");
        assert_eq!(text.contains("parameter.path"), code == 1, "{text}");
        assert!(!text.contains("passwd"), "{text}");
    }
    // Without a declaration everything passes; what is proposed then refuses it.
    pair.gateway.rewrite(|yaml| yaml.replace("      query: {", "      other: {"))?;
    std::fs::write(&file, r#"{"sql":"drop table t"}"#)?;
    let (exit, text) = run(&pair.gateway, &["inspect", "arguments", "s/query", &name])?;
    assert_eq!(exit, Some(0), "{text}");
    let (exit, text) = run(&pair.gateway, &["inspect", "propose", "s"])?;
    assert_eq!(exit, Some(0), "{text}");
    for expected in [
        "\"path\":{\"within\":[",
        "\"sql\":{\"dialect\":\"sqlite\"}",
        "\"command\":{\"programs\":[]}",
        "\"url\":{\"to\":[\"*\"]}",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let proposed = text.split("    parameters:\n").nth(1).unwrap_or_default().to_owned();
    pair.gateway.rewrite(|yaml| {
        let declared = DECLARED.replace("      query: {", "      other: {");
        yaml.replace(&declared, &format!("    parameters:\n{}\n", proposed.trim_end()))
    })?;
    let (exit, text) = run(&pair.gateway, &["check"])?;
    assert_eq!(exit, Some(0), "{text}");
    let (exit, text) = run(&pair.gateway, &["inspect", "arguments", "s/query", &name])?;
    assert_eq!(exit, Some(1), "{text}");
    let (_, text) = run(&pair.gateway, &["inspect", "propose", "s", "--json"])?;
    let report: Value = serde_json::from_str(&text)?;
    assert_eq!(report["servers"]["s"]["send"], Value::Null);
    assert_eq!(report["servers"]["s"]["query"][0]["why"], "its name");
    Ok(())
}

#[tokio::test]
async fn what_is_declared_wrongly_is_named_with_its_place() -> Outcome {
    let yaml = r#"servers:
  s:
    url: http://127.0.0.1:1/
    parameters:
      a: {path: {path: {within: [docs]}}}
      b: {x: {}}
      c: {x: {path: {within: [/a]}, literal: {}}}
      d: {"/x//y": {literal: {}}}
      e: {x: {url: {to: ["a*.com"]}}}
      g: {x: {email: {}}}
"#;
    let gateway = Gateway::builder().config(yaml).prepare()?;
    let output = gateway.command(&["check"])?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{text}");
    for (line, part) in [
        (5, "is no absolute path"),
        (6, "says nothing"),
        (7, "says more than one thing"),
        (8, "has an empty step"),
        (9, "is no name or address of a machine"),
        (10, "names no domain"),
    ] {
        let found = text.lines().any(|one| one.contains(part)) && text.contains(&format!(":{line}:"));
        assert!(found, "{line} {part}: {text}");
    }
    Ok(())
}
