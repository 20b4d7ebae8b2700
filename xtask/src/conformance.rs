//! `cargo xtask conformance`: the suite `conformance` of `cargo xtask test`, and its outcome as a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::test;

/// Where the suite leaves what it printed.
const LOG: &str = "target/xtask/conformance-0.log";

/// Runs the suite and prints how many scenarios passed in each leg and revision.
pub fn run(root: &Path, arguments: &[String]) -> Result<ExitCode> {
    ensure!(arguments.is_empty(), "usage: cargo xtask conformance");
    let code = test::run(root, &["--only".to_owned(), "conformance".to_owned()])?;
    let log = fs::read_to_string(root.join(LOG)).with_context(|| format!("`{LOG}` is not there"))?;
    print!("\n{}", table(&log));
    Ok(code)
}

/// Passed and failed lines of one leg in one revision.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    passed: usize,
    failed: usize,
}

/// The table: a row for each leg, a column for each revision; then what failed, and what cannot apply.
fn table(log: &str) -> String {
    let mut cells: BTreeMap<&str, BTreeMap<&str, Cell>> = BTreeMap::new();
    let (mut revisions, mut notes) = (BTreeSet::new(), Vec::new());
    for line in log.lines() {
        let (passed, rest) = match (line.strip_prefix("ok "), line.strip_prefix("not ok ")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => {
                notes.extend(line.strip_prefix("# ").filter(|note| note.contains("cannot apply")));
                continue;
            }
        };
        let mut words = rest.split(' ');
        let (Some("conformance"), Some(leg), Some(revision)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if !revision.starts_with("20") {
            continue;
        }
        revisions.insert(revision);
        let cell = cells.entry(leg).or_default().entry(revision).or_default();
        cell.passed += usize::from(passed);
        cell.failed += usize::from(!passed);
        if !passed {
            notes.push(line);
        }
    }
    let mut out = format!("{:24}", "leg");
    for revision in &revisions {
        let _ = write!(out, " {revision:>16}");
    }
    for (leg, row) in &cells {
        let _ = write!(out, "\n{leg:24}");
        for revision in &revisions {
            let text = row.get(revision).map_or_else(
                || "-".to_owned(),
                |cell| format!("{} of {}", cell.passed, cell.passed + cell.failed),
            );
            let _ = write!(out, " {text:>16}");
        }
    }
    out.push('\n');
    for note in notes {
        let _ = writeln!(out, "\n{note}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn lines_become_rows_and_failures_and_exceptions_are_named() {
        let log = "ok conformance direct 2025-11-25 ping\nok conformance direct 2026-07-28 caching\n\
            not ok conformance gateway-http 2025-11-25 ping 0 passed\nok conformance excuse client auth/\n\
            ok conformance gateway-http 2025-11-25 verdict\n# 2 client scenarios of 2025-11-25 cannot apply: a, b\n# 4 ok";
        let text = table(log);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["leg", "2025-11-25", "2026-07-28"]);
        assert_eq!(rows[1], ["direct", "1", "of", "1", "1", "of", "1"]);
        assert_eq!(rows[2], ["gateway-http", "1", "of", "2", "-"]);
        assert!(text.contains("not ok conformance gateway-http 2025-11-25 ping 0 passed"));
        assert!(text.contains("2 client scenarios of 2025-11-25 cannot apply: a, b"));
        assert!(!text.contains("excuse") && !text.contains("4 ok"));
    }
}
