//! Serialised objects that run code where they are read: Java, .NET, Python, PHP, Ruby, Node, YAML.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::attacks::{Argument, Attack};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "deserialization",
    doc: "Serialised objects that run code where they are read, in arguments.",
    build: |_| Ok(Box::new(Attack { score })),
};

/// What serialisers of programs write, in Base64 and in hex, with its own case.
const HEADS: &[&str] = &["rO0AB", "aced0005", "ACED0005", "AAEAAAD/////", "BAhvO", "BAhbCG86"];
/// The same, where chance writes it now and then.
const WEAK_HEADS: &[&str] = &["gASV", "gAJ", "gAN", "gAR", "/wEy", "/wEP"];
/// What names a type or a function to be made on reading.
const NAMES: &[&str] = &[
    "!!python/",
    "!!javax.",
    "!!java.",
    "!ruby/object",
    "!ruby/hash",
    "_$$nd_func$$_",
    "__reduce__",
    "c__builtin__\n",
    "cos\nsystem",
    "cposix\nsystem",
    "ysoserial",
];

fn score(argument: &Argument<'_>) -> u16 {
    let raw = argument.raw.trim_ascii_start();
    let starts = |marks: &[&str]| marks.iter().any(|mark| raw.starts_with(mark.as_bytes()));
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let types =
        ["com.sun.", "objectdataprovider", "system.diagnostics", "java.", "org.apache.", "system.windows"];
    let score = match () {
        () if starts(HEADS) => 950,
        () if argument.has_any(NAMES) => 900,
        () if argument.has_any(&["\"@type\"", "\"$type\""]) && argument.has_any(&types) => 900,
        () if php(argument.text()) => 850,
        () if starts(WEAK_HEADS) && raw.len() >= 24 && raw.iter().all(base64) => 750,
        () => 0,
    };
    if score < 950 && (argument.is_prose() || argument.is_long()) { score / 3 } else { score }
}

/// `O:8:"stdClass":1:{s:3:"foo";…}`, also in an array.
fn php(text: &[u8]) -> bool {
    memchr::memmem::find_iter(text, b"o:").any(|at| {
        let digits = text.get(at + 2..).unwrap_or_default();
        let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let rest = digits.get(count..).unwrap_or_default();
        let before = at.checked_sub(1).and_then(|at| text.get(at));
        before.is_none_or(|byte| !byte.is_ascii_alphanumeric())
            && (1..=4).contains(&count)
            && rest.starts_with(b":\"")
            && memchr::memmem::find(rest, b":{").is_some()
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{attacks, harmless};

    #[test]
    fn catches_objects_of_every_language() {
        for text in [
            "rO0ABXNyABFqYXZhLnV0aWwuSGFzaE1hcA==",
            "O:8:\"Evil\":1:{s:3:\"cmd\";s:2:\"id\";}",
            "!!python/object/apply:os.system ['id']",
            "{\"rce\":\"_$$ND_FUNC$$_function(){}()\"}",
            "cos\nsystem\n(S'id'\ntR.",
            "{\"@type\":\"com.sun.rowset.JdbcRowSetImpl\"}",
            "AAEAAAD/////AQAAAAAAAAAMAgAAAElTeXN0",
            "--- !ruby/object:Gem::Installer",
        ] {
            attacks("deserialization", "data", text);
        }
    }

    #[test]
    fn leaves_other_data() {
        for text in ["aGVsbG8gd29ybGQ=", "{\"@type\":\"Person\"}", "to: 8: \"x\"", "gAJ"] {
            harmless("deserialization", "data", text);
        }
    }
}
