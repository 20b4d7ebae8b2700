//! `cargo xtask generate`: everything under docs/reference is written by the binary itself, so that the reference
//! cannot disagree with the code; the compatibility page alone comes from recorded test results. With `--check` nothing is written and a difference is an error.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::{matrix, process};

/// Where the generated files stand.
const REFERENCE: &str = "docs/reference";

/// Taken over as they are: the page that `cargo xtask eval` writes from a corpus outside the repository, and the data sheet of
/// what `cargo xtask train` makes of it.
const MEASURED: [&str; 2] = ["detection.md", "classifier.md"];

/// Runs the generator, or compares with what it would write.
pub fn run(root: &Path, arguments: &[String]) -> Result<ExitCode> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("usage: cargo xtask generate [--check]"),
    };
    if !check {
        write(root, &root.join(REFERENCE))?;
        println!("wrote {REFERENCE}");
        return Ok(ExitCode::SUCCESS);
    }
    let stale = stale(root)?;
    for file in &stale {
        eprintln!("{REFERENCE}/{file} is not current; hint: `cargo xtask generate`");
    }
    Ok(if stale.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The generated files that differ from what the binary would write now.
pub fn stale(root: &Path) -> Result<Vec<String>> {
    let fresh = root.join("target/xtask/reference");
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    write(root, &fresh)?;
    let kept = root.join(REFERENCE);
    let mut names = names(&fresh)?;
    names.extend(self::names(&kept)?);
    names.sort();
    names.dedup();
    let read = |folder: &Path, name: &str| fs::read(folder.join(name)).ok();
    Ok(names.into_iter().filter(|name| read(&fresh, name) != read(&kept, name)).collect())
}

fn write(root: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut command = Command::new("cargo");
    command
        .current_dir(root)
        .args(["run", "--quiet", "--package", "portcullis", "--", "generate"])
        .arg(folder);
    process::output(command).context("the reference cannot be generated")?;
    for page in MEASURED {
        let (measured, copy) = (root.join(REFERENCE).join(page), folder.join(page));
        if measured.exists() && measured != copy {
            fs::copy(measured, copy)?;
        }
    }
    matrix::write(root, folder)
}

fn names(folder: &Path) -> Result<Vec<String>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}
