//! Definitions of tools as servers gave them to others, by what those say of them.

use std::{collections::BTreeMap, fs};

use portcullis_inspect::{InspectSettings, Inspector};
use serde_json::Value;

/// Every text of a definition, names of members too, with its place.
fn texts(value: &Value, place: &str, out: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => out.push((place.to_owned(), text.clone())),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| texts(item, &format!("{place}/{index}"), out));
        }
        Value::Object(members) => {
            for (name, member) in members {
                out.push((place.to_owned(), name.clone()));
                texts(member, &format!("{place}/{name}"), out);
            }
        }
        Value::Bool(_) | Value::Null | Value::Number(_) => {}
    }
}

#[test]
fn no_benign_definition_of_the_list_is_held_and_every_poisoned_one_is() {
    let path =
        format!("{}/../../../shared/vectors/mcp-tool-metadata/tools.jsonl", env!("CARGO_MANIFEST_DIR"));
    let inspector = Inspector::new(&InspectSettings::default()).unwrap();
    let mut counts: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
    for line in fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let label = row["label"].as_str().unwrap().to_owned();
        let mut all = Vec::new();
        for key in ["name", "title", "description", "inputSchema", "outputSchema", "annotations"] {
            texts(&row[key], &format!("/{key}"), &mut all);
        }
        let held = all.iter().any(|(place, text)| !inspector.holds(place, text).is_empty());
        let count = counts.entry(label.clone()).or_default();
        count.0 += 1;
        if held {
            count.1.push(row["id"].as_str().unwrap().to_owned());
        }
    }
    for (label, (all, held)) in &counts {
        println!("{label}: {} of {all} held {held:?}", held.len());
    }
    let (poisoned, held) = &counts["poisoned-metadata"];
    assert_eq!((*poisoned, held.len()), (20, 20), "{held:?}");
    let (benign, held) = &counts["benign"];
    assert_eq!((*benign, held.len()), (197, 0), "{held:?}");
}

#[test]
fn the_rules_for_definitions_leave_ordinary_ones_alone_and_see_kinds_of_poison_that_hide_nothing() {
    let path = format!("{}/../../../shared/corpus/injection.jsonl", env!("CARGO_MANIFEST_DIR"));
    let mut settings = InspectSettings::default();
    settings.detectors.iter_mut().for_each(|(name, one)| one.enabled = name == "overreach");
    let inspector = Inspector::new(&settings).unwrap();
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for line in fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        if row["kind"] == "tool_description" {
            let class = if row["label"] == "benign" { &row["label"] } else { &row["category"] };
            let count = counts.entry(class.as_str().unwrap().to_owned()).or_default();
            let held = !inspector.holds("/description", row["text"].as_str().unwrap()).is_empty();
            if held && row["label"] == "benign" {
                println!("{}", row["text"]);
            }
            *count = (count.0 + 1, count.1 + usize::from(held));
        }
    }
    println!("{counts:?}");
    let (benign, held) = counts["benign"];
    assert!(benign == 4_118 && held <= 4, "{held} of {benign}");
    for class in ["param_exfil", "preference", "precondition", "shadowing"] {
        let (all, held) = counts[class];
        assert!(held * 10 >= all * 9, "{class}: {held} of {all}");
    }
}
