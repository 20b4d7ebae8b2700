//! `portcullis audit replay`: a recorded call, decided again.

use std::path::PathBuf;

use clap::Args;

use crate::cli::{Common, Failure, output::Output, policy};

pub(super) const AFTER_HELP: &str = "\
Examples:
  portcullis audit replay 4711
  portcullis audit replay 4711 --policy candidate.yaml
  portcullis audit replay 4711 --policy portcullis.yaml.of-november --json

Shown: what was decided then, under which rules (their digest); what the policies in force say today; and what those of --policy say.
Policies of the past are not kept by the gateway: to decide under those of then, name the file that was in force, whose digest
`config.changed` and `gateway.started` have. Arguments, claims and scopes are not in the ledger: where a policy asks for them, the answer
says that it depends on them.";

/// What `audit replay` takes.
#[derive(Args, Debug)]
pub(crate) struct Replay {
    /// Index of the entry: a call.intent, or a call.refused of policy
    index: u64,
    /// Configuration whose roles and policies decide as well
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

pub(super) fn replay(common: &Common, replay: &Replay, output: &Output) -> Result<(), Failure> {
    policy::replay(common, replay.index, replay.policy.as_deref(), output)
}
