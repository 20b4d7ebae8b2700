//! A session of the older revision that the gateway holds with a server on behalf of a caller of the newer one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use portcullis_core::{Code, Limits, Refusal};
use portcullis_mcp::jsonrpc::{Message, Shape};
use tokio::sync::mpsc;

use super::{
    aside::{self, Asides},
    parse, reparsed,
};
use crate::{head::LAST_EVENT_ID, rules::Server};
use portcullis_upstream::{
    Behalf, Events, Reply, Upstream, Verb,
    headers::SESSION,
    stdio::{Owner, Process, declined},
};

/// Tells every session of this node from every other: on a process that callers share, a name that two of them had would
/// make one caller's call look like the other's.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// Bytes of the params of `initialize` and of its answer: what a session keeps counts for as long as it lasts.
const PARAMS_BYTES_MAX: usize = 65_536;
const INITIALIZED_BYTES_MAX: usize = 65_536;

/// An open session with a server.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) server: Arc<Server>,
    wire: Wire,
    /// The params of `initialize` that it was opened with.
    pub(super) params: String,
    /// The message with which the server answered `initialize`.
    pub(super) initialized: Message,
    unique: String,
    next: AtomicU64,
    pub(super) limits: Limits,
    /// Running calls that may be meant on the stream of the session.
    pub(super) asides: Asides,
}

#[derive(Debug)]
enum Wire {
    Http(HeaderMap),
    Stdio(Arc<Process>),
}

impl Link {
    /// Opens a session with these params of `initialize`; `purpose` is what it is for.
    pub(super) async fn open(
        server: &Arc<Server>,
        behalf: &Behalf,
        purpose: &str,
        params: &str,
        limits: &Limits,
    ) -> Result<Self, Refusal> {
        if params.len() > PARAMS_BYTES_MAX {
            let what = "what the client says of itself is more than a session keeps";
            return Err(Refusal::new(Code::RequestTooLarge, what).saying(what));
        }
        let unique = format!("{purpose} {}", SERIAL.fetch_add(1, Ordering::Relaxed));
        let (wire, initialized) = match &server.upstream {
            Upstream::Group => return Err(moved()),
            Upstream::Http(peer) => {
                let (headers, answer) = peer.open_session(params, behalf, limits).await?;
                (Wire::Http(headers), answer)
            }
            Upstream::Stdio(peer) => {
                let params = Bytes::copy_from_slice(params.as_bytes());
                let owner = Owner::Caller(&behalf.caller);
                let (process, answer) = peer.legacy(owner, Some(&unique), &params, limits).await?;
                process.confirm().await?;
                (Wire::Stdio(process), parse(answer, limits)?)
            }
        };
        if initialized.shape() != Shape::Response {
            return Err(Refusal::new(Code::UpstreamRevision, "the server refused `initialize`"));
        }
        if initialized.bytes().len() > INITIALIZED_BYTES_MAX {
            return Err(Refusal::new(
                Code::AnswerTooLarge,
                "the answer to `initialize` is more than a session keeps",
            ));
        }
        let (server, next) = (Arc::clone(server), AtomicU64::new(1));
        let (limits, asides) = (limits.clone(), Asides::default());
        Ok(Self { server, wire, params: params.to_owned(), initialized, unique, next, limits, asides })
    }

    /// Hears what the server says on the stream of the session. A child has no streams: its lines are told apart.
    pub(super) async fn listen(self: &Arc<Self>) {
        if matches!(self.wire, Wire::Http(_)) {
            aside::listen(self).await;
        }
    }

    /// The id for the next request.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the session can still be used.
    pub(super) fn alive(&self) -> bool {
        match &self.wire {
            Wire::Http(_) => true,
            Wire::Stdio(process) => process.usable(),
        }
    }

    /// Under which name the lines of a request are told apart on a shared process. Each request has its own, so that
    /// a question that could be of either of two calls is given to neither.
    fn key(&self, number: u64) -> String {
        format!("bridge {} {number}", self.unique)
    }

    /// Sends the request with this number.
    pub(super) async fn send(&self, number: u64, message: Bytes, limits: &Limits) -> Result<Reply, Refusal> {
        match (&self.wire, &self.server.upstream) {
            (Wire::Http(headers), Upstream::Http(peer)) => {
                let reply = peer.send(Verb::Post, headers.clone(), message, limits).await?;
                match reply {
                    Reply::Unary { status: 404, .. } if headers.contains_key(SESSION) => {
                        Err(Refusal::new(Code::SessionUnknown, "the server ended the session"))
                    }
                    reply => Ok(reply),
                }
            }
            (Wire::Stdio(process), _) => {
                let mut lines = process.request(&reparsed(message)?, Some(&self.key(number)), true).await?;
                Ok(match lines.only(limits, false).await? {
                    Some(bytes) => Reply::Unary { status: 200, bytes, session: None },
                    None => Reply::Stream { events: Events::Stdio(lines), session: None },
                })
            }
            (Wire::Http(_), Upstream::Group | Upstream::Stdio(_)) => Err(moved()),
        }
    }

    /// Sends a request of the gateway itself and waits for its answer.
    pub(super) async fn ask(&self, method: &str, params: &str, limits: &Limits) -> Result<Message, Refusal> {
        let number = self.number();
        let text = format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"{method}","params":{params}}}"#);
        self.send(number, Bytes::from(text), limits).await?.answer(limits).await
    }

    /// Answers a question that the server asked in the course of the request with this number.
    pub(super) async fn answer(&self, number: u64, message: Bytes) -> Result<(), Refusal> {
        match (&self.wire, &self.server.upstream) {
            (Wire::Http(headers), Upstream::Http(peer)) => {
                let sent = peer.send(Verb::Post, headers.clone(), message, &self.limits).await;
                match sent.map_err(in_the_middle)? {
                    Reply::Unary { status: 400.., .. } => Err(Refusal::new(
                        Code::BridgeElsewhere,
                        "the server does not take the answer any more",
                    )),
                    Reply::Accepted | Reply::Stream { .. } | Reply::Unary { .. } => Ok(()),
                }
            }
            (Wire::Stdio(process), _) => process.answer(&reparsed(message)?, &self.key(number)).await,
            (Wire::Http(_), Upstream::Group | Upstream::Stdio(_)) => Err(moved()),
        }
    }

    /// Refuses a question of the server.
    pub(super) async fn decline(&self, number: u64, question: &[u8]) {
        match &self.wire {
            Wire::Http(_) => {
                let _ = self.answer(number, declined(question)).await;
            }
            Wire::Stdio(process) => process.decline(question, &self.key(number)).await,
        }
    }

    /// Opens the stream of changes; nothing where the server has none.
    pub(super) async fn changes(&self, limits: &Limits) -> Result<Option<Events>, Refusal> {
        match (&self.wire, &self.server.upstream) {
            (Wire::Http(headers), Upstream::Http(peer)) => {
                let headers = without_body(headers);
                match peer.send(Verb::Get, headers, Bytes::new(), limits).await {
                    Ok(Reply::Stream { events, .. }) => Ok(Some(events)),
                    Ok(Reply::Accepted | Reply::Unary { .. }) => Ok(None),
                    Err(refusal) if refusal.code == Code::MethodNotAllowed => Ok(None),
                    Err(refusal) => Err(refusal),
                }
            }
            (Wire::Stdio(process), _) => Ok(Some(Events::Stdio(process.open_stream(&self.key(0))))),
            (Wire::Http(_), Upstream::Group | Upstream::Stdio(_)) => Err(moved()),
        }
    }

    /// What follows the event with this id on the stream of a call that broke off; nothing where the server has none.
    pub(super) async fn resume(&self, last: &str, limits: &Limits) -> Result<Option<Events>, Refusal> {
        let (Wire::Http(headers), Upstream::Http(peer)) = (&self.wire, &self.server.upstream) else {
            return Ok(None);
        };
        let Ok(last) = HeaderValue::try_from(last) else { return Ok(None) };
        let mut headers = without_body(headers);
        headers.insert(LAST_EVENT_ID, last);
        let sent = peer.send(Verb::Get, headers, Bytes::new(), limits).await;
        Ok(match sent.map_err(in_the_middle)? {
            Reply::Stream { events, .. } => Some(events),
            Reply::Accepted | Reply::Unary { .. } => None,
        })
    }

    /// Asks to be told when a resource changes, on the stream of changes.
    pub(super) async fn subscribe(&self, uri: &str, limits: &Limits) -> Result<bool, Refusal> {
        let params = format!(r#"{{"uri":{}}}"#, portcullis_mcp::json::quote(uri));
        let answer = match &self.wire {
            Wire::Http(_) => self.ask("resources/subscribe", &params, limits).await?,
            Wire::Stdio(process) => {
                let text =
                    format!(r#"{{"jsonrpc":"2.0","id":0,"method":"resources/subscribe","params":{params}}}"#);
                let request = reparsed(Bytes::from(text))?;
                let mut lines = process.request(&request, Some(&self.key(0)), true).await?;
                match lines.only(limits, false).await? {
                    Some(bytes) => parse(bytes, limits)?,
                    None => return Ok(false),
                }
            }
        };
        Ok(answer.shape() == Shape::Response)
    }

    /// Tells the server that a request is not waited for any more.
    fn cancel(&self, number: u64) {
        // A child is told when its lines are dropped.
        let (Wire::Http(headers), Ok(runtime)) = (&self.wire, tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (headers, server, limits) = (headers.clone(), Arc::clone(&self.server), self.limits.clone());
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number}}}}}"#
        );
        runtime.spawn(async move {
            if let Upstream::Http(peer) = &server.upstream {
                let _ = peer.send(Verb::Post, headers, Bytes::from(text), &limits).await;
            }
        });
    }
}

/// A server that ends its session in the middle of a call has seen the call: it is not made again.
fn in_the_middle(refusal: Refusal) -> Refusal {
    match refusal.code {
        Code::SessionUnknown => Refusal::new(Code::UpstreamUnavailable, refusal.private),
        _ => refusal,
    }
}

fn without_body(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove(http::header::CONTENT_TYPE);
    headers
}

fn moved() -> Refusal {
    Refusal::new(Code::SessionUnknown, "the server is reached another way now")
}

impl Drop for Link {
    fn drop(&mut self) {
        self.asides.stop();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (server, limits) = (Arc::clone(&self.server), self.limits.clone());
        match &self.wire {
            Wire::Http(headers) if headers.contains_key(SESSION) => {
                let headers = without_body(headers);
                runtime.spawn(async move {
                    if let Upstream::Http(peer) = &server.upstream {
                        let _ = peer.send(Verb::Delete, headers, Bytes::new(), &limits).await;
                    }
                });
            }
            Wire::Http(_) => {}
            Wire::Stdio(process) => {
                process.close_session(&self.key(0));
                let process = Arc::clone(process);
                runtime.spawn(async move {
                    if let Upstream::Stdio(peer) = &server.upstream {
                        peer.end(&process).await;
                    }
                });
            }
        }
    }
}

/// One request on a link, until it is answered; given up before, the server is told.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) link: Arc<Link>,
    pub(super) number: u64,
    /// What the server says about it beside its own stream.
    asides: mpsc::Receiver<Message>,
    open: bool,
}

impl Request {
    pub(super) fn new(link: Arc<Link>) -> Self {
        let number = link.number();
        let asides = link.asides.begin(number);
        Self { link, number, asides, open: true }
    }

    /// It waits for its client: what the server says meanwhile is not about it.
    pub(super) fn pause(&self) {
        self.link.asides.end(self.number);
        if let Wire::Stdio(process) = &self.link.wire {
            process.pause(&self.link.key(self.number), true);
        }
    }

    /// It goes on.
    pub(super) fn go_on(&mut self) {
        self.asides = self.link.asides.begin(self.number);
        if let Wire::Stdio(process) = &self.link.wire {
            process.pause(&self.link.key(self.number), false);
        }
    }

    /// The next thing that the server says about it beside its own stream.
    pub(super) async fn aside(&mut self) -> Message {
        match self.asides.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }

    /// The server has answered.
    pub(super) const fn answered(&mut self) {
        self.open = false;
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.link.asides.end(self.number);
        if self.open {
            self.link.cancel(self.number);
        }
    }
}
