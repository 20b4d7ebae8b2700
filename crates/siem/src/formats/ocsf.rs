//! Open Cybersecurity Schema Framework 1.8.0: the class that fits each event, and a Detection Finding beside it where
//! detectors saw something.

use serde_json::{Map, Value, json};

use super::{Body, Format, PRODUCT, VERSION};
use crate::{Grade, Seen};

/// The kind.
pub(super) const KIND: Format = Format {
    name: "ocsf",
    doc: "OCSF 1.8.0: API Activity, Authentication, Authorize Session, Entity Management, Application Lifecycle, Application Error, \
          Detection Finding.",
    render,
};

/// The released version of the schema.
const SCHEMA: &str = "1.8.0";

/// A class of OCSF: its number, its category, and their names.
#[derive(Clone, Copy)]
struct Class(u32, &'static str, u32, &'static str);

const API: Class = Class(6003, "API Activity", 6, "Application Activity");
const APPLICATION: Class = Class(6002, "Application Lifecycle", 6, "Application Activity");
const AUTHENTICATION: Class = Class(3002, "Authentication", 3, "Identity & Access Management");
const AUTHORIZE: Class = Class(3003, "Authorize Session", 3, "Identity & Access Management");
const ENTITY: Class = Class(3004, "Entity Management", 3, "Identity & Access Management");
const ERROR: Class = Class(6008, "Application Error", 6, "Application Activity");
const FINDING: Class = Class(2004, "Detection Finding", 2, "Findings");

/// Members of an entry that have a place of their own in every class.
const MAPPED: &[&str] = &["at", "event", "trace", "v"];

fn class(seen: &Seen) -> Class {
    match seen.event() {
        "call.refused" | "admin.refused" if is_authentication(seen) => AUTHENTICATION,
        "call.intent" | "call.outcome" | "call.refused" | "server.request" => API,
        "canary.seen"
        | "secret.leaked"
        | "sandbox.denied"
        | "definition.changed"
        | "definition.held"
        | "definitions.changed" => FINDING,
        "gateway.started" | "gateway.stopped" | "ledger.recovered" => APPLICATION,
        "grant.created" | "grant.break_glass" => AUTHORIZE,
        "connection.failed" | "sink.failing" | "sink.recovered" | "sink.skipped" => ERROR,
        _ => ENTITY,
    }
}

fn is_authentication(seen: &Seen) -> bool {
    seen.event() == "admin.refused" || seen.text("/code").starts_with("auth.")
}

fn render(seen: &Seen) -> Vec<Body> {
    let class = class(seen);
    let mut first = base(seen, class, &seen.id());
    let activity = match class.0 {
        2004 => finding(seen, &mut first, &seen.id(), seen.event(), &[seen.event()]),
        3002 => authentication(seen, &mut first),
        3003 => authorize(seen, &mut first),
        3004 => entity(seen, &mut first),
        6002 => lifecycle(seen, &mut first),
        6003 => api(seen, &mut first),
        _ => (2, "Exception"),
    };
    let mut out = vec![finish(first, class, activity)];
    let kinds = seen.kinds();
    if class.0 != FINDING.0 && !kinds.is_empty() {
        let id = format!("{}:finding", seen.id());
        let mut second = base(seen, FINDING, &id);
        let activity = finding(seen, &mut second, &id, &kinds.join(", "), &kinds);
        out.push(finish(second, FINDING, activity));
    }
    out
}

fn finish(mut body: Map<String, Value>, class: Class, (activity, name): (u32, &str)) -> Body {
    body.insert("activity_id".to_owned(), json!(activity));
    body.insert("activity_name".to_owned(), json!(name));
    body.insert("type_uid".to_owned(), json!(class.0 * 100 + activity));
    body.insert("type_name".to_owned(), json!(format!("{}: {name}", class.1)));
    Body::Json(Value::Object(body))
}

/// What every class has.
fn base(seen: &Seen, class: Class, id: &str) -> Map<String, Value> {
    let code = seen.text("/code");
    let severity = seen.grade.of([1, 2, 3, 4, 5]);
    let names = ["Informational", "Low", "Medium", "High", "Critical"];
    let refused = !code.is_empty() || seen.event().ends_with(".refused");
    let mut body = Map::from_iter([
        ("category_uid".to_owned(), json!(class.2)),
        ("category_name".to_owned(), json!(class.3)),
        ("class_uid".to_owned(), json!(class.0)),
        ("class_name".to_owned(), json!(class.1)),
        ("severity_id".to_owned(), json!(severity)),
        ("severity".to_owned(), json!(names.get(usize::from(severity) - 1))),
        ("time".to_owned(), json!(seen.at_ms())),
        ("message".to_owned(), json!(seen.line())),
        ("metadata".to_owned(), metadata(seen, id)),
        ("action_id".to_owned(), json!(if refused { 2 } else { 1 })),
        ("disposition_id".to_owned(), json!(if refused { 2 } else { 1 })),
        ("is_alert".to_owned(), json!(seen.grade >= Grade::High)),
    ]);
    // A finding is new, not a success.
    if class.0 != FINDING.0 {
        body.insert("status_id".to_owned(), json!(if refused { 2 } else { 1 }));
    }
    if !code.is_empty() {
        body.insert("status_code".to_owned(), json!(code));
    }
    if !seen.text("/detail").is_empty() {
        body.insert("status_detail".to_owned(), json!(seen.text("/detail")));
    }
    let rest = seen.entry.iter().filter(|(key, _)| !MAPPED.contains(&key.as_str()));
    let rest: Map<String, Value> = rest.map(|(key, value)| (key.clone(), value.clone())).collect();
    if !rest.is_empty() {
        body.insert("unmapped".to_owned(), Value::Object(rest));
    }
    body
}

fn metadata(seen: &Seen, id: &str) -> Value {
    let mut metadata = json!({
        "version": SCHEMA,
        "product": { "name": PRODUCT, "vendor_name": PRODUCT, "version": VERSION },
        "profiles": ["security_control"],
        "uid": id,
        "original_event_uid": seen.id(),
        "event_code": seen.event(),
        "log_name": &*seen.log,
        "log_provider": PRODUCT,
        "original_time": seen.text("/at"),
        "sequence": seen.index,
    });
    if let (Some(metadata), false) = (metadata.as_object_mut(), seen.text("/trace").is_empty()) {
        metadata.insert("correlation_uid".to_owned(), json!(seen.text("/trace")));
    }
    metadata
}

fn user(seen: &Seen, id: &str) -> Value {
    let id = if id.is_empty() { "unknown" } else { id };
    let roles = seen.at("/actor/roles").and_then(Value::as_array);
    let groups: Vec<Value> =
        roles.into_iter().flatten().map(|role| json!({ "name": role, "type": "role" })).collect();
    let mut user = json!({ "uid": id });
    if let (Some(user), false) = (user.as_object_mut(), groups.is_empty()) {
        user.insert("groups".to_owned(), Value::Array(groups));
    }
    user
}

fn actor(seen: &Seen) -> Value {
    match seen.text("/actor/id") {
        "" => json!({ "app_name": PRODUCT }),
        id => json!({ "user": user(seen, id) }),
    }
}

fn source(seen: &Seen) -> Value {
    let text = seen.text("/source");
    match text.parse::<core::net::IpAddr>() {
        Ok(_) => json!({ "ip": text }),
        Err(_) if text.is_empty() => json!({ "name": "unknown" }),
        Err(_) => json!({ "uid": text }),
    }
}

fn api(seen: &Seen, body: &mut Map<String, Value>) -> (u32, &'static str) {
    let method = seen.text("/method");
    let operation = if method.is_empty() { seen.event() } else { method };
    let server = seen.text("/target/server");
    let mut api = json!({ "operation": operation });
    if let (Some(api), false) = (api.as_object_mut(), server.is_empty()) {
        api.insert("service".to_owned(), json!({ "name": server }));
    }
    body.insert("api".to_owned(), api);
    body.insert("actor".to_owned(), actor(seen));
    body.insert("src_endpoint".to_owned(), source(seen));
    resources(seen, body);
    if let Some(status) = seen.at("/status") {
        body.insert("http_response".to_owned(), json!({ "code": status }));
    }
    if let Some(us) = seen.at("/latency_us").and_then(Value::as_u64) {
        body.insert("duration".to_owned(), json!(us / 1_000));
    }
    match operation.rsplit('/').next().unwrap_or_default() {
        "list" | "read" | "get" => (2, "Read"),
        _ => (99, "Other"),
    }
}

fn resources(seen: &Seen, body: &mut Map<String, Value>) {
    let name = seen.text("/target/name");
    if !name.is_empty() {
        let kind = seen.text("/target/kind");
        let namespace = seen.text("/target/server");
        let resource = json!([{ "name": name, "type": kind, "namespace": namespace }]);
        body.insert("resources".to_owned(), resource);
    }
}

fn authentication(seen: &Seen, body: &mut Map<String, Value>) -> (u32, &'static str) {
    body.insert("user".to_owned(), user(seen, seen.text("/actor/id")));
    body.insert("service".to_owned(), json!({ "name": PRODUCT }));
    body.insert("src_endpoint".to_owned(), source(seen));
    (1, "Logon")
}

fn authorize(seen: &Seen, body: &mut Map<String, Value>) -> (u32, &'static str) {
    body.insert("user".to_owned(), user(seen, seen.text("/data/caller")));
    body.insert("actor".to_owned(), actor(seen));
    let role = seen.at("/data/role").and_then(Value::as_str).unwrap_or("unknown");
    body.insert("privileges".to_owned(), json!([role]));
    (1, "Assign Privileges")
}

fn lifecycle(seen: &Seen, body: &mut Map<String, Value>) -> (u32, &'static str) {
    body.insert("app".to_owned(), json!({ "name": PRODUCT, "vendor_name": PRODUCT, "version": VERSION }));
    match seen.event() {
        "gateway.started" => (3, "Start"),
        "gateway.stopped" => (4, "Stop"),
        _ => (5, "Restart"),
    }
}

fn entity(seen: &Seen, body: &mut Map<String, Value>) -> (u32, &'static str) {
    let (kind, verb) = seen.event().split_once('.').unwrap_or((seen.event(), ""));
    let names = [
        "/target/name",
        "/data/name",
        "/data/id",
        "/data/secret",
        "/data/approval",
        "/data/subject",
        "/target/server",
    ];
    let name = names.into_iter().map(|pointer| seen.text(pointer)).find(|text| !text.is_empty());
    body.insert("entity".to_owned(), json!({ "name": name.unwrap_or(kind), "type": kind }));
    body.insert("actor".to_owned(), actor(seen));
    match (kind, verb) {
        ("kill", "set") => (12, "Suspend"),
        ("kill", "lifted") => (13, "Resume"),
        (_, "created" | "put" | "added" | "pinned" | "asked" | "granted" | "observed" | "planted") => {
            (1, "Create")
        }
        (_, "searched" | "used" | "exported") => (2, "Read"),
        (_, "changed" | "rotated" | "refreshed" | "approved" | "rejected" | "denied" | "redeemed") => {
            (3, "Update")
        }
        (_, "removed" | "revoked" | "erased" | "vanished" | "expired" | "shredded") => (4, "Delete"),
        _ => (99, "Other"),
    }
}

fn finding(
    seen: &Seen,
    body: &mut Map<String, Value>,
    id: &str,
    title: &str,
    kinds: &[&str],
) -> (u32, &'static str) {
    body.insert(
        "finding_info".to_owned(),
        json!({
            "uid": id,
            "title": title,
            "types": kinds,
            "desc": seen.line(),
            "created_time": seen.at_ms(),
            "data_sources": [PRODUCT],
        }),
    );
    let mut evidence =
        Map::from_iter([("actor".to_owned(), actor(seen)), ("src_endpoint".to_owned(), source(seen))]);
    resources(seen, &mut evidence);
    body.insert("evidences".to_owned(), json!([evidence]));
    resources(seen, body);
    (1, "Create")
}
