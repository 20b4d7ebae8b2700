//! Every command against a running gateway: what it prints for people and for programs, how it ends, and what it says
//! of a ledger that somebody touched.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use portcullis_proof::{VerifierKey, proof_file::ProofFile};
use portcullis_testkit::{Era, Gateway, HostileServer, McpClient, Outcome, free_port};
use portcullis_tests::pair::{Pair, SOON, known};
use serde_json::{Value, json};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn run(gateway: &Gateway, arguments: &[&str]) -> Outcome<(Option<i32>, String, String)> {
    let output = gateway.command(arguments)?;
    Ok((output.status.code(), out(&output), errors(&output)))
}

/// One JSON value, or one per line.
fn json_of(text: &str) -> Option<Value> {
    let lines = || text.lines().map(|line| serde_json::from_str::<Value>(line).ok()).collect();
    serde_json::from_str(text).ok().or_else(lines)
}

/// A gateway that has seen a call, a refusal and a changed definition.
async fn world() -> Outcome<Pair> {
    let pair = Pair::start(&[]).await?;
    let mut client = pair.client(Era::Modern).await?;
    client.call("echo", json!({"text": "hi"})).await?;
    client.call("nosuch", json!({})).await?;
    let changed =
        json!({"name": "echo", "description": "Says it thrice.", "inputSchema": {"type": "object"}});
    pair.server.set_tools(vec![changed, json!({"name": "later", "inputSchema": {"type": "object"}})]);
    client.list("tools/list").await?;
    Ok(pair)
}

#[tokio::test]
async fn every_command_speaks_to_people_and_to_programs() -> Outcome {
    let pair = world().await?;
    let gateway = &pair.gateway;
    let listed: Value = serde_json::from_str(&run(gateway, &["key", "list", "--json"])?.1)?;
    let first = listed["keys"][0]["id"].as_str().unwrap().to_owned();
    let port = format!("http://127.0.0.1:{}/mcp", free_port()?);
    let url = pair.server.url();
    // What, and the words that must be printed.
    let commands: Vec<(Vec<&str>, &str)> = vec![
        (vec!["check"], "ok"),
        (
            vec!["key", "create", "ci", "--role", "reader", "--server", "s", "--expires", "1h", "--user"],
            "pcl_",
        ),
        (vec!["key", "list"], &first),
        (vec!["server", "list"], "ready"),
        (vec!["server", "list"], &url),
        (vec!["tool", "list"], "s/echo"),
        (vec!["tool", "list", "s", "--state", "pending", "--kind", "tool"], "later"),
        (vec!["tool", "show", "s/echo"], "thrice"),
        (vec!["tool", "diff", "s/echo"], "/description"),
        (vec!["tool", "reject", "s/echo"], "rejected"),
        (vec!["tool", "approve", "s/echo"], "approved"),
        (vec!["policy", "check"], "permit"),
        (vec!["policy", "explain", "s/echo", "--role", "reader"], "no policy permits"),
        (
            vec!["policy", "explain", "s/echo", "--key", &first, "--arguments", "{\"text\": \"x\"}"],
            "operator",
        ),
        (vec!["audit", "tail", "-n", "3"], "definition.approved"),
        (vec!["audit", "query", "--code", "target.unknown", "--server", "s"], "target.unknown"),
        (
            vec!["audit", "query", "--event", "call.*", "--tool", "echo", "--since", "2026-01-01"],
            "call.intent",
        ),
        (vec!["audit", "query", "--offline", "--tool", "echo", "--newest", "--limit", "1"], "s/echo"),
        (vec!["audit", "timeline", "--server", "s"], "calls"),
        (vec!["audit", "index", "status", "--check"], "complete for"),
        (vec!["audit", "index", "rebuild"], "complete for"),
        (vec!["audit", "verify"], "entries"),
        (vec!["audit", "prove", "0", "-o", "0.tlog-proof"], "0.tlog-proof proves"),
        (vec!["key", "revoke", &first], &first),
    ];
    for (arguments, words) in &commands {
        let (code, said, complaint) = run(gateway, arguments)?;
        assert_eq!(code, Some(0), "{arguments:?}: {said}{complaint}");
        assert!(said.contains(words), "{arguments:?}: `{words}` is not in\n{said}");
        assert!(!said.is_empty() && json_of(&said).is_none(), "{arguments:?} is not for people:\n{said}");
        assert!(!said.contains('\u{1b}'), "{arguments:?} colours a pipe");
        let (code, said, complaint) = run(gateway, &[&arguments[..], &["--json"]].concat())?;
        assert_eq!(code, Some(0), "{arguments:?} --json: {said}{complaint}");
        assert!(json_of(&said).is_some(), "{arguments:?} --json is no JSON:\n{said}");
    }
    for (arguments, words) in
        [(&["server", "add", "n", "--url", &port][..], "added"), (&["server", "remove", "n"], "removed")]
    {
        let (code, said, complaint) = run(gateway, arguments)?;
        assert_eq!(code, Some(0), "{said}{complaint}");
        assert!(said.contains(words), "{said}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(gateway, &["completions", shell])?.1.contains("portcullis"));
    }
    let (code, said, _) = run(gateway, &["sample-server"])?;
    assert_eq!((code, said.as_str()), (Some(0), ""), "it ends with its input");
    Ok(())
}

#[tokio::test]
async fn every_failure_has_its_exit_code_and_its_reason_in_both_forms() -> Outcome {
    let pair = world().await?;
    let gateway = &pair.gateway;
    fs::write(gateway.folder().join("bad.yaml"), "nonsense: 1\n")?;
    fs::write(gateway.folder().join("wrong.token"), "0".repeat(64))?;
    fs::set_permissions(
        gateway.folder().join("wrong.token"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )?;
    let nobody = format!("http://127.0.0.1:{}", free_port()?);
    let cases: Vec<(i32, Vec<&str>, &str)> = vec![
        (1, vec!["key", "revoke", "nosuch"], "nosuch"),
        (1, vec!["key", "create", "x", "--role", "nosuchrole"], "nosuchrole"),
        (1, vec!["key", "create", "x", "--role", "reader", "--server", "no/such"], "no/such"),
        (1, vec!["server", "remove", "nosuch"], "nosuch"),
        (1, vec!["tool", "show", "s/nosuch"], "nosuch"),
        (1, vec!["tool", "approve", "s/nosuch"], "nosuch"),
        (1, vec!["tool", "approve", "s/echo", "--digest", "sha256:00"], "digest"),
        (1, vec!["policy", "explain", "s/echo", "--key", "nosuch"], "nosuch"),
        (1, vec!["policy", "explain", "s/echo", "--role", "reader", "--action", "fly"], "fly"),
        (1, vec!["audit", "prove", "999999"], "999999"),
        (1, vec!["audit", "query", "--since", "someday"], "someday"),
        (1, vec!["audit", "query", "--input", "sha256:12"], "digest"),
        (1, vec!["audit", "query", "--cursor", "AQ"], "cursor"),
        (1, vec!["audit", "query", "--scan"], "--offline"),
        (1, vec!["key", "list", "--token-file", "wrong.token"], "token"),
        (1, vec!["audit", "verify", "--ledger", "nosuch"], "nosuch"),
        (1, vec!["audit", "verify", "--vkey", "nosuch"], "nosuch"),
        (2, vec!["key", "create", "x"], "--role"),
        (2, vec!["fly"], "fly"),
        (2, vec!["tool", "show", "echo"], "SERVER/NAME"),
        (2, vec!["server", "add", "x"], "--url"),
        (2, vec!["audit", "tail", "-n", "0"], "1..=1000"),
        (3, vec!["key", "list", "--admin", &nobody], "hint"),
        (5, vec!["check", "--config", "bad.yaml"], "nonsense"),
        (5, vec!["run", "--config", "bad.yaml"], "nonsense"),
        (5, vec!["check", "--config", "absent.yaml"], "absent.yaml"),
    ];
    for (expected, arguments, words) in &cases {
        let (code, said, complaint) = run(gateway, arguments)?;
        assert_eq!(code, Some(*expected), "{arguments:?}: {said}{complaint}");
        assert!(said.is_empty(), "{arguments:?} prints beside its complaint: {said}");
        assert!(complaint.contains(words), "{arguments:?}: `{words}` is not in\n{complaint}");
        if *expected == 2 {
            continue;
        }
        let (code, said, complaint) = run(gateway, &[&arguments[..], &["--json"]].concat())?;
        assert_eq!(code, Some(*expected), "{arguments:?} --json: {said}{complaint}");
        let told = json_of(&complaint).or_else(|| json_of(&said));
        assert!(
            told.is_some_and(|told| told.to_string().contains(words)),
            "{arguments:?} --json:\n{said}{complaint}"
        );
    }
    // Where no gateway ever ran there is none to be found, and it says how to start one.
    let empty = tempfile::tempdir()?;
    let output = Command::new(gateway.binary())
        .current_dir(&empty)
        .args(["key", "list"])
        .stdin(Stdio::null())
        .output()?;
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    assert!(errors(&output).contains("portcullis run"), "{}", errors(&output));
    Ok(())
}

/// A stopped gateway's folder with a ledger of several bundles, and an older copy of it.
async fn written() -> Outcome<(Gateway, PathBuf, String)> {
    let server = HostileServer::start().await?;
    let limits = "limits:\n  caller_rate_per_s: 1000000\n  source_rate_per_s: 1000000\n";
    let mut gateway = Gateway::start(&format!("servers:\n  s:\n    url: {}\n{limits}", server.url())).await?;
    known(&gateway, SOON).await?;
    let mut client = McpClient::new(&gateway.url("s"), Some(gateway.key()?), Era::Modern);
    for number in 0..135 {
        client.call("echo", json!({"text": number.to_string()})).await?;
    }
    gateway.stop().await?;
    let old = gateway.folder().join("older");
    copy(&gateway.data().join("ledger"), &old)?;
    gateway.start_again().await?;
    for number in 0..15 {
        client.call("echo", json!({"text": number.to_string()})).await?;
    }
    let verified: Value = serde_json::from_str(&run(&gateway, &["audit", "verify", "--json"])?.1)?;
    gateway.stop().await?;
    let vkey = verified["vkey"].as_str().unwrap().to_owned();
    Ok((gateway, old, vkey))
}

fn copy(from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

#[tokio::test]
async fn one_changed_byte_in_any_file_of_the_ledger_is_named_and_ends_with_4() -> Outcome {
    let (gateway, _, _) = written().await?;
    let ledger = gateway.data().join("ledger");
    let (code, said, complaint) = run(&gateway, &["audit", "verify"])?;
    assert_eq!(code, Some(0), "{said}{complaint}");
    let all = files(&ledger)?;
    assert!(all.len() >= 5, "{all:?}");
    let mut touched = 0;
    for file in all.iter().filter(|file| fs::metadata(file).unwrap().len() > 0) {
        let good = fs::read(file)?;
        for at in [good.len() / 3, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(file, &bad)?;
            let (code, said, complaint) = run(&gateway, &["audit", "verify"])?;
            let place = file.strip_prefix(&ledger)?.display().to_string();
            // A log that is written ahead holds nothing that the tiles do not hold once the gateway stopped in order.
            if place.starts_with("wal") && code == Some(0) {
                continue;
            }
            assert_eq!(code, Some(4), "byte {at} of {place}: {said}{complaint}");
            let named =
                complaint.contains(&place) || complaint.contains("entry") || complaint.contains("checkpoint");
            assert!(named, "byte {at} of {place} is not named:\n{complaint}");
            touched += 1;
        }
        fs::write(file, &good)?;
    }
    assert!(touched >= 8, "{touched}");
    assert_eq!(run(&gateway, &["audit", "verify"])?.0, Some(0), "the search itself left no trace");
    Ok(())
}

#[tokio::test]
async fn a_cut_tail_a_missing_file_and_an_older_copy_are_noticed() -> Outcome {
    let (gateway, old, vkey) = written().await?;
    let ledger = gateway.data().join("ledger");
    let kept = gateway.folder().join("kept");
    copy(&ledger, &kept)?;
    let restore = || -> Outcome {
        fs::remove_dir_all(&ledger)?;
        copy(&kept, &ledger)
    };
    for file in files(&ledger)?
        .iter()
        .filter(|file| file.to_string_lossy().contains("/tile/") || file.ends_with("checkpoint"))
    {
        let good = fs::read(file)?;
        for bad in [None, Some(&good[..good.len() - 1])] {
            match bad {
                None => fs::remove_file(file)?,
                Some(bytes) => fs::write(file, bytes)?,
            }
            let (code, said, complaint) = run(&gateway, &["audit", "verify"])?;
            assert_eq!(
                code,
                Some(4),
                "{} cut to {:?}: {said}{complaint}",
                file.display(),
                bad.map(<[u8]>::len)
            );
        }
        fs::write(file, &good)?;
    }
    let newest = gateway.folder().join("newest.checkpoint");
    fs::copy(ledger.join("checkpoint"), &newest)?;
    fs::remove_dir_all(&ledger)?;
    copy(&old, &ledger)?;
    let (code, said, complaint) = run(&gateway, &["audit", "verify"])?;
    assert_eq!(code, Some(4), "an older copy put back, against the store: {said}{complaint}");
    restore()?;
    let older = old.display().to_string();
    let since = newest.display().to_string();
    let (code, said, complaint) =
        run(&gateway, &["audit", "verify", "--ledger", &older, "--vkey", &vkey, "--since", &since])?;
    assert_eq!(code, Some(4), "an older copy against a checkpoint that was kept: {said}{complaint}");
    let (code, said, _) = run(&gateway, &["audit", "verify", "--ledger", &older, "--vkey", &vkey])?;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("not compared with an earlier checkpoint"), "{said}");
    let earlier = old.join("checkpoint").display().to_string();
    let (code, said, complaint) = run(&gateway, &["audit", "verify", "--vkey", &vkey, "--since", &earlier])?;
    assert_eq!(code, Some(0), "it continues what was kept: {said}{complaint}");
    Ok(())
}

#[tokio::test]
async fn a_gateway_does_not_continue_a_ledger_that_was_put_back() -> Outcome {
    let (mut gateway, old, _) = written().await?;
    let ledger = gateway.data().join("ledger");
    fs::remove_dir_all(&ledger)?;
    copy(&old, &ledger)?;
    let fault = gateway.start_again().await.unwrap_err().to_string();
    assert!(fault.contains("older") && fault.contains("hint"), "{fault}");
    Ok(())
}

#[tokio::test]
async fn a_proof_convinces_whoever_has_the_public_key_of_this_entry_and_no_other() -> Outcome {
    let pair = world().await?;
    let (_, said, _) = run(&pair.gateway, &["audit", "query", "--json"])?;
    let rows: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(rows.len() > 5);
    let mut key = None;
    for row in &rows {
        let index = row["index"].to_string();
        let (code, made, complaint) = run(&pair.gateway, &["audit", "prove", &index, "--json"])?;
        assert_eq!(code, Some(0), "{complaint}");
        let made: Value = serde_json::from_str(&made)?;
        let vkey = VerifierKey::from_text(made["vkey"].as_str().unwrap())?;
        let text = fs::read_to_string(pair.gateway.folder().join(format!("{index}.tlog-proof")))?;
        let proof = ProofFile::from_text(&text)?;
        // Entries are canonical JSON, so that what is printed is what was hashed.
        let entry = serde_json::to_vec(&row["entry"])?;
        assert_eq!(proof.verify(&entry, &vkey)?.origin, "portcullis.local/ledger");
        let forged =
            String::from_utf8(entry)?.replace("127.0.0.1", "127.0.0.2").replace("\"v\":1", "\"v\":2");
        assert!(proof.verify(forged.as_bytes(), &vkey).is_err(), "entry {index} can be forged");
        let next =
            serde_json::to_vec(&rows[(row["index"].as_u64().unwrap() as usize + 1) % rows.len()]["entry"])?;
        assert!(proof.verify(&next, &vkey).is_err(), "the proof of {index} fits another entry");
        key = Some(vkey);
    }
    assert!(key.is_some());
    Ok(())
}

#[test]
fn the_help_of_every_command_shows_an_example() -> Outcome {
    let probe = Gateway::builder().config("").prepare()?;
    let commands = [
        "run",
        "key create",
        "key list",
        "key revoke",
        "server list",
        "server add",
        "server remove",
        "tool list",
        "tool show",
        "tool diff",
        "tool approve",
        "tool reject",
        "policy check",
        "policy explain",
        "audit tail",
        "audit query",
        "audit timeline",
        "audit graph",
        "audit export",
        "audit replay",
        "audit index status",
        "audit index rebuild",
        "audit verify",
        "audit prove",
        "completions",
    ];
    for command in commands {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.push("--help");
        let output = probe.command(&arguments)?;
        let help = out(&output);
        assert!(
            output.status.success()
                && help.contains("Example")
                && help.contains(&format!("portcullis {command}")),
            "{command}:\n{help}"
        );
        assert!(help.contains("--json"), "{command}");
    }
    let help = out(&probe.command(&["--help"])?);
    for word in ["Examples:", "Exit codes:", "check", "sample-server"] {
        assert!(help.contains(word), "{word}");
    }
    Ok(())
}
