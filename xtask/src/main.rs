//! Developer tasks: `cargo xtask test` runs every test there is, against real counterparts; the others are its
//! parts and the tools for daily work.

mod bench;
mod conformance;
mod count;
mod eval;
mod generate;
mod install;
mod matrix;
mod process;
mod source;
mod style;
mod test;
mod tidy;
mod torture;
mod verdict;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const HELP: &str = "\
Usage: cargo xtask TASK

Tasks:
  test [--only SUITE]... [--fast] [--list]   run all tests, or those of some suites
  conformance                                run the official conformance suite and print its table
  tidy                                       check what the compiler does not
  fmt [--check]                              format every file, also those declared in macros
  matrix                                     take over the last results and write the compatibility page
  generate [--check]                         write docs/reference and the configuration schema
  bench [ARGUMENTS]                          measure speed beside a bare proxy
  torture [ROUNDS]                           hurt the ledger: kills, power cuts, disks and system calls that fail
  eval [ARGUMENTS]                           measure what the detectors find of labelled texts
  train [ARGUMENTS]                          make the tables of the classifier from labelled and generated texts
  install [--fast]                           install the counterparts of the tests

Examples:
  cargo xtask test --only style --only unit
  cargo xtask bench --quick
";

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    let root = root()?;
    let (task, rest) = match arguments.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => ("help", arguments),
    };
    match task {
        "test" => test::run(&root, rest),
        "conformance" => conformance::run(&root, rest),
        "tidy" => tidy::run(&root),
        "fmt" => style::format(&root, rest),
        "matrix" => matrix::run(&root, rest),
        "generate" => generate::run(&root, rest),
        "bench" => bench::run(&root, rest),
        "torture" => torture::run(&root, rest),
        "eval" => eval::run(&root, &[], rest),
        "train" => eval::run(&root, &["train"], rest),
        "install" => install::run(&root, rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("no task `{other}`; hint: `cargo xtask help` lists them"),
    }
}

/// The top of the work tree, wherever the task was started.
fn root() -> Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(package.parent().context("the package has no parent folder")?.to_path_buf())
}
