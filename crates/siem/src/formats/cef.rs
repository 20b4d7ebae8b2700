//! ArcSight Common Event Format, version 0 (implementation standard, revision 25).

use super::{Body, Format, PRODUCT, VERSION};
use crate::Seen;

/// The kind.
pub(super) const KIND: Format =
    Format { name: "cef", doc: "ArcSight Common Event Format (CEF:0), one line of text.", render };

fn header(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ")
}

fn value(text: &str) -> String {
    text.replace('\\', "\\\\").replace('=', "\\=").replace('\r', "\\r").replace('\n', "\\n")
}

fn render(seen: &Seen) -> Vec<Body> {
    let severity = seen.grade.of([1, 3, 5, 8, 10]);
    let (event, code) = (seen.event(), seen.text("/code"));
    let name = if code.is_empty() { event } else { code };
    let mut line = format!(
        "CEF:0|{PRODUCT}|{PRODUCT}|{VERSION}|{}|{}|{severity}|rt={} externalId={} dvchost={}",
        header(event),
        header(name),
        seen.at_ms(),
        value(&seen.id()),
        value(&seen.log),
    );
    let outcome = if code.is_empty() { "" } else { "refused" };
    let fields = [
        ("src", seen.text("/source").to_owned()),
        ("suid", seen.text("/actor/id").to_owned()),
        ("act", seen.text("/method").to_owned()),
        ("destinationServiceName", seen.text("/target/server").to_owned()),
        ("outcome", outcome.to_owned()),
        ("reason", code.to_owned()),
        ("msg", seen.line()),
    ];
    let custom = [
        ("cs1", "target", seen.text("/target/name").to_owned()),
        ("cs2", "trace", seen.text("/trace").to_owned()),
        ("cs3", "findings", seen.kinds().join(",")),
        ("cs4", "policies", policies(seen)),
    ];
    for (key, text) in fields.into_iter().filter(|(_, text)| !text.is_empty()) {
        line.push_str(&format!(" {key}={}", value(&text)));
    }
    for (key, label, text) in custom.into_iter().filter(|(_, _, text)| !text.is_empty()) {
        line.push_str(&format!(" {key}Label={label} {key}={}", value(&text)));
    }
    vec![Body::Text(line)]
}

/// Ids of the policies that decided.
pub(super) fn policies(seen: &Seen) -> String {
    let list = seen.at("/decision/policies").and_then(serde_json::Value::as_array);
    let ids: Vec<&str> = list.into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
    ids.join(",")
}
