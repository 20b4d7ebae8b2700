//! A client of the older revision, a server of the newer one: the session is the gateway's own.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use portcullis_core::{Code, Refusal};
use portcullis_mcp::{
    bridge::{
        Declared, Filter, Kind, Round, client_capabilities, initialize_result, kind, param_headers,
        request_to_modern, result_message,
    },
    json::{View, quote},
    jsonrpc::{Id, Message},
    revision::Era,
};
use tokio::sync::{Notify, oneshot, watch};

use super::{
    Bridge, Crossing, Unwanted, changes, modern_headers, parse, rounds::Rounds, send_modern, untranslatable,
};
use portcullis_upstream::Reply;

/// Bytes that a session keeps of what its client says of itself.
const DECLARED_BYTES_MAX: usize = 65_536;
/// Questions without an answer in one session.
const QUESTIONS_MAX: usize = 64;
/// Resources that one session subscribes to.
const URIS_MAX: usize = 256;
/// Bytes of the URI of one of them.
pub(super) const URI_BYTES_MAX: usize = 4_096;

/// What a client said to a question.
#[derive(Debug)]
pub(super) enum Said {
    /// This result (JSON text).
    Result(Bytes),
    /// That it cannot answer.
    Error,
    /// Nothing: policy does not let the server ask it.
    Denied,
}

/// A session of the older revision with a server of the newer one, which knows nothing of it.
#[derive(Debug)]
pub struct BridgedSession {
    declared: Mutex<Declared>,
    questions: Mutex<HashMap<String, oneshot::Sender<Said>>>,
    running: Mutex<HashMap<Id, Arc<Notify>>>,
    /// What the client wants to be told; nothing once the session has ended.
    pub(super) filter: watch::Sender<Option<Filter>>,
    next: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BridgedSession {
    fn new(declared: Declared, filter: Filter) -> Self {
        Self {
            declared: Mutex::new(declared),
            questions: Mutex::default(),
            running: Mutex::default(),
            filter: watch::Sender::new(Some(filter)),
            next: AtomicU64::new(1),
        }
    }

    /// The client has ended the session: its stream of changes ends, too.
    pub fn end(&self) {
        self.filter.send_replace(None);
    }

    /// What the client said of itself so far.
    pub(super) fn declared(&self) -> Declared {
        lock(&self.declared).clone()
    }

    /// Expects an answer to a question; gives the id to ask under.
    pub(super) fn expect(&self) -> Result<(String, oneshot::Receiver<Said>), Refusal> {
        let mut questions = lock(&self.questions);
        questions.retain(|_, answer| !answer.is_closed());
        if questions.len() >= QUESTIONS_MAX {
            return Err(Refusal::new(Code::LimitConcurrency, "too many questions wait in this session"));
        }
        let id = format!("portcullis-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let (to, from) = oneshot::channel();
        questions.insert(id.clone(), to);
        Ok((id, from))
    }

    fn answered(&self, message: &Message) -> Result<(), Refusal> {
        let id = message.id().map(|id| id.raw().clone()).unwrap_or_default();
        let id = View::of(&id).as_str().unwrap_or_default().into_owned();
        let waiting = lock(&self.questions).remove(&id);
        let said = match message.result() {
            Some(result) => Said::Result(Bytes::copy_from_slice(result.raw())),
            None => Said::Error,
        };
        let asked = waiting.is_some_and(|waiting| waiting.send(said).is_ok());
        let unasked =
            || Refusal::new(Code::RequestInvalid, "an answer to a question that was not asked here");
        asked.then_some(()).ok_or_else(unasked)
    }

    /// Answers the server's question with this id (JSON text) for the client: it may not be asked.
    pub fn decline(&self, id: &[u8]) {
        let id = View::of(id).as_str().unwrap_or_default().into_owned();
        if let Some(waiting) = lock(&self.questions).remove(&id) {
            let _ = waiting.send(Said::Denied);
        }
    }

    /// Changes what the server is asked to tell.
    fn subscribe(&self, crossing: &Crossing<'_>, wanted: bool) -> Result<(), Refusal> {
        let uri =
            crossing.message.params().and_then(|params| params.get("uri")?.as_str()).unwrap_or_default();
        let mut full = false;
        self.filter.send_if_modified(|filter| {
            let Some(filter) = filter else { return false };
            full = wanted && (filter.uris.len() >= URIS_MAX || uri.len() > URI_BYTES_MAX);
            if full {
                return false;
            }
            if wanted { filter.uris.insert(uri.clone().into_owned()) } else { filter.uris.remove(&*uri) }
        });
        if full {
            return Err(Refusal::new(
                Code::LimitConcurrency,
                "too many subscriptions in this session, or too long a URI",
            ));
        }
        Ok(())
    }

    fn cancel(&self, message: &Message) {
        let id = message.params().and_then(|params| params.get("requestId"));
        let id = id.and_then(|id| Id::from_json(Bytes::copy_from_slice(id.raw())));
        if let Some(running) = id.and_then(|id| lock(&self.running).get(&id).cloned()) {
            // A permit is kept for a call that is not listening at this moment.
            running.notify_one();
        }
    }
}

/// A running request of a session; it can be cancelled by its id.
#[derive(Debug)]
pub(super) struct Running {
    session: Arc<BridgedSession>,
    id: Option<Id>,
    cancelled: Arc<Notify>,
}

impl Running {
    fn begin(session: &Arc<BridgedSession>, message: &Message) -> Self {
        let (id, cancelled) = (message.id(), Arc::new(Notify::new()));
        if let Some(id) = &id {
            lock(&session.running).insert(id.clone(), Arc::clone(&cancelled));
        }
        Self { session: Arc::clone(session), id, cancelled }
    }

    /// Comes back when the client cancels the request.
    pub(super) async fn cancelled(&self) -> Refusal {
        self.cancelled.notified().await;
        Refusal::new(Code::RequestCancelled, "cancelled by the client")
    }

    pub(super) const fn session(&self) -> &Arc<BridgedSession> {
        &self.session
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(id) = &self.id else { return };
        let mut running = lock(&self.session.running);
        if running.get(id).is_some_and(|own| Arc::ptr_eq(own, &self.cancelled)) {
            running.remove(id);
        }
    }
}

impl Bridge {
    /// Answers `initialize` of a client of the older revision for a server of the newer one.
    ///
    /// # Errors
    /// `upstream.*`, `answer.*`, `request.too_large`.
    pub async fn initialize(&self, crossing: &Crossing<'_>) -> Result<(Reply, Arc<BridgedSession>), Refusal> {
        let params = crossing.message.params();
        let member = |name: &str| params.and_then(|params| params.get(name));
        let allowed = &crossing.server.settings.server_requests;
        let capabilities = client_capabilities(member("capabilities"), |kind| allowed.contains(kind));
        let client = member("clientInfo").map(|client| Bytes::copy_from_slice(client.raw()));
        if capabilities.len() + client.as_ref().map_or(0, Bytes::len) > DECLARED_BYTES_MAX {
            let what = "the params of `initialize` are more than a session keeps";
            return Err(Refusal::new(Code::RequestTooLarge, what).saying(what));
        }
        let declared = Declared { capabilities, client, log_level: None };
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#;
        let discover = parse(Bytes::from_static(text.as_bytes()), crossing.limits)?;
        let bytes = request_to_modern(&discover, 1, &declared, &Round::default());
        let headers = modern_headers(&crossing.headers, "server/discover", None, Vec::new())?;
        let sent = send_modern(crossing.server, crossing.caller, headers, bytes, crossing.limits).await?;
        let discovered = sent.answer(crossing.limits).await?;
        let result = discovered.result().ok_or_else(|| {
            Refusal::new(Code::UpstreamRevision, "the server refused both `initialize` and `server/discover`")
        })?;
        let requested = member("protocolVersion").and_then(|version| version.as_str());
        let result_text = initialize_result(&result, requested.as_deref());
        let everything = Filter { tools: true, prompts: true, resources: true, uris: BTreeSet::new() };
        let offered = result.get("capabilities");
        let filter = offered.map(|offered| everything.offered(&offered)).unwrap_or_default();
        let bytes = result_message(&crossing.id(), &result_text);
        let session = Arc::new(BridgedSession::new(declared, filter));
        Ok((Reply::Unary { status: 200, bytes, session: None }, session))
    }

    /// Takes a message of a session of the older revision to its server of the newer one.
    ///
    /// # Errors
    /// `bridge.*`, `upstream.*`, `answer.*`, `request.cancelled`, `request.invalid`.
    pub async fn from_legacy(
        &self,
        crossing: Crossing<'_>,
        session: &Arc<BridgedSession>,
    ) -> Result<Reply, Refusal> {
        crossing.passes(Era::Legacy, Era::Modern)?;
        let empty = || {
            let bytes = result_message(&crossing.id(), b"{}");
            Reply::Unary { status: 200, bytes, session: None }
        };
        match crossing.row.name {
            "ping" => Ok(empty()),
            "logging/setLevel" => {
                let level = crossing.message.params().and_then(|params| params.get("level")?.as_str());
                let level = level.filter(|level| level.len() <= 16).ok_or_else(|| {
                    Refusal::new(Code::RequestMeta, "`level` is not a level").saying("`level` is not a level")
                })?;
                lock(&session.declared).log_level = Some(Bytes::from(quote(&level)));
                Ok(empty())
            }
            "resources/subscribe" => session.subscribe(&crossing, true).map(|()| empty()),
            "resources/unsubscribe" => session.subscribe(&crossing, false).map(|()| empty()),
            "notifications/cancelled" => {
                session.cancel(crossing.message);
                Ok(Reply::Accepted)
            }
            "notifications/initialized" | "notifications/roots/list_changed" => Ok(Reply::Accepted),
            _ => call(crossing, session).await,
        }
    }

    /// Takes a client's answer to where it is waited for.
    ///
    /// # Errors
    /// `request.invalid` when nothing was asked.
    pub fn answered(&self, message: &Message, session: &BridgedSession) -> Result<Reply, Refusal> {
        session.answered(message).map(|()| Reply::Accepted)
    }

    /// Opens the stream of changes of a session.
    #[must_use]
    pub fn changes(
        &self,
        server: &Arc<crate::rules::Server>,
        caller: &str,
        armed: &http::HeaderMap,
        session: &Arc<BridgedSession>,
        unwanted: &Arc<Unwanted>,
    ) -> Reply {
        changes::open(server, caller, armed, session, unwanted)
    }
}

async fn call(crossing: Crossing<'_>, session: &Arc<BridgedSession>) -> Result<Reply, Refusal> {
    let params = crossing.message.params();
    if params.is_some_and(|params| params.get("task").is_some()) {
        return Err(untranslatable("params.task"));
    }
    let name = crossing.row.header_name.and_then(|member| params?.get(member)?.as_str());
    let arguments = params.and_then(|params| params.get("arguments"));
    let mirrored = param_headers(crossing.annotated, arguments);
    let headers = modern_headers(&crossing.headers, crossing.row.name, name.as_deref(), mirrored)?;
    let running = Running::begin(session, crossing.message);
    let mut rounds = Rounds::new(&crossing, headers, running);
    let reply = rounds.send(Round::default(), crossing.limits).await?;
    let (bytes, limits) = match reply {
        Reply::Unary { bytes, .. } => (bytes, crossing.limits),
        Reply::Accepted => return Err(Refusal::new(Code::AnswerInvalid, "a request that was not answered")),
        Reply::Stream { events, .. } => return Ok(rounds.stream(Some(events))),
    };
    let message = parse(bytes, limits)?;
    match message.result().map(|result| kind(&result)) {
        Some(Kind::InputRequired) => {
            rounds.ask(&message)?;
            Ok(rounds.stream(None))
        }
        Some(Kind::Complete | Kind::Unknown) | None => {
            let bytes = rounds.answer(&message)?;
            Ok(Reply::Unary { status: 200, bytes, session: None })
        }
    }
}
