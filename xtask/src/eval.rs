//! `cargo xtask eval`: hands over to the program that measures what the detectors find of labelled texts.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::process;

/// Runs the evaluation, optimised: it reads some ten thousand texts.
pub fn run(root: &Path, arguments: &[String]) -> Result<ExitCode> {
    let mut command = Command::new("cargo");
    command.current_dir(root).args(["run", "--quiet", "--release", "--package", "portcullis-eval", "--"]);
    let status = process::run_visibly({
        command.args(arguments);
        command
    })?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
