//! The session of revision 2025-11-25 that a host has without knowing it: opened, kept, listened to, ended.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use portcullis_mcp::{
    jsonrpc::{Id, Message},
    revision::Era,
};
use tokio::{
    sync::oneshot,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    Front,
    answer::{Heard, Wanted},
    request,
};
use crate::body::{Body, Inbound};
use portcullis_upstream::{Verb, headers::SESSION};

/// How long the first notification waits for the event stream, so that no question of the server comes too early. A
/// server may hold back the start of a stream that has nothing to say.
const STREAM_OPENS: Duration = Duration::from_millis(300);

/// Pause before a stream that ended is opened again; it doubles up to the second one while streams end early.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The session.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) id: String,
    /// The version that the server agreed to.
    pub(super) version: Option<String>,
    listener: Option<AbortHandle>,
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(listener) = self.open().and_then(|session| session.listener) {
            listener.abort();
        }
    }
}

impl Front {
    /// The session as it is now.
    pub(super) fn open(&self) -> Option<Open> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn session_id(&self) -> Option<String> {
        self.open().map(|session| session.id)
    }

    /// Carries `initialize` and remembers the session that its answer opens.
    pub(super) async fn initialize(&self, message: Message) {
        let Some(id) = message.id() else { return };
        self.end_session().await;
        let head = self.head(&message).await;
        let response = self.ask(head, message.bytes().clone()).await;
        let session = response.headers().get(SESSION).and_then(|id| id.to_str().ok()).map(str::to_owned);
        if let Some(id) = session {
            let open = Open { id, version: None, listener: None };
            *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(open);
        }
        self.relay(response, Wanted::Answer(&id)).await;
    }

    /// Remembers the version in the answer to `initialize`.
    pub(super) fn agreed(&self, answer: &Message) {
        let version = answer.result().and_then(|result| result.get("protocolVersion")?.as_str());
        let version = version.filter(|version| Era::of(version) == Some(Era::Legacy));
        if let (Some(version), Some(session)) =
            (version, self.session.lock().unwrap_or_else(PoisonError::into_inner).as_mut())
            && session.version.is_none()
        {
            session.version = Some(version.into_owned());
        }
    }

    /// Opens the stream on which the server speaks unasked.
    pub(super) async fn open_stream(self: &Arc<Self>) {
        let Some(session) = self.open() else { return };
        let (opened, opens) = oneshot::channel();
        // Weak: the stream must not keep alive what it writes to.
        let front = Arc::downgrade(self);
        let id = session.id.clone();
        let listener = tokio::spawn(async move {
            let (mut last, mut opened, mut pause) = (None, Some(opened), PAUSES.0);
            while let Some(front) = front.upgrade().filter(|front| front.session_id().as_ref() == Some(&id)) {
                let begun = Instant::now();
                let Some(heard) = front.listen(&mut last, &mut opened).await else { return };
                drop(front);
                pause = if begun.elapsed() > PAUSES.1 { PAUSES.0 } else { pause };
                sleep(heard.retry.map_or(pause, |retry| retry.clamp(PAUSES.0 / 10, PAUSES.1))).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        });
        if let Some(session) = self.session.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
            && let Some(before) = session.listener.replace(listener.abort_handle())
        {
            before.abort();
        }
        let _late = timeout(STREAM_OPENS, opens).await;
    }

    /// Reads one stream of the session to its end; `None` when there is no use in another.
    async fn listen(
        &self,
        last: &mut Option<String>,
        opened: &mut Option<oneshot::Sender<()>>,
    ) -> Option<Heard> {
        let response = self.stream(last.as_deref()).await?;
        if let Some(opened) = opened.take() {
            let _gone = opened.send(());
        }
        let status = response.status();
        if !status.is_success() {
            let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            return again.then(Heard::default);
        }
        let heard = self.relay(response, Wanted::Nothing).await;
        if heard.last.is_some() {
            last.clone_from(&heard.last);
        }
        Some(heard)
    }

    /// Opens a stream of the session, after the event that was read last.
    pub(super) async fn stream(&self, last: Option<&str>) -> Option<Response<Body>> {
        let session = self.open()?;
        let mut head = request::head(Verb::Get, &self.server, &self.gateway.rules.load());
        request::in_session(&mut head.headers, &session);
        if let Some(Ok(last)) = last.map(HeaderValue::try_from) {
            head.headers.insert("last-event-id", last);
        }
        Some(self.ask(head, Bytes::new()).await)
    }

    /// Ends the session, if there is one.
    pub(super) async fn end_session(&self) {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(session) = session else { return };
        if let Some(listener) = &session.listener {
            listener.abort();
        }
        let mut head = request::head(Verb::Delete, &self.server, &self.gateway.rules.load());
        request::in_session(&mut head.headers, &session);
        self.ask(head, Bytes::new()).await;
    }

    /// Sends a request through the pipeline.
    pub(super) async fn ask(&self, head: http::request::Parts, body: Bytes) -> Response<Body> {
        // Boxed: the pipeline is one large future.
        Box::pin(Arc::clone(&self.gateway).answer(&self.server, head, Inbound::Whole(body))).await
    }

    /// Carries a request whose answer is `id`'s.
    pub(super) async fn call(&self, message: Message, id: &Id, endless: bool) {
        let head = self.head(&message).await;
        let response = self.ask(head, message.bytes().clone()).await;
        let wanted = if endless { Wanted::Subscription(id) } else { Wanted::Answer(id) };
        self.relay(response, wanted).await;
    }

    /// Carries a message that has no answer. A refusal of it is in the log and in the ledger; the host is told nothing.
    pub(super) async fn notify(&self, message: Message) {
        let head = self.head(&message).await;
        self.ask(head, message.bytes().clone()).await;
    }

    /// Has the pipeline refuse what is no message.
    pub(super) async fn unreadable(&self, line: Bytes) {
        let head = request::head(Verb::Post, &self.server, &self.gateway.rules.load());
        let response = self.ask(head, line).await;
        self.relay(response, Wanted::Refusal).await;
    }
}
