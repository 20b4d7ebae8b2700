//! How detectors are checked: what they report of a text, and that the quick look agrees however the text is written.

extern crate std;

use alloc::{format, string::String, vec::Vec};

use portcullis_core::Direction;

use crate::{CATALOG, DetectorSettings, InspectSettings, Inspector};

/// Only `detector` runs, with its defaults.
pub(crate) fn only(detector: &str) -> Inspector {
    let mut settings = InspectSettings::default();
    for (name, settings) in &mut settings.detectors {
        *settings = DetectorSettings { enabled: name == detector, ..*settings };
    }
    assert!(CATALOG.iter().any(|kind| kind.name == detector), "{detector}");
    Inspector::new(&settings).unwrap()
}

/// The detector reports exactly these texts, joined by `|`.
pub(crate) fn found(detector: &str, text: &str, expected: &str) {
    let inspector = only(detector);
    let mut matches = Vec::new();
    inspector.scan(Direction::Outward, "/x", text, &mut matches);
    let seen: Vec<&str> = matches.iter().map(|one| text.get(one.range.clone()).unwrap()).collect();
    assert_eq!(seen.join("|"), expected, "in {text:?}");
    if !matches.is_empty() {
        for raw in writings(text) {
            assert!(
                inspector.quick(Direction::Outward, raw.as_bytes(), raw.contains("\\u")),
                "the quick look misses it in {raw}"
            );
            assert!(
                inspector.quick(Direction::Outward, raw.as_bytes(), true),
                "the quick look misses it in {raw}"
            );
        }
    }
}

/// The detector reports nothing.
pub(crate) fn nothing(detector: &str, text: &str) {
    found(detector, text, "");
}

/// The detector takes the argument of that name for an attack.
pub(crate) fn attacks(detector: &str, key: &str, text: &str) {
    assert!(attacked(detector, key, text), "nothing is seen in {text:?}");
    for raw in writings(text) {
        let raw = format!("{{\"{key}\":{raw}}}");
        let seen = only(detector).quick(Direction::Inward, raw.as_bytes(), raw.contains("\\u"));
        assert!(seen, "the quick look misses it in {raw}");
    }
}

/// The detector takes the argument of that name for nothing.
pub(crate) fn harmless(detector: &str, key: &str, text: &str) {
    assert!(!attacked(detector, key, text), "an attack is seen in {text:?}");
}

fn attacked(detector: &str, key: &str, text: &str) -> bool {
    let mut matches = Vec::new();
    only(detector).scan(Direction::Inward, &format!("/params/arguments/{key}"), text, &mut matches);
    !matches.is_empty()
}

/// The text as JSON writes it: plainly, with everything beyond ASCII escaped, with slashes escaped, all escaped.
pub(crate) fn writings(text: &str) -> [String; 4] {
    let plain = serde_json::to_string(text).unwrap();
    let escape = |keep: fn(char) -> bool| -> String {
        let mut out = String::from("\"");
        for c in text.chars() {
            if keep(c) {
                out.push(c);
            } else {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04X}")));
            }
        }
        out.push('"');
        out
    };
    let ascii = escape(|c| c.is_ascii() && !c.is_control() && c != '"' && c != '\\');
    let all = escape(|_| false);
    let slashes = plain.replace('/', "\\/");
    [plain, ascii, slashes, all]
}
