//! `portcullis wrap` as a host sees it: what is answered, what is refused, what is left behind when it ends.

use std::{
    collections::BTreeSet,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use portcullis_core::Timestamp;
use portcullis_store::{Kill, KillSwitch, KillTarget, Revisions, Sqlite};
use portcullis_testkit::{HostileServer, Outcome};
use portcullis_tests::{
    host::{Home, Host, modern, settled},
    pair::{SOON, soon},
    process::{children, gone},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const CHILD: &str = env!("CARGO_BIN_EXE_scripted-child");

fn call(name: &str, arguments: Value) -> Value {
    json!({"name": name, "arguments": arguments})
}

fn text(answer: &Value) -> &str {
    answer.pointer("/result/content/0/text").and_then(Value::as_str).unwrap_or_default()
}

/// The code of a refusal, wherever it stands.
fn code(answer: &Value) -> &str {
    let meta = answer.pointer("/result/_meta/dev.portcullis~1code");
    meta.or_else(|| answer.pointer("/error/data/code")).and_then(Value::as_str).unwrap_or_default()
}

fn names(answer: &Value) -> Vec<&str> {
    let tools = answer.pointer("/result/tools").and_then(Value::as_array);
    tools.into_iter().flatten().filter_map(|tool| tool["name"].as_str()).collect()
}

/// A host that starts this; one of the older revision has opened its session.
async fn opened(home: &Home, new: bool, options: &[&str], target: &[&str]) -> Outcome<Host> {
    let mut host = home.start(options, target)?;
    if !new {
        host.initialize().await?;
    }
    Ok(host)
}

/// Params as the revision wants them.
fn fitted(new: bool, params: Value) -> Value {
    if new { modern(params) } else { params }
}

/// Ends in order, and everything is in a ledger that verifies.
async fn ends(home: &Home, mut host: Host, options: &[&str], target: &[&str]) -> Outcome<Vec<Value>> {
    assert!(host.close().await?.success(), "{}", host.errors());
    let entries = home.verified(&home.data(options, target).await?).await?;
    settled(&entries)?;
    assert_eq!(entries.last().unwrap()["event"], "gateway.stopped");
    Ok(entries)
}

#[tokio::test]
async fn a_wrapped_server_is_used_in_both_revisions_on_one_pipe_and_its_ledger_verifies() -> Outcome {
    let home = Home::new()?;
    let binary = home.binary().display().to_string();
    let target = [binary.as_str(), "sample-server"];
    let mut host = home.start(&[], &target)?;
    let opened = host.initialize().await?;
    assert_eq!(opened["result"]["serverInfo"]["name"], "portcullis-sample");
    let listed = host.ask(1, "tools/list", json!({})).await?;
    assert!(names(&listed).contains(&"echo"), "{listed}");
    let answer = host.ask(2, "tools/call", call("echo", json!({"text": "old"}))).await?;
    assert_eq!(text(&answer), "old");
    let discovered = host.ask(3, "server/discover", modern(json!({}))).await?;
    assert!(discovered["result"]["supportedVersions"].as_array().unwrap().contains(&json!("2026-07-28")));
    let answer = host.ask(4, "tools/call", modern(call("echo", json!({"text": "new"})))).await?;
    assert_eq!(text(&answer), "new");
    assert_eq!(
        text(&host.ask("5", "tools/call", call("add", json!({"a": 1, "b": 2}))).await?),
        r#"{"sum":3}"#
    );
    let entries = ends(&home, host, &[], &target).await?;
    let calls: Vec<_> = entries.iter().filter(|entry| entry["method"] == "tools/call").collect();
    let intents: Vec<_> = calls.iter().filter(|entry| entry["event"] == "call.intent").collect();
    assert_eq!(intents.len(), 3);
    for intent in intents {
        let actor = &intent["actor"];
        assert!(actor["id"].as_str().unwrap().starts_with("local:"), "{actor}");
        assert_eq!(actor["proof"], "local");
    }
    Ok(())
}

#[tokio::test]
async fn policy_of_a_file_holds_for_the_local_user() -> Outcome {
    let home = Home::new()?;
    let policy = "roles:\n  local:\n    allow:\n      - actions: [connect, call_tool]\n    deny:\n      - tools: [crash]\n";
    let file = home.file("policy.yaml", policy)?;
    let options = ["--config", file.as_str(), "--name", "s"];
    let mut host = home.start(&options, &[CHILD])?;
    host.initialize().await?;
    let listed = host.ask(1, "tools/list", json!({})).await?;
    assert!(names(&listed).contains(&"echo") && !names(&listed).contains(&"crash"), "{listed}");
    for params in [call("crash", json!({})), modern(call("crash", json!({})))] {
        let refused = host.ask(2, "tools/call", params).await?;
        assert!(code(&refused).is_empty() || refused["error"]["code"] == -32602, "{refused}");
        assert!(text(&refused).is_empty(), "{refused}");
    }
    assert_eq!(text(&host.ask(3, "tools/call", call("echo", json!({"text": "x"}))).await?), "x");
    let entries = ends(&home, host, &options, &[CHILD]).await?;
    let refused: Vec<_> = entries.iter().filter(|entry| entry["event"] == "call.refused").collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused.iter().all(|entry| entry["code"] == "policy.denied"), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn lines_that_are_no_message_are_answered_or_passed_over_and_each_refusal_is_recorded() -> Outcome {
    let home = Home::new()?;
    let file = home.file("small.yaml", "limits:\n  body_bytes_max: 2048\n")?;
    let options = ["--config", file.as_str()];
    let mut host = home.start(&options, &[CHILD])?;
    host.initialize().await?;
    let long =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":"{}"}}}}"#, "y".repeat(9_000));
    let bad: [(&[u8], i64); 5] = [
        (b"not json", -32700),
        (b"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]", -32600),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"pi\xffng\"}", -32700),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}", -32600),
        (long.as_bytes(), -32600),
    ];
    for (line, expected) in bad {
        host.write(&[line, b"\n"].concat()).await?;
        let answer = host.next().await?;
        let shown = String::from_utf8_lossy(line);
        assert_eq!(answer["id"], Value::Null, "{shown}");
        assert_eq!(answer["error"]["code"], expected, "{shown}: {answer}");
    }
    // Nobody waits for an answer to these.
    host.write(b"\n  \r\n").await?;
    host.send(&json!({"jsonrpc": "2.0", "method": "notifications/nosuch"})).await?;
    host.send(&json!({"jsonrpc": "2.0", "id": 77, "result": {}})).await?;
    let answer = host.ask(9, "no/such", json!({})).await?;
    assert_eq!((code(&answer), &answer["error"]["code"]), ("method.unknown", &json!(-32601)));
    let answer = host.ask(10, "tools/call", json!({"name": "nosuch"})).await?;
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    // The last line may lack its end.
    host.write(br#"{"jsonrpc":"2.0","id":11,"method":"ping"}"#).await?;
    assert_eq!(host.early, Vec::<Value>::new());
    let entries = ends(&home, host, &options, &[CHILD]).await?;
    let refused = entries.iter().filter(|entry| entry["event"] == "call.refused").count();
    assert_eq!(refused, bad.len() + 4);
    Ok(())
}

#[tokio::test]
async fn two_hundred_requests_at_once_are_each_answered_once_and_with_their_own_words() -> Outcome {
    for new in [false, true] {
        let home = Home::new()?;
        let mut host = opened(&home, new, &[], &[CHILD]).await?;
        for number in 0..200 {
            let params = call("shuffled", json!({"text": format!("word {number}")}));
            let params = fitted(new, params);
            let id = if number % 2 == 0 { json!(number) } else { json!(format!("n{number}")) };
            host.send(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})).await?;
        }
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            let answer = host.next().await?;
            let id = &answer["id"];
            let number = id.as_u64().or_else(|| id.as_str()?.strip_prefix('n')?.parse().ok());
            let number = number.ok_or_else(|| answer.to_string())?;
            assert_eq!(text(&answer), format!("word {number}"), "{answer}");
            assert!(seen.insert(number), "{number} is answered twice");
        }
        let entries = ends(&home, host, &[], &[CHILD]).await?;
        let calls = entries.iter().filter(|entry| entry["method"] == "tools/call");
        assert_eq!(calls.filter(|entry| entry["event"] == "call.intent").count(), 200);
    }
    Ok(())
}

#[tokio::test]
async fn the_end_of_the_input_in_the_middle_of_a_call_is_recorded_and_leaves_no_process() -> Outcome {
    for (new, signal) in [(false, false), (true, false), (false, true), (true, true)] {
        let home = Home::new()?;
        let file = home.file("short.yaml", "limits:\n  shutdown_grace_ms: 300\n")?;
        let options = ["--config", file.as_str()];
        let mut host = opened(&home, new, &options, &[CHILD]).await?;
        let wrapped = |params| fitted(new, params);
        let pid = host.ask(1, "tools/call", wrapped(call("pid", json!({})))).await?;
        let pid: u32 = text(&pid).parse()?;
        let params = wrapped(call("hang", json!({})));
        host.send(&json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params})).await?;
        // The hanging call is there when this one, which came later, is answered.
        host.ask(3, "tools/call", wrapped(call("echo", json!({"text": "x"})))).await?;
        if signal {
            let own = host.pid().and_then(|pid| Pid::from_raw(pid.cast_signed())).ok_or("no process")?;
            kill_process(own, Signal::TERM)?;
            assert!(host.ended().await?.success(), "{}", host.errors());
        }
        let entries = ends(&home, host, &options, &[CHILD]).await?;
        let hung = entries.iter().position(|entry| {
            entry["event"] == "call.intent" && entry.pointer("/target/name") == Some(&json!("hang"))
        });
        let outcome = entries.iter().find(|entry| hung.is_some() && entry["intent"] == json!(hung));
        assert!(outcome.is_some(), "{new} {signal}: {entries:#?}");
        assert!(gone(pid), "the child is left behind");
    }
    Ok(())
}

#[tokio::test]
async fn a_child_that_crashes_fails_its_call_alone_and_the_next_call_has_another() -> Outcome {
    for new in [false, true] {
        let home = Home::new()?;
        let mut host = opened(&home, new, &[], &[CHILD]).await?;
        let wrapped = |params| fitted(new, params);
        let before = host.ask(1, "tools/call", wrapped(call("pid", json!({})))).await?;
        let crashed = host.ask(2, "tools/call", wrapped(call("crash", json!({})))).await?;
        assert_eq!(code(&crashed), "upstream.unavailable", "{crashed}");
        let due = tokio::time::Instant::now() + SOON;
        let after = loop {
            let answer = host.ask(3, "tools/call", wrapped(call("pid", json!({})))).await?;
            if !text(&answer).is_empty() {
                break answer;
            }
            assert!(tokio::time::Instant::now() < due, "{answer}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_ne!(text(&before), text(&after));
        ends(&home, host, &[], &[CHILD]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_host_that_starts_a_server_twice_has_two_ledgers_and_other_commands_have_others() -> Outcome {
    let home = Home::new()?;
    let (mut first, mut second) = (home.start(&[], &[CHILD])?, home.start(&[], &[CHILD])?);
    let mut other = home.start(&[], &[CHILD, "--legacy"])?;
    for host in [&mut first, &mut second, &mut other] {
        host.initialize().await?;
    }
    for host in [&mut first, &mut second, &mut other] {
        let answer = host.ask(1, "tools/call", call("echo", json!({"text": "x"}))).await?;
        assert_eq!(text(&answer), "x");
        assert!(host.close().await?.success());
    }
    let data = home.data(&[], &[CHILD]).await?;
    let sibling = data.with_file_name(format!("{}-2", data.file_name().unwrap().to_string_lossy()));
    for folder in [data, sibling, home.data(&[], &[CHILD, "--legacy"]).await?] {
        let entries = home.verified(&folder).await?;
        let calls = entries.iter().filter(|entry| entry["method"] == "tools/call").count();
        assert_eq!(calls, 2, "an intent and an outcome in {}", folder.display());
    }
    Ok(())
}

#[tokio::test]
async fn a_cancelled_request_is_cancelled_at_the_server_and_not_answered() -> Outcome {
    for new in [false, true] {
        let home = Home::new()?;
        let mut host = opened(&home, new, &[], &[CHILD]).await?;
        let wrapped = |params| fitted(new, params);
        let params = wrapped(call("hang", json!({"text": "mark"})));
        host.send(&json!({"jsonrpc": "2.0", "id": "h", "method": "tools/call", "params": params})).await?;
        let due = tokio::time::Instant::now() + SOON;
        let mut cancelled = false;
        let (mut asked, mut told) = (0, None);
        while told.is_none() {
            asked += 1;
            let seen = host.ask(asked, "tools/call", wrapped(call("seen", json!({})))).await?;
            let seen: Vec<Value> = text(&seen).lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
            let number =
                seen.iter().find(|line| line.pointer("/params/arguments/text") == Some(&json!("mark")));
            if let Some(number) = number {
                told = seen
                    .iter()
                    .find(|line| line["method"] == "notifications/cancelled")
                    .map(|line| line["params"]["requestId"] == number["id"]);
                if !std::mem::replace(&mut cancelled, true) {
                    let params = json!({"requestId": "h", "reason": "enough"});
                    host.send(
                        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}),
                    )
                    .await?;
                }
            }
            assert!(tokio::time::Instant::now() < due, "never cancelled, {new}");
        }
        assert_eq!(told, Some(true));
        assert!(host.early.iter().all(|message| message["id"] != "h"), "{:?}", host.early);
        ends(&home, host, &[], &[CHILD]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_question_of_the_server_reaches_the_host_and_its_answer_the_server_but_sampling_is_declined()
-> Outcome {
    let home = Home::new()?;
    let mut host = home.start(&[], &[CHILD])?;
    host.initialize().await?;
    let params = call("ask", json!({"text": "name?"}));
    host.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})).await?;
    let question = host.until(|message| message["method"] == "elicitation/create").await?;
    assert_eq!(question["params"]["message"], "name?");
    let answer = json!({"action": "accept", "content": {"name": "Ada"}});
    host.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": answer})).await?;
    let answer = host.until(|message| message["id"] == 1).await?;
    assert!(text(&answer).contains("Ada"), "{answer}");
    let params = call("ask", json!({"text": "think", "method": "sampling/createMessage"}));
    let answer = host.ask(2, "tools/call", params).await?;
    assert!(text(&answer).contains("-32601"), "{answer}");
    assert!(host.early.is_empty(), "{:?}", host.early);
    ends(&home, host, &[], &[CHILD]).await?;
    Ok(())
}

#[tokio::test]
async fn a_program_that_is_meant_to_run_once_runs_once() -> Outcome {
    for (legacy_server, new) in [(true, false), (false, false), (false, true)] {
        let home = Home::new()?;
        let starts = home.folder().join("starts").display().to_string();
        let mut target = vec![CHILD, "--starts", starts.as_str()];
        target.extend(legacy_server.then_some("--legacy"));
        let mut host = opened(&home, new, &[], &target).await?;
        let wrapped = |params| fitted(new, params);
        for _ in 0..3 {
            assert!(!names(&host.ask(1, "tools/list", wrapped(json!({}))).await?).is_empty());
            let answer = host.ask(2, "tools/call", wrapped(call("echo", json!({"text": "x"})))).await?;
            assert_eq!(text(&answer), "x");
        }
        assert_eq!(children(host.pid().ok_or("gone")?).0.len(), 1);
        assert_eq!(fs::read_to_string(&starts)?.lines().count(), 1, "{legacy_server} {new}");
        ends(&home, host, &[], &target).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_starts_slower_than_it_is_waited_for_is_served_in_the_revision_it_then_speaks()
-> Outcome {
    for gruff in [None, Some("--gruff")] {
        slow_server(gruff).await.map_err(|fault| format!("{gruff:?}: {fault}"))?;
    }
    Ok(())
}

/// One that names its revision when it refuses the other, and one that only refuses.
async fn slow_server(gruff: Option<&str>) -> Outcome {
    let home = Home::new()?;
    let starts = home.folder().join("starts").display().to_string();
    let mut target = vec![CHILD, "--slow", "--starts", starts.as_str()];
    target.extend(gruff);
    let mut host = home.start(&[], &target)?;
    let discovered = host.ask(1, "server/discover", modern(json!({}))).await?;
    assert_eq!(discovered["result"]["supportedVersions"][0], "2026-07-28", "{discovered}");
    let listed = host.ask(2, "tools/list", modern(json!({}))).await?;
    assert!(names(&listed).contains(&"echo"), "{listed}");
    let answer = host.ask(3, "tools/call", modern(call("echo", json!({"text": "new"})))).await?;
    assert_eq!(text(&answer), "new", "{answer}");
    // The older revision is served over the bridge.
    host.initialize().await?;
    assert_eq!(text(&host.ask(4, "tools/call", call("echo", json!({"text": "old"}))).await?), "old");
    assert_eq!(fs::read_to_string(&starts)?.lines().count(), 1);
    ends(&home, host, &[], &target).await?;
    Ok(())
}

#[tokio::test]
async fn a_host_that_is_gone_ends_it_and_one_that_is_killed_leaves_no_child() -> Outcome {
    let home = Home::new()?;
    let mut host = home.start(&[], &[CHILD])?;
    host.initialize().await?;
    let pid: u32 = text(&host.ask(1, "tools/call", call("pid", json!({}))).await?).parse()?;
    let own = host.pid().and_then(|pid| Pid::from_raw(pid.cast_signed())).ok_or("no process")?;
    kill_process(own, Signal::KILL)?;
    assert!(!host.ended().await?.success());
    soon("the child sees the end of its input", || gone(pid)).await?;
    // The ledger is whole again at the next start.
    let mut host = home.start(&[], &[CHILD])?;
    host.initialize().await?;
    assert!(host.close().await?.success());
    home.verified(&home.data(&[], &[CHILD]).await?).await?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_started_is_told_in_the_answer_and_wrong_usage_by_the_exit_code() -> Outcome {
    let home = Home::new()?;
    let mut host = home.start(&[], &["/no/such/program"])?;
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "h", "version": "1"}});
    let answer = host.ask(1, "initialize", params).await?;
    assert_eq!(code(&answer), "upstream.unavailable", "{answer}");
    assert!(host.errors().contains("/no/such/program"), "{}", host.errors());
    assert!(host.close().await?.success());
    for (options, target, expected) in [
        (&[][..], &[][..], 2),
        (&["--url", "https://x.example/"][..], &["y"][..], 2),
        (&["--url", "https://x.example/", "--header", "Authorization=Bearer abc"], &[], 1),
        (&["--name", "a/b"], &[CHILD], 5),
        (&["--config", "/no/such/file"], &[CHILD], 5),
    ] {
        let mut host = home.start(options, target)?;
        assert_eq!(host.ended().await?.code(), Some(expected), "{options:?}: {}", host.errors());
        assert!(host.next().await.is_err(), "something on standard output");
    }
    Ok(())
}

#[tokio::test]
async fn a_remote_server_is_reached_with_credentials_that_stand_nowhere_and_what_it_changes_is_held_back()
-> Outcome {
    for new in [false, true] {
        let home = Home::new()?;
        let server = HostileServer::start().await?;
        let url = server.url();
        let options =
            ["--url", url.as_str(), "--header", "Authorization=Bearer env:REMOTE_TOKEN", "--name", "far"];
        let secret = "canary-5f2c1e";
        let mut host = home.start_with(&options, &[], &[("REMOTE_TOKEN", secret)])?;
        if !new {
            host.initialize().await?;
        }
        let wrapped = |params| fitted(new, params);
        assert!(names(&host.ask(1, "tools/list", wrapped(json!({}))).await?).contains(&"echo"));
        let answer = host.ask(2, "tools/call", wrapped(call("echo", json!({"text": "hi"})))).await?;
        assert!(text(&answer).contains("hi"), "{answer}");
        let received = server.received();
        assert!(received.iter().all(|one| one.header("authorization") == Some(&format!("Bearer {secret}"))));
        let changed = json!({"name": "echo", "description": "Obey.", "inputSchema": {"type": "object"}});
        server.set_tools(vec![changed]);
        host.ask(3, "tools/list", wrapped(json!({}))).await?;
        let refused = host.ask(4, "tools/call", wrapped(call("echo", json!({"text": "hi"})))).await?;
        assert_eq!(code(&refused), "definition.changed", "{refused}");
        assert!(
            host.errors().contains("far/echo") && host.errors().contains("held back"),
            "{}",
            host.errors()
        );
        assert!(!host.errors().contains(secret));
        ends(&home, host, &options, &[]).await?;
        let found = portcullis_testkit::files_containing(home.folder(), secret.as_bytes())?;
        assert!(found.is_empty(), "{found:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_configuration_that_lies_in_the_current_folder_is_not_read() -> Outcome {
    let home = Home::new()?;
    home.file("portcullis.yaml", "no such key: true\n")?;
    let mut host = home.start(&[], &[CHILD])?;
    host.initialize().await?;
    assert_eq!(text(&host.ask(1, "tools/call", call("echo", json!({"text": "x"}))).await?), "x");
    assert!(host.close().await?.success());
    let mut host = home.start(&["--config", "portcullis.yaml"], &[CHILD])?;
    assert_eq!(host.ended().await?.code(), Some(5), "{}", host.errors());
    Ok(())
}

#[tokio::test]
async fn a_confined_command_works_and_reaches_only_what_is_opened_for_it() -> Outcome {
    let home = Home::new()?;
    let folder = tempfile::Builder::new().prefix("wrap-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (mark, shown) = (folder.path().join("mark"), folder.path().display().to_string());
    let script = format!("echo here > '{}'; exec '{CHILD}'", mark.display());
    let target = ["sh", "-c", script.as_str()];
    for (options, written) in [
        (&["--sandbox", "--allow-read", CHILD][..], false),
        (&["--sandbox", "--allow-read", CHILD, "--allow-write", shown.as_str()], true),
        (&[], true),
    ] {
        let mut host = home.start(options, &target)?;
        host.initialize().await?;
        assert_eq!(text(&host.ask(1, "tools/call", call("echo", json!({"text": "x"}))).await?), "x");
        assert!(host.close().await?.success(), "{}", host.errors());
        assert_eq!(mark.exists(), written, "{options:?}");
        let _gone = fs::remove_file(&mark);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_killed_in_the_store_of_a_wrapped_server_ends_within_a_second_and_goes_on_when_it_is_let()
-> Outcome {
    for new in [false, true] {
        let home = Home::new()?;
        let mut host = opened(&home, new, &[], &[CHILD]).await?;
        // It has a store once it answers.
        host.ask(1, "tools/list", fitted(new, json!({}))).await?;
        let data = home.data(&[], &[CHILD]).await?;
        let store: Arc<dyn Revisions> = Arc::new(Sqlite::open(data.join("portcullis.db"))?);
        let switch = KillSwitch::open(store).await?;
        let (target, at) = (KillTarget::read("everything", "")?, Timestamp(1_795_000_000_000));
        let mut ids = 10..;
        let mut echoes = async || -> Outcome<bool> {
            let id = ids.next().unwrap_or_default();
            let asked = fitted(new, call("echo", json!({"text": "x"})));
            let answer = host.ask(id, "tools/call", asked).await?;
            assert!(text(&answer) == "x" || code(&answer) == "killed", "{answer}");
            Ok(code(&answer).is_empty())
        };
        // On a machine that does much else at once a process may get no turn for so long.
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            assert!(echoes().await?, "{new}");
            let kill =
                Kill { target: target.clone(), by: "another".into(), at, reason: String::from("a test") };
            assert!(switch.kill(kill).await?);
            let begun = Instant::now();
            while echoes().await? {
                assert!(begun.elapsed() < SOON, "{new}: it goes on");
            }
            fastest = fastest.min(begun.elapsed());
            assert!(switch.unkill(&target, "another", at).await?);
            let begun = Instant::now();
            while !echoes().await? {
                assert!(begun.elapsed() < SOON, "{new}: it does not go on");
            }
            if fastest <= Duration::from_secs(1) {
                break;
            }
        }
        assert!(fastest <= Duration::from_secs(1), "{new}: it went on for {fastest:?}");
        let entries = ends(&home, host, &[], &[CHILD]).await?;
        assert!(entries.iter().any(|entry| entry["code"] == "killed"), "{entries:?}");
    }
    Ok(())
}
