//! Standard input and output as a front door: what a host writes on one pipe goes through the same pipeline as what
//! comes over HTTP, and what comes back is written on the other, one message per line (specification, stdio).
//!
//! A line becomes one call of [`Gateway::answer`], with the headers that an HTTP client of its revision would send; so
//! every check, every limit and every entry is the same. Both revisions may use the same pipe: each message says by
//! its `_meta` which one it is in.

mod answer;
mod lines;
mod request;
mod session;

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use portcullis_mcp::{
    jsonrpc::{Id, Message, Shape},
    revision::Era,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};

use self::{lines::Lines, session::Open};
use crate::gateway::Gateway;

/// Lines on their way to a host that reads slowly; calls wait beyond.
const LINES_WAITING_MAX: usize = 64;

/// Messages worked on at once beyond the calls that a caller may have: those that are refused, and notifications. Then
/// nothing more is read until one of them is done.
const MESSAGES_SPARE: usize = 64;

/// How long the end of a session may take when everything else is over.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Why serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The host closed our input; calls that ran had their time to finish.
    InputClosed,
    /// The host does not read our output any more.
    OutputClosed,
    /// It was told to stop.
    Stopped,
}

/// Serves `server` of `gateway` on `input` and `output` until the input ends, nobody reads the output, or `stop` turns
/// true. After the end of the input calls that run may finish within `grace`.
pub async fn serve<R, W>(
    gateway: Arc<Gateway>,
    server: Arc<str>,
    (input, output): (R, W),
    grace: Duration,
    mut stop: watch::Receiver<bool>,
) -> Ended
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let limits = gateway.rules.load().limits.clone();
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let most = size(limits.caller_calls_max).saturating_add(MESSAGES_SPARE);
    let (out, waiting) = mpsc::channel(LINES_WAITING_MAX);
    let writer = tokio::spawn(write(output, waiting));
    let front = Arc::new(Front {
        gateway,
        server,
        out,
        session: Mutex::default(),
        calls: Mutex::default(),
        numbers: AtomicU64::new(0),
    });
    let mut lines = Lines::new(input, size(limits.body_bytes_max));
    let mut tasks = JoinSet::new();
    let mut ended = loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break Ended::Stopped,
            () = front.out.closed() => break Ended::OutputClosed,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            line = lines.next(), if tasks.len() < most => match line {
                Some(line) => tokio::select! {
                    () = stopped(&mut stop) => break Ended::Stopped,
                    () = front.take(line, &mut tasks) => {}
                },
                None => break Ended::InputClosed,
            },
        }
    };
    front.end_streams();
    if ended == Ended::InputClosed {
        let drained = async { while tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = stopped(&mut stop) => ended = Ended::Stopped,
            () = front.out.closed() => ended = Ended::OutputClosed,
            _late = timeout(grace, drained) => {}
        }
    }
    tasks.shutdown().await;
    let _late = timeout(LAST_WORD, front.end_session()).await;
    drop(front);
    // What was answered is written before the end; a host that does not read is not waited for.
    let _late = timeout(LAST_WORD, writer).await;
    ended
}

/// A sender that is gone cannot ask for a stop any more: that is one, too.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _gone = stop.wait_for(|stop| *stop).await.is_err();
}

/// Writes lines until there are no more, or nobody reads them; the dropped receiver tells.
async fn write<W: AsyncWrite + Unpin>(mut output: W, mut waiting: mpsc::Receiver<Bytes>) -> io::Result<()> {
    while let Some(line) = waiting.recv().await {
        output.write_all(&line).await?;
        if waiting.is_empty() {
            output.flush().await?;
        }
    }
    output.flush().await
}

/// One host on the other end of the pipes.
#[derive(Debug)]
struct Front {
    gateway: Arc<Gateway>,
    server: Arc<str>,
    out: mpsc::Sender<Bytes>,
    /// The session of revision 2025-11-25, once one is open.
    session: Mutex<Option<Open>>,
    /// Requests that are worked on, by canonical id.
    calls: Mutex<HashMap<Bytes, Running>>,
    numbers: AtomicU64,
}

/// A request that is worked on.
#[derive(Debug)]
struct Running {
    /// Tells it from another one with the same id.
    number: u64,
    era: Era,
    endless: bool,
    cancel: oneshot::Sender<()>,
}

impl Front {
    /// Takes one line. What opens a session is done before the next line is read, since that needs the session.
    async fn take(self: &Arc<Self>, line: Bytes, tasks: &mut JoinSet<()>) {
        let rules = self.gateway.rules.load_full();
        let front = Arc::clone(self);
        // What cannot be parsed is the pipeline's to refuse and to record.
        let Ok(message) = Message::parse(line.clone(), &rules.request) else {
            tasks.spawn(async move { front.unreadable(line).await });
            return;
        };
        match (message.shape(), message.method_name().as_deref()) {
            (Shape::Request, Some("initialize")) if request::stated(&message).is_none() => {
                self.initialize(message).await;
            }
            (Shape::Request, _) => self.request(message, tasks),
            (Shape::Notification, Some("notifications/initialized")) => {
                self.open_stream().await;
                self.notify(message).await;
            }
            (Shape::Notification, Some("notifications/cancelled")) => {
                let cancelled = self.cancelled(&message);
                tasks.spawn(async move { front.cancel(message, cancelled).await });
            }
            (Shape::Notification | Shape::Response | Shape::Error, _) => {
                tasks.spawn(async move { front.notify(message).await });
            }
        }
    }

    fn request(self: &Arc<Self>, message: Message, tasks: &mut JoinSet<()>) {
        let Some(id) = message.id() else { return };
        let era = request::era(&message);
        let endless = message.method_name().as_deref() == Some("subscriptions/listen");
        let (cancel, cancelled) = oneshot::channel();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let key = Bytes::copy_from_slice(id.canonical());
        self.calls().insert(key.clone(), Running { number, era, endless, cancel });
        let front = Arc::clone(self);
        tasks.spawn(async move {
            tokio::select! {
                Ok(()) = cancelled => {}
                () = front.call(message, &id, endless) => {}
            }
            let mut calls = front.calls();
            if calls.get(&key).is_some_and(|running| running.number == number) {
                calls.remove(&key);
            }
        });
    }

    /// The request that a cancellation means, which is then no longer waited for.
    fn cancelled(&self, message: &Message) -> Option<Running> {
        let id = message.params()?.get("requestId")?;
        let id = Id::from_json(Bytes::copy_from_slice(id.raw()))?;
        self.calls().remove(id.canonical())
    }

    /// Under 2026-07-28 dropping the call is what cancels it; under 2025-11-25 the server is told. Either way no answer
    /// follows (specification, cancellation).
    async fn cancel(&self, message: Message, running: Option<Running>) {
        let told = running.as_ref().is_none_or(|running| running.era == Era::Legacy);
        if told && self.session_id().is_some() {
            self.notify(message).await;
        }
        if let Some(running) = running {
            let _done = running.cancel.send(());
        }
    }

    /// Ends what has no end of its own.
    fn end_streams(&self) {
        let mut calls = self.calls();
        let endless: Vec<_> =
            calls.iter().filter(|(_, running)| running.endless).map(|(id, _)| id.clone()).collect();
        for running in endless.iter().filter_map(|id| calls.remove(id)) {
            let _done = running.cancel.send(());
        }
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, HashMap<Bytes, Running>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
