//! `portcullis export CLIENT`: puts the gateway's servers into the file of a client. Everything else in the file stays as it
//! is written, comments included; the key stays out of it; `--undo` brings back what was there.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};
use portcullis_admin::api::{ServerList, Status};
use portcullis_core::Digest;
use serde_json::{Value, json};

use super::{
    Common, Failure,
    client::{Client, NONE},
    formats::{Places, document, document::Dialect},
    output::{Output, printable},
    replace,
};

pub(super) const AFTER_HELP: &str = "\
Examples:
  portcullis export vscode                    show what .vscode/mcp.json would be
  portcullis export claude-code --write       write .mcp.json, and keep what was there
  portcullis export claude-code --undo        bring that back
  portcullis export claude-code --managed --write    nothing but the gateway, for everybody on this machine

The API key is not written: VS Code asks for it, the others read the environment variable PORTCULLIS_KEY.";

/// A client that can be pointed at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    ClaudeCode,
    Copilot,
    Cursor,
    Vscode,
}

/// What `export` takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Export {
    /// The client
    client: Target,
    /// Only servers of this name (repeat for several)
    #[arg(long = "server", value_name = "NAME")]
    servers: Vec<String>,
    /// Its file [default: that of the project, for Copilot that of the user]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Replace entries of the same name
    #[arg(long)]
    replace: bool,
    /// Write managed-mcp.json, which makes Claude Code use these servers and no others
    #[arg(long)]
    managed: bool,
    /// Write the file; without it, only show what it would be
    #[arg(long, conflicts_with = "undo")]
    write: bool,
    /// Bring back what was there before the last --write
    #[arg(long)]
    undo: bool,
}

impl Target {
    const fn member(self) -> &'static str {
        match self {
            Self::Vscode => "servers",
            Self::ClaudeCode | Self::Copilot | Self::Cursor => "mcpServers",
        }
    }

    const fn dialect(self) -> Dialect {
        match self {
            Self::Vscode | Self::Cursor => Dialect::Jsonc,
            Self::ClaudeCode | Self::Copilot => Dialect::Json,
        }
    }

    fn file(self, places: &Places, managed: bool) -> PathBuf {
        match self {
            Self::ClaudeCode if managed => PathBuf::from("/etc/claude-code/managed-mcp.json"),
            Self::ClaudeCode => places.project.join(".mcp.json"),
            Self::Copilot => places.home.join(".copilot/mcp-config.json"),
            Self::Cursor => places.project.join(".cursor/mcp.json"),
            Self::Vscode => places.project.join(".vscode/mcp.json"),
        }
    }

    /// Where the client takes the key from.
    const fn key(self) -> &'static str {
        match self {
            Self::ClaudeCode | Self::Copilot => "Bearer ${PORTCULLIS_KEY}",
            Self::Cursor => "Bearer ${env:PORTCULLIS_KEY}",
            Self::Vscode => "Bearer ${input:portcullis-key}",
        }
    }

    fn entry(self, url: &str) -> CstInputValue {
        let text = |text: &str| CstInputValue::String(text.to_owned());
        let headers = CstInputValue::Object(vec![("Authorization".to_owned(), text(self.key()))]);
        let mut members = vec![("url".to_owned(), text(url)), ("headers".to_owned(), headers)];
        if !matches!(self, Self::Cursor) {
            members.insert(0, ("type".to_owned(), text("http")));
        }
        CstInputValue::Object(members)
    }
}

pub(super) fn export(common: &Common, options: &Export, output: &Output) -> Result<(), Failure> {
    let places = Places::here().map_err(Failure::refused)?;
    if options.managed && options.client != Target::ClaudeCode {
        return Err(Failure::refused(
            "--managed is for claude-code; other clients are managed by their own policies",
        ));
    }
    let file = options.file.clone().unwrap_or_else(|| options.client.file(&places, options.managed));
    let file = places.project.join(file);
    if options.undo {
        undo(&file).map_err(|reason| Failure::refused(format!("`{}` {reason}", file.display())))?;
        output.show(&json!({ "file": file, "undone": true }), |_| {
            printable(&format!("restored {}", file.display()))
        });
        return Ok(());
    }
    let client = Client::connect(common)?;
    let status: Status = client.ask("status", "", NONE, NONE)?;
    let list: ServerList = client.ask("list_servers", "", NONE, NONE)?;
    let names: Vec<String> = list.servers.into_iter().map(|server| server.name).collect();
    if let Some(unknown) = options.servers.iter().find(|name| !names.contains(name)) {
        return Err(Failure::refused(format!(
            "there is no server `{unknown}`\nhint: portcullis server list"
        )));
    }
    let wanted = |name: &String| options.servers.is_empty() || options.servers.contains(name);
    let servers: Vec<(String, String)> = names
        .iter()
        .filter(|name| wanted(name))
        .map(|name| (name.clone(), format!("{}/{name}", status.endpoint.trim_end_matches('/'))))
        .collect();
    let refused = |reason: String| Failure::refused(format!("`{}` {reason}", file.display()));
    let before = match std::fs::symlink_metadata(&file) {
        Ok(_) => Some(document::read_text(&file).map_err(refused)?),
        Err(_) => None,
    };
    // The managed set is exclusive: what stood there before is not in it.
    let start = if options.managed { None } else { before.as_deref() };
    let after = edited(start, options, &servers).map_err(refused)?;
    if options.write {
        keep(&file, before.as_deref(), &after).map_err(refused)?;
        replace::replace(&file, after.as_bytes(), 0o644)
            .map_err(|error| refused(format!("cannot be written: {error}")))?;
    }
    let shown = json!({ "file": file, "written": options.write, "contents": after, "servers": servers.iter().map(|(name, _)| name).collect::<Vec<_>>() });
    output.show(&shown, |_| {
        let done = if options.write { "written to" } else { "not written (--write); would be in" };
        printable(&format!("{after}\n{done} {}", file.display()))
    });
    Ok(())
}

/// The text of the file with the servers in it.
fn edited(before: Option<&str>, options: &Export, servers: &[(String, String)]) -> Result<String, String> {
    let target = options.client;
    let text = before.filter(|text| !text.trim().is_empty()).unwrap_or("{}\n");
    document::parse(text, target.dialect())?;
    let root = CstRootNode::parse(text, &target.dialect().options()).map_err(|error| error.to_string())?;
    let object = root.object_value_or_create().ok_or("is no object")?;
    let place = object.object_value_or_create(target.member());
    let place = place.ok_or_else(|| format!("has a member `{}` that is no object", target.member()))?;
    for (name, url) in servers {
        match place.get(name) {
            Some(entry) if options.replace || points_at(&entry, url) => entry.set_value(target.entry(url)),
            Some(_) => {
                return Err(format!(
                    "has a server `{name}` already; --replace puts the gateway in its place"
                ));
            }
            None => drop(place.append(name, target.entry(url))),
        }
    }
    if target == Target::Vscode {
        input(&object)?;
    }
    let after = root.to_string();
    // What is written must be what its client reads.
    document::parse(&after, target.dialect())?;
    Ok(after)
}

/// Whether an entry is the gateway's own already.
fn points_at(entry: &jsonc_parser::cst::CstObjectProp, url: &str) -> bool {
    entry
        .object_value()
        .and_then(|entry| entry.get("url")?.value()?.as_string_lit()?.decoded_value().ok())
        .is_some_and(|own| own == url)
}

/// VS Code asks for the key once and keeps it.
fn input(object: &CstObject) -> Result<(), String> {
    let inputs = object.array_value_or_create("inputs").ok_or("has a member `inputs` that is no list")?;
    let ours = |node: &jsonc_parser::cst::CstNode| {
        node.as_object()
            .and_then(|input| input.get("id")?.value()?.as_string_lit()?.decoded_value().ok())
            .is_some_and(|id| id == "portcullis-key")
    };
    if !inputs.elements().iter().any(ours) {
        let text = |text: &str| CstInputValue::String(text.to_owned());
        inputs.append(CstInputValue::Object(vec![
            ("type".to_owned(), text("promptString")),
            ("id".to_owned(), text("portcullis-key")),
            ("description".to_owned(), text("API key of Portcullis")),
            ("password".to_owned(), CstInputValue::Bool(true)),
        ]));
    }
    Ok(())
}

fn backup(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".before-portcullis");
    file.with_file_name(name)
}

/// Keeps what was there, and the digest of what comes, so that an undo never takes away what somebody wrote since.
fn keep(file: &Path, before: Option<&str>, after: &str) -> Result<(), String> {
    let kept = match held(file) {
        // A second export: what is to come back is what was there before the first.
        Ok((first, digest))
            if before.is_some_and(|before| Digest::of(before.as_bytes()).to_string() == digest) =>
        {
            first
        }
        Ok(_) | Err(_) => before.map(str::to_owned),
    };
    let record = json!({ "before": kept, "written": Digest::of(after.as_bytes()).to_string() }).to_string();
    replace::replace(&backup(file), record.as_bytes(), 0o600)
        .map_err(|error| format!("cannot be kept: {error}"))
}

fn held(file: &Path) -> Result<(Option<String>, String), String> {
    let text =
        document::read_text(&backup(file)).map_err(|_| String::from("was not written by an export"))?;
    let value = document::parse(&text, Dialect::Json)?;
    let written = value.get("written").and_then(Value::as_str).ok_or("has a damaged backup")?;
    Ok((value.get("before").and_then(Value::as_str).map(str::to_owned), written.to_owned()))
}

fn undo(file: &Path) -> Result<(), String> {
    let (before, written) = held(file)?;
    let now = document::read_text(file)?;
    if Digest::of(now.as_bytes()).to_string() != written {
        return Err(format!("was changed since; what was there before is in `{}`", backup(file).display()));
    }
    let failed = |error: std::io::Error| format!("cannot be restored: {error}");
    match before {
        Some(before) => replace::replace(file, before.as_bytes(), 0o644).map_err(failed)?,
        None => std::fs::remove_file(file).map_err(failed)?,
    }
    std::fs::remove_file(backup(file)).map_err(failed)
}
