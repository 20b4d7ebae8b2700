//! The way back: each message of a server is parsed, inspected, masked, recorded and only then written.

mod allowance;
mod held;
mod stream;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use portcullis_catalog::{Judges, List};
use portcullis_connect::results::Ticket;
use portcullis_core::{Code, Refusal, Timestamp};
use portcullis_inspect::Window;
use portcullis_mcp::{
    elicitation::UrlError,
    jsonrpc::{Message, Shape},
    revision::Era,
};
use portcullis_net::listen::Lasting;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use self::{allowance::Allowance, held::Held, stream::Stream};
use crate::{
    body::{self, Body, Cut, Pieces},
    extensions,
    gateway::Gateway,
    pending::Pending,
    refusal::{self, Asked},
    rules::Rules,
    session::{Backend, NewSession, Session},
    settings::OutputSchema,
    stages::{
        again, alarm,
        alive::Watch,
        approve,
        arm::Armed,
        authorize, fit,
        forward::{self, Exchange},
        kept::{self, Looked},
        record,
        redact::{self, Stopped},
    },
    trail::Stage,
};
use portcullis_upstream::{Events, Reply, Upstream, headers::SESSION, own::VERSION_BYTES_MAX};

/// Events on their way to a client that reads slowly; the server waits beyond.
const EVENTS_WAITING_MAX: usize = 16;

/// One armed call on its way to the server and back.
pub(crate) struct Relay {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) armed: Armed,
    pub(crate) asked: Asked,
    pub(crate) pending: Pending,
    /// Whether the answer passes although it does not fit the output schema of its tool.
    pub(crate) unfit: bool,
    /// With which its answer may be kept.
    pub(crate) ticket: Option<Ticket>,
}

impl Relay {
    /// Forwards the call and answers the client.
    pub(crate) async fn run(mut self) -> Response<Body> {
        if let Some(session) = self.armed.own_session() {
            session.demand(self.armed.obligations());
        }
        let wait = Duration::from_millis(self.rules.limits.total_timeout_ms);
        let deadline = Instant::now() + wait;
        let there = |bytes: Bytes| Ok(Exchange::plain(Reply::Unary { status: 200, bytes, session: None }));
        let held = self.armed.held().map(|held| Bytes::copy_from_slice(held.as_bytes()));
        let looked = held.map_or_else(
            || kept::look(&self.armed, &self.rules, self.gateway.clock.ticks_us()),
            Looked::Held,
        );
        let forwarded = match looked {
            Looked::Held(bytes) => {
                self.pending.not_asked("it waited for people");
                there(bytes)
            }
            Looked::Kept(bytes) => {
                self.pending.not_asked("from the cache");
                there(bytes)
            }
            Looked::Ask(ticket) => {
                self.ticket = ticket;
                self.forward(deadline).await
            }
        };
        let forwarded = self.pending.trail().keep(Stage::Forward, forwarded);
        match forwarded {
            Err(refusal) => self.refuse(refusal).await,
            Ok(Exchange { reply: Reply::Accepted, .. }) if self.asked.id.is_some() => {
                self.refuse(Refusal::new(Code::AnswerInvalid, "a request that was answered with nothing"))
                    .await
            }
            Ok(Exchange { reply: Reply::Accepted, .. }) => self.accepted().await,
            Ok(Exchange { reply: Reply::Unary { status, bytes, .. }, opens, list }) => {
                self.unary(status, bytes, opens, list).await
            }
            Ok(Exchange { reply: Reply::Stream { events, .. }, opens, .. }) => {
                self.stream(events, opens, deadline).await
            }
        }
    }

    async fn forward(&self, deadline: Instant) -> Result<Exchange, Refusal> {
        let mut watch = Watch::of(&self.gateway, &self.armed);
        let forwarded = async {
            let forwarded = forward::call(&self.gateway, &self.rules, &self.armed);
            if self.armed.endless() {
                return forwarded.await;
            }
            timeout_at(deadline, forwarded).await.unwrap_or_else(|_elapsed| Err(too_long()))
        };
        tokio::select! {
            biased;
            stopped = watch.stopped() => Err(stopped),
            forwarded = forwarded => forwarded,
        }
    }

    /// Keeps what the server said, where it may be kept: as it came, since every caller's is judged on its own.
    fn keep(&mut self, message: &Message) {
        if let Some(ticket) = self.ticket.take() {
            kept::keep(&self.armed, &self.rules, ticket, message);
        }
    }

    /// Records what the server said in vain on the bridge.
    async fn record_unwanted(&mut self) -> Result<(), Refusal> {
        let (intent, gateway) = (self.armed.index(), Arc::clone(&self.gateway));
        for (method, code) in self.armed.unwanted().take() {
            record::question(&gateway, &method, Some(code), intent, self.pending.trail()).await?;
        }
        Ok(())
    }

    async fn refuse(mut self, refusal: Refusal) -> Response<Body> {
        // Where the ledger takes nothing the refusal itself says so in the log.
        let _ = self.record_unwanted().await;
        if refusal.code == Code::SessionUnknown
            && let Some(session) = self.armed.session()
        {
            self.gateway.sessions.end(&session.id);
        }
        // Its server saw nothing of the call: the user connects first, and the call comes again.
        if refusal.code == Code::ConnectionRequired {
            approve::unused(&self.gateway, self.pending.trail()).await;
        }
        let response = refusal::reply(&refusal, &self.asked);
        self.pending.refused(&refusal, response.status().as_u16()).await;
        response
    }

    async fn accepted(mut self) -> Response<Body> {
        let ends = self.armed.message().is_none();
        if let Some(session) = self.armed.session().filter(|_| ends) {
            self.gateway.sessions.end(&session.id);
            authorize::ended(&self.gateway, &self.armed, &self.rules);
            forward::end(&session.replicas, &self.rules).await;
        }
        let status = if ends { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED };
        let done = self.pending.done(status.as_u16(), None, None).await;
        match done {
            Ok(()) => {
                let mut response = Response::new(body::full(Bytes::new()));
                *response.status_mut() = status;
                response
            }
            Err(refusal) => refusal::reply(&refusal, &self.asked),
        }
    }

    async fn unary(
        mut self,
        status: u16,
        bytes: Bytes,
        opens: Option<Backend>,
        list: Option<Arc<List>>,
    ) -> Response<Body> {
        // With or without words: a server's 404 ends the session it gave (2025-11-25, transports, "Session Management").
        if status == 404
            && let Some(session) = self.armed.session()
            && matches!(session.backend, Backend::Http(Some(_)))
        {
            self.gateway.sessions.end(&session.id);
        }
        if let Err(refusal) = self.record_unwanted().await {
            return self.refuse(refusal).await;
        }
        let judged = match list {
            Some(list) => self.judge_list(&list, bytes).await,
            None => self.judge(bytes).await,
        };
        self.alarm().await;
        let judged = self.pending.trail().keep(Stage::InspectAnswer, judged);
        let masked = match judged {
            Ok(masked) => masked,
            Err(refusal) => return self.refuse(refusal).await,
        };
        let (error, jsonrpc) = (self.failure(&masked), masked.facts().jsonrpc);
        let status = match &self.armed.server().upstream {
            Upstream::Http(_) if self.armed.held().is_none() => status,
            Upstream::Group | Upstream::Http(_) | Upstream::Stdio(_) => {
                http_status(self.armed.era(), jsonrpc)
            }
        };
        let session = match self.open(opens.filter(|_| error.is_none())) {
            Ok(session) => session,
            Err(refusal) => return self.refuse(refusal).await,
        };
        if let Err(refusal) = self.another_round(&masked).await {
            return self.refuse(refusal).await;
        }
        let done = self.pending.done(status, Some(masked.measured()), error).await;
        if let Err(refusal) = done {
            return refusal::reply(&refusal, &self.asked);
        }
        let mut response = Response::new(body::full(masked.into_bytes()));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        name_session(&mut response, session.as_deref());
        response
    }

    /// A server that wants an approved call once more gets it: the approval counts for that round as well.
    async fn another_round(&mut self, answer: &redact::Masked) -> Result<(), Refusal> {
        match (&self.pending.trail().approval, &answer.facts().again) {
            (Some(approval), Some(state)) => self.gateway.approvals.again(approval, state.as_deref()).await,
            (None, _) | (_, None) => Ok(()),
        }
    }

    /// Judges an open stream by the rules of now; from here on they are its own.
    async fn judge_again(&mut self) -> Result<(), Refusal> {
        let rules = self.gateway.rules.load_full();
        let elapsed_ms = self.pending.trail().elapsed_us() / 1_000;
        let begun = Timestamp(self.gateway.clock.now().0.saturating_sub(elapsed_ms));
        again::stream(&self.gateway, &mut self.armed, (&self.rules, begun), &rules).await?;
        self.rules = rules;
        Ok(())
    }

    /// Judges a list as any answer, once for everybody who gets the same by the same rules.
    async fn judge_list(&mut self, list: &List, bytes: Bytes) -> Result<redact::Masked, Refusal> {
        let watched = self.rules.inspector.watch().map_or(0, |watch| watch.changes());
        if let Some(masked) = redact::list(list, &bytes, self.judges(watched)) {
            return Ok(masked);
        }
        let found = self.pending.trail().findings.len();
        let masked = self.judge(bytes).await?;
        if self.pending.trail().findings.len() == found {
            redact::remember(list, &masked, self.judges(watched));
        }
        Ok(masked)
    }

    fn judges(&self, watched: u64) -> Judges<'_> {
        let (inspector, limits) = (&self.rules.inspector, &self.rules.answer);
        Judges { inspector, limits, obligations: self.armed.obligations(), watched }
    }

    /// Judges the one answer of a request.
    async fn judge(&mut self, bytes: Bytes) -> Result<redact::Masked, Refusal> {
        let message = self.parse(bytes)?;
        if self.armed.held().is_some() {
            let id = self.armed.message().and_then(Message::id).map(|id| id.raw().clone());
            let message = self.parse(message.with_id(&id.unwrap_or_default()))?;
            return self.mask(&message, None).await;
        }
        if !matches!(message.shape(), Shape::Response | Shape::Error) || !self.answers(&message) {
            return Err(Refusal::new(Code::AnswerInvalid, "a message that does not answer the request"));
        }
        self.fits(&message)?;
        self.keep(&message);
        let message = self.exchange(message)?.ok_or_else(|| {
            Refusal::new(Code::AnswerInvalid, "the answer is about a task that is not the caller's")
        })?;
        let masked = self.mask(&message, None).await?;
        self.questions_inside(&masked)?;
        Ok(masked)
    }

    fn parse(&self, bytes: Bytes) -> Result<Message, Refusal> {
        Message::parse(bytes, &self.rules.answer)
            .map_err(|error| Refusal::new(Code::AnswerInvalid, error.to_string()))
    }

    /// Whether the answer has the structure that the pinned definition of its tool promises. Looked at before anything
    /// is masked in it.
    fn fits(&mut self, message: &Message) -> Result<(), Refusal> {
        let Err(refusal) = fit::answer(&self.armed, message, &self.rules.limits) else { return Ok(()) };
        match self.armed.server().settings.output_schema {
            OutputSchema::Refuse => Err(refusal),
            OutputSchema::Record => {
                tracing::warn!(server = %self.armed.server().name, detail = refusal.private, "the answer passes");
                self.unfit = true;
                Ok(())
            }
        }
    }

    /// What the outcome says of an answer that passes.
    fn failure(&self, answer: &redact::Masked) -> Option<&'static str> {
        answer.facts().failure.or_else(|| self.unfit.then(|| Code::AnswerSchema.name()))
    }

    /// The message as this caller may know it; nothing when it is not meant for this caller.
    fn exchange(&self, message: Message) -> Result<Option<Message>, Refusal> {
        let message = self.armed.exchange(&self.gateway.tasks, message, &self.rules.limits)?;
        if !self.armed.is("initialize") && !self.armed.is("server/discover") {
            return Ok(message);
        }
        message.map(|message| extensions::outward(&self.armed.server().settings, message)).transpose()
    }

    async fn mask(
        &mut self,
        message: &Message,
        window: Option<&mut Window>,
    ) -> Result<redact::Masked, Refusal> {
        let session = self.armed.own_session().filter(|_| self.armed.endless());
        let of_session = session.map(|session| session.demanded());
        let obligations = of_session.as_ref().unwrap_or_else(|| self.armed.obligations());
        let trail = self.pending.trail();
        let inspector = &self.rules.inspector;
        let entropy = self.armed.held().is_none().then_some(&*self.gateway.entropy);
        let scope = authorize::scope(&self.armed, &self.rules);
        let waits = self.armed.answer_waits() && matches!(message.shape(), Shape::Response | Shape::Error);
        let by = redact::By { inspector, obligations, entropy, waits, scope };
        let fits = |message: &Message| fit::answer(&self.armed, message, &self.rules.limits).is_ok();
        let masked = match redact::answer(by, message, window, fits, &mut trail.findings) {
            Ok(masked) => masked,
            Err(Stopped::Refused(refusal)) => return Err(refusal),
            Err(Stopped::Waits(held)) => {
                match trail.approval.as_ref().filter(|_| self.armed.held().is_some()) {
                    Some(approval) => held.granted(approval),
                    None => {
                        return Err(
                            approve::answer(&self.gateway, &self.armed, &held, &self.rules, trail).await
                        );
                    }
                }
            }
        };
        trail.labels = trail.labels.with(masked.labels());
        authorize::brought(&self.gateway, &self.armed, masked.labels(), &self.rules).await?;
        Ok(masked)
    }

    /// Puts on record at once what came back and must not.
    async fn alarm(&mut self) {
        let intent = Some(self.armed.index());
        alarm::raise(&self.gateway, &self.rules, intent, self.pending.trail()).await;
    }

    /// Whether a message has the id of the request, or the null id of an error about it.
    fn answers(&self, message: &Message) -> bool {
        let asked = self.armed.message().and_then(Message::id);
        message.id().map_or(message.shape() == Shape::Error, |id| Some(id) == asked)
    }

    /// Questions to the client inside a result (`input_required`, revision 2026-07-28) are policy's as well.
    fn questions_inside(&self, answer: &redact::Masked) -> Result<(), Refusal> {
        answer.facts().questions.iter().try_for_each(|method| self.may_ask(method))?;
        answer.facts().unsafe_url.map_or(Ok(()), |error| Err(no_url(error)))
    }

    fn may_ask(&self, method: &str) -> Result<(), Refusal> {
        let kind = method.split('/').next().unwrap_or_default();
        let settings = &self.armed.server().settings;
        // Its user would answer the server that was called, which asked nothing.
        if self.armed.is_aside() && self.armed.era() == Era::Legacy && method != "ping" {
            return Err(Refusal::new(Code::ServerRequestDenied, "a replica asks nothing under 2025-11-25"));
        }
        let listed = settings.methods.contains(method);
        if listed || method == "ping" || settings.server_requests.contains(kind) {
            return Ok(());
        }
        Err(Refusal::new(Code::ServerRequestDenied, format!("the server may not ask `{kind}`")))
    }

    /// Starts the session that the answer opens.
    fn open(&self, backend: Option<Backend>) -> Result<Option<Arc<Session>>, Refusal> {
        let Some(backend) = backend else { return Ok(None) };
        let params = self.armed.message().and_then(Message::params);
        let version = params.and_then(|params| params.get("protocolVersion")?.as_str());
        let version = version.filter(|version| version.len() <= VERSION_BYTES_MAX).unwrap_or_default();
        // Kept only where the server's side may have to be opened again.
        let again = matches!(backend, Backend::Group(_) | Backend::Stdio { .. })
            || self.rules.replicas.contains_key(&*self.armed.server().name);
        let params = params.filter(|_| again);
        let new = NewSession {
            caller: Arc::from(self.armed.caller()),
            server: Arc::clone(&self.armed.server().name),
            declared: self.armed.server().settings.digest,
            version: version.into_owned(),
            backend,
            params: params.map(|params| Bytes::copy_from_slice(params.raw())).unwrap_or_default(),
        };
        let session = self.gateway.sessions.start(new, &self.rules.limits);
        session.map(Some).ok_or_else(|| Refusal::new(Code::LimitConcurrency, "limits.sessions_max"))
    }

    async fn stream(mut self, events: Events, opens: Option<Backend>, deadline: Instant) -> Response<Body> {
        let (to, from) = mpsc::channel(EVENTS_WAITING_MAX);
        let session = match self.open(opens) {
            Ok(session) => session,
            Err(refusal) => return self.refuse(refusal).await,
        };
        if self.armed.endless() {
            self.armed.settle();
            self.asked.id = self.asked.id.map(|id| Bytes::copy_from_slice(&id));
        }
        let endless = self.armed.endless();
        let held = (!endless && self.armed.obligations().buffer).then(Held::default);
        let window = Window::new(Window::BYTES);
        let (cut, watch) = (Cut::default(), Watch::of(&self.gateway, &self.armed));
        let pieces = Pieces::new(from, Arc::clone(&cut));
        let stream = Stream {
            relay: self,
            to,
            cut,
            window,
            answered: false,
            resumable: false,
            untold: false,
            astray: false,
            allowance: Allowance::new(Instant::now()),
            held,
            unread: 0,
        };
        let running = stream.relay.gateway.running.clone();
        // Boxed, since what is handed on from one future to the next is held twice.
        tokio::spawn(running.until_cut(Box::pin(stream.run(events, watch, deadline))));
        let mut response = Response::new(Body::Stream(pieces));
        if endless {
            response.extensions_mut().insert(Lasting);
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        name_session(&mut response, session.as_deref());
        response
    }
}

fn name_session(response: &mut Response<Body>, session: Option<&Session>) {
    if let Some(Ok(id)) = session.map(|session| HeaderValue::try_from(&session.id)) {
        response.headers_mut().insert(SESSION, id);
    }
}

/// The HTTP status that goes with an error of a child, which has none of its own (2026-07-28, transports).
const fn http_status(era: Era, jsonrpc: Option<i64>) -> u16 {
    match (era, jsonrpc) {
        (Era::Modern, Some(-32022..=-32020)) => 400,
        (Era::Modern, Some(-32601)) => 404,
        (Era::Legacy | Era::Modern, _) => 200,
    }
}

fn no_url(error: UrlError) -> Refusal {
    Refusal::new(Code::ServerRequestUrl, error.to_string())
}

fn too_long() -> Refusal {
    Refusal::new(Code::UpstreamTimeout, "the call exceeded total_timeout_ms")
}
