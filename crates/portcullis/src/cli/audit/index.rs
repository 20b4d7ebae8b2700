//! `portcullis audit index`: how far the index of the ledger is, and making it anew.

use std::time::Duration;

use clap::Subcommand;
use portcullis_admin::api::{IndexQuestion, IndexState};
use portcullis_forensics::{Index, Status};

use super::query::{Files, failure, fill};
use crate::cli::{
    Common, Failure,
    client::{Client, NONE},
    exit,
    output::Output,
};

/// How often the gateway is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// The index of the ledger.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show how far the index is
    #[command(after_help = "Examples:
  portcullis audit index status --check
  portcullis audit index status --ledger /backup/ledger --vkey ledger.vkey")]
    Status {
        /// Look through the whole file
        #[arg(long)]
        check: bool,
        #[command(flatten)]
        files: Files,
    },
    /// Make the index anew from the ledger, and wait until it is there
    #[command(after_help = "Examples:
  portcullis audit index rebuild
  portcullis audit index rebuild --offline

The gateway goes on meanwhile; searches answer for as much as is indexed. Nothing is lost with an index.")]
    Rebuild {
        #[command(flatten)]
        files: Files,
    },
}

pub(super) fn carry_out(common: &Common, command: Command, output: &Output) -> Result<(), Failure> {
    let state = match command {
        Command::Status { check, files } if files.wanted() => offline(common, &files, check)?,
        Command::Status { check, .. } => {
            let question = IndexQuestion { check: check.then_some(true) };
            Client::connect(common)?.ask("index_state", "", Some(&question), NONE)?
        }
        Command::Rebuild { files } if files.wanted() => {
            let (shelf, path) = files.find(common)?;
            let failed = |error| failure(&error);
            Index::remove(&path).map_err(failed)?;
            let mut index = Index::open(path, shelf).map_err(failed)?;
            fill(&mut index, output)?;
            index.status().map(view).map_err(failed)?
        }
        Command::Rebuild { .. } => rebuilt(&Client::connect(common)?, output)?,
    };
    output.show(&state, told);
    match state.refused {
        Some(_) => {
            Err(Failure::of(exit::UNVERIFIED, "the ledger was changed; `portcullis audit verify` names what"))
        }
        None => Ok(()),
    }
}

fn offline(common: &Common, files: &Files, check: bool) -> Result<IndexState, Failure> {
    let (shelf, path) = files.find(common)?;
    if !path.exists() {
        let text =
            format!("there is no index `{}` yet\nhint: `portcullis audit index rebuild`", path.display());
        return Err(Failure::refused(text));
    }
    let index = Index::open(path, shelf).map_err(|error| failure(&error))?;
    if check {
        index.check().map_err(|error| failure(&error))?;
    }
    index.status().map(view).map_err(|error| failure(&error))
}

/// Has the gateway begin anew, and waits until the index is where the ledger was.
fn rebuilt(client: &Client, output: &Output) -> Result<IndexState, Failure> {
    let begun: IndexState = client.ask("rebuild_index", "", NONE, NONE)?;
    let question = IndexQuestion { check: None };
    loop {
        let state: IndexState = client.ask("index_state", "", Some(&question), NONE)?;
        if state.complete >= begun.signed || state.refused.is_some() {
            return Ok(state);
        }
        output.note(&format!("{} of {} entries indexed", state.indexed, state.signed));
        std::thread::sleep(ASK_EVERY);
    }
}

fn view(status: Status) -> IndexState {
    let Status { indexed, complete, signed, checkpoint, refused, bytes } = status;
    IndexState { indexed, complete, signed, checkpoint, refused, bytes }
}

fn told(state: &IndexState) -> String {
    let IndexState { indexed, complete, signed, refused, bytes, .. } = state;
    let megabytes = bytes / 1_000_000;
    let mut out = format!("complete for {complete} of {signed} entries, {indexed} indexed, {megabytes} MB");
    if let Some(reason) = refused {
        out.push_str(&format!("\nIT DOES NOT GO ON: the ledger was changed: {reason}"));
    }
    out
}
