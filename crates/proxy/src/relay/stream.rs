//! An event stream on its way to a client: event by event, judged again while it lasts.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, header};
use portcullis_core::{Code, Refusal};
use portcullis_inspect::Window;
use portcullis_mcp::{
    elicitation,
    jsonrpc::{Id, Message, Shape},
    method,
    revision::Era,
    sse,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::{Relay, allowance::Allowance, held::Held, no_url, too_long};
use crate::{
    body::Cut,
    refusal,
    session::Backend,
    stages::{alive::Watch, forward, record, redact},
};
use portcullis_net::{departure::Left, queue::offer};
use portcullis_upstream::{Events, Upstream, Verb};

/// Which subscription a notification is of (2026-07-28, subscriptions).
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// How long a client that does not read is waited for when its call ends without an answer.
const LAST_WORD: Duration = Duration::from_secs(5);

/// What an event counts for beside its words.
const EVENT_BYTES: usize = 16;

/// How often a stream without an end of its own is judged again while nothing comes on it.
const JUDGED_AGAIN_EVERY: Duration = Duration::from_secs(1);

/// One event stream on its way to a client.
pub(super) struct Stream {
    pub(super) relay: Relay,
    pub(super) to: mpsc::Sender<Bytes>,
    /// Ends what waits for a client that reads slowly.
    pub(super) cut: Cut,
    pub(super) window: Window,
    pub(super) answered: bool,
    /// Whether an event had an id, by which a client of the older revision can ask for what follows.
    pub(super) resumable: bool,
    /// Whether a notification that the specification does not know was recorded.
    pub(super) untold: bool,
    /// Whether one of another subscription was.
    pub(super) astray: bool,
    /// What the server may still cause to be recorded.
    pub(super) allowance: Allowance,
    /// What waits for the answer, where the permit wants that.
    pub(super) held: Option<Held>,
    /// Bytes of events that came after the client had left.
    pub(super) unread: u64,
}

impl Stream {
    /// Passes on what comes, to its end.
    pub(super) async fn run(mut self, mut events: Events, mut watch: Watch, deadline: Instant) {
        let ended = self.pump(&mut events, &mut watch, deadline).await.and_then(|()| self.complete());
        let killed = ended.as_ref().err().filter(|refusal| refusal.code == Code::Killed);
        if let Some(refusal) = killed {
            // At once: the record of it may have to wait, and tells of nothing that the client gets.
            let told = self.relay.asked.id.is_some() && !self.answered;
            let message = told.then(|| refusal::message(refusal, &self.relay.asked));
            let last = message.map(|message| sse::encode(&sse::Event::message(message)));
            let _ = self.cut.set(last.unwrap_or_default());
        }
        let ended = self.relay.record_unwanted().await.and(ended);
        // Under 2026-07-28 this closes the connection, which cancels the request.
        drop(events);
        let Err(refusal) = ended else {
            if !self.answered {
                let _ = self.relay.pending.done(200, None, Some("no_answer")).await;
            }
            return;
        };
        let message = refusal::message(&refusal, &self.relay.asked);
        self.relay.pending.refused(&refusal, 200).await;
        if self.relay.asked.id.is_some() && !self.answered {
            let told = self.to.send(sse::encode(&sse::Event::message(message)));
            let _ = timeout(LAST_WORD, told).await;
        }
    }

    /// Whether the stream may end here.
    fn complete(&self) -> Result<(), Refusal> {
        let due = self.relay.asked.id.is_some() && !self.relay.armed.endless() && !self.answered;
        if due && !self.resumable && !self.to.is_closed() {
            return Err(Refusal::new(
                Code::AnswerInvalid,
                "the stream ended before the request was answered",
            ));
        }
        Ok(())
    }

    async fn pump(
        &mut self,
        events: &mut Events,
        watch: &mut Watch,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let endless = self.relay.armed.endless();
        // The older revision says that a lost connection is no cancellation: the answer is still awaited there.
        let stops_with_client = endless || self.relay.armed.era() == Era::Modern;
        let (mut due, mut said) = (Instant::now() + JUDGED_AGAIN_EVERY, Instant::now());
        loop {
            self.relay.record_unwanted().await?;
            let rules = Arc::clone(&self.relay.rules);
            let event = tokio::select! {
                stopped = watch.stopped() => return Err(stopped),
                () = self.to.closed(), if stops_with_client => return self.left(),
                () = tokio::time::sleep_until(deadline), if !endless => return Err(too_long()),
                () = tokio::time::sleep_until(due), if endless => {
                    self.relay.judge_again().await?;
                    due = Instant::now() + JUDGED_AGAIN_EVERY;
                    if said.elapsed() >= Duration::from_millis(rules.limits.keepalive_ms) {
                        said = Instant::now();
                        // A client with events to read needs no sign that it is connected.
                        let _ = self.to.try_send(Bytes::from_static(b": keep-alive\n\n"));
                    }
                    continue;
                }
                event = events.next(&rules.limits, endless) => event?,
            };
            let Some(event) = event else { return Ok(()) };
            self.unread(&event)?;
            if endless {
                // Nothing passes that came after what opened the stream was taken back.
                self.relay.judge_again().await?;
                said = Instant::now();
            }
            // A client that does not read holds its call, and the server's, no longer than a server that does not write.
            // Mostly its connection was cut off before; under HTTP/2 it can read other streams and not this one.
            let idle = Duration::from_millis(rules.limits.idle_timeout_ms) + LAST_WORD;
            let patience = if endless { Instant::now() + idle } else { deadline };
            let handled = tokio::select! {
                stopped = watch.stopped() => return Err(stopped),
                handled = timeout_at(patience, self.event(event)) => {
                    handled.unwrap_or_else(|_elapsed| Err(if endless { unread() } else { too_long() }))
                }
            };
            if handled? {
                return Ok(());
            }
        }
    }

    /// What a client that has left makes of its stream: over, or refused where it had to be cut off.
    fn left(&self) -> Result<(), Refusal> {
        match self.relay.pending.left() {
            Some(Left::Unread) => Err(unread()),
            Some(Left::Closed | Left::Reset) | None => Ok(()),
        }
    }

    /// The event with what may pass of it beside its message.
    fn framing(&mut self, event: sse::Event) -> sse::Event {
        if event.id.is_none() && event.event.is_none() && event.comment.is_none() {
            return event;
        }
        let relay = &mut self.relay;
        let findings = &mut relay.pending.trail().findings;
        redact::framing(&relay.rules.inspector, event, relay.armed.obligations(), findings)
    }

    /// Counts what comes when the client has left: only the answer still matters then, and a server that talks on
    /// without one is not listened to for the rest of its time.
    fn unread(&mut self, event: &sse::Event) -> Result<(), Refusal> {
        if !self.to.is_closed() {
            return Ok(());
        }
        let words = [&event.comment, &event.event, &event.id].into_iter().flatten().map(String::len);
        let bytes = words.sum::<usize>() + event.data.as_ref().map_or(0, Bytes::len) + EVENT_BYTES;
        self.unread = self.unread.saturating_add(bytes as u64);
        if self.unread > self.relay.rules.limits.answer_bytes_max {
            return Err(Refusal::new(
                Code::AnswerTooLarge,
                "more than limits.answer_bytes_max came after the client had left, and no answer",
            ));
        }
        Ok(())
    }

    /// Handles one event; true when it was the answer.
    async fn event(&mut self, event: sse::Event) -> Result<bool, Refusal> {
        let mut event = self.framing(event);
        if event.is_empty() {
            return Ok(false);
        }
        self.resumable |= event.id.is_some();
        if let Some(via) = self.relay.armed.via() {
            event.id = event.id.map(|id| via.prefix.expose_id(&id));
        }
        let Some(data) = event.data.clone().filter(|data| !data.is_empty()) else {
            self.pass(event).await?;
            return Ok(false);
        };
        let message = self.relay.parse(data)?;
        match message.shape() {
            Shape::Response | Shape::Error
                if self.relay.asked.id.is_none() || self.relay.answers(&message) =>
            {
                self.relay.fits(&message)?;
                self.relay.keep(&message);
                match self.relay.exchange(message)? {
                    Some(message) => self.answer(event, &message).await,
                    None => Ok(false),
                }
            }
            Shape::Response | Shape::Error => {
                Err(Refusal::new(Code::AnswerInvalid, "an answer with another request's id"))
            }
            Shape::Request if self.relay.armed.era() == Era::Modern => Err(Refusal::new(
                Code::AnswerInvalid,
                "a request of the server, which revision 2026-07-28 forbids",
            )),
            Shape::Request => self.question(event, message).await.map(|()| false),
            Shape::Notification => {
                if !self.may_tell(&message).await? {
                    return Ok(false);
                }
                // By the server's own names, and whether or not it passes: what it says changed has changed.
                self.relay.gateway.noticed(self.relay.armed.server(), &message);
                if self.strays(&message).await? {
                    return Ok(false);
                }
                let Some(message) = self.relay.exchange(message)? else { return Ok(false) };
                // What waits is judged together; a mask over the second half of something would hide from that what the first is.
                let masked = self.mask(&message, self.held.is_none()).await?;
                if let Err(refusal) = self.relay.questions_inside(&masked) {
                    self.unheard(&message, refusal.code).await?;
                    return Ok(false);
                }
                self.pass(sse::Event { data: Some(masked.into_bytes()), ..event }).await?;
                Ok(false)
            }
        }
    }

    async fn mask(&mut self, message: &Message, windowed: bool) -> Result<redact::Masked, Refusal> {
        let window = windowed.then_some(&mut self.window);
        let masked = self.relay.mask(message, window).await;
        self.relay.alarm().await;
        masked
    }

    async fn answer(&mut self, event: sse::Event, message: &Message) -> Result<bool, Refusal> {
        let masked = self.mask(message, false).await?;
        self.relay.questions_inside(&masked)?;
        let before = self.released()?;
        let endless = self.relay.asked.id.is_none();
        if !endless {
            self.relay.another_round(&masked).await?;
            let failure = self.relay.failure(&masked);
            self.relay.pending.done(200, Some(masked.measured()), failure).await?;
            self.answered = true;
        }
        for event in before {
            self.write(event).await;
        }
        self.write(sse::Event { data: Some(masked.into_bytes()), ..event }).await;
        Ok(!endless)
    }

    /// A question of the server to the client: allowed and recorded, or declined on the client's behalf.
    async fn question(&mut self, event: sse::Event, message: Message) -> Result<(), Refusal> {
        let method = message.method_name().unwrap_or_default().into_owned();
        let asks_by_url = || elicitation::judge(message.params()).map_err(no_url);
        let allowed = self.relay.may_ask(&method);
        let mut refused =
            allowed.and_then(|()| if method == "elicitation/create" { asks_by_url() } else { Ok(()) }).err();
        let known = self.relay.exchange(message.clone())?;
        if known.is_none() {
            refused =
                Some(Refusal::new(Code::TaskUnknown, "a question about a task that is not the caller's"));
        }
        let code = refused.as_ref().map(|refusal| refusal.code);
        let (intent, gateway) = (self.relay.armed.index(), Arc::clone(&self.relay.gateway));
        self.allowance.take(Instant::now())?;
        record::question(&gateway, &method, code, intent, self.relay.pending.trail()).await?;
        let Some(message) = known.filter(|_| refused.is_none()) else {
            self.decline(&message).await;
            return Ok(());
        };
        let masked = self.mask(&message, false).await?;
        self.write(sse::Event { data: Some(masked.into_bytes()), ..event }).await;
        Ok(())
    }

    /// Whether a notification of the server may pass: one of the specification, or one that the operator lists. Of
    /// others the first is recorded, so that a flood of them is none of the ledger.
    async fn may_tell(&mut self, message: &Message) -> Result<bool, Refusal> {
        let name = message.method_name().unwrap_or_default();
        if method::is_told(&name) || self.relay.armed.server().settings.methods.contains(&*name) {
            return Ok(true);
        }
        if !std::mem::replace(&mut self.untold, true) {
            self.unheard(message, Code::MethodUnknown).await?;
        }
        Ok(false)
    }

    /// Whether a notification is of another subscription than the one that this stream is for: its client could take it for
    /// the word of another server, on another of its streams. The first is recorded.
    async fn strays(&mut self, message: &Message) -> Result<bool, Refusal> {
        let said = message.params().and_then(|params| params.path(&["_meta", SUBSCRIPTION]));
        let Some(said) = said.filter(|_| self.relay.armed.era() == Era::Modern) else { return Ok(false) };
        let said = Id::from_json(Bytes::copy_from_slice(said.raw()));
        let own = self.relay.armed.message().and_then(Message::id);
        if said.is_some() && said == own {
            return Ok(false);
        }
        if !std::mem::replace(&mut self.astray, true) {
            self.unheard(message, Code::AnswerInvalid).await?;
        }
        Ok(true)
    }

    /// Records a message of the server that is not passed on.
    async fn unheard(&mut self, message: &Message, code: Code) -> Result<(), Refusal> {
        let method = message.method_name().unwrap_or_default().into_owned();
        let (intent, gateway) = (self.relay.armed.index(), Arc::clone(&self.relay.gateway));
        self.allowance.take(Instant::now())?;
        record::question(&gateway, &method, Some(code), intent, self.relay.pending.trail()).await
    }

    async fn decline(&self, message: &Message) {
        let Some(id) = message.id() else { return };
        let armed = &self.relay.armed;
        let part = armed.part();
        if let Some(Backend::Bridged(bridged)) = part.as_ref().map(|session| &session.backend) {
            return bridged.decline(id.raw());
        }
        match (&armed.server().upstream, part.as_ref()) {
            (Upstream::Group, _) => forward::decline(&self.relay.rules, armed, &id).await,
            (Upstream::Stdio(_), Some(session)) => {
                if let Backend::Stdio { process, .. } = &session.backend {
                    process.decline(id.raw(), &session.id).await;
                }
            }
            (Upstream::Http(peer), part) => {
                let Ok(mut headers) = armed.headers_in(part) else { return };
                headers.remove("last-event-id");
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                headers
                    .insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
                let body = portcullis_upstream::stdio::declined(id.raw());
                let _ = peer.send(Verb::Post, headers, body, &self.relay.rules.limits).await;
            }
            (Upstream::Stdio(_), None) => {}
        }
    }

    /// Writes an event, or holds it until the answer is there.
    async fn pass(&mut self, event: sse::Event) -> Result<(), Refusal> {
        let bytes_max = self.relay.rules.limits.answer_bytes_max;
        match &mut self.held {
            Some(held) => held.take(event, bytes_max)?,
            None => self.write(event).await,
        }
        Ok(())
    }

    /// What waited for the answer, judged together.
    fn released(&mut self) -> Result<Vec<sse::Event>, Refusal> {
        let Some(held) = &mut self.held else { return Ok(Vec::new()) };
        let relay = &mut self.relay;
        let findings = &mut relay.pending.trail().findings;
        held.release(&relay.rules.inspector, relay.armed.obligations(), findings)
    }

    async fn write(&self, event: sse::Event) {
        // An error means that the client is gone; whether that matters is decided in `pump`.
        let text = sse::encode(&event);
        let _ = offer(&self.to, text.len(), text).await;
    }
}

fn unread() -> Refusal {
    Refusal::new(Code::RequestUnread, "the client takes none of the events that wait for it")
}
