//! The sample server through its lines.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use portcullis_core::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{META_CAPABILITIES, META_VERSION, MODERN, Server};

#[derive(Clone, Default)]
struct Out(Arc<Mutex<Vec<u8>>>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Talk {
    server: Server<Out>,
    out: Out,
    modern: bool,
}

impl Talk {
    fn open(modern: bool) -> Self {
        let out = Out::default();
        let talk = Self { server: Server::new(out.clone(), || Timestamp(0)), out, modern };
        let first = if modern {
            talk.ask("server/discover", json!({}))
        } else {
            talk.ask(
                "initialize",
                json!({ "protocolVersion": "2025-11-25", "capabilities": {},
                "clientInfo": { "name": "t", "version": "1" } }),
            )
        };
        assert!(first["result"]["capabilities"]["tools"].is_object(), "{first}");
        talk
    }

    fn say(&self, line: &str) -> Vec<Value> {
        self.server.line(line.as_bytes()).unwrap();
        self.heard()
    }

    fn heard(&self) -> Vec<Value> {
        let bytes = std::mem::take(&mut *self.out.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn message(&self, id: u64, method: &str, mut params: Value) -> String {
        if self.modern {
            params["_meta"][META_VERSION] = json!(MODERN);
            params["_meta"][META_CAPABILITIES] = json!({});
        }
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
    }

    fn ask(&self, method: &str, params: Value) -> Value {
        let answers = self.say(&self.message(7, method, params));
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!((answers[0]["id"].as_u64(), answers[0]["jsonrpc"].as_str()), (Some(7), Some("2.0")));
        answers[0].clone()
    }

    fn call(&self, tool: &str, arguments: Value) -> Value {
        self.ask("tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    fn wait(&self, count: usize) -> Vec<Value> {
        let began = Instant::now();
        let mut seen = Vec::new();
        while seen.len() < count && began.elapsed() < Duration::from_secs(30) {
            seen.extend(self.heard());
            std::thread::sleep(Duration::from_millis(2));
        }
        seen
    }
}

#[test]
fn every_definition_is_complete_and_every_schema_compiles_and_fits_its_own_answers() {
    for modern in [false, true] {
        let talk = Talk::open(modern);
        let tools = talk.ask("tools/list", json!({}))["result"]["tools"].clone();
        let names: Vec<_> =
            tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["echo", "add", "now", "notes.search", "notes.delete", "countdown"]);
        for (tool, arguments) in
            [("add", json!({ "a": 1.5, "b": 2 })), ("notes.search", json!({ "query": "e" }))]
        {
            let definition = tools.as_array().unwrap().iter().find(|each| each["name"] == tool).unwrap();
            let input = jsonschema::validator_for(&definition["inputSchema"]).unwrap();
            let output = jsonschema::validator_for(&definition["outputSchema"]).unwrap();
            assert!(input.is_valid(&arguments) && !input.is_valid(&json!({ "x": 1 })));
            let result = talk.call(tool, arguments)["result"].clone();
            assert!(output.is_valid(&result["structuredContent"]), "{result}");
            let text: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
            assert_eq!(text, result["structuredContent"]);
        }
        assert_eq!(talk.ask("prompts/list", json!({}))["result"]["prompts"].as_array().unwrap().len(), 1);
        assert_eq!(talk.ask("resources/list", json!({}))["result"]["resources"].as_array().unwrap().len(), 2);
        let templates =
            talk.ask("resources/templates/list", json!({}))["result"]["resourceTemplates"].clone();
        assert_eq!(templates[0]["uriTemplate"], "note:///{id}");
    }
}

#[test]
fn tools_do_what_they_say() {
    let talk = Talk::open(false);
    let text = |answer: Value| answer["result"]["content"][0]["text"].as_str().unwrap_or_default().to_owned();
    assert_eq!(text(talk.call("echo", json!({ "text": "ü\n\"x\"" }))), "ü\n\"x\"");
    assert_eq!(talk.call("add", json!({ "a": 2, "b": 0.5 }))["result"]["structuredContent"]["sum"], 2.5);
    assert_eq!(
        talk.call("add", json!({ "a": 2, "b": -5 }))["result"]["structuredContent"],
        json!({ "sum": -3 })
    );
    assert_eq!(
        talk.call("add", json!({ "a": i64::MAX, "b": 1 }))["result"]["structuredContent"]["sum"],
        2f64.powi(63)
    );
    assert_eq!(text(talk.call("now", json!({}))), "1970-01-01T00:00:00.000Z");
    let travel = text(talk.call("notes.search", json!({ "query": "HOTEL" })));
    assert!(travel.contains("4111 1111 1111 1111") && travel.contains("AKIA"), "{travel}");
    assert!(text(talk.call("notes.delete", json!({ "id": "groceries" }))).starts_with("deleted"));
    assert_eq!(talk.call("notes.delete", json!({ "id": "nothing" }))["result"]["isError"], true);
    assert_eq!(talk.call("add", json!({ "a": 1.7e308, "b": 1.7e308 }))["result"]["isError"], true);
}

#[test]
fn prompts_resources_and_completions_answer() {
    for modern in [false, true] {
        let talk = Talk::open(modern);
        let prompt =
            talk.ask("prompts/get", json!({ "name": "summarise", "arguments": { "note": "groceries" } }));
        assert!(prompt["result"]["messages"][0]["content"]["text"].as_str().unwrap().contains("olives"));
        let read = talk.ask("resources/read", json!({ "uri": "note:///travel" }));
        assert!(read["result"]["contents"][0]["text"].as_str().unwrap().contains("Hotel"));
        let completed = talk.ask(
            "completion/complete",
            json!({ "ref": { "type": "ref/prompt", "name": "summarise" },
            "argument": { "name": "note", "value": "g" } }),
        );
        assert_eq!(completed["result"]["completion"]["values"], json!(["groceries"]));
        let missing = talk.ask("resources/read", json!({ "uri": "file:///etc/passwd" }));
        assert_eq!(missing["error"]["code"], if modern { -32602 } else { -32002 });
    }
}

#[test]
fn wrong_requests_get_the_errors_of_the_specification() {
    let talk = Talk::open(false);
    for (method, params, code) in [
        ("tools/call", json!({ "name": "nothing" }), -32602),
        ("tools/call", json!({}), -32602),
        ("tools/call", json!({ "name": "echo", "arguments": [] }), -32602),
        ("tools/call", json!({ "name": "echo", "arguments": { "text": 5 } }), -32602),
        ("tools/call", json!({ "name": "countdown", "arguments": { "from": 21 } }), -32602),
        ("tools/list", json!({ "cursor": "" }), -32602),
        ("prompts/get", json!({ "name": "nothing" }), -32602),
        ("prompts/get", json!({ "name": "summarise" }), -32602),
        ("completion/complete", json!({ "ref": {} }), -32602),
        ("server/discover", json!({}), -32601),
        ("no/such/method", json!({}), -32601),
    ] {
        assert_eq!(talk.ask(method, params)["error"]["code"], code, "{method}");
    }
    for (line, code) in [
        ("{", -32700),
        ("[]", -32600),
        ("{\"jsonrpc\":\"2.0\",\"id\":1}", -32600),
        ("{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}", -32600),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":[]}", -32602),
    ] {
        assert_eq!(talk.say(line)[0]["error"]["code"], code, "{line}");
    }
    for silent in [
        "",
        " \r\n",
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":9,\"result\":{}}",
    ] {
        assert!(talk.say(silent).is_empty(), "{silent}");
    }
}

#[test]
fn the_first_request_decides_the_revision_for_good() {
    let out = Out::default();
    let talk = Talk { server: Server::new(out.clone(), || Timestamp(0)), out, modern: false };
    assert_eq!(talk.ask("tools/list", json!({}))["error"]["code"], -32600);
    assert_eq!(talk.ask("server/discover", json!({}))["error"]["code"], -32602);
    assert_eq!(talk.ask("ping", json!({}))["result"], json!({}));

    let modern = Talk::open(true);
    let line = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": { "protocolVersion": "2025-11-25" } });
    let refused = modern.say(&line.to_string());
    assert_eq!(refused[0]["error"]["code"], -32022);
    assert_eq!(refused[0]["error"]["data"], json!({ "supported": [MODERN], "requested": "2025-11-25" }));
    for method in ["ping", "logging/setLevel", "resources/subscribe"] {
        assert_eq!(modern.ask(method, json!({}))["error"]["code"], -32601, "{method}");
    }
    let bare = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    assert_eq!(modern.say(&bare)[0]["error"]["code"], -32602);
    for (version, capabilities, code) in [("2030-01-01", json!({}), -32022), (MODERN, Value::Null, -32602)] {
        let meta = json!({ META_VERSION: version, META_CAPABILITIES: capabilities });
        let line = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "_meta": meta } });
        assert_eq!(modern.say(&line.to_string())[0]["error"]["code"], code);
    }
    let legacy = Talk::open(false);
    for (asked, given) in [("2024-11-05", "2024-11-05"), ("1999-01-01", "2025-11-25")] {
        let answer = legacy.ask("initialize", json!({ "protocolVersion": asked }));
        assert_eq!(answer["result"]["protocolVersion"], given);
    }
}

#[test]
fn modern_results_say_their_type_and_cacheable_ones_their_lifetime() {
    let modern = Talk::open(true);
    for (method, params, cacheable) in [
        ("server/discover", json!({}), true),
        ("tools/list", json!({}), true),
        ("resources/templates/list", json!({}), true),
        ("resources/read", json!({ "uri": "note:///welcome" }), true),
        ("tools/call", json!({ "name": "now" }), false),
        ("prompts/get", json!({ "name": "summarise", "arguments": { "note": "welcome" } }), false),
    ] {
        let result = modern.ask(method, params)["result"].clone();
        assert_eq!(result["resultType"], "complete");
        assert_eq!(result["ttlMs"].is_u64() && result["cacheScope"] == "public", cacheable, "{method}");
    }
    assert!(Talk::open(false).ask("tools/list", json!({}))["result"].get("resultType").is_none());
}

#[test]
fn a_countdown_reports_growing_progress_and_holds_nobody_up() {
    for modern in [false, true] {
        let talk = Talk::open(modern);
        let params = json!({ "name": "countdown", "arguments": { "from": 3, "delay_ms": 30 },
            "_meta": { "progressToken": "p-1" } });
        assert!(talk.say(&talk.message(1, "tools/call", params)).is_empty());
        assert!(talk.call("echo", json!({ "text": "meanwhile" }))["result"].is_object());
        let seen = talk.wait(4);
        let progress: Vec<_> =
            seen.iter().filter_map(|message| message["params"]["progress"].as_u64()).collect();
        assert_eq!(progress, [1, 2, 3]);
        assert!(seen.iter().take(3).all(|message| message["params"]["progressToken"] == "p-1"));
        assert_eq!((&seen[3]["id"], seen[3]["result"]["isError"].as_bool()), (&json!(1), Some(false)));
    }
}

#[test]
fn a_cancelled_countdown_says_nothing_more_and_their_number_is_bounded() {
    let talk = Talk::open(false);
    let slow = json!({ "name": "countdown", "arguments": { "from": 20, "delay_ms": 1_000 } });
    for id in 1..=16 {
        assert!(talk.say(&talk.message(id, "tools/call", slow.clone())).is_empty());
    }
    assert_eq!(talk.ask("tools/call", slow)["error"]["code"], -32000);
    for id in 1..=16 {
        let line =
            json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } });
        assert!(talk.say(&line.to_string()).is_empty());
    }
    let quick = json!({ "name": "countdown", "arguments": { "from": 1, "delay_ms": 0 } });
    // A countdown ends when its own thread notices, so the first tries may still find no room.
    let started = (0..500).any(|_| {
        let refused = !talk.say(&talk.message(99, "tools/call", quick.clone())).is_empty();
        if refused {
            std::thread::sleep(Duration::from_millis(10));
        }
        !refused
    });
    assert!(started, "cancelled countdowns make room");
    let seen = talk.wait(1);
    assert_eq!((seen.len(), &seen[0]["id"]), (1, &json!(99)));
    std::thread::sleep(Duration::from_millis(1_100));
    assert!(talk.heard().is_empty());
}

#[test]
fn a_subscription_is_acknowledged_as_empty() {
    let talk = Talk::open(true);
    let seen = talk.say(&talk.message(
        5,
        "subscriptions/listen",
        json!({ "notifications": { "toolsListChanged": true } }),
    ));
    assert_eq!(seen[0]["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(seen[0]["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 5);
    assert_eq!(seen[0]["params"]["notifications"], json!({}));
    assert_eq!(talk.ask("subscriptions/listen", json!({}))["error"]["code"], -32602);
}

proptest! {
    #[test]
    fn no_line_panics_and_every_answer_is_one_line_of_json(line in "\\PC{0,80}|[{}\\[\\]\":,a-z0-9 ]{0,80}") {
        for modern in [false, true] {
            let talk = Talk::open(modern);
            prop_assert!(talk.say(&line).len() <= 1);
        }
    }
}
