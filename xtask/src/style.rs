//! `cargo xtask fmt`: rustfmt does not see files that are declared inside a macro, as those of a catalogue are, so
//! it is given every file by name.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::process;

/// Formats every Rust file, or checks that all are formatted.
pub fn format(root: &Path, arguments: &[String]) -> Result<ExitCode> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("usage: cargo xtask fmt [--check]"),
    };
    let status = process::run_visibly(command(root, check)?)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The command that formats or checks.
pub fn command(root: &Path, check: bool) -> Result<Command> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"]);
    let files = process::output(git)?;
    let mut command = Command::new("rustfmt");
    command.current_dir(root).args(["--edition", "2024", "--quiet"]);
    if check {
        command.arg("--check");
    }
    command.args(files.lines().filter(|file| root.join(file).is_file()));
    Ok(command)
}
