//! A scripted server of the transport before Streamable HTTP: an event stream that names where messages are posted.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use portcullis_testkit::Outcome;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};

#[derive(Debug, Default)]
struct State {
    /// What the `endpoint` event says instead of the proper path.
    endpoint: Option<String>,
    streams: BTreeMap<usize, mpsc::UnboundedSender<Option<String>>>,
    opened: usize,
    /// Head and body of each message that was posted.
    posted: Vec<(String, Value)>,
    /// Heads of the requests that opened streams.
    heads: Vec<String>,
}

/// The server. Dropping it closes every connection.
#[derive(Debug)]
pub struct SseServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for SseServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SseServer {
    /// Starts a server with the tools `echo`, `note` (one notification first), `drop` (ends the stream) and `twice`
    /// (two answers).
    ///
    /// # Errors
    /// No port.
    pub async fn start() -> Outcome<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, state) = (listener.local_addr()?, Arc::new(Mutex::new(State::default())));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move { serve(stream, &state).await.is_ok() });
            }
        });
        Ok(Self { address, state, task })
    }

    /// Where its stream is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/sse", self.address)
    }

    /// Names this as the place for messages from now on.
    pub fn name_endpoint(&self, endpoint: &str) {
        lock(&self.state).endpoint = Some(endpoint.to_owned());
    }

    /// How many streams were opened so far.
    #[must_use]
    pub fn opened(&self) -> usize {
        lock(&self.state).opened
    }

    /// What was posted so far: the head of each request, and its message.
    #[must_use]
    pub fn posted(&self) -> Vec<(String, Value)> {
        lock(&self.state).posted.clone()
    }

    /// The heads of requests that opened streams.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        lock(&self.state).heads.clone()
    }
}

async fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        if head.starts_with("GET /sse") {
            return events(stream.into_inner(), head, state).await;
        }
        let lower = head.to_ascii_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).await?;
        let number = head.split("session_id=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let number = number.and_then(|number| number.parse::<usize>().ok());
        let status = take(number, head.clone(), &body, state);
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        stream.get_mut().write_all(answer.as_bytes()).await?;
    }
}

async fn events(mut stream: TcpStream, head: String, state: &Mutex<State>) -> std::io::Result<()> {
    let (to, mut from) = mpsc::unbounded_channel();
    let endpoint = {
        let mut state = lock(state);
        state.opened += 1;
        state.heads.push(head);
        let number = state.opened;
        state.streams.insert(number, to);
        state.endpoint.clone().unwrap_or_else(|| format!("/messages/?session_id={number}"))
    };
    let start = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    stream.write_all(format!("{start}: hello\n\nevent: endpoint\ndata: {endpoint}\n\n").as_bytes()).await?;
    while let Some(Some(message)) = from.recv().await {
        stream.write_all(format!("event: message\r\ndata: {message}\r\n\r\n").as_bytes()).await?;
    }
    Ok(())
}

fn take(number: Option<usize>, head: String, body: &[u8], state: &Mutex<State>) -> &'static str {
    let message: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let mut state = lock(state);
    state.posted.push((head, message.clone()));
    let Some(to) = number.and_then(|number| state.streams.get(&number)) else { return "404 Not Found" };
    let say = |text: Value| drop(to.send(Some(text.to_string())));
    let Some(id) = message.get("id") else { return "202 Accepted" };
    let answer = |result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
    let words = message.pointer("/params/arguments/text").cloned().unwrap_or_default();
    let text = json!({"content": [{"type": "text", "text": words}]});
    match message.get("method").and_then(Value::as_str).unwrap_or_default() {
        "initialize" => say(answer(json!({"protocolVersion": "2024-11-05", "capabilities": {"tools": {}},
            "serverInfo": {"name": "older", "version": "1"}}))),
        "tools/list" => {
            let tools = ["drop", "echo", "note", "twice"];
            let tools = tools.map(|name| json!({"name": name, "inputSchema": {"type": "object"}}));
            say(answer(json!({ "tools": tools })));
        }
        "tools/call" => match message.pointer("/params/name").and_then(Value::as_str).unwrap_or_default() {
            "drop" => drop(to.send(None)),
            "note" => {
                say(json!({"jsonrpc": "2.0", "method": "notifications/message",
                    "params": {"level": "info", "data": "card 4111111111111111"}}));
                say(answer(text));
            }
            "twice" => {
                say(answer(text.clone()));
                say(answer(json!({"content": [{"type": "text", "text": "a second answer"}]})));
            }
            _ => say(answer(text)),
        },
        _ => say(json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no"}})),
    }
    "202 Accepted"
}
