//! `portcullis export CLIENT`: puts the gateway's servers into the file of a client. Everything else in the file stays as it
//! is written, comments included; the key stays out of it; `--undo` brings back what was there.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use portcullis_admin::api::{ServerList, Status};
use portcullis_hosts::{
    backup, document,
    export::{CLIENTS, Client},
    replace,
};
use serde_json::json;

use super::{
    Common, Failure, client,
    output::{Output, printable},
};

pub(super) const AFTER_HELP: &str = "\
Examples:
  portcullis export vscode                    show what .vscode/mcp.json would be
  portcullis export claude-code --write       write .mcp.json, and keep what was there
  portcullis export claude-code --undo        bring that back
  portcullis export claude-code --managed --write    nothing but the gateway, for everybody on this machine

The API key is not written: VS Code asks for it, the others read the environment variable PORTCULLIS_KEY.";

/// For the command line.
fn clients() -> impl TypedValueParser<Value = &'static Client> {
    let names = CLIENTS.iter().map(|client| client.name);
    PossibleValuesParser::new(names).try_map(|name| Client::named(&name).ok_or("is no client"))
}

/// What `export` takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Export {
    /// The client
    #[arg(value_parser = clients())]
    client: &'static Client,
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

pub(super) fn export(common: &Common, options: &Export, output: &Output) -> Result<(), Failure> {
    let places = client::places().map_err(Failure::refused)?;
    if options.managed && options.client.managed.is_none() {
        return Err(Failure::refused(
            "--managed is for claude-code; other clients are managed by their own policies",
        ));
    }
    let file = options.file.clone().unwrap_or_else(|| match options.client.managed {
        Some(managed) if options.managed => PathBuf::from(managed),
        Some(_) | None => (options.client.file)(&places),
    });
    let file = places.project.join(file);
    if options.undo {
        backup::undo(&file).map_err(|reason| Failure::refused(format!("`{}` {reason}", file.display())))?;
        output.show(&json!({ "file": file, "undone": true }), |_| {
            printable(&format!("restored {}", file.display()))
        });
        return Ok(());
    }
    let client = client::Client::connect(common)?;
    let status: Status = client.ask("status", "", client::NONE, client::NONE)?;
    let list: ServerList = client.ask("list_servers", "", client::NONE, client::NONE)?;
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
    let after = options.client.with_servers(start, &servers, options.replace).map_err(refused)?;
    if options.write {
        backup::keep(&file, before.as_deref(), &after).map_err(refused)?;
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
