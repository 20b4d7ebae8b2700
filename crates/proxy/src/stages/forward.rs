//! The call goes to its server. Takes only an [`Armed`] call: nothing is forwarded without a receipt.
//!
//! ```compile_fail
//! use portcullis_proxy::stages::{authorize::Permitted, forward};
//! # async fn skip(gateway: &std::sync::Arc<portcullis_proxy::Gateway>, rules: &portcullis_proxy::rules::Rules, permitted: Permitted) {
//! // A permit alone is not enough: the intent is not recorded, the credentials are not joined.
//! let _ = forward::call(gateway, rules, &permitted).await;
//! # }
//! ```
//!
//! The same with the right proof compiles:
//!
//! ```
//! use portcullis_proxy::stages::{arm::Armed, forward};
//! # async fn go(gateway: &std::sync::Arc<portcullis_proxy::Gateway>, rules: &portcullis_proxy::rules::Rules, armed: Armed) {
//! let _ = forward::call(gateway, rules, &armed).await;
//! # }
//! ```

mod bridged;
mod group;
mod list;
mod members;
mod merged;
mod streams;
mod together;

pub(crate) use self::members::{decline, end};

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use portcullis_catalog::List;
use portcullis_core::{Code, Limits, Obligations, Refusal};
use portcullis_mcp::{
    alias::Prefix,
    jsonrpc::{Message, Shape},
    revision::{Era, version_data},
};

use super::{arm::Armed, inspect::Inspected, parse::Content, resolve::member::Via};
use crate::{
    bridge::Unwanted,
    gateway::Gateway,
    head::LAST_EVENT_ID,
    rules::{Rules, Server},
    session::{Backend, Session},
    tasks::{self, Tasks},
};
use portcullis_upstream::{
    Behalf, Events, HttpPeer, Reply, StdioPeer, Upstream, Verb,
    headers::SESSION,
    parse,
    stdio::{Owner, Process},
};

/// Bytes of a client's `initialize` that its session keeps, to open the child again: a session lasts, so that what it
/// keeps is worth more to an attacker than what a call holds.
const INITIALIZE_BYTES_MAX: usize = 65_536;

/// What came of forwarding.
#[derive(Debug)]
pub struct Exchange {
    /// The server's reply.
    pub reply: Reply,
    /// What a session that this reply opens is tied to.
    pub opens: Option<Backend>,
    /// The list that it is, where it is one.
    pub list: Option<Arc<List>>,
}

impl Exchange {
    pub(crate) const fn plain(reply: Reply) -> Self {
        Self { reply, opens: None, list: None }
    }

    /// The answer to the list that the request with this id (JSON text) asks for.
    fn list(id: &[u8], list: Arc<List>) -> Self {
        let reply = Reply::Unary { status: 200, bytes: list.answer(id), session: None };
        Self { reply, opens: None, list: Some(list) }
    }
}

impl Armed {
    fn content(&self) -> &Content {
        &self.recorded.inspected.permitted.valid.aimed.call.content
    }

    /// The message as it is forwarded.
    #[must_use]
    pub const fn message(&self) -> Option<&Message> {
        self.recorded.inspected.message.as_ref()
    }

    /// The server it goes to.
    #[must_use]
    pub const fn server(&self) -> &Arc<Server> {
        &self.recorded.inspected.permitted.valid.aimed.server
    }

    /// The call as it was inspected.
    pub(super) const fn inspected(&self) -> &Inspected {
        &self.recorded.inspected
    }

    /// Whether an answer can wait for people, who are asked about what is found in it.
    #[must_use]
    pub const fn answer_waits(&self) -> bool {
        self.recorded.inspected.answer.is_some()
    }

    /// The answer that waited, where people let it through.
    #[must_use]
    pub fn held(&self) -> Option<&str> {
        self.recorded.inspected.held.as_deref()
    }

    /// Its session.
    #[must_use]
    pub const fn session(&self) -> Option<&Arc<Session>> {
        self.recorded.inspected.permitted.valid.aimed.call.session()
    }

    /// How it came to its server, where the route leads to several.
    #[must_use]
    pub const fn via(&self) -> Option<&Via> {
        self.recorded.inspected.permitted.valid.aimed.call.via.as_ref()
    }

    /// The session that the client knows.
    #[must_use]
    pub fn own_session(&self) -> Option<&Arc<Session>> {
        self.recorded.inspected.permitted.valid.aimed.call.own_session()
    }

    /// Whether it goes to a replica of the server that the client called.
    #[must_use]
    pub const fn is_aside(&self) -> bool {
        self.recorded.inspected.permitted.valid.aimed.call.aside.is_some()
    }

    /// Its era.
    #[must_use]
    pub const fn era(&self) -> Era {
        self.recorded.inspected.permitted.valid.aimed.call.era()
    }

    /// Whether it is the method of that name.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.recorded.inspected.permitted.valid.aimed.call.is(name)
    }

    /// Who asks.
    #[must_use]
    pub fn caller(&self) -> &str {
        &self.recorded.inspected.permitted.caller.id
    }

    /// On whose behalf the server is asked.
    #[must_use]
    pub fn behalf(&self) -> Behalf {
        Behalf::now(&self.recorded.inspected.permitted.caller)
    }

    /// What the permit demands of the answer.
    #[must_use]
    pub const fn obligations(&self) -> &Obligations {
        &self.obligations
    }

    /// A message of the server with our ids of tasks in place of its own; nothing when it tells of a task of which
    /// the caller knows nothing.
    ///
    /// # Errors
    /// `answer.invalid` for an answer that names another task than was asked about.
    pub fn exchange(
        &self,
        tasks: &Tasks,
        message: Message,
        limits: &Limits,
    ) -> Result<Option<Message>, Refusal> {
        let aimed = &self.recorded.inspected.permitted.valid.aimed;
        // What a route over several servers says was exchanged for each of them, by its own name.
        if aimed.server.group.is_some() {
            return Ok(Some(message));
        }
        let context = tasks::Context {
            tasks,
            caller: self.caller(),
            server: &aimed.server.name,
            method: aimed.call.row.map_or("", |row| row.name),
            tool: aimed.item.as_ref().filter(|_| aimed.call.is("tools/call")).map(|item| &*item.name),
            obligations: &self.obligations,
            named: &aimed.tasks,
            limits,
        };
        let message = tasks::outward(&context, message)?;
        Ok(match (self.via(), message) {
            (Some(via), Some(message)) => Some(exposed(&via.prefix, message)?),
            (_, message) => message,
        })
    }

    /// Whether the client wants to hear what it missed on a stream (2025-11-25).
    #[must_use]
    fn asks_for_missed(&self) -> bool {
        let call = &self.recorded.inspected.permitted.valid.aimed.call;
        call.head.headers.contains_key(&LAST_EVENT_ID)
    }

    /// Whether the answer is a stream without an end of its own.
    #[must_use]
    pub fn endless(&self) -> bool {
        self.recorded.inspected.permitted.valid.aimed.endless()
    }

    /// The session with its server: on a route over several servers a part of the client's own.
    #[must_use]
    pub fn part(&self) -> Option<Arc<Session>> {
        members::part(self)
    }

    /// What its server says in vain, until that is recorded.
    #[must_use]
    pub fn unwanted(&self) -> &Unwanted {
        &self.unwanted
    }

    /// The headers for a further message of the same call.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    /// The headers for a further message of the same call, in the session that it was made in.
    ///
    /// # Errors
    /// `internal` when the server's id of the session cannot be written.
    pub fn headers_in(&self, session: Option<&Arc<Session>>) -> Result<HeaderMap, Refusal> {
        match session.filter(|_| self.via().is_some() || self.is_aside()) {
            Some(part) => members::headers(self.headers.clone(), part),
            None => Ok(self.headers.clone()),
        }
    }
}

/// Sends the call to its server, or answers a list from the pinned catalogue.
///
/// # Errors
/// `upstream.*`, `answer.*`, `session.unknown` when the server has ended it.
pub async fn call(gateway: &Arc<Gateway>, rules: &Rules, armed: &Armed) -> Result<Exchange, Refusal> {
    let aimed = &armed.recorded.inspected.permitted.valid.aimed;
    if let Some(group) = &aimed.server.group {
        return group::call(gateway, rules, armed, group).await;
    }
    if let Some(kind) = aimed.call.row.and_then(|row| row.list) {
        return list::answer(gateway, rules, armed, kind).await;
    }
    let sent = send(gateway, rules, armed).await;
    if members::ended(armed, &sent) { send(gateway, rules, armed).await } else { sent }
}

async fn send(gateway: &Gateway, rules: &Rules, armed: &Armed) -> Result<Exchange, Refusal> {
    let limits = &rules.limits;
    let session = members::session(gateway, armed, limits).await?;
    let session = session.as_ref();
    if let Some(exchange) = bridged::exchange(gateway, rules, armed, session).await? {
        return Ok(exchange);
    }
    match &armed.server().upstream {
        Upstream::Group => Err(Refusal::new(Code::Internal, "a route over several servers inside another")),
        Upstream::Http(peer) => http(peer, armed, session, limits).await,
        Upstream::Stdio(peer) => match armed.era() {
            Era::Modern => modern_stdio(peer, armed, limits).await.map(Exchange::plain),
            Era::Legacy => legacy_stdio(gateway, peer, armed, session, limits).await,
        },
    }
}

async fn http(
    peer: &HttpPeer,
    armed: &Armed,
    session: Option<&Arc<Session>>,
    limits: &Limits,
) -> Result<Exchange, Refusal> {
    let (verb, body) = match (armed.content(), armed.message()) {
        (Content::EndSession, _) => (Verb::Delete, Bytes::new()),
        (Content::OpenStream, _) => (Verb::Get, Bytes::new()),
        (Content::Message(_), message) => {
            (Verb::Post, message.map(|m| m.bytes().clone()).unwrap_or_default())
        }
    };
    let headers = armed.headers_in(session)?;
    let in_session = headers.contains_key(SESSION);
    let reply = peer.send(verb, headers, body, limits).await.map_err(|refusal| {
        // Only a server that gave out a session can end it; for others 404 is what they say where they have no stream.
        match (refusal.code, verb) {
            (Code::SessionUnknown, Verb::Get) if !in_session => {
                Refusal::new(Code::MethodNotAllowed, refusal.private)
            }
            (Code::SessionUnknown, _) if !in_session => {
                Refusal::new(Code::AnswerInvalid, "status 404 without a JSON body")
            }
            _ => refusal,
        }
    })?;
    let session = match &reply {
        Reply::Accepted => None,
        Reply::Unary { session, .. } | Reply::Stream { session, .. } => session.clone(),
    };
    let opens = armed.is("initialize").then(|| Backend::Http(session));
    Ok(Exchange { reply, opens, list: None })
}

/// A message of a server under the names that clients of a route over several servers know.
fn exposed(prefix: &Prefix, message: Message) -> Result<Message, Refusal> {
    let Some(bytes) = prefix.outward(&message) else { return Ok(message) };
    tasks::reparsed(bytes)
}

async fn modern_stdio(peer: &StdioPeer, armed: &Armed, limits: &Limits) -> Result<Reply, Refusal> {
    let process = peer.modern(Owner::Caller(armed.caller()), limits).await?;
    message(&process, armed, None, limits).await
}

async fn legacy_stdio(
    gateway: &Gateway,
    peer: &StdioPeer,
    armed: &Armed,
    session: Option<&Arc<Session>>,
    limits: &Limits,
) -> Result<Exchange, Refusal> {
    let owner = Owner::Caller(armed.caller());
    let Some(session) = session else {
        return initialize(gateway, peer, owner, armed, limits).await;
    };
    // What belongs to a call that runs goes where it runs.
    let begins = match armed.content() {
        Content::Message(message) => message.shape() == Shape::Request,
        Content::OpenStream => true,
        Content::EndSession => false,
    };
    let process = match &session.backend {
        Backend::Stdio { process, .. } if process.usable() || (process.alive() && !begins) => {
            Arc::clone(process)
        }
        // The child died or was replaced since: a new one is opened as the client once asked.
        Backend::Stdio { unique, .. } => {
            let (process, _) = peer.legacy(owner, Some(unique), &session.params, limits).await?;
            process.confirm().await?;
            process
        }
        Backend::Bridged(_) | Backend::Group(_) | Backend::Http(_) => {
            return Err(Refusal::new(Code::SessionUnknown, "the server is reached another way now"));
        }
    };
    match armed.content() {
        Content::EndSession => {
            process.close_session(&session.id);
            peer.end(&process).await;
            Ok(Exchange::plain(Reply::Accepted))
        }
        Content::OpenStream => {
            let events = Events::Stdio(process.open_stream(&session.id));
            Ok(Exchange::plain(Reply::Stream { events, session: None }))
        }
        Content::Message(_) => message(&process, armed, Some(&session.id), limits).await.map(Exchange::plain),
    }
}

async fn initialize(
    gateway: &Gateway,
    peer: &StdioPeer,
    owner: Owner<'_>,
    armed: &Armed,
    limits: &Limits,
) -> Result<Exchange, Refusal> {
    let request =
        armed.message().ok_or_else(|| Refusal::new(Code::Internal, "initialize without a message"))?;
    let params = request.params().map_or(&b"{}"[..], |params| params.raw());
    if params.len() > INITIALIZE_BYTES_MAX {
        let what = "the params of `initialize` are more than a session keeps";
        return Err(Refusal::new(Code::RequestTooLarge, what).saying(what));
    }
    let params = Bytes::copy_from_slice(params);
    let mut random = [0; 8];
    gateway.entropy.fill(&mut random);
    let unique = format!("{:016x}", u64::from_be_bytes(random));
    let (process, answer) = peer.legacy(owner, Some(&unique), &params, limits).await?;
    let answer = parse(answer, limits)?;
    if answer.shape() != Shape::Response {
        peer.end(&process).await;
        let asked = request.params().and_then(|params| params.get("protocolVersion")?.as_str());
        return Err(Refusal::new(Code::UpstreamRevision, "the child refused `initialize`")
            .with_data(version_data(&asked.unwrap_or_default())));
    }
    let id = request.id().map(|id| id.raw().clone()).unwrap_or_default();
    let reply = Reply::Unary { status: 200, bytes: answer.with_id(&id), session: None };
    Ok(Exchange { reply, opens: Some(Backend::Stdio { process, unique }), list: None })
}

async fn message(
    process: &Arc<Process>,
    armed: &Armed,
    session: Option<&str>,
    limits: &Limits,
) -> Result<Reply, Refusal> {
    let message = armed.message().ok_or_else(|| Refusal::new(Code::Internal, "no message to forward"))?;
    match message.shape() {
        Shape::Request => {
            let modern = armed.era() == Era::Modern;
            let mut lines = process.request(message, session, modern).await?;
            // One answer and nothing before it travels as JSON; anything else as a stream.
            match lines.only(limits, armed.endless()).await? {
                Some(bytes) => Ok(Reply::Unary { status: 200, bytes, session: None }),
                None => Ok(Reply::Stream { events: Events::Stdio(lines), session: None }),
            }
        }
        Shape::Notification => process.notify(message, session).await.map(|()| Reply::Accepted),
        Shape::Response | Shape::Error => {
            process.answer(message, session.unwrap_or_default()).await.map(|()| Reply::Accepted)
        }
    }
}
