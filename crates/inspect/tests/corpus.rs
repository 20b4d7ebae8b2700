//! How much the detectors find of the development corpus, and how often they are wrong. The floors may only rise.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that fails may panic")]

use std::{collections::BTreeMap, fs};

use portcullis_core::Direction;
use portcullis_inspect::{InspectSettings, Inspector, Match};
use serde_json::Value;

fn rows(name: &str, count: usize) -> Vec<Value> {
    let path = format!("{}/../../../shared/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), count, "{path}");
    rows
}

fn scan(inspector: &Inspector, text: &str) -> Vec<Match> {
    let mut out = Vec::new();
    inspector.scan(Direction::Outward, "", text, &mut out);
    if !out.is_empty() {
        let raw = serde_json::to_string(text).unwrap();
        assert!(
            inspector.quick(Direction::Outward, raw.as_bytes(), raw.contains("\\u")),
            "the quick look misses {text:?}"
        );
    }
    out
}

/// Character offsets as the corpus has them, to bytes.
fn bytes(text: &str, row: &Value) -> (usize, usize) {
    let at = |key: &str| {
        let characters = row[key].as_u64().unwrap() as usize;
        text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at)
    };
    (at("start"), at("end"))
}

fn covers(matches: &[Match], kind: &str, (start, end): (usize, usize)) -> bool {
    let half = (end - start).div_ceil(2);
    matches
        .iter()
        .filter(|one| one.finding.kind == kind)
        .any(|one| one.range.end.min(end).saturating_sub(one.range.start.max(start)) >= half)
}

/// Providers whose tokens have a published prefix that names them.
const PREFIXED: &[&str] = &[
    "anthropic",
    "atlassian",
    "databricks",
    "digitalocean",
    "doppler",
    "gcp",
    "github",
    "huggingface",
    "npm",
    "openai",
    "pem_private_key",
    "perplexity",
    "planetscale",
    "postman",
    "pypi",
    "sendgrid",
    "shopify",
    "slack",
];

#[test]
fn credentials_keep_their_recall_and_false_positives() {
    let inspector = Inspector::new(&InspectSettings::default()).unwrap();
    let (mut all, mut hit, mut prefixed, mut prefixed_hit, mut benign, mut wrong) = (0, 0, 0, 0, 0, 0);
    let mut missed: BTreeMap<String, u32> = BTreeMap::new();
    for row in rows("secrets.jsonl", 2510) {
        let text = row["text"].as_str().unwrap();
        let category = row["category"].as_str().unwrap();
        let matches = scan(&inspector, text);
        if row["label"] == "secret" {
            let at = bytes(text, &row);
            let found = covers(&matches, "credentials", at) || covers(&matches, "generic_secrets", at);
            let known = PREFIXED.contains(&category);
            all += 1;
            hit += u32::from(found);
            prefixed += u32::from(known);
            prefixed_hit += u32::from(known && found);
            if !found {
                *missed.entry(category.to_owned()).or_default() += 1;
            }
        } else {
            benign += 1;
            if matches.iter().any(|one| matches!(one.finding.kind, "credentials" | "generic_secrets")) {
                wrong += 1;
                println!("wrong: {text}");
            }
        }
    }
    println!("recall {hit}/{all}, of prefixed providers {prefixed_hit}/{prefixed}, wrong {wrong}/{benign}");
    println!("missed {missed:?}");
    assert_eq!((all, benign), (956, 1554));
    assert!(hit >= 910, "recall fell: {hit}");
    assert!(prefixed_hit >= 236, "recall of prefixed providers fell: {prefixed_hit}");
    assert!(wrong <= 34, "false positives rose: {wrong}");
}

#[test]
fn personal_data_keeps_its_recall_and_false_positives() {
    let inspector = Inspector::new(&InspectSettings::default()).unwrap();
    let mut counts: BTreeMap<&str, (u32, u32, u32)> = BTreeMap::new();
    for row in rows("pii.jsonl", 1711) {
        let text = row["text"].as_str().unwrap();
        let matches = scan(&inspector, text);
        let spans = row["spans"].as_array().unwrap();
        for (kind, label) in [("email", "EMAIL"), ("payment_card", "CREDIT_CARD")] {
            let (total, hit, wrong) = counts.entry(kind).or_default();
            let labelled = || spans.iter().filter(|span| span["type"] == label).map(|span| bytes(text, span));
            for span in labelled() {
                *total += 1;
                let found = covers(&matches, kind, span);
                *hit += u32::from(found);
                if !found {
                    println!("missed {kind}: {:?}", text.get(span.0..span.1));
                }
            }
            for one in matches.iter().filter(|one| one.finding.kind == kind) {
                let right = labelled().any(|(start, end)| one.range.start < end && start < one.range.end);
                if !right {
                    *wrong += 1;
                    println!("wrong {kind}: {:?} in {text:?}", text.get(one.range.clone()));
                }
            }
        }
    }
    println!("{counts:?}");
    let (total, hit, wrong) = counts["email"];
    assert_eq!(total, 261);
    assert!(hit == 261 && wrong <= 1, "e-mail: {hit} of {total}, {wrong} wrong");
    let (total, hit, wrong) = counts["payment_card"];
    assert_eq!(total, 267);
    assert!(hit == 267 && wrong == 0, "cards: {hit} of {total}, {wrong} wrong");
}

#[test]
fn ordinary_documents_and_arguments_are_left_alone() {
    let inspector = Inspector::new(&InspectSettings::default()).unwrap();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut benign = 0;
    for row in rows("injection.jsonl", 16245).into_iter().chain(rows("args.jsonl", 3685)) {
        if row["label"] != "benign" {
            continue;
        }
        benign += 1;
        let text = row["text"].as_str().unwrap();
        let mut kinds: Vec<&str> = scan(&inspector, text).iter().map(|one| one.finding.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            *counts.entry(kind).or_default() += 1;
            if kind != "email" {
                println!("{kind}: {}", text.chars().take(200).collect::<String>());
            }
        }
    }
    println!("{counts:?} of {benign}");
    assert_eq!(benign, 14703);
    for (kind, most) in [
        ("bidi_controls", 0),
        ("control_characters", 2),
        ("credentials", 0),
        ("email", 124),
        ("generic_secrets", 10),
        ("payment_card", 1),
        ("tag_characters", 0),
    ] {
        let count = counts.get(kind).copied().unwrap_or_default();
        assert!(count <= most, "{kind}: {count} of {benign} ordinary texts, more than {most}");
    }
}
