//! Secrets that the gateway hands out do not come back: not in answers, streams, errors and definitions, not on standard
//! error, in no common way of writing them; and somebody is told.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use portcullis_testkit::{Era, Gateway, GatewayBuilder, Hostile, HostileServer, McpClient, Outcome};
use portcullis_tests::pair::{SOON, code_of, entries, known, soon};
use serde_json::{Value, json};

const CHILD: &str = env!("CARGO_BIN_EXE_scripted-child");

/// What the server is given; no detector would take it for a credential, and JSON writes some of its signs otherwise.
const TOKEN: &str = "correct/horse\"battery\\staple & more";
/// What the child is given.
const GIVEN: &str = "the-word-of-the-child-is-plain";

/// The secret in every way in which it is looked for.
fn ways(secret: &str) -> Vec<String> {
    let bytes = |each: fn(u8) -> String| secret.bytes().map(each).collect::<String>();
    let base64 = |text: String| BASE64_STANDARD.encode(text);
    let percent = |byte: u8| match byte {
        b'a'..=b'z' | b'-' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    vec![
        secret.to_owned(),
        base64(secret.to_owned()),
        base64(format!("x{secret}yz")),
        base64(format!("xy{secret}z")).replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned(),
        bytes(|byte| format!("{byte:02x}")),
        bytes(|byte| format!("{byte:02X}")),
        bytes(percent),
        bytes(|byte| format!("%{byte:02x}")),
        bytes(|byte| format!("\\u{byte:04x}")),
        json!({ "deep": secret }).to_string(),
        json!({ "deep": json!({ "deeper": secret }).to_string() }).to_string(),
        json!({ "deep": secret }).to_string().replace('/', "\\/"),
    ]
}

struct World {
    server: HostileServer,
    gateway: Gateway,
}

async fn world(leaks: &str) -> Outcome<World> {
    let server = HostileServer::start().await?;
    let yaml = format!(
        "servers:\n  s:\n    url: {}\n    headers: {{Authorization: Bearer file:given.token}}\n  child:\n    command: {}\n    \
         env: {{CHILD_TOKEN: 'env:CHILD_TOKEN', REGION: 'env:REGION'}}\nsecrets:\n  leaks: {leaks}\n",
        server.url(),
        json!([CHILD]),
    );
    let gateway = GatewayBuilder::default()
        .config(&yaml)
        .file("given.token", TOKEN)
        .environment("CHILD_TOKEN", GIVEN)
        .environment("REGION", "eu-central-1")
        .start()
        .await?;
    known(&gateway, SOON).await?;
    Ok(World { server, gateway })
}

impl World {
    async fn client(&self, server: &str, era: Era) -> Outcome<McpClient> {
        McpClient::connect(&self.gateway.url(server), Some(self.gateway.key()?), era).await
    }

    /// Entries about secrets that came back; waits for them, since some are written beside what they tell of.
    async fn told(&self, least: usize) -> Outcome<Vec<Value>> {
        let due = std::time::Instant::now() + SOON;
        loop {
            let told = entries(&self.gateway, "event=secret.leaked").await?;
            if told.len() >= least {
                return Ok(told);
            }
            if std::time::Instant::now() > due {
                return Err(format!("{} of {least} entries", told.len()).into());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_secret_that_comes_back_is_masked_in_every_place_and_way_of_writing_it_and_told_of() -> Outcome {
    let world = world("mask").await?;
    let mut calls = 0;
    for hidden in ways(TOKEN) {
        world.server.on(
            "tools/call",
            Hostile::Answer(json!({
                "resultType": "complete",
                "content": [{"type": "text", "text": format!("see ({hidden})")}],
                "structuredContent": {"rows": [{"value": hidden}]},
                "_meta": {"com.example/x": hidden},
            })),
        );
        for era in Era::ALL {
            let mut client = world.client("s", era).await?;
            let answer = client.call("echo", json!({"text": "x"})).await?;
            calls += 1;
            for place in ["/content/0/text", "/structuredContent/rows/0/value", "/_meta/com.example~1x"] {
                let seen = answer.result().pointer(place).and_then(Value::as_str).unwrap_or_default();
                assert!(seen.contains("[masked:secret.armed]"), "{hidden}: {place}: {}", answer.reply.text());
                assert!(!seen.contains(&hidden), "{hidden}: {seen}");
            }
        }
    }
    let told = world.told(calls).await?;
    assert_eq!(told.len(), calls, "once for each call");
    for entry in &told {
        let name = entry["data"]["secret"].as_str().unwrap_or_default();
        assert!(name.starts_with("file:") && name.ends_with("given.token"), "{entry}");
        assert!(entry["target"]["server"] == "s" && entry["intent"].is_u64(), "{entry}");
        let findings = entry["findings"].as_array().cloned().unwrap_or_default();
        let critical =
            |finding: &Value| finding["kind"] == "secret.armed" && finding["severity"] == "critical";
        assert!(findings.iter().any(critical), "{entry}");
    }
    assert!(!serde_json::to_string(&told)?.contains("battery"), "{told:?}");
    Ok(())
}

#[tokio::test]
async fn an_answer_with_a_secret_is_refused_where_the_operator_says_so_also_where_nothing_can_be_masked()
-> Outcome {
    for (leaks, answer, refused) in [
        ("refuse", json!({"content": [{"type": "text", "text": TOKEN}]}), true),
        ("refuse", json!({"content": [{"type": "text", "text": "nothing"}]}), false),
        ("mask", json!({"content": [], "structuredContent": {TOKEN: 1}}), true),
        ("mask", json!({"resultType": "input_required", "inputRequests": {}, "requestState": TOKEN}), true),
    ] {
        let world = world(leaks).await?;
        world.server.on("tools/call", Hostile::Answer(answer.clone()));
        let mut client = world.client("s", Era::Modern).await?;
        let reply = client.call("echo", json!({"text": "x"})).await?;
        let text = reply.reply.text();
        assert!(!text.contains("battery"), "{answer}: {text}");
        assert_eq!(code_of(&reply) == "answer.refused", refused, "{answer}: {text}");
        assert_eq!(world.told(usize::from(refused)).await?.len(), usize::from(refused), "{answer}");
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_is_masked_in_errors_and_events_also_when_it_is_cut_in_two() -> Outcome {
    let world = world("mask").await?;
    let note = |data: &str| {
        json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": data}}).to_string()
    };
    let (first, second) = TOKEN.split_at(18);
    let done = r#"{"jsonrpc":"2.0","id":$ID,"result":{"resultType":"complete","content":[{"type":"text","text":"done"}]}}"#;
    for era in Era::ALL {
        let mut client = world.client("s", era).await?;
        world.server.on("tools/call", Hostile::AnswerError(200, -32000, format!("cannot use {TOKEN}")));
        let answer = client.call("echo", json!({"text": "x"})).await?;
        assert!(answer.reply.text().contains("cannot use [masked:secret.armed]"), "{}", answer.reply.text());
        for status in [400, 401, 403, 404, 500, 503] {
            world.server.on("tools/call", Hostile::Status(status, format!("your token {TOKEN} is wrong")));
            let answer = client.call("echo", json!({"text": "x"})).await?;
            assert!(!answer.reply.text().contains("battery"), "{status}: {}", answer.reply.text());
            // A session may be over with that.
            client = world.client("s", era).await?;
        }
        let events = vec![
            note(&format!("with {TOKEN}.")),
            note(&format!("begins {first}")),
            note(&format!("{second} ends")),
            done.to_owned(),
        ];
        world.server.on("tools/call", Hostile::Events(events));
        let answer = client.call("echo", json!({"text": "x"})).await?;
        let text = answer.reply.text();
        assert!(text.contains("with [masked:secret.armed].") && text.contains("done"), "{text}");
        assert!(text.contains("[masked:secret.armed] ends") && !text.contains("staple"), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_definition_that_holds_a_secret_does_not_bring_it_to_clients() -> Outcome {
    let world = world("mask").await?;
    let tool =
        json!({"name": "leak", "description": format!("Uses {TOKEN}"), "inputSchema": {"type": "object"}});
    world.server.set_tools(vec![tool]);
    let reviewed = world.gateway.command(&["server", "refresh", "s"])?;
    let reviewed = String::from_utf8_lossy(&[reviewed.stdout, reviewed.stderr].concat()).into_owned();
    for era in Era::ALL {
        let mut client = world.client("s", era).await?;
        let answer = client.request("tools/list", json!({})).await?;
        assert!(!answer.reply.text().contains("battery"), "{reviewed}: {}", answer.reply.text());
    }
    Ok(())
}

#[tokio::test]
async fn a_child_does_not_tell_what_it_was_given_and_what_is_no_secret_stays() -> Outcome {
    let world = world("mask").await?;
    for era in Era::ALL {
        let mut client = world.client("child", era).await?;
        for hidden in ways(GIVEN) {
            let answer = client.call("echo", json!({"text": format!("<{hidden}>")})).await?;
            let text = answer.text();
            assert!(text.contains("[masked:secret.armed]") && !text.contains(&hidden), "{hidden}: {text}");
        }
        let answer = client.call("echo", json!({"text": "in eu-central-1"})).await?;
        assert_eq!(answer.text(), "in eu-central-1");
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_on_the_standard_error_of_a_child_stays_out_of_the_log_in_whatever_way_it_is_written()
-> Outcome {
    let script = format!(
        "printf 'key: %s\\n' \"$CHILD_TOKEN\" >&2; printf %s \"x$CHILD_TOKEN\" | base64 >&2; echo is-through >&2; exec {CHILD}"
    );
    let yaml = format!(
        "servers:\n  child:\n    command: {}\n    env: {{CHILD_TOKEN: 'env:CHILD_TOKEN'}}\n",
        json!(["sh", "-c", script])
    );
    let gateway = GatewayBuilder::default().config(&yaml).environment("CHILD_TOKEN", GIVEN).start().await?;
    let mut client = McpClient::connect(&gateway.url("child"), Some(gateway.key()?), Era::Modern).await?;
    client.call("echo", json!({"text": "x"})).await?;
    soon("the child has said it", || gateway.output().contains("is-through")).await?;
    let log = gateway.output();
    let encoded = BASE64_STANDARD.encode(format!("x{GIVEN}"));
    assert!(!log.contains(GIVEN) && !log.contains(&encoded) && log.contains("key: ****"), "{log}");
    let due = std::time::Instant::now() + SOON;
    let told = loop {
        let told = entries(&gateway, "event=secret.leaked").await?;
        if !told.is_empty() || std::time::Instant::now() > due {
            break told;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["data"]["secret"], "env:CHILD_TOKEN");
    assert_eq!(told[0]["data"]["place"], "standard error");
    Ok(())
}

#[tokio::test]
async fn an_old_value_is_still_looked_for_after_a_new_one_is_in_its_place() -> Outcome {
    let world = world("mask").await?;
    let mut client = world.client("s", Era::Modern).await?;
    client.call("echo", json!({"text": "x"})).await?;
    let new = "a-second-value-in-its-place";
    std::fs::write(world.gateway.folder().join("given.token"), new)?;
    let (bearer, due) = (format!("Bearer {new}"), std::time::Instant::now() + SOON);
    while !world.server.received().iter().any(|request| request.header("authorization") == Some(&bearer)) {
        assert!(std::time::Instant::now() < due, "the new value is not sent");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        client.call("echo", json!({"text": "x"})).await?;
    }
    for value in [TOKEN, new] {
        world.server.on(
            "tools/call",
            Hostile::Answer(json!({"resultType": "complete", "content": [{"type": "text", "text": value}]})),
        );
        let answer = client.call("echo", json!({"text": "x"})).await?;
        assert_eq!(answer.text(), "[masked:secret.armed]");
    }
    Ok(())
}
