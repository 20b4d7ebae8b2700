//! One strict reading of every message: what is no single, unambiguous JSON-RPC message is refused before anything is
//! forwarded, and what is forwarded is what was read.

use std::{fs, path::PathBuf, time::Duration};

use portcullis_testkit::{Era, HostileServer, McpClient, Outcome, raw_exchange};
use portcullis_tests::pair::{Pair, refusals};
use serde_json::{Value, json};

fn vectors(folder: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")).join(folder)
}

/// Every case of JSONTestSuite: name and bytes.
fn suite() -> Outcome<Vec<(String, Vec<u8>)>> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(vectors("jsontestsuite/test_parsing"))? {
        let path = entry?.path();
        let name =
            path.file_name().and_then(|name| name.to_str()).ok_or("a name that is no text")?.to_owned();
        cases.push((name, fs::read(&path)?));
    }
    cases.sort();
    let count = |kind: &str| cases.iter().filter(|(name, _)| name.starts_with(kind)).count();
    assert_eq!((count("n_"), count("y_"), count("i_")), (188, 95, 35), "the vectors are not all there");
    Ok(cases)
}

/// Detectors are off: this is about reading, not about what is said.
async fn start() -> Outcome<Pair> {
    let names =
        ["bidi_controls", "control_characters", "credentials", "email", "payment_card", "tag_characters"];
    let off: String = names.iter().map(|name| format!("  {name}:\n    enabled: false\n")).collect();
    let server = HostileServer::start().await?;
    server.set_tools(vec![json!({"name": "echo", "inputSchema": {"type": "object"}})]);
    Pair::with(server, &format!("inspect:\n{off}"), &[]).await
}

fn modern_call(client: &mut McpClient) -> (Value, String) {
    let (_, message) = client.message("tools/call", json!({"name": "echo", "arguments": {"case": "HERE"}}));
    let text = message.to_string();
    (message, text)
}

#[tokio::test]
async fn no_case_of_the_json_test_suite_is_a_message_and_none_is_forwarded() -> Outcome {
    let pair = start().await?;
    let mut client = pair.modern()?;
    let (shape, _) = modern_call(&mut client);
    pair.server.forget();
    // So deep that they are refused for that before anything else.
    let deep = [
        "i_structure_500_nested_arrays.json",
        "n_structure_100000_opening_arrays.json",
        "n_structure_open_array_object.json",
    ];
    let mut wrong = Vec::new();
    for (name, bytes) in suite()? {
        let reply = client.send_raw(&shape, bytes).await?;
        let expected = if deep.contains(&name.as_str()) { 413 } else { 400 };
        let value: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
        let code = value["error"]["code"].as_i64().unwrap_or_default();
        if reply.status != expected || ![-32700, -32600].contains(&code) || !value["id"].is_null() {
            wrong.push(format!("{name}: {} {}", reply.status, reply.text()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(pair.server.received().iter().filter(|request| !request.method.ends_with("/list")).count(), 0);
    let recorded = refusals(&pair.gateway, "request.malformed", 1).await?.len()
        + refusals(&pair.gateway, "request.invalid", 1).await?.len()
        + refusals(&pair.gateway, "request.too_large", 1).await?.len();
    assert_eq!(recorded, 318, "each refusal is one entry");
    Ok(())
}

#[tokio::test]
async fn inside_a_call_every_case_is_judged_as_the_suite_says_and_forwarded_to_the_byte() -> Outcome {
    let pair = start().await?;
    let mut client = pair.modern()?;
    let twice = ["y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"];
    let (mut wrong, mut accepted, mut either) = (Vec::new(), 0, 0);
    for (name, bytes) in suite()? {
        let (shape, text) = modern_call(&mut client);
        let (before, after) = text.split_once("\"HERE\"").ok_or("no place")?;
        let body = [before.as_bytes(), &bytes, after.as_bytes()].concat();
        pair.server.forget();
        let reply = client.send_raw(&shape, body.clone()).await?;
        let calls: Vec<_> = pair
            .server
            .received()
            .into_iter()
            .filter(|r| r.method == "tools/call" || r.body == body)
            .collect();
        let passed = reply.status == 200;
        accepted += usize::from(passed);
        either += usize::from(passed && name.starts_with("i_"));
        let right = match name.as_bytes()[0] {
            b'n' => !passed,
            b'y' => passed != twice.contains(&name.as_str()),
            _ => true,
        };
        if !right || !matches!(reply.status.as_u16(), 200 | 400 | 413) {
            wrong.push(format!("{name}: {} {}", reply.status, reply.text()));
        }
        if calls.len() != usize::from(passed) || calls.iter().any(|call| call.body != body) {
            wrong.push(format!("{name}: {} forwarded, not the bytes that were judged", calls.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(accepted - either, 93);
    println!("{either} of 35 cases that may go either way are accepted");
    Ok(())
}

/// Bodies that some readers take for the call, or for another one: what, its bytes, the JSON-RPC code.
fn ambiguous(call: &Value) -> Vec<(&'static str, Vec<u8>, i64)> {
    let text = call.to_string();
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1).into_bytes()
    };
    let id = format!("\"id\":{}", call["id"]);
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (malformed, invalid) = (-32700, -32600);
    vec![
        ("nothing", Vec::new(), malformed),
        ("a byte order mark", [b"\xef\xbb\xbf", text.as_bytes()].concat(), malformed),
        ("UTF-16", utf16, malformed),
        (
            "bytes that are no UTF-8",
            [text.trim_end_matches('}').as_bytes(), b",\"x\":\"\xff\"}}}"].concat(),
            malformed,
        ),
        ("a NUL at the end", [text.as_bytes(), b"\0"].concat(), malformed),
        ("two messages", format!("{text}{text}").into_bytes(), malformed),
        ("two messages on two lines", format!("{text}\n{text}").into_bytes(), malformed),
        ("a batch", format!("[{text}]").into_bytes(), invalid),
        ("an empty batch", b"[]".to_vec(), invalid),
        ("a comment", format!("{text}//").into_bytes(), malformed),
        ("single quotes", text.replace('"', "'").into_bytes(), malformed),
        ("a method twice", with("\"method\"", "\"method\":\"ping\",\"method\""), invalid),
        ("a method twice, escaped", with("\"method\"", "\"m\\u0065thod\":\"ping\",\"method\""), invalid),
        ("params twice", with("\"params\"", "\"params\":{},\"params\""), invalid),
        ("a name twice", with("\"name\"", "\"name\":\"delete\",\"name\""), invalid),
        ("a method in other letters", with("\"method\"", "\"Method\":\"ping\",\"method\""), invalid),
        ("a name in other letters", with("\"name\"", "\"NAME\":\"delete\",\"name\""), invalid),
        ("an id twice", with("\"id\"", "\"id\":1,\"id\""), invalid),
        ("a null id", with(&id, "\"id\":null"), invalid),
        ("a fraction as id", with(&id, "\"id\":1.5"), invalid),
        ("an integer with a fraction as id", with(&id, "\"id\":1.0"), invalid),
        ("an exponent as id", with(&id, "\"id\":1e0"), invalid),
        ("a boolean id", with(&id, "\"id\":true"), invalid),
        ("an object as id", with(&id, "\"id\":{}"), invalid),
        ("an array as id", with(&id, "\"id\":[1]"), invalid),
        ("an endless id", with(&id, &format!("\"id\":\"{}\"", "x".repeat(1_100))), invalid),
        ("no version", with("\"jsonrpc\":\"2.0\",", ""), invalid),
        ("another version", with("\"2.0\"", "\"2.1\""), invalid),
        ("a number as version", with("\"2.0\"", "2.0"), invalid),
        ("a number as method", with("\"tools/call\"", "7"), invalid),
        (
            "params as array",
            with("\"params\":{", "\"params\":[{").into_iter().chain(*b"").collect(),
            malformed,
        ),
        ("a method and a result", with("\"method\"", "\"result\":{},\"method\""), invalid),
        (
            "a method and an error",
            with("\"method\"", "\"error\":{\"code\":1,\"message\":\"\"},\"method\""),
            invalid,
        ),
        ("a lone surrogate", with("\"arguments\":{", "\"arguments\":{\"x\":\"\\ud800\""), malformed),
        ("not a number", with("\"arguments\":{", "\"arguments\":{\"x\":NaN"), malformed),
        ("beyond any number", with("\"arguments\":{", "\"arguments\":{\"x\":1e999"), malformed),
        ("a result of nothing", br#"{"jsonrpc":"2.0","id":1}"#.to_vec(), invalid),
        ("an answer without id", br#"{"jsonrpc":"2.0","result":{}}"#.to_vec(), invalid),
        (
            "a notification with an id",
            br#"{"jsonrpc":"2.0","id":1,"method":"notifications/initialized"}"#.to_vec(),
            invalid,
        ),
        (
            "a request without one",
            br#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"echo"}}"#.to_vec(),
            invalid,
        ),
    ]
}

#[tokio::test]
async fn what_two_readers_could_read_differently_is_refused() -> Outcome {
    let pair = start().await?;
    let mut client = pair.client(Era::Legacy).await?;
    let (_, call) = client.message("tools/call", json!({"name": "echo", "arguments": {}}));
    let cases = ambiguous(&call);
    pair.server.forget();
    let mut wrong = Vec::new();
    for (what, body, expected) in &cases {
        let reply = client.send_raw(&call, body.clone()).await?;
        let value: Value = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
        if reply.status != 400 || value["error"]["code"] != *expected {
            wrong.push(format!("{what}: {} {}", reply.status, reply.text()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(pair.server.count("tools/call") + pair.server.count("ping"), 0);
    assert_eq!(client.call("echo", json!({})).await?.status(), 200);
    Ok(())
}

/// One message of the llhttp vectors in a strict mode.
struct Vector {
    name: String,
    bytes: Vec<u8>,
    refused: bool,
}

/// The text of a fenced block as bytes, by the rules of llhttp's own test runner.
fn unfenced(block: &str) -> Vec<u8> {
    let text = block.strip_suffix('\n').unwrap_or(block).replace("\\\n", "").replace('\n', "\r\n");
    let mut bytes = Vec::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at..];
        let (byte, length) = match escape.as_bytes().get(1) {
            Some(b'r') => (b'\r', 2),
            Some(b'n') => (b'\n', 2),
            Some(b't') => (b'\t', 2),
            Some(b'f') => (0x0c, 2),
            Some(b'x') => (u8::from_str_radix(escape.get(2..4).unwrap_or("5c"), 16).unwrap_or(b'\\'), 4),
            _ => (b'\\', 1),
        };
        bytes.push(byte);
        rest = &escape[length.min(escape.len())..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

fn llhttp() -> Outcome<Vec<Vector>> {
    let mut found = Vec::new();
    let mut files: Vec<_> = fs::read_dir(vectors("llhttp-http1/request"))?.collect::<Result<_, _>>()?;
    files.sort_by_key(fs::DirEntry::path);
    for file in files {
        let text = fs::read_to_string(file.path())?.replace("\r\n", "\n");
        let mut title = String::new();
        let mut parts = text.split("```");
        while let (Some(prose), Some(block)) = (parts.next(), parts.next()) {
            if let Some(last) = prose.lines().rfind(|line| line.starts_with('#')) {
                title = last.trim_start_matches(['#', ' ']).to_owned();
            }
            let strict = prose
                .lines()
                .rfind(|line| line.contains("meta="))
                .is_some_and(|meta| meta.contains("\"type\": \"request\""));
            let (Some(http), Some(_gap)) = (block.strip_prefix("http\n"), parts.next()) else { continue };
            let log =
                parts.next().and_then(|log| log.strip_prefix("log\n")).ok_or("a message without a log")?;
            if strict {
                let name = format!("{}: {title}", file.file_name().to_string_lossy());
                found.push(Vector {
                    name,
                    bytes: unfenced(http),
                    refused: log.contains(" error code=")
                        && !log.contains("error code=21")
                        && !log.contains("error code=22"),
                });
            }
        }
    }
    Ok(found)
}

/// What we answer although llhttp refuses it, how many answers it gets, and why it does no harm.
const ACCEPTED: &[(&str, usize, &str)] = &[
    ("connection.md: No restart when keep-alive is off (1.0)", 1, CLOSED),
    ("connection.md: CRLF between requests, explicit `close`", 1, CLOSED),
    ("connection.md: CRLF between requests, explicit `close` followed by tab", 1, CLOSED),
    ("invalid.md: HTTP protocol and ANNOUNCE method", 1, METHOD),
    ("invalid.md: Invalid method", 1, METHOD),
    ("method.md: PRI request HTTP2", 2, METHOD),
    ("invalid.md: Headers separated by LF", 1, LINE_FEED),
    ("invalid.md: Empty headers separated by LF", 1, LINE_FEED),
    ("invalid.md: Missing CR between headers", 2, LINE_FEED),
    ("invalid.md: Only LFs present", 1, LINE_FEED),
    ("transfer-encoding.md: No semicolon before chunk extensions", 1, NOT_READ),
    ("transfer-encoding.md: No extension after semicolon", 1, NOT_READ),
    ("transfer-encoding.md: Unbalanced chunk extensions quoting", 1, NOT_READ),
    ("transfer-encoding.md: Missing last-chunk", 1, NOT_READ),
    ("transfer-encoding.md: Validate chunk parameters", 1, NOT_READ),
    ("transfer-encoding.md: Chunk header not terminated by CRLF", 1, NOT_READ),
    ("transfer-encoding.md: Chunk data not terminated by CRLF", 1, NOT_READ),
    ("transfer-encoding.md: Space after chunk header", 1, NOT_READ),
    ("uri.md: Disallow UTF-8 in URI path in strict mode", 1, "our routes are ASCII; the path leads nowhere"),
];
const CLOSED: &str = "what follows `Connection: close` is thrown away instead of refused";
const METHOD: &str = "hyper takes any token for a method; the route refuses it";
const LINE_FEED: &str =
    "RFC 9112 section 2.2 lets a recipient end a line at a bare line feed, and hyper does";
const NOT_READ: &str = "there is no such path, and the answer does not wait for the body; see the next test";

#[tokio::test]
async fn http_that_llhttp_refuses_is_refused_here_and_ends_the_connection() -> Outcome {
    let pair = start().await?;
    let address = pair.gateway.address();
    let vectors = llhttp()?;
    let refused = vectors.iter().filter(|vector| vector.refused).count();
    assert_eq!((vectors.len(), refused), (133, 55), "the vectors are not all there");
    pair.server.forget();
    let (mut wrong, mut accepted) = (Vec::new(), 0);
    for vector in vectors.iter().filter(|vector| vector.refused) {
        let named = ACCEPTED.iter().find(|(name, ..)| *name == vector.name);
        // Whoever is to be answered gets the time that a busy machine takes for it.
        let patience = Duration::from_millis(if named.is_some() { 3_000 } else { 200 });
        let answer = raw_exchange(address, &vector.bytes, patience).await?;
        let text = String::from_utf8_lossy(&answer);
        let statuses: Vec<_> = text.split("HTTP/1.").skip(1).filter_map(|rest| rest.get(2..5)).collect();
        // What hyper refuses has no body; what reached our routes has JSON.
        let reached = text.contains("\"jsonrpc\"");
        accepted += usize::from(reached);
        let expected = match named {
            Some((_, answers, _)) => reached && statuses.len() == *answers && statuses[0] == "404",
            None => {
                !reached && statuses.iter().all(|status| matches!(*status, "400" | "414" | "431" | "505"))
            }
        };
        if !expected {
            let sent = String::from_utf8_lossy(&vector.bytes);
            wrong.push(format!("{}: {statuses:?} to {sent:?}", vector.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(accepted, ACCEPTED.len(), "the list names what is not there");
    assert!(pair.server.received().iter().all(|request| request.method.ends_with("/list")));
    Ok(())
}

/// Framing of a body that we read although llhttp refuses it.
const READ: &[(&str, &str)] = &[
    (
        "transfer-encoding.md: No extension after semicolon",
        "an empty extension says nothing, and extensions are not used",
    ),
    (
        "transfer-encoding.md: Space after chunk header",
        "RFC 9112 section 7.1.1 has optional white space in that place",
    ),
];

#[tokio::test]
async fn a_body_framed_against_the_rules_is_no_body() -> Outcome {
    let pair = start().await?;
    let (address, key) = (pair.gateway.address(), pair.gateway.key()?.to_owned());
    let (mut wrong, mut tried, mut read) = (Vec::new(), 0, 0);
    for vector in
        llhttp()?.iter().filter(|vector| vector.refused && vector.name.starts_with("transfer-encoding.md"))
    {
        let text = String::from_utf8_lossy(&vector.bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").ok_or("no body")?;
        let framing: String = head
            .split("\r\n")
            .filter(|line| {
                let line = line.to_ascii_lowercase();
                line.starts_with("transfer-encoding") || line.starts_with("content-length")
            })
            .map(|line| format!("{line}\r\n"))
            .collect();
        let request = format!(
            "POST /mcp/s HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nAuthorization: Bearer {key}\r\n{framing}\r\n{body}"
        );
        tried += 1;
        let named = READ.iter().any(|(name, _)| *name == vector.name);
        let patience = Duration::from_millis(if named { 3_000 } else { 300 });
        let answer = raw_exchange(address, request.as_bytes(), patience).await?;
        let text = String::from_utf8_lossy(&answer);
        // No vector's body is JSON: one that was read whole is refused for that, not for its framing.
        let whole = text.contains("request.malformed");
        read += usize::from(whole);
        if whole != named || text.matches("HTTP/1.1 ").count() > 1 {
            let first: Vec<_> = text.lines().filter(|line| line.starts_with("HTTP/")).collect();
            wrong.push(format!("{}: {first:?} to {framing:?} {body:?}", vector.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!((tried, read), (14, READ.len()), "the vectors are not all there");
    Ok(())
}
