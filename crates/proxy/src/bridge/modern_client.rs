//! A client of the newer revision, a server of the older one.

use std::{collections::VecDeque, fmt, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use portcullis_core::{Code, Digest, Limits, Refusal};
use portcullis_mcp::{
    bridge::{
        Question, answer_to_modern, answer_to_server, capability_lacking, discover_result, for_call,
        input_required, pages_to_visit, request_to_legacy, result_message, same_in_each_round,
    },
    json::ValueKind,
    jsonrpc::{Message, Shape},
    revision::{Era, META_CAPABILITIES},
    sse,
};

use super::{
    Bridge, Crossing, QUESTIONS, Unwanted, answers,
    held::{Held, State, Waiting},
    link::Request,
    listener, parse,
    pool::Said,
    running::Begun,
    untranslatable, wrong_id,
};
use portcullis_upstream::{Bridged, Events, NextEvent, Reply};

/// The name under which the answer to a question is expected.
const KEY: &str = "1";

/// Pages that one error may want visited.
const PAGES_MAX: usize = 16;

/// How long after its end a stream is asked for again where its server does not say, and the least and the most that
/// it can say.
const RETRY_MS: u64 = 1_000;
const RETRY_MS_MIN: u64 = 100;
const RETRY_MS_MAX: u64 = 10_000;

impl Bridge {
    /// Takes a message of a client of the newer revision to a server of the older one.
    ///
    /// # Errors
    /// `bridge.*`, `upstream.*`, `answer.*`, `request.cancelled`, `server_request.denied`.
    pub async fn from_modern(&self, crossing: Crossing<'_>) -> Result<Reply, Refusal> {
        crossing.passes(Era::Modern, Era::Legacy)?;
        match crossing.row.name {
            "notifications/cancelled" => self.requests.cancel(&crossing, crossing.message),
            "server/discover" => self.discover(&crossing).await,
            "subscriptions/listen" => listener::listen(&crossing, &self.pool).await,
            _ => match crossing.message.params().and_then(|params| params.get("requestState")) {
                Some(state) if !state.is_null() => {
                    let state = state.as_str().unwrap_or_default().into_owned();
                    self.resume(&crossing, &state).await
                }
                Some(_) | None => self.call(&crossing).await,
            },
        }
    }

    async fn discover(&self, crossing: &Crossing<'_>) -> Result<Reply, Refusal> {
        let (_, link) = self.pool.link(crossing, &Said::of(crossing)).await?;
        let initialized = link.initialized.result();
        let initialized = initialized.ok_or_else(|| Refusal::new(Code::AnswerInvalid, "no result"))?;
        let bytes = result_message(&crossing.id(), &discover_result(&initialized));
        Ok(Reply::Unary { status: 200, bytes, session: None })
    }

    async fn call(&self, crossing: &Crossing<'_>) -> Result<Reply, Refusal> {
        let said = Said::of(crossing);
        let mut again = true;
        loop {
            let (key, link) = self.pool.link(crossing, &said).await?;
            let call =
                Call::new(crossing, Request::new(link), &said, self.requests.begin(crossing), &self.held);
            match Stream::of(Box::new(call)).reply(crossing.limits).await {
                // It has not seen the call, so that it may be asked once more, in another session.
                Err(refusal) if refusal.code == Code::SessionUnknown && again => {
                    self.pool.forget(&key);
                    again = false;
                }
                reply => return reply,
            }
        }
    }

    /// Goes on with a call whose server has asked, now that the client has answered.
    async fn resume(&self, crossing: &Crossing<'_>, state: &str) -> Result<Reply, Refusal> {
        let same = Digest::of(&same_in_each_round(crossing.message));
        let name = match self.held.open(&crossing.server.name, crossing.caller, state, same)? {
            State::Again => return self.call(crossing).await,
            State::Waits(name) => name,
        };
        let result = crossing.message.params().and_then(|params| params.path(&["inputResponses", KEY]));
        let result = result.filter(|result| result.kind() == ValueKind::Object).ok_or_else(|| {
            let what = format!("`inputResponses` lacks an object named `{KEY}`");
            Refusal::new(Code::RequestMeta, what.clone()).saying(what)
        })?;
        let Waiting { mut call, question, .. } = self.held.take(name)?;
        if !Arc::ptr_eq(&call.request.link.server, crossing.server) {
            return Err(Refusal::new(Code::BridgeElsewhere, "the server was configured anew since it asked"));
        }
        (call.id, call.token) = (crossing.id(), crossing.token());
        (call.begun, call.unwanted) = (Some(self.requests.begin(crossing)), Arc::clone(crossing.unwanted));
        call.request.go_on();
        let answer = answer_to_server(&question, result.raw());
        call.request.link.answer(call.request.number, answer).await?;
        Stream::of(call).reply(crossing.limits).await
    }
}

/// A call on its way back.
#[derive(Debug)]
pub(super) struct Call {
    /// Dropped before the request is given up, so that a child's lines end first.
    source: Source,
    pub(super) request: Request,
    /// Absent while it waits for its client: that round of it is answered.
    begun: Option<Begun>,
    pub(super) caller: Arc<str>,
    /// What each round of it has in common.
    pub(super) same: Digest,
    /// The id that the client waits for (JSON text).
    id: Bytes,
    token: Option<Bytes>,
    logs: bool,
    /// What the client declared of itself (JSON text).
    declared: Bytes,
    method: &'static str,
    held: Arc<Held>,
    unwanted: Arc<Unwanted>,
    /// The event with which the stream can be asked for again, and how long after its end.
    last: Option<String>,
    retry_ms: u64,
}

/// What follows from a message of the server.
enum Step {
    Answer(Bytes, u16),
    Ask(Bytes),
    Nothing,
    Tell(Bytes),
}

impl Call {
    fn new(crossing: &Crossing<'_>, request: Request, said: &Said, begun: Begun, held: &Arc<Held>) -> Self {
        let bytes = request_to_legacy(crossing.message, request.number);
        let (link, number, limits) = (Arc::clone(&request.link), request.number, crossing.limits.clone());
        let sending = async move { link.send(number, bytes, &limits).await };
        let declared =
            crossing.message.params().and_then(|params| params.path(&["_meta", META_CAPABILITIES]));
        Self {
            source: Source::Sent(Sending(Box::pin(sending))),
            request,
            begun: Some(begun),
            caller: Arc::from(crossing.caller),
            same: Digest::of(&same_in_each_round(crossing.message)),
            id: crossing.id(),
            token: crossing.token(),
            logs: said.log_level.is_some(),
            declared: declared.map_or(Bytes::from_static(b"{}"), |view| Bytes::copy_from_slice(view.raw())),
            method: crossing.row.name,
            held: Arc::clone(held),
            unwanted: Arc::clone(crossing.unwanted),
            last: None,
            retry_ms: RETRY_MS,
        }
    }

    async fn step(&mut self, message: &Message, limits: &Limits) -> Result<Step, Refusal> {
        match message.shape() {
            Shape::Response | Shape::Error => {
                if !answers(message, self.request.number) {
                    return Err(wrong_id());
                }
                self.request.answered();
                let pages = pages_to_visit(message);
                if !pages.is_empty() && self.may_ask() {
                    return self.visit(message, &pages, limits);
                }
                Ok(Step::Answer(answer_to_modern(message, &self.id, self.method), status(message)))
            }
            Shape::Notification => {
                let sent = self.request.number.to_string();
                let told = for_call(message, sent.as_bytes(), self.token.as_deref(), self.logs);
                if told.is_none() {
                    self.unwanted.note(message, Code::BridgeUnwanted);
                }
                Ok(told.map_or(Step::Nothing, Step::Tell))
            }
            Shape::Request => self.question(message).await,
        }
    }

    /// The newer revision lets a result ask in the course of these three alone.
    fn may_ask(&self) -> bool {
        matches!(self.method, "prompts/get" | "resources/read" | "tools/call")
    }

    /// Whether the server may ask this client this.
    fn allows(&self, question: &Question) -> Result<(), Refusal> {
        let kind = question.method.split('/').next().unwrap_or_default();
        if !self.request.link.server.settings.server_requests.contains(kind) {
            return Err(Refusal::new(Code::ServerRequestDenied, format!("the server may not ask `{kind}`")));
        }
        let declared = portcullis_mcp::json::View::of(&self.declared);
        capability_lacking(Some(declared), question).map_or(Ok(()), |lacking| {
            let data = format!(r#"{{"requiredCapabilities":{lacking},"code":"bridge.capability"}}"#);
            Err(Refusal::new(Code::BridgeCapability, format!("the client cannot `{kind}`")).with_data(data))
        })
    }

    /// The server wants pages visited first. It waits for nothing: with the client's answers the call is made again.
    fn visit(&self, message: &Message, pages: &[Question], limits: &Limits) -> Result<Step, Refusal> {
        if pages.len() > PAGES_MAX {
            return Err(Refusal::new(Code::AnswerInvalid, "an error that wants too many pages visited"));
        }
        for page in pages {
            self.allows(page).inspect_err(|refusal| self.unwanted.note(message, refusal.code))?;
        }
        let state = self.held.again(self, limits)?;
        Ok(Step::Answer(input_required(&self.id, pages, &state), 200))
    }

    /// A question of the server: put to the client where policy and revision allow, declined where they do not.
    async fn question(&mut self, message: &Message) -> Result<Step, Refusal> {
        let Some(id) = message.id() else { return Ok(Step::Nothing) };
        let (link, number) = (Arc::clone(&self.request.link), self.request.number);
        let method = message.method_name().unwrap_or_default();
        if method == "ping" {
            link.answer(number, answer_to_server(id.raw(), b"{}")).await?;
            return Ok(Step::Nothing);
        }
        let allowed = if !QUESTIONS.contains(&&*method) || !self.may_ask() {
            Err(untranslatable(&method))
        } else {
            self.allows(&Question::of(message, KEY))
        };
        if let Err(refusal) = allowed {
            self.unwanted.note(message, refusal.code);
            link.decline(number, id.raw()).await;
            return Err(refusal);
        }
        Ok(Step::Ask(id.raw().clone()))
    }

    /// The next message of the server, or what else is on its stream; nothing at its end.
    async fn next(&mut self, limits: &Limits) -> Result<Option<Next>, Refusal> {
        let Some(begun) = self.begun.as_ref() else { return Ok(None) };
        let event = tokio::select! {
            refusal = begun.cancelled() => return Err(refusal),
            message = self.request.aside() => return Ok(Some(Next::Message(message))),
            event = self.source.next(limits) => event,
        };
        if event.as_ref().is_err_and(|refusal| refusal.code == Code::SessionUnknown) {
            // It never saw the call.
            self.request.answered();
        }
        let event = match event {
            Ok(Some(event)) => event,
            Err(refusal) if refusal.code != Code::UpstreamUnavailable || self.last.is_none() => {
                return Err(refusal);
            }
            Ok(None) | Err(_) => return self.resume(limits).await,
        };
        if let Some(id) = event.id {
            self.last = Some(id).filter(|id| !id.is_empty());
        }
        self.retry_ms = event.retry.map_or(self.retry_ms, |ms| ms.clamp(RETRY_MS_MIN, RETRY_MS_MAX));
        match (event.data.filter(|data| !data.is_empty()), event.comment) {
            (Some(data), _) => Ok(Some(Next::Message(parse(data, limits)?))),
            (None, Some(comment)) => Ok(Some(Next::Comment(comment))),
            (None, None) => Ok(Some(Next::Nothing)),
        }
    }

    /// Asks for the rest of a stream that ended before the answer, as a client of the older revision does.
    async fn resume(&mut self, limits: &Limits) -> Result<Option<Next>, Refusal> {
        let (Some(last), Some(begun)) = (&self.last, self.begun.as_ref()) else { return Ok(None) };
        let link = Arc::clone(&self.request.link);
        let again = async {
            tokio::time::sleep(Duration::from_millis(self.retry_ms)).await;
            link.resume(last, limits).await
        };
        let events = tokio::select! {
            refusal = begun.cancelled() => return Err(refusal),
            events = again => events?,
        };
        let resumed = events.is_some();
        self.source = events.map_or(Source::Over, Source::Open);
        Ok(resumed.then_some(Next::Nothing))
    }
}

/// Where the messages of a call come from.
#[derive(Debug)]
enum Source {
    Open(Events),
    Over,
    /// The server has not begun to answer; it may have begun to ask.
    Sent(Sending),
}

struct Sending(Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send>>);

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sending")
    }
}

impl Source {
    /// The next event; what is lost when this is given up comes the next time.
    async fn next(&mut self, limits: &Limits) -> Result<Option<sse::Event>, Refusal> {
        loop {
            let reply = match self {
                Self::Over => return Ok(None),
                Self::Open(events) => return events.next(limits, false).await,
                Self::Sent(sending) => (&mut sending.0).await,
            };
            *self = Self::Over;
            match reply? {
                Reply::Accepted => {
                    return Err(Refusal::new(
                        Code::AnswerInvalid,
                        "a request that was answered with nothing",
                    ));
                }
                Reply::Stream { events, .. } => *self = Self::Open(events),
                Reply::Unary { bytes, .. } => return Ok(Some(sse::Event::message(bytes))),
            }
        }
    }
}

/// What comes of a server.
enum Next {
    Comment(String),
    Message(Message),
    Nothing,
}

/// The HTTP status of an answer under the newer revision.
fn status(message: &Message) -> u16 {
    let code = message.error().and_then(|error| error.get("code")?.as_i64());
    match code {
        Some(-32601) => 404,
        // As far as it keeps its meaning.
        Some(-32021) => 400,
        _ => 200,
    }
}

/// The messages of a call.
#[derive(Debug)]
struct Stream {
    /// Absent once it is answered or held.
    call: Option<Box<Call>>,
    ready: VecDeque<sse::Event>,
    status: u16,
}

impl Stream {
    fn of(call: Box<Call>) -> Self {
        Self { call: Some(call), ready: VecDeque::new(), status: 200 }
    }

    /// Whole where the answer, a question or a refusal comes first, so that it has a status of its own; else as a stream.
    async fn reply(mut self, limits: &Limits) -> Result<Reply, Refusal> {
        let none = || Refusal::new(Code::AnswerInvalid, "the stream ended before the request was answered");
        let event = self.advance(limits).await?.ok_or_else(none)?;
        match event.data {
            Some(bytes) if self.call.is_none() => {
                Ok(Reply::Unary { status: self.status, bytes, session: None })
            }
            _ => {
                self.ready.push_back(event);
                Ok(Reply::Stream { events: Events::Bridged(Box::new(self)), session: None })
            }
        }
    }

    async fn advance(&mut self, limits: &Limits) -> Result<Option<sse::Event>, Refusal> {
        if let Some(event) = self.ready.pop_front() {
            return Ok(Some(event));
        }
        loop {
            let Some(call) = self.call.as_mut() else { return Ok(None) };
            let message = match call.next(limits).await? {
                None => return Ok(None),
                Some(Next::Nothing) => continue,
                Some(Next::Comment(comment)) => {
                    return Ok(Some(sse::Event { comment: Some(comment), ..sse::Event::default() }));
                }
                Some(Next::Message(message)) => message,
            };
            match call.step(&message, limits).await? {
                Step::Nothing => {}
                Step::Tell(bytes) => return Ok(Some(sse::Event::message(bytes))),
                Step::Answer(bytes, status) => {
                    (self.call, self.status) = (None, status);
                    return Ok(Some(sse::Event::message(bytes)));
                }
                Step::Ask(question) => {
                    let Some(mut call) = self.call.take() else { return Ok(None) };
                    call.request.pause();
                    call.begun = None;
                    let (held, id) = (Arc::clone(&call.held), call.id.clone());
                    let state = held.hold(call, question, limits)?;
                    let asked = input_required(&id, &[Question::of(&message, KEY)], &state);
                    return Ok(Some(sse::Event::message(asked)));
                }
            }
        }
    }
}

impl Bridged for Stream {
    fn next<'a>(&'a mut self, limits: &'a Limits) -> NextEvent<'a> {
        Box::pin(self.advance(limits))
    }
}
