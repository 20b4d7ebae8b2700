//! Elastic Common Schema 8.17.

use serde_json::{Map, Value, json};

use super::{Body, Format, PRODUCT, VERSION};
use crate::{Grade, Seen};

/// The kind.
pub(super) const KIND: Format = Format {
    name: "ecs",
    doc: "Elastic Common Schema 8.17; the whole entry stands under `portcullis`.",
    render,
};

fn categories(seen: &Seen) -> &'static [&'static str] {
    let (event, code) = (seen.event(), seen.text("/code"));
    if matches!(
        event,
        "canary.seen" | "secret.leaked" | "sandbox.denied" | "definition.changed" | "definition.held"
    ) {
        return &["intrusion_detection"];
    }
    if code.starts_with("auth.") || event == "admin.refused" {
        return &["authentication"];
    }
    match event.split('.').next().unwrap_or_default() {
        "call" | "server" => &["api"],
        "key" | "grant" | "connection" | "approval" | "subject" => &["iam"],
        "gateway" | "ledger" | "sink" => &["process"],
        _ => &["configuration"],
    }
}

fn render(seen: &Seen) -> Vec<Body> {
    let alert = seen.grade >= Grade::High;
    let outcome = match seen.event() {
        "call.refused" | "admin.refused" | "config.refused" => "failure",
        "call.intent" => "unknown",
        _ => "success",
    };
    let mut body = Map::from_iter([
        ("@timestamp".to_owned(), json!(seen.text("/at"))),
        ("message".to_owned(), json!(seen.line())),
        ("ecs".to_owned(), json!({ "version": "8.17.0" })),
        (
            "event".to_owned(),
            json!({
                "id": seen.id(),
                "action": seen.event(),
                "category": categories(seen),
                "code": seen.text("/code"),
                "dataset": "portcullis.ledger",
                "kind": if alert { "alert" } else { "event" },
                "module": "portcullis",
                "outcome": outcome,
                "sequence": seen.index,
                "severity": seen.grade.of([21, 47, 64, 73, 99]),
                "type": if outcome == "failure" { ["denied"] } else { ["info"] },
            }),
        ),
        (
            "observer".to_owned(),
            json!({
                "name": &*seen.log, "product": PRODUCT, "type": "proxy", "vendor": PRODUCT, "version": VERSION,
            }),
        ),
        ("portcullis".to_owned(), Value::Object(seen.entry.clone())),
    ]);
    let optional = [
        ("user", "id", "/actor/id"),
        ("source", "ip", "/source"),
        ("service", "name", "/target/server"),
        ("trace", "id", "/trace"),
    ];
    for (object, member, pointer) in optional {
        let text = seen.text(pointer);
        // An address that was replaced by a digest is none any more.
        let address = object != "source" || text.parse::<core::net::IpAddr>().is_ok();
        if !text.is_empty() && address {
            body.insert(object.to_owned(), json!({ member: text }));
        }
    }
    vec![Body::Json(Value::Object(body))]
}
