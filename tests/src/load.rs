//! Calls over many kept-alive connections at once, and a journal of what the client saw of each.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_core::Digest;
use portcullis_testkit::{Era, McpClient, Outcome};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// One call as its client saw it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Digest of the request's body.
    pub input: Digest,
    /// The HTTP status, as soon as the first bytes of the answer were there; nothing when none came.
    pub status: Option<u16>,
    /// Digest of the answer's body, when all of it came.
    pub output: Option<Digest>,
}

#[derive(Debug, Default)]
struct Shared {
    journal: Mutex<Vec<Call>>,
    answered: AtomicUsize,
    stop: AtomicBool,
}

/// Calls in the background, until it is ended or every connection broke.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    connections: JoinSet<()>,
}

impl Load {
    /// Calls the tool `echo` of these servers over `connections` connections, as fast as answers come. Texts are
    /// unique as long as `run` is, so that every body has a digest of its own.
    #[must_use]
    pub fn start(address: SocketAddr, key: &str, servers: &[&str], connections: usize, run: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        for (number, server) in servers.iter().cycle().take(connections).enumerate() {
            let client = McpClient::new(&format!("http://{address}/mcp/{server}"), Some(key), Era::Modern);
            let shared = Arc::clone(&shared);
            let path = format!("/mcp/{server}");
            let name = format!("{run} {number}");
            tasks.spawn(async move {
                // The end of the connection is what the tests are about; the journal says how far it came.
                let _broken = call_on(address, &path, client, &name, &shared).await;
            });
        }
        Self { shared, connections: tasks }
    }

    /// How many complete answers came so far.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Lets running calls finish, then returns the journal.
    pub async fn end(mut self) -> Vec<Call> {
        self.shared.stop.store(true, Ordering::Relaxed);
        while self.connections.join_next().await.is_some() {}
        std::mem::take(&mut *lock(&self.shared.journal))
    }

    /// Waits until every connection broke, then returns the journal.
    pub async fn broken(mut self) -> Vec<Call> {
        while self.connections.join_next().await.is_some() {}
        std::mem::take(&mut *lock(&self.shared.journal))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn call_on(
    address: SocketAddr,
    path: &str,
    mut client: McpClient,
    name: &str,
    shared: &Shared,
) -> Outcome {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    for number in 0.. {
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        let arguments = json!({"text": format!("{name} {number}")});
        let (_, message) = client.message("tools/call", json!({"name": "echo", "arguments": arguments}));
        let body = message.to_string();
        let mut request = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\n");
        for (name, value) in client.headers(&message) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        let mut call = Call { input: Digest::of(body.as_bytes()), status: None, output: None };
        let ended = exchange(&mut stream, request.as_bytes(), &mut call).await;
        if call.output.is_some() {
            shared.answered.fetch_add(1, Ordering::Relaxed);
        }
        lock(&shared.journal).push(call);
        ended?;
    }
    Ok(())
}

/// Sends one request and notes how much of the answer came.
async fn exchange(stream: &mut TcpStream, request: &[u8], call: &mut Call) -> Outcome {
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    let head = loop {
        more(stream, &mut answer).await?;
        let text = String::from_utf8_lossy(&answer);
        // The status alone is a promise already: it is released with the outcome.
        call.status = call.status.or_else(|| text.get(9..12)?.parse().ok());
        if let Some(end) = text.find("\r\n\r\n") {
            break text.get(..end).unwrap_or_default().to_ascii_lowercase();
        }
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.ok_or("an answer of unknown length")?.trim().parse()?;
    let start = head.len() + 4;
    while answer.len() < start + length {
        more(stream, &mut answer).await?;
    }
    call.output = answer.get(start..start + length).map(Digest::of);
    Ok(())
}

async fn more(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Outcome {
    if stream.read_buf(answer).await? == 0 {
        return Err("closed".into());
    }
    Ok(())
}
