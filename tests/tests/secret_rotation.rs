//! Secrets get other values while calls go on: none of them fails, children that were given the old one are replaced, and
//! operators see who is given what.

use std::{
    collections::BTreeSet,
    io::Write as _,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use portcullis_testkit::{Era, Gateway, GatewayBuilder, HostileServer, McpClient, Outcome};
use portcullis_tests::pair::{SOON, code_of, entries, known, new_key};
use serde_json::{Value, json};

const CHILD: &str = env!("CARGO_BIN_EXE_scripted-child");
const FIRST: &str = "the-first-value-of-it";
const SECOND: &str = "the-second-and-longer-value-of-it";

fn fed(gateway: &Gateway, arguments: &[&str], input: &str) -> Outcome<Output> {
    let mut child = Command::new(gateway.binary())
        .args(arguments)
        .current_dir(gateway.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().ok_or("no input")?.write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

async fn world() -> Outcome<(HostileServer, Gateway)> {
    let server = HostileServer::start().await?;
    let yaml = format!(
        "roles:\n  narrow:\n    allow:\n      - actions: [connect, call_tool]\n        servers: [shared]\n  outside: {{}}\n\
         servers:\n  s:\n    url: {}\n    headers: {{Authorization: 'Bearer file:web.token', X-Mine: 'Bearer env:SHORT'}}\n  \
         shared:\n    command: {}\n    isolation: shared\n    env: {{KEPT: 'file:child.token'}}\n  own:\n    command: {}\n    env: \
         {{KEPT: 'local:kept'}}\n",
        server.url(),
        json!([CHILD, "--keeps"]),
        json!([CHILD, "--keeps"]),
    );
    let gateway = GatewayBuilder::default()
        .config(&yaml)
        .file("web.token", FIRST)
        .file("child.token", FIRST)
        .environment("SHORT", "tiny")
        .start()
        .await?;
    assert!(fed(&gateway, &["secret", "put", "kept"], FIRST)?.status.success());
    known(&gateway, SOON).await?;
    Ok((server, gateway))
}

/// The process that answered, and how many bytes it was given.
async fn given(client: &mut McpClient) -> Outcome<(String, usize)> {
    let answer = client.call("given", json!({})).await?;
    let text = answer.text();
    let (process, bytes) = text.split_once(' ').ok_or_else(|| answer.reply.text())?;
    Ok((process.to_owned(), bytes.parse()?))
}

#[tokio::test]
async fn a_child_that_was_given_what_was_rotated_is_replaced_and_no_call_fails() -> Outcome {
    let (_server, gateway) = world().await?;
    for era in Era::ALL {
        std::fs::write(gateway.folder().join("child.token"), FIRST)?;
        let mut clients = Vec::new();
        for _ in 0..16 {
            clients.push(McpClient::connect(&gateway.url("shared"), Some(gateway.key()?), era).await?);
        }
        let mut first = clients.pop().ok_or("no client")?;
        let due = Instant::now() + SOON;
        let old = loop {
            let (process, bytes) = given(&mut first).await?;
            if bytes == FIRST.len() {
                break process;
            }
            assert!(Instant::now() < due, "{bytes}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let mut slow = clients.pop().ok_or("no client")?;
        let running = tokio::spawn(async move { slow.call("slow", json!({"ms": 9_000})).await });
        tokio::time::sleep(Duration::from_millis(200)).await;
        std::fs::write(gateway.folder().join("child.token"), SECOND)?;
        let mut busy = Vec::new();
        for mut client in clients {
            busy.push(tokio::spawn(async move {
                let (mut seen, mut failed, due) = (BTreeSet::new(), Vec::new(), Instant::now() + SOON);
                while Instant::now() < due && !seen.contains(&SECOND.len()) {
                    match given(&mut client).await {
                        Ok((_, bytes)) => drop(seen.insert(bytes)),
                        Err(error) => failed.push(error.to_string()),
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                (seen, failed)
            }));
        }
        for one in busy {
            let (seen, failed) = one.await?;
            assert_eq!(failed, Vec::<String>::new(), "{era:?}");
            assert!(seen.contains(&SECOND.len()), "{era:?}: {seen:?}");
        }
        let (new, bytes) = given(&mut first).await?;
        assert!(new != old && bytes == SECOND.len(), "{era:?}: {old} {new} {bytes}");
        let answer = running.await?.map_err(|error| error.to_string())?;
        assert_eq!(answer.text(), format!("{old} slow"), "{era:?}: what runs finishes where it runs");
        let due = Instant::now() + SOON;
        while std::path::Path::new("/proc").join(&old).join("exe").exists() {
            assert!(Instant::now() < due, "the old child is still there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(!entries(&gateway, "event=secret.rotated").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_secret_is_rotated_by_command_recorded_and_used_at_once() -> Outcome {
    let (server, gateway) = world().await?;
    let mut child = McpClient::connect(&gateway.url("own"), Some(gateway.key()?), Era::Modern).await?;
    let (old, bytes) = given(&mut child).await?;
    assert_eq!(bytes, FIRST.len());
    let done = fed(&gateway, &["secret", "rotate", "local:kept", "--json"], SECOND)?;
    assert!(done.status.success() && !said(&done).contains(SECOND), "{}", said(&done));
    let told: Value = serde_json::from_slice(&done.stdout)?;
    assert_eq!(told["documents"][0]["changed"], true, "{told}");
    let due = Instant::now() + Duration::from_secs(4);
    while given(&mut child).await?.1 != SECOND.len() {
        assert!(Instant::now() < due, "the child is not replaced at once");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_ne!(given(&mut child).await?.0, old);

    let mut client = McpClient::connect(&gateway.url("s"), Some(gateway.key()?), Era::Modern).await?;
    client.call("echo", json!({"text": "x"})).await?;
    std::fs::write(gateway.folder().join("web.token"), SECOND)?;
    let done = gateway.command(&["secret", "rotate", "servers.s.headers.Authorization", "--json"])?;
    assert!(done.status.success() && said(&done).contains("true"), "{}", said(&done));
    server.forget();
    client.call("echo", json!({"text": "x"})).await?;
    let sent = server.received().into_iter().filter_map(|one| one.header("authorization").map(str::to_owned));
    assert_eq!(sent.collect::<BTreeSet<_>>(), BTreeSet::from([format!("Bearer {SECOND}")]));

    for (arguments, reason) in [
        (vec!["secret", "rotate", "env:SHORT"], "restart"),
        (vec!["secret", "rotate", "vault:a/b#c"], "nothing in the configuration refers to"),
        (
            vec!["secret", "rotate", "servers.s.headers.Authorization", "--at-source"],
            "no source that could make",
        ),
    ] {
        let refused = gateway.command(&arguments)?;
        assert!(
            !refused.status.success() && said(&refused).contains(reason),
            "{arguments:?}: {}",
            said(&refused)
        );
    }
    let refused = fed(&gateway, &["secret", "rotate", "local:never"], SECOND)?;
    assert!(!refused.status.success() && said(&refused).contains("keeps no secret"), "{}", said(&refused));
    let renewed = entries(&gateway, "event=secret.renewed").await?;
    let names: BTreeSet<&str> = renewed.iter().filter_map(|entry| entry["data"]["secret"].as_str()).collect();
    assert!(names.contains("local:kept") && names.contains("servers.s.headers.Authorization"), "{names:?}");
    assert!(gateway.files_with(SECOND)?.iter().all(|path| path.ends_with("web.token")));
    Ok(())
}

#[tokio::test]
async fn operators_see_whose_calls_a_secret_is_joined_to_and_how_it_stands() -> Outcome {
    let (_server, gateway) = world().await?;
    new_key(&gateway, "worker", "narrow")?;
    new_key(&gateway, "stranger", "outside")?;
    let ask = |name: &str| -> Outcome<Value> {
        let output = gateway.command(&["secret", "get", "--who-can", name, "--json"])?;
        assert!(output.status.success(), "{}", said(&output));
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    let told = ask("servers.shared.env.KEPT")?;
    assert!(!told.to_string().contains(FIRST));
    let users = told["uses"][0]["users"].as_array().cloned().unwrap_or_default();
    let verdict = |what: &str, name: &str| {
        let found = users.iter().find(|user| user[what] == name);
        found.and_then(|user| user["verdict"].as_str()).unwrap_or("none").to_owned()
    };
    assert_eq!(verdict("name", "worker"), "allow", "{told}");
    assert_eq!(verdict("name", "stranger"), "none", "{told}");
    assert_eq!(
        (verdict("id", "narrow"), verdict("id", "outside")),
        ("allow".into(), "none".into()),
        "{told}"
    );
    assert_eq!(verdict("id", "gateway"), "allow", "{told}");
    let told = ask("servers.s.headers.Authorization")?;
    assert!(!told.to_string().contains("worker"), "{told}");
    assert_eq!(told["uses"][0]["server"], "s");

    let output = gateway.command(&["secret", "check", "--json"])?;
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).map_err(|_| said(&output))?;
    let row = |key: &str| rows.iter().find(|row| row["key"] == key).cloned().unwrap_or_default();
    assert_eq!(row("servers.s.headers.X-Mine")["watched"], false, "{rows:?}");
    for key in ["servers.s.headers.Authorization", "servers.own.env.KEPT"] {
        assert!(row(key)["watched"] == true && row(key)["age_s"].is_u64(), "{rows:?}");
    }
    let text = said(&gateway.command(&["secret", "check"])?);
    assert!(text.contains("less than 8 bytes") && !text.contains(FIRST) && !text.contains("tiny"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_added_at_run_time_takes_references_and_no_secret() -> Outcome {
    let (server, gateway) = world().await?;
    let url = server.url();
    let added = gateway.command(&[
        "server",
        "add",
        "late",
        "--url",
        &url,
        "--allow-loopback",
        "--header",
        "Authorization=Bearer local:kept",
    ])?;
    assert!(added.status.success(), "{}", said(&added));
    known(&gateway, SOON).await?;
    let mut client = McpClient::connect(&gateway.url("late"), Some(gateway.key()?), Era::Modern).await?;
    server.forget();
    let answer = client.call("echo", json!({"text": "x"})).await?;
    assert_eq!(code_of(&answer), "", "{}", answer.reply.text());
    let bearer = format!("Bearer {FIRST}");
    assert!(server.received().iter().any(|one| one.header("authorization") == Some(&bearer)));
    for (header, hint) in [
        ("Authorization=Bearer hunter2hunter2", "secret put"),
        ("X-Api-Key=hunter2hunter2", "secret put"),
        ("X-Other=ghp_0123456789abcdefghij", "secret put"),
        ("Authorization=Bearer vault:only", "vault:MOUNT/PATH#FIELD"),
    ] {
        let refused = gateway.command(&[
            "server",
            "add",
            "more",
            "--url",
            &url,
            "--allow-loopback",
            "--header",
            header,
        ])?;
        let text = said(&refused);
        assert!(!refused.status.success() && text.contains(hint), "{header}: {text}");
        assert!(!text.contains("hunter2hunter2") && !text.contains("0123456789abcdefghij"), "{text}");
    }
    // What is obtained once needs its secret at once: it is fetched when the server is added, and named where it is not there.
    let server = |name: &str| {
        json!({"name": name, "server": {"url": url, "egress": {"allow_loopback": true}, "authorization":
            {"mode": "client_credentials", "client_id": "gateway",
             "client_secret": format!("local:{name}"), "issuer": "http://127.0.0.1:9/"}}})
    };
    let token = gateway.admin_token()?;
    for (name, taken) in [("kept", true), ("absent", false)] {
        let reply = portcullis_testkit::Client::default()
            .post(
                &format!("{}/v1/servers", gateway.admin_base()),
                &[("authorization", &format!("Bearer {token}")), ("content-type", "application/json")],
                server(name).to_string(),
            )
            .await?;
        let text = reply.text();
        assert!(!text.contains(FIRST), "{text}");
        match taken {
            true => assert!(reply.status.is_success(), "{text}"),
            false => assert!(!reply.status.is_success() && text.contains("secret put absent"), "{text}"),
        }
    }
    Ok(())
}
