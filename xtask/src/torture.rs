//! `cargo xtask torture`: the tests that hurt the ledger (kills, power cuts, disks that fail, system calls that fail) with
//! many rounds of each. `cargo xtask test` runs them with one.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::process;

/// Rounds without an argument: some five hundred kills.
const ROUNDS: usize = 16;

/// The programs of tests that look at `TORTURE`, and those that belong to them.
const TESTS: &[&str] = &["kill", "power_cut", "disk_full", "nth_call", "limits_ledger"];

/// Builds the gateway and runs them, one after the other; what they print is shown.
pub fn run(root: &Path, arguments: &[String]) -> Result<ExitCode> {
    ensure!(arguments.len() <= 1, "usage: cargo xtask torture [ROUNDS]");
    let rounds = match arguments.first() {
        Some(text) => text.parse().ok().filter(|rounds| *rounds > 0).context("ROUNDS is a number above 0")?,
        None => ROUNDS,
    };
    println!("{rounds} rounds; some minutes for each ten");
    let mut build = Command::new("cargo");
    build.current_dir(root).args(["build", "--quiet", "--package", "portcullis"]);
    if !process::run_visibly(build)?.success() {
        return Ok(ExitCode::FAILURE);
    }
    let mut tests = Command::new("cargo");
    tests.current_dir(root).args(["test", "--quiet", "--package", "portcullis-tests", "--no-fail-fast"]);
    tests.args(TESTS.iter().flat_map(|name| ["--test", name]));
    tests.args(["--", "--nocapture", "--test-threads=1"]).env("TORTURE", rounds.to_string());
    let status = process::run_visibly(tests)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
