//! A scripted MCP server: well-behaved in both revisions until it is told otherwise, method by method, while it
//! runs. It records what it was sent and whether the other side hung up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::scripted::{Hostile, Step, answer};
use crate::wire::{Reader, Request};
use crate::{Fault, Outcome};

/// One request that the server received.
#[derive(Clone, Debug)]
pub struct Received {
    /// HTTP method.
    pub http_method: String,
    /// Request target.
    pub target: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub body: Vec<u8>,
    /// JSON-RPC method, empty when there is none.
    pub method: String,
}

impl Received {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON, null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

#[derive(Debug)]
struct State {
    rules: BTreeMap<String, Hostile>,
    at_accept: bool,
    tools: Vec<Value>,
    later_tools: Option<(usize, Vec<Value>)>,
    prompts: Vec<Value>,
    resources: Vec<Value>,
    templates: Vec<Value>,
    page_size: usize,
    lists: usize,
    received: Vec<Received>,
    open: usize,
    accepted: usize,
    hung_up: usize,
    flooded: u64,
}

/// The server. Dropping it closes every connection.
#[derive(Debug)]
pub struct HostileServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl HostileServer {
    /// Starts a server that behaves, with the tools `echo` (text), `add` (numbers, structured) and `delete`.
    ///
    /// # Errors
    /// No port.
    pub async fn start() -> Outcome<Self> {
        Self::start_on(0).await
    }

    /// The same on a given port of loopback.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start_on(port: u16) -> Outcome<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            rules: BTreeMap::new(),
            at_accept: false,
            tools: default_tools(),
            later_tools: None,
            prompts: Vec::new(),
            resources: Vec::new(),
            templates: Vec::new(),
            page_size: usize::MAX,
            lists: 0,
            received: Vec::new(),
            open: 0,
            accepted: 0,
            hung_up: 0,
            flooded: 0,
        }));
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { address, state, task })
    }

    /// Its MCP endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Misbehaves on this JSON-RPC method (or `GET`, `DELETE`, or `*` for everything) from now on.
    /// [`Hostile::HangAtAccept`] concerns new connections, whatever the method.
    pub fn on(&self, method: &str, behaviour: Hostile) {
        let mut state = self.lock();
        if behaviour == Hostile::HangAtAccept {
            state.at_accept = true;
        } else {
            state.rules.insert(method.to_owned(), behaviour);
        }
    }

    /// Behaves again, everywhere.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.rules.clear();
        state.at_accept = false;
    }

    /// Replaces the tool definitions.
    pub fn set_tools(&self, tools: Vec<Value>) {
        self.lock().tools = tools;
    }

    /// Replaces the tool definitions after so many more answers to `tools/list` (counting from page one only).
    pub fn set_tools_after(&self, lists: usize, tools: Vec<Value>) {
        let mut state = self.lock();
        state.later_tools = Some((state.lists + lists, tools));
    }

    /// Replaces the prompt definitions.
    pub fn set_prompts(&self, prompts: Vec<Value>) {
        self.lock().prompts = prompts;
    }

    /// Replaces the resource definitions.
    pub fn set_resources(&self, resources: Vec<Value>) {
        self.lock().resources = resources;
    }

    /// Replaces the resource template definitions.
    pub fn set_templates(&self, templates: Vec<Value>) {
        self.lock().templates = templates;
    }

    /// Lists at most this many items per page.
    pub fn set_page_size(&self, items: usize) {
        self.lock().page_size = items.max(1);
    }

    /// Everything received so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.lock().received.clone()
    }

    /// How many requests with this JSON-RPC method came.
    #[must_use]
    pub fn count(&self, method: &str) -> usize {
        self.lock().received.iter().filter(|request| request.method == method).count()
    }

    /// Forgets what was received.
    pub fn forget(&self) {
        self.lock().received.clear();
    }

    /// Connections open now.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.lock().open
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted_connections(&self) -> usize {
        self.lock().accepted
    }

    /// How many times the other side hung up while an answer was due.
    #[must_use]
    pub fn hung_up(&self) -> usize {
        self.lock().hung_up
    }

    /// How many bytes of what never ends ([`Hostile::EndlessEvents`] and its like) were taken so far.
    #[must_use]
    pub fn flooded_bytes(&self) -> u64 {
        self.lock().flooded
    }

    /// Waits until `condition` holds.
    ///
    /// # Errors
    /// It does not within `patience`.
    pub async fn wait_until(&self, patience: Duration, condition: impl Fn(&Self) -> bool) -> Outcome {
        let waiting = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(patience, waiting)
            .await
            .map_err(|_| Fault::from(format!("not so within {patience:?}")))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for HostileServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn default_tools() -> Vec<Value> {
    let text = json!({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]});
    let numbers = json!({"type": "object", "required": ["a", "b"],
        "properties": {"a": {"type": "number"}, "b": {"type": "number"}}});
    let sum = json!({"type": "object", "properties": {"sum": {"type": "number"}}, "required": ["sum"]});
    vec![
        json!({"name": "echo", "description": "Says it again.", "inputSchema": text}),
        json!({"name": "add", "description": "Adds.", "inputSchema": numbers, "outputSchema": sum}),
        json!({"name": "delete", "description": "Deletes.", "inputSchema": {"type": "object"},
            "annotations": {"destructiveHint": true}}),
    ]
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    // Connections live in the set, so that dropping the server ends them too.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(connection(stream, Arc::clone(&state)));
            },
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Counts a connection for as long as it lives.
struct Open(Arc<Mutex<State>>);

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.0).open -= 1;
    }
}

async fn connection(stream: TcpStream, state: Arc<Mutex<State>>) {
    let _counted = {
        let mut counts = lock(&state);
        counts.open += 1;
        counts.accepted += 1;
        Open(Arc::clone(&state))
    };
    if stream.set_nodelay(true).is_err() {
        return;
    }
    if lock(&state).at_accept {
        // Not even a read: the peer sees its own buffers fill.
        std::future::pending::<()>().await;
    }
    let (read, mut write) = tokio::io::split(stream);
    let mut reader = Reader::new(read);
    while let Ok(Some(request)) = reader.next().await {
        let steps = decide(&state, &request);
        let answered = tokio::select! {
            biased;
            answered = perform(steps, &mut write, &state) => answered,
            () = reader.drain() => {
                lock(&state).hung_up += 1;
                return;
            }
        };
        match answered {
            Ending::Next => {}
            Ending::Closed => return,
            Ending::Broken => {
                lock(&state).hung_up += 1;
                return;
            }
            Ending::Reset => return reset(reader, write),
        }
    }
}

fn reset(reader: Reader<ReadHalf<TcpStream>>, write: WriteHalf<TcpStream>) {
    let stream = reader.into_inner().unsplit(write);
    // With no time to linger, closing sends a reset.
    let _set = stream.set_zero_linger();
}

enum Ending {
    Next,
    Closed,
    Broken,
    Reset,
}

async fn perform(steps: Vec<Step>, write: &mut WriteHalf<TcpStream>, state: &Mutex<State>) -> Ending {
    for step in steps {
        match step {
            Step::Write(bytes) => {
                if write.write_all(&bytes).await.is_err() {
                    return Ending::Broken;
                }
            }
            Step::WriteSlowly(bytes, pause) => {
                for byte in bytes {
                    if write.write_all(&[byte]).await.is_err() {
                        return Ending::Broken;
                    }
                    tokio::time::sleep(pause).await;
                }
            }
            Step::Repeat(bytes) => {
                while write.write_all(&bytes).await.is_ok() {
                    lock(state).flooded += bytes.len() as u64;
                }
                return Ending::Broken;
            }
            Step::Pause(pause) => tokio::time::sleep(pause).await,
            Step::Hang => std::future::pending().await,
            Step::Close => {
                let _closed = write.shutdown().await;
                return Ending::Closed;
            }
            Step::Reset => return Ending::Reset,
        }
    }
    Ending::Next
}

/// Records the request and says what to do about it.
fn decide(state: &Mutex<State>, request: &Request) -> Vec<Step> {
    let mut state = lock(state);
    let body = request.json();
    let method = body.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
    state.received.push(Received {
        http_method: request.method.clone(),
        target: request.target.clone(),
        headers: request.headers.clone(),
        body: request.body.clone(),
        method: method.clone(),
    });
    let modern = request.header("mcp-protocol-version") == Some("2026-07-28");
    let id = body.get("id").cloned().unwrap_or(Value::Null);
    let proper = proper(&mut state, &method, &body, modern);
    let key = if request.method == "POST" { method.as_str() } else { request.method.as_str() };
    if let Some(behaviour) = state.rules.get(key).or_else(|| state.rules.get("*")) {
        return behaviour.steps(&id, proper.as_ref().unwrap_or(&json!({})));
    }
    let json = |status: u16, extra: &str, body: &Value| {
        vec![Step::Write(answer(status, "application/json", extra, body.to_string().as_bytes()))]
    };
    match (request.method.as_str(), body.get("id"), proper) {
        ("POST", None, _) => vec![Step::Write(answer(202, "text/plain", "", b""))],
        ("POST", Some(id), Ok(result)) => {
            let session = if method == "initialize" { "Mcp-Session-Id: scripted-1\r\n" } else { "" };
            json(200, session, &json!({"jsonrpc": "2.0", "id": id, "result": result}))
        }
        ("POST", Some(id), Err((code, text))) => {
            let status = if modern && code == -32601 { 404 } else { 200 };
            let error = json!({"code": code, "message": text});
            json(status, "", &json!({"jsonrpc": "2.0", "id": id, "error": error}))
        }
        ("DELETE", _, _) => vec![Step::Write(answer(200, "text/plain", "", b""))],
        _ => vec![Step::Write(answer(405, "text/plain", "Allow: POST\r\n", b""))],
    }
}

/// What a well-behaved server answers: a result, or an error's code and text.
fn proper(state: &mut State, method: &str, body: &Value, modern: bool) -> Result<Value, (i64, &'static str)> {
    let info = json!({"name": "scripted", "version": "1"});
    let capabilities = json!({"tools": {}, "prompts": {}, "resources": {}, "logging": {}});
    let mut result = match method {
        "initialize" if !modern => {
            let asked = body.pointer("/params/protocolVersion").cloned();
            let version = asked.unwrap_or_else(|| json!("2025-11-25"));
            json!({"protocolVersion": version, "capabilities": capabilities, "serverInfo": info})
        }
        "ping" if !modern => json!({}),
        "server/discover" if modern => json!({"supportedVersions": ["2026-07-28", "2025-11-25"],
            "capabilities": capabilities, "serverInfo": info}),
        "tools/list" => {
            if body.pointer("/params/cursor").is_none() {
                state.lists += 1;
                if let Some((_, tools)) = state.later_tools.take_if(|(after, _)| state.lists > *after) {
                    state.tools = tools;
                }
            }
            page("tools", &state.tools, state.page_size, body)
        }
        "prompts/list" => page("prompts", &state.prompts, state.page_size, body),
        "resources/list" => page("resources", &state.resources, state.page_size, body),
        "resources/templates/list" => page("resourceTemplates", &state.templates, state.page_size, body),
        "tools/call" => call(state, body)?,
        "prompts/get" => {
            json!({"messages": [{"role": "user", "content": {"type": "text", "text": "scripted"}}]})
        }
        "resources/read" => {
            let uri = body.pointer("/params/uri").cloned().unwrap_or(Value::Null);
            json!({"contents": [{"uri": uri, "mimeType": "text/plain", "text": "scripted"}]})
        }
        _ => return Err((-32601, "Method not found")),
    };
    if modern && let Some(members) = result.as_object_mut() {
        members.insert("resultType".to_owned(), json!("complete"));
        if method.ends_with("/list") || method == "server/discover" || method == "resources/read" {
            members.insert("ttlMs".to_owned(), json!(0));
            members.insert("cacheScope".to_owned(), json!("private"));
        }
    }
    Ok(result)
}

fn page(key: &str, items: &[Value], size: usize, body: &Value) -> Value {
    let cursor = body.pointer("/params/cursor").and_then(Value::as_str);
    let start = cursor.and_then(|cursor| cursor.parse::<usize>().ok()).unwrap_or(0);
    let end = start.saturating_add(size);
    let shown = items.iter().skip(start).take(size).cloned().collect::<Vec<_>>();
    let mut result = json!({key: shown});
    if let Some(members) = result.as_object_mut().filter(|_| end < items.len()) {
        members.insert("nextCursor".to_owned(), json!(end.to_string()));
    }
    result
}

fn call(state: &State, body: &Value) -> Result<Value, (i64, &'static str)> {
    let name = body.pointer("/params/name").and_then(Value::as_str).unwrap_or_default();
    if !state.tools.iter().any(|tool| tool.get("name").and_then(Value::as_str) == Some(name)) {
        return Err((-32602, "Unknown tool"));
    }
    let arguments = body.pointer("/params/arguments").cloned().unwrap_or_else(|| json!({}));
    let number = |key: &str| arguments.get(key).and_then(Value::as_f64).unwrap_or_default();
    let text = match name {
        "echo" => arguments.get("text").and_then(Value::as_str).unwrap_or_default().to_owned(),
        "add" => {
            let sum = number("a") + number("b");
            return Ok(json!({"content": [{"type": "text", "text": sum.to_string()}],
                "structuredContent": {"sum": sum}, "isError": false}));
        }
        _ => format!("called {name} with {arguments}"),
    };
    Ok(json!({"content": [{"type": "text", "text": text}], "isError": false}))
}
