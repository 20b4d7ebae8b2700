//! What happened is found again: by the index, in pages, in the gateway and in files, by those who may, and on record.

use std::{fs, path::Path};

use http::Method;
use portcullis_testkit::{Client, Era, Gateway, McpClient, Outcome};
use portcullis_tests::pair::{Pair, SOON, asked, entries, known, new_key, soon};
use serde_json::{Value, json};

/// Rows that a search prints, and what it says on standard error.
fn query(gateway: &Gateway, arguments: &[&str]) -> Outcome<(Vec<Value>, Value)> {
    let output = gateway.command(&[&["audit", "query", "--json"], arguments].concat())?;
    let (said, told) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {told}");
    let rows = said.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    Ok((rows, told.lines().next_back().map(serde_json::from_str).transpose()?.unwrap_or_default()))
}

fn failed(gateway: &Gateway, arguments: &[&str]) -> Outcome<(Option<i32>, String)> {
    let output = gateway.command(arguments)?;
    Ok((output.status.code(), String::from_utf8(output.stderr)?))
}

fn indices(rows: &[Value]) -> Vec<u64> {
    rows.iter().filter_map(|row| row["index"].as_u64()).collect()
}

fn copied(from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, new) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copied(&path, &new)? } else { fs::copy(&path, &new).map(drop)? }
    }
    Ok(())
}

#[tokio::test]
async fn real_calls_are_found_by_what_they_were_and_each_search_is_on_record() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let gateway = &pair.gateway;
    let mut client = pair.client(Era::Modern).await?;
    client.call("echo", json!({"text": "mail mira.lind@corp.example"})).await?;
    client.call("echo", json!({"text": "hello"})).await?;
    client.call("nosuch", json!({})).await?;
    let (calls, told) = query(gateway, &["--tool", "echo", "--event", "call.*"])?;
    assert_eq!(calls.len(), 4, "two intents, two outcomes: {calls:?}");
    assert!(told["complete"].as_u64() > calls.last().and_then(|row| row["index"].as_u64()), "{told}");
    let first = &calls[0]["entry"];
    for (flag, pointer) in [
        ("--input", "/input/digest"),
        ("--definition", "/target/digest"),
        ("--rules", "/rules"),
        ("--caller", "/actor/id"),
        ("--server", "/target/server"),
        ("--action", "/action"),
        ("--method", "/method"),
        ("--role", "/actor/roles/0"),
        ("--decision", "/decision/effect"),
        ("--policy", "/decision/policies/0"),
        ("--source", "/source"),
        ("--finding", "/findings/0/kind"),
        ("--evidence", "/findings/0/evidence"),
    ] {
        let value = first.pointer(pointer).and_then(Value::as_str).ok_or(pointer)?;
        let (rows, _) = query(gateway, &[flag, value, "--limit", "50"])?;
        assert!(rows.iter().any(|row| row["index"] == calls[0]["index"]), "{flag} {value}");
        assert!(rows.iter().all(|row| row["entry"].to_string().contains(value)), "{flag} {value}: {rows:?}");
    }
    let (refused, _) = query(gateway, &["--code", "target.unknown"])?;
    assert_eq!(refused.len(), 1, "{refused:?}");
    let (none, _) = query(gateway, &["--code", "target.unknown", "--tool", "echo"])?;
    assert!(none.is_empty());
    let (old, _) = query(gateway, &["--to", "yesterday"])?;
    assert!(old.is_empty());
    let (words, _) = query(gateway, &["--text", "call refused", "--newest"])?;
    assert_eq!(indices(&words).first(), indices(&refused).first(), "{words:?}");

    let searches = entries(gateway, "event=ledger.searched").await?;
    assert!(searches.len() > 15);
    let about = |key: &str| searches.iter().find(|entry| entry["data"]["filters"].get(key).is_some());
    let caller = about("caller").ok_or("no search for a caller")?;
    assert_eq!(caller["data"]["filters"]["caller"], json!([first["actor"]["id"]]), "whom");
    assert_eq!(
        (&caller["actor"]["id"], &caller["data"]["purpose"]),
        (&json!("admin"), &json!("query")),
        "who"
    );
    let typed = about("text").ok_or("no search for words")?;
    let typed = typed["data"]["filters"]["text"].to_string();
    assert!(typed.contains("sha256:") && !typed.contains("refused"), "{typed}");
    assert_eq!(about("code").map(|entry| &entry["data"]["count"]), Some(&json!(1)));
    Ok(())
}

#[tokio::test]
async fn pages_hold_every_entry_once_while_calls_go_on_and_files_say_the_same() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let mut client = pair.client(Era::Modern).await?;
    for n in 0..20 {
        client.call("echo", json!({"text": format!("{n}")})).await?;
    }
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut arguments = vec!["--event", "call.*", "--limit", "7"];
        arguments.extend(cursor.as_deref().map(|text| ["--cursor", text]).into_iter().flatten());
        let (rows, told) = query(&pair.gateway, &arguments)?;
        seen.extend(indices(&rows));
        client.call("echo", json!({"text": "meanwhile"})).await?;
        cursor = told["cursor"].as_str().map(str::to_owned);
        if cursor.is_none() || seen.len() > 60 {
            break;
        }
    }
    let all = pair.gateway.admin_get("/v1/ledger/entries?limit=1000&event=call.*").await?;
    let all: Value = serde_json::from_slice(&all.body)?;
    let all = indices(all["entries"].as_array().ok_or("no entries")?);
    assert_eq!(seen, all[..seen.len()]);
    let (code, said) =
        failed(&pair.gateway, &["audit", "query", "--tool", "echo", "--cursor", &first_cursor(&pair)?])?;
    assert!(code == Some(1) && said.contains("cursor") && said.contains("hint"), "{said}");
    for extra in [&["--offline"][..], &["--offline", "--scan"], &["--offline", "--newest"]] {
        let (rows, told) = query(&pair.gateway, &[&["--event", "call.*", "--to", "now"], extra].concat())?;
        let mut found = indices(&rows);
        found.sort_unstable();
        assert_eq!(found, all[..found.len()], "{told}");
        assert!(found.len() >= 40 && told["entry"].is_null(), "{told}");
    }
    Ok(())
}

fn first_cursor(pair: &Pair) -> Outcome<String> {
    let (_, told) = query(&pair.gateway, &["--event", "call.*", "--limit", "1"])?;
    Ok(told["cursor"].as_str().ok_or("no cursor")?.to_owned())
}

const READERS: &str = "ledger: {readers: [auditor]}
roles:
  auditor: {allow: [{actions: [connect], servers: [nothing]}]}
";

#[tokio::test]
async fn who_may_search_is_said_by_role_and_who_may_not_is_on_record() -> Outcome {
    let gateway = Gateway::start(READERS).await?;
    known(&gateway, SOON).await?;
    let (auditor, reader) = (new_key(&gateway, "anna", "auditor")?, new_key(&gateway, "rolf", "reader")?);
    let url = format!("{}/v1/ledger/search?event=key.created", gateway.admin_base());
    let search = async |key: &str| -> Outcome<(u16, Value)> {
        let bearer = format!("Bearer {key}");
        let reply =
            Client::default().send(Method::GET, &url, &[("authorization", &bearer)], "".into()).await?;
        Ok((reply.status.as_u16(), serde_json::from_slice(&reply.body)?))
    };
    let (status, page) = search(&auditor).await?;
    assert_eq!((status, page["entries"].as_array().map(Vec::len)), (200, Some(3)), "{page}");
    let (status, refused) = search(&reader).await?;
    assert_eq!((status, &refused["error"]["code"]), (403, &json!("admin.not_allowed")), "{refused}");
    assert!(
        refused["error"]["hint"].as_str().is_some_and(|hint| hint.contains("ledger.readers")),
        "{refused}"
    );
    let searched = entries(&gateway, "event=ledger.searched").await?;
    let id = auditor.trim_start_matches("pcl_").split('_').next().ok_or("no id")?;
    assert_eq!(searched.len(), 1);
    assert!(searched[0]["actor"]["id"].as_str().is_some_and(|actor| actor.contains(id)), "{searched:?}");
    let attempts = entries(&gateway, "event=admin.refused").await?;
    assert!(attempts.iter().any(|entry| entry["data"]["code"] == "admin.not_allowed"), "{attempts:?}");
    Ok(())
}

#[tokio::test]
async fn the_index_survives_kills_and_damage_is_told_and_mended_by_one_command() -> Outcome {
    let mut gateway = Gateway::start("").await?;
    known(&gateway, SOON).await?;
    for round in 0..3 {
        let mut client =
            McpClient::connect(&gateway.url("sample"), Some(gateway.key()?), Era::Modern).await?;
        for n in 0..10 + round {
            client.call("echo", json!({"text": format!("{n}")})).await?;
        }
        gateway.kill()?;
        gateway.start_again().await?;
        known(&gateway, SOON).await?;
        let (rows, told) = query(&gateway, &[])?;
        assert_eq!(indices(&rows), (0..told["complete"].as_u64().ok_or("no end")?).collect::<Vec<_>>());
        assert!(rows.len() as u64 >= told["size"].as_u64().ok_or("no size")? - 1, "{told}");
    }
    let before = indices(&query(&gateway, &["--tool", "echo"])?.0);
    gateway.stop().await?;
    let file = gateway.data().join("index.db");
    let mut bytes = fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[..100].fill(7);
    bytes[middle..].fill(7);
    fs::write(&file, bytes)?;
    gateway.start_again().await?;
    known(&gateway, SOON).await?;
    // Calls go on whatever the index does.
    let mut client = McpClient::connect(&gateway.url("sample"), Some(gateway.key()?), Era::Modern).await?;
    client.call("echo", json!({"text": "still here"})).await?;
    let (code, said) = failed(&gateway, &["audit", "query", "--tool", "echo"])?;
    assert!(code == Some(1) && said.contains("damaged") && said.contains("audit index rebuild"), "{said}");
    let state = asked(&gateway, &["audit", "index", "rebuild", "--json"])?;
    assert!(state["complete"].as_u64() >= Some(before.len() as u64), "{state}");
    let after = indices(&query(&gateway, &["--tool", "echo"])?.0);
    assert!(after.starts_with(&before) && after.len() == before.len() + 2, "{before:?} {after:?}");
    assert_eq!(entries(&gateway, "event=index.rebuilt").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_ledger_that_was_changed_is_searched_no_further_and_the_exit_code_says_so() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let mut client = pair.client(Era::Modern).await?;
    client.call("echo", json!({"text": "x"})).await?;
    asked(&pair.gateway, &["audit", "query", "--json", "--limit", "1"])?;
    let ledger = pair.gateway.data().join("ledger");
    let key = ledger.join("key.pub").display().to_string();
    let copy = pair.gateway.folder().join("evidence");
    soon("a copy of a moment without a change", || {
        let _ = fs::remove_dir_all(&copy);
        copied(&ledger, &copy).is_ok()
            && fs::read(copy.join("checkpoint")).ok() == fs::read(ledger.join("checkpoint")).ok()
    })
    .await?;
    let place = copy.display().to_string();
    let files = ["--ledger", &place, "--vkey", &key];
    let (rows, _) = query(&pair.gateway, &[&["--tool", "echo"][..], &files].concat())?;
    assert!(rows.len() >= 2);
    // Somebody edits the copy, and its index is gone as well.
    let bundle = fs::read_dir(copy.join("tile/entries"))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "p"))
        .and_then(|folder| fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).max())
        .ok_or("no bundle")?;
    let bytes = fs::read(&bundle)?;
    let at = bytes.windows(5).rposition(|word| word == b"\"echo").ok_or("no call")?;
    let mut changed = bytes;
    changed[at + 1..at + 5].copy_from_slice(b"ecHo");
    fs::write(&bundle, changed)?;
    let (code, said) = failed(&pair.gateway, &[&["audit", "query", "--tool", "echo"][..], &files].concat())?;
    assert!(code == Some(4) && said.contains("was changed"), "{said}");
    let (code, said) = failed(&pair.gateway, &[&["audit", "index", "rebuild"][..], &files].concat())?;
    assert!(code == Some(4) && said.contains("audit verify"), "{said}");
    let (code, said) = failed(&pair.gateway, &[&["audit", "index", "status"][..], &files].concat())?;
    assert!(code == Some(4), "{said}");
    Ok(())
}

const SMALL: &str = "roles:
  noting: {allow: [{actions: [connect, call_tool], servers: [sample], tools: [echo]}]}
";
const WIDER: &str = "roles:
  noting: {allow: [{actions: [connect, call_tool], servers: [sample], tools: [echo, now]}]}
";

/// A gateway on which somebody called what it may and what it may not, before and after a change.
async fn case() -> Outcome<(Gateway, String)> {
    let gateway = Gateway::start(SMALL).await?;
    known(&gateway, SOON).await?;
    let key = new_key(&gateway, "case", "noting")?;
    let id = key.trim_start_matches("pcl_").split('_').next().ok_or("no id")?.to_owned();
    let mut client = McpClient::connect(&gateway.url("sample"), Some(&key), Era::Modern).await?;
    client.call("echo", json!({"text": "before"})).await?;
    client.call("now", json!({})).await?;
    gateway.rewrite(|text| text.replace("tools: [echo]", "tools: [echo, now]"))?;
    gateway.reload()?;
    let changed =
        async || -> Outcome<bool> { Ok(!entries(&gateway, "event=config.changed").await?.is_empty()) };
    while !changed().await? {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    client.call("now", json!({})).await?;
    Ok((gateway, id))
}

#[tokio::test]
async fn a_time_line_shows_calls_decisions_and_what_was_changed_between_them_and_a_graph_who_touched_what()
-> Outcome {
    let (gateway, id) = case().await?;
    for files in [&[][..], &["--offline"]] {
        let line = asked(&gateway, &[&["audit", "timeline", "--caller", &id, "--json"][..], files].concat())?;
        let steps = line["steps"].as_array().ok_or("no steps")?;
        let kinds: Vec<(&str, &str)> = steps
            .iter()
            .filter_map(|step| Some((step["event"].as_str()?, step["what"].as_str()?)))
            .filter(|(event, _)| event.starts_with("call.") || event.starts_with("config."))
            .collect();
        let expected = [
            ("call.intent", "connect sample"),
            ("call.intent", "call_tool sample/echo"),
            ("call.refused", "call_tool sample/now"),
            ("config.changed", ""),
            ("call.intent", "call_tool sample/now"),
        ];
        assert_eq!(kinds, expected, "{line}");
        assert_eq!(
            (&line["calls"], &line["refused"], &line["open"]),
            (&json!(4), &json!(1), &json!(0)),
            "{line}"
        );
        assert_eq!(line["rules"].as_array().map(Vec::len), Some(2), "{line}");
        assert!(
            steps
                .iter()
                .filter(|step| step["event"] == "call.intent" && step["what"] != "connect sample")
                .all(|step| {
                    step["outcome"]["output"].as_str().is_some_and(|digest| digest.starts_with("sha256:"))
                        && step["definition"].is_string()
                        && step["decision"] == "allow"
                })
        );
        let graph =
            asked(&gateway, &[&["audit", "graph", "--caller", &id, "--format", "json"][..], files].concat())?;
        let edges: Vec<(&str, u64, u64)> = graph["edges"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|edge| {
                Some((edge["to"]["name"].as_str()?, edge["allowed"].as_u64()?, edge["refused"].as_u64()?))
            })
            .collect();
        assert_eq!(edges, [("sample", 1, 0), ("sample/echo", 1, 0), ("sample/now", 1, 1)], "{graph}");
    }
    let dot = gateway.command(&["audit", "graph", "--caller", &id])?;
    assert!(String::from_utf8(dot.stdout)?.starts_with("digraph touched {"));
    let people = gateway.command(&["audit", "timeline", "--caller", &id])?;
    let text = String::from_utf8(people.stdout)?;
    assert!(
        text.contains("4 calls, 1 refused")
            && text.contains("~ config.changed")
            && text.contains("REFUSED policy.denied"),
        "{text}"
    );
    let purposes = entries(&gateway, "event=ledger.searched").await?;
    assert!(purposes.iter().any(|entry| entry["data"]["purpose"] == "timeline"));
    assert!(purposes.iter().any(|entry| entry["data"]["purpose"] == "graph"));
    Ok(())
}

#[tokio::test]
async fn a_recorded_call_is_decided_again_by_the_policies_of_now_and_by_a_candidate() -> Outcome {
    let (gateway, id) = case().await?;
    let (refused, _) = query(&gateway, &["--caller", &id, "--event", "call.refused"])?;
    let index = refused.first().ok_or("no refusal")?["index"].to_string();
    let (small, wider) = (gateway.folder().join("small.yaml"), gateway.folder().join("wider.yaml"));
    fs::write(&small, SMALL)?;
    fs::write(&wider, WIDER)?;
    for (candidate, said, differs) in [(&small, "deny", false), (&wider, "allow", true)] {
        let name = candidate.display().to_string();
        let replay = asked(&gateway, &["audit", "replay", &index, "--policy", &name, "--json"])?;
        assert_eq!(
            (&replay["recorded"]["effect"], &replay["recorded"]["code"]),
            (&json!("deny"), &json!("policy.denied"))
        );
        assert_eq!(replay["today"]["allowed"], true, "the policy was widened since: {replay}");
        assert_eq!(
            (&replay["candidate"], &replay["candidate_differs"]),
            (&json!(said), &json!(differs)),
            "{replay}"
        );
    }
    let text = gateway.command(&["audit", "replay", &index, "--policy", &wider.display().to_string()])?;
    let text = String::from_utf8(text.stdout)?;
    assert!(text.contains("another decision") && text.contains("not replayed: arguments"), "{text}");
    let (code, said) = failed(&gateway, &["audit", "replay", "0"])?;
    assert!(code == Some(1) && said.contains("no decision about a call"), "{said}");
    Ok(())
}

#[tokio::test]
async fn evidence_is_proven_entry_by_entry_and_no_changed_byte_of_it_is_accepted() -> Outcome {
    let (gateway, id) = case().await?;
    let key = gateway.data().join("ledger/key.pub").display().to_string();
    for (folder, files) in [("online", &[][..]), ("offline", &["--offline"])] {
        let made = asked(
            &gateway,
            &[
                &["audit", "export", "-o", folder, "--caller", &id, "--case", "IR-17", "--report", "--json"]
                    [..],
                files,
            ]
            .concat(),
        )?;
        let entries = made["entries"].as_u64().ok_or("no count")?;
        assert!(entries >= 6, "a key, calls and outcomes: {made}");
        let place = gateway.folder().join(folder);
        let checked = asked(&gateway, &["audit", "verify", "--bundle", folder, "--vkey", &key, "--json"])?;
        assert_eq!(checked["entries"], made["entries"]);
        let report = fs::read_to_string(place.join("report.md"))?;
        assert!(report.contains("# Incident report: IR-17") && report.contains("policy.denied"), "{report}");
        let manifest: Value = serde_json::from_slice(&fs::read(place.join("manifest.json"))?)?;
        assert_eq!(manifest["search_on_record_as_entry"].is_u64(), files.is_empty(), "{manifest}");
        let names: Vec<String> = manifest["files"].as_object().ok_or("no files")?.keys().cloned().collect();
        assert!(names.len() as u64 >= 2 * entries + 6, "{names:?}");
        // A changed file is noticed, and so is one whose digest in the manifest was changed with it.
        for name in names.iter().filter(|name| !name.ends_with(".md")) {
            let file = place.join(name);
            let whole = fs::read(&file)?;
            let mut changed = whole.clone();
            let middle = changed.len() / 2;
            changed[middle] ^= 1;
            fs::write(&file, &changed)?;
            let (code, said) = failed(&gateway, &["audit", "verify", "--bundle", folder, "--vkey", &key])?;
            assert!(code == Some(4) && said.contains(name.as_str()), "{name}: {said}");
            let mut forged = manifest.clone();
            forged["files"][name] = portcullis_core::Digest::of(&changed).to_string().into();
            fs::write(place.join("manifest.json"), forged.to_string())?;
            let (code, said) = failed(&gateway, &["audit", "verify", "--bundle", folder, "--vkey", &key])?;
            assert_eq!(code, Some(4), "{name}: {said}");
            fs::write(place.join("manifest.json"), manifest.to_string())?;
            fs::write(&file, whole)?;
        }
        let (code, said) = failed(&gateway, &["audit", "export", "-o", folder, "--caller", &id])?;
        assert!(code == Some(1) && said.contains("already"), "{said}");
    }
    let (code, said) = failed(&gateway, &["audit", "export", "-o", "none", "--caller", "nobody"])?;
    assert!(code == Some(1) && said.contains("nothing fits"), "{said}");
    Ok(())
}
