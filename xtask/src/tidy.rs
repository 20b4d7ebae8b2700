//! `cargo xtask tidy`: the limits of the architecture that the compiler does not hold. Each rule prints one line;
//! exceptions stand by name in `xtask/tidy-exceptions.txt`, and one that is no longer needed is an error too.

mod crates;
mod files;
mod modules;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::source::Source;
use crate::{generate, process};

/// Everything the rules look at.
pub struct Tree {
    /// Text files that git knows or would know.
    pub files: Vec<Source>,
    /// Where they are.
    pub root: std::path::PathBuf,
}

impl Tree {
    /// The Rust files.
    pub fn rust(&self) -> impl Iterator<Item = &Source> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// The text of one file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }
}

/// One thing that breaks a rule: where, and what.
pub struct Finding {
    /// What an exception would name.
    pub subject: String,
    /// A sentence.
    pub problem: String,
}

impl Finding {
    /// A finding.
    pub fn new(subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { subject: subject.into(), problem: problem.into() }
    }
}

type Rule = fn(&Tree) -> Result<Vec<Finding>>;

const RULES: &[(&str, Rule)] = &[
    ("function-length", files::function_length),
    ("file-length", files::file_length),
    ("header", files::header),
    ("banned-words", files::banned_words),
    ("links", files::links),
    ("unlisted-file", modules::unlisted),
    ("module-ring", modules::rings),
    ("crate-length", crates::length),
    ("no-std", crates::no_std),
    ("crate-order", crates::order),
    ("unsafe", crates::unsafe_code),
    ("lock-file", crates::lock_file),
    ("dependencies", crates::dependencies),
    ("generated", generated),
];

/// Runs all rules.
pub fn run(root: &Path) -> Result<ExitCode> {
    let tree = read(root)?;
    let exceptions_path = "xtask/tidy-exceptions.txt";
    let exceptions = tree.text(exceptions_path).unwrap_or_default();
    let mut unused = exceptions
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .collect::<BTreeSet<_>>();
    let mut clean = true;
    for (name, rule) in RULES {
        let findings = rule(&tree).with_context(|| format!("rule `{name}`"))?;
        let open = findings
            .iter()
            .filter(|finding| {
                let line = format!("{name}: {}", finding.subject);
                !exceptions.lines().any(|known| known == line) || {
                    unused.remove(line.as_str());
                    false
                }
            })
            .collect::<Vec<_>>();
        for finding in &open {
            println!("{}: {}", finding.subject, finding.problem);
        }
        clean &= report(name, open.len());
    }
    for line in &unused {
        println!("{exceptions_path}: `{line}` is no longer needed");
    }
    clean &= report("exceptions", unused.len());
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(name: &str, findings: usize) -> bool {
    match findings {
        0 => println!("ok tidy {name}"),
        count => println!("not ok tidy {name} {count} to mend"),
    }
    findings == 0
}

fn read(root: &Path) -> Result<Tree> {
    let mut command = Command::new("git");
    command.current_dir(root).args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
    let listed = process::output(command)?;
    let mut files = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        // A file may be listed and gone, and what is no text has no lines.
        if let Ok(text) = fs::read_to_string(root.join(path)) {
            files.push(Source::new(path, text));
        }
    }
    Ok(Tree { files, root: root.to_path_buf() })
}

fn generated(tree: &Tree) -> Result<Vec<Finding>> {
    let stale = generate::stale(&tree.root)?;
    if !tree.root.join("docs/reference").is_dir() {
        return Ok(vec![Finding::new("docs/reference", "is not there; `cargo xtask generate`")]);
    }
    Ok(stale
        .into_iter()
        .map(|file| Finding::new(format!("docs/reference/{file}"), "is not current; `cargo xtask generate`"))
        .collect())
}
