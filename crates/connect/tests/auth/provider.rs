//! An authorization server as far as a resource server sees it: documents, keys, and answers about tokens. It says what a
//! test wants it to say, and remembers what it was asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use url::form_urlencoded;

use crate::world::idp;

/// One request that came in.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) authorization: String,
    pub(crate) token: String,
}

#[derive(Default)]
struct State {
    documents: HashMap<String, String>,
    tokens: HashMap<String, Value>,
    asked: Vec<Asked>,
    down: bool,
    slow: Option<Duration>,
    at_once: usize,
    at_once_max: usize,
}

/// The server.
#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) issuer: String,
    state: Arc<Mutex<State>>,
}

impl Provider {
    /// With keys, and a document at the first place where it is looked for.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let this = Self { issuer, state: Arc::default() };
        this.document("/jwks", &idp().jwks());
        this.document("/.well-known/oauth-authorization-server", &this.about(&this.issuer));
        let server = this.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        this
    }

    /// The document of an issuer of that name.
    pub(crate) fn about(&self, issuer: &str) -> Value {
        let here = &self.issuer;
        json!({"issuer": issuer, "jwks_uri": format!("{here}/jwks"),
            "introspection_endpoint": format!("{here}/introspect")})
    }

    pub(crate) fn document(&self, path: &str, value: &Value) {
        self.state.lock().unwrap().documents.insert(path.to_owned(), value.to_string());
    }

    pub(crate) fn remove(&self, path: &str) {
        self.state.lock().unwrap().documents.remove(path);
    }

    /// What it says about a token; of all others it says that they are not active.
    pub(crate) fn says(&self, token: &str, answer: Value) {
        self.state.lock().unwrap().tokens.insert(token.to_owned(), answer);
    }

    pub(crate) fn down(&self, down: bool) {
        self.state.lock().unwrap().down = down;
    }

    pub(crate) fn slow(&self, pause: Duration) {
        self.state.lock().unwrap().slow = Some(pause);
    }

    /// How many requests it worked on at once, at most.
    pub(crate) fn at_once_max(&self) -> usize {
        self.state.lock().unwrap().at_once_max
    }

    /// The requests to `path` so far.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        self.state.lock().unwrap().asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    async fn serve(self, mut stream: TcpStream) {
        while let Some((asked, keep)) = receive(&mut stream).await {
            let (answer, pause) = {
                let mut state = self.state.lock().unwrap();
                state.asked.push(asked.clone());
                state.at_once += 1;
                state.at_once_max = state.at_once_max.max(state.at_once);
                (state.answer(&asked), state.slow)
            };
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            self.state.lock().unwrap().at_once -= 1;
            let Some((status, body)) = answer else { return };
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
            if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() || !keep {
                return;
            }
        }
    }
}

impl State {
    fn answer(&self, asked: &Asked) -> Option<(&'static str, String)> {
        if self.down {
            return None;
        }
        if asked.path == "/introspect" {
            return match self.tokens.get(&asked.token) {
                // A text stands for itself, whatever is wrong with it; a number is a status.
                Some(Value::String(text)) => Some(("200 OK", text.clone())),
                Some(Value::Number(_)) => Some(("401 Unauthorized", "{\"active\":true}".into())),
                Some(answer) => Some(("200 OK", answer.to_string())),
                None => Some(("200 OK", "{\"active\":false}".into())),
            };
        }
        match self.documents.get(&asked.path) {
            Some(text) => Some(("200 OK", text.clone())),
            None => Some(("404 Not Found", String::new())),
        }
    }
}

async fn receive(stream: &mut TcpStream) -> Option<(Asked, bool)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let mut body = vec![0; field("content-length").and_then(|text| text.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let token = form_urlencoded::parse(&body).find(|(name, _)| name == "token");
    let asked = Asked {
        path: head.split(' ').nth(1)?.to_owned(),
        authorization: field("authorization").unwrap_or_default(),
        token: token.map(|(_, value)| value.into_owned()).unwrap_or_default(),
    };
    Some((asked, field("connection").is_none_or(|value| value != "close")))
}
