//! The JSON reader against published vectors, against another reader, and against its own limits.
#![cfg(test)]

use std::{fs, path::PathBuf};

use portcullis_core::Limits;
use portcullis_mcp::json::{JsonError, JsonLimits, Stats, ValueKind, View, check, quote};
use proptest::prelude::*;
use serde_json::Value;

fn vectors(folder: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")).join(folder)
}

fn limits() -> JsonLimits {
    JsonLimits::request(&Limits::default())
}

fn agrees_with_serde_json(bytes: &[u8]) {
    let value: Value = serde_json::from_slice(bytes).expect("what we accept, serde_json accepts");
    assert_eq!(View::of(bytes).to_value(), value, "{}", String::from_utf8_lossy(bytes));
}

#[test]
fn the_json_test_suite_is_judged_as_its_file_names_say() {
    let (mut refused, mut accepted, mut either) = (0, 0, 0);
    for entry in fs::read_dir(vectors("jsontestsuite/test_parsing")).expect("the vectors are there") {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(&path).unwrap();
        let verdict = check(&bytes, &limits());
        if verdict.is_ok() {
            agrees_with_serde_json(&bytes);
        }
        match name.split_at(2).0 {
            "n_" => {
                assert!(verdict.is_err(), "{name} must be refused");
                refused += 1;
            }
            "y_" => {
                // Ours is the stricter rule: readers differ on which of two equal names counts.
                let duplicate = name.starts_with("y_object_duplicated_key");
                let as_expected = match verdict {
                    Ok(_) => !duplicate,
                    Err(JsonError::DuplicateName { .. }) => duplicate,
                    Err(_) => false,
                };
                assert!(as_expected, "{name}: {verdict:?}");
                accepted += 1;
            }
            "i_" => either += 1,
            _ => panic!("unknown kind of vector {name}"),
        }
    }
    assert_eq!((refused, accepted, either), (188, 95, 35));
}

#[test]
fn what_is_accepted_of_the_transform_vectors_reads_the_same_in_another_reader() {
    let mut count = 0;
    for entry in fs::read_dir(vectors("jsontestsuite/test_transform")).expect("the vectors are there") {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        if check(&bytes, &limits()).is_ok() {
            agrees_with_serde_json(&bytes);
        }
        count += 1;
    }
    assert_eq!(count, 22);
}

#[test]
fn naughty_strings_come_back_as_they_went_in() {
    let bytes = fs::read(vectors("naughty-strings/blns.json")).expect("the vectors are there");
    assert!(check(&bytes, &limits()).is_ok());
    let expected: Vec<String> = serde_json::from_slice(&bytes).unwrap();
    let read: Vec<_> = View::of(&bytes).elements().map(|text| text.as_str().unwrap()).collect();
    assert_eq!(read, expected);
    assert_eq!(read.len(), 515);
    for text in expected {
        let quoted = quote(&text);
        assert!(check(quoted.as_bytes(), &limits()).is_ok(), "{quoted}");
        assert_eq!(View::of(quoted.as_bytes()).as_str().unwrap(), text);
        assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
        let object = format!("{{{quoted}:{quoted}}}");
        assert!(View::of(object.as_bytes()).get(&text).unwrap().is_str(&text), "{object}");
    }
}

#[test]
fn each_fault_is_named_with_its_offset() {
    let long = format!("[{}]", "1,".repeat(20));
    for (text, error) in [
        (&b"\xef\xbb\xbf{}"[..], JsonError::ByteOrderMark { offset: 0 }),
        (b"[[[[[0]]]]]", JsonError::Depth { offset: 4, max: 4 }),
        (br#"{"a":1,"a":2}"#, JsonError::DuplicateName { offset: 7 }),
        (br#"{"a":1,"\u0061":2}"#, JsonError::DuplicateName { offset: 7 }),
        (br#"[{"b":{"x":0,"y":0,"x":0}}]"#, JsonError::DuplicateName { offset: 19 }),
        (br#"["\ud800"]"#, JsonError::LoneSurrogate { offset: 2 }),
        (br#"["\ud800\u0041"]"#, JsonError::LoneSurrogate { offset: 2 }),
        (br#"["\udc00"]"#, JsonError::LoneSurrogate { offset: 2 }),
        (br#"["\u12"]"#, JsonError::Malformed { offset: 2 }),
        (b"[1,]", JsonError::Malformed { offset: 3 }),
        (b"[1}", JsonError::Malformed { offset: 2 }),
        (br#"{"a":1,}"#, JsonError::Malformed { offset: 7 }),
        (b"", JsonError::Malformed { offset: 0 }),
        (b"  \t", JsonError::Malformed { offset: 3 }),
        (b"\"\x01\"", JsonError::Malformed { offset: 1 }),
        (b"\"abc", JsonError::Malformed { offset: 4 }),
        (b"\"abc\\", JsonError::Malformed { offset: 4 }),
        (b"nul", JsonError::Malformed { offset: 0 }),
        (long.as_bytes(), JsonError::Nodes { offset: 19, max: 10 }),
        (b"01", JsonError::Number { offset: 0 }),
        (b"[-]", JsonError::Number { offset: 1 }),
        (b"[1.]", JsonError::Number { offset: 1 }),
        (b"[1e]", JsonError::Number { offset: 1 }),
        (b"[1e999]", JsonError::Number { offset: 1 }),
        (&[b' '; 101], JsonError::Size { offset: 100, max: 100 }),
        (br#"["12345678901234567890123456789012"]"#, JsonError::String { offset: 1, max: 31 }),
        (b"{} {}", JsonError::Trailing { offset: 3 }),
        (b"\"\xff\"", JsonError::Utf8 { offset: 1 }),
        (b"\"\xed\xa0\x80\"", JsonError::Utf8 { offset: 1 }),
    ] {
        let limits = JsonLimits { bytes_max: 100, depth_max: 4, nodes_max: 10, string_bytes_max: 31 };
        assert_eq!(check(text, &limits), Err(error), "{}", String::from_utf8_lossy(text));
        assert_eq!(check(text, &limits).unwrap_err().offset(), error.offset());
    }
}

#[test]
fn what_lies_exactly_on_a_limit_is_accepted() {
    let limits = JsonLimits { bytes_max: 20, depth_max: 4, nodes_max: 5, string_bytes_max: 8 };
    for text in ["[[[[0]]]]", "[1,2,3,4]", "\"12345678\"", "          0         "] {
        assert!(check(text.as_bytes(), &limits).is_ok(), "{text}");
    }
}

#[test]
fn the_statistics_say_what_was_seen() {
    let stats = |text: &str| check(text.as_bytes(), &limits()).unwrap();
    assert_eq!(
        stats(r#"{"a":[1,{"b":null}]}"#),
        Stats { nodes: 5, depth: 3, non_ascii: false, unicode_escapes: false }
    );
    assert!(stats("\"\u{e9}\"").non_ascii);
    assert!(stats(r#"{"\u0061":0}"#).unicode_escapes);
    assert!(!stats(r#""\n\\u0061""#).unicode_escapes);
}

#[test]
fn nesting_of_a_hundred_thousand_overflows_nothing() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert!(matches!(check(deep.as_bytes(), &limits()), Err(JsonError::Depth { .. })));
    let unbounded = JsonLimits { depth_max: usize::MAX, ..limits() };
    let stats = check(deep.as_bytes(), &unbounded).unwrap();
    assert_eq!(stats.depth, 100_000);
    let view = View::of(deep.as_bytes());
    assert_eq!(view.span(), 0..200_000);
    let mut strings = 0;
    portcullis_mcp::answer::leaves(view, "", |_, _, _| strings += 1);
    assert_eq!(strings, 0);
}

#[test]
fn duplicates_are_found_in_large_objects_and_far_apart() {
    let members = |names: &mut dyn Iterator<Item = String>| {
        format!("{{{}}}", names.map(|name| format!("{}:0", quote(&name))).collect::<Vec<_>>().join(","))
    };
    for count in [15, 16, 17, 18, 50_000] {
        let good = members(&mut (0..count).map(|n| format!("member {n}")));
        assert!(check(good.as_bytes(), &limits()).is_ok(), "{count}");
        let bad = members(&mut (0..count).map(|n| format!("member {n}")).chain(["member 0".into()]));
        let second = bad.rfind("\"member 0\"").unwrap();
        assert_eq!(check(bad.as_bytes(), &limits()), Err(JsonError::DuplicateName { offset: second }));
        let escaped = bad.replacen("member 0", r"m\u0065mber 0", 1);
        assert!(matches!(check(escaped.as_bytes(), &limits()), Err(JsonError::DuplicateName { .. })));
    }
}

#[test]
fn equal_names_in_different_objects_and_names_that_differ_in_case_are_no_duplicates() {
    for text in [r#"{"a":{"a":{"a":0}},"b":{"a":0}}"#, r#"[{"a":0},{"a":0}]"#, r#"{"method":0,"Method":0}"#] {
        assert!(check(text.as_bytes(), &limits()).is_ok(), "{text}");
    }
}

#[test]
fn views_find_what_is_there_and_nothing_else() {
    let text = br#" { "a" : [ 1 , -2 , 3.0 , true , null , "x\ny" ] , "\u0062" : { "c" : { } } , "" : 18446744073709551615 } "#;
    assert!(check(text, &limits()).is_ok());
    let root = View::of(text);
    assert_eq!(root.kind(), ValueKind::Object);
    assert_eq!(root.raw(), &text[1..text.len() - 1]);
    let list = root.get("a").unwrap();
    let kinds: Vec<_> = list.elements().map(|element| element.raw()).collect();
    assert_eq!(kinds, [&b"1"[..], b"-2", b"3.0", b"true", b"null", br#""x\ny""#]);
    let at = |index| list.elements().nth(index).unwrap();
    assert_eq!(
        (at(0).as_u64(), at(1).as_u64(), at(1).as_i64(), at(2).as_i64()),
        (Some(1), None, Some(-2), None)
    );
    assert_eq!((at(3).as_bool(), at(4).as_bool(), at(4).is_null()), (Some(true), None, true));
    assert_eq!(at(5).as_str().unwrap(), "x\ny");
    assert_eq!(root.path(&["b", "c"]).unwrap().raw(), b"{ }");
    assert_eq!(root.get("").unwrap().as_u64(), Some(u64::MAX));
    assert!(root.get("\\u0062").is_none() && root.get("nothing").is_none());
    let names: Vec<_> = root.members().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(names, ["a", "b", ""]);
    assert!(root.elements().next().is_none() && list.members().next().is_none());
    assert!(list.get("a").is_none() && root.path(&["a", "b"]).is_none());
}

/// JSON texts of every kind of value, sometimes with odd spacing and escapes.
fn json_text() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?",
    ];
    let string = prop_oneof![
        any::<String>().prop_map(|text| quote(&text)),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#""\u00e9\ud83d\ude00\/\b\f""#.to_owned()),
    ];
    let leaf =
        prop_oneof![number, string.clone(), Just("true".into()), Just("false".into()), Just("null".into())];
    let space = "[ \n\r\t]{0,2}";
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..8), space).prop_map(|(items, space)| format!(
                "[{space}{}{space}]",
                items.join(&format!("{space},{space}"))
            )),
            (prop::collection::vec((string.clone(), inner), 0..24), space).prop_map(|(members, space)| {
                let members: Vec<_> = members
                    .into_iter()
                    .map(|(name, value)| format!("{name}{space}:{space}{value}"))
                    .collect();
                format!("{{{space}{}{space}}}", members.join(","))
            }),
        ]
    })
}

/// Whether any object has two members of one name, by way of another reader.
fn has_duplicate_names(text: &str) -> bool {
    struct Strict;
    impl<'de> serde::Deserialize<'de> for Strict {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Visitor)
        }
    }
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Strict;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("JSON")
        }
        fn visit_bool<E>(self, _: bool) -> Result<Strict, E> {
            Ok(Strict)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Strict, E> {
            Ok(Strict)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Strict, E> {
            Ok(Strict)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Strict, E> {
            Ok(Strict)
        }
        fn visit_str<E>(self, _: &str) -> Result<Strict, E> {
            Ok(Strict)
        }
        fn visit_unit<E>(self) -> Result<Strict, E> {
            Ok(Strict)
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Strict, A::Error> {
            while list.next_element::<Strict>()?.is_some() {}
            Ok(Strict)
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
            let mut names = std::collections::BTreeSet::new();
            while let Some((name, _)) = map.next_entry::<String, Strict>()? {
                if !names.insert(name) {
                    return Err(serde::de::Error::custom("twice"));
                }
            }
            Ok(Strict)
        }
    }
    serde_json::from_str::<Strict>(text).is_err()
}

proptest! {
    #[test]
    fn well_formed_texts_read_as_another_reader_reads_them(text in json_text()) {
        let verdict = check(text.as_bytes(), &limits());
        if has_duplicate_names(&text) {
            let named = matches!(verdict, Err(JsonError::DuplicateName { .. }));
            prop_assert!(named, "{:?} {}", verdict, text);
        } else {
            prop_assert!(verdict.is_ok(), "{:?} {}", verdict, text);
            let view = View::of(text.as_bytes());
            prop_assert_eq!(view.to_value(), serde_json::from_str::<Value>(&text).unwrap());
            prop_assert_eq!(view.span(), 0..text.len());
        }
    }

    #[test]
    fn damaged_texts_get_the_same_verdict_from_another_reader(
        text in json_text(), at in any::<prop::sample::Index>(), with in prop::sample::select(&b"{}[]\":,\\0e-. \nt\x80\x00u"[..])
    ) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = with;
        let ours = check(&bytes, &limits());
        match serde_json::from_slice::<Value>(&bytes) {
            // Stricter by design: duplicate names.
            Ok(_) if matches!(ours, Err(JsonError::DuplicateName { .. })) => {}
            Ok(value) => {
                prop_assert!(ours.is_ok(), "{:?} {}", ours, String::from_utf8_lossy(&bytes));
                prop_assert_eq!(View::of(&bytes).to_value(), value);
            }
            Err(_) => prop_assert!(ours.is_err(), "accepted {}", String::from_utf8_lossy(&bytes)),
        }
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let ours = check(&bytes, &limits()).is_ok();
        prop_assert!(!ours || serde_json::from_slice::<Value>(&bytes).is_ok());
        // Views of a text that nobody checked are worthless, but they end.
        let view = View::of(&bytes);
        let _ = (view.span(), view.get("a"), view.as_str(), view.to_value());
        prop_assert!(view.members().count() + view.elements().count() <= bytes.len());
        portcullis_mcp::answer::leaves(view, "", |_, _, _| {});
    }

    #[test]
    fn quoted_text_reads_back(text in any::<String>()) {
        let quoted = quote(&text);
        prop_assert!(check(quoted.as_bytes(), &limits()).is_ok());
        prop_assert_eq!(View::of(quoted.as_bytes()).as_str().unwrap(), text);
    }
}
