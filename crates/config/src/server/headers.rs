//! Headers that are joined to requests to a server.

use std::collections::BTreeMap;

use super::check_literal;
use crate::{decode::Walk, values::Reference, yaml::Node};

/// Headers that the gateway sets itself.
const OWN_HEADERS: &[&str] = &[
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Judges their names and values.
pub(super) fn check(node: &Node, walk: &mut Walk, headers: &BTreeMap<String, Reference>) {
    for (name, value) in headers {
        let at = node.get("headers").and_then(|(_, map)| map.get(name)).map_or(node, |(_, value)| value);
        walk.key("headers", |walk| {
            walk.key(name, |walk| {
                let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
                if name.is_empty() || !name.bytes().all(token) {
                    walk.report(at, "is not the name of a header", "use letters, digits and `-`");
                } else if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                    walk.report(at, "the gateway sets this header itself", "remove it");
                }
                check_literal(at, walk, name, value);
            });
        });
    }
}
