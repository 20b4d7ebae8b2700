//! `cargo xtask bench`: hands over to the benches, which build what they measure.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::process;

/// Runs a role of the benches with its arguments; without a role, what a call costs end to end (with the arguments
/// given) and then stage by stage.
pub fn run(root: &Path, arguments: &[String]) -> Result<ExitCode> {
    if let Some(("index", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return index(root, rest);
    }
    if arguments.first().is_some_and(|first| !first.starts_with('-')) {
        return role(root, arguments);
    }
    let compare: Vec<_> = std::iter::once("compare".to_owned()).chain(arguments.iter().cloned()).collect();
    let compared = role(root, &compare)?;
    let counted = role(root, &["stages".to_owned()])?;
    Ok(if compared == ExitCode::SUCCESS { counted } else { compared })
}

/// What the index of the ledger costs and how soon it answers.
fn index(root: &Path, arguments: &[String]) -> Result<ExitCode> {
    let mut command = Command::new("cargo");
    command.current_dir(root).args(["run", "--quiet", "--release", "--package", "portcullis-forensics"]);
    command.args(["--example", "index", "--"]).args(arguments);
    let status = process::run_visibly(command)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn role(root: &Path, arguments: &[String]) -> Result<ExitCode> {
    let mut command = Command::new("cargo");
    command.current_dir(root).args(["run", "--quiet", "--release", "--package", "portcullis-benches", "--"]);
    let status = process::run_visibly({
        command.args(arguments);
        command
    })?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
