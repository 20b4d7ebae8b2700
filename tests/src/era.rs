//! An MCP server of one era alone, strict about it: it refuses whatever only the other era says. What it does is told
//! by what it is sent; how messages reach it is not its business.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

/// Where messages to the client go.
pub type Out = mpsc::UnboundedSender<Value>;

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Over HTTP.
    Http,
    /// On standard input.
    Stdio,
}

/// The server.
#[derive(Debug, Default)]
pub struct Server {
    modern: bool,
    /// Every message that came, and every call that nobody waits for any more.
    pub seen: Mutex<Vec<Value>>,
    asked: Mutex<BTreeMap<String, oneshot::Sender<Value>>>,
    subscribed: Mutex<BTreeSet<String>>,
    listeners: Mutex<Vec<(Out, Value)>>,
    next: AtomicU64,
    visits: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Text of the error that wants a page visited.
const CONSENT: &str = "visit this page first";

const META: &str = "io.modelcontextprotocol/";

/// Notes when nobody waits for a call any more.
struct Watch<'a>(&'a Server, Value, bool);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.2 {
            lock(&self.0.seen).push(json!({"method": "abandoned", "id": self.1}));
        }
    }
}

impl Server {
    /// A server that nobody has spoken to.
    #[must_use]
    pub fn new(modern: bool) -> Self {
        Self { modern, ..Self::default() }
    }

    /// The messages of this method that came.
    #[must_use]
    pub fn of(&self, method: &str) -> Vec<Value> {
        let seen = lock(&self.seen);
        seen.iter()
            .filter(|message| message.get("method").is_some_and(|name| name == method))
            .cloned()
            .collect()
    }

    /// Somebody listens for changes: on the stream of a session, or by this request.
    pub fn changes(&self, out: Out, request: Value) {
        lock(&self.listeners).push((out, request));
    }

    /// How many listen now.
    #[must_use]
    pub fn listening(&self) -> usize {
        lock(&self.listeners).iter().filter(|(out, _)| !out.is_closed()).count()
    }

    /// Takes one message; answers go to `out`.
    pub async fn take(&self, wire: Wire, message: Value, out: Out) {
        lock(&self.seen).push(message.clone());
        let id = message.get("id").cloned().unwrap_or(Value::Null);
        let Some(method) = message.get("method").and_then(Value::as_str) else {
            let name = id.as_str().unwrap_or_default();
            if let Some(waiting) = lock(&self.asked).remove(name) {
                let _ = waiting.send(message);
            }
            return;
        };
        if id.is_null() {
            return;
        }
        let params = message.get("params").cloned().unwrap_or_else(|| json!({}));
        let mut watch = Watch(self, id.clone(), wire == Wire::Http);
        let answered = match self.refused(method, &params) {
            Some(error) => Err(error),
            None => self.answer(method, &params, &id, &out).await,
        };
        watch.2 = false;
        let answer = match answered {
            Ok(None) => return,
            Ok(Some(result)) => json!({"jsonrpc": "2.0", "id": id, "result": self.finish(method, result)}),
            Err((code, text)) => {
                let mut error = json!({"code": code, "message": text});
                if text == CONSENT {
                    error["data"] = json!({"elicitations": [{"mode": "url", "elicitationId": "e-1",
                        "url": "https://pages.example/consent", "message": "sign in"}]});
                }
                json!({"jsonrpc": "2.0", "id": id, "error": error})
            }
        };
        let _ = out.send(answer);
    }

    /// What only the other era says.
    fn refused(&self, method: &str, params: &Value) -> Option<(i64, &'static str)> {
        let meta = params.get("_meta").and_then(Value::as_object);
        let foreign = meta.is_some_and(|meta| meta.keys().any(|name| name.starts_with(META)));
        let legacy =
            ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];
        let modern = ["server/discover", "subscriptions/listen"];
        if self.modern {
            let version = meta.and_then(|meta| meta.get(&format!("{META}protocolVersion")));
            let capable = meta.and_then(|meta| meta.get(&format!("{META}clientCapabilities")));
            if legacy.contains(&method) {
                return Some((-32601, "not in this era"));
            }
            if version != Some(&json!("2026-07-28")) || capable.is_none() {
                return Some((-32602, "a request without its _meta"));
            }
            return None;
        }
        let state = params.get("requestState").or_else(|| params.get("inputResponses")).is_some();
        if modern.contains(&method) {
            return Some((-32601, "not in this era"));
        }
        (foreign || state).then_some((-32602, "words of another era"))
    }

    fn finish(&self, method: &str, mut result: Value) -> Value {
        if let (true, Some(members)) = (self.modern, result.as_object_mut()) {
            members.entry("resultType").or_insert(json!("complete"));
            if method.ends_with("/list") || matches!(method, "server/discover" | "resources/read") {
                members.insert("ttlMs".into(), json!(1000));
                members.insert("cacheScope".into(), json!("private"));
            }
        }
        result
    }

    async fn answer(
        &self,
        method: &str,
        params: &Value,
        id: &Value,
        out: &Out,
    ) -> Result<Option<Value>, (i64, &'static str)> {
        let capabilities = json!({"tools": {"listChanged": true}, "prompts": {}, "completions": {}, "logging": {},
            "resources": {"subscribe": true}});
        let info = json!({"name": "era", "version": "1"});
        Ok(Some(match method {
            "initialize" => {
                json!({"protocolVersion": params.get("protocolVersion"), "capabilities": capabilities,
                "serverInfo": info, "instructions": "be kind"})
            }
            "server/discover" => json!({"supportedVersions": ["2026-07-28"], "capabilities": capabilities,
                "instructions": "be kind", "_meta": {"io.modelcontextprotocol/serverInfo": info}}),
            "ping" | "logging/setLevel" => json!({}),
            "resources/subscribe" => {
                let uri = params.get("uri").and_then(Value::as_str).unwrap_or_default();
                lock(&self.subscribed).insert(uri.to_owned());
                json!({})
            }
            "subscriptions/listen" => {
                let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
                let params = json!({"_meta": meta, "notifications": params.get("notifications")});
                let method = "notifications/subscriptions/acknowledged";
                let _ = out.send(json!({"jsonrpc": "2.0", "method": method, "params": params}));
                return Ok(None);
            }
            "tools/list" => json!({"tools": tools()}),
            "prompts/list" => json!({"prompts": [{"name": "hello"}]}),
            "resources/list" => {
                json!({"resources": [{"uri": "x://a", "name": "a"}, {"uri": "x://gone", "name": "g"}]})
            }
            "resources/templates/list" => {
                json!({"resourceTemplates": [{"uriTemplate": "x://t/{n}", "name": "t"}]})
            }
            "prompts/get" => {
                json!({"messages": [{"role": "user", "content": {"type": "text", "text": "hello"}}]})
            }
            "completion/complete" => json!({"completion": {"values": ["one"]}}),
            "resources/read" if params.get("uri").is_some_and(|uri| uri == "x://gone") => {
                return Err((if self.modern { -32602 } else { -32002 }, "no such resource"));
            }
            "resources/read" => json!({"contents": [{"uri": params.get("uri"), "text": "content"}]}),
            "tools/call" => return self.call(params, id, out).await.map(Some),
            _ => return Err((-32601, "Method not found")),
        }))
    }

    async fn call(&self, params: &Value, id: &Value, out: &Out) -> Result<Value, (i64, &'static str)> {
        let name = params.get("name").and_then(Value::as_str).unwrap_or_default();
        let text = |text: String| json!({"content": [{"type": "text", "text": text}], "isError": false});
        match name {
            "ask" | "sample" | "aside" | "prod" => self.ask(name, params, out).await.map(|said| match said {
                Ok(result) => result,
                Err(said) => text(format!("you said {said}")),
            }),
            "count" => {
                let token = params.pointer("/_meta/progressToken");
                let log = json!({"level": "info", "data": "counting"});
                if !self.modern || params.pointer("/_meta/io.modelcontextprotocol~1logLevel").is_some() {
                    let _ =
                        out.send(json!({"jsonrpc": "2.0", "method": "notifications/message", "params": log}));
                }
                for done in 1..=2 {
                    let progress = json!({"progressToken": token, "progress": done});
                    let method = "notifications/progress";
                    let _ = out.send(json!({"jsonrpc": "2.0", "method": method, "params": progress}));
                }
                Ok(text("counted".into()))
            }
            "slow" => {
                tokio::time::sleep(Duration::from_secs(30)).await;
                Ok(text("slept".into()))
            }
            "touch" => {
                self.touch();
                Ok(text("touched".into()))
            }
            "end" => {
                for (out, request) in lock(&self.listeners).drain(..) {
                    let id = request.get("id").cloned().unwrap_or(Value::Null);
                    let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
                    let result = json!({"resultType": "complete", "_meta": meta});
                    let _ = out.send(json!({"jsonrpc": "2.0", "id": id, "result": result}));
                }
                Ok(text("ended".into()))
            }
            "fail" => Err((-32042, "visit a page first")),
            "visit" if self.visits.fetch_add(1, Ordering::Relaxed) == 0 => Err((-32042, CONSENT)),
            "visit" => Ok(text("visited".into())),
            "chatter" => {
                let notes = [
                    ("notifications/elicitation/complete", json!({"elicitationId": "e-1"})),
                    ("notifications/progress", json!({"progressToken": "foreign", "progress": 1})),
                    ("notifications/chatter", json!({})),
                    ("notifications/chatter", json!({})),
                    ("notifications/cancelled", json!({"requestId": "q-none"})),
                    ("notifications/tasks", json!({"taskId": "t", "status": "working"})),
                    ("notifications/tasks/status", json!({"taskId": "t", "status": "working"})),
                ];
                for (method, params) in notes {
                    let _ = out.send(json!({"jsonrpc": "2.0", "method": method, "params": params}));
                }
                Ok(text("chattered".into()))
            }
            "told" => {
                let method = params.pointer("/arguments/method").and_then(Value::as_str);
                Ok(text(json!(self.of(method.unwrap_or("notifications/cancelled"))).to_string()))
            }
            "task" if self.modern => Ok(json!({"resultType": "task", "task": {"taskId": "t"}})),
            _ => Ok(text(format!("{} {}", params.get("arguments").unwrap_or(&Value::Null), id.is_null()))),
        }
    }

    /// Tells who listens that a resource and the list of tools changed.
    fn touch(&self) {
        for (out, request) in lock(&self.listeners).iter() {
            let meta = match self.modern {
                true => json!({"io.modelcontextprotocol/subscriptionId": request.get("id")}),
                false => json!({}),
            };
            let wanted = |pointer: &str| request.pointer(pointer).is_some_and(|value| value == true);
            let uris = request.pointer("/params/notifications/resourceSubscriptions");
            let listed = uris.and_then(Value::as_array).is_some_and(|uris| uris.contains(&json!("x://a")));
            if listed || (!self.modern && lock(&self.subscribed).contains("x://a")) {
                let params = json!({"uri": "x://a", "_meta": meta});
                let _ = out.send(
                    json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params}),
                );
            }
            if !self.modern || wanted("/params/notifications/toolsListChanged") {
                let method = "notifications/tools/list_changed";
                let _ = out.send(json!({"jsonrpc": "2.0", "method": method, "params": {"_meta": meta}}));
            }
        }
    }

    /// The result that asks, or what the client said.
    async fn ask(
        &self,
        name: &str,
        params: &Value,
        out: &Out,
    ) -> Result<Result<Value, Value>, (i64, &'static str)> {
        let (method, question) = match name {
            "ask" if params.pointer("/arguments/roots").is_some() => ("roots/list", json!({})),
            "ask" | "aside" => (
                "elicitation/create",
                json!({"message": "who are you?", "requestedSchema": {"type": "object",
                "properties": {"name": {"type": "string"}}}}),
            ),
            "prod" => ("tasks/get", json!({"taskId": "t"})),
            _ => ("sampling/createMessage", json!({"messages": [], "maxTokens": 1})),
        };
        if !self.modern {
            let id = format!("q-{}", self.next.fetch_add(1, Ordering::Relaxed));
            let (to, from) = oneshot::channel();
            lock(&self.asked).insert(id.clone(), to);
            let asked = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": question});
            let listener = lock(&self.listeners).last().map(|(listener, _)| listener.clone());
            // On the stream of the session, where many servers ask.
            let out = if name == "aside" { listener.as_ref() } else { Some(out) };
            let _ = out.ok_or((-32603, "nobody listens"))?.send(asked);
            let answer = from.await.map_err(|_| (-32603, "nobody answered"))?;
            return Ok(Err(answer
                .get("result")
                .or_else(|| answer.get("error"))
                .cloned()
                .unwrap_or(Value::Null)));
        }
        match params.pointer("/inputResponses/who") {
            Some(said) if params.get("requestState") == Some(&json!("stäte")) => Ok(Err(said.clone())),
            Some(_) => Err((-32602, "not the state that was given")),
            None => Ok(Ok(json!({"resultType": "input_required", "requestState": "stäte",
                "inputRequests": {"who": {"method": method, "params": question}}}))),
        }
    }
}

fn tools() -> Value {
    let plain = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
    let mut tools: Vec<Value> =
        ["echo", "ask", "sample", "count", "slow", "touch", "fail", "task"].map(plain).to_vec();
    tools.extend(["aside", "visit", "chatter", "told", "prod", "end"].map(plain));
    tools.push(json!({"name": "mirrored", "inputSchema": {"type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}}));
    json!(tools)
}

/// A server that several share.
pub type Shared = Arc<Server>;
