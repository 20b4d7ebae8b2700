//! IBM QRadar Log Event Extended Format, version 2.0.

use super::{Body, Format, PRODUCT, VERSION, cef};
use crate::Seen;

/// The kind.
pub(super) const KIND: Format = Format {
    name: "leef",
    doc: "IBM QRadar Log Event Extended Format (LEEF:2.0), one line of text with tabs between attributes.",
    render,
};

/// Attributes end at a tab, and headers at a bar; the format has no way to write either.
fn clean(text: &str) -> String {
    text.replace(['\t', '\n', '\r', '|'], " ")
}

fn render(seen: &Seen) -> Vec<Body> {
    let mut line = format!("LEEF:2.0|{PRODUCT}|{PRODUCT}|{VERSION}|{}|x09|", clean(seen.event()));
    let attributes = [
        ("devTime", seen.at_ms().to_string()),
        ("sev", seen.grade.of([1, 3, 5, 8, 10]).to_string()),
        ("identId", seen.id()),
        ("cat", seen.text("/code").to_owned()),
        ("src", seen.text("/source").to_owned()),
        ("usrName", seen.text("/actor/id").to_owned()),
        ("action", seen.text("/method").to_owned()),
        ("resource", seen.text("/target/server").to_owned()),
        ("target", seen.text("/target/name").to_owned()),
        ("trace", seen.text("/trace").to_owned()),
        ("findings", seen.kinds().join(",")),
        ("policy", cef::policies(seen)),
        ("msg", seen.line()),
    ];
    let written = attributes.into_iter().filter(|(_, text)| !text.is_empty());
    let written: Vec<String> = written.map(|(key, text)| format!("{key}={}", clean(&text))).collect();
    line.push_str(&written.join("\t"));
    vec![Body::Text(line)]
}
