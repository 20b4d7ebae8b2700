//! Rules about crates: their size, their purity, and the one-way order of the architecture.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::Result;

use super::{Finding, Tree};
use crate::process;

/// Most lines of a crate.
const CRATE_LINES_MAX: usize = 14_000;
/// Most packages in the tree of the shipped binary.
const PACKAGES_MAX: usize = 450;
/// The crates that cannot name a file, a socket, a clock or a thread.
const PURE: &[&str] =
    &["core", "mcp", "policy", "reading", "classify", "personal", "inspect", "meaning", "proof"];
/// Who may use whom; what is not here, none may.
const ORDER: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("mcp", &["core"]),
    ("policy", &["core"]),
    ("personal", &["core"]),
    ("reading", &[]),
    ("classify", &["reading"]),
    ("inspect", &["classify", "personal", "reading", "core"]),
    ("meaning", &["policy", "mcp", "core"]),
    ("screen", &["inspect", "mcp", "core"]),
    ("proof", &["core"]),
    ("sample", &["core"]),
    ("sys", &[]),
    ("net", &["sys", "core"]),
    ("hosts", &["core"]),
    ("yaml", &[]),
    ("privacy", &["seal", "store", "inspect", "core"]),
    ("seal", &["store", "core"]),
    ("secrets", &["seal", "net", "core"]),
    ("siem", &["store", "net", "proof", "core"]),
    ("forensics", &["store", "proof", "core"]),
    (
        "config",
        &[
            "yaml", "siem", "secrets", "seal", "connect", "usage", "net", "meaning", "policy", "inspect",
            "mcp", "core",
        ],
    ),
    ("certs", &["seal", "store", "net", "proof", "core"]),
    ("upstream", &["secrets", "net", "mcp", "core"]),
    ("store", &["proof", "core"]),
    ("connect", &["net", "store", "proof", "core"]),
    ("usage", &["store", "policy", "core"]),
    ("approve", &["store", "net", "proof", "core"]),
    ("authorize", &["upstream", "connect", "seal", "store", "net", "proof", "core"]),
    ("catalog", &["upstream", "connect", "store", "proof", "policy", "inspect", "mcp", "core"]),
    (
        "proxy",
        &[
            "catalog",
            "approve",
            "authorize",
            "upstream",
            "seal",
            "secrets",
            "usage",
            "connect",
            "store",
            "net",
            "proof",
            "meaning",
            "screen",
            "policy",
            "inspect",
            "mcp",
            "core",
        ],
    ),
    ("admin", &["forensics", "approve", "seal", "store", "net", "proof", "policy", "mcp", "core"]),
    (
        "portcullis",
        &[
            "certs",
            "config",
            "catalog",
            "yaml",
            "sample",
            "hosts",
            "proxy",
            "approve",
            "authorize",
            "upstream",
            "seal",
            "secrets",
            "siem",
            "forensics",
            "usage",
            "privacy",
            "admin",
            "connect",
            "store",
            "net",
            "proof",
            "meaning",
            "screen",
            "policy",
            "inspect",
            "mcp",
            "core",
        ],
    ),
    (
        "testkit",
        &[
            "hosts",
            "proxy",
            "authorize",
            "upstream",
            "seal",
            "secrets",
            "admin",
            "connect",
            "store",
            "net",
            "proof",
            "meaning",
            "screen",
            "policy",
            "inspect",
            "mcp",
            "core",
        ],
    ),
];
/// The only crate that may hold `unsafe`, and most lines of it: small enough to be read before every release.
const UNSAFE: (&str, usize) = ("crates/sys/", 300);
/// What would bring a second TLS stack, crypto provider or HTTP client into the binary.
const UNWANTED: &[&str] = &["ring", "openssl", "openssl-sys", "native-tls", "reqwest", "async-std", "smol"];

/// A crate stays small enough to be known by one person.
pub fn length(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (name, _) in ORDER {
        let folder = format!("crates/{name}/src/");
        let lines = tree
            .rust()
            .filter(|file| file.path.starts_with(&folder))
            .map(|file| file.text.lines().count())
            .sum::<usize>();
        if lines > CRATE_LINES_MAX {
            let problem = format!("{lines} lines, {CRATE_LINES_MAX} are allowed");
            findings.push(Finding::new(format!("crates/{name}"), problem));
        }
    }
    Ok(findings)
}

/// The thinking crates cannot even name input and output.
pub fn no_std(tree: &Tree) -> Result<Vec<Finding>> {
    let impure = PURE.iter().map(|name| format!("crates/{name}/src/lib.rs")).filter(|path| {
        let text = tree.text(path).unwrap_or_default();
        !text.lines().any(|line| line == "#![no_std]")
    });
    Ok(impure.map(|path| Finding::new(path, "is not `#![no_std]`")).collect())
}

/// `unsafe` stands in one small crate, and every other crate takes the lints of the workspace, which forbid it.
pub fn unsafe_code(tree: &Tree) -> Result<Vec<Finding>> {
    let (home, lines_max) = UNSAFE;
    let mut findings = Vec::new();
    for file in tree.rust().filter(|file| !file.path.starts_with(home)) {
        let word = ["unsa", "fe {"].concat();
        if file.text.contains(&word) {
            findings.push(Finding::new(&*file.path, format!("holds `{word}`; only `{home}` may")));
        }
    }
    for file in tree
        .files
        .iter()
        .filter(|file| file.path.ends_with("/Cargo.toml") && file.path.starts_with("crates/"))
    {
        if !file.path.starts_with(home) && !file.text.contains("[lints]\nworkspace = true") {
            findings.push(Finding::new(&*file.path, "does not take the lints of the workspace"));
        }
    }
    let lines: usize =
        tree.rust().filter(|file| file.path.starts_with(home)).map(|file| file.text.lines().count()).sum();
    if lines > lines_max {
        findings.push(Finding::new(home, format!("{lines} lines, {lines_max} are allowed")));
    }
    Ok(findings)
}

/// Dependencies, also those of tests, point down.
pub fn order(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.starts_with("crates/")) {
        let Some(name) = file.path.strip_prefix("crates/").and_then(|rest| rest.strip_suffix("/Cargo.toml"))
        else {
            continue;
        };
        let Some((_, allowed)) = ORDER.iter().find(|(known, _)| *known == name) else {
            findings.push(Finding::new(&*file.path, "has no place in the order of crates"));
            continue;
        };
        for used in own_dependencies(&file.text) {
            // A crate may test itself with a feature of its own switched on.
            if used != name && !allowed.contains(&used.as_str()) {
                findings.push(Finding::new(&*file.path, format!("may not depend on `portcullis-{used}`")));
            }
        }
    }
    Ok(findings)
}

/// The crates of this workspace that a manifest names in any table of dependencies.
fn own_dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim_end().ends_with("dependencies]");
        } else if inside && let Some(rest) = line.strip_prefix("portcullis-") {
            let name = rest.split(['.', ' ', '=']).next().unwrap_or_default();
            found.insert(name.to_owned());
        }
    }
    found
}

/// The binary's tree of packages stays small.
pub fn lock_file(tree: &Tree) -> Result<Vec<Finding>> {
    let count = packages(tree)?.len();
    let problem = format!("{count} packages in the tree of the binary, {PACKAGES_MAX} are allowed");
    Ok((count > PACKAGES_MAX).then(|| Finding::new("Cargo.lock", problem)).into_iter().collect())
}

/// One TLS stack, one crypto provider, one runtime.
pub fn dependencies(tree: &Tree) -> Result<Vec<Finding>> {
    let packages = packages(tree)?;
    let unwanted = UNWANTED
        .iter()
        .filter(|name| packages.iter().any(|package| package.starts_with(&format!("{name} "))));
    Ok(unwanted
        .map(|name| Finding::new("Cargo.lock", format!("`{name}` is in the tree of the binary")))
        .collect())
}

/// Name and version of each package that the shipped binary is built from.
fn packages(tree: &Tree) -> Result<BTreeSet<String>> {
    let mut command = Command::new("cargo");
    command.current_dir(&tree.root).args(["tree", "--locked", "--package", "portcullis"]);
    command.args(["--edges", "normal,build", "--prefix", "none", "--format", "{p}"]);
    let listed = process::output(command)?;
    let name = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    Ok(listed.lines().filter(|line| !line.is_empty()).map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    fn problems(rule: fn(&Tree) -> Result<Vec<Finding>>, path: &str, text: &str) -> usize {
        rule(&Tree { files: vec![Source::new(path, text.to_owned())], root: ".".into() }).unwrap().len()
    }

    #[test]
    fn dependencies_point_down() {
        let manifest =
            |table: &str, name: &str| format!("[package]\n\n[{table}]\nportcullis-{name}.workspace = true\n");
        let check = |path: &str, table: &str, name: &str| problems(order, path, &manifest(table, name));
        assert_eq!(check("crates/proxy/Cargo.toml", "dependencies", "connect"), 0);
        assert_eq!(check("crates/proxy/Cargo.toml", "dependencies", "admin"), 1);
        assert_eq!(check("crates/admin/Cargo.toml", "dev-dependencies", "proxy"), 1);
        assert_eq!(check("crates/core/Cargo.toml", "dev-dependencies", "testkit"), 1);
        assert_eq!(check("crates/new/Cargo.toml", "dependencies", "core"), 1);
    }

    #[test]
    fn what_the_compiler_cannot_check_stays_in_one_small_crate() {
        let block = ["unsa", "fe { x() }\n"].concat();
        assert_eq!(problems(unsafe_code, "crates/net/src/lib.rs", &block), 1);
        assert_eq!(problems(unsafe_code, "crates/sys/src/lib.rs", &block), 0);
        assert_eq!(problems(unsafe_code, "crates/sys/src/lib.rs", &"//\n".repeat(301)), 1);
        assert_eq!(problems(unsafe_code, "crates/net/Cargo.toml", "[lints.rust]\n"), 1);
        assert_eq!(problems(unsafe_code, "crates/net/Cargo.toml", "[lints]\nworkspace = true\n"), 0);
    }

    #[test]
    fn a_thinking_crate_with_std_is_found() {
        let others = PURE.len() - 1;
        assert_eq!(problems(no_std, "crates/core/src/lib.rs", "//! A.\n#![no_std]\n"), others);
        assert_eq!(problems(no_std, "crates/core/src/lib.rs", "//! A.\n// #![no_std]\n"), others + 1);
    }
}
