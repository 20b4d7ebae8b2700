//! The findings as SARIF 2.1.0, which code hosts show beside the files they concern.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Level, Scanned};

/// What could not be asked is a result too: a scan that saw nothing must not look clean.
const NOT_ASKED: &str = "not_asked";

pub(super) fn document(servers: &[Scanned]) -> Value {
    let mut rules = BTreeSet::new();
    let mut results = Vec::new();
    for server in servers {
        let mut add = |rule: &'static str, level: Level, place: &str, message: &str| {
            rules.insert(rule);
            let file = !server.target.contains("://") && std::path::Path::new(&server.target).exists();
            let mut location = json!({
                "logicalLocations": [{ "fullyQualifiedName": format!("{}/{place}", server.server) }]
            });
            if file && let Some(members) = location.as_object_mut() {
                members.insert(
                    "physicalLocation".into(),
                    json!({ "artifactLocation": { "uri": server.target }, "region": { "startLine": 1 } }),
                );
            }
            results.push(json!({
                "ruleId": rule,
                "level": word(level),
                "message": { "text": format!("{}: {place}: {message}", server.server) },
                "locations": [location],
            }));
        };
        for finding in &server.findings {
            add(finding.rule, finding.severity, &finding.place, &finding.message);
        }
        if let Some(error) = &server.asked.error {
            add(NOT_ASKED, Level::High, "server", error);
        }
    }
    let rules: Vec<Value> = rules.into_iter().map(|rule| json!({ "id": rule })).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "portcullis", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "results": results,
        }],
    })
}

const fn word(level: Level) -> &'static str {
    match level {
        Level::Info | Level::Low => "note",
        Level::Medium => "warning",
        Level::High => "error",
    }
}
