//! `portcullis scan`: what it lists of servers of both eras, what it finds, how it ends for CI, and that it calls nothing.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use portcullis_testkit::{Gateway, Hostile, HostileServer, Outcome};
use portcullis_tests::sse_server::SseServer;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Scanner {
    folder: TempDir,
    binary: PathBuf,
}

impl Scanner {
    fn new() -> Outcome<Self> {
        let binary = Gateway::builder().prepare()?.binary().to_path_buf();
        Ok(Self { folder: tempfile::tempdir()?, binary })
    }

    fn file(&self, name: &str, contents: &str) -> Outcome<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, contents)?;
        Ok(path)
    }

    async fn run(&self, arguments: &[&str]) -> Outcome<Output> {
        let mut command = Command::new(&self.binary);
        command.current_dir(self.folder.path()).env("HOME", self.folder.path()).arg("scan").args(arguments);
        command.stdin(Stdio::null());
        // The scripted servers live on this runtime, so waiting must not hold it.
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    }

    async fn json(&self, arguments: &[&str]) -> Outcome<(Option<i32>, Value)> {
        let output = self.run(&[&["--json"], arguments].concat()).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = serde_json::from_str(&text)
            .map_err(|error| format!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
        Ok((output.status.code(), value))
    }
}

fn rules(report: &Value) -> Vec<&str> {
    let servers = report["servers"].as_array().unwrap();
    let findings = servers.iter().flat_map(|server| server["findings"].as_array().unwrap());
    findings.map(|finding| finding["rule"].as_str().unwrap()).collect()
}

/// All that a scan may ask.
const LISTS: &[&str] = &[
    "initialize",
    "notifications/initialized",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "server/discover",
    "tools/list",
];

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_both_eras_are_listed_to_the_last_page_and_nothing_is_called() -> Outcome {
    let scanner = Scanner::new()?;
    for (revision, legacy) in [("2026-07-28", false), ("2025-11-25", true)] {
        let server = HostileServer::start().await?;
        server.set_page_size(2);
        server.set_prompts(vec![json!({"name": "ask"})]);
        server.set_resources(vec![json!({"uri": "file:///a", "name": "a"})]);
        server.set_templates(vec![json!({"uriTemplate": "x:///{id}", "name": "t"})]);
        if legacy {
            server.on("server/discover", Hostile::AnswerError(404, -32601, "no".into()));
        }
        let (code, report) = scanner.json(&[&server.url()]).await?;
        assert_eq!(code, Some(0), "{report:#}");
        let scanned = &report["servers"][0];
        assert_eq!(scanned["revision"], revision);
        assert_eq!(scanned["tools"], json!(["echo", "add", "delete"]));
        assert_eq!(scanned["prompts"], json!(["ask"]));
        assert_eq!(scanned["resources"], json!(["file:///a"]));
        assert_eq!(scanned["templates"], json!(["x:///{id}"]));
        for request in server.received() {
            assert!(LISTS.contains(&request.method.as_str()), "{} was sent", request.method);
        }
        assert!(server.count("tools/list") >= 2, "three tools on pages of two");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_detectors_see_in_definitions_decides_the_exit_code() -> Outcome {
    let scanner = Scanner::new()?;
    let token = format!("ghp_{}", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx");
    let tool = |name: &str, text: &str| json!({"name": name, "description": text, "inputSchema": {"type": "object"}});
    let server = HostileServer::start().await?;
    for (what, tools, rule, fails_high) in [
        ("clean", vec![tool("a", "Fine.")], None, false),
        ("hidden text", vec![tool("a", "x\u{e0041}\u{e0042}\u{e0043}")], Some("tag_characters"), true),
        ("a credential", vec![tool("a", &token)], Some("credentials"), true),
        (
            "hidden in a schema",
            vec![
                json!({"name": "a", "inputSchema": {"type": "object", "properties": {"p": {"type": "string", "description": "\u{202e}x"}}}}),
            ],
            Some("bidi_controls"),
            true,
        ),
        ("the same name twice", vec![tool("a", "1"), tool("a", "2")], Some("ambiguous_definition"), true),
        (
            "a schema that is none",
            vec![json!({"name": "a", "inputSchema": {"type": 7}})],
            Some("unusable_schema"),
            true,
        ),
        (
            "two readings",
            vec![
                json!({"name": "a", "inputSchema": {"type": "object", "maxProperties": 9_007_199_254_740_993_u64}}),
            ],
            Some("unpinnable_definition"),
            true,
        ),
    ] {
        server.set_tools(tools);
        let (code, report) = scanner.json(&[&server.url()]).await?;
        assert_eq!(code, Some(i32::from(rule.is_some())), "{what}: {report:#}");
        assert_eq!(rules(&report).first().copied(), rule, "{what}: {report:#}");
        let (code, _) = scanner.json(&[&server.url(), "--fail-on", "high"]).await?;
        assert_eq!(code, Some(i32::from(fails_high)), "{what}");
        let said = scanner.run(&[&server.url()]).await?.stdout;
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(rule.is_none_or(|rule| said.contains(rule)), "{what}: {said}");
        assert!(
            !said.contains(&token) && !said.contains('\u{e0041}') && !said.contains('\u{202e}'),
            "{said}"
        );
    }
    server.set_tools(vec![tool("a", &token)]);
    let sarif = scanner.run(&["--sarif", &server.url()]).await?;
    let sarif: Value = serde_json::from_slice(&sarif.stdout)?;
    assert_eq!(sarif["version"], "2.1.0");
    assert_eq!(sarif["runs"][0]["results"][0]["ruleId"], "credentials");
    assert_eq!(sarif["runs"][0]["results"][0]["level"], "error");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_files_are_scanned_and_secrets_in_them_are_found_and_not_shown() -> Outcome {
    let scanner = Scanner::new()?;
    let binary = scanner.binary.to_str().ok_or("path")?.to_owned();
    let (code, report) = scanner.json(&["--", &binary, "sample-server"]).await?;
    assert_eq!(code, Some(0), "{report:#}");
    assert!(!report["servers"][0]["tools"].as_array().unwrap().is_empty(), "{report:#}");

    let started = scanner.folder.path().join("started");
    let script = format!("touch {}; exec {binary} sample-server", started.display());
    let servers = json!({"mcpServers": {
        "one": {"command": "sh", "args": ["-c", script, "sh", "--api-key", "canary-11"], "env": {"MY_TOKEN": "canary-22"}},
        "two": {"command": binary, "args": ["sample-server"]},
        "unset": {"command": binary, "args": ["sample-server", "${NO_SUCH_VARIABLE_HERE}"]},
        "old": {"type": "sse", "url": "https://o.invalid/sse"}}});
    scanner.file(".mcp.json", &servers.to_string())?;
    let (code, report) = scanner.json(&[".mcp.json", "--no-start"]).await?;
    assert_eq!(code, Some(1));
    assert!(!started.exists(), "--no-start starts nothing");
    assert_eq!(rules(&report), ["exposed_secret", "exposed_secret"], "{report:#}");
    let (code, report) = scanner.json(&[".mcp.json", "--fail-on", "high", "--no-sandbox"]).await?;
    assert_eq!(code, Some(1), "two servers could not be asked");
    assert!(started.exists());
    let servers = report["servers"].as_array().unwrap();
    let one = |name: &str| servers.iter().find(|server| server["server"] == name).unwrap();
    assert!(one("unset")["error"].as_str().unwrap().contains("NO_SUCH_VARIABLE_HERE"));
    assert!(one("old")["error"].as_str().is_some_and(|error| !error.is_empty()), "{report:#}");
    assert_eq!(one("one")["tools"], one("two")["tools"]);
    assert!(rules(&report).contains(&"shadowed_name"), "{report:#}");
    for arguments in [&[".mcp.json"][..], &[".mcp.json", "--json"], &[".mcp.json", "--sarif"]] {
        let output = scanner.run(arguments).await?;
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains("canary-"), "{said}");
    }

    scanner.file(
        "portcullis.yaml",
        &format!("servers:\n  sample:\n    command: [\"{binary}\", sample-server]\n"),
    )?;
    let (code, report) = scanner.json(&["portcullis.yaml"]).await?;
    assert_eq!((code, &report["servers"][0]["server"]), (Some(0), &json!("sample")), "{report:#}");
    let (code, report) = scanner.json(&["--no-start", "--", "npx", "-y", "@scope/server"]).await?;
    assert_eq!((code, rules(&report)), (Some(1), vec!["unpinned_package"]));
    let (code, _) = scanner.json(&["--no-start", "--", "npx", "-y", "@scope/server@1.2.3"]).await?;
    assert_eq!(code, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_lies_or_never_ends_fails_the_scan_in_time() -> Outcome {
    let scanner = Scanner::new()?;
    let endless = json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "tools": [], "nextCursor": "again"});
    for (what, method, behaviour) in [
        ("silence", "*", Hostile::HangBeforeHeaders),
        ("silence at the list", "tools/list", Hostile::HangBeforeHeaders),
        ("pages without end", "tools/list", Hostile::Answer(endless)),
        ("depth", "tools/list", Hostile::DeepJson(10_000)),
        ("a member twice", "tools/list", Hostile::DuplicateMembers),
        ("no JSON", "*", Hostile::InvalidJson),
        ("headers without end", "*", Hostile::EndlessHeaders),
        ("a body without end", "tools/list", Hostile::EndlessBody),
        ("elsewhere", "*", Hostile::Redirect("http://127.0.0.1:1/".into())),
    ] {
        let server = HostileServer::start().await?;
        server.on(method, behaviour);
        let begun = Instant::now();
        let (code, report) = scanner.json(&[&server.url(), "--timeout", "3"]).await?;
        assert_eq!(code, Some(1), "{what}: {report:#}");
        assert!(report["servers"][0]["error"].is_string(), "{what}: {report:#}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} took {:?}", begun.elapsed());
    }
    // Pages that are small enough each, and too large together; reading them takes a busy machine its time.
    let server = HostileServer::start().await?;
    server.set_page_size(1);
    let tool = |name: &str| json!({"name": name, "description": "x".repeat(6_000_000), "inputSchema": {"type": "object"}});
    server.set_tools(["a", "b", "c"].map(tool).to_vec());
    let (code, report) = scanner.json(&[&server.url(), "--timeout", "200"]).await?;
    assert_eq!(code, Some(1), "{report:#}");
    let error = report["servers"][0]["error"].as_str().unwrap_or_default();
    assert!(error.contains("more than 16777216 bytes"), "{error}");
    let begun = Instant::now();
    let (code, report) = scanner.json(&["--timeout", "1", "--", "sleep", "60"]).await?;
    assert_eq!(code, Some(1), "{report:#}");
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    let (code, report) = scanner.json(&["http://192.0.2.1/mcp", "--timeout", "2"]).await?;
    assert_eq!(code, Some(1), "{report:#}");
    assert_eq!(rules(&report), ["plaintext"]);
    let output = scanner.run(&["no-such-file.json"]).await?;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(scanner.run(&[]).await?.status.code(), Some(2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_the_older_transport_are_listed_when_somebody_says_so() -> Outcome {
    let (scanner, server) = (Scanner::new()?, SseServer::start().await?);
    let yaml = format!("servers:\n  s:\n    url: {}\n    transport: legacy_sse\n", server.url());
    let file = scanner.file("portcullis.yaml", &yaml)?.display().to_string();
    let url = server.url();
    for arguments in [&[file.as_str()][..], &["--legacy-sse", url.as_str()]] {
        let (code, report) = scanner.json(arguments).await?;
        assert_eq!(code, Some(0), "{report:#}");
        assert_eq!(report["servers"][0]["tools"], json!(["drop", "echo", "note", "twice"]));
    }
    for (_, sent) in server.posted() {
        assert!(LISTS.contains(&sent["method"].as_str().unwrap_or_default()), "{sent}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_confined_while_it_is_scanned_unless_somebody_says_otherwise() -> Outcome {
    let scanner = Scanner::new()?;
    let folder = tempfile::Builder::new().prefix("scan-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mark = folder.path().join("mark");
    let script = format!("echo here > '{}'", mark.display());
    let file = scanner.file(
        ".mcp.json",
        &json!({"mcpServers": {"s": {"command": "sh", "args": ["-c", script]}}}).to_string(),
    )?;
    let file = file.display().to_string();
    let after = ["--", "sh", "-c", script.as_str()];
    for target in [&[file.as_str()][..], &after] {
        assert_eq!(scanner.run(&[&["--timeout", "5"], target].concat()).await?.status.code(), Some(1));
        assert!(!mark.exists(), "{target:?}: it wrote outside");
        scanner.run(&[&["--timeout", "5", "--no-sandbox"], target].concat()).await?;
        assert!(mark.exists(), "{target:?}: without the sandbox it can");
        fs::remove_file(&mark)?;
    }
    Ok(())
}
