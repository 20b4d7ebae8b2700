//! Secrets: found where they stand, and ordinary texts left alone.

use std::collections::BTreeMap;

use portcullis_inspect::{Inspector, Role, Subject};

use crate::{corpus::Row, report::Report, stats::Share, summary::Aim};

/// The detectors that look for secrets.
pub const DETECTORS: &[&str] = &["credentials", "generic_secrets"];

/// Which aim a category counts for.
fn class(category: &str) -> &'static str {
    let generic = [
        "generic",
        "password",
        "passwd",
        "token",
        "credential",
        "high_entropy",
        "url_credentials",
        "connection_string",
    ];
    match category {
        "pem_private_key" => "private keys (PEM)",
        one if generic.iter().any(|word| one == *word || one.starts_with("generic")) => {
            "generic passwords and tokens"
        }
        _ => "provider formats",
    }
}

/// Runs the detectors of secrets over all rows.
pub fn run(inspector: &Inspector, rows: &[Row], show: bool, report: &mut Report) -> Vec<Aim> {
    let mut classes: BTreeMap<String, Share> = BTreeMap::new();
    let mut sources: BTreeMap<String, Share> = BTreeMap::new();
    let mut categories: BTreeMap<String, Share> = BTreeMap::new();
    let mut alike: BTreeMap<String, Share> = BTreeMap::new();
    let mut ordinary: BTreeMap<String, Share> = BTreeMap::new();
    for row in rows {
        let of_secrets = row.kind == "secret";
        if !of_secrets && (!row.is_benign() || row.kind == "pii") {
            continue;
        }
        let mut found = Vec::new();
        inspector.scan_subject(&Subject { role: Role::Answer, place: "", text: &row.text }, &mut found);
        found.retain(|one| DETECTORS.contains(&one.finding.kind));
        if row.is_benign() {
            let (table, name) =
                if of_secrets { (&mut alike, &row.category) } else { (&mut ordinary, &row.kind) };
            table.entry(name.clone()).or_default().count(!found.is_empty());
            if show && let Some(one) = found.first() {
                let seen = row.text.get(one.range.clone()).unwrap_or_default();
                let from = (0..=one.range.start.saturating_sub(40))
                    .rev()
                    .find_map(|at| row.text.get(at..one.range.start));
                println!("WRONG {} {} {:?} before {:?}", row.kind, one.finding.kind, seen, from);
            }
            continue;
        }
        let (start, end) = row.bytes(row.start.unwrap_or_default(), row.end.unwrap_or_default());
        let half = end.saturating_sub(start).div_ceil(2).max(1);
        let hit =
            found.iter().any(|one| one.range.end.min(end).saturating_sub(one.range.start.max(start)) >= half);
        if show && !hit {
            println!("MISSED {} {:?}", row.category, row.text);
        }
        classes.entry(class(&row.category).to_owned()).or_default().count(hit);
        sources.entry(row.source.clone()).or_default().count(hit);
        categories.entry(row.category.clone()).or_default().count(hit);
    }
    let all = Share::sum(ordinary.values());
    report.say("## Secrets");
    report.say("Nothing is trained. A secret counts as found when half of it lies in what was found.");
    report.shares("class", "found", &classes);
    report.shares("source", "found", &sources);
    report.misses(&categories);
    report.say("Look-alikes flagged (hard negatives):");
    report.shares("category", "flagged", &alike);
    report.say("Ordinary texts flagged:");
    report.shares("kind", "flagged", &ordinary);
    let share = |name: &str| classes.get(name).copied().unwrap_or_default();
    vec![
        Aim::at_least("secrets of provider formats", share("provider formats").value(), 0.90),
        Aim::at_least("generic passwords and tokens", share("generic passwords and tokens").value(), 0.60),
        Aim::at_most("ordinary texts taken for secrets", all.value(), 0.001),
    ]
}
