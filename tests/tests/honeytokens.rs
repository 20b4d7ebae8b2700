//! Credentials that were planted: wherever one appears, in whatever way it is written, somebody hears of it, and nothing that
//! is kept tells what it is.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use portcullis_testkit::{Era, Gateway, GatewayBuilder, Hostile, HostileServer, McpClient, Outcome};
use portcullis_tests::pair::{SOON, code_of, entries, known, new_key};
use serde_json::{Value, json};

const CHILD: &str = env!("CARGO_BIN_EXE_scripted-child");

fn planted(gateway: &Gateway, name: &str, kind: &str) -> Outcome<Vec<String>> {
    let made = gateway.command(&["secret", "canary", "create", name, "--kind", kind, "--json"])?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: Value = serde_json::from_slice(&made.stdout)?;
    let values = made["values"].as_array().ok_or("no values")?.iter();
    Ok(values.filter_map(|one| one["value"].as_str().map(str::to_owned)).collect())
}

/// Watches for a value that the operator brings.
fn own(gateway: &Gateway, name: &str, value: &str) -> Outcome<bool> {
    let mut child = Command::new(gateway.binary())
        .args(["secret", "canary", "create", name, "--own"])
        .current_dir(gateway.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    child.stdin.take().ok_or("no input")?.write_all(value.as_bytes())?;
    Ok(child.wait()?.success())
}

async fn world() -> Outcome<(HostileServer, Gateway)> {
    let server = HostileServer::start().await?;
    let yaml = format!(
        "roles:\n  narrow:\n    allow:\n      - actions: [connect]\n      - actions: [call_tool]\n        tools: [add]\n\
         servers:\n  s:\n    url: {}\n  child:\n    command: {}\n    env: {{BAIT: 'env:BAIT'}}\n",
        server.url(),
        json!(["sh", "-c", format!("printf 'found %s\\n' \"$BAIT\" >&2; exec {CHILD}")]),
    );
    let gateway = GatewayBuilder::default()
        .config(&yaml)
        .environment("BAIT", "left-for-the-child-9f2c")
        .start()
        .await?;
    known(&gateway, SOON).await?;
    Ok((server, gateway))
}

/// Entries about one canary; waits for at least so many.
async fn seen(gateway: &Gateway, name: &str, least: usize) -> Outcome<Vec<Value>> {
    let due = std::time::Instant::now() + SOON;
    loop {
        let mut all = entries(gateway, "event=canary.seen").await?;
        all.retain(|entry| entry["data"]["canary"] == name);
        if all.len() >= least {
            return Ok(all);
        }
        if std::time::Instant::now() > due {
            return Err(format!("{name}: {} of {least} entries", all.len()).into());
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A value in the ways in which it travels.
fn ways(value: &str) -> Vec<String> {
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let percent: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let escaped: String = value.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let encoded = BASE64_STANDARD.encode(format!("xy{value}z"));
    vec![value.to_owned(), hex, percent, escaped, encoded, json!({ "in": value }).to_string()]
}

#[tokio::test]
async fn bait_in_arguments_is_refused_and_told_in_whatever_way_it_is_written() -> Outcome {
    let (_server, gateway) = world().await?;
    let mut told = 0;
    for kind in ["aws", "github", "openai", "database", "password", "slack"] {
        let values = planted(&gateway, kind, kind)?;
        told = 0;
        for value in &values {
            for written in ways(value) {
                let mut client =
                    McpClient::connect(&gateway.url("s"), Some(gateway.key()?), Era::Modern).await?;
                let answer = client.call("echo", json!({"text": format!("try {written} now")})).await?;
                assert_eq!(
                    code_of(&answer),
                    "arguments.refused",
                    "{kind}: {written}: {}",
                    answer.reply.text()
                );
                told += 1;
            }
        }
        let entries = seen(&gateway, kind, told).await?;
        assert_eq!(entries.len(), told, "{kind}");
        let findings = entries[0]["findings"].as_array().cloned().unwrap_or_default();
        let critical = |one: &Value| one["kind"] == "secret.canary" && one["severity"] == "critical";
        assert!(findings.iter().any(critical), "{}", entries[0]);
        assert!(
            entries[0]["actor"]["id"].is_string() && entries[0]["target"]["server"] == "s",
            "{}",
            entries[0]
        );
        let said = serde_json::to_string(&entries)?;
        assert!(values.iter().all(|value| !said.contains(value.as_str())), "{said}");
    }
    let metrics = gateway.admin_get("/metrics").await?.text();
    assert!(metrics.contains("kind=\"secret.canary\""), "{metrics}");
    assert!(told > 0);
    Ok(())
}

#[tokio::test]
async fn bait_is_seen_in_calls_that_are_refused_for_another_reason() -> Outcome {
    let (_server, gateway) = world().await?;
    let value = planted(&gateway, "page", "gitlab")?.remove(0);
    let key = new_key(&gateway, "narrow", "narrow")?;
    let mut client = McpClient::connect(&gateway.url("s"), Some(&key), Era::Modern).await?;
    for written in ways(&value) {
        let answer = client.call("echo", json!({"text": written})).await?;
        assert_ne!(code_of(&answer), "arguments.refused", "the tool is none of this caller's");
        assert!(!code_of(&answer).is_empty(), "{}", answer.reply.text());
    }
    assert_eq!(seen(&gateway, "page", ways(&value).len()).await?.len(), ways(&value).len());
    Ok(())
}

#[tokio::test]
async fn a_key_that_was_planted_lets_nobody_in_and_rings() -> Outcome {
    let (_server, gateway) = world().await?;
    let key = planted(&gateway, "old-key", "portcullis")?.remove(0);
    let refused = McpClient::connect(&gateway.url("s"), Some(&key), Era::Modern).await;
    let mut client = match refused {
        Ok(client) => client,
        Err(_) => McpClient::connect(&gateway.url("s"), Some(gateway.key()?), Era::Modern).await?,
    };
    drop(client.call("echo", json!({"text": "x"})).await?);
    let entries = seen(&gateway, "old-key", 1).await?;
    assert_eq!(entries[0]["data"]["place"], "authorization", "{}", entries[0]);
    assert!(
        entries[0]["source"].is_string() || entries[0].to_string().contains("127.0.0.1"),
        "{}",
        entries[0]
    );
    Ok(())
}

#[tokio::test]
async fn bait_in_answers_and_on_standard_error_does_not_reach_the_caller_or_the_log() -> Outcome {
    let (server, gateway) = world().await?;
    let value = planted(&gateway, "wiki", "stripe")?.remove(0);
    assert!(own(&gateway, "child-env", "left-for-the-child-9f2c")?);
    let mut count = 0;
    for era in Era::ALL {
        let mut client = McpClient::connect(&gateway.url("s"), Some(gateway.key()?), era).await?;
        for written in ways(&value) {
            let text = json!({"resultType": "complete", "content": [{"type": "text", "text": format!("<{written}>")}]});
            server.on("tools/call", Hostile::Answer(text));
            let answer = client.call("echo", json!({"text": "x"})).await?;
            count += 1;
            assert!(answer.reply.text().contains("[masked:"), "{}", answer.reply.text());
            assert!(!answer.reply.text().contains(&written), "{}", answer.reply.text());
        }
        let note = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": value}});
        let done = r#"{"jsonrpc":"2.0","id":$ID,"result":{"resultType":"complete","content":[]}}"#;
        server.on("tools/call", Hostile::Events(vec![note.to_string(), done.to_owned()]));
        let answer = client.call("echo", json!({"text": "x"})).await?;
        count += 1;
        assert!(!answer.reply.text().contains(&value), "{}", answer.reply.text());
    }
    assert_eq!(seen(&gateway, "wiki", count).await?.len(), count);
    let mut client = McpClient::connect(&gateway.url("child"), Some(gateway.key()?), Era::Modern).await?;
    let answer = client.call("echo", json!({"text": "x"})).await?;
    assert_eq!(answer.text(), "x");
    let entries = seen(&gateway, "child-env", 1).await?;
    assert_eq!(entries[0]["data"]["place"], "standard error", "{}", entries[0]);
    assert!(!gateway.output().contains("9f2c"), "{}", gateway.output());
    assert!(!gateway.output().contains(&value));
    Ok(())
}

#[tokio::test]
async fn what_is_planted_is_kept_sealed_over_a_restart_and_forgotten_when_it_is_removed() -> Outcome {
    let (_server, mut gateway) = world().await?;
    let value = planted(&gateway, "file", "npm")?.remove(0);
    let again = gateway.command(&["secret", "canary", "create", "file", "--kind", "npm"])?;
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("planted already"));
    assert!(!own(&gateway, "short", "seven77")?, "too short to be looked for");
    let list = gateway.command(&["secret", "canary", "list", "--json"])?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(
        list.contains(r#""name":"file""#.replace(':', ": ").as_str()) || list.contains(r#""name":"file""#),
        "{list}"
    );
    assert!(list.contains("npm") && !list.contains(&value), "{list}");
    for form in ways(&value) {
        assert!(gateway.files_with(&form)?.is_empty(), "{form}");
    }
    let created = entries(&gateway, "event=canary.created").await?;
    assert!(created[0]["data"]["canary"] == "file" && created[0]["data"]["kind"] == "npm", "{created:?}");

    gateway.stop().await?;
    gateway.start_again().await?;
    known(&gateway, SOON).await?;
    let rotated = gateway.command(&["seal", "rotate", "--retire"])?;
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    gateway.stop().await?;
    gateway.start_again().await?;
    known(&gateway, SOON).await?;
    let mut client = McpClient::connect(&gateway.url("s"), Some(gateway.key()?), Era::Modern).await?;
    let answer = client.call("echo", json!({"text": value})).await?;
    assert_eq!(code_of(&answer), "arguments.refused", "{}", answer.reply.text());
    seen(&gateway, "file", 1).await?;

    let removed = gateway.command(&["secret", "canary", "remove", "file"])?;
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    let answer = client.call("echo", json!({"text": value})).await?;
    assert_ne!(code_of(&answer), "arguments.refused", "{}", answer.reply.text());
    assert_eq!(entries(&gateway, "event=canary.removed").await?.len(), 1);
    Ok(())
}
