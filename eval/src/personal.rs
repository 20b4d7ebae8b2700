//! Structured personal data: found where it stands and called what it is, and digits that only look like it left alone.

use std::collections::BTreeMap;

use portcullis_inspect::{DetectorSettings, InspectSettings, Inspector, Role, Subject};

use crate::{
    corpus::Row,
    report::Report,
    stats::{Share, mean},
    summary::Aim,
};

/// Each detector of personal data and the type that corpora call it by.
const TYPES: &[(&str, &str)] = &[
    ("crypto_wallet", "CRYPTO_WALLET"),
    ("date_of_birth", "DATE_OF_BIRTH"),
    ("dea_number", "DEA"),
    ("device_id", "DEVICE_ID"),
    ("diagnosis_code", "ICD10"),
    ("driver_licence", "DRIVER_LICENSE"),
    ("email", "EMAIL"),
    ("geo_location", "COORDINATES"),
    ("iban", "IBAN"),
    ("insurance_id", "INSURANCE_ID"),
    ("ip_address", "IP_ADDRESS"),
    ("mac_address", "MAC_ADDRESS"),
    ("medical_record", "MRN"),
    ("medicare_id", "MEDICARE_ID"),
    ("national_id", "NATIONAL_ID"),
    ("nhs_number", "NHS_NUMBER"),
    ("npi", "NPI"),
    ("passport", "PASSPORT"),
    ("payment_card", "CREDIT_CARD"),
    ("phone", "PHONE"),
    ("tax_id", "TAX_ID"),
    ("uk_nino", "UK_NINO"),
    ("us_ssn", "US_SSN"),
    ("vehicle", "VIN"),
];

/// Types that have no form of their own: only a dictionary or a model of language finds them.
const UNSTRUCTURED: &[&str] = &["PERSON", "ADDRESS", "ORGANIZATION", "LOCATION", "AGE", "TITLE"];

/// Whether a detector looks for personal data.
pub fn is_personal(detector: &str) -> bool {
    TYPES.iter().any(|(known, _)| *known == detector)
}

/// Detectors of what has no form of its own, which are off unless a preset wants them, and what corpora call it.
const WORDED: &[(&str, &str)] = &[("person_name", "PERSON"), ("street_address", "ADDRESS")];

/// Runs those, which a dictionary and context help, over the rows of that kind and over harmless results.
fn worded(rows: &[Row], show: bool, report: &mut Report) {
    let mut settings = InspectSettings::default();
    for (name, settings) in &mut settings.detectors {
        let enabled = WORDED.iter().any(|(known, _)| known == name);
        *settings = DetectorSettings { enabled, ..*settings };
    }
    let Ok(inspector) = Inspector::new(&settings) else { return };
    let [mut types, mut flagged] = [BTreeMap::<String, Share>::new(), BTreeMap::new()];
    for row in rows.iter().filter(|row| row.kind == "pii" || (row.kind == "tool_result" && row.is_benign())) {
        let mut found = Vec::new();
        inspector.scan_subject(&Subject { role: Role::Answer, place: "", text: &row.text }, &mut found);
        if row.kind == "tool_result" {
            flagged.entry(row.category.clone()).or_default().count(!found.is_empty());
        }
        for span in &row.spans {
            let Some((name, _)) = WORDED.iter().find(|(_, kind)| *kind == span.kind) else { continue };
            let (start, end) = row.bytes(span.start, span.end);
            let half = end.saturating_sub(start).div_ceil(2).max(1);
            let hit = found.iter().any(|one| {
                one.finding.kind == *name
                    && one.range.end.min(end).saturating_sub(one.range.start.max(start)) >= half
            });
            if show && !hit {
                println!("MISSED {} {:?} in {:?}", span.kind, row.text.get(start..end), row.text);
            }
            types.entry(format!("{}, {}", span.kind, row.source)).or_default().count(hit);
        }
    }
    report.say("### Names and postal addresses");
    report.say("By `person_name` and `street_address`, which presets switch on. Most of what they see in harmless results are names of persons: authors, people in examples.");
    report.shares("type", "found", &types);
    report.shares("category of harmless results", "flagged", &flagged);
}

/// Runs the detectors of personal data over the rows of that kind.
pub fn run(inspector: &Inspector, rows: &[Row], show: bool, report: &mut Report) -> Vec<Aim> {
    let mut types: BTreeMap<String, Share> = BTreeMap::new();
    let mut sources: BTreeMap<String, Share> = BTreeMap::new();
    let mut alike: BTreeMap<String, Share> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.kind == "pii") {
        let mut found = Vec::new();
        inspector.scan_subject(&Subject { role: Role::Answer, place: "", text: &row.text }, &mut found);
        found.retain(|one| is_personal(one.finding.kind));
        if row.is_benign() {
            alike.entry(row.category.clone()).or_default().count(!found.is_empty());
            continue;
        }
        for span in row.spans.iter().filter(|span| !UNSTRUCTURED.contains(&&*span.kind)) {
            let (start, end) = row.bytes(span.start, span.end);
            let half = end.saturating_sub(start).div_ceil(2).max(1);
            let hit = found.iter().any(|one| {
                let right = TYPES.contains(&(one.finding.kind, &*span.kind));
                right && one.range.end.min(end).saturating_sub(one.range.start.max(start)) >= half
            });
            if show && !hit {
                println!("MISSED {} {:?} in {:?}", span.kind, row.text.get(start..end), row.text);
            }
            types.entry(span.kind.clone()).or_default().count(hit);
            sources.entry(row.source.clone()).or_default().count(hit);
        }
    }
    let all = Share::sum(types.values());
    report.say("## Structured personal data");
    report.say("Nothing is trained. A value counts as found when half of it lies in a finding of the right type. Names and addresses have a section of their own.");
    report.shares("type", "found", &types);
    report.shares("source", "found", &sources);
    report.misses(&types);
    report.say("Texts without personal data flagged (hard negatives):");
    report.shares("category", "flagged", &alike);
    worded(rows, show, report);
    let lookalikes =
        Share::sum(alike.iter().filter(|(name, _)| name.starts_with("lookalike")).map(|(_, share)| share));
    vec![
        Aim::at_least("personal data, right type, micro", all.value(), 0.95),
        Aim::at_least("personal data, right type, macro", mean(types.values()), 0.90),
        Aim::at_most("look-alike digits flagged", lookalikes.value(), 0.05),
    ]
}
