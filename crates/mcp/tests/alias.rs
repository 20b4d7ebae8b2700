//! Names, URIs and ids of one server among several: what is exposed, that it finds the way back, and that no two
//! servers can meet under one name.
#![cfg(test)]

use std::collections::BTreeSet;

use bytes::Bytes;
use portcullis_core::{Limits, TargetKind};
use portcullis_mcp::{
    alias::{self, NAME_BYTES_MIN, PREFIX_BYTES_MAX, Prefix, split, split_question, split_uri, with_param},
    json::JsonLimits,
    jsonrpc::{Id, Message},
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn message(value: &Value) -> Message {
    let limits = JsonLimits::answer(&Limits::default());
    Message::parse(Bytes::from(value.to_string()), &limits).expect("a message")
}

fn prefix(text: &str) -> Prefix {
    Prefix::new(text).expect("a prefix")
}

fn result(value: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "result": value})
}

#[test]
fn a_prefix_can_always_be_told_from_what_follows_it() {
    for (text, fits) in [
        ("files", true),
        ("a", true),
        ("a.b-c_d", true),
        ("", false),
        ("_a", false),
        ("a_", false),
        ("a__b", false),
        ("a b", false),
        ("ä", false),
        ("twenty-characters-ab", true),
        ("twenty-one-characters", false),
    ] {
        assert_eq!(Prefix::new(text).is_some(), fits, "{text}");
    }
    assert_eq!(Prefix::of_server("files").as_str(), "files");
    for name in ["files__x", "files_", "a-very-long-name-of-a-server-indeed", "___"] {
        let prefix = Prefix::of_server(name);
        assert!(Prefix::new(prefix.as_str()).is_some(), "{prefix}");
        assert_eq!(prefix, Prefix::of_server(name));
    }
    assert_ne!(Prefix::of_server("files__x"), Prefix::of_server("files_"));
}

#[test]
fn a_name_stays_as_it_is_behind_its_prefix_unless_it_is_too_long_or_has_other_characters() {
    let files = prefix("files");
    assert_eq!(files.expose_name("read", 46), "files__read");
    assert_eq!(files.expose_name("notes.search", 46), "files__notes.search");
    let long = files.expose_name(&"n".repeat(64), 46);
    assert_eq!((long.len(), long.get(..10)), (46, Some("files__nnn")));
    assert_ne!(long, files.expose_name(&"n".repeat(63), 46));
    let odd = files.expose_name("größe messen", 46);
    assert!(odd.starts_with("files__gr__e_messen_"), "{odd}");
    assert_ne!(odd, files.expose_name("größe-messen", 46));
}

#[test]
fn uris_and_templates_keep_what_the_server_wrote_and_apps_keep_their_scheme() {
    let files = prefix("files");
    for (own, exposed) in [
        ("file:///a/b", "mcp://files/file:///a/b"),
        ("file:///{+path}", "mcp://files/file:///{+path}"),
        ("mcp://other/x", "mcp://files/mcp://other/x"),
        ("ui://board/page.html", "ui://files/board/page.html"),
        ("", "mcp://files/"),
    ] {
        assert_eq!(files.expose_uri(own), exposed);
        assert_eq!(split_uri(exposed), Some(("files", own.to_owned())));
    }
    for foreign in ["file:///a", "mcp://files", "ui://files", "MCP://files/x", ""] {
        assert_eq!(split_uri(foreign), None, "{foreign}");
    }
}

#[test]
fn everything_in_a_message_that_names_a_thing_of_the_server_is_exposed_and_nothing_else() {
    let files = prefix("f");
    let related = "io.modelcontextprotocol/related-task";
    for (own, exposed) in [
        (
            result(&json!({"content": [
                {"type": "text", "text": "file:///a"}, {"type": "resource_link", "uri": "file:///a", "name": "a"},
                {"type": "resource", "resource": {"uri": "file:///b", "text": ""}}]})),
            result(&json!({"content": [
                {"type": "text", "text": "file:///a"}, {"type": "resource_link", "uri": "mcp://f/file:///a", "name": "a"},
                {"type": "resource", "resource": {"uri": "mcp://f/file:///b", "text": ""}}]})),
        ),
        (
            result(
                &json!({"messages": [{"role": "user", "content": {"type": "resource_link", "uri": "x:1"}},
                {"role": "user", "content": [{"type": "resource", "resource": {"uri": "x:2"}}]}]}),
            ),
            result(
                &json!({"messages": [{"role": "user", "content": {"type": "resource_link", "uri": "mcp://f/x:1"}},
                {"role": "user", "content": [{"type": "resource", "resource": {"uri": "mcp://f/x:2"}}]}]}),
            ),
        ),
        (
            result(&json!({"contents": [{"uri": "ui://a/b", "text": "<p>"}]})),
            result(&json!({"contents": [{"uri": "ui://f/a/b", "text": "<p>"}]})),
        ),
        (
            result(&json!({"taskId": "t", "result": {"content": [{"type": "resource_link", "uri": "x:1"}]}})),
            result(
                &json!({"taskId": "f__t", "result": {"content": [{"type": "resource_link", "uri": "mcp://f/x:1"}]}}),
            ),
        ),
        (
            result(&json!({"task": {"taskId": "t"}, "_meta": {related: {"taskId": "t"}}})),
            result(&json!({"task": {"taskId": "f__t"}, "_meta": {related: {"taskId": "f__t"}}})),
        ),
        (
            result(
                &json!({"content": [], "_meta": {"ui": {"resourceUri": "ui://a"}, "ui/resourceUri": "ui://a"}}),
            ),
            result(
                &json!({"content": [], "_meta": {"ui": {"resourceUri": "ui://f/a"}, "ui/resourceUri": "ui://f/a"}}),
            ),
        ),
        (
            json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "", "data": {"uri": "x:1"}}}),
            json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "", "data": {"uri": "mcp://f/x:1"}}}),
        ),
        (
            json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "x:1"}}),
            json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "mcp://f/x:1"}}),
        ),
        (
            json!({"jsonrpc": "2.0", "id": 7, "method": "roots/list", "params": {"_meta": {"progressToken": 5}}}),
            json!({"jsonrpc": "2.0", "id": "f__7", "method": "roots/list", "params": {"_meta": {"progressToken": "f__5"}}}),
        ),
    ] {
        let out = files.outward(&message(&own)).expect("something to expose");
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), exposed);
    }
    let untouched = result(
        &json!({"content": [{"type": "text", "text": "mcp://x"}], "structuredContent": {"uri": "x:1"}}),
    );
    assert_eq!(files.outward(&message(&untouched)), None);
}

#[test]
fn a_definition_changes_its_name_and_its_app_and_no_other_byte() {
    let raw = Bytes::from_static(
        br#"{ "name":"read" ,"inputSchema":{"x":1.0e3},"_meta":{"ui":{"resourceUri":"ui://a/b"},"z":1} }"#,
    );
    let out = prefix("f").definition(TargetKind::Tool, &raw, "f__read").unwrap();
    assert_eq!(
        out,
        &br#"{ "name":"f__read" ,"inputSchema":{"x":1.0e3},"_meta":{"ui":{"resourceUri":"ui://f/a/b"},"z":1} }"#[..]
    );
    let template = Bytes::from_static(br#"{"uriTemplate":"x://{a}","name":"t"}"#);
    let out = prefix("f").definition(TargetKind::Template, &template, "mcp://f/x://{a}").unwrap();
    assert_eq!(out, &br#"{"uriTemplate":"mcp://f/x://{a}","name":"t"}"#[..]);
}

#[test]
fn a_parameter_is_replaced_where_it_stands() {
    let call = message(&json!({"jsonrpc": "2.0", "id": 1, "method": "completion/complete",
        "params": {"ref": {"type": "ref/prompt", "name": "f__p"}, "argument": {"name": "f__p"}}}));
    let out: Value = serde_json::from_slice(&with_param(&call, &["ref", "name"], "p").unwrap()).unwrap();
    assert_eq!(out["params"]["ref"]["name"], "p");
    assert_eq!(out["params"]["argument"]["name"], "f__p");
    assert_eq!(with_param(&call, &["uri"], "p"), None);
}

proptest! {
    #[test]
    fn two_servers_never_meet_under_one_name_and_every_name_fits(
        one in "[a-z0-9][a-zA-Z0-9_.-]{0,30}", other in "[a-z0-9][a-zA-Z0-9_.-]{0,30}",
        tools in prop::collection::btree_set("[a-zA-Z0-9_.\\- é]{1,90}", 1..6), max in NAME_BYTES_MIN..128,
    ) {
        let (one, other) = (Prefix::of_server(&one), Prefix::of_server(&other));
        prop_assert!(one.as_str().len() <= PREFIX_BYTES_MAX);
        let mut seen = BTreeSet::new();
        for tool in &tools {
            let exposed = one.expose_name(tool, max);
            prop_assert!(exposed.len() <= max && exposed.is_ascii());
            prop_assert_eq!(split(&exposed).map(|(prefix, _)| prefix), Some(one.as_str()));
            prop_assert!(seen.insert(exposed), "two tools of one server under one name");
        }
        if one != other {
            for tool in &tools {
                prop_assert!(!seen.contains(&other.expose_name(tool, max)));
            }
        }
    }

    #[test]
    fn uris_ids_and_questions_come_back_as_they_were(own in "[a-z_]{0,6}(://)?.{0,40}", number in any::<u64>()) {
        let files = prefix("f_1");
        let exposed = files.expose_uri(&own);
        prop_assert_eq!(split_uri(&exposed), Some(("f_1", own.clone())));
        let exposed = files.expose_id(&own);
        prop_assert_eq!(split(&exposed), Some(("f_1", own.as_str())));
        for raw in [number.to_string(), Value::from(own.as_str()).to_string()] {
            let question = format!(r#"{{"jsonrpc":"2.0","id":{raw},"method":"ping"}}"#);
            let limits = JsonLimits::answer(&Limits::default());
            let question = Message::parse(Bytes::from(question), &limits).unwrap();
            let exposed = Message::parse(files.outward(&question).unwrap(), &limits).unwrap();
            let (found, id) = split_question(&exposed.id().unwrap()).unwrap();
            prop_assert_eq!(found, "f_1");
            prop_assert_eq!(id, Id::from_json(Bytes::from(raw)).unwrap());
        }
    }
}

#[test]
fn an_answer_to_a_question_that_was_never_exposed_leads_nowhere() {
    for id in [r#""f""#, "7", r#""f__""#, r#""f__{}""#, r#""f__1.5""#] {
        let id = Id::from_json(Bytes::from_static(id.as_bytes())).unwrap();
        assert_eq!(alias::split_question(&id), None);
    }
}
