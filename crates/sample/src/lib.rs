//! A small MCP server on standard input and output, so that a fresh gateway has something real behind it. It speaks both
//! revisions; the first request decides which one, for the life of the process. It is an honest server, not a stub: its
//! answers follow the specification, and its notes hold data that a gateway has to mask.

mod catalog;
#[cfg(test)]
mod tests;
mod tools;

use std::{
    collections::BTreeSet,
    io::{BufRead, Write},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use portcullis_core::Timestamp;
use serde_json::{Map, Value, json};

/// The revision with `initialize`.
const LEGACY: &str = "2025-11-25";

/// Revisions with `initialize` that differ in nothing that this server uses.
const LEGACY_ALL: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// The revision without sessions.
const MODERN: &str = "2026-07-28";

/// Longest line that is read; a longer one ends the process, since its end cannot be told from the next message.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Countdowns at once.
const COUNTDOWNS_MAX: usize = 16;

const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";
const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// Serves standard input until it ends.
///
/// # Errors
/// Standard input or output broke, or a line is too long.
pub fn run() -> anyhow::Result<()> {
    let server = Server::new(std::io::stdout(), now);
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = std::io::Read::take(&mut input, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            anyhow::bail!(
                "the input broke off in the middle of a line, or a line is longer than {LINE_BYTES_MAX} bytes"
            );
        }
        server.line(&line)?;
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Which revision the process speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Era {
    Legacy,
    Modern,
}

/// An error answer.
#[derive(Debug)]
struct Fault {
    code: i32,
    message: String,
    data: Option<Value>,
}

impl Fault {
    fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// Invalid parameters.
    fn params(message: impl Into<String>) -> Self {
        Self::new(-32602, message)
    }
}

/// The server, apart from where its lines come from. Clones are the same server.
#[derive(Debug)]
struct Server<W> {
    out: Arc<Mutex<W>>,
    now: fn() -> Timestamp,
    era: OnceLock<Era>,
    /// Ids, as JSON text, of requests that are still being worked on.
    open: Arc<Mutex<BTreeSet<String>>>,
}

impl<W: Write + Send + 'static> Server<W> {
    fn new(out: W, now: fn() -> Timestamp) -> Self {
        Self { out: Arc::new(Mutex::new(out)), now, era: OnceLock::new(), open: Arc::default() }
    }

    /// Takes one message. Fails only when the answer cannot be written, that is when nobody listens any more.
    fn line(&self, line: &[u8]) -> std::io::Result<()> {
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            return if line.trim_ascii().is_empty() {
                Ok(())
            } else {
                self.fault(&Value::Null, &Fault::new(-32700, "parse error"))
            };
        };
        let Value::Object(mut message) = message else {
            return self.fault(&Value::Null, &Fault::new(-32600, "a message is one object"));
        };
        let id = message.remove("id");
        let Some(Value::String(method)) = message.remove("method") else {
            return match id {
                // An answer, or something like it: this server asks nothing.
                Some(_) if message.contains_key("result") || message.contains_key("error") => Ok(()),
                id => self.fault(&id.unwrap_or(Value::Null), &Fault::new(-32600, "not a request")),
            };
        };
        let params = match message.remove("params") {
            None => Map::new(),
            Some(Value::Object(params)) => params,
            Some(_) => {
                return self.fault(&id.unwrap_or(Value::Null), &Fault::params("`params` must be an object"));
            }
        };
        match id {
            None => {
                self.notified(&method, &params);
                Ok(())
            }
            Some(id @ (Value::String(_) | Value::Number(_))) => self.request(id, &method, params),
            Some(_) => self.fault(&Value::Null, &Fault::new(-32600, "an id is a string or a number")),
        }
    }

    fn notified(&self, method: &str, params: &Map<String, Value>) {
        if method == "notifications/cancelled"
            && let Some(id) = params.get("requestId")
        {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&id.to_string());
        }
    }

    fn request(&self, id: Value, method: &str, params: Map<String, Value>) -> std::io::Result<()> {
        let outcome = self.decide_era(method, &params).and_then(|era| match (era, method) {
            (_, "tools/call") if params.get("name").and_then(Value::as_str) == Some("countdown") => {
                self.countdown(&id, era, &params).map(|()| None)
            }
            (Era::Modern, "subscriptions/listen") => self.listen(&id, &params).map(|()| None),
            _ => self.answer(era, method, &params).map(|result| Some((era, result))),
        });
        match outcome {
            Ok(None) => Ok(()),
            Ok(Some((era, result))) => self.result(&id, finish(era, method, result)),
            Err(fault) => self.fault(&id, &fault),
        }
    }

    /// The first good request decides; each later one has to keep to it.
    fn decide_era(&self, method: &str, params: &Map<String, Value>) -> Result<Era, Fault> {
        let meta = params.get("_meta").and_then(Value::as_object);
        let version = meta.and_then(|meta| meta.get(META_VERSION));
        let asked = match (version, method) {
            (Some(_), _) => Era::Modern,
            (None, "initialize" | "ping") => Era::Legacy,
            (None, _) => match self.era.get() {
                Some(Era::Legacy) => Era::Legacy,
                Some(Era::Modern) => return Err(Fault::params(format!("`_meta` lacks `{META_VERSION}`"))),
                None if method == "server/discover" => {
                    return Err(Fault::params(format!("`_meta` lacks `{META_VERSION}`")));
                }
                None => return Err(Fault::new(-32600, "the connection is not initialized")),
            },
        };
        if asked == Era::Modern {
            check_meta(version, meta)?;
        }
        let era = if method == "ping" && self.era.get().is_none() {
            asked
        } else {
            *self.era.get_or_init(|| asked)
        };
        match (era, asked) {
            (Era::Legacy, Era::Legacy) | (Era::Modern, Era::Modern) => Ok(era),
            // A message of the old revision may carry any `_meta`; what it asks for is judged by its method.
            (Era::Legacy, Era::Modern) => Ok(Era::Legacy),
            (Era::Modern, Era::Legacy) if method == "ping" => Err(unknown(method)),
            (Era::Modern, Era::Legacy) => {
                let requested = params.get("protocolVersion").cloned().unwrap_or(Value::Null);
                Err(unsupported(&requested))
            }
        }
    }

    fn answer(&self, era: Era, method: &str, params: &Map<String, Value>) -> Result<Value, Fault> {
        match (era, method) {
            (Era::Legacy, "initialize") => Ok(initialize(params)),
            (Era::Legacy, "ping") => Ok(json!({})),
            (Era::Legacy, "logging/setLevel") => Ok(json!({})),
            (Era::Modern, "server/discover") => Ok(json!({
                "supportedVersions": [MODERN],
                "capabilities": catalog::capabilities(era == Era::Legacy),
                "instructions": catalog::INSTRUCTIONS,
            })),
            (_, "tools/list") => catalog::page(params, "tools", catalog::tools()),
            (_, "prompts/list") => catalog::page(params, "prompts", catalog::prompts()),
            (_, "resources/list") => catalog::page(params, "resources", catalog::resources()),
            (_, "resources/templates/list") => {
                catalog::page(params, "resourceTemplates", catalog::templates())
            }
            (_, "tools/call") => tools::call(params, (self.now)()),
            (_, "prompts/get") => catalog::prompt(params),
            (_, "resources/read") => catalog::read(params, era == Era::Legacy),
            (_, "completion/complete") => catalog::complete(params),
            _ => Err(unknown(method)),
        }
    }

    /// Counts in a thread of its own, so that others are served meanwhile and a cancellation is heard.
    fn countdown(&self, id: &Value, era: Era, params: &Map<String, Value>) -> Result<(), Fault> {
        let count = tools::countdown(params)?;
        let key = id.to_string();
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.len() >= COUNTDOWNS_MAX {
                return Err(Fault::new(-32000, "too many countdowns at once"));
            }
            open.insert(key.clone());
        }
        let token = params.get("_meta").and_then(|meta| meta.get("progressToken")).cloned();
        let (out, open, id) = (Arc::clone(&self.out), Arc::clone(&self.open), id.clone());
        std::thread::spawn(move || {
            let cancelled = || !open.lock().unwrap_or_else(PoisonError::into_inner).contains(&key);
            for done in 1..=count.from {
                std::thread::sleep(Duration::from_millis(count.delay_ms));
                if cancelled() {
                    return;
                }
                if let Some(token) = &token {
                    let left = count.from - done;
                    let params = json!({ "progressToken": token, "progress": done, "total": count.from,
                        "message": format!("{left} left") });
                    let progress =
                        json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
                    if write(&out, &progress).is_err() {
                        return;
                    }
                }
            }
            if open.lock().unwrap_or_else(PoisonError::into_inner).remove(&key) {
                let result =
                    finish(era, "tools/call", tools::text(format!("counted down from {}", count.from)));
                // A reader that is gone is noticed by the main loop.
                let _gone = write(&out, &json!({ "jsonrpc": "2.0", "id": id, "result": result })).is_err();
            }
        });
        Ok(())
    }

    /// Nothing here ever changes, so a subscription is acknowledged as empty and stays silent until it is cancelled.
    fn listen(&self, id: &Value, params: &Map<String, Value>) -> Result<(), Fault> {
        if !params.get("notifications").is_some_and(Value::is_object) {
            return Err(Fault::params("`notifications` must be an object"));
        }
        let params = json!({ "_meta": { META_SUBSCRIPTION: id }, "notifications": {} });
        let method = "notifications/subscriptions/acknowledged";
        write(&self.out, &json!({ "jsonrpc": "2.0", "method": method, "params": params }))
            .map_err(|error| Fault::new(-32603, error.to_string()))
    }

    fn result(&self, id: &Value, result: Value) -> std::io::Result<()> {
        write(&self.out, &json!({ "jsonrpc": "2.0", "id": id, "result": result }))
    }

    fn fault(&self, id: &Value, fault: &Fault) -> std::io::Result<()> {
        let mut error = json!({ "code": fault.code, "message": fault.message });
        if let (Some(data), Some(error)) = (&fault.data, error.as_object_mut()) {
            error.insert("data".to_owned(), data.clone());
        }
        let mut answer = json!({ "jsonrpc": "2.0", "error": error });
        if let (false, Some(answer)) = (id.is_null(), answer.as_object_mut()) {
            answer.insert("id".to_owned(), id.clone());
        }
        write(&self.out, &answer)
    }
}

fn write<W: Write>(out: &Mutex<W>, message: &Value) -> std::io::Result<()> {
    let mut line = message.to_string();
    line.push('\n');
    let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
    out.write_all(line.as_bytes())?;
    out.flush()
}

fn initialize(params: &Map<String, Value>) -> Value {
    let asked = params.get("protocolVersion").and_then(Value::as_str);
    let version = LEGACY_ALL.into_iter().find(|known| Some(*known) == asked).unwrap_or(LEGACY);
    json!({
        "protocolVersion": version,
        "capabilities": catalog::capabilities(true),
        "serverInfo": catalog::server_info(),
        "instructions": catalog::INSTRUCTIONS,
    })
}

/// What the modern revision demands of every request.
fn check_meta(version: Option<&Value>, meta: Option<&Map<String, Value>>) -> Result<(), Fault> {
    if version.and_then(Value::as_str) != Some(MODERN) {
        return Err(unsupported(version.unwrap_or(&Value::Null)));
    }
    if !meta.and_then(|meta| meta.get(META_CAPABILITIES)).is_some_and(Value::is_object) {
        return Err(Fault::params(format!("`_meta` lacks `{META_CAPABILITIES}`")));
    }
    Ok(())
}

fn unsupported(requested: &Value) -> Fault {
    let data = json!({ "supported": [MODERN], "requested": requested });
    Fault { data: Some(data), ..Fault::new(-32022, "unsupported protocol version") }
}

fn unknown(method: &str) -> Fault {
    Fault::new(-32601, format!("method not found: {method}"))
}

/// Adds what the modern revision demands of every result.
fn finish(era: Era, method: &str, mut result: Value) -> Value {
    if let (Era::Modern, Some(members)) = (era, result.as_object_mut()) {
        members.insert("resultType".to_owned(), json!("complete"));
        members.insert("_meta".to_owned(), json!({ META_SERVER: catalog::server_info() }));
        if method.ends_with("/list") || matches!(method, "server/discover" | "resources/read") {
            members.insert("ttlMs".to_owned(), json!(60_000));
            members.insert("cacheScope".to_owned(), json!("public"));
        }
    }
    result
}
