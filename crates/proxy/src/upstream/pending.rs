//! Who waits for what on a child process that several callers share. Ids are scoped to one client, so request ids,
//! progress tokens and subscription ids are replaced on the way in and restored on the way out
//! (specification, stdio; a shared channel must never deliver one client's answer to another).

use std::collections::HashMap;

use bytes::Bytes;
use portcullis_mcp::{
    json::Edits,
    jsonrpc::{Message, Shape},
};
use tokio::sync::mpsc;

/// One message on its way to a call or a session.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// Whether it answers the call, so that nothing follows.
    pub(super) last: bool,
}

/// Messages on their way to one call or one session.
pub(super) type Sender = mpsc::Sender<Piece>;

#[derive(Debug)]
struct Waiting {
    /// The request id as the client wrote it.
    id: Bytes,
    /// The progress token as the client wrote it.
    token: Option<Bytes>,
    session: Option<String>,
    to: Sender,
}

/// Everything that waits for lines of one process.
#[derive(Debug, Default)]
pub(super) struct Pending {
    next: u64,
    calls: HashMap<u64, Waiting>,
    streams: HashMap<String, Sender>,
    /// Raw ids of the server's own requests, and the session each was delivered to.
    asked: HashMap<Bytes, String>,
}

/// Where a line of the child goes.
#[derive(Debug)]
pub(super) enum Route {
    /// To these, as this message.
    Deliver(Vec<Sender>, Piece),
    /// A request of the server that no one session can be held responsible for.
    Unroutable(Bytes),
    /// Nobody waits for it.
    Drop,
}

impl Pending {
    /// Registers a request; returns its number on this process and the message as the child gets it.
    pub(super) fn register(
        &mut self,
        message: &Message,
        session: Option<&str>,
        to: Sender,
    ) -> Option<(u64, Bytes)> {
        self.next += 1;
        let number = self.next;
        let id = message.id()?;
        let span = message.root().get("id")?.span();
        let token = message.params().and_then(|params| params.path(&["_meta", "progressToken"]));
        let mut edits = Edits::new();
        edits.replace(span, number.to_string().into_bytes());
        if let Some(token) = token {
            edits.replace(token.span(), number.to_string().into_bytes());
        }
        let line = edits.apply(message.bytes()).ok()?;
        let waiting = Waiting {
            id: id.raw().clone(),
            token: token.map(|token| Bytes::copy_from_slice(token.raw())),
            session: session.map(str::to_owned),
            to,
        };
        self.calls.insert(number, waiting);
        Some((number, line))
    }

    /// Registers a request of the gateway itself, whose message is written here.
    pub(super) fn register_own(&mut self, to: Sender) -> u64 {
        self.next += 1;
        let waiting = Waiting { id: Bytes::from(self.next.to_string()), token: None, session: None, to };
        self.calls.insert(self.next, waiting);
        self.next
    }

    pub(super) fn forget(&mut self, number: u64) -> bool {
        self.calls.remove(&number).is_some()
    }

    pub(super) fn open_stream(&mut self, session: &str, to: Sender) {
        self.streams.insert(session.to_owned(), to);
    }

    pub(super) fn close_stream(&mut self, session: &str) {
        self.streams.remove(session);
    }

    pub(super) fn close_session(&mut self, session: &str) {
        self.streams.remove(session);
        self.asked.retain(|_, asked| asked != session);
    }

    /// The number of a session's call by the id its client gave it.
    pub(super) fn number_of(&self, session: Option<&str>, id: &[u8]) -> Option<u64> {
        self.calls
            .iter()
            .find(|(_, call)| call.id == id && call.session.as_deref() == session)
            .map(|(number, _)| *number)
    }

    /// Whether the server asked `session` the question with that id; each is answered once.
    pub(super) fn take_question(&mut self, session: &str, id: &[u8]) -> bool {
        let ours = self.asked.get(id).is_some_and(|asked| asked == session);
        ours && self.asked.remove(id).is_some()
    }

    pub(super) fn idle(&self) -> bool {
        self.calls.is_empty()
    }

    /// The child is gone: every receiver sees the end of its stream.
    pub(super) fn fail_all(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }

    /// Decides where a message of the child goes, with the ids its receiver knows.
    pub(super) fn route(&mut self, message: &Message) -> Route {
        match message.shape() {
            Shape::Response | Shape::Error => self.route_answer(message),
            Shape::Notification => self.route_notification(message),
            Shape::Request => self.route_request(message),
        }
    }

    fn route_answer(&mut self, message: &Message) -> Route {
        let Some(id) = message.id() else { return Route::Drop };
        let Some(span) = message.root().get("id").map(|id| id.span()) else { return Route::Drop };
        let number = std::str::from_utf8(id.raw()).ok().and_then(|text| text.parse().ok());
        let Some(waiting) = number.and_then(|number: u64| self.calls.remove(&number)) else {
            return Route::Drop;
        };
        let mut edits = Edits::new();
        edits.replace(span, waiting.id.to_vec());
        restore_subscription(&mut edits, message, &waiting.id, "result");
        match edits.apply(message.bytes()) {
            Ok(bytes) => Route::Deliver(vec![waiting.to], Piece { bytes, last: true }),
            Err(_) => Route::Drop,
        }
    }

    fn route_notification(&mut self, message: &Message) -> Route {
        let params = message.params();
        let number =
            |path: &[&str]| params.and_then(|params| params.path(path)).and_then(|view| view.as_u64());
        let name = message.method_name();
        let by_token =
            number(&["progressToken"]).filter(|_| name.as_deref() == Some("notifications/progress"));
        let by_subscription = number(&["_meta", "io.modelcontextprotocol/subscriptionId"]);
        let by_request =
            number(&["requestId"]).filter(|_| name.as_deref() == Some("notifications/cancelled"));
        if let Some(waiting) = by_token.and_then(|number| self.calls.get(&number)) {
            let span = params.and_then(|params| params.get("progressToken")).map(|view| view.span());
            return match (span, &waiting.token) {
                (Some(span), Some(token)) => deliver(message, span, token, &waiting.to),
                _ => Route::Drop,
            };
        }
        if let Some(waiting) = by_subscription.and_then(|number| self.calls.get(&number)) {
            let mut edits = Edits::new();
            restore_subscription(&mut edits, message, &waiting.id, "params");
            return applied(edits, message, &waiting.to);
        }
        if let Some(waiting) = by_request.and_then(|number| self.calls.get(&number)) {
            let span = params.and_then(|params| params.get("requestId")).map(|view| view.span());
            return span.map_or(Route::Drop, |span| deliver(message, span, &waiting.id, &waiting.to));
        }
        if by_token.is_some() || by_subscription.is_some() || by_request.is_some() {
            return Route::Drop;
        }
        self.route_unaddressed(message, name.as_deref())
    }

    /// A log line belongs to the call that is running, if there is just one to blame; changes concern every session.
    fn route_unaddressed(&self, message: &Message, name: Option<&str>) -> Route {
        if name == Some("notifications/message") {
            return match self.responsible() {
                Some(waiting) => Route::Deliver(vec![waiting.to.clone()], whole(message)),
                None if self.streams.len() == 1 => self.broadcast(message),
                None => Route::Drop,
            };
        }
        self.broadcast(message)
    }

    fn broadcast(&self, message: &Message) -> Route {
        let to: Vec<_> = self.streams.values().cloned().collect();
        if to.is_empty() { Route::Drop } else { Route::Deliver(to, whole(message)) }
    }

    /// The newest running call, if all running calls are of one session.
    fn responsible(&self) -> Option<&Waiting> {
        let newest = self.calls.iter().max_by_key(|(number, _)| **number).map(|(_, call)| call)?;
        self.calls.values().all(|call| call.session == newest.session).then_some(newest)
    }

    fn route_request(&mut self, message: &Message) -> Route {
        let Some(id) = message.id() else { return Route::Drop };
        let id = id.raw().clone();
        let found = match self.responsible() {
            Some(call) => call.session.clone().map(|session| (session, call.to.clone())),
            None if self.streams.len() == 1 => {
                self.streams.iter().next().map(|(session, to)| (session.clone(), to.clone()))
            }
            None => None,
        };
        let Some((session, to)) = found else { return Route::Unroutable(id) };
        self.asked.insert(id, session);
        Route::Deliver(vec![to], whole(message))
    }
}

fn deliver(message: &Message, span: std::ops::Range<usize>, original: &Bytes, to: &Sender) -> Route {
    let mut edits = Edits::new();
    edits.replace(span, original.to_vec());
    applied(edits, message, to)
}

fn applied(edits: Edits, message: &Message, to: &Sender) -> Route {
    match edits.apply(message.bytes()) {
        Ok(bytes) => Route::Deliver(vec![to.clone()], Piece { bytes, last: false }),
        Err(_) => Route::Drop,
    }
}

fn whole(message: &Message) -> Piece {
    Piece { bytes: message.bytes().clone(), last: false }
}

fn restore_subscription(edits: &mut Edits, message: &Message, id: &Bytes, member: &str) {
    let path = [member, "_meta", "io.modelcontextprotocol/subscriptionId"];
    if let Some(view) = message.root().path(&path) {
        edits.replace(view.span(), id.to_vec());
    }
}
