//! The entry as the ledger has it.

use serde_json::json;

use super::{Body, Format};
use crate::Seen;

/// The kind.
pub(super) const KIND: Format = Format {
    name: "json",
    doc: "The ledger entry under `entry`, with the name of its log, its index and how grave it is.",
    render,
};

fn render(seen: &Seen) -> Vec<Body> {
    let body = json!({
        "id": seen.id(),
        "log": &*seen.log,
        "index": seen.index,
        "severity": seen.grade.name(),
        "message": seen.line(),
        "entry": seen.entry,
    });
    vec![Body::Json(body)]
}
