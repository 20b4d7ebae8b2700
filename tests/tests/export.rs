//! `portcullis export`: what it writes into the files of clients, what it leaves alone, and how it is undone.

use std::fs;

use portcullis_testkit::Outcome;
use portcullis_tests::pair::Pair;

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
