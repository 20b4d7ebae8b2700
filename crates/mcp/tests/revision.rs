//! Which era a message belongs to, and whether headers and body agree: tables by the bullets of the specification.
#![cfg(test)]

use bytes::Bytes;
use portcullis_core::{Code, Limits};
use portcullis_mcp::{
    json::{JsonLimits, View, check},
    jsonrpc::Message,
    method::{self, Side},
    revision::{
        Era, LEGACY, LEGACY_SUPPORTED, MODERN, McpHeaders, ParamHeader, ParamHeaderError, SUPPORTED, agree,
        agree_params, classify, version_data,
    },
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn message(value: &Value) -> Message {
    let limits = JsonLimits::request(&Limits::default());
    Message::parse(Bytes::from(value.to_string()), &limits).expect("a message")
}

fn meta(version: &str) -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

/// A request of the modern era with these parameters.
fn modern(method: &str, mut params: Value) -> Message {
    params["_meta"] = meta(MODERN);
    message(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
}

fn versioned(version: Option<&str>) -> McpHeaders<'_> {
    McpHeaders { protocol_version: version, ..McpHeaders::default() }
}

fn named<'a>(method: &'a str, name: Option<&'a str>) -> McpHeaders<'a> {
    McpHeaders { method: Some(method), name, ..versioned(Some(MODERN)) }
}

#[test]
fn the_era_follows_from_header_and_body_in_the_order_of_the_specification() {
    let plain = |method: &str| json!({"jsonrpc": "2.0", "id": 1, "method": method});
    let stating = |method: &str, version: &str| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": meta(version)}});
    let answer = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
    let mismatch = Err(Code::RequestHeaderMismatch);
    for (header, body, expected) in [
        // 1: a modern header means modern rules, whatever the method.
        (Some(MODERN), stating("tools/list", MODERN), Ok(Era::Modern)),
        (Some(MODERN), plain("tools/list"), Ok(Era::Modern)),
        (Some(MODERN), stating("initialize", MODERN), Ok(Era::Modern)),
        (Some(MODERN), plain("initialize"), Ok(Era::Modern)),
        (Some(MODERN), stating("tools/list", LEGACY), mismatch),
        (Some(MODERN), stating("tools/list", "1900-01-01"), mismatch),
        (Some(MODERN), answer.clone(), Err(Code::RequestInvalid)),
        // 2: the body says modern, the header is missing or says something else.
        (None, stating("tools/list", MODERN), mismatch),
        (None, stating("initialize", MODERN), mismatch),
        (None, stating("tools/list", "1900-01-01"), mismatch),
        (Some(LEGACY), stating("tools/list", MODERN), mismatch),
        (Some("1900-01-01"), stating("tools/list", MODERN), mismatch),
        // 3 and 4: the handshake, and what follows it.
        (None, plain("initialize"), Ok(Era::Legacy)),
        (Some(LEGACY), plain("initialize"), Ok(Era::Legacy)),
        (Some("2024-11-05"), plain("tools/list"), Ok(Era::Legacy)),
        (Some("2025-03-26"), plain("tools/list"), Ok(Era::Legacy)),
        (Some("2025-06-18"), answer.clone(), Ok(Era::Legacy)),
        (Some(LEGACY), stating("tools/list", LEGACY), Ok(Era::Legacy)),
        (None, answer, Ok(Era::Legacy)),
        // 5: no header at all.
        (None, plain("tools/list"), Ok(Era::Legacy)),
        (None, stating("tools/list", LEGACY), Ok(Era::Legacy)),
        // Unknown versions.
        (Some("1900-01-01"), plain("tools/list"), Err(Code::RequestVersion)),
        (Some("1900-01-01"), stating("tools/list", "1900-01-01"), Err(Code::RequestVersion)),
        (Some(""), plain("initialize"), Err(Code::RequestVersion)),
        (Some("2026-07-28, 2025-11-25"), plain("tools/list"), Err(Code::RequestVersion)),
    ] {
        let result = classify(&versioned(header), &message(&body)).map_err(|error| error.code);
        assert_eq!(result, expected, "{header:?} {body}");
    }
}

#[test]
fn a_repeated_header_is_refused_whatever_the_body() {
    for header in [None, Some(MODERN), Some(LEGACY)] {
        let headers = McpHeaders { repeated: Some("Mcp-Method"), ..versioned(header) };
        let error = classify(&headers, &modern("tools/list", json!({}))).unwrap_err();
        assert_eq!(error.code, Code::RequestHeaderMismatch);
        assert!(error.detail.contains("Mcp-Method"), "{error}");
    }
}

#[test]
fn an_unsupported_version_is_answered_with_what_is_supported() {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let error = classify(&versioned(Some("1900-\"01")), &message(&body)).unwrap_err();
    let data: Value = serde_json::from_str(&error.data().unwrap()).unwrap();
    assert_eq!(data, json!({"supported": SUPPORTED, "requested": "1900-\"01"}));
    assert_eq!(error.data().unwrap(), version_data("1900-\"01"));
    let other = classify(&versioned(None), &modern("ping", json!({}))).unwrap_err();
    assert_eq!(other.data(), None);
}

#[test]
fn every_supported_version_has_an_era() {
    assert_eq!(Era::of(MODERN), Some(Era::Modern));
    for version in LEGACY_SUPPORTED {
        assert_eq!(Era::of(version), Some(Era::Legacy));
    }
    assert_eq!(SUPPORTED.len(), LEGACY_SUPPORTED.len() + 1);
    assert_eq!(Era::of("2026-07-29"), None);
}

fn agreed(headers: &McpHeaders<'_>, message: &Message) -> Result<(), Code> {
    let row = method::find(&message.method_name().unwrap()).expect("in the table");
    agree(Era::Modern, headers, message, row).map_err(|error| error.code)
}

#[test]
fn mirrored_headers_agree_with_the_body() {
    let call = |name: &str| modern("tools/call", json!({"name": name}));
    let mismatch = Err(Code::RequestHeaderMismatch);
    for (headers, message, expected) in [
        (named("tools/call", Some("echo")), call("echo"), Ok(())),
        (named("tools/call", Some("other")), call("echo"), mismatch),
        (named("tools/call", Some("Echo")), call("echo"), mismatch),
        (named("tools/call", None), call("echo"), mismatch),
        (named("TOOLS/CALL", Some("echo")), call("echo"), mismatch),
        (named("tools/list", Some("echo")), call("echo"), mismatch),
        (versioned(Some(MODERN)), call("echo"), mismatch),
        (named("tools/call", Some("echo")), modern("tools/call", json!({})), mismatch),
        (named("tools/call", Some("5")), modern("tools/call", json!({"name": 5})), mismatch),
        (named("tools/list", None), modern("tools/list", json!({})), Ok(())),
        (named("resources/read", Some("f://a")), modern("resources/read", json!({"uri": "f://a"})), Ok(())),
        (
            named("resources/read", Some("f://a")),
            modern("resources/read", json!({"name": "f://a"})),
            mismatch,
        ),
        (named("prompts/get", Some("p")), modern("prompts/get", json!({"name": "p"})), Ok(())),
        (named("tasks/get", Some("t-1")), modern("tasks/get", json!({"taskId": "t-1"})), Ok(())),
        (named("tasks/update", None), modern("tasks/update", json!({"taskId": "t-1"})), mismatch),
        (named("tasks/cancel", Some("t-2")), modern("tasks/cancel", json!({"taskId": "t-1"})), mismatch),
        // The sentinel.
        (named("tools/call", Some("=?base64?SGVsbG8sIOS4lueVjA==?=")), call("Hello, 世界"), Ok(())),
        (named("tools/call", Some("=?base64?IHBhZGRlZCA=?=")), call(" padded "), Ok(())),
        (named("tools/call", Some("=?base64?bGluZTEKbGluZTI=?=")), call("line1\nline2"), Ok(())),
        (
            named("tools/call", Some("=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=")),
            call("=?base64?literal?="),
            Ok(()),
        ),
        (named("tools/call", Some("=?base64?literal?=")), call("=?base64?literal?="), mismatch),
        (named("tools/call", Some("=?BASE64?ZWNobw==?=")), call("echo"), mismatch),
        (named("tools/call", Some("=?BASE64?ZWNobw==?=")), call("=?BASE64?ZWNobw==?="), Ok(())),
        (named("tools/call", Some("=?base64?ZWNobw==")), call("=?base64?ZWNobw=="), Ok(())),
        (named("tools/call", Some("ZWNobw==?=")), call("ZWNobw==?="), Ok(())),
        (named("tools/call", Some("=?base64?ZWNobw?=")), call("echo"), mismatch),
        (named("tools/call", Some("=?base64?ZWNobx==?=")), call("echo"), mismatch),
        (named("tools/call", Some("=?base64?/w==?=")), call("\u{ff}"), mismatch),
        (named("tools/call", Some("=?base64??=")), call(""), Ok(())),
        (named("tools/call", Some("世界")), call("世界"), mismatch),
        (named("tools/call", Some("a\u{1}")), call("a\u{1}"), mismatch),
    ] {
        assert_eq!(agreed(&headers, &message), expected, "{headers:?} {}", message.root().to_value());
    }
}

#[test]
fn every_modern_request_says_version_and_capabilities_in_meta() {
    let capabilities = "io.modelcontextprotocol/clientCapabilities";
    let version = "io.modelcontextprotocol/protocolVersion";
    let client = "io.modelcontextprotocol/clientInfo";
    for (meta, expected) in [
        (json!({version: MODERN, capabilities: {}}), Ok(())),
        (json!({version: MODERN, capabilities: {"sampling": {}}, client: {"name": "c"}, "x": 1}), Ok(())),
        (json!({version: MODERN}), Err(Code::RequestMeta)),
        (json!({capabilities: {}}), Err(Code::RequestMeta)),
        (json!({version: MODERN, capabilities: []}), Err(Code::RequestMeta)),
        (json!({version: 2026, capabilities: {}}), Err(Code::RequestMeta)),
        (json!({version: MODERN, capabilities: {}, client: "c"}), Err(Code::RequestMeta)),
        (json!({version: LEGACY, capabilities: {}}), Err(Code::RequestHeaderMismatch)),
        (json!({}), Err(Code::RequestMeta)),
        (json!([]), Err(Code::RequestMeta)),
        (json!(null), Err(Code::RequestMeta)),
    ] {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
        assert_eq!(agreed(&named("tools/list", None), &message(&body)), expected, "{body}");
    }
    let bare = message(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}));
    assert_eq!(agreed(&named("tools/list", None), &bare), Err(Code::RequestMeta));
}

#[test]
fn methods_are_refused_outside_their_era_and_direction() {
    use Era::{Legacy, Modern};
    for (name, era, side, allowed) in [
        ("initialize", Legacy, Side::Client, true),
        ("initialize", Modern, Side::Client, false),
        ("ping", Modern, Side::Client, false),
        ("ping", Legacy, Side::Server, true),
        ("logging/setLevel", Modern, Side::Client, false),
        ("resources/subscribe", Modern, Side::Client, false),
        ("notifications/roots/list_changed", Modern, Side::Client, false),
        ("tasks/list", Modern, Side::Client, false),
        ("tasks/result", Modern, Side::Client, false),
        ("tasks/update", Legacy, Side::Client, false),
        ("server/discover", Legacy, Side::Client, false),
        ("server/discover", Modern, Side::Client, true),
        ("sampling/createMessage", Legacy, Side::Server, true),
        ("sampling/createMessage", Legacy, Side::Client, false),
        ("sampling/createMessage", Modern, Side::Server, false),
        ("elicitation/create", Modern, Side::Server, false),
        ("tasks/get", Legacy, Side::Server, true),
        ("tasks/get", Modern, Side::Server, false),
        ("tools/call", Legacy, Side::Server, false),
        ("notifications/cancelled", Modern, Side::Client, true),
        ("notifications/cancelled", Modern, Side::Server, true),
        ("notifications/progress", Modern, Side::Client, false),
        ("notifications/progress", Legacy, Side::Client, true),
        ("notifications/message", Modern, Side::Server, true),
        ("notifications/message", Legacy, Side::Client, false),
    ] {
        let row = method::find(name).unwrap();
        assert_eq!(era.allows(row, side), allowed, "{name} {era} {side:?}");
        if side == Side::Client && !allowed {
            let body = match row.form {
                method::Form::Request => modern(name, json!({})),
                method::Form::Notification => message(&json!({"jsonrpc": "2.0", "method": name})),
            };
            let error = agree(era, &named(name, None), &body, row).unwrap_err();
            assert_eq!(error.code, Code::MethodUnknown, "{name}");
        }
    }
}

#[test]
fn a_request_without_id_and_a_notification_with_one_are_refused() {
    let note = message(&json!({"jsonrpc": "2.0", "method": "tools/list", "params": {"_meta": meta(MODERN)}}));
    assert_eq!(agreed(&named("tools/list", None), &note), Err(Code::RequestInvalid));
    let ask = modern("notifications/cancelled", json!({}));
    assert_eq!(agreed(&named("notifications/cancelled", None), &ask), Err(Code::RequestInvalid));
}

#[test]
fn headers_of_notifications_and_of_the_legacy_era_are_optional_but_may_not_lie() {
    let note = message(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled"}));
    assert_eq!(agreed(&versioned(Some(MODERN)), &note), Ok(()));
    assert_eq!(agreed(&named("tools/call", None), &note), Err(Code::RequestHeaderMismatch));
    let call = message(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a"}}));
    let row = method::find("tools/call").unwrap();
    let legacy = |method, name| {
        let headers = McpHeaders { method, name, ..versioned(Some(LEGACY)) };
        agree(Era::Legacy, &headers, &call, row).map_err(|error| error.code)
    };
    assert_eq!(legacy(None, None), Ok(()));
    assert_eq!(legacy(Some("tools/call"), Some("a")), Ok(()));
    assert_eq!(legacy(Some("tools/list"), None), Err(Code::RequestHeaderMismatch));
    assert_eq!(legacy(None, Some("b")), Err(Code::RequestHeaderMismatch));
}

fn annotations(schema: &Value) -> Result<Vec<ParamHeader>, ParamHeaderError> {
    let text = schema.to_string();
    ParamHeader::from_schema(&View::of(text.as_bytes()))
}

#[test]
fn annotated_arguments_are_found_through_properties() {
    let schema = json!({"type": "object", "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "deep": {"type": "object", "properties": {"on": {"type": "boolean", "x-mcp-header": "On"}}},
        "x-mcp-header": {"type": "integer"},
        "free": {"default": {"x-mcp-header": 1}, "enum": [{"x-mcp-header": 2}], "examples": [{"x-mcp-header": ""}]},
    }});
    let header = |header: &str, path: &[&str]| ParamHeader {
        header: header.into(),
        path: path.iter().map(|&step| step.into()).collect(),
    };
    assert_eq!(annotations(&schema), Ok(vec![header("On", &["deep", "on"]), header("Region", &["region"])]));
    assert_eq!(annotations(&json!(true)), Ok(vec![]));
}

#[test]
fn invalid_annotations_make_the_tool_invalid() {
    let on = |annotated: Value| json!({"properties": {"a": annotated}});
    let text = |name: Value| on(json!({"type": "string", "x-mcp-header": name}));
    let one = json!({"type": "string", "x-mcp-header": "A"});
    let place = Err(ParamHeaderError::Place);
    for (schema, expected) in [
        (text(json!("")), Err(ParamHeaderError::Name)),
        (text(json!("My Region")), Err(ParamHeaderError::Name)),
        (text(json!("Region:Primary")), Err(ParamHeaderError::Name)),
        (text(json!("a\r\nb")), Err(ParamHeaderError::Name)),
        (text(json!("Région")), Err(ParamHeaderError::Name)),
        (text(json!(5)), Err(ParamHeaderError::Name)),
        (on(json!({"type": "number", "x-mcp-header": "A"})), Err(ParamHeaderError::Type)),
        (on(json!({"type": "object", "x-mcp-header": "A"})), Err(ParamHeaderError::Type)),
        (on(json!({"type": "array", "x-mcp-header": "A"})), Err(ParamHeaderError::Type)),
        (on(json!({"type": "null", "x-mcp-header": "A"})), Err(ParamHeaderError::Type)),
        (on(json!({"x-mcp-header": "A"})), Err(ParamHeaderError::Type)),
        (
            json!({"properties": {"a": one.clone(), "b": {"type": "string", "x-mcp-header": "a"}}}),
            Err(ParamHeaderError::Repeated { name: "a".into() }),
        ),
        (one.clone(), place.clone()),
        (json!({"items": one.clone()}), place.clone()),
        (json!({"properties": {"a": {"items": one.clone()}}}), place.clone()),
        (json!({"properties": {"a": {"items": {"properties": {"b": one.clone()}}}}}), place.clone()),
        (json!({"allOf": [on(one.clone())]}), place.clone()),
        (json!({"oneOf": [on(one.clone())]}), place.clone()),
        (json!({"if": on(one.clone())}), place.clone()),
        (json!({"not": on(one.clone())}), place.clone()),
        (json!({"$defs": {"d": one.clone()}}), place.clone()),
        (json!({"patternProperties": {"a": one.clone()}}), place.clone()),
        (json!({"additionalProperties": one}), place),
    ] {
        assert_eq!(annotations(&schema), expected, "{schema}");
    }
}

#[test]
fn annotations_in_more_or_deeper_places_than_are_mirrored_make_the_tool_invalid() {
    let deep = |steps: usize| {
        let leaf = json!({"type": "string", "x-mcp-header": "A"});
        (0..steps).fold(leaf, |below, _| json!({"properties": {"": below}}))
    };
    let wide = |count: usize| {
        let property = |number: usize| {
            (format!("p{number:05}"), json!({"type": "string", "x-mcp-header": format!("H{number:05}")}))
        };
        json!({"properties": (0..count).map(property).collect::<serde_json::Map<_, _>>()})
    };
    let long =
        |bytes: usize| json!({"properties": {"a".repeat(bytes): {"type": "string", "x-mcp-header": "A"}}});
    // 65,536 bytes: of each the name of the header and, with one byte more for each step, the path.
    for (schema, expected) in [
        (long(65_534), Ok(1)),
        (long(65_535), Err(ParamHeaderError::Length)),
        (wide(5_041), Ok(5_041)),
        (wide(5_042), Err(ParamHeaderError::Length)),
        (deep(100), Ok(1)),
    ] {
        assert_eq!(annotations(&schema).map(|found| found.len()), expected);
    }
}

#[test]
fn annotated_headers_mirror_their_arguments() {
    let one = |header: &str, path: &[&str]| ParamHeader {
        header: header.into(),
        path: path.iter().map(|&step| step.into()).collect(),
    };
    let annotated = [one("Region", &["region"]), one("Count", &["deep", "count"]), one("On", &["on"])];
    for (headers, arguments, fits) in [
        (vec![], json!({}), true),
        (vec![("region", "us-west1")], json!({"region": "us-west1"}), true),
        (vec![("REGION", "=?base64?5LiW?=")], json!({"region": "世"}), true),
        (vec![("Region", "=?base64?5LiW")], json!({"region": "=?base64?5LiW"}), true),
        (vec![("Region", "=?base64?!!?=")], json!({"region": "x"}), false),
        (vec![("Region", "us-west2")], json!({"region": "us-west1"}), false),
        (vec![("Region", "US-WEST1")], json!({"region": "us-west1"}), false),
        (vec![], json!({"region": "us-west1"}), false),
        (vec![("Region", "us-west1")], json!({}), false),
        (vec![("Region", "null")], json!({"region": null}), false),
        (vec![], json!({"region": null}), true),
        (vec![("Region", "a"), ("region", "a")], json!({"region": "a"}), false),
        (vec![("Unknown", "\u{1}")], json!({}), true),
        (vec![("Count", "42")], json!({"deep": {"count": 42}}), true),
        (vec![("Count", "42")], json!({"deep": {"count": 42.0}}), true),
        (vec![("Count", "42.0")], json!({"deep": {"count": 42}}), true),
        (vec![("Count", "-7")], json!({"deep": {"count": -7}}), true),
        (vec![("Count", "43")], json!({"deep": {"count": 42}}), false),
        (vec![("Count", "42")], json!({"deep": {"count": "42"}}), true),
        (vec![("Count", "42")], json!({"deep": {"count": 42.5}}), false),
        (vec![("Count", "nan")], json!({"deep": {"count": 42}}), false),
        (vec![("Count", "9007199254740992")], json!({"deep": {"count": 9_007_199_254_740_993_u64}}), false),
        (vec![("Count", "9007199254740991")], json!({"deep": {"count": 9_007_199_254_740_991_u64}}), true),
        (vec![], json!({"deep": 5}), true),
        (vec![("On", "true")], json!({"on": true}), true),
        (vec![("On", "True")], json!({"on": true}), false),
        (vec![("On", "[]")], json!({"on": []}), false),
    ] {
        let sent = McpHeaders { params: headers.clone(), ..McpHeaders::default() };
        let text = arguments.to_string();
        let result = agree_params(&annotated, &sent, Some(View::of(text.as_bytes())));
        assert_eq!(result.is_ok(), fits, "{headers:?} {text} {result:?}");
        if let Err(error) = result {
            assert_eq!(error.code, Code::RequestHeaderMismatch);
            assert!(!error.detail.contains("us-west"), "a value is in {}", error.detail);
        }
    }
    let sent = McpHeaders { params: vec![("Region", "a")], ..McpHeaders::default() };
    assert!(agree_params(&annotated, &sent, None).is_err());
    assert!(agree_params(&annotated, &McpHeaders::default(), None).is_ok());
}

proptest! {
    #[test]
    fn any_name_survives_the_sentinel(name in any::<String>()) {
        use base64::Engine as _;
        let header = format!("=?base64?{}?=", base64::engine::general_purpose::STANDARD.encode(&name));
        let call = modern("tools/call", json!({"name": name}));
        prop_assert_eq!(agreed(&named("tools/call", Some(&header)), &call), Ok(()));
    }

    #[test]
    fn any_header_and_any_schema_get_an_answer(header in "\\PC{0,40}", schema in "\\PC{0,60}") {
        let call = modern("tools/call", json!({"name": header}));
        let literal = header.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
        let sentinel = header.starts_with("=?base64?") && header.ends_with("?=");
        prop_assert_eq!(agreed(&named("tools/call", Some(&header)), &call).is_ok(), literal && !sentinel);
        if check(schema.as_bytes(), &JsonLimits::request(&Limits::default())).is_ok() {
            let _ = ParamHeader::from_schema(&View::of(schema.as_bytes()));
        }
    }
}
