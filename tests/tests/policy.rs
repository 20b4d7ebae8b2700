//! Policy beyond a single question: what a session did before, roles for a time, candidates, quotas, and the commands
//! that test, compare and propose policies.

use std::{fs, path::PathBuf, time::Instant};

use portcullis_testkit::{Client, Era, Gateway, McpClient, Outcome};
use portcullis_tests::{
    issuer::Issuer,
    pair::{SOON, code_of, entries, known, verdict},
};
use serde_json::{Value, json};

/// The gateway's own sample server under the name `s`, with labels as an operator would give them.
fn sample() -> String {
    let folders = std::env::current_exe().unwrap();
    let programs = folders.ancestors().skip(1).take(3).map(|folder| folder.join("portcullis"));
    let program: PathBuf = programs.into_iter().find(|path| path.is_file()).unwrap();
    format!(
        "servers:\n  s:\n    command: [{}, sample-server]\n    isolation: shared\n    environment: production\n    labels:\n      \
         notes.*: [reads_private]\n      now: [sees_untrusted]\n      echo: [writes_external]\n",
        program.display()
    )
}

async fn start(more: &str) -> Outcome<Gateway> {
    let gateway = Gateway::start(&format!("{}{more}", sample())).await?;
    known(&gateway, SOON).await?;
    Ok(gateway)
}

/// A key with this role: its id and its text.
fn key(gateway: &Gateway, role: &str) -> Outcome<(String, String)> {
    let made = run(gateway, &["key", "create", "k", "--role", role, "--json"], 0)?;
    let text = |pointer: &str| made.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    Ok((text("/key/id").ok_or("no id")?, text("/text").ok_or("no text")?))
}

/// Runs a command with `--json` where it is among the arguments; its exit code must be this.
fn run(gateway: &Gateway, arguments: &[&str], exit: i32) -> Outcome<Value> {
    let output = gateway.command(arguments)?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}\n{out}\n{err}");
    Ok(serde_json::from_str(&out).unwrap_or_else(|_| json!(format!("{out}{err}"))))
}

async fn call(client: &mut McpClient, tool: &str, trace: Option<&str>) -> Outcome<String> {
    let arguments = match tool {
        "echo" => json!({"text": "x"}),
        "notes.search" => json!({"query": "a"}),
        "add" => json!({"a": 1, "b": 2}),
        _ => json!({}),
    };
    let mut params = json!({"name": tool, "arguments": arguments});
    if let Some(trace) = trace {
        params["_meta"] = json!({"traceparent": format!("00-{trace}-00f067aa0ba902b7-01")});
    }
    let answer = client.request("tools/call", params).await?;
    assert!(answer.status().as_u16() < 500, "{}", answer.reply.text());
    Ok(code_of(&answer))
}

#[tokio::test]
async fn what_has_private_data_and_saw_strangers_words_carries_nothing_out_in_that_session_or_trace()
-> Outcome {
    let gateway = start("").await?;
    let url = gateway.url("s");
    let mut client = McpClient::connect(&url, Some(gateway.key()?), Era::Legacy).await?;
    for tool in ["echo", "notes.search", "echo", "now"] {
        assert_eq!(call(&mut client, tool, None).await?, "", "{tool}: one of both is no reason");
    }
    assert_eq!(call(&mut client, "echo", None).await?, "policy.flow");
    assert_eq!(call(&mut client, "add", None).await?, "", "what carries nothing out is free");
    assert!(client.list("tools/list").await?.contains(&"echo".to_owned()), "it is shown");
    let mut other = McpClient::connect(&url, Some(gateway.key()?), Era::Legacy).await?;
    assert_eq!(call(&mut other, "echo", None).await?, "", "another session");

    let mut modern = McpClient::connect(&url, Some(gateway.key()?), Era::Modern).await?;
    let (one, two) = ("0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736");
    for tool in ["notes.search", "now"] {
        assert_eq!(call(&mut modern, tool, Some(one)).await?, "");
    }
    assert_eq!(call(&mut modern, "echo", Some(two)).await?, "", "another trace");
    assert_eq!(call(&mut modern, "echo", Some(one)).await?, "policy.flow");
    let (_, text) = key(&gateway, "operator")?;
    let mut stranger = McpClient::connect(&url, Some(&text), Era::Modern).await?;
    assert_eq!(call(&mut stranger, "echo", Some(one)).await?, "", "another caller under the same trace");
    for tool in ["notes.search", "now"] {
        assert_eq!(call(&mut modern, tool, None).await?, "");
    }
    assert_eq!(
        call(&mut modern, "echo", None).await?,
        "policy.flow",
        "without a trace the caller is the session"
    );

    let refused = entries(&gateway, "event=call.refused&code=policy.flow").await?;
    assert_eq!(refused.len(), 3);
    for entry in refused {
        assert_eq!(entry["decision"], json!({"effect": "deny", "policies": ["flow@s"]}));
    }
    let output = gateway.command(&[
        "policy",
        "explain",
        "s/echo",
        "--role",
        "operator",
        "--seen",
        "reads_private",
        "--seen",
        "sees_untrusted",
    ])?;
    assert!(String::from_utf8_lossy(&output.stdout).contains("flow@s"));
    Ok(())
}

#[tokio::test]
async fn a_role_for_a_time_counts_from_the_next_request_and_ends_by_the_clock_or_when_it_is_revoked()
-> Outcome {
    let gateway = start("").await?;
    let (id, text) = key(&gateway, "reader")?;
    let caller = format!("key:{id}");
    let mut client = McpClient::connect(&gateway.url("s"), Some(&text), Era::Legacy).await?;
    let allowed = async |client: &mut McpClient| -> Outcome<bool> {
        let answer = client.call("add", json!({"a": 1, "b": 2})).await?;
        Ok(answer.error_code().is_none() && code_of(&answer).is_empty())
    };
    assert!(!allowed(&mut client).await?);
    let give = |more: &[&str], exit| {
        let all = ["grant", "create", &caller, "--role", "operator", "--json"];
        run(&gateway, &[&all[..], more].concat(), exit)
    };
    let brief = give(&["--for", "3s", "--reason", "release 4.2, CHG-1311"], 0)?;
    let granted = Instant::now();
    assert!(allowed(&mut client).await? || granted.elapsed().as_secs() >= 3, "the very next request");
    let intents = entries(&gateway, "event=call.intent&tool=add").await?;
    assert_eq!(intents.last().unwrap()["data"]["grants"], json!([brief["id"]]));
    assert_eq!(intents.last().unwrap()["actor"]["roles"], json!(["operator", "reader"]));
    while allowed(&mut client).await? {
        assert!(granted.elapsed() < SOON, "it never ends");
        // The clock is what is waited for.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(granted.elapsed().as_millis() >= 2_500, "it ended too early: {:?}", granted.elapsed());

    let long = give(&["--for", "2h", "--reason", "INC-77: orders stuck", "--break-glass"], 0)?;
    assert!(allowed(&mut client).await?);
    let alarms = entries(&gateway, "event=grant.break_glass").await?;
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0]["data"]["reason"], "INC-77: orders stuck");
    assert!(gateway.output().contains("break-glass"), "an alarm in the log");
    run(&gateway, &["grant", "revoke", long["id"].as_str().unwrap(), "--json"], 0)?;
    assert!(!allowed(&mut client).await?);

    for wrong in [
        &["--for", "9h", "--reason", "too long for an emergency", "--break-glass"][..],
        &["--for", "40d", "--reason", "too long for a grant"],
        &["--for", "0s", "--reason", "no time at all"],
        &["--for", "1h", "--reason", "because"],
    ] {
        give(wrong, 1)?;
    }
    for (who, role) in [(&*caller, "ghost"), ("key:nobody", "operator"), ("nobody", "operator")] {
        run(
            &gateway,
            &["grant", "create", who, "--role", role, "--for", "1h", "--reason", "for the release"],
            1,
        )?;
    }
    let list = run(&gateway, &["grant", "list", "--json"], 0)?;
    let states: Vec<&str> =
        list["grants"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["ended", "revoked"], "what was refused is not there");
    assert_eq!(entries(&gateway, "event=grant.*").await?.len(), 3, "two given, one revoked");
    Ok(())
}

#[tokio::test]
async fn a_quota_outlives_kills_and_new_sessions_and_is_each_callers_own() -> Outcome {
    let quotas = "quotas:\n  hourly: {window_s: 31536000, calls: 5, tools: [add]}\n  bytes: {window_s: 31536000, bytes: 1000000, per: all}\n";
    let mut gateway = start(quotas).await?;
    let (_, text) = key(&gateway, "operator")?;
    let first = gateway.key()?.to_owned();
    let mut passed = 0;
    for round in 0..3 {
        if round > 0 {
            gateway.kill()?;
            gateway.start_again().await?;
            known(&gateway, SOON).await?;
        }
        let mut client = McpClient::connect(&gateway.url("s"), Some(&first), Era::Legacy).await?;
        for _ in 0..2 {
            passed += usize::from(call(&mut client, "add", None).await?.is_empty());
        }
        assert_eq!(call(&mut client, "echo", None).await?, "", "the quota is for another tool");
    }
    assert_eq!(passed, 5);
    let mut client = McpClient::connect(&gateway.url("s"), Some(&first), Era::Modern).await?;
    let answer = client.call("add", json!({"a": 1, "b": 2})).await?;
    assert_eq!(verdict(&answer), (429, "quota.exceeded".to_owned()));
    let wait: u64 = answer.reply.header("retry-after").parse()?;
    assert!(wait > 0);
    let mut other = McpClient::connect(&gateway.url("s"), Some(&text), Era::Legacy).await?;
    assert_eq!(call(&mut other, "add", None).await?, "", "another caller");
    let list = run(&gateway, &["quota", "list", "--json"], 0)?;
    let counts: Vec<_> =
        list["quotas"].as_array().unwrap().iter().filter(|one| one["quota"] == "hourly").collect();
    assert_eq!(counts.len(), 2);
    assert!(counts.iter().any(|one| one["calls"] == 5 && one["calls_max"] == 5), "{list}");
    let refused = entries(&gateway, "event=call.refused&code=quota.exceeded").await?;
    assert_eq!(refused.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_candidate_decides_beside_what_is_in_force_without_effect_and_its_differences_are_reported()
-> Outcome {
    let candidate = "roles:\n  operator:\n    allow:\n      - actions: [connect]\n      - actions: [call_tool]\n        tools: [echo, now]\n  reader: {allow: [{actions: [connect, call_tool]}]}\n";
    let yaml = format!("{}shadow: candidate.yaml\n", sample());
    let gateway = Gateway::builder().config(&yaml).file("candidate.yaml", candidate).start().await?;
    known(&gateway, SOON).await?;
    let mut client = McpClient::connect(&gateway.url("s"), Some(gateway.key()?), Era::Legacy).await?;
    for tool in ["add", "echo", "add"] {
        assert_eq!(call(&mut client, tool, None).await?, "", "{tool}");
    }
    let (_, text) = key(&gateway, "reader")?;
    let mut reader = McpClient::connect(&gateway.url("s"), Some(&text), Era::Legacy).await?;
    assert_ne!(call(&mut reader, "add", None).await?, "");
    let report = run(&gateway, &["policy", "shadow", "--json"], 0)?;
    let rows = report["differences"].as_array().unwrap();
    let seen: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["target"].as_str().unwrap(),
                row["in_force"].as_str().unwrap(),
                row["candidate"].as_str().unwrap(),
                row["calls"].as_u64().unwrap(),
            )
        })
        .collect();
    assert!(
        seen.contains(&("s/add", "allow", "deny", 2)) && seen.contains(&("s/add", "deny", "allow", 1)),
        "{report}"
    );
    assert_eq!(rows.len(), 2, "{report}");
    let metrics = Client::default();
    let token = format!("Bearer {}", gateway.admin_token()?);
    let text =
        metrics.get(&format!("{}/metrics", gateway.admin_base()), &[("authorization", &token)]).await?.text();
    assert!(
        text.contains("portcullis_shadow_refused_total 2")
            && text.contains("portcullis_shadow_allowed_total 1"),
        "{text}"
    );
    // The same candidate, put to the ledger instead.
    let simulated = run(&gateway, &["policy", "simulate", "candidate.yaml", "--json"], 0)?;
    let shifts = simulated["shifts"].as_array().unwrap();
    let of = |recorded: &str| {
        shifts.iter().find(|shift| shift["recorded"] == recorded && shift["target"] == "s/add")
    };
    assert_eq!(of("allow").ok_or("none")?["calls"], 2, "{simulated}");
    assert_eq!(of("allow").ok_or("none")?["candidate"], "deny");
    assert_eq!(of("deny").ok_or("none")?["candidate"], "allow");
    Ok(())
}

#[tokio::test]
async fn an_agent_may_do_what_its_user_and_it_may_do_and_the_ledger_names_it_and_its_owner() -> Outcome {
    let issuer = Issuer::new("k")?;
    let yaml = format!(
        "{}identities:\n  jwt:\n    - {{issuer: 'https://i.example', algorithms: [EdDSA], jwks_file: keys.json, audiences: [gw], \
         roles_claim: groups, role_map: {{dev: [operator]}}}}\nroles:\n  adding: {{allow: [{{actions: [connect]}}, {{tools: [add]}}]}}\n\
         agents:\n  'jwt:https://i.example#bot': {{owner: team@corp.example, roles: [adding]}}\n",
        sample()
    );
    let gateway = Gateway::builder().config(&yaml).file("keys.json", issuer.jwks()).start().await?;
    known(&gateway, SOON).await?;
    let token = |act: Value| -> Outcome<String> {
        let mut claims = issuer.claims("https://i.example", "gw");
        claims["act"] = act;
        issuer.token(&claims)
    };
    let both = json!({"sub": "bot", "act": {"sub": "bot"}});
    for (act, add, echo) in [
        (Value::Null, true, true),
        (json!({"sub": "bot"}), true, false),
        (both, true, false),
        (json!({"sub": "stranger"}), false, false),
        (json!({"sub": "bot", "act": {"sub": "stranger"}}), false, false),
        (json!({"sub": "bot", "iss": "https://other.example"}), false, false),
        (json!({}), false, false),
        (json!("bot"), false, false),
    ] {
        let text = token(act.clone())?;
        for (tool, expected) in [("add", add), ("echo", echo)] {
            let Ok(mut client) = McpClient::connect(&gateway.url("s"), Some(&text), Era::Modern).await else {
                assert!(!expected, "{act} {tool}");
                continue;
            };
            let arguments = if tool == "add" { json!({"a": 1, "b": 2}) } else { json!({"text": "x"}) };
            let answer = client.call(tool, arguments).await?;
            let allowed =
                answer.status() == 200 && answer.error_code().is_none() && code_of(&answer).is_empty();
            assert_eq!(allowed, expected, "{act} {tool}: {}", answer.reply.text());
        }
    }
    let mut client =
        McpClient::connect(&gateway.url("s"), Some(&token(json!({"sub": "bot"}))?), Era::Legacy).await?;
    assert_eq!(client.list("tools/list").await?, ["add"], "what it cannot use is not shown");
    let mut ada = McpClient::connect(&gateway.url("s"), Some(&token(Value::Null)?), Era::Legacy).await?;
    assert!(ada.list("tools/list").await?.len() > 1, "what the agent sees is not remembered for its user");
    let intents = entries(&gateway, "event=call.intent&tool=add").await?;
    let of = |length: usize| {
        intents.iter().filter(move |one| one["data"]["actors"].as_array().map_or(0, Vec::len) == length)
    };
    assert_eq!((of(0).count(), of(1).count(), of(2).count()), (1, 1, 1), "{intents:?}");
    let one = of(1).next().ok_or("none")?;
    assert_eq!(one["data"]["actors"], json!(["jwt:https://i.example#bot"]));
    assert_eq!(one["data"]["owner"], "team@corp.example");
    assert_eq!(one["actor"]["id"], "jwt:https://i.example#ada");
    assert_eq!(one["decision"]["policies"], json!(["adding#2", "operator#1"]));
    let asked = [
        "policy",
        "explain",
        "s/echo",
        "--role",
        "operator",
        "--actor",
        "jwt:https://i.example#bot",
        "--json",
    ];
    assert_eq!(run(&gateway, &asked, 0)?["allowed"], false);
    let replayed = run(&gateway, &["policy", "simulate", "portcullis.yaml", "--json"], 0)?;
    assert_eq!(replayed["shifts"], json!([]), "the ledger tells who acted");
    Ok(())
}

const CASES: &str = "\
cases:
  - name: an operator adds
    roles: [operator]
    server: s
    tool: add
    expect: allow
    policies: ['operator#1']
  - name: a lead has what a reader has
    roles: [lead]
    server: s
    expect: allow
  - name: a lead adds nothing in production
    roles: [lead]
    server: s
    tool: add
    expect: policy.denied
    policies: ['lead#2']
  - name: what has everything carries nothing out
    roles: [operator]
    server: s
    tool: echo
    seen: [reads_private, sees_untrusted]
    expect: policy.flow
";

#[tokio::test]
async fn cases_run_offline_and_recorded_calls_are_explained_and_make_a_proposal_that_allows_just_them()
-> Outcome {
    let roles = "roles:\n  lead:\n    inherits: [reader]\n    allow:\n      - actions: [call_tool]\n        servers: [s]\n        tools: ['notes.*']\n    deny:\n      - environments: [production]\n        tools: [add]\n";
    let yaml = format!("{}{roles}", sample());
    let wrong = CASES.replace("expect: policy.flow", "expect: allow");
    let gateway = Gateway::builder().config(&yaml).file("cases.yaml", CASES).file("wrong.yaml", wrong);
    let gateway = gateway
        .file("typo.yaml", "cases:\n  - {name: x, server: s, rolls: [a], expect: allow}\n")
        .start()
        .await?;
    known(&gateway, SOON).await?;
    assert_eq!(run(&gateway, &["policy", "test", "cases.yaml", "--json"], 0)?["passed"], 4);
    let failed = run(&gateway, &["policy", "test", "cases.yaml", "wrong.yaml", "--json"], 1)?;
    assert_eq!(failed["failed"], 1, "{failed}");
    assert!(run(&gateway, &["policy", "test", "typo.yaml"], 1)?.to_string().contains("rolls"));
    let schema = run(&gateway, &["policy", "schema", "--json"], 0)?;
    assert_eq!(schema["version"], 3);
    assert!(schema["schema"].as_str().unwrap().starts_with("// version 3\n"));

    let (_, text) = key(&gateway, "lead")?;
    let mut client = McpClient::connect(&gateway.url("s"), Some(&text), Era::Legacy).await?;
    assert_eq!(call(&mut client, "notes.search", None).await?, "");
    assert_ne!(call(&mut client, "add", None).await?, "");
    let reply = gateway.admin_get("/v1/ledger/entries?event=call.refused").await?;
    let list: Value = serde_json::from_slice(&reply.body)?;
    let index = list["entries"][0]["index"].to_string();
    let explained = run(&gateway, &["policy", "explain", "--index", &index, "--json"], 0)?;
    assert_eq!(explained["recorded"]["policies"], json!(["lead#2"]), "{explained}");
    assert_eq!(explained["today"]["allowed"], false);
    assert_eq!(explained["today"]["explanation"]["policies"][0]["policy"], "lead#2");
    run(&gateway, &["policy", "explain", "--index", "0"], 1)?;

    let learnt = run(&gateway, &["policy", "learn", "--json"], 0)?;
    let proposal = learnt["yaml"].as_str().unwrap();
    fs::write(gateway.folder().join("proposal.yaml"), format!("{}{proposal}", sample()))?;
    run(&gateway, &["check", "--config", "proposal.yaml"], 0)?;
    let replayed = run(&gateway, &["policy", "simulate", "proposal.yaml", "--json"], 0)?;
    assert_eq!(replayed["shifts"], json!([]), "{proposal}");
    let differs =
        run(&gateway, &["policy", "diff", "portcullis.yaml", "proposal.yaml", "--json", "--exit-code"], 1)?;
    let narrowed =
        differs["decisions"].as_array().unwrap().iter().any(|one| {
            one["principal"] == "role `lead`" && one["before"] == "allow" && one["after"] == "deny"
        });
    assert!(narrowed, "{differs}");
    run(&gateway, &["policy", "diff", "portcullis.yaml", "portcullis.yaml", "--exit-code"], 0)?;
    Ok(())
}

#[tokio::test]
async fn settings_that_cannot_take_effect_stop_the_start_and_what_only_grants_too_much_is_warned_of()
-> Outcome {
    let server = "servers:\n  s: {command: [none], labels: {x: [destructive]}, environment: test}\n";
    let cedar = "forbid (principal, action, resource) when { principal.claims.text.hasTag(\"group\") };";
    let stopping = [
        ("roles:\n  a: {inherits: [b]}\n  b: {inherits: [a]}\n", "inherits itself"),
        ("roles:\n  a: {deny: [{labels: [reads_private]}]}\n", "no server has any"),
        ("roles:\n  a: {deny: [{environments: [prod]}]}\n", "no server belongs to it"),
        ("roles:\n  a: {allow: [{mask: [email]}]}\ninspect: {email: {enabled: false}}\n", "switched off"),
        ("roles:\n  a: {allow: [{restore: [email]}]}\n", "`email` makes no tokens"),
        ("flow: refuse\n", "cannot take effect"),
        ("agents:\n  bot: {owner: team}\n", "the id of no caller"),
        ("agents:\n  'jwt:i#bot': {owner: ' '}\n", "names nobody"),
        ("quotas:\n  q: {window_s: 60}\n", "bounds nothing"),
        ("quotas:\n  q: {window_s: 60, calls: 1, per: role}\n", "cannot take effect"),
        ("policies: [extra.cedar]\n", "no issuer lets policies read"),
        ("shadow: absent.yaml\n", "absent.yaml"),
    ];
    for (yaml, expected) in stopping {
        let builder = Gateway::builder().config(&format!("{server}{yaml}")).file("extra.cedar", cedar);
        let (status, words) = builder.refused().await?;
        assert!(!status.success() && words.contains(expected), "{yaml}\n{words}");
    }
    let warned = "roles:\n  a: {allow: [{}]}\n  b: {allow: [{tools: [x]}], deny: [{}]}\n  c: {allow: [{servers: [t]}]}\n";
    let gateway = Gateway::builder().config(&format!("{server}{warned}")).prepare()?;
    let checked = run(&gateway, &["policy", "check", "--json"], 0)?;
    let warnings = checked["warnings"].to_string();
    for expected in ["grants every action on every server", "can never permit", "no server has such a name"] {
        assert!(warnings.contains(expected), "{expected}: {warnings}");
    }
    Ok(())
}
