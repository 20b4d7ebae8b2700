//! `cargo xtask bench`: hands over to the benches, which build what they measure.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::process;

/// Runs the benches with these arguments; without any, what a call costs end to end and then stage by stage.
pub fn run(root: &Path, arguments: &[String]) -> Result<ExitCode> {
    if !arguments.is_empty() {
        return role(root, arguments);
    }
    let compared = role(root, &["compare".to_owned()])?;
    let counted = role(root, &["stages".to_owned()])?;
    Ok(if compared == ExitCode::SUCCESS { counted } else { compared })
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
