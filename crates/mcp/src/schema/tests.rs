//! The published suite, with its remote documents given in memory, and our own bounds.

extern crate std;

use std::{
    borrow::ToOwned,
    collections::BTreeMap,
    format, fs,
    path::{Path, PathBuf},
    string::{String, ToString as _},
    sync::Arc,
    vec,
    vec::Vec,
};

use jsonschema::{Retrieve, Uri};
use portcullis_core::Limits;
use serde_json::{Value, json};

use super::{Schema, SchemaError, VIOLATIONS_MAX};
use crate::json::View;

fn suite(folder: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/json-schema-2020-12");
    PathBuf::from(root).join(folder)
}

/// Every JSON file below a folder, by its path from there.
fn files(folder: &Path) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("the vectors are there") {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                found.insert(name, serde_json::from_slice(&fs::read(&path).unwrap()).unwrap());
            }
        }
    }
    found
}

/// The suite's own remote documents, in memory.
#[derive(Clone)]
struct Remotes(Arc<BTreeMap<String, Value>>);

impl Retrieve for Remotes {
    fn retrieve(
        &self,
        uri: &Uri<String>,
    ) -> Result<Value, std::boxed::Box<dyn std::error::Error + Send + Sync>> {
        let path = uri.as_str().strip_prefix("http://localhost:1234/").unwrap_or_default();
        self.0.get(path).cloned().ok_or_else(|| "not one of the suite's documents".into())
    }
}

/// Counts of cases that passed and the descriptions of those that did not.
fn run(folder: &Path, wanted: impl Fn(&str) -> bool) -> (usize, Vec<String>) {
    let remotes = Remotes(Arc::new(files(&suite("remotes"))));
    let (mut passed, mut failed) = (0, Vec::new());
    for (file, groups) in files(folder).iter().filter(|(file, _)| wanted(file)) {
        for group in groups.as_array().unwrap() {
            let schema =
                Schema::build(&group["schema"], 64, || jsonschema::options().with_retriever(remotes.clone()));
            for case in group["tests"].as_array().unwrap() {
                let data = case["data"].to_string();
                let valid =
                    schema.as_ref().is_ok_and(|schema| schema.check(Some(View::of(data.as_bytes()))).is_ok());
                if schema.is_ok() && valid == case["valid"].as_bool().unwrap() {
                    passed += 1;
                } else {
                    failed.push(format!("{file}: {}: {}", group["description"], case["description"]));
                }
            }
        }
    }
    (passed, failed)
}

#[test]
fn the_required_suite_passes() {
    let (passed, failed) = run(&suite("tests/draft2020-12"), |file| !file.starts_with("optional/"));
    assert_eq!(failed, [] as [String; 0]);
    assert_eq!(passed, 1299);
}

#[test]
fn the_optional_suite_has_the_listed_outcomes() {
    let (passed, failed) = run(&suite("tests/draft2020-12/optional"), |_| true);
    let mut outcome = BTreeMap::<_, usize>::new();
    for case in &failed {
        *outcome.entry(case.split(':').next().unwrap()).or_default() += 1;
    }
    // Formats are annotations in draft 2020-12, so their cases with bad values are accepted. The one in
    // cross-draft refers to a document of an older draft that is not among the vectors.
    let expected = [
        ("cross-draft.json", 1),
        ("format/date-time.json", 19),
        ("format/date.json", 58),
        ("format/duration.json", 25),
        ("format/ecmascript-regex.json", 6),
        ("format/email.json", 11),
        ("format/hostname.json", 35),
        ("format/idn-email.json", 2),
        ("format/idn-hostname.json", 54),
        ("format/ipv4.json", 30),
        ("format/ipv6.json", 25),
        ("format/iri-reference.json", 2),
        ("format/iri.json", 6),
        ("format/json-pointer.json", 12),
        ("format/regex.json", 1),
        ("format/relative-json-pointer.json", 12),
        ("format/time.json", 28),
        ("format/uri-reference.json", 11),
        ("format/uri-template.json", 13),
        ("format/uri.json", 25),
        ("format/uuid.json", 13),
    ];
    assert_eq!((passed, outcome), (537, BTreeMap::from(expected)));
}

fn compile(schema: &Value) -> Result<Schema, SchemaError> {
    Schema::compile(schema.to_string().as_bytes(), &Limits::default())
}

fn fits(schema: &Schema, value: &Value) -> bool {
    schema.check(Some(View::of(value.to_string().as_bytes()))).is_ok()
}

#[test]
fn nothing_outside_the_schema_is_fetched() {
    for reference in [
        "http://example.com/a",
        "https://localhost/a",
        "file:///etc/passwd",
        "other.json",
        "urn:x:y",
        "#/nowhere",
    ] {
        let error = compile(&json!({"properties": {"a": {"$ref": reference}}})).unwrap_err();
        assert!(matches!(error, SchemaError::Invalid { .. }), "{reference}: {error}");
    }
    assert!(compile(&json!({"$schema": "http://example.com/dialect"})).is_err());
    assert!(compile(&json!({"$ref": "https://json-schema.org/draft/2020-12/schema"})).is_ok());
}

#[test]
fn the_dialect_is_2020_12_unless_another_is_declared() {
    let tuple = |dialect: Option<&str>| {
        let mut schema = json!({"properties": {"a": {"prefixItems": [{"type": "integer"}]}}});
        if let Some(dialect) = dialect {
            schema["$schema"] = dialect.into();
        }
        fits(&compile(&schema).unwrap(), &json!({"a": ["x"]}))
    };
    assert!(!tuple(None));
    assert!(!tuple(Some("https://json-schema.org/draft/2020-12/schema")));
    // Draft-07 does not know the keyword.
    assert!(tuple(Some("http://json-schema.org/draft-07/schema#")));
}

#[test]
fn absent_arguments_are_an_empty_object() {
    let schema = compile(&json!({"type": "object"})).unwrap();
    assert!(schema.check(None).is_ok());
    let schema = compile(&json!({"type": "object", "required": ["a"]})).unwrap();
    assert_eq!(schema.check(None).unwrap_err()[0].rule, "/required");
}

#[test]
fn violations_say_where_but_never_what() {
    let schema = json!({"properties": {"list": {"items": {"type": "integer", "enum": [1]}}}, "additionalProperties": false});
    let schema = compile(&schema).unwrap();
    let arguments = json!({"list": (0..50).map(|_| "hunter2").collect::<Vec<_>>()}).to_string();
    let violations = schema.check(Some(View::of(arguments.as_bytes()))).unwrap_err();
    assert_eq!(violations.len(), VIOLATIONS_MAX);
    assert_eq!(violations[0].to_string(), "`/list/0` does not fit `/properties/list/items/type`");
    for violation in violations {
        assert!(!violation.to_string().contains("hunter2"), "{violation}");
    }
}

#[test]
fn schemas_beyond_the_limits_are_refused() {
    let limits = Limits { schema_bytes_max: 300, ..Limits::default() };
    let long = json!({"description": "x".repeat(300)}).to_string();
    assert!(matches!(Schema::compile(long.as_bytes(), &limits), Err(SchemaError::Json(_))));
    let deep = "{\"not\":".repeat(70) + "{}" + &"}".repeat(70);
    assert!(matches!(Schema::compile(deep.as_bytes(), &Limits::default()), Err(SchemaError::Json(_))));
    for bad in [
        "",
        "{",
        r#"{"type":1}"#,
        r#"{"type":"strnig"}"#,
        "[]",
        "7",
        r#"{"pattern":"("}"#,
        r#"{"a":0,"a":0}"#,
    ] {
        assert!(Schema::compile(bad.as_bytes(), &Limits::default()).is_err(), "{bad}");
    }
    assert!(compile(&json!({"pattern": "(a{1000}){1000}"})).is_err());
}

#[test]
fn costly_patterns_end_soon() {
    let evil = "a".repeat(50_000) + "!";
    for pattern in ["^(a+)+$", "^(a|a)*$", "^(?=(a+)+$)b?(a+)+$", r"^(a|a)*\1b"] {
        let schema = compile(&json!({"properties": {"a": {"pattern": pattern}}})).unwrap();
        assert!(!fits(&schema, &json!({"a": evil})), "{pattern}");
    }
    // What generators emit: look-around in the pattern for e-mail addresses.
    let email =
        r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$";
    let schema = compile(&json!({"properties": {"a": {"format": "email", "pattern": email}}})).unwrap();
    assert!(fits(&schema, &json!({"a": "a.b@example.com"})));
    assert!(!fits(&schema, &json!({"a": "a..b@example.com"})));
}

#[test]
fn circles_that_consume_nothing_are_refused_and_recursion_over_the_value_works() {
    let node = json!({"properties": {"next": {"$ref": "#/$defs/n"}}, "required": ["v"]});
    let list = compile(&json!({"$defs": {"n": node}, "$ref": "#/$defs/n"})).unwrap();
    assert!(fits(&list, &json!({"v": 1, "next": {"v": 2}})));
    assert!(!fits(&list, &json!({"v": 1, "next": {}})));
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
        json!({"if": {"$ref": "#"}}),
    ] {
        assert!(matches!(compile(&schema), Err(SchemaError::Costly)), "{schema}");
    }
    // Each level of the value meets the schema twice: without memory this would take 2^64 steps.
    let twice = compile(&json!({"allOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]})).unwrap();
    let deep = "[".repeat(64) + &"]".repeat(64);
    assert!(twice.check(Some(View::of(deep.as_bytes()))).is_ok());
}

/// Definitions `d0` to `dN`, each made from the next by `make`.
fn chain(count: usize, make: impl Fn(Value) -> Value) -> Value {
    let mut defs = serde_json::Map::new();
    for index in 0..count {
        defs.insert(format!("d{index}"), make(json!({"$ref": format!("#/$defs/d{}", index + 1)})));
    }
    defs.insert(format!("d{count}"), json!({"type": "object"}));
    json!({"$defs": defs, "$ref": "#/$defs/d0"})
}

#[test]
fn references_that_multiply_or_nest_too_deep_are_refused() {
    let double = |next: Value| json!({"allOf": [next.clone(), next]});
    let property =
        |next: Value| json!({"anyOf": [{"properties": {"a": next.clone()}}, {"properties": {"a": next}}]});
    let single = |next: Value| next;
    let hidden = |next: Value| json!({"anyOf": [{"properties": {"enum": next.clone()}}, {"properties": {"enum": next}}]});
    for count in [30, 1000] {
        for schema in [
            chain(count, double),
            chain(count, property),
            chain(count, hidden),
            chain(count.max(300), single),
        ] {
            assert!(matches!(compile(&schema), Err(SchemaError::Costly)), "{count}");
        }
    }
    for schema in [chain(6, double), chain(6, property), chain(20, single)] {
        assert!(fits(&compile(&schema).unwrap(), &json!({"a": {}})));
    }
    // By anchors, by escaped pointers, and by what is not followed at all.
    let anchored = |name: &str, at: &dyn Fn(usize) -> String| {
        let defs: serde_json::Map<_, _> = (0..40)
            .map(|n| {
                let next = json!({"$ref": at(n + 1)});
                (format!("d{n}"), json!({name: format!("{}", at(n).trim_start_matches('#')), "allOf": [next.clone(), next]}))
            })
            .collect();
        json!({"$defs": defs, "$ref": at(0)})
    };
    for schema in [
        anchored("$anchor", &|n| format!("#x{n}")),
        anchored("title", &|n| format!("#/%24defs/d{n}")),
        anchored("$id", &|n| format!("d{n}.json")),
    ] {
        assert!(matches!(compile(&schema), Err(SchemaError::Costly)), "{schema}");
    }
}

#[test]
fn the_costliest_schema_within_the_bounds_fits_on_a_small_stack() {
    for (depth, count) in [(64, 14), (512, 0)] {
        let limits = Limits { json_depth_max: depth, ..Limits::default() };
        // As deep as references may nest in place, at every level of the deepest value.
        let recursive = |count: usize| {
            let mut schema = chain(count, |next| json!({"anyOf": [next]}));
            schema["$defs"][format!("d{count}")] = json!({"items": {"$ref": "#"}});
            Schema::compile(schema.to_string().as_bytes(), &limits)
        };
        assert!(matches!(recursive(count + 3), Err(SchemaError::Costly)));
        let schema = recursive(count).unwrap();
        let run = move || {
            let depth = usize::try_from(depth).unwrap();
            let deep = "[".repeat(depth) + &"]".repeat(depth);
            assert!(schema.check(Some(View::of(deep.as_bytes()))).is_ok());
        };
        std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
    }
}

#[test]
fn the_longest_path_within_the_bounds_fits_on_a_small_stack() {
    let run = || {
        let schema = compile(&chain(253, |next| next)).unwrap();
        assert!(fits(&schema, &json!({})) && !fits(&schema, &json!(1)));
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn a_deep_value_overflows_nothing() {
    let schema = compile(&json!({"items": {"$ref": "#"}, "maxItems": 1})).unwrap();
    let deep = "[".repeat(512) + &"]".repeat(512);
    assert!(schema.check(Some(View::of(deep.as_bytes()))).is_ok());
}

#[test]
fn a_null_counts_as_left_out_where_a_header_mirrors_the_argument_and_it_may_be_left_out() {
    let schema =
        compile(&json!({"type": "object", "required": ["a"], "additionalProperties": false, "properties": {
        "a": {"type": "string"}, "b": {"type": "boolean"}, "c/~": {"enum": [1]}, "n": {"type": "null"},
        "d": {"type": "integer"}, "o": {"type": "object", "properties": {"b": {"type": "boolean"}}}}}))
        .unwrap();
    let mirrored = [vec!["a"], vec!["b"], vec!["c/~"], vec!["n"], vec!["unknown"], vec!["o", "b"]]
        .map(|path| path.into_iter().map(str::to_owned).collect::<Vec<_>>());
    for (arguments, expected) in [
        (json!({"a": "x", "b": null, "c/~": null, "n": null}), true),
        (json!({"a": "x", "o": {"b": null}}), true),
        (json!({"a": null}), false),
        (json!({"a": "x", "b": null, "c/~": 2}), false),
        (json!({"a": "x", "d": null}), false),
        (json!({"a": "x", "b": null, "d": null}), false),
        (json!({"a": "x", "o": null}), false),
        (json!({"a": "x", "extra": null}), false),
        (json!(null), false),
    ] {
        let text = arguments.to_string();
        let paths = mirrored.iter().map(Vec::as_slice);
        let fits = schema.check_call(Some(View::of(text.as_bytes())), paths).is_ok();
        assert_eq!(fits, expected, "{arguments}");
        let plain = schema.check_call(Some(View::of(text.as_bytes())), []).is_ok();
        assert!(!plain, "{arguments}");
    }
    assert!(schema.check_call(Some(View::of(br#"{"a":"x","n":null}"#)), []).is_ok());
}
