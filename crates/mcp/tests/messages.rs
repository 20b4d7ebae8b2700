//! Envelopes, edits, methods, and the reading of answers.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use portcullis_core::{Action, Code, Limits, TargetKind};
use portcullis_mcp::{
    answer::{self, Place},
    json::{EditError, Edits, JsonError, JsonLimits, View, check, quote},
    jsonrpc::{Id, Message, MessageError, Shape},
    method::{self, Form, Side, TABLE},
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn limits() -> JsonLimits {
    JsonLimits::request(&Limits::default())
}

fn parse(text: &str) -> Result<Message, MessageError> {
    Message::parse(Bytes::copy_from_slice(text.as_bytes()), &limits())
}

fn edited(text: &str, edit: impl Fn(&mut Edits, View<'_>)) -> String {
    let mut edits = Edits::new();
    edit(&mut edits, View::of(text.as_bytes()));
    let out = edits.apply(&Bytes::copy_from_slice(text.as_bytes())).unwrap();
    assert!(check(&out, &limits()).is_ok(), "{}", String::from_utf8_lossy(&out));
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn messages_have_the_shape_that_their_members_say() {
    for (text, shape, id) in [
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, Shape::Request, Some("1")),
        (r#"{"jsonrpc":"2.0","id":"a","method":"tools/list","params":{}}"#, Shape::Request, Some("\"a\"")),
        (
            r#"{"id":18446744073709551615,"jsonrpc":"2.0","method":"m"}"#,
            Shape::Request,
            Some("18446744073709551615"),
        ),
        (r#"{"jsonrpc":"2.0","id":-3,"method":"m"}"#, Shape::Request, Some("-3")),
        (r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, Shape::Notification, None),
        (r#"{"jsonrpc":"2.0","id":7,"result":{}}"#, Shape::Response, Some("7")),
        (r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no"}}"#, Shape::Error, Some("7")),
        (r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"","data":[]}}"#, Shape::Error, None),
        (r#"{"jsonrpc":"2.0","error":{"code":1,"message":""}}"#, Shape::Error, None),
        (
            r#"{"jsonrpc":"\u0032.0","verb":"evil","id":1,"method":"ping","x":{"method":1}}"#,
            Shape::Request,
            Some("1"),
        ),
    ] {
        let message = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(message.shape(), shape, "{text}");
        assert_eq!(message.id().map(|id| id.to_string()).as_deref(), id, "{text}");
        assert_eq!(message.bytes(), text);
    }
}

#[test]
fn what_is_not_one_message_is_refused_by_name() {
    let long = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"m"}}"#, "x".repeat(1024));
    for (text, error) in [
        ("[]", MessageError::Batch),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, MessageError::Batch),
        ("1", MessageError::NotObject),
        ("null", MessageError::NotObject),
        ("{}", MessageError::Version),
        (r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#, MessageError::Version),
        (r#"{"jsonrpc":2.0,"id":1,"method":"m"}"#, MessageError::Version),
        (r#"{"JSONRPC":"2.0","id":1,"method":"m"}"#, MessageError::Case),
        (r#"{"jsonrpc":"2.0","id":1}"#, MessageError::Members),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","result":{}}"#, MessageError::Members),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}"#, MessageError::Members),
        (r#"{"jsonrpc":"2.0","id":1,"result":{},"params":{}}"#, MessageError::Members),
        (r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#, MessageError::IdForm),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"m"}"#, MessageError::IdForm),
        (r#"{"jsonrpc":"2.0","id":1e3,"method":"m"}"#, MessageError::IdForm),
        (r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#, MessageError::IdForm),
        (r#"{"jsonrpc":"2.0","id":true,"method":"m"}"#, MessageError::IdForm),
        (r#"{"jsonrpc":"2.0","id":null,"result":{}}"#, MessageError::IdForm),
        (&long, MessageError::IdForm),
        (r#"{"jsonrpc":"2.0","result":{}}"#, MessageError::IdMissing),
        (r#"{"jsonrpc":"2.0","id":1,"method":5}"#, MessageError::MethodForm),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[]}"#, MessageError::ParamsForm),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":null}"#, MessageError::ParamsForm),
        (r#"{"jsonrpc":"2.0","id":1,"result":[]}"#, MessageError::ResultForm),
        (r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#, MessageError::ErrorForm),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1.5,"message":""}}"#, MessageError::ErrorForm),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1}}"#, MessageError::ErrorForm),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"name":"safe","name":"evil"}}"#,
            MessageError::Json(JsonError::DuplicateName { offset: 61 }),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#,
            MessageError::Json(JsonError::DuplicateName { offset: 24 }),
        ),
    ] {
        assert_eq!(parse(text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn faults_of_messages_map_to_the_codes_of_the_table() {
    let code = |text: &str| parse(text).unwrap_err().code();
    assert_eq!(code("{"), Code::RequestMalformed);
    assert_eq!(code("[]"), Code::RequestInvalid);
    assert_eq!(code(r#"{"a":0,"a":0}"#), Code::RequestInvalid);
    assert_eq!(code(&"[".repeat(65)), Code::RequestTooLarge);
}

#[test]
fn ids_are_equal_when_they_mean_the_same_and_keep_their_bytes() {
    let id = |raw: &str| Id::from_json(Bytes::copy_from_slice(raw.as_bytes()));
    assert_eq!(id(r#""\u0061\/""#), id(r#""a/""#));
    assert_eq!(id("-0"), id("0"));
    assert_ne!(id("1"), id("\"1\""));
    assert_eq!(id(r#""\u0061""#).unwrap().raw().as_ref(), br#""\u0061""#);
    assert_eq!(id(r#""\u0061""#).unwrap().canonical(), br#""a""#);
    for bad in ["", "1.0", "1 2", "null", "[]", "\"", "01", "\"\\ud800\""] {
        assert!(id(bad).is_none(), "{bad}");
    }
}

#[test]
fn an_id_is_replaced_and_nothing_else() {
    let message = parse(r#"{ "id" : 1 , "jsonrpc":"2.0","method":"m","params":{"id":1,"n":1.0} }"#).unwrap();
    assert_eq!(
        message.with_id(b"\"x-9\""),
        r#"{ "id" : "x-9" , "jsonrpc":"2.0","method":"m","params":{"id":1,"n":1.0} }"#
    );
    let note = parse(r#"{"jsonrpc":"2.0","method":"m"}"#).unwrap();
    assert_eq!(note.with_id(b"1"), note.bytes());
}

#[test]
fn edits_change_the_smallest_span() {
    let text = r#"{"b":1.0,"a":[ 1, 2 ,3 ],"z":{},"big":123456789012345678901234567890}"#;
    assert_eq!(edited(text, |_, _| {}), text);
    let set = edited(text, |edits, root| {
        edits.set_member(root, "b", b"true");
        edits.set_member(root, "new", b"[]");
        edits.set_member(root.get("z").unwrap(), "x", b"1");
        edits.set_member(root.get("z").unwrap(), "y\"", b"2");
        edits.set_member(root.get("a").unwrap(), "ignored", b"0");
    });
    assert_eq!(
        set,
        r#"{"new":[],"b":true,"a":[ 1, 2 ,3 ],"z":{"x":1,"y\"":2},"big":123456789012345678901234567890}"#
    );
    for (keep, expected) in [
        (vec![1, 2, 3], "[ 1, 2 ,3 ]"),
        (vec![2, 3], "[ 2 ,3 ]"),
        (vec![1, 3], "[ 1, 3 ]"),
        (vec![1, 2], "[ 1, 2 ]"),
        (vec![2], "[ 2 ]"),
        (vec![3], "[ 3 ]"),
        (vec![1], "[ 1 ]"),
        (vec![], "[  ]"),
    ] {
        let kept = edited("[ 1, 2 ,3 ]", |edits, list| {
            edits.retain_elements(list, |element| keep.contains(&element.as_u64().unwrap()));
        });
        assert_eq!(kept, expected);
    }
    for (name, expected) in [
        ("a", r#"{"b" : [2], "c":3}"#),
        ("b", r#"{"a":1, "c":3}"#),
        ("c", r#"{"a":1, "b" : [2]}"#),
        ("d", r#"{"a":1, "b" : [2], "c":3}"#),
    ] {
        let text = r#"{"a":1, "b" : [2], "c":3}"#;
        assert_eq!(edited(text, |edits, root| edits.remove_member(root, name)), expected);
    }
}

#[test]
fn edits_that_overlap_or_lie_outside_are_refused() {
    let text = Bytes::from_static(b"[1,2,3]");
    let apply = |spans: &[core::ops::Range<usize>]| {
        let mut edits = Edits::new();
        spans.iter().for_each(|span| edits.replace(span.clone(), b"0".to_vec()));
        edits.apply(&text)
    };
    assert_eq!(apply(&[1..4, 3..5]), Err(EditError::Overlap { offset: 3 }));
    assert_eq!(apply(&[3..4, 3..4]), Err(EditError::Overlap { offset: 3 }));
    assert_eq!(apply(core::slice::from_ref(&(1..8))), Err(EditError::Outside { start: 1, end: 8 }));
    #[expect(clippy::reversed_empty_ranges, reason = "the mistake under test")]
    let backwards = 4..1;
    assert_eq!(apply(&[backwards]), Err(EditError::Outside { start: 4, end: 1 }));
    assert_eq!(apply(&[5..6, 1..2]).unwrap(), "[0,2,0]");
}

#[test]
fn the_method_table_has_no_duplicate_and_is_consistent() {
    let names: BTreeSet<_> = TABLE.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), TABLE.len());
    for row in TABLE {
        assert!(row.legacy || row.modern, "{}", row.name);
        assert_eq!(row.form == Form::Notification, row.name.starts_with("notifications/"), "{}", row.name);
        assert!(
            row.list.is_none() || (row.name.ends_with("/list") && row.action == Action::Connect),
            "{}",
            row.name
        );
        assert!(row.item.is_none() || row.from == Side::Client, "{}", row.name);
        assert_eq!(method::find(row.name).map(|found| found.name), Some(row.name));
    }
    for unknown in ["", "Tools/call", "tools/call ", "rpc.discover", "tools"] {
        assert!(method::find(unknown).is_none(), "{unknown}");
    }
}

/// The methods of both schemas (`ClientRequest`, `ServerRequest` and the notification unions), and of SEP-2663.
#[test]
fn the_method_table_holds_every_method_of_both_revisions() {
    let legacy = "completion/complete elicitation/create initialize logging/setLevel notifications/cancelled \
        notifications/elicitation/complete notifications/initialized notifications/message notifications/progress \
        notifications/prompts/list_changed notifications/resources/list_changed notifications/resources/updated \
        notifications/roots/list_changed notifications/tasks/status notifications/tools/list_changed ping prompts/get \
        prompts/list resources/list resources/read resources/subscribe resources/templates/list resources/unsubscribe \
        roots/list sampling/createMessage tasks/cancel tasks/get tasks/list tasks/result tools/call tools/list";
    let modern = "completion/complete notifications/cancelled notifications/message notifications/progress \
        notifications/prompts/list_changed notifications/resources/list_changed notifications/resources/updated \
        notifications/subscriptions/acknowledged notifications/tasks notifications/tools/list_changed prompts/get \
        prompts/list resources/list resources/read resources/templates/list server/discover subscriptions/listen \
        tasks/cancel tasks/get tasks/update tools/call tools/list";
    let table = |of: fn(&method::MethodRow) -> bool| -> BTreeSet<&str> {
        TABLE.iter().filter(|row| of(row)).map(|row| row.name).collect()
    };
    assert_eq!(table(|row| row.legacy), legacy.split_whitespace().collect());
    assert_eq!(table(|row| row.modern), modern.split_whitespace().collect());
}

#[test]
fn a_completion_says_what_it_refers_to() {
    let target = |text: &str| {
        let found = method::completion_target(&View::of(text.as_bytes()))?;
        Some((found.0, found.1.into_owned()))
    };
    assert_eq!(target(r#"{"ref":{"type":"ref/prompt","name":"p"}}"#), Some((TargetKind::Prompt, "p".into())));
    assert_eq!(
        target(r#"{"ref":{"type":"ref/resource","uri":"a://{b}"}}"#),
        Some((TargetKind::Template, "a://{b}".into()))
    );
    for bad in [
        "{}",
        r#"{"ref":{"type":"ref/tool","name":"p"}}"#,
        r#"{"ref":{"type":"ref/prompt","uri":"p"}}"#,
        r#"{"ref":7}"#,
    ] {
        assert_eq!(target(bad), None, "{bad}");
    }
}

fn leaves_of(text: &str) -> Vec<(String, Place, String)> {
    let mut found = Vec::new();
    answer::leaves(View::of(text.as_bytes()), "/result", |pointer, place, view| {
        assert_eq!(&text.as_bytes()[view.span()], view.raw());
        found.push((pointer.to_owned(), place, view.as_str().unwrap().into_owned()));
    });
    found
}

#[test]
fn every_text_of_an_answer_is_found_with_its_place() {
    let text = r#"{"content":[{"type":"text","text":"hi"},{"n":1,"x":[[],{},"in"]}],"a/b~c":"","ok":true,"\u0065":null}"#;
    let (name, value) = (Place::Name, Place::Value);
    let expected = [
        ("/result/content", name, "content"),
        ("/result/content/0/type", name, "type"),
        ("/result/content/0/type", value, "text"),
        ("/result/content/0/text", name, "text"),
        ("/result/content/0/text", value, "hi"),
        ("/result/content/1/n", name, "n"),
        ("/result/content/1/x", name, "x"),
        ("/result/content/1/x/2", value, "in"),
        ("/result/a~1b~0c", name, "a/b~c"),
        ("/result/a~1b~0c", value, ""),
        ("/result/ok", name, "ok"),
        ("/result/e", name, "e"),
    ];
    let expected: Vec<_> = expected.map(|(a, b, c)| (a.to_owned(), b, c.to_owned())).into();
    assert_eq!(leaves_of(text), expected);
    assert_eq!(leaves_of("\"alone\""), [("/result".to_owned(), value, "alone".to_owned())]);
    assert!(leaves_of("[]").is_empty() && leaves_of("17").is_empty());
}

#[test]
fn lists_give_their_entries_and_cursors() {
    let text = json!({
        "tools": [{"name": "a"}, {"title": "nameless"}, {"name": "b", "x": 1}],
        "resourceTemplates": [{"uriTemplate": "f://{x}", "name": "no"}],
        "resources": {}, "nextCursor": "", "resultType": "complete",
    })
    .to_string();
    let result = View::of(text.as_bytes());
    let names = |kind| {
        let items = answer::list_items(result, kind)?;
        Some(items.map(|(name, _)| name.map(|name| name.into_owned())).collect::<Vec<_>>())
    };
    assert_eq!(names(TargetKind::Tool).unwrap(), [Some("a".into()), None, Some("b".into())]);
    assert_eq!(names(TargetKind::Template).unwrap(), [Some("f://{x}".into())]);
    assert_eq!(names(TargetKind::Resource), None);
    assert_eq!(names(TargetKind::Prompt), None);
    assert_eq!(answer::next_cursor(&result).as_deref(), Some(""));
    assert_eq!(answer::result_type(&result).as_deref(), Some("complete"));
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,3}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn pointers_of_leaves_lead_back_to_their_texts(value in tree()) {
        let text = value.to_string();
        let mut count = 0;
        answer::leaves(View::of(text.as_bytes()), "", |pointer, place, view| {
            let target = value.pointer(pointer).expect("the pointer leads somewhere");
            if place == Place::Value {
                count += 1;
                assert_eq!(target.as_str(), view.as_str().as_deref());
            }
        });
        fn strings(value: &Value) -> usize {
            match value {
                Value::String(_) => 1,
                Value::Array(list) => list.iter().map(strings).sum(),
                Value::Object(map) => map.values().map(strings).sum(),
                _ => 0,
            }
        }
        prop_assert_eq!(count, strings(&value));
    }

    #[test]
    fn any_subset_of_a_list_can_be_kept(list in prop::collection::vec((tree(), any::<bool>()), 0..10)) {
        let text = Value::from(list.iter().map(|(value, _)| value.clone()).collect::<Vec<_>>()).to_string();
        let mut keep = list.iter().map(|(_, keep)| *keep);
        let mut edits = Edits::new();
        edits.retain_elements(View::of(text.as_bytes()), |_| keep.next().unwrap());
        let out = edits.apply(&Bytes::from(text)).unwrap();
        let expected: Vec<_> = list.into_iter().filter(|(_, keep)| *keep).map(|(value, _)| value).collect();
        prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), Value::from(expected));
    }

    #[test]
    fn any_member_can_be_removed_or_set(map in prop::collection::btree_map(".{0,3}", tree(), 1..6), at in any::<prop::sample::Index>()) {
        let name = map.keys().nth(at.index(map.len())).unwrap().clone();
        let text = serde_json::to_string(&map).unwrap();
        let bytes = Bytes::from(text.clone());
        let mut edits = Edits::new();
        edits.remove_member(View::of(text.as_bytes()), &name);
        let mut without = map.clone();
        without.remove(&name);
        let read = |bytes: Bytes| serde_json::from_slice::<BTreeMap<String, Value>>(&bytes).unwrap();
        prop_assert_eq!(read(edits.apply(&bytes).unwrap()), without);
        let mut edits = Edits::new();
        edits.set_member(View::of(text.as_bytes()), &name, b"[true]");
        let mut with = map;
        with.insert(name, json!([true]));
        prop_assert_eq!(read(edits.apply(&bytes).unwrap()), with);
    }

    #[test]
    fn any_string_id_survives_a_remap(id in any::<String>()) {
        let raw = quote(&id);
        let message = parse(&format!(r#"{{"jsonrpc":"2.0","id":{raw},"method":"m"}}"#));
        if raw.len() <= 1024 {
            let message = message.unwrap();
            let away = Message::parse(message.with_id(b"42"), &limits()).unwrap();
            prop_assert_eq!(away.with_id(message.id().unwrap().raw()), message.bytes());
        }
    }
}

#[test]
fn a_name_that_only_case_tells_from_one_of_the_protocol_is_refused_and_other_names_are_not() {
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"method":"m","Method":"n"}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"Result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"re\u017fult":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","\u004eame":"b"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","argument\u017f":{}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"URI":"x://a"}}"#,
    ] {
        assert_eq!(parse(text).err(), Some(MessageError::Case), "{text}");
    }
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"method":"m","extra":1,"names":2}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"Name":1}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"Name":1,"URI":2}}"#,
    ] {
        assert!(parse(text).is_ok(), "{text}");
    }
}
