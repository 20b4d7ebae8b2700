//! `portcullis server`: the servers behind the gateway.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use portcullis_admin::api::{AddServer, ServerChanged, ServerList};
use serde_json::{Map, Value, json};

use super::{
    Common, Failure,
    client::{Client, NONE},
    output::{Output, table},
};

/// Servers behind the gateway.
#[derive(Debug, Subcommand)]
pub(crate) enum Server {
    /// List the servers and how they are
    #[command(after_help = "Example:\n  portcullis server list")]
    List,
    /// Add a server while the gateway runs; it stays after a restart
    #[command(after_help = "\
Examples:
  portcullis server add github --url https://api.example/mcp --header 'Authorization=Bearer env:GITHUB_TOKEN'
  portcullis server add files --trust review -- npx -y @modelcontextprotocol/server-filesystem /srv")]
    Add(Box<Add>),
    /// Remove a server that was added with `server add`
    #[command(after_help = "Example:\n  portcullis server remove files")]
    Remove {
        /// Its name
        name: String,
    },
}

/// What `server add` takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Add {
    /// Its name, the last part of the route /mcp/NAME
    name: String,
    /// URL of its Streamable HTTP endpoint
    #[arg(long, value_name = "URL", conflicts_with = "command", required_unless_present = "command")]
    url: Option<String>,
    /// Program and arguments of a stdio server, after `--`
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// Header for its URL: text, env:NAME or file:PATH (repeat for several)
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = pair)]
    headers: Vec<(String, String)>,
    /// Environment variable of its program: text, env:NAME or file:PATH (repeat for several)
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Folder that its program starts in
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// What happens when a definition is seen for the first time [default: trust_on_first_use]
    #[arg(long)]
    trust: Option<Trust>,
    /// Who shares a process of its program [default: per_caller]
    #[arg(long)]
    isolation: Option<Isolation>,
    /// Its URL may resolve to private addresses
    #[arg(long)]
    allow_private: bool,
    /// Its URL may resolve to loopback addresses
    #[arg(long)]
    allow_loopback: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Trust {
    Review,
    TrustOnFirstUse,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Isolation {
    PerCaller,
    PerSession,
    Shared,
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| String::from("write NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The section of the configuration that the arguments stand for.
fn section(add: &Add) -> Value {
    let mut section = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            section.insert(key.to_owned(), value);
        }
    };
    let map = |pairs: &[(String, String)]| {
        let members: Map<String, Value> =
            pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        (!members.is_empty()).then_some(Value::Object(members))
    };
    put("url", add.url.as_ref().map(|url| json!(url)));
    put("command", (!add.command.is_empty()).then(|| json!(add.command)));
    put("headers", map(&add.headers));
    put("env", map(&add.env));
    put("cwd", add.cwd.as_ref().map(|cwd| json!(cwd)));
    put("trust", add.trust.and_then(|trust| trust.to_possible_value()).map(|value| json!(value.get_name())));
    put(
        "isolation",
        add.isolation
            .and_then(|isolation| isolation.to_possible_value())
            .map(|value| json!(value.get_name())),
    );
    let egress = json!({ "allow_loopback": add.allow_loopback, "allow_private": add.allow_private });
    put("egress", (add.allow_loopback || add.allow_private).then_some(egress));
    Value::Object(section)
}

pub(super) fn carry_out(common: &Common, command: Server, output: &Output) -> Result<(), Failure> {
    let client = Client::connect(common)?;
    match command {
        Server::List => {
            let list: ServerList = client.ask("list_servers", "", NONE, NONE)?;
            output.show(&list, |list| {
                let rows: Vec<Vec<String>> = list
                    .servers
                    .iter()
                    .map(|server| {
                        let revisions = server.revisions.join(",");
                        let error = server.error.clone().unwrap_or_default();
                        let (name, source) = (server.name.clone(), server.source.clone());
                        vec![
                            name,
                            server.state.clone(),
                            server.transport.clone(),
                            source,
                            revisions,
                            server.sandbox.clone().unwrap_or_default(),
                            server.place.clone(),
                            error,
                        ]
                    })
                    .collect();
                table(
                    &["name", "state", "transport", "source", "revisions", "sandbox", "place", "error"],
                    &rows,
                )
            });
        }
        Server::Add(add) => {
            let question = AddServer { name: add.name.clone(), server: section(&add) };
            let changed: ServerChanged = client.ask("add_server", "", NONE, Some(&question))?;
            output.show(&changed, |changed| {
                format!(
                    "added {} (ledger entry {}); look at it with `portcullis tool list {}`",
                    changed.name, changed.entry, changed.name
                )
            });
        }
        Server::Remove { name } => {
            let changed: ServerChanged = client.ask("remove_server", &name, NONE, NONE)?;
            output.show(&changed, |changed| {
                format!("removed {} (ledger entry {})", changed.name, changed.entry)
            });
        }
    }
    Ok(())
}
