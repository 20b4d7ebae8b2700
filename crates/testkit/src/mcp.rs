//! A small MCP client of either revision, for tests that need to see every byte. The official clients are run
//! as well, in `tests/peers`.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::http::{Body, Client, Reply};
use crate::{Fault, Outcome};

/// The two revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// 2025-11-25: `initialize`, sessions.
    Legacy,
    /// 2026-07-28: every request stands alone.
    Modern,
}

impl Era {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Legacy, Self::Modern];

    /// The date that names the revision.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::Legacy => "2025-11-25",
            Self::Modern => "2026-07-28",
        }
    }
}

/// One client of one MCP endpoint.
#[derive(Clone, Debug)]
pub struct McpClient {
    /// The endpoint.
    pub url: String,
    /// Sent as `Authorization: Bearer …` when there is one.
    pub bearer: Option<String>,
    /// The revision spoken.
    pub era: Era,
    /// The session given by the server (legacy only).
    pub session: Option<String>,
    http: Client,
    next_id: u64,
}

/// What came back for one request: the HTTP reply and the JSON-RPC messages in it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP reply.
    pub reply: Reply,
    /// The messages: one for a JSON body, one per event for a stream.
    pub messages: Vec<Value>,
    /// The id our request had.
    pub id: Value,
}

impl Answer {
    /// HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.reply.status
    }

    /// The message that answers our id.
    #[must_use]
    pub fn response(&self) -> &Value {
        self.messages.iter().find(|message| message.get("id") == Some(&self.id)).unwrap_or(&Value::Null)
    }

    /// The `result`, or null.
    #[must_use]
    pub fn result(&self) -> &Value {
        self.response().get("result").unwrap_or(&Value::Null)
    }

    /// The `error.code`, whichever id it carries (a refusal may come without one).
    #[must_use]
    pub fn error_code(&self) -> Option<i64> {
        self.messages.iter().find_map(|message| message.pointer("/error/code")?.as_i64())
    }

    /// The `error.message`, or empty.
    #[must_use]
    pub fn error_message(&self) -> &str {
        self.messages
            .iter()
            .find_map(|message| message.pointer("/error/message")?.as_str())
            .unwrap_or_default()
    }

    /// All text blocks of a tool result, joined.
    #[must_use]
    pub fn text(&self) -> String {
        let blocks = self.result().get("content").and_then(Value::as_array);
        let texts = blocks.into_iter().flatten().filter_map(|block| block.get("text")?.as_str());
        texts.collect::<Vec<_>>().join("\n")
    }

    /// The `name` (or `uri`) of every item in `result.tools`, `prompts`, `resources` or `resourceTemplates`.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        ["tools", "prompts", "resources", "resourceTemplates"]
            .iter()
            .filter_map(|key| self.result().get(key)?.as_array())
            .flatten()
            .filter_map(|item| item.get("name").or_else(|| item.get("uri"))?.as_str())
            .map(str::to_owned)
            .collect()
    }
}

impl McpClient {
    /// A client that has not spoken yet.
    #[must_use]
    pub fn new(url: &str, bearer: Option<&str>, era: Era) -> Self {
        Self {
            url: url.to_owned(),
            bearer: bearer.map(str::to_owned),
            era,
            session: None,
            http: Client::default(),
            next_id: 0,
        }
    }

    /// The same client, giving up after `patience`.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.http = Client::with_patience(patience);
        self
    }

    /// The same client, whose kernel takes about so many bytes that are not read.
    #[must_use]
    pub fn with_receive_buffer(mut self, bytes: u32) -> Self {
        self.http = self.http.with_receive_buffer(bytes);
        self
    }

    /// A client that is ready to call: a legacy one has initialized its session.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn connect(url: &str, bearer: Option<&str>, era: Era) -> Outcome<Self> {
        let mut client = Self::new(url, bearer, era);
        match era {
            Era::Legacy => {
                let answer = client.initialize().await?;
                if answer.result().is_null() {
                    return Err(format!("initialize: {} {}", answer.status(), answer.reply.text()).into());
                }
            }
            Era::Modern => {
                let answer = client.request("server/discover", json!({})).await?;
                if answer.result().is_null() {
                    return Err(format!("discover: {} {}", answer.status(), answer.reply.text()).into());
                }
            }
        }
        Ok(client)
    }

    /// `initialize` and `notifications/initialized`; keeps the session id.
    ///
    /// # Errors
    /// No answer.
    pub async fn initialize(&mut self) -> Outcome<Answer> {
        let params = json!({
            "protocolVersion": self.era.version(),
            "capabilities": {},
            "clientInfo": {"name": "testkit", "version": "1"},
        });
        let answer = self.request("initialize", params).await?;
        if !answer.result().is_null() {
            let session = answer.reply.header("mcp-session-id");
            self.session = (!session.is_empty()).then(|| session.to_owned());
            let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
            self.notify(&note).await?;
        }
        Ok(answer)
    }

    /// One request; for the modern revision `_meta` and the mirrored headers are added.
    ///
    /// # Errors
    /// No complete answer, or one that is not JSON where it says so.
    pub async fn request(&mut self, method: &str, params: Value) -> Outcome<Answer> {
        let (id, message) = self.message(method, params);
        let headers = self.headers(&message);
        let reply = self.http.post(&self.url, &borrow(&headers), message.to_string()).await?;
        let messages = messages_of(&reply)?;
        Ok(Answer { reply, messages, id })
    }

    /// One request whose answer is read as it comes.
    ///
    /// # Errors
    /// No answer.
    pub async fn open(&mut self, method: &str, params: Value) -> Outcome<Body> {
        let (_, message) = self.message(method, params);
        let headers = self.headers(&message);
        self.http.open(Method::POST, &self.url, &borrow(&headers), Bytes::from(message.to_string())).await
    }

    /// `tools/call`.
    ///
    /// # Errors
    /// No complete answer.
    pub async fn call(&mut self, tool: &str, arguments: Value) -> Outcome<Answer> {
        self.request("tools/call", json!({"name": tool, "arguments": arguments})).await
    }

    /// A complete list, all pages: `tools/list`, `prompts/list`, ….
    ///
    /// # Errors
    /// No complete answer, or an error from the server.
    pub async fn list(&mut self, method: &str) -> Outcome<Vec<String>> {
        let mut names = Vec::new();
        let mut params = json!({});
        for _page in 0..1_000 {
            let answer = self.request(method, params).await?;
            if answer.result().is_null() {
                return Err(format!("{method}: {} {}", answer.status(), answer.reply.text()).into());
            }
            names.extend(answer.names());
            match answer.result().get("nextCursor").and_then(Value::as_str) {
                Some(cursor) => params = json!({"cursor": cursor}),
                None => return Ok(names),
            }
        }
        Err(Fault::from("the list does not end"))
    }

    /// Sends a message that has no answer (a notification or a response).
    ///
    /// # Errors
    /// No answer at HTTP level.
    pub async fn notify(&self, message: &Value) -> Outcome<Reply> {
        let headers = self.headers(message);
        self.http.post(&self.url, &borrow(&headers), message.to_string()).await
    }

    /// Sends a body as it is, with the headers that `shape` would have.
    ///
    /// # Errors
    /// No answer at HTTP level.
    pub async fn send_raw(&self, shape: &Value, body: impl Into<Bytes>) -> Outcome<Reply> {
        let headers = self.headers(shape);
        self.http.post(&self.url, &borrow(&headers), body).await
    }

    /// The stream of the session (legacy only), after the event with this id if there is one.
    ///
    /// # Errors
    /// No answer.
    pub async fn stream(&self, after: Option<&str>) -> Outcome<Body> {
        let mut headers = self.headers(&Value::Null);
        headers.extend(after.map(|id| ("last-event-id".to_owned(), id.to_owned())));
        self.http.open(Method::GET, &self.url, &borrow(&headers), Bytes::new()).await
    }

    /// Ends the session (legacy only).
    ///
    /// # Errors
    /// No answer.
    pub async fn end(&self) -> Outcome<Reply> {
        let headers = self.headers(&Value::Null);
        self.http.send(Method::DELETE, &self.url, &borrow(&headers), Bytes::new()).await
    }

    /// The message `request` would send, with a fresh id.
    pub fn message(&mut self, method: &str, mut params: Value) -> (Value, Value) {
        self.next_id += 1;
        let id = json!(self.next_id);
        if let (Era::Modern, Some(members)) = (self.era, params.as_object_mut()) {
            let meta = members.entry("_meta").or_insert_with(|| json!({}));
            if let Some(meta) = meta.as_object_mut() {
                let own = [
                    ("protocolVersion", json!(self.era.version())),
                    ("clientCapabilities", json!({})),
                    ("clientInfo", json!({"name": "testkit", "version": "1"})),
                ];
                for (name, value) in own {
                    meta.entry(format!("io.modelcontextprotocol/{name}")).or_insert(value);
                }
            }
        }
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        (id, message)
    }

    /// The headers a correct client sends with this message.
    #[must_use]
    pub fn headers(&self, message: &Value) -> Vec<(String, String)> {
        let mut headers = vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("accept".to_owned(), "application/json, text/event-stream".to_owned()),
        ];
        if let Some(bearer) = &self.bearer {
            headers.push(("authorization".to_owned(), format!("Bearer {bearer}")));
        }
        let method = message.get("method").and_then(Value::as_str).unwrap_or_default();
        match self.era {
            Era::Legacy => {
                if method != "initialize" {
                    headers.push(("mcp-protocol-version".to_owned(), self.era.version().to_owned()));
                }
                if let Some(session) = &self.session {
                    headers.push(("mcp-session-id".to_owned(), session.clone()));
                }
            }
            Era::Modern => {
                headers.push(("mcp-protocol-version".to_owned(), self.era.version().to_owned()));
                headers.push(("mcp-method".to_owned(), method.to_owned()));
                let name = match method {
                    "tools/call" | "prompts/get" => message.pointer("/params/name"),
                    "resources/read" => message.pointer("/params/uri"),
                    "tasks/cancel" | "tasks/get" | "tasks/update" => message.pointer("/params/taskId"),
                    _ => None,
                };
                if let Some(name) = name.and_then(Value::as_str) {
                    headers.push(("mcp-name".to_owned(), name.to_owned()));
                }
            }
        }
        headers
    }
}

fn borrow(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn messages_of(reply: &Reply) -> Outcome<Vec<Value>> {
    let kind = reply.header("content-type");
    if kind.starts_with("text/event-stream") {
        return reply
            .text()
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .filter(|data| !data.trim().is_empty())
            .map(|data| Ok(serde_json::from_str(data)?))
            .collect();
    }
    if kind.starts_with("application/json") && !reply.body.is_empty() {
        return Ok(vec![serde_json::from_slice(&reply.body)?]);
    }
    Ok(Vec::new())
}
