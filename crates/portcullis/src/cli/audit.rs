//! `portcullis audit`: watch and search the ledger of a running gateway; verify one offline.

mod evidence;
mod index;
mod query;
mod replay;
mod timeline;
pub(super) mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use portcullis_admin::api::{EntryList, EntryQuery, LedgerEntry, ProofText};
use serde_json::Value;

use super::{
    Common, Failure,
    client::{Client, NONE},
    output::{Output, printable},
};

/// How long one question waits for new entries.
const WAIT_MS: u64 = 20_000;

/// The ledger.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Print the newest entries; with -f, wait for more
    #[command(after_help = "\
Examples:
  portcullis audit tail -f
  portcullis audit tail -n 50 --event 'call.*' --server files")]
    Tail {
        /// Wait for more
        #[arg(long, short)]
        follow: bool,
        /// How many of the newest entries
        #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1000))]
        lines: u64,
        #[command(flatten)]
        filter: Filter,
    },
    /// Search the whole ledger by its index
    #[command(after_help = query::AFTER_HELP)]
    Query(Box<query::Query>),
    /// Show what happened step by step, and what was changed meanwhile
    #[command(after_help = timeline::TIMELINE_HELP)]
    Timeline(Box<timeline::Line>),
    /// Write who touched what, as a graph
    #[command(after_help = timeline::GRAPH_HELP)]
    Graph(Box<timeline::Touched>),
    /// Put evidence into a folder: entries with proofs that a stranger checks offline
    #[command(after_help = evidence::AFTER_HELP)]
    Export(Box<evidence::Export>),
    /// Decide a recorded call again: as it was, by the policies of today and by a candidate
    #[command(after_help = replay::AFTER_HELP)]
    Replay(replay::Replay),
    /// The index that searches use: how far it is, and making it anew
    #[command(subcommand)]
    Index(index::Command),
    /// Check the whole ledger offline: every entry, hash and signature
    #[command(after_help = "\
Examples:
  portcullis audit verify
  portcullis audit verify --ledger /backup/ledger --vkey ledger.vkey --since checkpoint-of-last-week

Exit code 4: something is wrong; each line names the entry or the file.
A key taken from the data directory proves nothing against somebody who can replace it: keep the public key
that verify prints elsewhere, and name it with --vkey.")]
    Verify(verify::Verify),
    /// Write the offline proof that an entry is in the ledger (C2SP tlog-proof)
    #[command(after_help = "Example:\n  portcullis audit prove 4711 -o entry-4711.tlog-proof")]
    Prove {
        /// Index of the entry
        index: u64,
        /// File to write to [default: INDEX.tlog-proof; - for standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Which entries.
#[derive(Args, Clone, Debug)]
pub(crate) struct Filter {
    /// Event, like call.refused or 'call.*'
    #[arg(long)]
    event: Option<String>,
    /// Id of the caller, or a part of it
    #[arg(long)]
    caller: Option<String>,
    /// The server
    #[arg(long)]
    server: Option<String>,
    /// Name of the tool, prompt or resource
    #[arg(long)]
    tool: Option<String>,
    /// Code of the refusal, like policy.denied
    #[arg(long)]
    code: Option<String>,
    /// Not before (RFC 3339, UTC; a date alone will do)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before (RFC 3339, UTC)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Filter {
    fn query(self) -> EntryQuery {
        let Self { event, caller, server, tool, code, since, until } = self;
        EntryQuery {
            from: None,
            last: None,
            limit: None,
            event,
            caller,
            server,
            tool,
            code,
            since,
            until,
            wait_ms: None,
        }
    }
}

pub(super) fn carry_out(common: &Common, command: Audit, output: &Output) -> Result<(), Failure> {
    match command {
        Audit::Tail { follow, lines, filter } => {
            let query = EntryQuery { last: Some(lines), ..filter.query() };
            tail(&Client::connect(common)?, query, follow, output)
        }
        Audit::Query(query) => query::query(common, *query, output),
        Audit::Timeline(line) => timeline::timeline(common, *line, output),
        Audit::Graph(touched) => timeline::graph(common, *touched, output),
        Audit::Export(export) => evidence::export(common, *export, output),
        Audit::Replay(replay) => replay::replay(common, &replay, output),
        Audit::Index(command) => index::carry_out(common, command, output),
        Audit::Verify(options) => verify::verify(common, &options, output),
        Audit::Prove { index, output: file } => {
            let client = Client::connect(common)?;
            let proof: ProofText = client.ask("prove_entry", &index.to_string(), NONE, NONE)?;
            prove(&proof, file, output)
        }
    }
}

fn tail(client: &Client, mut query: EntryQuery, follow: bool, output: &Output) -> Result<(), Failure> {
    loop {
        let list: EntryList = client.ask("list_entries", "", Some(&query), NONE)?;
        list.entries.iter().for_each(|entry| print(entry, output));
        if !follow {
            return Ok(());
        }
        query = EntryQuery {
            from: Some(list.next),
            last: None,
            limit: Some(1_000),
            wait_ms: Some(WAIT_MS),
            ..query
        };
    }
}

/// One entry as one line.
fn print(entry: &LedgerEntry, output: &Output) {
    if output.json {
        output.json_line(entry);
    } else {
        output.line(&line(entry));
    }
}

fn line(entry: &LedgerEntry) -> String {
    let text = |pointer: &str| entry.entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let mut out = format!("{:>6} {} {:<19}", entry.index, text("/at"), text("/event"));
    let target = match (text("/target/server"), text("/target/name")) {
        ("", _) => String::new(),
        (server, "") => server.to_owned(),
        (server, name) => format!("{server}/{name}"),
    };
    let latency = entry
        .entry
        .get("latency_us")
        .and_then(Value::as_u64)
        .map(|us| format!("{}.{} ms", us / 1_000, us % 1_000 / 100));
    let intent = entry.entry.get("intent").and_then(Value::as_u64).map(|index| format!("of {index}"));
    let data = entry.entry.get("data").map(ToString::to_string).unwrap_or_default();
    let findings = entry.entry.get("findings").and_then(Value::as_array).map(|found| {
        let kinds: Vec<&str> = found.iter().filter_map(|finding| finding.get("kind")?.as_str()).collect();
        format!("found {}", kinds.join(","))
    });
    let parts = [
        text("/actor/id").to_owned(),
        text("/method").to_owned(),
        target,
        text("/code").to_owned(),
        intent.unwrap_or_default(),
        latency.unwrap_or_default(),
        findings.unwrap_or_default(),
        text("/detail").to_owned(),
        data,
    ];
    for part in parts.iter().filter(|part| !part.is_empty()) {
        out.push_str("  ");
        out.push_str(part);
    }
    printable(&out).replace('\n', " ")
}

fn prove(proof: &ProofText, file: Option<PathBuf>, output: &Output) -> Result<(), Failure> {
    let file = file.unwrap_or_else(|| format!("{}.tlog-proof", proof.index).into());
    if file.as_os_str() == "-" {
        output.raw(proof.proof.as_bytes());
        return Ok(());
    }
    std::fs::write(&file, &proof.proof)
        .map_err(|error| Failure::refused(format!("`{}` cannot be written: {error}", file.display())))?;
    output.show(proof, |proof| {
        format!("{} proves entry {} to whoever has the key {}", file.display(), proof.index, proof.vkey)
    });
    Ok(())
}
