//! That a detector is only shown texts in which one of its words occurs changes nothing of what is found.

extern crate std;

use std::{format, fs, string::String, vec::Vec};

use serde_json::Value;

use crate::{InspectSettings, Inspector, Match, Role, Subject};

/// The labelled texts of the development corpus.
fn texts() -> Vec<String> {
    let mut texts = Vec::new();
    for name in ["args", "injection", "pii", "secrets"] {
        let path = format!("{}/../../../shared/corpus/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
        for line in fs::read_to_string(path).unwrap().lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            texts.push(row["text"].as_str().unwrap().into());
        }
    }
    texts
}

/// Pieces of texts put together anew, in other letters and codes.
fn mixed(texts: &[String]) -> Vec<String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut pick = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let parts = [" ", "\n", ": ", "\"", "-", "", "%20", "&amp;", "\\n", "\u{200b}", "\t", "\u{e9}", "/"];
    let mut out = Vec::new();
    for _ in 0..1_000 {
        let mut text = String::new();
        for _ in 0..=pick(3) {
            let whole: Vec<char> = texts[pick(texts.len())].chars().collect();
            let from = pick(whole.len() + 1);
            let to = (from + pick(200)).min(whole.len());
            text.extend(&whole[from..to]);
            text.push_str(parts[pick(parts.len())]);
        }
        out.push(match pick(8) {
            0 => text.to_uppercase(),
            1 => serde_json::to_string(&text).unwrap(),
            2 => text.replace(' ', "%20"),
            3 => text.replace('e', "\u{435}"),
            4 => text.replace('a', "a\u{200b}"),
            _ => text,
        });
    }
    out
}

fn differences(texts: &[String], counts: impl Fn(&Match) -> bool) -> Vec<String> {
    let build = || Inspector::new(&InspectSettings::default()).unwrap();
    let (gated, ungated) = (build(), build().ungated());
    let mut out = Vec::new();
    for text in texts {
        for (role, place) in [
            (Role::Answer, "/result/content/0/text"),
            (Role::Answer, "/result/structuredContent/phone"),
            (Role::Definition, "/result/tools/0/description"),
            (Role::Argument, "/params/arguments/query"),
        ] {
            let see = |inspector: &Inspector| {
                let mut matches = Vec::new();
                inspector.scan_subject(&Subject { role, place, text }, &mut matches);
                matches.retain(&counts);
                matches
            };
            if see(&gated) != see(&ungated) {
                out.push(format!("{role:?} {text}"));
            }
        }
    }
    out
}

#[test]
fn the_gated_look_finds_what_the_ungated_finds() {
    let texts = texts();
    assert!(texts.len() > 20_000);
    // What its words are is part of what the classifier is; how well it does with them is measured (`cargo xtask eval`).
    let others = |found: &Match| found.finding.kind != "injection";
    let some: Vec<String> = texts.iter().step_by(17).cloned().collect();
    for texts in [some, mixed(&texts)] {
        let different = differences(&texts, others);
        assert!(different.is_empty(), "{different:#?}");
    }
}
