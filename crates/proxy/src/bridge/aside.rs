//! What a server of the older revision says on the stream of its session although it belongs to a call: many servers
//! ask there. It is taken to be about the call that runs; where several do, nobody can tell, and nobody is asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use portcullis_mcp::{
    bridge::answer_to_server,
    jsonrpc::{Message, Shape},
};
use portcullis_net::queue::try_offer;
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{link::Link, parse};

/// Messages that wait for one call.
const WAITING_MAX: usize = 16;
/// How long a server may take to open the stream until calls are made without it.
const OPENING: Duration = Duration::from_secs(1);
/// How long after its end the stream is opened anew.
const PAUSE: Duration = Duration::from_secs(1);

/// The calls of a session, by number, and who listens for them.
#[derive(Debug, Default)]
pub(super) struct Asides {
    calls: Mutex<HashMap<u64, mpsc::Sender<Message>>>,
    listening: OnceLock<AbortHandle>,
}

impl Asides {
    fn calls(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<Message>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call with this number runs: what is said about it comes here.
    pub(super) fn begin(&self, number: u64) -> mpsc::Receiver<Message> {
        let (to, from) = mpsc::channel(WAITING_MAX);
        self.calls().insert(number, to);
        from
    }

    /// It does not run any more, or waits for its client.
    pub(super) fn end(&self, number: u64) {
        self.calls().remove(&number);
    }

    /// Gives a message to the call that it is about. False where that is not certain, or the call takes no more.
    fn give(&self, message: Message) -> bool {
        let token = message.params().and_then(|params| params.get("progressToken")?.as_i64());
        let calls = self.calls();
        let of_token = token.and_then(|token| calls.get(&u64::try_from(token).ok()?));
        let only = || calls.values().next().filter(|_| calls.len() == 1);
        of_token.or_else(only).is_some_and(|call| try_offer(call, message.bytes().len(), message).is_ok())
    }

    pub(super) fn stop(&self) {
        if let Some(listening) = self.listening.get() {
            listening.abort();
        }
    }
}

/// Listens on the stream of a session until it ends. Comes back when the stream is open, or is not going to be soon.
pub(super) async fn listen(link: &Arc<Link>) {
    let (opened, open) = oneshot::channel();
    let task = tokio::spawn(keep_listening(Arc::downgrade(link), opened));
    let _ = link.asides.listening.set(task.abort_handle());
    let _ = timeout(OPENING, open).await;
}

async fn keep_listening(link: Weak<Link>, opened: oneshot::Sender<()>) {
    let mut opened = Some(opened);
    loop {
        let Some(own) = link.upgrade() else { return };
        let limits = own.limits.clone();
        let events = own.changes(&limits).await;
        drop(own);
        if let Some(opened) = opened.take() {
            let _ = opened.send(());
        }
        // A server without such a stream says so once.
        let Ok(Some(mut events)) = events else { return };
        while let Ok(Some(event)) = events.next(&limits, true).await {
            let Some(own) = link.upgrade() else { return };
            if let Some(data) = event.data.filter(|data| !data.is_empty()) {
                heard(&own, data).await;
            }
        }
        sleep(PAUSE).await;
    }
}

async fn heard(link: &Link, data: Bytes) {
    let Ok(message) = parse(data, &link.limits) else {
        tracing::warn!(server = %link.server.name, "a message on the stream of a session cannot be read");
        return;
    };
    let (shape, id) = (message.shape(), message.id());
    match (shape, id) {
        (Shape::Request, Some(id)) if message.method_name().as_deref() == Some("ping") => {
            let _ = link.answer(0, answer_to_server(id.raw(), b"{}")).await;
        }
        (Shape::Request, Some(id)) => {
            if !link.asides.give(message) {
                tracing::warn!(server = %link.server.name, "a question that could be of no or several calls is declined");
                link.decline(0, id.raw()).await;
            }
        }
        (Shape::Notification, _) => {
            if !link.asides.give(message) {
                tracing::debug!(server = %link.server.name, "a notification that could be of no or several calls");
            }
        }
        (Shape::Error | Shape::Request | Shape::Response, _) => {}
    }
}
