//! One call of a client of the older revision, in as many rounds as its server of the newer one needs: each result that
//! asks becomes requests to the client, and its answers another round.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use portcullis_core::{Code, Limits, Refusal};
use portcullis_mcp::{
    bridge::{
        Kind, Question, Round, answer_to_legacy, for_call, kind, questions_inside, request_to_modern,
        to_client,
    },
    json::quote,
    jsonrpc::{Message, Shape},
    sse,
};
use tokio::sync::oneshot;

use super::{
    Crossing, QUESTIONS, Unwanted, answers,
    legacy_client::{Running, Said},
    parse, send_modern, untranslatable, wrong_id,
};
use crate::rules::Server;
use portcullis_upstream::{Bridged, Events, NextEvent, Reply};

/// Rounds of one call; a server that asks for ever is not served.
const ROUNDS_MAX: u64 = 16;
/// Questions in one round.
const QUESTIONS_MAX: usize = 16;
/// How long a server that only wants to be asked again is left alone.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Asked {
    question: Question,
    answer: oneshot::Receiver<Said>,
}

/// A call and the rounds it has been through.
#[derive(Debug)]
pub(super) struct Rounds {
    server: Arc<Server>,
    caller: String,
    message: Message,
    method: &'static str,
    headers: HeaderMap,
    running: Running,
    /// The number of the current round, which is its id.
    number: u64,
    /// What the server wants back (JSON text).
    state: Option<Bytes>,
    asked: Vec<Asked>,
    /// Messages for the client.
    ready: VecDeque<Bytes>,
    events: Option<Events>,
    over: bool,
    unwanted: Arc<Unwanted>,
}

impl Rounds {
    pub(super) fn new(crossing: &Crossing<'_>, headers: HeaderMap, running: Running) -> Self {
        Self {
            server: Arc::clone(crossing.server),
            caller: crossing.caller.to_owned(),
            message: crossing.message.clone(),
            method: crossing.row.name,
            headers,
            running,
            number: 0,
            state: None,
            asked: Vec::new(),
            ready: VecDeque::new(),
            events: None,
            over: false,
            unwanted: Arc::clone(crossing.unwanted),
        }
    }

    /// Sends one round.
    pub(super) async fn send(&mut self, round: Round, limits: &Limits) -> Result<Reply, Refusal> {
        self.number += 1;
        if self.number > ROUNDS_MAX {
            return Err(Refusal::new(Code::AnswerInvalid, "the server asks without end"));
        }
        let declared = self.running.session().declared();
        let bytes = request_to_modern(&self.message, self.number, &declared, &round);
        let sent = send_modern(&self.server, &self.caller, self.headers.clone(), bytes, limits);
        tokio::select! {
            refusal = self.running.cancelled() => Err(refusal),
            reply = sent => reply,
        }
    }

    /// The rest of the call as a stream.
    pub(super) fn stream(mut self, events: Option<Events>) -> Reply {
        self.events = events;
        Reply::Stream { events: Events::Bridged(Box::new(self)), session: None }
    }

    /// The answer for the client.
    pub(super) fn answer(&mut self, message: &Message) -> Result<Bytes, Refusal> {
        if !matches!(message.shape(), Shape::Response | Shape::Error) || !answers(message, self.number) {
            return Err(wrong_id());
        }
        if message.result().is_some_and(|result| kind(&result) == Kind::Unknown) {
            return Err(untranslatable("resultType"));
        }
        self.over = true;
        let id = self.message.id().map(|id| id.raw().clone()).unwrap_or_default();
        Ok(answer_to_legacy(message, &id, self.method))
    }

    /// Turns a result that asks into requests to the client.
    pub(super) fn ask(&mut self, message: &Message) -> Result<(), Refusal> {
        if !answers(message, self.number) {
            return Err(wrong_id());
        }
        let Some(result) = message.result() else { return Err(wrong_id()) };
        self.state = result.get("requestState").map(|state| Bytes::copy_from_slice(state.raw()));
        let questions = questions_inside(&result);
        if questions.len() > QUESTIONS_MAX || (questions.is_empty() && self.state.is_none()) {
            return Err(Refusal::new(Code::AnswerInvalid, "a result that asks for too much or for nothing"));
        }
        for question in questions {
            if !QUESTIONS.contains(&&*question.method) {
                return Err(untranslatable(&question.method));
            }
            let (id, answer) = self.running.session().expect()?;
            self.ready.push_back(to_client(&question, &id));
            self.asked.push(Asked { question, answer });
        }
        self.events = None;
        Ok(())
    }

    /// Waits for the client's answers: what the next round brings along.
    async fn answers(&mut self) -> Result<Round, Refusal> {
        let state = self.state.clone();
        if self.asked.is_empty() {
            tokio::time::sleep(PAUSE).await;
            return Ok(Round { responses: None, state });
        }
        let mut members = Vec::new();
        for Asked { question, answer } in self.asked.drain(..) {
            let said = tokio::select! {
                refusal = self.running.cancelled() => return Err(refusal),
                said = answer => said,
            };
            let result = match said {
                Ok(Said::Result(result)) => result,
                Ok(said) => in_place_of_an_answer(&question.method, &said)?,
                Err(_ended) => return Err(Refusal::new(Code::SessionUnknown, "the session ended")),
            };
            members.push(format!("{}:{}", quote(&question.key), String::from_utf8_lossy(&result)));
        }
        let responses = Bytes::from(format!("{{{}}}", members.join(",")));
        Ok(Round { responses: Some(responses), state })
    }

    async fn advance(&mut self, limits: &Limits) -> Result<Option<sse::Event>, Refusal> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some(sse::Event::message(bytes)));
            }
            if self.over {
                return Ok(None);
            }
            let Some(events) = self.events.as_mut() else {
                let round = self.answers().await?;
                match self.send(round, limits).await? {
                    Reply::Stream { events, .. } => self.events = Some(events),
                    Reply::Unary { bytes, .. } => {
                        let message = parse(bytes, limits)?;
                        self.take(&message)?;
                    }
                    Reply::Accepted => {
                        return Err(Refusal::new(Code::AnswerInvalid, "a request that was not answered"));
                    }
                }
                continue;
            };
            let event = tokio::select! {
                refusal = self.running.cancelled() => return Err(refusal),
                event = events.next(limits, false) => event?,
            };
            let Some(event) = event else { return Ok(None) };
            let Some(data) = event.data.filter(|data| !data.is_empty()) else {
                if event.comment.is_some() {
                    return Ok(Some(sse::Event { comment: event.comment, ..sse::Event::default() }));
                }
                continue;
            };
            self.take(&parse(data, limits)?)?;
        }
    }

    /// Takes a message of the server.
    fn take(&mut self, message: &Message) -> Result<(), Refusal> {
        match message.shape() {
            Shape::Request => {
                let what = "a request of the server, which revision 2026-07-28 forbids";
                Err(Refusal::new(Code::AnswerInvalid, what))
            }
            Shape::Notification => {
                let token = self.message.params().and_then(|params| params.path(&["_meta", "progressToken"]));
                let logs = self.running.session().declared().log_level.is_some();
                let token = token.map(|token| token.raw());
                match for_call(message, token.unwrap_or_default(), token, logs) {
                    Some(told) => self.ready.push_back(told),
                    None => self.unwanted.note(message, Code::BridgeUnwanted),
                }
                Ok(())
            }
            Shape::Response
                if message.result().is_some_and(|result| kind(&result) == Kind::InputRequired) =>
            {
                self.ask(message)
            }
            Shape::Response | Shape::Error => {
                let bytes = self.answer(message)?;
                self.ready.push_back(bytes);
                Ok(())
            }
        }
    }
}

/// What the server is told where the client gave no result. Only a question to a person can be left unanswered.
fn in_place_of_an_answer(method: &str, said: &Said) -> Result<Bytes, Refusal> {
    match (method, said) {
        ("elicitation/create", Said::Denied) => Ok(Bytes::from_static(br#"{"action":"decline"}"#)),
        ("elicitation/create", _) => Ok(Bytes::from_static(br#"{"action":"cancel"}"#)),
        (_, Said::Denied) => {
            Err(Refusal::new(Code::ServerRequestDenied, format!("the server may not ask `{method}`")))
        }
        (_, Said::Error | Said::Result(_)) => {
            Err(untranslatable(&format!("an error in answer to `{method}`")))
        }
    }
}

impl Bridged for Rounds {
    fn next<'a>(&'a mut self, limits: &'a Limits) -> NextEvent<'a> {
        Box::pin(self.advance(limits))
    }
}
