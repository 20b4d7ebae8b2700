//! What is kept is sealed: a copy of the files tells nothing, keys are rotated while calls go on, and without its key the
//! gateway does not start.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_testkit::{Era, Gateway, Hostile, HostileServer, McpClient, Outcome};
use portcullis_tests::pair::{Pair, SOON, asked, code_of, known, new_key, soon};
use serde_json::{Value, json};

/// Put together here, so that no scanner of this repository takes them for credentials.
const PLANTED: [&str; 3] = [
    concat!("kept-by-", "the-gateway-41aa"),
    concat!("told-to-", "an-approver-77b2"),
    concat!("person.of.", "the.text@example.com"),
];

/// Puts a secret, whose value comes on standard input.
fn put(gateway: &Gateway, name: &str, value: &str) -> Outcome {
    let mut child = Command::new(gateway.binary())
        .args(["secret", "put", name])
        .current_dir(gateway.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    child.stdin.take().ok_or("no input")?.write_all(value.as_bytes())?;
    assert!(child.wait()?.success());
    Ok(())
}

/// A value as it is, and in the ways in which a dump may write it.
fn written(value: &str) -> Vec<Vec<u8>> {
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let encoded = STANDARD.encode(value);
    vec![value.into(), encoded.trim_end_matches('=').into(), hex.clone().into(), hex.to_uppercase().into()]
}

fn copy(from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name()))?,
            false => drop(fs::copy(entry.path(), to.join(entry.file_name()))?),
        }
    }
    Ok(())
}

fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) -> Outcome {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => files(&path, found)?,
            false => found.push((path.display().to_string(), fs::read(&path)?)),
        }
    }
    Ok(())
}

/// A gateway that keeps one of everything that is sensitive.
async fn full() -> Outcome<(Gateway, HostileServer, String)> {
    let server = HostileServer::start().await?;
    let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
    server.set_tools(vec![tool("echo"), tool("add")]);
    let yaml = format!(
        "inspect:\n  email: {{answers: mask, form: token}}\nroles:\n  agent:\n    allow:\n      - actions: [connect]\n      \
         - actions: [call_tool]\n        tools: [echo]\n        approval: {{roles: [lead]}}\n      - actions: [call_tool]\n        \
         tools: [add]\n        restore: [email]\n  lead: {{}}\nservers:\n  s:\n    url: {url}\n  k:\n    url: {url}\n    \
         headers: {{X-Token: local:kept}}\n",
        url = server.url()
    );
    let gateway = Gateway::start(&yaml).await?;
    put(&gateway, "kept", PLANTED[0])?;
    let key = new_key(&gateway, "agent", "agent")?;
    known(&gateway, SOON).await?;
    let mut client = McpClient::connect(&gateway.url("s"), Some(&key), Era::Modern).await?;
    let asked =
        client.request("tools/call", json!({"name": "echo", "arguments": {"text": PLANTED[1]}})).await?;
    assert_eq!(code_of(&asked), "approval.required", "{}", asked.reply.text());
    let text = format!("written by {}", PLANTED[2]);
    server.on("tools/call", Hostile::Answer(json!({"content": [{"type": "text", "text": text}]})));
    let told = client.request("tools/call", json!({"name": "add", "arguments": {}})).await?.reply.text();
    assert!(told.contains("<EMAIL_") && !told.contains(PLANTED[2]), "{told}");
    let token = told.split("<EMAIL_").nth(1).and_then(|rest| rest.split('>').next()).ok_or("no token")?;
    let token = format!("<EMAIL_{token}>");
    Ok((gateway, server, token))
}

/// What the server got in the place of the token.
async fn restored(gateway: &Gateway, server: &HostileServer, key: &str, token: &str) -> Outcome<String> {
    let mut client = McpClient::connect(&gateway.url("s"), Some(key), Era::Modern).await?;
    server.forget();
    client.request("tools/call", json!({"name": "add", "arguments": {"a": token}})).await?;
    let mut calls = server.received().into_iter().filter(|call| call.json()["method"] == "tools/call");
    Ok(calls.next_back().ok_or("no call")?.json()["params"]["arguments"]["a"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

#[tokio::test]
async fn a_copy_of_the_database_a_backup_and_the_ledger_tells_nothing_that_was_planted() -> Outcome {
    let (mut gateway, _server, _) = full().await?;
    let shown = asked(&gateway, &["approval", "list", "--json"])?.to_string();
    assert!(shown.contains(PLANTED[1]), "people see what they decide about: {shown}");
    let elsewhere = gateway.folder().join("another machine");
    let live = elsewhere.join("while it ran");
    copy(&gateway.data(), &live)?;
    gateway.stop().await?;
    copy(&gateway.data(), &elsewhere.join("stopped"))?;
    for place in ["while it ran", "stopped"] {
        // Whoever copies a disk may not get the key; whoever gets it is another threat.
        fs::remove_file(elsewhere.join(place).join("kek"))?;
        let mut found = Vec::new();
        files(&elsewhere.join(place), &mut found)?;
        let database = elsewhere.join(place).join("portcullis.db");
        let dump = "import sqlite3,sys\nfor line in sqlite3.connect(sys.argv[1]).iterdump(): print(line)";
        let dump = Command::new("python3").args(["-c", dump]).arg(&database).output()?;
        let text = String::from_utf8_lossy(&dump.stdout).into_owned();
        assert!(dump.status.success() && text.contains("CREATE TABLE data_keys"), "{text}");
        assert!(
            text.contains("INSERT INTO \"approvals\"") && text.contains("INSERT INTO \"subject_keys\""),
            "{text}"
        );
        found.push(("the dump".into(), dump.stdout));
        for (name, bytes) in &found {
            for value in PLANTED.iter().flat_map(|value| written(value)) {
                let there = bytes.windows(value.len()).any(|part| part == value);
                assert!(!there, "{name} of what was copied {place} has {}", String::from_utf8_lossy(&value));
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_data_key_is_rotated_while_calls_go_on_and_what_was_sealed_before_opens_after() -> Outcome {
    let (mut gateway, server, token) = full().await?;
    let key = new_key(&gateway, "another", "agent")?;
    assert_eq!(restored(&gateway, &server, &key, &token).await?, PLANTED[2]);
    let done = Arc::new(AtomicBool::new(false));
    let (calling, url, caller) = (Arc::clone(&done), gateway.url("s"), key.clone());
    let calls = tokio::spawn(async move {
        let (mut good, mut bad) = (0, BTreeSet::new());
        let mut client = McpClient::new(&url, Some(&caller), Era::Modern);
        while !calling.load(Ordering::Relaxed) {
            match client.request("tools/call", json!({"name": "add", "arguments": {}})).await {
                Ok(answer) if code_of(&answer).is_empty() => good += 1,
                Ok(answer) => drop(bad.insert(answer.reply.text())),
                Err(error) => drop(bad.insert(error.to_string())),
            }
        }
        (good, bad)
    });
    let rotated = {
        let (binary, folder) = (gateway.binary().to_owned(), gateway.folder().to_owned());
        tokio::task::spawn_blocking(move || {
            Command::new(binary).args(["seal", "rotate", "--retire", "--json"]).current_dir(folder).output()
        })
        .await??
    };
    done.store(true, Ordering::Relaxed);
    let (good, bad) = calls.await?;
    assert!(good > 0 && bad.is_empty(), "{good} good, {bad:?}");
    let said = String::from_utf8_lossy(&rotated.stderr).into_owned();
    let rotation: Value =
        serde_json::from_slice(&rotated.stdout).map_err(|error| format!("{error}: {said}"))?;
    assert_eq!(
        (&rotation["version"], &rotation["lost"], &rotation["retired"]),
        (&json!(2), &json!(0), &json!(1))
    );
    assert!(rotation["resealed"].as_u64() >= Some(2) && said.contains("sealed"), "{rotation} {said}");
    assert_eq!(
        restored(&gateway, &server, &key, &token).await?,
        PLANTED[2],
        "the person's key was sealed anew"
    );
    gateway.stop().await?;
    server.forget();
    gateway.start_again().await?;
    let kept = |server: &HostileServer| {
        server.received().iter().any(|one| one.header("x-token").is_some_and(|value| value == PLANTED[0]))
    };
    soon("the secret of the gateway reaches its server", || kept(&server)).await?;
    known(&gateway, SOON).await?;
    assert_eq!(restored(&gateway, &server, &key, &token).await?, PLANTED[2]);
    Ok(())
}

#[tokio::test]
async fn without_its_key_it_does_not_start_and_another_key_takes_over_with_the_one_before_beside_it()
-> Outcome {
    let mut pair = Pair::start(&[]).await?;
    let key = pair.gateway.key()?.to_owned();
    pair.gateway.stop().await?;
    let (kek, aside) = (pair.gateway.data().join("kek"), pair.gateway.folder().join("old.kek"));
    fs::rename(&kek, &aside)?;
    let refused = |pair: &Pair| -> Outcome<String> {
        let mut command = Command::new(pair.gateway.binary());
        let output = command.arg("run").current_dir(pair.gateway.folder()).env("PASS", "phrase").output()?;
        assert_eq!(output.status.code(), Some(1));
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let said = refused(&pair)?;
    assert!(said.contains("kek") && said.contains("restore it"), "{said}");
    // A key of another gateway.
    let stranger = Pair::start(&[]).await?;
    fs::copy(stranger.gateway.data().join("kek"), &kek)?;
    let said = refused(&pair)?;
    assert!(said.contains("encryption.former"), "{said}");
    pair.gateway.rewrite(|yaml| format!("{yaml}encryption:\n  former: [file:old.kek]\n"))?;
    pair.gateway.start_again().await?;
    assert_eq!(asked(&pair.gateway, &["seal", "rewrap", "--json"])?["done"], 2);
    pair.gateway.stop().await?;
    fs::remove_file(&aside)?;
    pair.gateway.rewrite(|yaml| yaml.replace("encryption:\n  former: [file:old.kek]\n", ""))?;
    pair.gateway.start_again().await?;
    let mut client = McpClient::new(&pair.gateway.url("s"), Some(&key), Era::Modern);
    assert_eq!(code_of(&client.request("tools/list", json!({})).await?), "", "an API key of before counts");
    // Under a passphrase that is not the one.
    pair.gateway.stop().await?;
    pair.gateway.rewrite(|yaml| format!("{yaml}encryption:\n  passphrase: env:PASS\n"))?;
    let said = refused(&pair)?;
    assert!(said.contains("passphrase"), "{said}");
    Ok(())
}

#[tokio::test]
async fn once_every_key_was_destroyed_nobody_is_let_in_and_a_restart_begins_anew() -> Outcome {
    let (mut gateway, server, token) = full().await?;
    let key = new_key(&gateway, "another", "agent")?;
    let named =
        |name: &str| gateway.command(&["seal", "shred", "--instance", name, "--reason", "a test", "--json"]);
    assert_eq!(named("somebody")?.status.code(), Some(1));
    assert_eq!(restored(&gateway, &server, &key, &token).await?, PLANTED[2], "nothing was destroyed");
    let instance = asked(&gateway, &["seal", "status", "--json"])?;
    let instance = instance["gateway"].as_str().ok_or("no name")?.to_owned();
    let done = named(&instance)?;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let due = tokio::time::Instant::now() + SOON;
    loop {
        let mut client = McpClient::new(&gateway.url("s"), Some(&key), Era::Modern);
        let code = code_of(&client.request("tools/list", json!({})).await?);
        if code == "auth.unavailable" {
            break;
        }
        assert!(tokio::time::Instant::now() < due, "still {code}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let made = gateway.command(&["key", "create", "late", "--role", "agent"])?;
    assert!(!made.status.success(), "no key can be made that could be judged");
    let status = asked(&gateway, &["seal", "status", "--json"])?;
    assert_eq!((&status["open"], &status["keys"]), (&json!(false), &json!([])));
    gateway.stop().await?;
    gateway.start_again().await?;
    assert!(gateway.output().contains("made anew"), "{}", gateway.output());
    let fresh = new_key(&gateway, "new", "agent")?;
    known(&gateway, SOON).await?;
    assert_ne!(restored(&gateway, &server, &fresh, &token).await?, PLANTED[2], "a token of before is noise");
    let verified = gateway.command(&["audit", "verify"])?;
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    Ok(())
}
