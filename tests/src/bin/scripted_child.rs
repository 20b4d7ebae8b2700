//! An MCP server on stdio that does what tests need: it answers out of order, asks, reports its process id and what
//! it received, floods, crashes. Speaks both revisions, or the older one alone with `--legacy`. With `--slow` it takes
//! longer to start than it is waited for, and the first message decides its revision; with `--gruff` as well it then says of
//! `initialize` only that it knows no such method.

use std::{
    fs::File,
    io::{BufRead as _, Write as _},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

/// What the threads share.
#[derive(Default)]
struct Shared {
    /// Lines as they came.
    seen: Mutex<Vec<String>>,
    /// Answers that are given later, the newest first.
    later: Mutex<Vec<Vec<Value>>>,
    /// Requests that wait for the client's answer to our question, by our id.
    asking: Mutex<Vec<(u64, Value)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn say(messages: &[Value]) {
    let text: String = messages.iter().map(|message| format!("{message}\n")).collect();
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if let Some(at) = arguments.iter().position(|argument| argument == "--starts")
        && let Some(path) = arguments.get(at + 1)
        && let Ok(mut file) = File::options().create(true).append(true).open(path)
    {
        let _ = writeln!(file, "{}", std::process::id());
    }
    if has("--die") {
        std::process::exit(3);
    }
    if has("--slow") {
        // Longer than a child is given to say which revision it speaks.
        thread::sleep(Duration::from_millis(5_600));
    }
    let shared = Arc::new(Shared::default());
    let answering = Arc::clone(&shared);
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_millis(2));
            let waiting = std::mem::take(&mut *lock(&answering.later));
            for messages in waiting.iter().rev() {
                say(messages);
            }
        }
    });
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let message: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
        let decided = lock(&shared.seen).first().is_some_and(|first| first.contains("server/discover"));
        lock(&shared.seen).push(line);
        if let (true, true, Some(id)) = (has("--slow"), decided, message.get("id"))
            && message.get("method").is_some_and(|method| method == "initialize")
        {
            let named = json!({"code": -32022, "message": "too late",
                "data": {"supported": ["2026-07-28"], "requested": "2025-11-25"}});
            let gruff = json!({"code": -32601, "message": "Method not found"});
            let error = if has("--gruff") { gruff } else { named };
            say(&[json!({"jsonrpc": "2.0", "id": id, "error": error})]);
            continue;
        }
        take(&message, has("--legacy"), &shared);
        let method = message.get("method").and_then(Value::as_str).unwrap_or_default();
        let opened = method == "initialize" || (method == "server/discover" && !has("--legacy"));
        if opened && has("--die-when-opened") {
            std::process::exit(3);
        }
    }
    if has("--linger") {
        thread::sleep(Duration::from_secs(600));
    }
}

fn take(message: &Value, legacy: bool, shared: &Arc<Shared>) {
    let id = message.get("id").cloned();
    let method = message.get("method").and_then(Value::as_str).unwrap_or_default();
    match (id, method) {
        (Some(id), "") => answered(&id, message, shared),
        (None, _) => {}
        (Some(id), "tools/call") => call(&id, message, shared),
        (Some(id), "subscriptions/listen") => {
            let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
            say(&[json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                "params": {"_meta": meta, "notifications": {}}})]);
        }
        (Some(id), method) => match proper(method, message, legacy) {
            Some(result) => say(&[json!({"jsonrpc": "2.0", "id": id, "result": result})]),
            None => say(&[json!({"jsonrpc": "2.0", "id": id,
                "error": {"code": -32601, "message": "Method not found"}})]),
        },
    }
}

fn proper(method: &str, message: &Value, legacy: bool) -> Option<Value> {
    let info = json!({"name": "scripted-child", "version": "1"});
    let capabilities = json!({"tools": {}, "logging": {}});
    match method {
        "server/discover" if !legacy => Some(json!({"resultType": "complete", "serverInfo": info,
            "supportedVersions": ["2026-07-28", "2025-11-25"], "capabilities": capabilities,
            "ttlMs": 0, "cacheScope": "private"})),
        "initialize" => {
            let version = message.pointer("/params/protocolVersion").cloned();
            Some(json!({"protocolVersion": version, "capabilities": capabilities, "serverInfo": info}))
        }
        "ping" => Some(json!({})),
        "tools/list" => {
            let names =
                ["ask", "crash", "echo", "env", "flood", "giant", "hang", "noise", "pid", "seen", "shuffled"];
            // What it was given, and calls that take their time, for those that ask for it.
            let kept = std::env::args().any(|argument| argument == "--keeps");
            let more = ["given", "slow"].into_iter().filter(|_| kept);
            let tool = |name| json!({"name": name, "inputSchema": {"type": "object"}});
            let tools: Vec<Value> = names.into_iter().chain(more).map(tool).collect();
            Some(json!({"tools": tools, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}))
        }
        _ => None,
    }
}

fn text(id: &Value, text: impl Into<String>) -> Value {
    let content = json!([{"type": "text", "text": text.into()}]);
    json!({"jsonrpc": "2.0", "id": id, "result": {"content": content, "resultType": "complete"}})
}

fn call(id: &Value, message: &Value, shared: &Arc<Shared>) {
    let argument = |name: &str| message.pointer(&format!("/params/arguments/{name}"));
    let number = |name: &str| argument(name).and_then(Value::as_u64).unwrap_or_default();
    let words = argument("text").and_then(Value::as_str).unwrap_or_default();
    match message.pointer("/params/name").and_then(Value::as_str).unwrap_or_default() {
        "ask" => {
            let own = 9_000 + lock(&shared.asking).len() as u64;
            lock(&shared.asking).push((own, id.clone()));
            let method = argument("method").and_then(Value::as_str).unwrap_or("elicitation/create");
            say(&[json!({"jsonrpc": "2.0", "id": own, "method": method,
                "params": {"message": words, "requestedSchema": {"type": "object", "properties": {}}}})]);
        }
        "crash" => std::process::exit(7),
        "env" => {
            let names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
            say(&[text(id, names.join(","))]);
        }
        "flood" => {
            let token = message.pointer("/params/_meta/progressToken").cloned();
            let (id, count, bytes) = (id.clone(), number("count"), number("bytes") as usize);
            // Beside the calls of others, which are answered as before as far as anybody takes what is said.
            thread::spawn(move || {
                for part in 0..count {
                    say(&[json!({"jsonrpc": "2.0", "method": "notifications/progress",
                        "params": {"progressToken": token, "progress": part, "message": "f".repeat(bytes)}})]);
                }
                say(&[text(&id, "done")]);
            });
        }
        "giant" => say(&[text(id, "g".repeat(number("bytes") as usize))]),
        "given" => {
            let bytes = std::env::var("KEPT").map_or(0, |value| value.len());
            say(&[text(id, format!("{} {bytes}", std::process::id()))]);
        }
        "slow" => {
            let (id, ms) = (id.clone(), number("ms"));
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(ms));
                say(&[text(&id, format!("{} slow", std::process::id()))]);
            });
        }
        "hang" => {}
        "noise" => {
            let line = format!("{}\n", "noise ".repeat(16));
            let mut errors = std::io::stderr().lock();
            for _ in 0..number("lines") {
                let _ = errors.write_all(line.as_bytes());
            }
            say(&[text(id, "done")]);
        }
        "pid" => say(&[text(id, std::process::id().to_string())]),
        "seen" => {
            let seen = lock(&shared.seen).join("\n");
            say(&[text(id, seen)]);
        }
        "shuffled" => {
            let token = message.pointer("/params/_meta/progressToken").cloned();
            let progress = token.map(|token| {
                json!({"jsonrpc": "2.0", "method": "notifications/progress",
                    "params": {"progressToken": token, "progress": 1, "message": words}})
            });
            lock(&shared.later).push(progress.into_iter().chain([text(id, words)]).collect());
        }
        _ => say(&[text(id, words)]),
    }
}

/// The client answered our question: what it said becomes the text of the call's result.
fn answered(id: &Value, message: &Value, shared: &Arc<Shared>) {
    let waiting =
        lock(&shared.asking).iter().find(|(own, _)| json!(own) == *id).map(|(_, call)| call.clone());
    if let Some(call) = waiting {
        say(&[text(&call, message.to_string())]);
    }
}
