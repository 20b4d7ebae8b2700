//! Translation between the eras: what each side reads is what the other side meant.
#![cfg(test)]

use bytes::Bytes;
use portcullis_core::Limits;
use portcullis_mcp::{
    bridge::{
        self, Declared, Filter, Kind, Passage, Question, Round, answer_to_legacy, answer_to_modern, passage,
        request_to_legacy, request_to_modern,
    },
    json::{JsonLimits, View},
    jsonrpc::Message,
    method::{Side, TABLE},
    revision::{Era, ParamHeader},
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn message(value: &Value) -> Message {
    text(&value.to_string())
}

fn text(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes()), &JsonLimits::answer(&Limits::default())).unwrap()
}

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}

fn declared() -> Declared {
    Declared {
        capabilities: Bytes::from_static(br#"{"sampling":{}}"#),
        client: Some(Bytes::from_static(br#"{"name":"c","version":"1"}"#)),
        log_level: Some(Bytes::from_static(br#""info""#)),
    }
}

#[test]
fn a_modern_request_loses_what_only_the_newer_revision_says_and_keeps_the_bytes_of_the_rest() {
    let request = text(
        r#"{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"t","arguments":{"n": 1.0, "big":123456789012345678901234567890},"requestState":"s","inputResponses":{},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"progressToken":"p","traceparent":"t"}}}"#,
    );
    assert_eq!(
        String::from_utf8_lossy(&request_to_legacy(&request, 7)),
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":{"n": 1.0, "big":123456789012345678901234567890},"_meta":{"progressToken":7,"traceparent":"t"}}}"#
    );
    let bare = text(
        r#"{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
    );
    assert_eq!(value(&request_to_legacy(&bare, 8))["params"], json!({"name": "p"}));
}

#[test]
fn a_legacy_request_says_in_meta_what_its_client_said_once() {
    let request = text(
        r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"t","_meta":{"progressToken":5,"io.modelcontextprotocol/protocolVersion":"forged"},"requestState":"forged"}}"#,
    );
    let round = Round {
        responses: Some(Bytes::from_static(br#"{"a":{}}"#)),
        state: Some(Bytes::from_static(br#""s\u0020t""#)),
    };
    let sent = request_to_modern(&request, 2, &declared(), &round);
    assert!(String::from_utf8_lossy(&sent).contains(r#""requestState":"s\u0020t""#), "byte for byte");
    assert_eq!(
        value(&sent),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "t", "_meta": {
            "progressToken": 5,
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"sampling": {}},
            "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "1"},
            "io.modelcontextprotocol/logLevel": "info"},
            "inputResponses": {"a": {}}, "requestState": "s t"}})
    );
    let without = text(r#"{"jsonrpc":"2.0","id":3,"method":"tools/list"}"#);
    let sent = value(&request_to_modern(&without, 1, &Declared::default(), &Round::default()));
    assert_eq!(sent["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"], json!({}));
}

#[test]
fn results_gain_and_lose_what_only_the_newer_revision_says() {
    let legacy = message(&json!({"jsonrpc": "2.0", "id": 7, "result": {"contents": [1], "resultType": "x"}}));
    for (method, expected) in [
        (
            "resources/read",
            json!({"contents": [1], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}),
        ),
        ("tools/call", json!({"contents": [1], "resultType": "complete"})),
    ] {
        let answer = value(&answer_to_modern(&legacy, br#""x""#, method));
        assert_eq!((&answer["id"], &answer["result"]), (&json!("x"), &expected), "{method}");
    }
    let modern = message(&json!({"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete", "ttlMs": 5,
        "cacheScope": "public", "contents": []}}));
    assert_eq!(
        value(&answer_to_legacy(&modern, b"9", "resources/read")),
        json!({"jsonrpc": "2.0", "id": 9, "result": {"contents": []}})
    );
}

#[test]
fn each_error_code_reaches_the_other_side_as_its_own_for_the_same_mistake() {
    let error = |code: i64| {
        message(&json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "m", "data": 1}}))
    };
    for (code, expected) in [
        (-32002, -32602),
        (-32042, -32603),
        (-32020, -32603),
        (-32022, -32603),
        (-32601, -32601),
        (-32602, -32602),
        (-32603, -32603),
        (-32000, -32000),
        (17, 17),
    ] {
        let answer = value(&answer_to_modern(&error(code), b"2", "resources/read"));
        assert_eq!(
            answer,
            json!({"jsonrpc": "2.0", "id": 2, "error": {"code": expected, "message": "m", "data": 1}})
        );
    }
    for (code, method, expected) in [
        (-32602, "resources/read", -32002),
        (-32602, "tools/call", -32602),
        (-32021, "tools/call", -32600),
        (-32020, "tools/call", -32603),
        (-32022, "tools/call", -32603),
        (-32601, "tools/call", -32601),
        (9, "x", 9),
    ] {
        assert_eq!(
            value(&answer_to_legacy(&error(code), b"2", method))["error"]["code"],
            expected,
            "{code} {method}"
        );
    }
    let without_id = message(&json!({"jsonrpc": "2.0", "error": {"code": 1, "message": "m"}}));
    assert_eq!(value(&answer_to_modern(&without_id, b"2", "tools/call"))["id"], 2);
}

#[test]
fn what_a_result_asks_for_is_read_from_its_type() {
    for (result, expected) in [
        (r#"{"resultType":"complete"}"#, Kind::Complete),
        ("{}", Kind::Complete),
        (r#"{"resultType":"input_required"}"#, Kind::InputRequired),
        (r#"{"resultType":"task"}"#, Kind::Unknown),
    ] {
        assert_eq!(bridge::kind(&View::of(result.as_bytes())), expected);
    }
}

#[test]
fn questions_travel_both_ways_with_their_words_unchanged() {
    let params = r#"{"message": "who?","requestedSchema":{"type":"object"}}"#;
    let request =
        text(&format!(r#"{{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{params}}}"#));
    let question = Question::of(&request, "1");
    let asked = bridge::input_required(b"4", std::slice::from_ref(&question), "sealed");
    let asked_value = value(&asked);
    assert_eq!(asked_value["id"], 4);
    assert_eq!(asked_value["result"]["resultType"], "input_required");
    assert_eq!(asked_value["result"]["requestState"], "sealed");
    let message = Message::parse(asked, &JsonLimits::answer(&Limits::default())).unwrap();
    let inside = bridge::questions_inside(&message.result().unwrap());
    assert_eq!((inside.len(), &*inside[0].key, &*inside[0].method), (1, "1", "elicitation/create"));
    let back = value(&bridge::to_client(&inside[0], "portcullis-1"));
    assert_eq!(back["params"], value(params.as_bytes()));
    assert_eq!((&back["id"], &back["method"]), (&json!("portcullis-1"), &json!("elicitation/create")));
    assert_eq!(
        value(&bridge::answer_to_server(br#""q""#, br#"{"action":"accept"}"#)),
        json!({"jsonrpc": "2.0", "id": "q", "result": {"action": "accept"}})
    );
}

#[test]
fn a_question_by_url_has_a_name_in_the_older_revision_alone() {
    let by_url = Question {
        key: "u".into(),
        method: "elicitation/create".into(),
        params: Bytes::from_static(br#"{"mode":"url","url":"https://x.example","message":"m"}"#),
    };
    assert_eq!(value(&bridge::to_client(&by_url, "id-1"))["params"]["elicitationId"], "id-1");
    let named = Question {
        params: Bytes::from_static(br#"{"mode":"url","elicitationId":"e","url":"https://x.example"}"#),
        ..by_url
    };
    assert_eq!(
        value(&bridge::input_required(b"1", &[named], "s"))["result"]["inputRequests"]["u"]["params"],
        json!({"mode": "url", "url": "https://x.example"})
    );
}

#[test]
fn a_server_introduces_itself_in_the_other_revision_as_in_its_own() {
    let info = json!({"name": "s", "version": "2"});
    let capabilities =
        json!({"tools": {"listChanged": true}, "logging": {}, "tasks": {}, "extensions": {"x": {}}});
    let kept = json!({"tools": {"listChanged": true}, "logging": {}});
    let initialized =
        json!({"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": info,
        "instructions": "be kind"})
        .to_string();
    let discovered = value(&bridge::discover_result(&View::of(initialized.as_bytes())));
    assert_eq!(
        discovered,
        json!({"resultType": "complete", "supportedVersions": ["2026-07-28", "2025-06-18"], "capabilities": kept, "ttlMs": 0,
            "cacheScope": "private", "instructions": "be kind",
            "_meta": {"io.modelcontextprotocol/serverInfo": info}})
    );
    for (requested, version) in [
        (Some("2025-06-18"), "2025-06-18"),
        (Some("1999-01-01"), "2025-11-25"),
        (Some("2026-07-28"), "2025-11-25"),
        (None, "2025-11-25"),
    ] {
        let back = value(&bridge::initialize_result(&View::of(discovered.to_string().as_bytes()), requested));
        assert_eq!(
            back,
            json!({"protocolVersion": version, "capabilities": kept, "serverInfo": info, "instructions": "be kind"})
        );
    }
}

#[test]
fn a_client_offers_a_server_only_what_the_server_may_use() {
    let declared = br#"{"sampling":{},"elicitation":{"url":{}},"roots":{},"extensions":{"x":{}},"tasks":{}}"#;
    let offered = bridge::client_capabilities(Some(View::of(declared)), |kind| kind != "sampling");
    assert_eq!(value(&offered), json!({"elicitation": {"url": {}}, "roots": {}}));
    assert_eq!(&*bridge::client_capabilities(None, |_| true), b"{}");
}

#[test]
fn a_question_needs_what_its_client_declared_in_every_request() {
    let question = |method: &str, params: &'static str| bridge::Question {
        key: "1".into(),
        method: method.into(),
        params: params.as_bytes().into(),
    };
    let lacking = |declared: &str, question: &bridge::Question| {
        bridge::capability_lacking(Some(View::of(declared.as_bytes())), question)
    };
    let form = question("elicitation/create", "{}");
    let page = question("elicitation/create", r#"{"mode":"url","url":"https://x.example"}"#);
    let sampling = question("sampling/createMessage", "{}");
    assert_eq!(lacking(r#"{"elicitation":{}}"#, &form), None);
    assert_eq!(lacking(r#"{"elicitation":{"url":{}}}"#, &page), None);
    assert_eq!(lacking(r#"{"elicitation":{}}"#, &page).as_deref(), Some(r#"{"elicitation":{"url":{}}}"#));
    assert_eq!(lacking("{}", &sampling).as_deref(), Some(r#"{"sampling":{}}"#));
    assert_eq!(bridge::capability_lacking(None, &form).as_deref(), Some(r#"{"elicitation":{}}"#));
}

#[test]
fn pages_that_an_error_wants_visited_are_questions_of_the_newer_revision() {
    let error = |code: i64, data: Value| {
        message(&json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "m", "data": data}}))
    };
    let page = json!({"mode": "url", "url": "https://x.example", "elicitationId": "e", "message": "sign in"});
    let data = json!({"elicitations": [page, {"mode": "form"}]});
    let pages = bridge::pages_to_visit(&error(-32042, data.clone()));
    assert_eq!(pages.len(), 1);
    let asked = value(&bridge::input_required(b"9", &pages, "s"));
    assert_eq!(
        asked["result"]["inputRequests"],
        json!({"1": {"method": "elicitation/create",
            "params": {"mode": "url", "url": "https://x.example", "message": "sign in"}}})
    );
    for other in [error(-32042, json!({})), error(-32042, json!({"elicitations": 7})), error(-32000, data)] {
        assert!(bridge::pages_to_visit(&other).is_empty(), "{other:?}");
    }
    let lacks = error(-32021, json!({"requiredCapabilities": {"sampling": {}}}));
    assert_eq!(value(&bridge::answer_to_modern(&lacks, b"1", "tools/call"))["error"]["code"], -32021);
    let other = error(-32021, json!({}));
    assert_eq!(value(&bridge::answer_to_modern(&other, b"1", "tools/call"))["error"]["code"], -32603);
}

#[test]
fn changes_reach_a_listener_that_asked_for_them_and_no_other() {
    let params = json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true,
        "resourceSubscriptions": ["x://a"]}})
    .to_string();
    let asked = Filter::of(Some(View::of(params.as_bytes())));
    let offered = View::of(br#"{"tools":{"listChanged":true},"prompts":{},"resources":{"subscribe":true}}"#);
    let filter = asked.offered(&offered);
    assert_eq!(
        value(&filter.to_json()),
        json!({"toolsListChanged": true, "resourceSubscriptions": ["x://a"]})
    );
    let acknowledged = value(&filter.acknowledgement(br#""l""#));
    assert_eq!(acknowledged["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "l");
    let note =
        |method: &str, params: Value| message(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    for (note, told) in [
        (note("notifications/tools/list_changed", json!({})), true),
        (note("notifications/prompts/list_changed", json!({})), false),
        (note("notifications/resources/updated", json!({"uri": "x://a"})), true),
        (note("notifications/resources/updated", json!({"uri": "x://b"})), false),
        (note("notifications/progress", json!({"progressToken": 1})), false),
    ] {
        let sent = bridge::for_listener(&note, &filter, br#""l""#);
        assert_eq!(sent.is_some(), told, "{note:?}");
        let Some(sent) = sent else { continue };
        assert_eq!(value(&sent)["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "l");
        let heard = Message::parse(sent, &JsonLimits::answer(&Limits::default())).unwrap();
        let session = bridge::for_session(&heard).unwrap();
        assert!(!String::from_utf8_lossy(&session).contains("subscriptionId"));
    }
    assert!(bridge::for_session(&note("notifications/subscriptions/acknowledged", json!({}))).is_none());
}

#[test]
fn in_a_call_progress_gets_the_clients_token_back_and_logs_pass_only_when_asked_for() {
    let progress = message(
        &json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 7, "progress": 1}}),
    );
    let told = bridge::for_call(&progress, b"7", Some(br#""p""#), false).unwrap();
    assert!(bridge::for_call(&progress, b"8", Some(br#""p""#), false).is_none(), "of another call");
    assert_eq!(value(&told)["params"], json!({"progressToken": "p", "progress": 1}));
    assert!(bridge::for_call(&progress, b"7", None, false).is_none(), "nobody asked");
    let log = message(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x"}}));
    assert!(bridge::for_call(&log, b"7", None, false).is_none());
    assert_eq!(bridge::for_call(&log, b"7", None, true).as_ref(), Some(log.bytes()));
}

#[test]
fn annotated_arguments_are_mirrored_as_a_correct_client_would() {
    let header = |name: &str, path: &[&str]| ParamHeader {
        header: name.into(),
        path: path.iter().map(|part| (*part).into()).collect(),
    };
    let annotated = [
        header("A", &["a"]),
        header("B", &["deep", "b"]),
        header("C", &["c"]),
        header("D", &["d"]),
        header("E", &["e"]),
    ];
    let arguments = r#"{"a":"plain","deep":{"b":42},"c":true,"d":"grün","e":null}"#;
    let headers = bridge::param_headers(&annotated, Some(View::of(arguments.as_bytes())));
    let expected = [("A", "plain"), ("B", "42"), ("C", "true"), ("D", "=?base64?Z3LDvG4=?=")];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn every_method_has_a_passage_and_the_lists_and_questions_have_the_expected_one() {
    for row in TABLE {
        for (client, server) in [(Era::Legacy, Era::Legacy), (Era::Modern, Era::Modern)] {
            for sender in [Side::Client, Side::Server] {
                let way = passage(row, sender, client, server);
                assert!(
                    matches!(way, Passage::Absent | Passage::Answered | Passage::Straight),
                    "{}",
                    row.name
                );
            }
        }
        let bridged =
            |client, server| [Side::Client, Side::Server].map(|sender| passage(row, sender, client, server));
        for ways in [bridged(Era::Legacy, Era::Modern), bridged(Era::Modern, Era::Legacy)] {
            assert!(!ways.contains(&Passage::Straight), "{} would pass untranslated", row.name);
        }
    }
    let way = |name: &str, sender, client, server| {
        passage(portcullis_mcp::method::find(name).unwrap(), sender, client, server)
    };
    assert_eq!(way("tools/call", Side::Client, Era::Modern, Era::Legacy), Passage::Translated);
    assert_eq!(way("tools/list", Side::Client, Era::Modern, Era::Legacy), Passage::Answered);
    assert_eq!(way("tasks/get", Side::Client, Era::Modern, Era::Legacy), Passage::Refused);
    assert_eq!(way("initialize", Side::Client, Era::Modern, Era::Legacy), Passage::Absent);
    assert_eq!(way("elicitation/create", Side::Server, Era::Legacy, Era::Modern), Passage::Translated);
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-z\"\\\\ü]{1,6}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_the_arguments_hold_crosses_both_ways_unchanged(arguments in json_value(), id in any::<u64>()) {
        let request = message(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": {"name": "t", "arguments": arguments}}));
        let there = request_to_modern(&request, 1, &declared(), &Round::default());
        let there = Message::parse(there, &JsonLimits::answer(&Limits::default())).unwrap();
        let back = value(&request_to_legacy(&there, id));
        prop_assert_eq!(back, value(request.bytes()));
    }

    #[test]
    fn whatever_a_result_holds_crosses_both_ways_unchanged(content in json_value(), id in any::<u64>()) {
        let answer = message(&json!({"jsonrpc": "2.0", "id": 1, "result": {"content": content}}));
        let id = id.to_string();
        let there = answer_to_modern(&answer, id.as_bytes(), "tools/call");
        let there = Message::parse(there, &JsonLimits::answer(&Limits::default())).unwrap();
        prop_assert_eq!(value(&answer_to_legacy(&there, b"1", "tools/call")), value(answer.bytes()));
    }
}
