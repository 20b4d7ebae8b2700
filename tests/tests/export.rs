//! `portcullis export`: what it writes into the files of clients, what it leaves alone, and how it is undone.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
};

use portcullis_testkit::Outcome;
use portcullis_tests::pair::Pair;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_pointed_at_the_gateway_without_the_key_and_brought_back_to_the_byte() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let gateway = &pair.gateway;
    let url = gateway.url("s");
    let run = |arguments: &[&str]| -> Outcome<(Option<i32>, String)> {
        let output = gateway.command(&[&["export"], arguments].concat())?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    };
    let file = gateway.folder().join(".vscode/mcp.json");
    fs::create_dir_all(file.parent().ok_or("parent")?)?;
    let mine = "{\n  // mine\n  \"servers\": {\n    \"other\": { \"command\": \"x\" }, // stays\n  },\n}\n";
    fs::write(&file, mine)?;
    assert_eq!(run(&["vscode"])?.0, Some(0));
    assert_eq!(fs::read_to_string(&file)?, mine, "without --write nothing is written");
    for _ in 0..2 {
        let (code, said) = run(&["vscode", "--write"])?;
        assert_eq!(code, Some(0), "{said}");
        let now = fs::read_to_string(&file)?;
        for words in [
            "// mine",
            "\"other\": { \"command\": \"x\" }",
            "// stays",
            url.as_str(),
            "${input:portcullis-key}",
            "promptString",
        ] {
            assert!(now.contains(words), "`{words}` is not in {now}");
        }
        assert!(!now.contains("pcl_") && now.matches("promptString").count() == 1, "{now}");
    }
    let (code, said) = run(&["vscode", "--undo"])?;
    assert_eq!((code, fs::read_to_string(&file)?.as_str()), (Some(0), mine), "{said}");
    assert_eq!(run(&["vscode", "--undo"])?.0, Some(1), "there is nothing left to undo");

    let file = gateway.folder().join(".mcp.json");
    assert_eq!(run(&["claude-code", "--write"])?.0, Some(0));
    assert!(fs::read_to_string(&file)?.contains("Bearer ${PORTCULLIS_KEY}"));
    assert_eq!(run(&["claude-code", "--undo"])?.0, Some(0));
    assert!(!file.exists(), "there was no file before");
    fs::write(&file, "{\"mcpServers\": {\"s\": {\"command\": \"own\"}}}")?;
    let (code, said) = run(&["claude-code", "--write"])?;
    assert!(code == Some(1) && said.contains("--replace"), "{said}");
    assert_eq!(run(&["claude-code", "--write", "--replace"])?.0, Some(0));
    assert!(!fs::read_to_string(&file)?.contains("own"));
    fs::write(&file, "{\"changed\": 1}")?;
    let (code, said) = run(&["claude-code", "--undo"])?;
    assert!(code == Some(1) && said.contains("changed since"), "{said}");
    for hostile in ["{\"mcpServers\": []}", "[]", "{ // c\n}", "{\"a\": 1, \"a\": 2}"] {
        fs::write(&file, hostile)?;
        assert_eq!(run(&["claude-code", "--write"])?.0, Some(1), "{hostile}");
        assert_eq!(fs::read_to_string(&file)?, hostile);
    }
    let managed = gateway.folder().join("managed-mcp.json");
    fs::write(&managed, "{\"mcpServers\": {\"loose\": {\"command\": \"x\"}}}")?;
    let (code, said) = run(&["claude-code", "--managed", "--file", "managed-mcp.json", "--write"])?;
    assert_eq!(code, Some(0), "{said}");
    let now = fs::read_to_string(&managed)?;
    assert!(now.contains(&url) && !now.contains("loose"), "the managed set is exclusive: {now}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_has_a_form_and_those_that_an_administrator_can_bind_have_one_of_that_too() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let gateway = &pair.gateway;
    let url = gateway.url("s");
    let exported = |arguments: &[&str]| -> Outcome<(Option<i32>, Value)> {
        let output = gateway.command(&[&["export", "--json"], arguments].concat())?;
        Ok((output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default()))
    };
    let contents = |shown: &Value| -> Outcome<Value> {
        Ok(serde_json::from_str(shown["contents"].as_str().ok_or("contents")?)?)
    };
    let (code, shown) = exported(&["inspector"])?;
    let entry = contents(&shown)?["mcpServers"]["s"].clone();
    assert_eq!((code, entry), (Some(0), json!({"type": "streamable-http", "url": url})));
    let (code, shown) =
        exported(&["claude-desktop", "--file", "desktop.json", "--key-file", "k", "--write"])?;
    assert_eq!(code, Some(0), "{shown}");
    let entry = contents(&shown)?["mcpServers"]["s"].clone();
    let key = format!("Authorization=Bearer file:{}", gateway.folder().canonicalize()?.join("k").display());
    assert_eq!(entry["args"], json!(["wrap", "--name", "s", "--url", url, "--header", key]), "{entry}");
    assert!(std::path::Path::new(entry["command"].as_str().unwrap()).is_absolute());
    assert_eq!(
        exported(&["claude-desktop", "--file", "desktop.json", "--write"])?.0,
        Some(0),
        "its own again"
    );
    assert_eq!(exported(&["claude-desktop", "--file", "desktop.json", "--undo"])?.0, Some(0));
    for client in ["copilot", "vscode"] {
        let (code, shown) =
            exported(&[client, "--managed", "--file", "managed.json", "--write", "--replace"])?;
        assert_eq!(code, Some(0), "{shown}");
        assert_eq!(contents(&shown)?, json!({"allowedMcpServers": [{"serverUrl": url}]}));
    }
    for client in ["claude-desktop", "cursor", "inspector"] {
        assert_eq!(exported(&[client, "--managed"])?.0, Some(1), "{client}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_stranger_left_in_a_project_leads_an_export_elsewhere() -> Outcome {
    let pair = Pair::start(&[]).await?;
    let gateway = &pair.gateway;
    let folder = gateway.folder();
    let outside = tempfile::tempdir()?;
    let target = outside.path().join("mcp.json");
    fs::write(&target, "{}")?;
    let run = |arguments: &[&str]| -> Outcome<(Option<i32>, String)> {
        let output = gateway.command(&[&["export"], arguments].concat())?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    symlink(&target, folder.join(".mcp.json"))?;
    symlink(outside.path(), folder.join(".vscode"))?;
    for client in ["claude-code", "vscode"] {
        for what in ["--write", "--undo"] {
            let (code, said) = run(&[client, what])?;
            assert!(code == Some(1) && said.contains("--file"), "{client} {what}: {said}");
        }
    }
    fs::create_dir(folder.join(".cursor"))?;
    symlink(&target, folder.join(".cursor/mcp.json.before-portcullis"))?;
    assert_eq!(run(&["cursor", "--write"])?.0, Some(0));
    assert_eq!(fs::read_to_string(&target)?, "{}", "what the links point at is as it was");
    let kept = fs::symlink_metadata(folder.join(".cursor/mcp.json.before-portcullis"))?;
    assert_eq!((kept.is_file(), kept.mode() & 0o777), (true, 0o600), "nobody else reads what was kept");
    fs::create_dir(folder.join("folder.json"))?;
    for bad in ["folder.json", "/proc/nobody/mcp.json", "/dev/full"] {
        let (code, said) = run(&["cursor", "--file", bad, "--write"])?;
        assert!(code == Some(1) && said.contains(bad), "{bad}: {said}");
    }
    Ok(())
}
