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

/// Detectors of personal data, and the type that the corpus calls it by.
const TYPES: &[(&str, &str)] = &[
    ("crypto_wallet", "CRYPTO_WALLET"),
    ("date_of_birth", "DATE_OF_BIRTH"),
    ("dea_number", "DEA"),
    ("driver_licence", "DRIVER_LICENSE"),
    ("email", "EMAIL"),
    ("iban", "IBAN"),
    ("insurance_id", "INSURANCE_ID"),
    ("ip_address", "IP_ADDRESS"),
    ("medical_record", "MRN"),
    ("medicare_id", "MEDICARE_ID"),
    ("nhs_number", "NHS_NUMBER"),
    ("npi", "NPI"),
    ("passport", "PASSPORT"),
    ("payment_card", "CREDIT_CARD"),
    ("phone", "PHONE"),
    ("uk_nino", "UK_NINO"),
    ("us_ssn", "US_SSN"),
];

#[test]
fn personal_data_keeps_its_recall_and_false_positives() {
    let inspector = Inspector::new(&InspectSettings::default()).unwrap();
    let mut counts: BTreeMap<&str, (u32, u32, u32)> = BTreeMap::new();
    for row in rows("pii.jsonl", 1711) {
        let text = row["text"].as_str().unwrap();
        let matches = scan(&inspector, text);
        let spans = row["spans"].as_array().unwrap();
        for (kind, label) in TYPES.iter().copied() {
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
    assert_eq!(counts.values().map(|(total, ..)| total).sum::<u32>(), 1_944);
    for (kind, (total, hit, wrong)) in counts {
        let (missed, most) = match kind {
            "uk_nino" => (1, 0),
            "email" => (0, 1),
            _ => (0, 0),
        };
        assert!(hit + missed >= total && wrong <= most, "{kind}: {hit} of {total}, {wrong} wrong");
    }
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
        let matches = scan(&inspector, text);
        for one in &matches {
            let from = (0..=one.range.start.saturating_sub(30)).rev().find(|at| text.is_char_boundary(*at));
            let (before, seen) = (text.get(from.unwrap()..one.range.start), text.get(one.range.clone()));
            println!("{}: {before:?} {seen:?}", one.finding.kind);
        }
        let mut kinds: Vec<&str> = matches.iter().map(|one| one.finding.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            *counts.entry(kind).or_default() += 1;
        }
    }
    println!("{counts:?} of {benign}");
    assert_eq!(benign, 14703);
    for (kind, most) in [
        ("control_characters", 2),
        ("crypto_wallet", 15),
        ("date_of_birth", 3),
        ("driver_licence", 2),
        ("email", 124),
        ("generic_secrets", 10),
        ("geo_location", 37),
        ("homoglyphs", 2),
        ("iban", 1),
        ("ip_address", 39),
        ("mac_address", 1),
        ("medical_record", 1),
        ("national_id", 1),
        ("payment_card", 1),
        ("phone", 38),
        // Agencies in New Caledonia, by their addresses.
        ("postal_code", 15),
        ("us_ssn", 3),
        ("vehicle", 5),
    ] {
        let count = counts.remove(kind).unwrap_or_default();
        assert!(count <= most, "{kind}: {count} of {benign} ordinary texts, more than {most}");
    }
    assert!(counts.is_empty(), "of ordinary texts, {counts:?} were taken for something");
}
