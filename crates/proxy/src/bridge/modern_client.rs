//! A client of the newer revision, a server of the older one.

use std::sync::Arc;

use bytes::Bytes;
use portcullis_core::{Code, Digest, Limits, Refusal};
use portcullis_mcp::{
    bridge::{
        Question, answer_to_modern, answer_to_server, discover_result, for_call, input_required,
        request_to_legacy, result_message, same_in_each_round,
    },
    json::ValueKind,
    jsonrpc::{Message, Shape},
    revision::Era,
    sse,
};

use super::{
    Bridge, Crossing, QUESTIONS, answers,
    held::{Held, Waiting},
    link::Request,
    listener, parse,
    pool::Said,
    untranslatable, wrong_id,
};
use crate::upstream::{Bridged, Events, NextEvent, Reply};

/// The name under which the answer to a question is expected.
const KEY: &str = "1";

impl Bridge {
    /// Takes a message of a client of the newer revision to a server of the older one.
    ///
    /// # Errors
    /// `bridge.*`, `upstream.*`, `answer.*`, `server_request.denied`.
    pub async fn from_modern(&self, crossing: Crossing<'_>) -> Result<Reply, Refusal> {
        crossing.passes(Era::Modern, Era::Legacy)?;
        match crossing.row.name {
            "server/discover" => self.discover(&crossing).await,
            "subscriptions/listen" => listener::listen(&crossing).await,
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
            let mut request = Request::new(link);
            let bytes = request_to_legacy(crossing.message, request.number);
            let reply = request.link.send(request.number, bytes, crossing.limits).await;
            match reply {
                // It has not seen the call, so that it may be asked once more, in another session.
                Err(refusal) if refusal.code == Code::SessionUnknown && again => {
                    request.answered();
                    self.pool.forget(&key);
                    again = false;
                }
                Err(refusal) => return Err(refusal),
                Ok(reply) => {
                    let call = Call::new(crossing, request, &said, &self.held);
                    return call.reply(reply, crossing.limits);
                }
            }
        }
    }

    /// Goes on with a call whose server has asked, now that the client has answered.
    async fn resume(&self, crossing: &Crossing<'_>, state: &str) -> Result<Reply, Refusal> {
        let same = Digest::of(&same_in_each_round(crossing.message));
        let result = crossing.message.params().and_then(|params| params.path(&["inputResponses", KEY]));
        let result = result.filter(|result| result.kind() == ValueKind::Object).ok_or_else(|| {
            let what = format!("`inputResponses` lacks an object named `{KEY}`");
            Refusal::new(Code::RequestMeta, what.clone()).saying(what)
        })?;
        let waiting = self.held.take(&crossing.server.name, crossing.caller, state, same)?;
        let Waiting { mut call, question, .. } = waiting;
        if !Arc::ptr_eq(&call.request.link.server, crossing.server) {
            return Err(Refusal::new(Code::BridgeElsewhere, "the server was configured anew since it asked"));
        }
        (call.id, call.token) = (crossing.id(), crossing.token());
        let answer = answer_to_server(&question, result.raw());
        call.request.link.answer(call.request.number, answer).await?;
        Ok(Reply::Stream { events: Events::Bridged(Box::new(Stream(Some(call)))), session: None })
    }
}

/// A call on its way back.
#[derive(Debug)]
pub(super) struct Call {
    /// Dropped before the request is given up, so that a child's lines end first.
    events: Option<Events>,
    pub(super) request: Request,
    pub(super) caller: Arc<str>,
    /// What each round of it has in common.
    pub(super) same: Digest,
    /// The id that the client waits for (JSON text).
    id: Bytes,
    token: Option<Bytes>,
    logs: bool,
    method: &'static str,
    held: Arc<Held>,
}

/// What follows from a message of the server.
enum Step {
    Answer(Bytes),
    Ask(Bytes),
    Nothing,
    Tell(Bytes),
}

impl Call {
    fn new(crossing: &Crossing<'_>, request: Request, said: &Said, held: &Arc<Held>) -> Self {
        Self {
            events: None,
            request,
            caller: Arc::from(crossing.caller),
            same: Digest::of(&same_in_each_round(crossing.message)),
            id: crossing.id(),
            token: crossing.token(),
            logs: said.log_level.is_some(),
            method: crossing.row.name,
            held: Arc::clone(held),
        }
    }

    fn reply(mut self, reply: Reply, limits: &Limits) -> Result<Reply, Refusal> {
        match reply {
            Reply::Accepted => {
                Err(Refusal::new(Code::AnswerInvalid, "a request that was answered with nothing"))
            }
            Reply::Unary { bytes, .. } => {
                let message = parse(bytes, limits)?;
                let status = status(&message);
                let bytes = self.answer(&message)?;
                Ok(Reply::Unary { status, bytes, session: None })
            }
            Reply::Stream { events, .. } => {
                self.events = Some(events);
                let stream = Stream(Some(Box::new(self)));
                Ok(Reply::Stream { events: Events::Bridged(Box::new(stream)), session: None })
            }
        }
    }

    fn answer(&mut self, message: &Message) -> Result<Bytes, Refusal> {
        if !matches!(message.shape(), Shape::Response | Shape::Error)
            || !answers(message, self.request.number)
        {
            return Err(wrong_id());
        }
        self.request.answered();
        Ok(answer_to_modern(message, &self.id, self.method))
    }

    async fn step(&mut self, message: &Message) -> Result<Step, Refusal> {
        match message.shape() {
            Shape::Response | Shape::Error => self.answer(message).map(Step::Answer),
            Shape::Notification => {
                Ok(for_call(message, self.token.as_deref(), self.logs).map_or(Step::Nothing, Step::Tell))
            }
            Shape::Request => self.question(message).await,
        }
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
        let kind = method.split('/').next().unwrap_or_default();
        // The newer revision lets a result ask in the course of these three alone.
        let may_ask = matches!(self.method, "prompts/get" | "resources/read" | "tools/call");
        if !QUESTIONS.contains(&&*method) || !may_ask {
            link.decline(number, id.raw()).await;
            return Err(untranslatable(&method));
        }
        if !link.server.settings.server_requests.contains(kind) {
            link.decline(number, id.raw()).await;
            return Err(Refusal::new(Code::ServerRequestDenied, format!("the server may not ask `{kind}`")));
        }
        Ok(Step::Ask(id.raw().clone()))
    }
}

/// The HTTP status of an answer under the newer revision.
fn status(message: &Message) -> u16 {
    let code = message.error().and_then(|error| error.get("code")?.as_i64());
    if code == Some(-32601) { 404 } else { 200 }
}

/// The messages of a call; empty once it is answered or held.
#[derive(Debug)]
struct Stream(Option<Box<Call>>);

impl Stream {
    async fn advance(&mut self, limits: &Limits) -> Result<Option<sse::Event>, Refusal> {
        loop {
            let Some(call) = self.0.as_mut() else { return Ok(None) };
            let Some(events) = call.events.as_mut() else { return Ok(None) };
            let Some(event) = events.next(limits, false).await? else { return Ok(None) };
            let Some(data) = event.data.filter(|data| !data.is_empty()) else {
                if event.comment.is_some() {
                    return Ok(Some(sse::Event { comment: event.comment, ..sse::Event::default() }));
                }
                continue;
            };
            let message = parse(data, limits)?;
            match call.step(&message).await? {
                Step::Nothing => {}
                Step::Tell(bytes) => return Ok(Some(sse::Event::message(bytes))),
                Step::Answer(bytes) => {
                    self.0 = None;
                    return Ok(Some(sse::Event::message(bytes)));
                }
                Step::Ask(question) => {
                    let Some(call) = self.0.take() else { return Ok(None) };
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
