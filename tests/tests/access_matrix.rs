//! Every route, HTTP method, revision and MCP method with every kind of credential, from one table each. A method or
//! an endpoint without an expectation fails, so that nobody adds one without deciding who may use it.

use std::collections::BTreeMap;

use http::Method;
use portcullis_admin::{Access, ENDPOINTS};
use portcullis_mcp::method::{Form, TABLE};
use portcullis_testkit::{
    Client, Era, Gateway, Hostile, HostileServer, McpClient, Outcome, Reply, free_ports,
};
use portcullis_tests::pair::{SOON, entries, known, new_key};
use serde_json::{Value, json};

const WRONG_KEY: &str = "pcl_aaaaaaaaaaaa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What a request comes to: `ok`, or status and code of the refusal; a third word is the code in the ledger where the
/// caller is told less.
type Seen = &'static str;

const HIDDEN: Seen = "200 target.unknown policy.denied";
const HIDDEN_RESOURCE: Seen = "200 resource.unknown policy.denied";
const DENIED: Seen = "403 policy.denied";
/// A made-up id, which is told before anything about policy: `tests/tasks.rs` has those that exist.
const NO_TASK: Seen = "200 task.unknown";
const NO_SESSION: Seen = "400 session.missing";
const UNKNOWN: Seen = "200 method.unknown";
const UNKNOWN_MODERN: Seen = "404 method.unknown";

/// Legacy: operator, visitor (may only connect), stranger (may nothing); then the same for the modern revision.
const EXPECTED: &[(&str, [Seen; 6])] = &[
    ("tools/call", ["ok", HIDDEN, NO_SESSION, "ok", HIDDEN, HIDDEN]),
    ("resources/read", ["ok", HIDDEN_RESOURCE, NO_SESSION, "ok", HIDDEN, HIDDEN]),
    ("prompts/get", ["ok", HIDDEN, NO_SESSION, "ok", HIDDEN, HIDDEN]),
    ("tools/list", ["ok", "ok", NO_SESSION, "ok", "ok", DENIED]),
    ("prompts/list", ["ok", "ok", NO_SESSION, "ok", "ok", DENIED]),
    ("resources/list", ["ok", "ok", NO_SESSION, "ok", "ok", DENIED]),
    ("resources/templates/list", ["ok", "ok", NO_SESSION, "ok", "ok", DENIED]),
    ("notifications/progress", ["ok", "ok", NO_SESSION, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN]),
    ("notifications/message", [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN]),
    ("notifications/cancelled", ["ok", "ok", NO_SESSION, "ok", "ok", DENIED]),
    ("completion/complete", ["ok", HIDDEN, NO_SESSION, "ok", HIDDEN, HIDDEN]),
    ("server/discover", [UNKNOWN, UNKNOWN, UNKNOWN, "ok", "ok", DENIED]),
    ("subscriptions/listen", [UNKNOWN, UNKNOWN, UNKNOWN, "ok", "ok", DENIED]),
    (
        "notifications/subscriptions/acknowledged",
        [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN],
    ),
    ("initialize", ["ok", "ok", DENIED, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN]),
    ("notifications/initialized", ["ok", "ok", NO_SESSION, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN]),
    ("ping", ["ok", "ok", NO_SESSION, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN]),
    ("logging/setLevel", ["ok", "ok", NO_SESSION, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN]),
    (
        "resources/subscribe",
        ["ok", HIDDEN_RESOURCE, NO_SESSION, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN],
    ),
    (
        "resources/unsubscribe",
        ["ok", HIDDEN_RESOURCE, NO_SESSION, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN],
    ),
    (
        "notifications/roots/list_changed",
        ["ok", DENIED, NO_SESSION, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN],
    ),
    (
        "notifications/resources/updated",
        [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN],
    ),
    (
        "notifications/resources/list_changed",
        [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN],
    ),
    (
        "notifications/tools/list_changed",
        [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN],
    ),
    (
        "notifications/prompts/list_changed",
        [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN],
    ),
    ("sampling/createMessage", [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN]),
    ("elicitation/create", [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN]),
    ("roots/list", [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN]),
    (
        "notifications/elicitation/complete",
        [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN],
    ),
    ("tasks/get", [NO_TASK, NO_TASK, NO_SESSION, NO_TASK, NO_TASK, NO_TASK]),
    ("tasks/cancel", [NO_TASK, NO_TASK, NO_SESSION, NO_TASK, NO_TASK, NO_TASK]),
    ("tasks/update", [UNKNOWN, UNKNOWN, UNKNOWN, NO_TASK, NO_TASK, NO_TASK]),
    ("tasks/result", [NO_TASK, NO_TASK, NO_SESSION, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN]),
    ("tasks/list", ["ok", DENIED, NO_SESSION, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN]),
    (
        "notifications/tasks/status",
        ["ok", DENIED, NO_SESSION, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN],
    ),
    ("notifications/tasks", [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN_MODERN, UNKNOWN_MODERN, UNKNOWN_MODERN]),
];

fn params(method: &str) -> Value {
    match method {
        "tools/call" => json!({"name": "echo", "arguments": {"text": "hi"}}),
        "prompts/get" => json!({"name": "greet"}),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => json!({"uri": "file:///a"}),
        "completion/complete" => {
            json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": "a"}})
        }
        "logging/setLevel" => json!({"level": "info"}),
        "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "matrix", "version": "1"}}),
        "notifications/cancelled" => json!({"requestId": 4711}),
        "notifications/progress" => json!({"progressToken": 1, "progress": 1}),
        _ if method.starts_with("tasks/") => json!({"taskId": "t-1"}),
        _ => json!({}),
    }
}

async fn world() -> Outcome<(HostileServer, Gateway)> {
    let server = HostileServer::start().await?;
    server.set_prompts(vec![json!({"name": "greet", "arguments": [{"name": "who"}]})]);
    server.set_resources(vec![json!({"uri": "file:///a", "name": "a"})]);
    let answered = [
        "completion/complete",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
        "subscriptions/listen",
        "tasks/get",
        "tasks/cancel",
        "tasks/update",
        "tasks/result",
        "tasks/list",
    ];
    for method in answered {
        server.on(method, Hostile::Answer(json!({"resultType": "complete"})));
    }
    let yaml = format!(
        "listen:\n  address: 127.0.0.1:{port}\n  origins: [https://app.example]\nservers:\n  s:\n    url: {url}\nroles:\n  visitor:\n    allow:\n      - actions: [connect]\n  stranger:\n    description: may do nothing\n\
         limits:\n  source_rate_per_s: 1000000\n  source_burst_max: 1000000\n  caller_rate_per_s: 1000000\n  caller_burst_max: 1000000\n",
        url = server.url(),
        port = free_ports(1)?[0],
    );
    let gateway = Gateway::start(&yaml).await?;
    known(&gateway, SOON).await?;
    Ok((server, gateway))
}

/// What a reply says, in the words of the table.
fn seen(reply: &Reply, form: Form) -> String {
    let status = reply.status.as_u16();
    let text = reply.text();
    let json: Value = text
        .lines()
        .find_map(|line| serde_json::from_str(line.trim_start_matches("data:")).ok())
        .unwrap_or_default();
    let code = json
        .pointer("/error/data/code")
        .or_else(|| json.pointer("/result/_meta/dev.portcullis~1code"))
        .and_then(Value::as_str);
    // An unknown resource looks as it does on a real server, which names the URI and no code of ours.
    let unknown = json.pointer("/error/data/uri").and(json.pointer("/error/code")).and_then(Value::as_i64);
    match (
        status,
        code.or(unknown.map(|code| if code == -32002 { "resource.unknown" } else { "target.unknown" })),
        form,
    ) {
        (200, None, Form::Request) if json.get("result").is_some() => "ok".to_owned(),
        (202, None, Form::Notification) => "ok".to_owned(),
        (_, Some(code), _) => format!("{status} {code}"),
        (_, None, _) => format!("{status} {text}"),
    }
}

/// One message, sent as a correct client of the era sends it.
async fn send(client: &mut McpClient, method: &str, form: Form) -> Outcome<Reply> {
    let (_, mut message) = client.message(method, params(method));
    if form == Form::Notification {
        message.as_object_mut().unwrap().remove("id");
    }
    let headers = client.headers(&message);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Client::default().post(&client.url, &headers, message.to_string()).await
}

/// What the ledger must hold in the end.
#[derive(Default)]
struct Tally {
    refused: BTreeMap<String, usize>,
    passed: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn judge(&mut self, what: &str, expected: &str, seen: &str) {
        let mut words = expected.split(' ');
        let shown = words.by_ref().take(2).collect::<Vec<_>>().join(" ");
        if shown == "ok" {
            self.passed += 1;
        } else {
            let recorded = words.next().or(shown.split(' ').nth(1)).unwrap_or_default();
            *self.refused.entry(recorded.to_owned()).or_default() += 1;
        }
        if seen != shown {
            self.wrong.push(format!("{what}: expected {shown}, got {seen}"));
        }
    }
}

#[tokio::test]
async fn every_method_meets_its_expectation_for_every_caller_and_each_refusal_is_one_entry() -> Outcome {
    for row in TABLE {
        assert!(EXPECTED.iter().any(|(name, _)| *name == row.name), "decide who may send `{}`", row.name);
    }
    assert_eq!(EXPECTED.len(), TABLE.len(), "an expectation for a method that does not exist");
    let (_server, gateway) = world().await?;
    let operator = gateway.key()?.to_owned();
    let (visitor, stranger) =
        (new_key(&gateway, "visitor", "visitor")?, new_key(&gateway, "stranger", "stranger")?);
    let mut tally = Tally::default();
    for (index, era) in Era::ALL.into_iter().enumerate() {
        for (column, key) in [&operator, &visitor, &stranger].into_iter().enumerate() {
            let mut client = McpClient::new(&gateway.url("s"), Some(key), era);
            if era == Era::Legacy && column < 2 {
                client.initialize().await?;
                tally.passed += 2;
            }
            for row in TABLE {
                let (_, expected) = EXPECTED.iter().find(|(name, _)| *name == row.name).unwrap();
                let expected = expected[index * 3 + column];
                // A session opened again is another one; the client keeps its own.
                let reply = send(&mut client, row.name, row.form).await?;
                tally.judge(&format!("{era:?} {column} {}", row.name), expected, &seen(&reply, row.form));
                let unknown = expected.ends_with("method.unknown");
                let swapped = if row.form == Form::Request { Form::Notification } else { Form::Request };
                let expected = if unknown { expected } else { "400 request.invalid" };
                let reply = send(&mut client, row.name, swapped).await?;
                tally.judge(
                    &format!("{era:?} {column} {} in the other form", row.name),
                    expected,
                    &seen(&reply, swapped),
                );
            }
        }
        for (credential, expected) in [(None, "401 auth.missing"), (Some(WRONG_KEY), "401 auth.invalid")] {
            let mut client = McpClient::new(&gateway.url("s"), credential, era);
            for row in TABLE {
                let reply = send(&mut client, row.name, row.form).await?;
                assert!(
                    reply.header("www-authenticate").starts_with("Bearer resource_metadata="),
                    "{}",
                    row.name
                );
                tally.judge(
                    &format!("{era:?} {credential:?} {}", row.name),
                    expected,
                    &seen(&reply, row.form),
                );
            }
            let reply = send(&mut client, "no/such", Form::Request).await?;
            tally.judge("an unknown method", expected, &seen(&reply, Form::Request));
        }
    }
    assert!(tally.wrong.is_empty(), "{} cells differ:\n{}", tally.wrong.len(), tally.wrong.join("\n"));
    let mut recorded = BTreeMap::new();
    for entry in entries(&gateway, "event=call.refused").await? {
        *recorded.entry(entry["code"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(recorded, tally.refused);
    assert_eq!(entries(&gateway, "event=call.intent").await?.len(), tally.passed);
    assert_eq!(entries(&gateway, "event=call.outcome").await?.len(), tally.passed);
    Ok(())
}

/// Route, then GET, POST, DELETE, PUT, HEAD, OPTIONS, TRACE; without a credential and with the operator's.
const ROUTES: &[(&str, [u16; 7], [u16; 7])] = &[
    ("/healthz", [200, 404, 404, 404, 404, 404, 404], [200, 404, 404, 404, 404, 404, 404]),
    (
        "/.well-known/oauth-protected-resource/mcp/s",
        [200, 404, 404, 404, 404, 404, 404],
        [200, 404, 404, 404, 404, 404, 404],
    ),
    ("/.well-known/oauth-protected-resource", [404; 7], [404; 7]),
    ("/.well-known/oauth-protected-resource/mcp/a%2Fb", [404; 7], [404; 7]),
    ("/mcp/s", [401, 401, 401, 405, 405, 405, 405], [400, 400, 400, 405, 405, 405, 405]),
    // Whether a server exists is not told without a credential.
    ("/mcp/nobody", [401, 401, 401, 405, 405, 405, 405], [400, 400, 400, 405, 405, 405, 405]),
    ("/mcp/", [404; 7], [404; 7]),
    ("/mcp/s/", [404; 7], [404; 7]),
    ("/mcp/s/more", [404; 7], [404; 7]),
    ("/mcp//s", [404; 7], [404; 7]),
    ("/mcp/%73", [404; 7], [404; 7]),
    ("/MCP/s", [404; 7], [404; 7]),
    // Where no server has accounts of its users there are no pages to connect to one.
    ("/connect/s", [404; 7], [404; 7]),
    ("/connect/callback", [404; 7], [404; 7]),
    ("/connect/client.json", [404; 7], [404; 7]),
    ("/", [404; 7], [404; 7]),
    ("/metrics", [404; 7], [404; 7]),
    ("/v1/status", [404; 7], [404; 7]),
    ("/v1/keys", [404; 7], [404; 7]),
    ("/v1/kills", [404; 7], [404; 7]),
];

const VERBS: [Method; 7] =
    [Method::GET, Method::POST, Method::DELETE, Method::PUT, Method::HEAD, Method::OPTIONS, Method::TRACE];

#[tokio::test]
async fn every_route_of_the_data_plane_answers_every_http_method_as_expected() -> Outcome {
    let (_server, gateway) = world().await?;
    let bearer = format!("Bearer {}", gateway.key()?);
    let (client, mut wrong, mut refused) = (Client::default(), Vec::new(), 0);
    for (route, without, with) in ROUTES {
        for (credential, expected) in [(None, without), (Some(&bearer), with)] {
            for (verb, expected) in VERBS.into_iter().zip(expected) {
                let url = format!("{}{route}", gateway.base());
                let mut headers = vec![
                    ("accept", "application/json, text/event-stream"),
                    ("content-type", "application/json"),
                ];
                headers.extend(credential.map(|value| ("authorization", value.as_str())));
                let reply = client.send(verb.clone(), &url, &headers, "{}".into()).await?;
                if reply.status.as_u16() != *expected {
                    wrong.push(format!(
                        "{verb} {route} {}: {} not {expected}",
                        credential.is_some(),
                        reply.status
                    ));
                }
                refused += usize::from(*expected >= 400);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(entries(&gateway, "event=call.refused").await?.len(), refused, "one entry per refusal");
    Ok(())
}

#[tokio::test]
async fn a_forged_host_or_origin_is_refused_before_the_credential_is_looked_at() -> Outcome {
    let (_server, gateway) = world().await?;
    let (port, bearer) = (gateway.address().port(), format!("Bearer {}", gateway.key()?));
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;
    let own = format!("127.0.0.1:{port}");
    let (named, numbered) = (format!("http://localhost:{port}"), format!("http://127.0.0.1:{port}"));
    let secure = format!("https://localhost:{port}");
    let cases = [
        ("evil.example".to_owned(), None, "403 request.host"),
        (format!("127.0.0.1.evil.example:{port}"), None, "403 request.host"),
        ("[::1".to_owned(), None, "403 request.host"),
        (String::new(), None, "403 request.host"),
        (own.clone(), Some("https://evil.example"), "403 request.origin"),
        (own.clone(), Some("null"), "403 request.origin"),
        (own.clone(), Some("file://"), "403 request.origin"),
        (own.clone(), Some("http://localhost.evil.example"), "403 request.origin"),
        (own.clone(), Some("http://localhost@evil.example"), "403 request.origin"),
        // A page on another port or scheme of this machine is another's. After DNS rebinding a page keeps its own origin,
        // and mostly its own name.
        (format!("evil.example:{port}"), Some("http://evil.example"), "403 request.host"),
        (own.clone(), Some("http://evil.example"), "403 request.origin"),
        (format!("localhost:{port}"), Some("http://localhost:9"), "403 request.origin"),
        (format!("localhost:{port}"), Some("http://localhost"), "403 request.origin"),
        (format!("localhost:{port}"), Some(&*secure), "403 request.origin"),
        (own.clone(), Some(&*named), "403 request.origin"),
        (format!("localhost:{port}"), Some(&*named), "ok"),
        (own.clone(), Some(&*numbered), "ok"),
        (own.clone(), Some("https://app.example"), "ok"),
        (own.clone(), Some("https://app.example:8443"), "403 request.origin"),
        (own, None, "ok"),
    ];
    for (host, origin, expected) in cases {
        let mut headers = vec![
            ("host", host.as_str()),
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        ];
        headers.extend(origin.map(|origin| ("origin", origin)));
        let reply = Client::default().post(&gateway.url("s"), &headers, body).await?;
        assert_eq!(seen(&reply, Form::Request), expected, "host {host:?} origin {origin:?}");
        // The same without a credential: the answer must not depend on it.
        if expected != "ok" {
            headers.retain(|(name, _)| *name != "authorization");
            let reply = Client::default().post(&gateway.url("s"), &headers, body).await?;
            assert_eq!(
                seen(&reply, Form::Request),
                expected,
                "host {host:?} origin {origin:?} without credential"
            );
        }
    }
    Ok(())
}

/// Endpoint by name, what to ask, and the status with the token; without one it is 401 but for the open ones.
const ADMIN: &[(&str, &str, &str, u16, bool)] = &[
    ("healthz", "/healthz", "", 200, true),
    ("metrics", "/metrics", "", 200, false),
    ("openapi", "/openapi.json", "", 200, true),
    ("status", "/v1/status", "", 200, false),
    ("list_keys", "/v1/keys", "", 200, false),
    ("create_key", "/v1/keys", r#"{"name":"x","roles":["reader"]}"#, 200, false),
    ("revoke_key", "/v1/keys/nosuchkey", "", 404, false),
    ("list_grants", "/v1/grants", "", 200, false),
    (
        "create_grant",
        "/v1/grants",
        r#"{"caller":"local:x","role":"reader","for_s":60,"reason":"for the matrix"}"#,
        200,
        false,
    ),
    ("revoke_grant", "/v1/grants/nosuchgrant", "", 404, false),
    ("list_quotas", "/v1/quotas", "", 200, false),
    ("list_secrets", "/v1/secrets", "", 200, false),
    ("put_secret", "/v1/secrets", r#"{"name":"x","value":"some value"}"#, 200, false),
    ("remove_secret", "/v1/secrets/remove", r#"{"name":"never"}"#, 404, false),
    ("secret_uses", "/v1/secrets/uses?name=local:never", "", 404, false),
    ("renew_secret", "/v1/secrets/renew", r#"{"name":"env:NOTHING"}"#, 404, false),
    ("list_canaries", "/v1/canaries", "", 200, false),
    ("create_canary", "/v1/canaries", r#"{"name":"x","kind":"npm"}"#, 200, false),
    ("remove_canary", "/v1/canaries/remove", r#"{"name":"never"}"#, 404, false),
    ("list_sinks", "/v1/sinks", "", 200, false),
    ("move_sink", "/v1/sinks/move", r#"{"name":"none","next":0}"#, 404, false),
    ("test_sink", "/v1/sinks/test", r#"{"name":"none"}"#, 404, false),
    ("seal_status", "/v1/seal", "", 200, false),
    ("rotate_seal_keys", "/v1/seal/rotate", r#"{"what":"rewrap"}"#, 200, false),
    ("shred_everything", "/v1/seal/shred", r#"{"instance":"no","reason":"x"}"#, 400, false),
    ("list_connections", "/v1/connections", "", 200, false),
    ("revoke_connection", "/v1/connections/revoke", r#"{"caller":"key:x","server":"s"}"#, 404, false),
    ("list_servers", "/v1/servers", "", 200, false),
    ("add_server", "/v1/servers", r#"{"name":"t","server":{"url":"http://127.0.0.1:9/mcp"}}"#, 200, false),
    ("remove_server", "/v1/servers/nosuch", "", 404, false),
    ("list_definitions", "/v1/definitions", "", 200, false),
    ("show_definition", "/v1/definitions/show?server=s&name=echo", "", 200, false),
    ("diff_definition", "/v1/definitions/diff?server=s&name=echo", "", 200, false),
    ("approve_definition", "/v1/definitions/approve", r#"{"server":"s","name":"echo"}"#, 200, false),
    ("reject_definition", "/v1/definitions/reject", r#"{"server":"s","name":"delete"}"#, 200, false),
    (
        "explain_policy",
        "/v1/policy/explain",
        r#"{"server":"s","name":"echo","roles":["reader"]}"#,
        200,
        false,
    ),
    ("find_person", "/v1/privacy/find", r#"{"subject":"x@example.com"}"#, 200, false),
    ("erase_person", "/v1/privacy/erase", r#"{"subject":"x@example.com","reason":"request 1"}"#, 200, false),
    ("list_approvals", "/v1/approvals", "", 200, false),
    ("show_approval", "/v1/approvals/apr_nosuch", "", 404, false),
    ("approve_call", "/v1/approvals/approve", r#"{"id":"apr_nosuch"}"#, 403, false),
    ("deny_call", "/v1/approvals/deny", r#"{"id":"apr_nosuch"}"#, 403, false),
    ("answer_by_hook", "/v1/approvals/answer/chat", "{}", 401, false),
    ("list_kills", "/v1/kills", "", 200, false),
    ("kill", "/v1/kills", r#"{"kind":"caller","name":"key:nobody"}"#, 200, false),
    ("unkill", "/v1/kills/lift", r#"{"kind":"caller","name":"key:nobody"}"#, 200, false),
    ("list_entries", "/v1/ledger/entries", "", 200, false),
    ("search_ledger", "/v1/ledger/search?event=key.created", "", 200, false),
    ("index_state", "/v1/ledger/index", "", 200, false),
    ("rebuild_index", "/v1/ledger/index/rebuild", "", 200, false),
    ("sign_checkpoint", "/v1/ledger/checkpoint", "", 200, false),
    ("prove_entry", "/v1/ledger/proof/0", "", 200, false),
    ("reload_config", "/v1/config/reload", "", 200, false),
];

#[tokio::test]
async fn every_endpoint_of_the_admin_api_wants_the_admin_token_and_nothing_else_will_do() -> Outcome {
    let (_server, gateway) = world().await?;
    // Ten refusals a second are recorded, so the first of one kind comes before the many of the other.
    let status = format!("{}/v1/status", gateway.admin_base());
    assert_eq!(Client::default().get(&status, &[]).await?.status, 401);
    let token = gateway.admin_token()?;
    let credentials = [
        ("none", None),
        ("a wrong token", Some("Bearer 00".to_owned())),
        ("an empty token", Some("Bearer ".to_owned())),
        ("a longer token", Some(format!("Bearer {token}0"))),
        ("a shorter token", Some(format!("Bearer {}", &token[1..]))),
        ("an API key", Some(format!("Bearer {}", gateway.key()?))),
        ("another scheme", Some(format!("Basic {token}"))),
        ("the token", Some(format!("Bearer {token}"))),
    ];
    for endpoint in ENDPOINTS {
        let Some((_, target, body, expected, open)) = ADMIN.iter().find(|(name, ..)| *name == endpoint.name)
        else {
            return Err(format!("decide who may use the endpoint `{}`", endpoint.name).into());
        };
        let url = format!("{}{target}", gateway.admin_base());
        for (what, credential) in &credentials {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(credential.as_deref().map(|value| ("authorization", value)));
            let verb: Method = endpoint.method.parse()?;
            let reply = Client::default().send(verb, &url, &headers, (*body).into()).await?;
            let allowed = *open || *what == "the token";
            let status = reply.status.as_u16();
            // People answer with keys of their own, and the admin token is no person. Who may search must be told.
            let with_key =
                (endpoint.access == Access::Key && *what == "an API key").then_some(match endpoint.name {
                    "list_approvals" => 200,
                    "search_ledger" => 403,
                    _ => 404,
                });
            assert_eq!(
                status,
                with_key.unwrap_or(if allowed { *expected } else { 401 }),
                "{} with {what}: {}",
                endpoint.name,
                reply.text()
            );
            // Other pages of a browser and other names of this machine get nowhere, whatever they hold.
            let mut forged = headers.clone();
            forged.push(("origin", "http://localhost"));
            let reply =
                Client::default().send(endpoint.method.parse()?, &url, &forged, (*body).into()).await?;
            assert_eq!(reply.status, 403, "{} with {what} and an Origin", endpoint.name);
            let mut forged = headers.clone();
            forged.push(("host", "evil.example"));
            let reply =
                Client::default().send(endpoint.method.parse()?, &url, &forged, (*body).into()).await?;
            assert_eq!(reply.status, 403, "{} with {what} and a foreign Host", endpoint.name);
        }
        let bearer = format!("Bearer {token}");
        for verb in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD] {
            let exists =
                ENDPOINTS.iter().any(|other| other.path == endpoint.path && other.method == verb.as_str());
            if !exists {
                let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
                let reply = Client::default().send(verb.clone(), &url, &headers, (*body).into()).await?;
                assert_eq!(reply.status, 405, "{verb} {target}");
            }
        }
    }
    assert_eq!(ADMIN.len(), ENDPOINTS.len(), "an expectation for an endpoint that does not exist");
    let refused = entries(&gateway, "event=admin.refused").await?;
    assert!(refused.iter().any(|entry| entry["data"]["code"] == "admin.unauthorized"), "{refused:?}");
    assert!(refused.iter().any(|entry| entry["data"]["code"] == "admin.forbidden"));
    Ok(())
}
