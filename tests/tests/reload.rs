//! A changed configuration takes effect whole or not at all, while calls run and without one of them failing.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use portcullis_testkit::{Era, Gateway, Hostile, HostileServer, McpClient, Outcome};
use portcullis_tests::{
    load::Load,
    pair::{SOON, code_of, entries, known, new_key, soon},
    process::children,
};
use serde_json::{Value, json};

fn child() -> &'static str {
    env!("CARGO_BIN_EXE_scripted-child")
}

/// Waits until the ledger has this many entries of an event.
async fn events(gateway: &Gateway, event: &str, least: usize) -> Outcome<Vec<Value>> {
    let due = Instant::now() + SOON;
    loop {
        let found = entries(gateway, &format!("event={event}")).await?;
        if found.len() >= least {
            return Ok(found);
        }
        if Instant::now() > due {
            return Err(format!("{} of {least} entries {event}", found.len()).into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The whole ledger, by index.
async fn ledger(gateway: &Gateway) -> Outcome<BTreeMap<u64, Value>> {
    let (mut all, mut from) = (BTreeMap::new(), 0);
    loop {
        let reply = gateway.admin_get(&format!("/v1/ledger/entries?limit=1000&from={from}")).await?;
        let page: Value = serde_json::from_slice(&reply.body)?;
        for row in page["entries"].as_array().unwrap() {
            all.insert(row["index"].as_u64().unwrap(), row["entry"].clone());
        }
        let next = page["next"].as_u64().unwrap();
        if next == from || next >= page["size"].as_u64().unwrap() {
            return Ok(all);
        }
        from = next;
    }
}

const GENEROUS: &str = "limits:\n  caller_rate_per_s: 1000000\n  caller_burst_max: 1000000\n  source_rate_per_s: 1000000\n  source_burst_max: 1000000\n  \
                        catalog_refresh_ms: 60000\n";

/// What makes a file bad; each is refused whole, beside a good change in the same file.
const BAD: [&str; 6] = [
    "nonsense: 1\n",
    "policies: [absent.cedar]\n",
    "inspect:\n  no_such_detector: {}\n",
    "telemetry: [\n",
    "ledger:\n  checkpoint_ms: 5000\n",
    "identities:\n  jwt:\n    - issuer: https://issuer.example\n      jwks_file: absent.json\n",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_reloads_good_and_bad_under_load_fail_no_call_and_mix_no_rules() -> Outcome {
    let server = HostileServer::start().await?;
    let yaml = format!("servers:\n  s:\n    url: {}\n{GENEROUS}", server.url());
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let good_file = fs::read_to_string(gateway.folder().join("portcullis.yaml"))?;
    let load = Load::start(gateway.address(), gateway.key()?, &["s"], 15, "reload");
    let mut legacy = McpClient::connect(&gateway.url("s"), Some(gateway.key()?), Era::Legacy).await?;
    // Counted in the log: the ledger grows too fast under load to be searched after each change.
    let said = |what: &str| gateway.output().matches(what).count();
    let (changed, refused) =
        (|| said("new rules are in force"), || said("the changed configuration is refused"));
    let mut in_force = Value::Null;
    for round in 0..20 {
        let bad = round % 2 == 1;
        let role = format!("roles:\n  extra{round}:\n    allow:\n      - actions: [call_tool]\n");
        let wrong = if bad { BAD[round / 2 % BAD.len()] } else { "" };
        let (changes, refusals) = (changed(), refused());
        gateway.rewrite(|_| format!("{good_file}{role}{wrong}"))?;
        if round % 4 < 2 {
            gateway.reload()?;
        }
        if bad {
            soon("the bad file is refused", || refused() > refusals).await?;
        } else {
            soon("the good file is in force", || changed() > changes).await?;
        }
        let answer = legacy.call("echo", json!({"text": format!("round {round}")})).await?;
        assert_eq!(answer.text(), format!("round {round}"), "{}", answer.reply.text());
        // Two signs of one change may be two reloads; the second must not count for the next round.
        tokio::time::sleep(Duration::from_millis(250)).await;
        let last = entries(&gateway, "event=call.intent&last=1").await?;
        assert_eq!(changed() - changes, usize::from(!bad), "after round {round} (bad: {bad})");
        assert_eq!(last[0]["rules"] == in_force, bad, "after round {round} (bad: {bad})");
        in_force = last[0]["rules"].clone();
    }
    let (changed, refused) = (changed(), refused());
    let answered = load.answered();
    let journal = load.end().await;
    let failed: Vec<_> = journal.iter().filter(|call| call.status != Some(200)).collect();
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), journal.len(), failed.first());
    assert!(answered > 200, "only {answered} calls: the load was no load");
    assert_eq!(changed, 10);
    assert!(refused >= 10);
    let all = ledger(&gateway).await?;
    let mut rules = std::collections::BTreeSet::new();
    let mut pairs = 0;
    for entry in all.values().filter(|entry| entry["event"] == "call.outcome") {
        let intent = &all[&entry["intent"].as_u64().unwrap()];
        assert_eq!(entry["rules"], intent["rules"], "one call under two sets of rules");
        rules.insert(entry["rules"].as_str().unwrap().to_owned());
        pairs += 1;
    }
    assert!(pairs >= answered && rules.len() >= 10, "{pairs} pairs, {} sets of rules", rules.len());
    assert!(!all.values().any(|entry| entry["event"] == "call.refused"));
    let of = |event: &str| all.values().filter(|entry| entry["event"] == event).count();
    assert_eq!((of("config.changed"), of("config.refused")), (changed, refused));
    let first = all.values().find(|entry| entry["event"] == "config.refused").unwrap();
    assert!(first["data"]["mistakes"][0].as_str().is_some_and(|text| text.contains("nonsense")), "{first}");
    Ok(())
}

#[tokio::test]
async fn what_only_a_start_can_change_is_refused_by_name_and_the_old_rules_stay() -> Outcome {
    let gateway = Gateway::start("log:\n  level: warn\n").await?;
    let cases = [
        ("log", "level: warn", "level: info"),
        ("limits.connections_max", "log:", "limits:\n  connections_max: 77\nlog:"),
        ("limits.ledger_queue_max", "log:", "limits:\n  ledger_queue_max: 77\nlog:"),
    ];
    for (key, from, to) in cases {
        gateway.rewrite(|yaml| yaml.replace(from, to))?;
        gateway.reload()?;
        let due = Instant::now() + SOON;
        loop {
            let refused = events(&gateway, "config.refused", 1).await?;
            if refused.iter().any(|entry| entry["data"]["mistakes"].to_string().contains(key)) {
                break;
            }
            assert!(Instant::now() < due, "{key}: {refused:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        gateway.rewrite(|yaml| yaml.replace(to, from))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_role_that_is_narrowed_or_removed_binds_the_next_call_of_every_session() -> Outcome {
    let server = HostileServer::start().await?;
    let role = "roles:\n  r:\n    allow:\n      - actions: [connect]\n      - actions: [call_tool]\n        tools: [echo, add]\n";
    let yaml = format!("servers:\n  s:\n    url: {}\n{role}", server.url());
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let key = new_key(&gateway, "k", "r")?;
    let mut clients = Vec::new();
    for era in Era::ALL {
        let mut client = McpClient::connect(&gateway.url("s"), Some(&key), era).await?;
        assert_eq!(client.list("tools/list").await?, ["echo", "add"]);
        assert_eq!(client.call("echo", json!({"text": "hi"})).await?.text(), "hi");
        clients.push(client);
    }
    gateway.rewrite(|yaml| yaml.replace("[echo, add]", "[add]"))?;
    gateway.reload()?;
    events(&gateway, "config.changed", 1).await?;
    for client in &mut clients {
        assert_eq!(code_of(&client.call("echo", json!({"text": "hi"})).await?), "target.unknown");
        assert_eq!(client.list("tools/list").await?, ["add"]);
    }
    gateway.rewrite(|yaml| yaml.replace("roles:\n  r:", "roles:\n  other:"))?;
    gateway.reload()?;
    events(&gateway, "config.changed", 2).await?;
    for client in &mut clients {
        let answer = client.request("tools/list", json!({})).await?;
        assert_eq!(
            (answer.status().as_u16(), code_of(&answer).as_str()),
            (403, "policy.denied"),
            "a role that is gone grants nothing"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_hangup_takes_over_a_rotated_credential_and_leaves_children_of_others_alone() -> Outcome {
    let server = HostileServer::start().await?;
    let yaml = format!(
        "servers:\n  s:\n    url: {}\n    headers:\n      X-Token: file:token\n  c:\n    command: [{child}]\n    isolation: shared\n  d:\n    command: [{child}]\n    \
         isolation: shared\n    env:\n      MODE: one\n",
        server.url(),
        child = child()
    );
    let gateway = Gateway::builder().config(&yaml).file("token", "first").start().await?;
    known(&gateway, SOON).await?;
    let mut s = McpClient::connect(&gateway.url("s"), Some(gateway.key()?), Era::Modern).await?;
    let mut c = McpClient::connect(&gateway.url("c"), Some(gateway.key()?), Era::Modern).await?;
    let mut d = McpClient::connect(&gateway.url("d"), Some(gateway.key()?), Era::Modern).await?;
    s.call("echo", json!({"text": "hi"})).await?;
    assert_eq!(server.received().last().unwrap().header("x-token"), Some("first"));
    let (pid_c, pid_d) = (c.call("pid", json!({})).await?.text(), d.call("pid", json!({})).await?.text());
    fs::write(gateway.folder().join("token"), "second")?;
    gateway.reload()?;
    events(&gateway, "config.changed", 1).await?;
    s.call("echo", json!({"text": "hi"})).await?;
    assert_eq!(server.received().last().unwrap().header("x-token"), Some("second"));
    gateway.rewrite(|yaml| yaml.replace("MODE: one", "MODE: two"))?;
    gateway.reload()?;
    events(&gateway, "config.changed", 2).await?;
    assert_eq!(
        c.call("pid", json!({})).await?.text(),
        pid_c,
        "the child of an unchanged server was replaced"
    );
    assert_ne!(d.call("pid", json!({})).await?.text(), pid_d, "the changed one was not");
    let gateway_pid = gateway.pid().unwrap();
    soon("the old child ended", || !children(gateway_pid).0.iter().any(|pid| pid.to_string() == pid_d))
        .await?;
    Ok(())
}

/// Exit code and words of a command.
fn run(gateway: &Gateway, arguments: &[&str]) -> Outcome<(Option<i32>, String)> {
    let output = gateway.command(arguments)?;
    Ok((
        output.status.code(),
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
    ))
}

fn mistaken_commands_are_refused(gateway: &Gateway) -> Outcome {
    for (arguments, expected) in [
        (&["server", "remove", "s"][..], "portcullis.yaml"),
        (&["server", "remove", "nosuch"], "no server"),
        (&["server", "add", "s", "--url", "http://127.0.0.1:9/mcp"], "declared"),
        (&["server", "add", "a/b", "--url", "http://127.0.0.1:9/mcp"], "name"),
        (&["server", "add", "x", "--url", "file:///etc/passwd"], "url"),
        (
            &[
                "server",
                "add",
                "x",
                "--url",
                "http://127.0.0.1:9/mcp",
                "--header",
                "Authorization=Bearer literal-secret",
            ],
            "env:NAME",
        ),
    ] {
        let (code, words) = run(gateway, arguments)?;
        assert_eq!(code, Some(1), "{arguments:?}: {words}");
        assert!(words.contains(expected) && !words.contains("literal-secret"), "{arguments:?}: {words}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_come_and_go_by_command_without_disturbing_the_others_and_survive_a_restart() -> Outcome {
    let (server, other) = (HostileServer::start().await?, HostileServer::start().await?);
    let yaml = format!("servers:\n  s:\n    url: {}\n{GENEROUS}", server.url());
    let mut gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    let load = Load::start(gateway.address(), gateway.key()?, &["s"], 16, "servers");
    let key = gateway.key()?.to_owned();
    for round in 0..3 {
        let (code, words) = run(&gateway, &["server", "add", "t", "--url", &other.url()])?;
        assert_eq!(code, Some(0), "{words}");
        let (code, words) = run(&gateway, &["server", "add", "c", "--isolation", "shared", "--", child()])?;
        assert_eq!(code, Some(0), "{words}");
        for (name, tool) in [("t", "echo"), ("c", "echo")] {
            // In force when the command ends, without waiting.
            let mut client = McpClient::new(&gateway.url(name), Some(&key), Era::Modern);
            let answer = client.call(tool, json!({"text": "new"})).await?;
            assert_eq!(answer.text(), "new", "{round} {name}: {}", answer.reply.text());
        }
        let (code, words) = run(&gateway, &["server", "add", "t", "--url", &other.url()])?;
        assert_eq!(code, Some(1), "twice the same name: {words}");
        if round < 2 {
            for name in ["t", "c"] {
                let (code, words) = run(&gateway, &["server", "remove", name])?;
                assert_eq!(code, Some(0), "{words}");
                let mut client = McpClient::new(&gateway.url(name), Some(&key), Era::Modern);
                let answer = client.call("echo", json!({"text": "old"})).await?;
                assert_eq!(code_of(&answer), "server.unknown", "{round} {name}: {}", answer.reply.text());
            }
            let pid = gateway.pid().unwrap();
            soon("the children of a removed server ended", || children(pid).0.is_empty()).await?;
        }
    }
    mistaken_commands_are_refused(&gateway)?;
    let journal = load.end().await;
    let failed: Vec<_> = journal.iter().filter(|call| call.status != Some(200)).collect();
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), journal.len(), failed.first());
    assert!(journal.len() > 50);
    gateway.stop().await?;
    gateway.start_again().await?;
    known(&gateway, SOON).await?;
    for name in ["s", "t", "c"] {
        let answer = McpClient::new(&gateway.url(name), Some(&key), Era::Modern)
            .call("echo", json!({"text": "hi"}))
            .await?;
        assert_eq!(answer.text(), "hi", "{name} after the restart: {}", answer.reply.text());
    }
    Ok(())
}

#[tokio::test]
async fn a_removed_server_that_is_added_again_finds_its_pins() -> Outcome {
    let (server, other) = (HostileServer::start().await?, HostileServer::start().await?);
    let gateway = Gateway::start(&format!("servers:\n  s:\n    url: {}\n", server.url())).await?;
    let add = ["server", "add", "t", "--url", &other.url()];
    assert!(gateway.command(&add)?.status.success());
    let mut client = McpClient::new(&gateway.url("t"), Some(gateway.key()?), Era::Modern);
    let due = Instant::now() + SOON;
    while client.list("tools/list").await.is_err() {
        assert!(Instant::now() < due);
    }
    assert!(gateway.command(&["server", "remove", "t"])?.status.success());
    // Gone and back under the same name, with other words: the pins must not be forgotten.
    other.on(
        "tools/list",
        Hostile::Answer(json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "private",
        "tools": [{"name": "echo", "description": "worse", "inputSchema": {"type": "object"}}]})),
    );
    while code_of(&client.request("tools/list", json!({})).await?) != "server.unknown" {
        assert!(Instant::now() < due);
    }
    assert!(gateway.command(&add)?.status.success());
    loop {
        let answer = client.call("echo", json!({"text": "hi"})).await?;
        match code_of(&answer).as_str() {
            "server.unknown" | "" if Instant::now() < due => {}
            code => break assert_eq!(code, "definition.changed", "{}", answer.reply.text()),
        }
    }
    Ok(())
}
