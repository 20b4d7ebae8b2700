//! `cargo xtask bench`: hands over to the benches, which build what they measure.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::process;

/// Runs the benches with these arguments.
pub fn run(root: &Path, arguments: &[String]) -> Result<ExitCode> {
    let mut command = Command::new("cargo");
    command.current_dir(root).args(["run", "--quiet", "--release", "--package", "portcullis-benches", "--"]);
    let status = process::run_visibly({
        command.args(arguments);
        command
    })?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
