//! Whatever an entry holds, its bytes are the canonical JSON of one line that a library makes of them.

extern crate std;
use alloc::{borrow::ToOwned, collections::BTreeMap, string::String, sync::Arc, vec::Vec};
use core::net::{IpAddr, Ipv4Addr};

use portcullis_core::{
    Action, CallerKind, Code, Digest, Event, Finding, Severity, Target, TargetKind, Timestamp, Treatment,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Actor, Content, Decision, ENTRY_BYTES_MAX, Entry, Output};

/// Checks the bytes against the library; returns the value.
fn check(entry: &Entry<'_>) -> Value {
    let bytes = entry.to_jcs();
    assert!(bytes.len() <= ENTRY_BYTES_MAX, "{} bytes", bytes.len());
    assert!(!bytes.iter().any(|byte| *byte < 0x20), "one line without control characters");
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(serde_json_canonicalizer::to_vec(&value).unwrap(), bytes, "{value}");
    value
}

struct Texts {
    id: String,
    detail: String,
    name: String,
    roles: Vec<String>,
    policies: Vec<String>,
    findings: Vec<Finding>,
    data: BTreeMap<String, Value>,
}

fn full<'a>(texts: &'a Texts, target: &'a Target) -> Entry<'a> {
    let roles = &texts.roles;
    let issuer = Some(texts.id.as_str());
    Entry {
        action: Some(Action::CallTool),
        actor: Some(Actor {
            id: &texts.id,
            kind: CallerKind::User,
            proof: "jwt",
            roles,
            issuer,
            token: Some(Digest::of(b"t")),
        }),
        code: Some(Code::PolicyDenied),
        data: texts.data.iter().map(|(key, value)| (key.as_str(), value.clone())).collect(),
        decision: Some(Decision { allow: false, policies: &texts.policies }),
        detail: Some(&texts.detail),
        era: Some("2025-11-25"),
        findings: &texts.findings,
        input: Some(Content { digest: Digest::of(b"i"), size: 1 }),
        intent: Some(41),
        latency_us: Some(u64::MAX),
        method: Some(&texts.name),
        output: Some(Output { digest: Digest::of(b"o"), size: 2, error: Some(&texts.detail) }),
        rules: Some(Digest::of(b"r")),
        session: Some(Digest::of(b"s")),
        source: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        status: Some(200),
        target: Some(target),
        trace: Some(&texts.id),
        ..Entry::new(Event::CallOutcome, Timestamp(1_767_225_599_999), "gateway-1")
    }
}

fn target(name: &str) -> Target {
    let item = Some((TargetKind::Tool, Arc::from(name)));
    Target { server: Arc::from("files"), item, digest: Some(Digest::of(b"d")) }
}

#[test]
fn the_members_are_those_of_the_schema() {
    let finding = Finding {
        kind: "email",
        severity: Severity::Low,
        confidence: Finding::CERTAIN,
        place: "/arguments/to".to_owned(),
        evidence: Digest::of(b"e"),
        treatment: Treatment::Mask,
    };
    let texts = Texts {
        id: "key:abc".to_owned(),
        detail: "no".to_owned(),
        name: "tools/call".to_owned(),
        roles: Vec::from(["reader".to_owned()]),
        policies: Vec::from(["p1".to_owned()]),
        findings: Vec::from([finding]),
        data: BTreeMap::from([("key".to_owned(), json!({"b": 1, "a": [null, true]}))]),
    };
    let target = target("read_file");
    let value = check(&full(&texts, &target));
    let expected = json!({
        "action": "call_tool",
        "actor": {"id": "key:abc", "issuer": "key:abc", "kind": "user", "proof": "jwt", "roles": ["reader"],
            "token": Digest::of(b"t")},
        "at": "2025-12-31T23:59:59.999Z",
        "code": "policy.denied",
        "data": {"key": {"a": [null, true], "b": 1}},
        "decision": {"effect": "deny", "policies": ["p1"]},
        "detail": "no",
        "era": "2025-11-25",
        "event": "call.outcome",
        "findings": [{"evidence": Digest::of(b"e"), "kind": "email", "place": "/arguments/to", "severity": "low",
            "treatment": "mask"}],
        "input": {"digest": Digest::of(b"i"), "size": 1},
        "instance": "gateway-1",
        "intent": 41,
        "latency_us": 9_007_199_254_740_991_u64,
        "method": "tools/call",
        "output": {"digest": Digest::of(b"o"), "error": "no", "size": 2},
        "rules": Digest::of(b"r"),
        "session": Digest::of(b"s"),
        "source": "127.0.0.1",
        "status": 200,
        "target": {"digest": Digest::of(b"d"), "kind": "tool", "name": "read_file", "server": "files"},
        "trace": "key:abc",
        "v": 1,
    });
    assert_eq!(value, expected);
    let smallest = check(&Entry::new(Event::GatewayStarted, Timestamp(0), "g"));
    assert_eq!(
        smallest,
        json!({"at": "1970-01-01T00:00:00.000Z", "event": "gateway.started", "instance": "g", "v": 1})
    );
}

#[test]
fn texts_that_are_too_long_go_by_digest_and_lists_are_counted() {
    let worst = "\u{1}".repeat(70_000);
    let finding = Finding {
        kind: "email",
        severity: Severity::High,
        confidence: Finding::CERTAIN,
        place: worst.clone(),
        evidence: Digest::of(b"e"),
        treatment: Treatment::Refuse,
    };
    let texts = Texts {
        id: worst.clone(),
        detail: worst.clone(),
        name: worst.clone(),
        roles: alloc::vec![worst.clone(); 300],
        policies: alloc::vec!["\u{2}".repeat(128); 3_000],
        findings: alloc::vec![finding; 500],
        data: BTreeMap::from([("k".to_owned(), json!(worst))]),
    };
    let target = target(&worst);
    let value = check(&full(&texts, &target));
    let digest = json!({"digest": Digest::of(worst.as_bytes()), "size": 70_000});
    assert_eq!(value["detail"], digest);
    assert_eq!(value["actor"]["roles"][0], digest);
    assert_eq!(value["omitted"], json!({"findings": 484, "policies": 2_984, "roles": 284}));
    assert!(value["data"]["digest"].is_string());
    let short = Texts {
        roles: Vec::new(),
        policies: Vec::new(),
        findings: Vec::new(),
        data: BTreeMap::new(),
        id: "i".to_owned(),
        name: "n".to_owned(),
        detail: texts.detail,
    };
    let value = check(&full(&short, &target));
    assert_eq!((&value["detail"], &value["actor"]["id"]), (&digest, &json!("i")));
    assert!(value.get("omitted").is_none());
}

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\\x00-\\x1f\"\\\\\\x7f\u{80}\u{2028}\u{2029}\u{feff}\u{fb33}\u{1f602}]{0,40}"
    ]
}

proptest! {
    #[test]
    fn hostile_texts_give_the_same_bytes_as_the_library(
        id in hostile(), detail in hostile(), name in hostile(),
        roles in prop::collection::vec(hostile(), 0..4), policies in prop::collection::vec(hostile(), 0..4),
        data in prop::collection::btree_map(hostile(), hostile(), 0..4),
    ) {
        let data = data.into_iter().map(|(key, value)| (key, json!(value))).collect();
        let texts = Texts { id, detail, name, roles, policies, findings: Vec::new(), data };
        let target = target(&texts.name);
        let value = check(&full(&texts, &target));
        prop_assert_eq!(value["detail"].as_str(), Some(texts.detail.as_str()));
        prop_assert_eq!(value["target"]["name"].as_str(), Some(texts.name.as_str()));
        prop_assert_eq!(value["actor"]["id"].as_str(), Some(texts.id.as_str()));
    }
}
