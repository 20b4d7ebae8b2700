//! Records of processing (GDPR, Art. 30), made from what the ledger says happened: which data went where, for what, how
//! often. Nothing else is read, so that nothing can be claimed that did not happen.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_core::Labels;
use serde_json::Value;

/// Purposes that are told apart; what comes after is counted together.
const PURPOSES_MAX: usize = 10_000;

/// How often something was found of one kind of data, and what was done about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Flow {
    /// Findings that passed.
    pub passed: u64,
    /// Findings that were masked or replaced by tokens.
    pub masked: u64,
    /// Findings that were refused.
    pub refused: u64,
}

/// What was processed for one purpose: calls of one thing on one server.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Processing {
    /// The server, who gets what callers send.
    pub recipient: String,
    /// Where it is.
    pub server_region: Option<String>,
    /// The tool, prompt or resource: what for.
    pub purpose: String,
    /// Calls.
    pub calls: u64,
    /// Regions of callers.
    pub caller_regions: BTreeSet<String>,
    /// Kinds of data, found or declared.
    pub categories: BTreeSet<String>,
    /// To the server, by detector.
    pub to_server: BTreeMap<String, Flow>,
    /// To callers, by detector.
    pub to_callers: BTreeMap<String, Flow>,
    /// When first.
    pub first: String,
    /// When last.
    pub last: String,
}

/// Records of processing.
#[derive(Debug, Default)]
pub struct Records(BTreeMap<(String, String), Processing>);

impl Records {
    /// Notes what an entry of the ledger says. `labels` are those of what a detector finds.
    pub fn note(&mut self, entry: &Value, labels: impl Fn(&str) -> Labels) {
        let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str);
        let refused = text("/event") == Some("call.refused");
        if text("/event") != Some("call.outcome") && !refused {
            return;
        }
        let (Some(server), Some(at)) = (text("/target/server"), text("/at")) else { return };
        let findings: Vec<&Value> =
            entry.get("findings").and_then(Value::as_array).into_iter().flatten().collect();
        // A refused call is one of ours alone where nothing of it was data.
        if refused && findings.is_empty() {
            return;
        }
        let mut key = (server.to_owned(), text("/target/name").unwrap_or_default().to_owned());
        if self.0.len() >= PURPOSES_MAX && !self.0.contains_key(&key) {
            key = (String::from("others"), String::new());
        }
        let row = self.0.entry(key.clone()).or_default();
        (row.recipient, row.purpose) = key;
        row.calls += 1;
        if row.first.is_empty() || at < row.first.as_str() {
            row.first = at.to_owned();
        }
        if at > row.last.as_str() {
            row.last = at.to_owned();
        }
        row.server_region = text("/data/server_region").map(str::to_owned).or(row.server_region.take());
        let texts = |pointer: &str| {
            let items = entry.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        row.caller_regions.extend(texts("/data/caller_regions"));
        row.categories.extend(texts("/data/labels").into_iter().filter(|name| is_data(name)));
        for finding in findings {
            row.found(finding, &labels);
        }
    }

    /// Everything, by recipient and purpose.
    #[must_use]
    pub fn rows(self) -> Vec<Processing> {
        self.0.into_values().collect()
    }
}

fn is_data(name: &str) -> bool {
    portcullis_core::Label::DATA.iter().any(|label| label.name() == name)
}

impl Processing {
    fn found(&mut self, finding: &Value, labels: &impl Fn(&str) -> Labels) {
        let text = |name: &str| finding.get(name).and_then(Value::as_str).unwrap_or_default();
        let kind = text("kind");
        let kinds = labels(kind).names().into_iter().filter(|name| is_data(name));
        let kinds: Vec<String> = kinds.map(str::to_owned).collect();
        // How a text is written is no data about anybody.
        if kinds.is_empty() {
            return;
        }
        self.categories.extend(kinds);
        let inward = text("place").starts_with("/params/arguments");
        let side = if inward { &mut self.to_server } else { &mut self.to_callers };
        let flow = side.entry(kind.to_owned()).or_default();
        match text("treatment") {
            "mask" => flow.masked += 1,
            "refuse" => flow.refused += 1,
            _ => flow.passed += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_inspect::labels_of;
    use serde_json::json;

    use super::*;

    fn entry(event: &str, tool: &str, at: &str, findings: Value) -> Value {
        json!({"event": event, "at": at, "target": {"server": "crm", "kind": "tool", "name": tool},
            "data": {"server_region": "eu", "caller_regions": ["us"]}, "findings": findings})
    }

    #[test]
    fn what_happened_is_counted_by_recipient_purpose_and_way_and_nothing_else_is() {
        let finding = |kind: &str, place: &str, treatment: &str| json!({"kind": kind, "place": place, "treatment": treatment, "severity": "low"});
        let mut records = Records::default();
        for entry in [
            entry(
                "call.outcome",
                "send",
                "2026-11-02",
                json!([finding("email", "/params/arguments/to", "pass")]),
            ),
            entry(
                "call.outcome",
                "send",
                "2026-11-01",
                json!([finding("email", "/params/arguments/to", "mask")]),
            ),
            entry(
                "call.outcome",
                "read",
                "2026-11-03",
                json!([
                    finding("payment_card", "/result/content/0/text", "mask"),
                    finding("homoglyphs", "/result", "pass")
                ]),
            ),
            entry(
                "call.refused",
                "send",
                "2026-11-04",
                json!([finding("email", "/params/arguments/cc", "refuse")]),
            ),
            entry("call.refused", "send", "2026-11-05", json!([])),
            entry(
                "call.intent",
                "send",
                "2026-11-06",
                json!([finding("email", "/params/arguments/to", "pass")]),
            ),
        ] {
            records.note(&entry, labels_of);
        }
        let rows = records.rows();
        let [read, send] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((send.calls, &*send.first, &*send.last), (3, "2026-11-01", "2026-11-04"));
        assert_eq!(send.to_server["email"], Flow { passed: 1, masked: 1, refused: 1 });
        assert_eq!(send.categories, BTreeSet::from(["personal".to_owned()]));
        assert!(send.to_callers.is_empty());
        assert_eq!(read.to_callers.keys().collect::<Vec<_>>(), ["payment_card"]);
        assert_eq!(read.categories, ["financial", "personal"].map(str::to_owned).into());
        assert_eq!((read.server_region.as_deref(), read.caller_regions.len()), (Some("eu"), 1));
    }
}
