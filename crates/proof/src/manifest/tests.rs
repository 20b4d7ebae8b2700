//! Definitions are pinned by everything a model or a person can see of them.

extern crate std;
use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};
use std::{fs, path::Path};

use portcullis_core::{Digest, TargetKind};
use proptest::prelude::*;
use serde_json::Value;

use super::{Change, ManifestError, canonical, definition_digest, diff};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/jcs-rfc8785");

#[test]
fn canonical_json_is_byte_identical_with_the_six_published_vectors() {
    let mut seen = 0;
    for entry in fs::read_dir(Path::new(VECTORS).join("input")).expect("the vectors are there") {
        let input = entry.unwrap().path();
        let name = input.file_name().unwrap();
        let expected = fs::read(Path::new(VECTORS).join("output").join(name)).unwrap();
        assert_eq!(canonical(&fs::read(&input).unwrap()).unwrap(), expected, "{}", input.display());
        let hex =
            fs::read_to_string(Path::new(VECTORS).join("outhex").join(name).with_extension("txt")).unwrap();
        let bytes: Vec<u8> = hex.split_whitespace().map(|hex| u8::from_str_radix(hex, 16).unwrap()).collect();
        assert_eq!(bytes, expected);
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn texts_that_canonical_json_would_blur_are_refused() {
    let repeated = |name: &str| Err(ManifestError::Repeated(name.to_owned()));
    let integer = |text: &str| Err(ManifestError::UnsafeInteger(text.to_owned()));
    for (text, expected) in [
        (r#"{"a":1,"b":{"c":1,"c":2}}"#, repeated("c")),
        (r#"{"a":1,"\u0061":2}"#, repeated("a")),
        (r#"{"a":9007199254740992}"#, integer("9007199254740992")),
        (r#"{"a":[-9007199254740993]}"#, integer("-9007199254740993")),
        (r#"{"a":100000000000000000000000}"#, integer("100000000000000000000000")),
        (r#"{"a":9007199254740991,"b":"9007199254740993","c\"1":-9007199254740991}"#, Ok(())),
    ] {
        assert_eq!(canonical(text.as_bytes()).map(|_| ()), expected, "{text}");
    }
    let deep = "[".repeat(100_000);
    for bad in ["", "{", "{}{}", r#"{"a":1e400}"#, r#""\ud800""#, "nul", &deep, "\u{feff}{}", "{\"a\":01}"] {
        assert!(matches!(canonical(bad.as_bytes()), Err(ManifestError::Json(_))), "{bad:.20}");
    }
    assert_eq!(definition_digest(TargetKind::Tool, b"[]"), Err(ManifestError::NotAnObject));
}

#[test]
fn kinds_have_digests_of_their_own_and_order_and_space_do_not_count() {
    let definition = br#"{"name":"t","description":"d"}"#;
    let digests: Vec<Digest> =
        TargetKind::ALL.iter().map(|kind| definition_digest(*kind, definition).unwrap()).collect();
    for (i, digest) in digests.iter().enumerate() {
        assert!(!digests.iter().skip(i + 1).any(|other| other == digest));
    }
    let shuffled = b" { \"description\" : \"d\",\n\"name\":\"t\"}";
    let digest = definition_digest(TargetKind::Tool, definition).unwrap();
    assert_eq!(definition_digest(TargetKind::Tool, shuffled).unwrap(), digest);
    let expected = Digest::of(b"mcpgw/tool/v1\n{\"description\":\"d\",\"name\":\"t\"}");
    assert_eq!(digest, expected);
}

#[test]
fn every_single_member_changes_the_digest_also_unknown_ones() {
    let base = r#"{"name":"n","title":"t","description":"d","icons":[],"inputSchema":{"type":"object"},"outputSchema":{},"annotations":{"readOnlyHint":true},"_meta":{"a":1},"unknown":0}"#;
    let value: Value = serde_json::from_str(base).unwrap();
    let digest = definition_digest(TargetKind::Tool, base.as_bytes()).unwrap();
    for name in value.as_object().unwrap().keys() {
        let mut changed = value.clone();
        changed[name] = Value::from("other");
        let text = changed.to_string();
        assert_ne!(definition_digest(TargetKind::Tool, text.as_bytes()).unwrap(), digest, "{name}");
        let changes = diff(base.as_bytes(), text.as_bytes());
        let [change] = changes.as_slice() else { panic!("{changes:?}") };
        assert_eq!(
            (change.pointer.as_str(), change.after.as_deref()),
            (format!("/{name}").as_str(), Some("\"other\""))
        );
    }
}

#[test]
fn differences_are_named_by_pointer_with_both_values() {
    let change = |pointer: &str, before: Option<&str>, after: Option<&str>| Change {
        pointer: pointer.to_owned(),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
    };
    let old = br#"{"a":{"x/y":1,"gone":true},"l":[1,2],"same":[{}]}"#;
    let new = br#"{"a":{"x/y":2},"l":[1,3,{"b":1,"a":2}],"same":[{}]}"#;
    assert_eq!(
        diff(old, new),
        [
            change("/a/gone", Some("true"), None),
            change("/a/x~1y", Some("1"), Some("2")),
            change("/l/1", Some("2"), Some("3")),
            change("/l/2", None, Some(r#"{"a":2,"b":1}"#)),
        ]
    );
    assert_eq!(diff(old, old), []);
    assert_eq!(diff(b"{", b"{}"), [change("", Some("{"), Some("{}"))]);
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn the_canonical_form_is_its_own_canonical_form_and_differences_are_empty_only_then(a in json(), b in json()) {
        let (a, b) = (a.to_string(), b.to_string());
        // Floats beyond 2^53 print as integers in canonical form; those are refused when read again.
        let (first, second) = (canonical(a.as_bytes()).unwrap(), canonical(b.as_bytes()).unwrap());
        if let Ok(again) = canonical(&first) {
            prop_assert_eq!(&again, &first);
        }
        prop_assert_eq!(diff(a.as_bytes(), b.as_bytes()).is_empty(), first == second);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _: Result<Vec<u8>, ManifestError> = canonical(&bytes);
        let _: String = diff(&bytes, b"{}").iter().map(|change| change.pointer.clone()).collect();
    }
}
