//! `portcullis tool`: definitions of tools, prompts, resources and templates, and what people decide on them.

use clap::{Args, Subcommand, ValueEnum};
use portcullis_admin::api::{
    Definition, DefinitionDiff, DefinitionList, DefinitionQuery, DefinitionRow, DefinitionVerdict, Judged,
};
use serde_json::Value;

use super::{
    Common, Failure,
    client::{Client, NONE},
    output::{Output, printable, table},
};

/// Definitions.
#[derive(Debug, Subcommand)]
pub(crate) enum Tool {
    /// List definitions and how each stands
    #[command(after_help = "\
Examples:
  portcullis tool list
  portcullis tool list files --state changed --kind tool")]
    List {
        /// Only of this server
        server: Option<String>,
        /// Only of this kind [default: all]
        #[arg(long)]
        kind: Option<Kind>,
        /// Only in this state: approved, changed, pending, rejected, vanished
        #[arg(long)]
        state: Option<State>,
    },
    /// Show a definition: what is approved, and what the server says now
    #[command(after_help = "Example:\n  portcullis tool show files/read_file")]
    Show(Which),
    /// Show what the server changed since the definition was approved
    #[command(after_help = "Example:\n  portcullis tool diff files/read_file")]
    Diff(Which),
    /// Approve what the server says now
    #[command(after_help = "\
Examples:
  portcullis tool approve files/read_file
  portcullis tool approve files/read_file --digest sha256:…    only if it is still what you looked at")]
    Approve(Verdict),
    /// Reject what the server says now; calls to it are refused
    #[command(after_help = "Example:\n  portcullis tool reject files/read_file")]
    Reject(Verdict),
}

/// One definition.
#[derive(Args, Debug)]
pub(crate) struct Which {
    /// Server and name, or server and URI
    #[arg(value_name = "SERVER/NAME", value_parser = server_and_name)]
    item: (String, String),
    /// What it is
    #[arg(long, default_value = "tool")]
    kind: Kind,
}

/// A decision on one definition.
#[derive(Args, Debug)]
pub(crate) struct Verdict {
    #[command(flatten)]
    which: Which,
    /// Digest of what you looked at; the decision fails if the server says something else by now
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    Prompt,
    Resource,
    Template,
    Tool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum State {
    Approved,
    Changed,
    Pending,
    Rejected,
    Vanished,
}

pub(super) fn word(value: impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}

pub(super) fn server_and_name(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((server, name)) if !server.is_empty() && !name.is_empty() => {
            Ok((server.to_owned(), name.to_owned()))
        }
        Some(_) | None => Err(String::from("write SERVER/NAME, like files/read_file")),
    }
}

impl Which {
    fn query(self) -> DefinitionQuery {
        let (server, name) = self.item;
        DefinitionQuery { kind: word(self.kind), server: Some(server), name: Some(name), state: None }
    }
}

pub(super) fn carry_out(common: &Common, command: Tool, output: &Output) -> Result<(), Failure> {
    let client = Client::connect(common)?;
    match command {
        Tool::List { server, kind, state } => {
            let query = DefinitionQuery {
                kind: kind.and_then(word),
                server,
                name: None,
                state: state.and_then(word),
            };
            let list: DefinitionList = client.ask("list_definitions", "", Some(&query), NONE)?;
            output.show(&list, |list| {
                let rows: Vec<Vec<String>> = list.definitions.iter().map(row).collect();
                table(&["kind", "server/name", "state", "approved", "observed"], &rows)
            });
        }
        Tool::Show(which) => {
            let definition: Definition = client.ask("show_definition", "", Some(&which.query()), NONE)?;
            output.show(&definition, show);
        }
        Tool::Diff(which) => {
            let diff: DefinitionDiff = client.ask("diff_definition", "", Some(&which.query()), NONE)?;
            output.show(&diff, differences);
        }
        Tool::Approve(verdict) => decide(&client, "approve_definition", "approved", verdict, output)?,
        Tool::Reject(verdict) => decide(&client, "reject_definition", "rejected", verdict, output)?,
    }
    Ok(())
}

fn decide(
    client: &Client,
    endpoint: &str,
    done: &str,
    verdict: Verdict,
    output: &Output,
) -> Result<(), Failure> {
    let Verdict { which, digest } = verdict;
    let (server, name) = which.item;
    let question = DefinitionVerdict { kind: word(which.kind), server, name, digest };
    let judged: Judged = client.ask(endpoint, "", NONE, Some(&question))?;
    output.show(&judged, |judged| {
        printable(&format!(
            "{done} {} {}/{} (ledger entry {})",
            judged.row.kind, judged.row.server, judged.row.name, judged.entry
        ))
    });
    Ok(())
}

fn short(digest: Option<&String>) -> String {
    digest.map_or_else(
        || String::from("-"),
        |digest| digest.trim_start_matches("sha256:").chars().take(12).collect(),
    )
}

fn row(row: &DefinitionRow) -> Vec<String> {
    vec![
        row.kind.clone(),
        format!("{}/{}", row.server, row.name),
        row.state.clone(),
        short(row.pinned.as_ref()),
        short(row.observed.as_ref()),
    ]
}

fn head(row: &DefinitionRow) -> String {
    let digest = |digest: &Option<String>| digest.clone().unwrap_or_else(|| String::from("none"));
    format!(
        "{} {}/{}: {}\n  approved {}\n  observed {}",
        row.kind,
        row.server,
        row.name,
        row.state,
        digest(&row.pinned),
        digest(&row.observed)
    )
}

fn show(definition: &Definition) -> String {
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    let mut out = head(&definition.row);
    if let Some(pinned) = &definition.pinned {
        out.push_str(&format!("\n\napproved:\n{}", pretty(pinned)));
    }
    if let Some(observed) = &definition.observed {
        out.push_str(&format!("\n\nthe server says now:\n{}", pretty(observed)));
    }
    printable(&out)
}

fn differences(diff: &DefinitionDiff) -> String {
    let mut out = head(&diff.row);
    if diff.changes.is_empty() {
        out.push_str("\n\nno difference");
    }
    for change in &diff.changes {
        let place = if change.pointer.is_empty() { "(whole)" } else { &change.pointer };
        out.push_str(&format!("\n\n{place}"));
        if let Some(before) = &change.before {
            out.push_str(&format!("\n- {before}"));
        }
        if let Some(after) = &change.after {
            out.push_str(&format!("\n+ {after}"));
        }
    }
    printable(&out)
}
