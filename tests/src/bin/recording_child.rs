//! An MCP server on stdio that writes down every line it is sent and answers calls with the lines of a file, byte for
//! byte: `recording-child SEEN REPLIES`. In a reply `$ID` and `$TOKEN` stand for the request's own.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, Write as _},
};

use portcullis_tests::odd;
use serde_json::{Value, value::RawValue};

type Members<'a> = BTreeMap<String, &'a RawValue>;

/// The text of a member, as it was written.
fn raw<'a>(text: &'a str, path: &[&str]) -> Option<&'a str> {
    path.iter().try_fold(text, |text, name| {
        let members: Members<'a> = serde_json::from_str(text).ok()?;
        members.get(*name).map(|value| value.get())
    })
}

/// What a server must say before anybody calls it. Definitions are written as few would write them.
fn opening(method: &str, version: Option<&str>) -> Option<String> {
    let odd = odd::in_definitions();
    let info = r#""serverInfo":{"name":"recording-child","version":"1"},"capabilities":{"tools":{ },"prompts":{},"resources":{}}"#;
    let members = match method {
        "initialize" => format!(r#""protocolVersion":{},{info},{odd}"#, version?),
        "server/discover" => format!(r#""supportedVersions":["2026-07-28","2025-11-25"],{info},{odd}"#),
        "tools/list" => {
            format!(r#""tools":[{{{odd},"name" :"\u0065cho","inputSchema":{{"type":"object"}}}}]"#)
        }
        "prompts/list" => {
            format!(r#""prompts":[{{{odd},"name":"review","arguments":[{{"name":"subject"}}]}}]"#)
        }
        "resources/list" => format!(r#""resources":[{{{odd},"name":"one","uri":"demo:\/\/one"}}]"#),
        "resources/templates/list" => r#""resourceTemplates":[]"#.to_owned(),
        _ => return None,
    };
    Some(format!(r#"{{"resultType":"complete","ttlMs":0,"cacheScope":"private",{members}}}"#))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(seen), Some(replies)) = (arguments.next(), arguments.next()) else {
        return Err("usage: recording-child SEEN REPLIES".into());
    };
    let mut seen = File::options().create(true).append(true).open(seen)?;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let message: Value = serde_json::from_str(&line)?;
        let method = message.get("method").and_then(Value::as_str).unwrap_or_default();
        writeln!(seen, "{line}")?;
        if let Some(id) = raw(&line, &["id"]).filter(|_| !method.is_empty()) {
            if let Some(result) = opening(method, raw(&line, &["params", "protocolVersion"])) {
                writeln!(out, r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)?;
            } else {
                let token = raw(&line, &["params", "_meta", "progressToken"]).unwrap_or("null");
                let replies = fs::read_to_string(&replies)?;
                out.write_all(replies.replace("$ID", id).replace("$TOKEN", token).as_bytes())?;
            }
        }
        out.flush()?;
    }
    Ok(())
}
