//! `portcullis import`: real files of every client in a home of their own, what is shown, what is written, what the
//! gateway makes of it, and what hostile files get.

use std::{
    fs,
    io::{Cursor, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

use portcullis_testkit::{Era, Gateway, McpClient, Outcome, files_containing};
use portcullis_tests::pair::{SOON, code_of, known, soon};
use serde_json::{Value, json};
use tempfile::TempDir;
use zip::{ZipWriter, write::SimpleFileOptions};

/// Stands for every secret; must never be printed nor written into a configuration.
const CANARY: &str = "canary-7d1f0a";

/// A user with a home and a folder, in which the commands run.
struct User {
    home: TempDir,
    gateway: Gateway,
}

impl User {
    fn new(yaml: &str) -> Outcome<Self> {
        let home = tempfile::tempdir()?;
        let path = home.path().to_str().ok_or("path")?.to_owned();
        let builder = Gateway::builder().config(yaml).environment("HOME", &path);
        let gateway = builder.environment("XDG_CONFIG_HOME", &format!("{path}/.config")).prepare()?;
        Ok(Self { home, gateway })
    }

    /// A file in the home (`~/…`) or in the current folder.
    fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> Outcome<PathBuf> {
        let path = match name.strip_prefix("~/") {
            Some(name) => self.home.path().join(name),
            None => self.gateway.folder().join(name),
        };
        fs::create_dir_all(path.parent().ok_or("parent")?)?;
        fs::write(&path, contents)?;
        Ok(path)
    }

    fn run(&self, arguments: &[&str]) -> Outcome<(Option<i32>, String, String)> {
        let output = self.gateway.command(arguments)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    }

    fn json(&self, arguments: &[&str]) -> Outcome<Value> {
        let (code, said, complaint) = self.run(&[arguments, &["--json"]].concat())?;
        assert_eq!(code, Some(0), "{arguments:?}: {said}{complaint}");
        Ok(serde_json::from_str(&said)?)
    }

    fn config(&self) -> Outcome<String> {
        Ok(fs::read_to_string(self.gateway.folder().join("portcullis.yaml"))?)
    }
}

fn server<'v>(report: &'v Value, name: &str) -> &'v Value {
    let servers = report["servers"].as_array().unwrap();
    servers.iter().find(|server| server["name"] == name).unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

/// One file of every client.
fn everything(user: &User) -> Outcome {
    let token = format!("{CANARY}-token");
    user.file(
        "~/.config/Claude/claude_desktop_config.json",
        json!({"mcpServers": {"files": {"command": "npx", "args": ["-y", "fs server", "/srv"],
            "env": {"LANGUAGE": "de", "API_KEY": token, "DB": "file:x.db"}}}})
        .to_string(),
    )?;
    user.file(
        "~/.claude.json",
        json!({"history": [1], "mcpServers": {"remote": {"type": "http", "url": "https://r.example/mcp",
            "headers": {"Authorization": "Bearer ${REMOTE_TOKEN}", "X-Team": "a"}}},
            "projects": {"/p": {"mcpServers": {"tool": {"command": "./bin/tool", "args": ["--key", "${TOOL_KEY}"]}}}}})
        .to_string(),
    )?;
    user.file(
        ".vscode/mcp.json",
        format!(
            "{{ // asks once\n \"inputs\": [{{\"type\": \"promptString\", \"id\": \"gh-token\", \"password\": true}}],\n \"servers\": {{ \"github\": {{\"type\": \"http\", \"url\": \"https://g.example/mcp\",\n \"headers\": {{\"Authorization\": \"Bearer ${{input:gh-token}}\"}},}},\n \"db\": {{\"type\": \"stdio\", \"command\": \"dbserver\", \"args\": [\"--password={token}\", \"${{workspaceFolder}}/db\"]}}, }}, }}"
        ),
    )?;
    user.file(
        "~/.cursor/mcp.json",
        json!({"mcpServers": {"old": {"type": "sse", "url": "https://o.example/sse"},
            "search me": {"url": "https://s.example/mcp", "headers": {"X-Api-Key": token}},
            "off": {"command": "x", "disabled": true}}})
        .to_string(),
    )?;
    user.file(
        "~/.copilot/mcp-config.json",
        json!({"mcpServers": {"files": {"type": "local", "command": "other"}}}).to_string(),
    )?;
    user.file(
        "mcp.json",
        json!({"mcpServers": {"insp": {"command": "insp", "protocolEra": "modern",
            "args": ["--header", format!("Authorization: Bearer {token}")]}}})
        .to_string(),
    )?;
    Ok(())
}

#[test]
fn what_every_client_uses_is_shown_in_full_and_written_only_when_told_to() -> Outcome {
    let user = User::new("# mine\nservers:\n  # the first\n  own:\n    url: https://own.example/mcp\n")?;
    everything(&user)?;
    let before = user.config()?;
    let (code, said, complaint) = user.run(&["import"])?;
    assert_eq!(code, Some(0), "{said}{complaint}");
    for words in [
        "Claude Desktop  ",
        "npx -y 'fs server' /srv",
        "moved      env API_KEY to file:portcullis-data/secrets/files.API_KEY (its name is that of a credential)",
        "moved      env DB to file:portcullis-data/secrets/files.DB (it would be read as a reference)",
        "Authorization = Bearer env:REMOTE_TOKEN",
        "/p/./bin/tool --key '${TOOL_KEY}'",
        "Authorization = Bearer env:GH_TOKEN",
        "dbserver '--password=${PASSWORD}'",
        "transport  legacy_sse",
        "note       it speaks the HTTP+SSE transport",
        "is switched off",
        "search-me (new)",
        "files-2 (new)",
        "sandbox    on",
        "sandbox    allow = [\"registry.npmjs.org\"]",
        "insp --header 'Authorization: ${AUTHORIZATION}'",
        "nothing was written",
    ] {
        assert!(said.contains(words), "`{words}` is not in\n{said}");
    }
    assert!(!said.contains(CANARY), "{said}");
    assert_eq!(user.config()?, before, "without --write nothing is written");
    assert!(!user.gateway.data().exists());

    let written = user.json(&["import", "--write"])?;
    assert!(!written.to_string().contains(CANARY));
    assert!(written["written"].as_str().unwrap().ends_with("portcullis.yaml"), "{written}");
    assert!(
        written["servers"]
            .as_array()
            .unwrap()
            .iter()
            .all(|server| server["state"] != "new" || server["section"]["trust"] == "review")
    );
    let after = user.config()?;
    assert!(before.lines().all(|line| after.lines().any(|own| own == line)), "{after}");
    assert!(!after.contains(CANARY), "{after}");
    let (code, said, complaint) = user.run(&["check"])?;
    assert_eq!(code, Some(0), "{said}{complaint}");
    for name in ["own", "files", "remote", "tool", "github", "db", "search-me", "files-2", "insp"] {
        assert!(said.contains(name), "{name} is not in {said}");
    }
    let secret = user.gateway.data().join("secrets/files.API_KEY");
    assert_eq!(fs::read_to_string(&secret)?, format!("{CANARY}-token"));
    assert_eq!(fs::metadata(&secret)?.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(user.gateway.data())?.permissions().mode() & 0o777, 0o700);

    let again = user.json(&["import", "--write"])?;
    assert_eq!(again["written"], Value::Null, "{again}");
    assert!(again["servers"].as_array().unwrap().iter().all(|server| server["state"] != "new"), "{again:#}");
    assert_eq!(user.config()?, after);
    Ok(())
}

#[test]
fn only_what_is_asked_for_is_taken_and_a_file_of_its_own_can_hold_it() -> Outcome {
    let user = User::new("")?;
    everything(&user)?;
    let before = user.config()?;
    let report = user.json(&[
        "import",
        "--from",
        "cursor",
        "--server",
        "search me",
        "--write",
        "--output",
        "more.yaml",
    ])?;
    assert_eq!(report["files"].as_array().unwrap().len(), 1);
    assert_eq!(report["servers"].as_array().unwrap().len(), 1);
    assert_eq!(user.config()?, before);
    let fragment = fs::read_to_string(user.gateway.folder().join("more.yaml"))?;
    assert!(fragment.contains("search-me") && fragment.contains("trust: \"review\""), "{fragment}");
    let (code, said, complaint) = user.run(&["check", "--config", "more.yaml"])?;
    assert_eq!(code, Some(0), "{said}{complaint}");
    Ok(())
}

#[tokio::test]
async fn an_imported_server_gets_its_secrets_and_cannot_be_called_before_a_person_approves_it() -> Outcome {
    let mut user = User::new("")?;
    let binary = user.gateway.binary().to_str().ok_or("path")?.to_owned();
    let out = user.gateway.folder().join("out");
    fs::create_dir(&out)?;
    let seen = out.join("seen");
    let script = format!("echo \"$2 $KEY_IN_ENV\" > {}; exec {binary} sample-server", seen.display());
    user.file(
        "~/.config/Claude/claude_desktop_config.json",
        json!({"mcpServers": {"sample": {"command": "sh", "args": ["-c", script, "sh", "--api-key", CANARY, ],
            "env": {"KEY_IN_ENV": "x", "MY_SECRET": CANARY}}}})
        .to_string()
        .replace("$KEY_IN_ENV", "$MY_SECRET"),
    )?;
    user.json(&["import", "--write"])?;
    // Imported servers are confined: what this one needs beside is for its owner to say.
    let opened = format!("sandbox: {{read: [\"{binary}\"], write: [\"{}\"]}}", out.display());
    assert!(user.config()?.contains("sandbox: {}"));
    user.gateway.rewrite(|yaml| yaml.replace("sandbox: {}", &opened))?;
    user.gateway.start_again().await?;
    known(&user.gateway, SOON).await?;
    soon("the child has started", || seen.exists()).await?;
    assert_eq!(fs::read_to_string(&seen)?.trim(), format!("{CANARY} {CANARY}"));
    let tools = user.json(&["tool", "list"])?;
    let tools = tools["definitions"].as_array().unwrap();
    assert!(!tools.is_empty() && tools.iter().all(|tool| tool["state"] == "pending"), "{tools:?}");
    let tool = tools.iter().find(|tool| tool["kind"] == "tool").unwrap()["name"].as_str().unwrap().to_owned();
    let key = user.gateway.key()?.to_owned();
    let mut client = McpClient::connect(&user.gateway.url("sample"), Some(&key), Era::Legacy).await?;
    assert_eq!(code_of(&client.call(&tool, json!({})).await?), "definition.unreviewed");
    user.json(&["tool", "approve", &format!("sample/{tool}")])?;
    assert_ne!(code_of(&client.call(&tool, json!({})).await?), "definition.unreviewed");
    let listed = user.run(&["server", "list"])?.1;
    assert!(!listed.contains(CANARY), "{listed}");
    let leaks: Vec<PathBuf> = files_containing(user.gateway.folder(), CANARY.as_bytes())?;
    let outside: Vec<&PathBuf> =
        leaks.iter().filter(|path| !path.to_string_lossy().contains("/secrets/") && **path != seen).collect();
    assert!(outside.is_empty(), "{outside:?}");
    Ok(())
}

/// A zip with these files.
fn zip(files: &[(&str, &[u8], u32)]) -> Outcome<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents, mode) in files {
        writer.start_file(*name, SimpleFileOptions::default().unix_permissions(*mode))?;
        writer.write_all(contents)?;
    }
    Ok(writer.finish()?.into_inner())
}

fn manifest(args: &Value) -> Vec<u8> {
    json!({"manifest_version": "0.3", "name": "weather", "version": "1.0.0",
        "server": {"type": "binary", "entry_point": "bin/run", "mcp_config":
            {"command": "${__dirname}/bin/run", "args": args, "env": {"KEY": "${user_config.api_key}"}}},
        "user_config": {"api_key": {"type": "string", "sensitive": true}, "dir": {"type": "directory", "default": "${HOME}/w"}},
        "tools": [{"name": "forecast"}]})
    .to_string()
    .into_bytes()
}

#[tokio::test]
async fn a_bundle_is_unpacked_into_a_folder_of_its_digest_and_runs() -> Outcome {
    let mut user = User::new("")?;
    let program = format!("#!/bin/sh\nexec {} sample-server\n", user.gateway.binary().display());
    let files: &[(&str, &[u8], u32)] = &[
        ("manifest.json", &manifest(&json!(["${user_config.dir}"])), 0o644),
        ("bin/run", program.as_bytes(), 0o4755),
        ("data/x", b"1", 0o644),
    ];
    user.file("weather.mcpb", zip(files)?)?;
    let report = user.json(&["import", "weather.mcpb"])?;
    let weather = server(&report, "weather");
    assert_eq!(weather["section"]["env"]["KEY"], "env:API_KEY");
    assert_eq!(weather["section"]["command"][1], json!(user.home.path().join("w")));
    assert!(weather["notes"].to_string().contains("forecast"), "{weather}");
    let program = PathBuf::from(weather["section"]["command"][0].as_str().unwrap());
    assert!(!program.exists(), "nothing is unpacked before --write");
    let configured = user.json(&["import", "weather.mcpb", "--write"])?;
    assert!(configured["written"].is_string());
    assert_eq!(fs::metadata(&program)?.permissions().mode() & 0o7777, 0o700);
    assert_eq!(
        fs::metadata(program.ancestors().nth(2).ok_or("path")?.join("data/x"))?.permissions().mode() & 0o777,
        0o600
    );
    let binary = format!("read: [\"{}\", ", user.gateway.binary().display());
    user.gateway.rewrite(|yaml| {
        let yaml = yaml.replace("env:API_KEY", "nothing secret").replace("\"KEY\"", "\"PLAIN\"");
        yaml.replace("\"read\": [", &binary)
    })?;
    user.gateway.start_again().await?;
    known(&user.gateway, SOON).await?;
    let list = user.json(&["server", "list"])?;
    assert_eq!(list["servers"][0]["state"], "ready", "{list}\n{}", user.gateway.output());
    Ok(())
}

#[test]
fn servers_of_the_registry_become_pinned_commands_and_endpoints() -> Outcome {
    let user = User::new("")?;
    let npm = json!({"registryType": "npm", "identifier": "@a/w", "version": "1.2.3", "transport": {"type": "stdio"},
        "runtimeArguments": [{"type": "named", "name": "--quiet"}],
        "packageArguments": [{"type": "positional", "value": "serve"}, {"type": "named", "name": "--region", "default": "eu"}],
        "environmentVariables": [{"name": "W_KEY", "isSecret": true, "isRequired": true}, {"name": "OPTIONAL"}]});
    let remote = json!({"type": "streamable-http", "url": "https://w.example/mcp",
        "headers": [{"name": "X-Key", "isSecret": true, "isRequired": true}, {"name": "Authorization", "value": "Bearer {token}"}]});
    for (what, file, command) in [
        (
            "npm",
            json!({"name": "io.example/weather", "version": "1", "packages": [npm]}),
            json!(["npx", "--quiet", "-y", "@a/w@1.2.3", "serve", "--region", "eu"]),
        ),
        (
            "pypi",
            json!({"name": "io.example/weather", "packages": [{"registry_type": "pypi", "identifier": "w", "version": "2"}]}),
            json!(["uvx", "w==2"]),
        ),
        (
            "oci",
            json!({"name": "io.example/weather", "packages": [{"registryType": "oci", "identifier": "ghcr.io/a/w", "version": "3",
            "environmentVariables": [{"name": "A", "value": "b"}]}]}),
            json!(["docker", "run", "-i", "--rm", "-e", "A", "ghcr.io/a/w:3"]),
        ),
        (
            "remote",
            json!({"name": "io.example/weather", "remotes": [{"type": "sse", "url": "https://x.example"}, remote]}),
            Value::Null,
        ),
        (
            "older",
            json!({"name": "io.example/weather", "remotes": [{"type": "sse", "url": "https://x.example/sse"}]}),
            Value::Null,
        ),
    ] {
        user.file("server.json", file.to_string())?;
        let report = user.json(&["import", "server.json"])?;
        let section = &server(&report, "weather")["section"];
        assert_eq!(section["command"], command, "{what}: {report:#}");
        if what == "remote" {
            assert_eq!(
                section["headers"],
                json!({"X-Key": "env:X_KEY", "Authorization": "Bearer env:TOKEN"})
            );
        }
        let transport = if what == "older" { json!("legacy_sse") } else { Value::Null };
        assert_eq!((&section["transport"], &section["trust"]), (&transport, &json!("review")), "{what}");
        if what == "npm" {
            assert_eq!(section["env"], json!({"W_KEY": "env:W_KEY"}));
        }
    }
    Ok(())
}

/// Files that must be refused, and a word of the reason.
fn hostile(user: &User) -> Outcome<Vec<(PathBuf, &'static str)>> {
    let deep = format!("{{\"mcpServers\": {}{}}}", "[".repeat(100), "]".repeat(100));
    let many: String = (0..1_001).map(|n| format!("\"s{n}\": {{\"command\": \"x\"}},")).collect();
    let swollen = zip(&[("manifest.json", &vec![b' '; 2_000_000], 0o644)])?;
    let mut link = ZipWriter::new(Cursor::new(Vec::new()));
    link.start_file("manifest.json", SimpleFileOptions::default())?;
    link.write_all(&manifest(&json!([])))?;
    link.add_symlink("bin", "/etc", SimpleFileOptions::default())?;
    let escape = |name: &str| zip(&[("manifest.json", &manifest(&json!([])), 0o644), (name, b"x", 0o644)]);
    assert!(swollen.len() < 10_000, "it is compressed");
    Ok(vec![
        (
            user.file(
                "~/twice.json",
                r#"{"mcpServers": {"a": {"command": "good"}, "\u0061": {"command": "evil"}}}"#,
            )?,
            "twice",
        ),
        (user.file("~/deep.json", deep)?, "levels deep"),
        (
            user.file(
                "~/big.json",
                format!("{{\"mcpServers\": {{}}, \"x\": \"{}\"}}", " ".repeat(16_777_216)),
            )?,
            "more than 16777216 bytes",
        ),
        (
            user.file("~/many.json", format!("{{\"mcpServers\": {{{many} \"last\": {{}}}}}}"))?,
            "more than 1000 servers",
        ),
        (
            user.file("~/claude_desktop_config.json", "{ // no comments here\n\"mcpServers\": {}}")?,
            "not well-formed",
        ),
        (user.file("~/list.json", r#"{"mcpServers": []}"#)?, "is no object"),
        (user.file("~/latin.json", b"{\"mcpServers\": {\"\xe9\": {}}}")?, "UTF-8"),
        (user.file("~/none.json", "{}")?, "no client known"),
        (user.file("~/up.mcpb", escape("../../evil")?)?, "leaves its folder"),
        (user.file("~/root.mcpb", escape("/etc/evil")?)?, "leaves its folder"),
        (user.file("~/back.mcpb", escape("a\\..\\evil")?)?, "leaves its folder"),
        (user.file("~/link.mcpb", link.finish()?.into_inner())?, "symbolic link"),
        (user.file("~/manifest.mcpb", swollen)?, "more than 1048576 bytes"),
        (user.file("~/nozip.mcpb", "no zip")?, "no zip"),
        (user.home.path().join("absent.json"), "cannot be read"),
        (PathBuf::from("/dev/zero"), "no regular file"),
    ])
}

#[test]
fn hostile_files_are_refused_with_a_reason_and_nothing_is_written() -> Outcome {
    let user = User::new("")?;
    let before = user.config()?;
    user.file("good.json", r#"{"mcpServers": {"good": {"command": "x"}}}"#)?;
    for (file, reason) in hostile(&user)? {
        let name = file.to_str().ok_or("path")?.to_owned();
        let (code, said, complaint) = user.run(&["import", "good.json", &name, "--write"])?;
        assert_eq!(code, Some(1), "{name}: {said}{complaint}");
        assert!(said.contains(reason), "{name}: `{reason}` is not in\n{said}");
        assert_eq!(user.config()?, before, "{name}");
        assert!(!user.gateway.data().exists(), "{name}");
    }
    let fifo = user.home.path().join("fifo.json");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status()?.success());
    let (code, said, _) = user.run(&["import", fifo.to_str().ok_or("path")?])?;
    assert!(code == Some(1) && said.contains("no regular file"), "{said}");
    Ok(())
}

#[test]
fn servers_that_cannot_be_taken_say_why_and_do_not_hinder_others() -> Outcome {
    let user = User::new("")?;
    let token = format!("ghp_{}", "a1B2".repeat(9));
    let cases = [
        (json!({"url": "https://u:p@a.example/mcp"}), "credential in its URL"),
        (json!({"url": format!("https://a.example/mcp?key={token}")}), "credential in its URL"),
        (json!({"url": "https://${HOST}/mcp"}), "variable in its URL"),
        (json!({"url": "unix:///sock"}), "neither http nor https"),
        (
            json!({"url": "https://a.example/mcp", "headers": {"Host": "b"}}),
            "the gateway sets this header itself",
        ),
        (json!({"url": "https://a.example/mcp", "headers": {"X": "a${B}c"}}), "mixes text and variables"),
        (json!({"command": "x", "env": {"A=B": "1"}}), "name of an environment variable"),
        (json!({"command": "x", "args": ["${A:-b}"]}), "default"),
        (json!({"command": "x", "url": "https://a.example"}), "both"),
        (json!({"args": []}), "neither"),
        (json!({"command": ["x"]}), "no text"),
        (json!({"command": "x", "env": {"A_TOKEN": "a\n"}}), "ends with a line"),
        (json!({"command": "x", "args": ["${A}"], "env": {"A": "b"}, "type": "websocket"}), "type"),
        (json!({"command": "x\u{1b}[2J"}), "control character"),
        (json!(7), "no object"),
    ];
    let servers: serde_json::Map<String, Value> =
        cases.iter().enumerate().map(|(n, (server, _))| (format!("case{n}"), server.clone())).collect();
    let mut servers = Value::Object(servers);
    servers["good"] = json!({"command": "x"});
    servers["\u{1b}[2J"] = json!({"command": "y"});
    user.file(".mcp.json", json!({"mcpServers": servers}).to_string())?;
    let report = user.json(&["import"])?;
    for (n, (case, reason)) in cases.iter().enumerate() {
        let server = server(&report, &format!("case{n}"));
        assert_eq!(server["state"], "not_taken", "{case}");
        assert!(server["reason"].as_str().unwrap().contains(reason), "{case}: {}", server["reason"]);
    }
    assert_eq!(server(&report, "good")["state"], "new");
    let said = user.run(&["import"])?.1;
    assert!(!said.contains('\u{1b}'), "a name cannot move the cursor");
    assert!(!said.contains(&token), "{said}");
    Ok(())
}
