//! Who waits for what on a child process that several callers share. Ids are scoped to one client, so request ids,
//! progress tokens and subscription ids are replaced on the way in and restored on the way out
//! (specification, stdio; a shared channel must never deliver one client's answer to another).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use portcullis_mcp::{
    json::Edits,
    jsonrpc::{Message, Shape},
};
use tokio::sync::mpsc;

/// Questions without an answer, and subscribed URIs, that one process may have; beyond, a question is declined and a
/// change is not told.
const REMEMBERED_MAX: usize = 4_096;

/// Bytes of a URI that is subscribed to; changes of a longer one are not told.
const SUBSCRIBED_BYTES_MAX: usize = 4_096;

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
    /// Whether its client cancelled it. A server answers that with nothing, and asks nothing more.
    cancelled: bool,
    /// Whether it is of a client, and not the gateway's own.
    asked: bool,
    to: Sender,
}

/// Everything that waits for lines of one process.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Whether calls are of several callers. Then a call without a session may be of anybody.
    shared: bool,
    /// Whether a client was ever answered.
    served: bool,
    next: u64,
    calls: HashMap<u64, Waiting>,
    streams: HashMap<String, Sender>,
    /// Raw ids of the server's own requests, and the session each was delivered to.
    asked: HashMap<Bytes, String>,
    /// Sessions whose one call waits for its client, so that another call is the one that asks.
    paused: BTreeSet<String>,
    /// URIs, and the sessions that asked to be told of their changes.
    subscribed: HashMap<String, BTreeSet<String>>,
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
    /// Nothing waits yet.
    pub(super) fn new(shared: bool) -> Self {
        Self { shared, ..Self::default() }
    }

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
        self.note_subscription(message, session);
        let waiting = Waiting {
            id: id.raw().clone(),
            token: token.map(|token| Bytes::copy_from_slice(token.raw())),
            session: session.map(str::to_owned),
            cancelled: false,
            asked: true,
            to,
        };
        self.calls.insert(number, waiting);
        Some((number, line))
    }

    /// A change of a resource concerns those who asked for it alone: its URI may say more than others may know.
    fn note_subscription(&mut self, message: &Message, session: Option<&str>) {
        let (Some(session), Some(name)) = (session, message.method_name()) else { return };
        let uri = message.params().and_then(|params| params.get("uri")?.as_str());
        let Some(uri) = uri.map(std::borrow::Cow::into_owned) else { return };
        match &*name {
            "resources/subscribe"
                if self.subscribed.len() < REMEMBERED_MAX && uri.len() <= SUBSCRIBED_BYTES_MAX =>
            {
                self.subscribed.entry(uri).or_default().insert(session.to_owned());
            }
            "resources/unsubscribe" => {
                if let Some(sessions) = self.subscribed.get_mut(&uri) {
                    sessions.remove(session);
                }
                self.subscribed.retain(|_, sessions| !sessions.is_empty());
            }
            _ => {}
        }
    }

    /// Registers a request of the gateway itself, whose message is written here.
    pub(super) fn register_own(&mut self, to: Sender) -> u64 {
        self.next += 1;
        let waiting = Waiting {
            id: Bytes::from(self.next.to_string()),
            token: None,
            session: None,
            cancelled: false,
            asked: false,
            to,
        };
        self.calls.insert(self.next, waiting);
        self.next
    }

    pub(super) fn forget(&mut self, number: u64) -> bool {
        let call = self.calls.remove(&number);
        self.go_on(call.as_ref().and_then(|call| call.session.as_deref()));
        call.is_some()
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
        self.subscribed.retain(|_, sessions| {
            sessions.remove(session);
            !sessions.is_empty()
        });
    }

    /// The number of a session's call, which its client cancels, by the id that the client gave it.
    pub(super) fn cancel(&mut self, session: Option<&str>, id: &[u8]) -> Option<u64> {
        let number = self.number_of(session, id)?;
        if let Some(call) = self.calls.get_mut(&number) {
            call.cancelled = true;
        }
        Some(number)
    }

    /// The number of a session's call by the id its client gave it.
    fn number_of(&self, session: Option<&str>, id: &[u8]) -> Option<u64> {
        // Two callers may both have given the id; who has no session cancels by leaving.
        if session.is_none() && self.shared {
            return None;
        }
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

    /// Whether a client was ever answered.
    pub(super) const fn served(&self) -> bool {
        self.served
    }

    /// Whether nobody waits for an answer.
    pub(super) fn finished(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether nobody waits for an answer or listens.
    pub(super) fn idle(&self) -> bool {
        self.calls.is_empty() && self.streams.is_empty()
    }

    /// The child is gone: every receiver sees the end of its stream.
    pub(super) fn fail_all(&mut self) {
        *self = Self { next: self.next, served: self.served, ..Self::new(self.shared) };
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
        self.served |= waiting.asked;
        self.go_on(waiting.session.as_deref());
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
                None if self.streams.len() == 1 && !self.shared => self.broadcast(message),
                None => Route::Drop,
            };
        }
        if name == Some("notifications/resources/updated") {
            let uri = message.params().and_then(|params| params.get("uri")?.as_str()).unwrap_or_default();
            let sessions = self.subscribed.get(&*uri).into_iter().flatten();
            let to: Vec<_> = sessions.filter_map(|session| self.streams.get(session).cloned()).collect();
            return if to.is_empty() { Route::Drop } else { Route::Deliver(to, whole(message)) };
        }
        // What changed lists concerns everybody; anything else that names nobody would be a guess.
        if name.is_some_and(|name| name.ends_with("/list_changed")) {
            return self.broadcast(message);
        }
        match self.responsible() {
            _ if self.shared => Route::Drop,
            Some(waiting) if self.streams.is_empty() => {
                Route::Deliver(vec![waiting.to.clone()], whole(message))
            }
            Some(_) | None => self.broadcast(message),
        }
    }

    fn broadcast(&self, message: &Message) -> Route {
        let to: Vec<_> = self.streams.values().cloned().collect();
        if to.is_empty() { Route::Drop } else { Route::Deliver(to, whole(message)) }
    }

    /// The newest running call, if all running calls are of one session, or of one caller.
    fn responsible(&self) -> Option<&Waiting> {
        // Where calls are of several callers, one that waits could ask once more: nobody else is to hear that.
        let paused = |call: &Waiting| {
            call.cancelled || call.session.as_ref().is_some_and(|own| self.paused.contains(own))
        };
        let all_wait = self.calls.values().all(paused);
        let counts = |call: &&Waiting| self.shared || all_wait || !paused(call);
        let running: BTreeMap<u64, &Waiting> = self
            .calls
            .iter()
            .map(|(number, call)| (*number, call))
            .filter(|(_, call)| counts(call))
            .collect();
        let newest = *running.last_key_value()?.1;
        let known = |call: &Waiting| call.session.is_some() || !self.shared;
        let ours = |call: &&Waiting| known(call) && call.session == newest.session;
        (running.len() == 1 || running.values().all(ours)).then_some(newest)
    }

    /// The one call of a session goes on, or is over.
    fn go_on(&mut self, session: Option<&str>) {
        if let Some(session) = session {
            self.paused.remove(session);
        }
    }

    /// The one call of a session waits for its client, or goes on.
    pub(super) fn pause(&mut self, session: &str, waits: bool) {
        if !waits {
            self.go_on(Some(session));
        } else if self.paused.len() < REMEMBERED_MAX {
            self.paused.insert(session.to_owned());
        }
    }

    /// Forgets whoever reads there: its call or its stream has ended.
    pub(super) fn give_up(&mut self, reader: &Sender) {
        self.calls.retain(|_, call| !call.to.same_channel(reader));
        self.streams.retain(|_, to| !to.same_channel(reader));
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
        let room = self.asked.len() < REMEMBERED_MAX;
        let Some((session, to)) = found.filter(|_| room) else { return Route::Unroutable(id) };
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

#[cfg(test)]
mod storm;

#[cfg(test)]
mod tests {
    use portcullis_mcp::json::JsonLimits;

    use super::*;

    fn message(text: &str) -> Message {
        let limits = JsonLimits::answer(&portcullis_core::Limits::default());
        Message::parse(Bytes::copy_from_slice(text.as_bytes()), &limits).unwrap()
    }

    /// What the route delivers, and to how many.
    fn delivered(route: Route) -> Option<(usize, String)> {
        match route {
            Route::Deliver(to, piece) => Some((to.len(), String::from_utf8(piece.bytes.to_vec()).unwrap())),
            Route::Drop | Route::Unroutable(_) => None,
        }
    }

    #[test]
    fn two_clients_with_the_same_id_and_token_each_get_their_own_answer() {
        let mut pending = Pending::default();
        let (a, mut from_a) = mpsc::channel(4);
        let (b, mut from_b) = mpsc::channel(4);
        let call = message(
            r#"{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"t","_meta":{"progressToken":"x"}}}"#,
        );
        let (first, line) = pending.register(&call, Some("s"), a).unwrap();
        let (second, _) = pending.register(&call, Some("t"), b).unwrap();
        assert_eq!(
            line,
            format!(
                r#"{{"jsonrpc":"2.0","id":{first},"method":"tools/call","params":{{"name":"t","_meta":{{"progressToken":{first}}}}}}}"#
            )
        );
        let progress = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{second},"progress":1}}}}"#
        );
        let Route::Deliver(to, piece) = pending.route(&message(&progress)) else {
            panic!("progress went nowhere")
        };
        to[0].try_send(piece).unwrap();
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{first},"result":{{}}}}"#);
        let Route::Deliver(to, piece) = pending.route(&message(&answer)) else {
            panic!("the answer went nowhere")
        };
        to[0].try_send(piece).unwrap();
        let to_b = String::from_utf8(from_b.try_recv().unwrap().bytes.to_vec()).unwrap();
        assert!(to_b.contains(r#""progressToken":"x""#), "{to_b}");
        let to_a = from_a.try_recv().unwrap();
        assert!(to_a.last && to_a.bytes.starts_with(br#"{"jsonrpc":"2.0","id":"x""#));
        assert!(from_a.try_recv().is_err() && from_b.try_recv().is_err(), "nobody got what was not theirs");
        assert!(
            delivered(pending.route(&message(&answer))).is_none(),
            "a second answer has nobody left to go to"
        );
    }

    #[test]
    fn a_question_is_put_to_the_session_whose_call_runs_and_answered_only_by_it_and_only_once() {
        let mut pending = Pending::default();
        let (to, _from) = mpsc::channel(4);
        let call = message(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#);
        pending.register(&call, Some("s"), to.clone()).unwrap();
        let question = message(r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{}}"#);
        assert!(delivered(pending.route(&question)).is_some());
        assert!(!pending.take_question("t", b"7"), "another session did not get it");
        assert!(pending.take_question("s", b"7"));
        assert!(!pending.take_question("s", b"7"), "it is answered once");
        pending.register(&call, Some("t"), to).unwrap();
        assert!(
            matches!(pending.route(&question), Route::Unroutable(_)),
            "two sessions run: nobody can be blamed"
        );
    }

    #[test]
    fn a_call_that_waits_for_its_client_asks_nothing_unless_it_is_of_another_caller() {
        for shared in [false, true] {
            let mut pending = Pending::new(shared);
            let (to, _from) = mpsc::channel(4);
            let call = message(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#);
            let question =
                |id: u64| message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"roots/list"}}"#));
            let (first, _) = pending.register(&call, Some("call 1"), to.clone()).unwrap();
            pending.pause("call 1", true);
            assert!(delivered(pending.route(&question(7))).is_some(), "nobody else runs");
            pending.register(&call, Some("call 2"), to.clone()).unwrap();
            assert_eq!(delivered(pending.route(&question(8))).is_none(), shared);
            assert_eq!(pending.take_question("call 2", b"8"), !shared);
            pending.pause("call 1", false);
            assert!(delivered(pending.route(&question(9))).is_none(), "both run");
            pending.pause("call 1", true);
            pending.forget(first);
            assert!(pending.paused.is_empty(), "what is gone is forgotten");
        }
    }

    #[test]
    fn calls_without_a_session_that_may_be_of_two_callers_share_no_log_line_and_no_cancellation() {
        let mut pending = Pending::new(true);
        let (to, _from) = mpsc::channel(4);
        let call = message(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#);
        let log = message(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"of one"}}"#);
        pending.register(&call, None, to.clone()).unwrap();
        assert!(delivered(pending.route(&log)).is_some(), "one call runs: it is its own");
        pending.register(&call, None, to).unwrap();
        assert!(delivered(pending.route(&log)).is_none());
        assert_eq!(pending.number_of(None, b"1"), None);
        pending.shared = false;
        assert!(delivered(pending.route(&log)).is_some(), "both are of one caller");
        assert!(pending.number_of(None, b"1").is_some());
    }

    #[test]
    fn a_reader_that_was_given_up_is_sent_nothing_more_and_its_channel_ends() {
        let mut pending = Pending::default();
        let (stuck, mut from_stuck) = mpsc::channel(4);
        let (other, _from_other) = mpsc::channel(4);
        let call = message(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#);
        pending.register(&call, Some("s"), stuck.clone()).unwrap();
        pending.open_stream("s", stuck.clone());
        pending.open_stream("t", other);
        pending.give_up(&stuck);
        drop(stuck);
        assert!(matches!(from_stuck.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
        assert_eq!((pending.calls.len(), pending.streams.len()), (0, 1));
    }

    #[test]
    fn a_changed_resource_is_told_to_those_who_subscribed_and_a_changed_list_to_all() {
        let mut pending = Pending::new(true);
        let (to, _from) = mpsc::channel(4);
        for session in ["s", "t"] {
            pending.open_stream(session, to.clone());
        }
        let subscribe = |method: &str| {
            message(&format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"resources/{method}","params":{{"uri":"x://a"}}}}"#
            ))
        };
        let changed = message(
            r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x://a"}}"#,
        );
        assert!(delivered(pending.route(&changed)).is_none(), "nobody asked");
        pending.register(&subscribe("subscribe"), Some("s"), to.clone()).unwrap();
        assert_eq!(delivered(pending.route(&changed)).map(|(readers, _)| readers), Some(1));
        let list = message(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
        assert_eq!(delivered(pending.route(&list)).map(|(readers, _)| readers), Some(2));
        pending.register(&subscribe("unsubscribe"), Some("s"), to).unwrap();
        assert!(delivered(pending.route(&changed)).is_none());
    }

    #[test]
    fn of_uris_that_are_subscribed_to_only_so_long_and_so_many_are_remembered() {
        let mut pending = Pending::new(true);
        let (to, _from) = mpsc::channel(4);
        pending.open_stream("s", to.clone());
        let about = |method: &str, uri: &str| {
            let id = if method.starts_with("notifications/") { "" } else { r#""id":1,"# };
            message(&format!(r#"{{"jsonrpc":"2.0",{id}"method":"{method}","params":{{"uri":"{uri}"}}}}"#))
        };
        let long = |bytes: usize| format!("x://{}", "a".repeat(bytes - 4));
        for (bytes, readers) in [(SUBSCRIBED_BYTES_MAX + 1, None), (SUBSCRIBED_BYTES_MAX, Some(1))] {
            let uri = long(bytes);
            pending.register(&about("resources/subscribe", &uri), Some("s"), to.clone()).unwrap();
            let told = delivered(pending.route(&about("notifications/resources/updated", &uri)));
            assert_eq!(told.map(|(readers, _)| readers), readers, "{bytes} bytes");
        }
        for number in 1..REMEMBERED_MAX + 10 {
            let uri = format!("x://{number}");
            pending.register(&about("resources/subscribe", &uri), Some("s"), to.clone()).unwrap();
        }
        assert_eq!(pending.subscribed.len(), REMEMBERED_MAX);
    }

    #[test]
    fn a_cancellation_finds_the_call_of_its_own_session_alone() {
        let mut pending = Pending::default();
        let (to, _from) = mpsc::channel(4);
        let call = message(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#);
        let (number, _) = pending.register(&call, Some("s"), to).unwrap();
        assert_eq!(pending.number_of(Some("s"), b"1"), Some(number));
        assert_eq!(pending.number_of(Some("t"), b"1"), None);
        assert_eq!(pending.number_of(Some("s"), b"\"1\""), None);
        let (to, _from) = mpsc::channel(4);
        pending.register(&call, Some("t"), to).unwrap();
        let question = message(r#"{"jsonrpc":"2.0","id":7,"method":"roots/list"}"#);
        assert!(delivered(pending.route(&question)).is_none(), "both could have asked");
        assert_eq!(pending.cancel(Some("s"), b"1"), Some(number));
        assert!(delivered(pending.route(&question)).is_some() && pending.take_question("t", b"7"));
    }
}
