//! `portcullis export CLIENT`: puts the gateway's servers into the file of a client. Everything else in the file stays as it
//! is written, comments included; the key stays out of it; `--undo` brings back what was there.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use portcullis_admin::api::{ServerList, Status};
use portcullis_hosts::{
    backup, document,
    export::{CLIENTS, Client, Managed, Shim, with_allowed},
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
  portcullis export claude-desktop --key-file ~/.portcullis-key --write

The API key is not written: VS Code asks for it, the Inspector wants it as a header, Claude Desktop reads --key-file, the
others and Claude Desktop without it read the environment variable PORTCULLIS_KEY.";

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
    /// Write what an administrator prescribes: the client then uses these servers and no others
    #[arg(long)]
    managed: bool,
    /// For Claude Desktop: file with the API key, where the environment does not hold it
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Write the file; without it, only show what it would be
    #[arg(long, conflicts_with = "undo")]
    write: bool,
    /// Bring back what was there before the last --write
    #[arg(long)]
    undo: bool,
}

pub(super) fn export(common: &Common, options: &Export, output: &Output) -> Result<(), Failure> {
    let places = client::places().map_err(Failure::refused)?;
    let managed = options.client.managed.filter(|_| options.managed);
    if options.managed && managed.is_none() {
        return Err(Failure::refused(format!(
            "{} takes no file that prescribes its servers; its administrators set that where they manage its devices",
            options.client.name
        )));
    }
    let usual = || managed.map_or_else(|| (options.client.file)(&places), |managed| managed.file().into());
    let file = places.project.join(options.file.clone().unwrap_or_else(usual));
    let inside = options.client.of_project && !options.managed && options.file.is_none();
    stays(&file, inside.then_some(places.project.as_path())).map_err(Failure::refused)?;
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
    let after = match managed {
        Some(Managed::Allowed(_)) => with_allowed(before.as_deref(), &servers, options.replace),
        Some(Managed::Servers(_)) | None => {
            // The managed set is exclusive: what stood there before is not in it.
            let start = if options.managed { None } else { before.as_deref() };
            let program = std::env::current_exe().map_err(|error| Failure::refused(error.to_string()))?;
            let key = options.key_file.as_ref().map(|file| places.project.join(file));
            let key =
                key.map_or_else(|| "env:PORTCULLIS_KEY".into(), |key| format!("file:{}", key.display()));
            let shim = Shim { program: &program.display().to_string(), key: &key };
            options.client.with_servers(start, &servers, shim, options.replace)
        }
    };
    let after = after.map_err(refused)?;
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

/// A file of a project may have been put there by a stranger: a link in its place, or in that of its folder, is not
/// followed to something else of this user.
fn stays(file: &Path, project: Option<&Path>) -> Result<(), String> {
    let shown = file.display();
    if std::fs::symlink_metadata(file).is_ok_and(|metadata| metadata.is_symlink()) {
        return Err(format!("`{shown}` is a symbolic link; name the file itself with --file"));
    }
    let real = |path: &Path| path.canonicalize().ok();
    match (project.and_then(real), file.parent().and_then(real)) {
        (Some(project), Some(folder)) if !folder.starts_with(&project) => {
            Err(format!("`{shown}` is in {}, outside this project; name it with --file", folder.display()))
        }
        _ => Ok(()),
    }
}
