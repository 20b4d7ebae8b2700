//! What a look at ordinary texts costs on this machine, beside one plain pass for 290 words over the same bytes.

use std::hint::black_box;
use std::time::Instant;

use aho_corasick::AhoCorasick;
use anyhow::Result;
use portcullis_core::Direction;
use portcullis_inspect::{CATALOG, InspectSettings, Inspector};

use crate::corpus::Row;

/// Times that everything is looked at; the fastest counts.
const ROUNDS: usize = 5;

/// Prints microseconds for each KiB of the harmless results of a corpus, for each detector alone and for all; or only for
/// `only`: a detector, or `all`.
pub fn run(inspector: &Inspector, rows: &[Row], only: Option<&str>) -> Result<()> {
    let texts: Vec<&str> = rows
        .iter()
        .filter(|row| row.is_benign() && row.kind == "tool_result")
        .map(|row| row.text.as_str())
        .collect();
    let raws = texts.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    let each = |micros: f64| micros * 1_024.0 / bytes as f64;
    let words: Vec<String> =
        (0..290_u32).map(|at| format!("{:x}word", at.wrapping_mul(0x9e37_79b9))).collect();
    let plain = AhoCorasick::builder().ascii_case_insensitive(true).build(&words)?;
    let pass = each(fastest(|| texts.iter().map(|text| plain.find_overlapping_iter(*text).count()).sum()));
    let scan = |inspector: &Inspector| {
        each(fastest(|| {
            let mut found = Vec::new();
            for text in &texts {
                inspector.scan(Direction::Outward, "/result/content/0/text", text, &mut found);
            }
            found.len()
        }))
    };
    let quick = each(fastest(|| {
        raws.iter()
            .filter(|raw| inspector.quick(Direction::Outward, raw.as_bytes(), raw.contains("\\u")))
            .count()
    }));
    println!("plain pass {pass:.2} us/KiB; {bytes} bytes in {} texts", texts.len());
    println!("quick look {quick:.2} us/KiB");
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    if wanted("all") {
        println!("all {:.2} us/KiB", scan(inspector));
    }
    for kind in CATALOG.iter().filter(|kind| wanted(kind.name)) {
        let mut settings = InspectSettings::default();
        settings.detectors.iter_mut().for_each(|(name, one)| one.enabled = name == kind.name);
        println!("{} {:.2} us/KiB", kind.name, scan(&Inspector::new(&settings)?));
    }
    Ok(())
}

fn fastest(mut work: impl FnMut() -> usize) -> f64 {
    (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            black_box(work());
            begun.elapsed().as_secs_f64() * 1e6
        })
        .fold(f64::MAX, f64::min)
}
