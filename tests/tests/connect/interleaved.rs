//! Two users on one server, in both revisions and over the bridge between them, at once and for long: neither ever sees a
//! token, result, session or task of the other. `PORTCULLIS_INTERLEAVED_CALLS` says for how many calls.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use portcullis_testkit::{Era, Gateway, McpClient, Outcome};
use portcullis_tests::pair::{entries, limits_yaml, new_key};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    browser::{Browser, link},
    provider::Provider,
};

/// Calls without the variable: the property is the same, and a debug build on a busy machine needs a minute for few more.
const CALLS: u64 = 3_000;
const SERVERS: [&str; 2] = ["modern", "legacy"];
const USERS: [&str; 2] = ["alice", "bob"];

/// A client on one connection that stays open.
struct Line {
    client: McpClient,
    sender: SendRequest<Full<Bytes>>,
    path: String,
    host: SocketAddr,
}

impl Line {
    async fn open(gateway: &Gateway, server: &str, key: &str, era: Era) -> Outcome<Self> {
        let client = McpClient::connect(&gateway.url(server), Some(key), era).await?;
        let host = gateway.address();
        let (sender, connection) = handshake(TokioIo::new(TcpStream::connect(host).await?)).await?;
        tokio::spawn(connection);
        Ok(Self { client, sender, path: format!("/mcp/{server}"), host })
    }

    /// What is answered to a request: the message with its id.
    async fn ask(&mut self, method: &str, params: Value) -> Outcome<Value> {
        let (id, message) = self.client.message(method, params);
        let mut request = Request::builder().method(Method::POST).uri(&self.path);
        request = request.header("host", self.host.to_string());
        for (name, value) in self.client.headers(&message) {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(message.to_string())))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let stream = answer.headers().get("content-type").is_some_and(|media| media == "text/event-stream");
        let bytes = answer.into_body().collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&bytes);
        let lines =
            text.lines().filter_map(|line| if stream { line.strip_prefix("data:") } else { Some(line) });
        let mut messages = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let answer = messages.find(|message| message["id"] == id || message["error"].is_object());
        answer.ok_or_else(|| format!("{method}: {text}").into())
    }
}

/// What the users know of each other: ids that count for one of them alone.
#[derive(Default)]
struct Board {
    tasks: Mutex<[Option<String>; 2]>,
    sessions: Mutex<[Option<String>; 2]>,
    calls: AtomicU64,
    /// Attempts of one user to use what is the other's.
    tried: AtomicU64,
}

fn set(slots: &Mutex<[Option<String>; 2]>, user: usize, value: Option<String>) {
    slots.lock().unwrap_or_else(PoisonError::into_inner)[user] = value;
}

fn of_other(slots: &Mutex<[Option<String>; 2]>, user: usize) -> Option<String> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)[1 - user].clone()
}

/// One client of one user until all calls are made. Every answer is about this user and this call.
async fn work(mut line: Line, server: &str, user: usize, calls: u64, board: Arc<Board>) -> Outcome {
    let (login, era) = (USERS[user], line.client.era);
    if server == "legacy" && era == Era::Legacy {
        set(&board.sessions, user, line.client.session.clone());
    }
    loop {
        let turn = board.calls.fetch_add(1, Ordering::Relaxed);
        if turn >= calls {
            return Ok(());
        }
        match turn % 8 {
            0 | 1 if era == Era::Modern && server == "modern" => {
                let begun = line.ask("tools/call", json!({ "name": "job", "arguments": {} })).await?;
                let id = begun["result"]["taskId"].as_str().ok_or_else(|| begun.to_string())?.to_owned();
                let found = line.ask("tasks/get", json!({ "taskId": id })).await?;
                assert_eq!(found["result"]["statusMessage"], login, "{found}");
                set(&board.tasks, user, Some(id));
            }
            2 if era == Era::Modern && server == "modern" => {
                if let Some(id) = of_other(&board.tasks, user) {
                    let refused = line.ask("tasks/get", json!({ "taskId": id })).await?;
                    assert!(refused["error"].is_object(), "{login} saw a task of another: {refused}");
                    board.tried.fetch_add(1, Ordering::Relaxed);
                }
            }
            3 | 4 => {
                // The same for both, and said to be for everybody.
                let read = line.ask("resources/read", json!({ "uri": "note://shared" })).await?;
                assert_eq!(read["result"]["contents"][0]["text"], login, "{read}");
            }
            5 if era == Era::Legacy && server == "legacy" => {
                if let Some(session) = of_other(&board.sessions, user) {
                    let own = line.client.session.replace(session);
                    let refused =
                        line.ask("tools/call", json!({ "name": "whoami", "arguments": {} })).await?;
                    assert!(
                        refused["error"].is_object(),
                        "{login} was let into a session of another: {refused}"
                    );
                    line.client.session = own;
                    board.tried.fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => {
                let note = format!("{turn}");
                let said = line
                    .ask("tools/call", json!({ "name": "whoami", "arguments": { "note": note } }))
                    .await?;
                assert_eq!(said["result"]["content"][0]["text"], format!("{login} {note}"), "{said}");
            }
        }
    }
}

/// Two servers, and a gateway before them to which both users are connected.
struct House {
    providers: [Provider; 2],
    gateway: Gateway,
    keys: [String; 2],
}

impl House {
    async fn start() -> Outcome<Self> {
        let providers = [Provider::start().await?, Provider::start().await?];
        providers[1].set(|knobs| knobs.legacy = true);
        let mut yaml = limits_yaml(&[
            ("caller_rate_per_s", 1_000_000),
            ("caller_burst_max", 1_000_000),
            ("source_rate_per_s", 1_000_000),
            ("source_burst_max", 1_000_000),
        ]);
        yaml.push_str("servers:\n");
        for (name, provider) in SERVERS.iter().zip(&providers) {
            let url = provider.url();
            yaml.push_str(&format!("  {name}:\n    url: {url}\n    authorization:\n      mode: user\n"));
        }
        let gateway = Gateway::start(&yaml).await?;
        let keys = [gateway.key()?.to_owned(), new_key(&gateway, "bob", "operator")?];
        for (server, provider) in SERVERS.iter().zip(&providers) {
            for (login, key) in USERS.iter().zip(&keys) {
                let mut client = McpClient::new(&gateway.url(server), Some(key), Era::Modern);
                let asked = client.call("whoami", json!({})).await?;
                let page = Browser::of(login).connect(&link(asked.error_message())?, key).await?;
                assert!(page.text().contains("You are connected"), "{}", page.text());
            }
            provider.state().forbidden.extend(keys.iter().cloned());
            provider.set(|knobs| knobs.quiet = true);
        }
        Ok(Self { providers, gateway, keys })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_users_on_one_server_never_see_anything_of_each_other() -> Outcome {
    let calls = std::env::var("PORTCULLIS_INTERLEAVED_CALLS").ok().map_or(Ok(CALLS), |text| text.parse())?;
    let house = House::start().await?;
    let (board, mut workers, begun) = (Arc::new(Board::default()), JoinSet::new(), Instant::now());
    for server in SERVERS {
        for (user, key) in house.keys.iter().enumerate() {
            for era in Era::ALL {
                let line = Line::open(&house.gateway, server, key, era).await?;
                let board = Arc::clone(&board);
                workers.spawn(async move {
                    let done = work(line, server, user, calls, board).await;
                    done.map_err(|error| format!("{server} {user} {era:?}: {error}"))
                });
            }
        }
    }
    // Tokens end all the time, so that those of both are renewed while calls of both are under way. Only used ones: a
    // new one that is refused at once is a grant that is gone.
    let mut renewals = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = renewals.tick() => house.providers.iter().for_each(|provider| provider.expire_used(20)),
            done = workers.join_next() => match done {
                Some(Ok(Ok(()))) => {}
                Some(failed) => {
                    // Why the gateway refused is told to nobody but its operator.
                    let refused = entries(&house.gateway, "event=call.refused&last=20").await?;
                    failed.map_err(|error| format!("{error}; refused last: {refused:?}"))??;
                }
                None => break,
            },
        }
    }
    let answered: u64 = house.providers.iter().map(|provider| provider.state().desk.answered).sum();
    let tried = board.tried.load(Ordering::Relaxed);
    println!(
        "{calls} calls in {:?}, {answered} answered by the servers, {tried} attempts on the other's",
        begun.elapsed()
    );
    for provider in &house.providers {
        let state = provider.state();
        assert!(state.desk.violations.is_empty(), "{:?}", state.desk.violations.first());
        assert!(
            state.grants.iter().filter(|grant| *grant == "refresh_token").count() > 1,
            "no token was renewed"
        );
    }
    assert!(tried > 0 && answered + tried >= calls, "{answered} and {tried} of {calls}");
    let failed = entries(&house.gateway, "event=connection.failed").await?;
    assert!(failed.is_empty(), "{failed:?}");
    Ok(())
}
