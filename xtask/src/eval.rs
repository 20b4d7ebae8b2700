//! `cargo xtask eval` and `cargo xtask train`: hand over to the program that measures what the detectors find of labelled
//! texts, and that makes the tables of the classifier from such.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::process;

/// Runs the program, optimised: it reads some ten thousand texts. `task` stands before what the user said.
pub fn run(root: &Path, task: &[&str], arguments: &[String]) -> Result<ExitCode> {
    let mut command = Command::new("cargo");
    command.current_dir(root).args(["run", "--quiet", "--release", "--package", "portcullis-eval", "--"]);
    let status = process::run_visibly({
        command.args(task).args(arguments);
        command
    })?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
