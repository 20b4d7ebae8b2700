//! A server that runs as child processes: which callers share one, how it is opened, and how lines find their way.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use portcullis_core::{Clock, Code, Digest, Limits, Refusal};
use portcullis_mcp::{
    json::{Edits, JsonLimits},
    jsonrpc::{Message, Shape},
    revision::Era,
    sse,
};
use portcullis_net::stdio::{Child, ChildOptions, Command, Environment};
use tokio::{
    sync::{Mutex as AsyncMutex, OnceCell, mpsc},
    time::timeout,
};

use super::pending::{Pending, Piece, Route, Sender};
use crate::rules::Isolation;

/// Messages waiting for one slow reader before the child's output waits too.
const LINES_WAITING_MAX: usize = 64;

/// Whose process it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    modern: bool,
    owner: String,
    params: Option<Digest>,
}

/// Who wants a process.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'a> {
    /// A caller, in a session or without one.
    Caller(&'a str),
    /// The gateway itself, to read the catalogue.
    Gateway,
}

/// A server that runs as child processes.
#[derive(Debug)]
pub struct StdioPeer {
    name: Arc<str>,
    command: Command,
    base: Environment,
    isolation: Isolation,
    clock: Arc<dyn Clock>,
    processes: AsyncMutex<HashMap<Key, Arc<Process>>>,
    /// Consecutive failures and the time before which no new child is started.
    backoff: Mutex<(u32, u64)>,
    modern_spoken: OnceCell<bool>,
    /// Told whenever a child says that one of its lists changed.
    pub changed: Arc<tokio::sync::Notify>,
}

impl StdioPeer {
    /// A server started by `command` on top of the environment `base`.
    #[must_use]
    pub fn new(
        name: Arc<str>,
        command: Command,
        base: Environment,
        isolation: Isolation,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            name,
            command,
            base,
            isolation,
            clock,
            processes: AsyncMutex::default(),
            backoff: Mutex::default(),
            modern_spoken: OnceCell::new(),
            changed: Arc::default(),
        }
    }

    /// The process for messages of revision 2026-07-28.
    ///
    /// # Errors
    /// `upstream.unavailable` when it cannot be started, `limit.concurrency` when there are too many.
    pub async fn modern(&self, owner: Owner<'_>, limits: &Limits) -> Result<Arc<Process>, Refusal> {
        self.process(Key { modern: true, owner: self.owner(owner, None), params: None }, limits).await
    }

    /// The process for a session of revision 2025-11-25, opened with `params`; and what it answered.
    ///
    /// # Errors
    /// As [`Self::modern`]; and the child's own refusal of `initialize`.
    pub async fn legacy(
        &self,
        owner: Owner<'_>,
        unique: Option<&str>,
        params: &Bytes,
        limits: &Limits,
    ) -> Result<(Arc<Process>, Bytes), Refusal> {
        let shared = self.isolation == Isolation::Shared;
        let params = if shared { Bytes::from_static(super::own::INITIALIZE) } else { params.clone() };
        let key = Key { modern: false, owner: self.owner(owner, unique), params: Some(Digest::of(&params)) };
        let process = self.process(key, limits).await?;
        let answer = process.initialize(params, limits).await?;
        Ok((process, answer))
    }

    fn owner(&self, owner: Owner<'_>, unique: Option<&str>) -> String {
        match (self.isolation, owner) {
            (Isolation::Shared, _) => String::new(),
            (Isolation::PerCaller | Isolation::PerSession, Owner::Gateway) => "gateway".into(),
            (Isolation::PerSession, Owner::Caller(caller)) => {
                format!("caller {caller} {}", unique.unwrap_or_default())
            }
            (Isolation::PerCaller, Owner::Caller(caller)) => format!("caller {caller}"),
        }
    }

    async fn process(&self, key: Key, limits: &Limits) -> Result<Arc<Process>, Refusal> {
        let mut processes = self.processes.lock().await;
        if let Some(process) = processes.get(&key).filter(|process| process.alive()) {
            process.touch(self.clock.ticks_us());
            return Ok(Arc::clone(process));
        }
        processes.retain(|_, process| process.alive());
        if processes.len() as u64 >= limits.children_max {
            let idlest = processes
                .iter()
                .filter(|(_, process)| process.idle())
                .min_by_key(|(_, process)| process.used_us.load(Ordering::Relaxed))
                .map(|(key, _)| key.clone());
            let Some(idlest) = idlest else {
                return Err(Refusal::new(
                    Code::LimitConcurrency,
                    "limits.children_max processes are all busy",
                ));
            };
            processes.remove(&idlest);
        }
        self.wait_allowed()?;
        let process = Process::start(&self.name, &self.command, &self.base, limits, &self.changed).map_err(
            |reason| {
                self.failed(limits);
                Refusal::new(Code::UpstreamUnavailable, reason)
            },
        )?;
        process.touch(self.clock.ticks_us());
        processes.insert(key, Arc::clone(&process));
        Ok(process)
    }

    fn wait_allowed(&self) -> Result<(), Refusal> {
        let (_, until) = *self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        let left_us = until.saturating_sub(self.clock.ticks_us());
        if left_us == 0 {
            return Ok(());
        }
        let seconds = u32::try_from(left_us.div_ceil(1_000_000)).unwrap_or(u32::MAX);
        Err(Refusal::new(Code::UpstreamUnavailable, "the child keeps failing and is started again later")
            .retry_after_s(seconds))
    }

    /// A child failed before it answered anything: the next start waits, twice as long each time.
    pub fn failed(&self, limits: &Limits) {
        let mut backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        let pause_ms = (100_u64 << backoff.0.min(20)).min(limits.child_backoff_max_ms);
        *backoff = (backoff.0.saturating_add(1), self.clock.ticks_us() + pause_ms * 1000);
    }

    /// A child answered: the next failure starts from the beginning.
    pub fn worked(&self) {
        *self.backoff.lock().unwrap_or_else(PoisonError::into_inner) = (0, 0);
    }

    /// Whether the server speaks revision 2026-07-28; asked once.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn speaks_modern(&self, limits: &Limits) -> Result<bool, Refusal> {
        let ask = || async { self.offer(limits).await.map(|offer| offer.era == Era::Modern) };
        self.modern_spoken.get_or_try_init(ask).await.copied()
    }

    /// Ends processes nobody has used for the idle time of a session.
    pub async fn sweep(&self, limits: &Limits) {
        let now = self.clock.ticks_us();
        let idle_us = limits.session_idle_ms * 1000;
        let busy = |process: &Arc<Process>| {
            !process.idle() || now.saturating_sub(process.used_us.load(Ordering::Relaxed)) < idle_us
        };
        self.processes.lock().await.retain(|_, process| process.alive() && busy(process));
    }

    /// Ends the process of a session that has one of its own.
    pub async fn end(&self, process: &Arc<Process>) {
        if self.isolation == Isolation::PerSession {
            self.processes.lock().await.retain(|_, held| !Arc::ptr_eq(held, process));
            process.child.shutdown().await;
        }
    }

    /// Ends all processes in order.
    pub async fn shutdown(&self) {
        let processes: Vec<_> = self.processes.lock().await.drain().map(|(_, process)| process).collect();
        for process in processes {
            process.child.shutdown().await;
        }
    }
}

/// One child process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pending: Mutex<Pending>,
    opened: OnceCell<Bytes>,
    alive: AtomicBool,
    used_us: AtomicU64,
}

impl Process {
    fn start(
        name: &Arc<str>,
        command: &Command,
        base: &Environment,
        limits: &Limits,
        changed: &Arc<tokio::sync::Notify>,
    ) -> Result<Arc<Self>, String> {
        let options = ChildOptions::new(Arc::clone(name), limits, base.clone());
        let (child, lines) = Child::spawn(command, &options).map_err(|error| error.to_string())?;
        let process = Arc::new(Self {
            child,
            pending: Mutex::default(),
            opened: OnceCell::new(),
            alive: AtomicBool::new(true),
            used_us: AtomicU64::new(0),
        });
        let reader = Reader {
            server: Arc::clone(name),
            limits: JsonLimits::answer(limits),
            // Weak: the child ends when nobody else holds its process, and the reader with it.
            process: Arc::downgrade(&process),
            changed: Arc::clone(changed),
        };
        tokio::spawn(reader.run(lines));
        Ok(process)
    }

    /// Whether the child still runs.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    fn idle(&self) -> bool {
        self.pending().idle()
    }

    fn touch(&self, now_us: u64) {
        self.used_us.store(now_us, Ordering::Relaxed);
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn initialize(&self, params: Bytes, limits: &Limits) -> Result<Bytes, Refusal> {
        let open = || async {
            let answer = self.own_request("initialize", &params, limits).await?;
            if let Shape::Response = answer.shape() {
                self.write(Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#))
                    .await?;
            }
            Ok::<_, Refusal>(answer.bytes().clone())
        };
        self.opened.get_or_try_init(open).await.cloned()
    }

    /// Sends a request of the gateway itself and waits for its answer.
    ///
    /// # Errors
    /// `upstream.timeout`, `upstream.unavailable` or `answer.invalid`.
    pub async fn own_request(
        &self,
        method: &str,
        params: &[u8],
        limits: &Limits,
    ) -> Result<Message, Refusal> {
        let (to, mut from) = mpsc::channel(LINES_WAITING_MAX);
        let number = self.pending().register_own(to);
        let guard = Forget { process: self, number };
        let params = String::from_utf8_lossy(params);
        let line = format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"{method}","params":{params}}}"#);
        self.write(Bytes::from(line)).await?;
        let wait = Duration::from_millis(limits.first_byte_timeout_ms);
        let answer = timeout(wait, from.recv())
            .await
            .map_err(|_| Refusal::new(Code::UpstreamTimeout, format!("no answer to `{method}` in time")))?;
        drop(guard);
        let bytes = answer.ok_or_else(gone)?.bytes;
        Message::parse(bytes, &JsonLimits::answer(limits))
            .map_err(|error| Refusal::new(Code::AnswerInvalid, error.to_string()))
    }

    /// Sends a client's request; its answers come out of the returned lines.
    ///
    /// # Errors
    /// `upstream.unavailable` when the child is gone.
    pub async fn request(
        self: &Arc<Self>,
        message: &Message,
        session: Option<&str>,
        cancel_on_drop: bool,
    ) -> Result<Lines, Refusal> {
        let (to, from) = mpsc::channel(LINES_WAITING_MAX);
        let registered = self.pending().register(message, session, to);
        let (number, line) =
            registered.ok_or_else(|| Refusal::new(Code::RequestInvalid, "a request needs an id"))?;
        let mut lines = Lines::new(self, from);
        (lines.number, lines.cancel_on_drop) = (Some(number), cancel_on_drop);
        self.write(line).await?;
        Ok(lines)
    }

    /// Sends a client's notification; a cancellation is re-addressed to the call it means.
    ///
    /// # Errors
    /// `upstream.unavailable` when the child is gone.
    pub async fn notify(&self, message: &Message, session: Option<&str>) -> Result<(), Refusal> {
        let line = match message.method_name().as_deref() {
            // The gateway told the child itself when it opened it.
            Some("notifications/initialized") => return Ok(()),
            Some("notifications/cancelled") => {
                let Some(id) = message.params().and_then(|params| params.get("requestId")) else {
                    return Ok(());
                };
                let Some(number) = self.pending().number_of(session, id.raw()) else { return Ok(()) };
                let mut edits = Edits::new();
                edits.replace(id.span(), number.to_string().into_bytes());
                edits
                    .apply(message.bytes())
                    .map_err(|error| Refusal::new(Code::Internal, error.to_string()))?
            }
            _ => message.bytes().clone(),
        };
        self.write(line).await
    }

    /// Sends a client's answer to a question that the server asked in this session.
    ///
    /// # Errors
    /// `request.invalid` when it asked no such question.
    pub async fn answer(&self, message: &Message, session: &str) -> Result<(), Refusal> {
        let asked = message.id().is_some_and(|id| self.pending().take_question(session, id.raw()));
        if !asked {
            return Err(Refusal::new(
                Code::RequestInvalid,
                "an answer to a question that was not asked here",
            ));
        }
        self.write(message.bytes().clone()).await
    }

    /// Refuses a question on behalf of the client.
    pub async fn decline(&self, id: &[u8], session: &str) {
        self.pending().take_question(session, id);
        let _ = self.write(declined(id)).await;
    }

    /// Opens the event stream of a session; an older one of the same session ends.
    #[must_use]
    pub fn open_stream(self: &Arc<Self>, session: &str) -> Lines {
        let (to, from) = mpsc::channel(LINES_WAITING_MAX);
        self.pending().open_stream(session, to);
        let mut lines = Lines::new(self, from);
        lines.session = Some(session.to_owned());
        lines
    }

    /// Forgets a session that ended.
    pub fn close_session(&self, session: &str) {
        self.pending().close_session(session);
    }

    async fn write(&self, line: Bytes) -> Result<(), Refusal> {
        self.child.send_line(line).await.map_err(|_| gone())
    }
}

fn gone() -> Refusal {
    Refusal::new(Code::UpstreamUnavailable, "the child process ended")
}

/// The answer to a question that is refused on behalf of a client.
#[must_use]
pub fn declined(id: &[u8]) -> Bytes {
    let id = String::from_utf8_lossy(id);
    let text =
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"not available here"}}}}"#);
    Bytes::from(text)
}

/// Takes a registration back when its request is given up.
struct Forget<'a> {
    process: &'a Process,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.process.pending().forget(self.number);
    }
}

/// Reads the child's lines and sends each where it belongs.
struct Reader {
    server: Arc<str>,
    limits: JsonLimits,
    process: Weak<Process>,
    changed: Arc<tokio::sync::Notify>,
}

impl Reader {
    async fn run(self, mut lines: mpsc::Receiver<Bytes>) {
        while let Some(line) = lines.recv().await {
            let message = match Message::parse(line, &self.limits) {
                Ok(message) => message,
                Err(error) => {
                    tracing::warn!(server = %self.server, %error, "a line of the child is no MCP message; dropped");
                    continue;
                }
            };
            let Some(process) = self.process.upgrade() else { return };
            self.hand_on(&process, &message).await;
        }
        if let Some(process) = self.process.upgrade() {
            process.alive.store(false, Ordering::Release);
            process.pending().fail_all();
        }
    }

    async fn hand_on(&self, process: &Process, message: &Message) {
        if message.method_name().is_some_and(|name| name.ends_with("/list_changed")) {
            self.changed.notify_waiters();
        }
        let route = process.pending().route(message);
        match route {
            Route::Deliver(to, piece) => deliver(&to, &piece).await,
            Route::Unroutable(id) => {
                tracing::warn!(server = %self.server, "the server asked a question that belongs to no session; declined");
                let _ = process.write(declined(&id)).await;
            }
            Route::Drop => {
                tracing::debug!(server = %self.server, "a message of the child that nobody waits for; dropped");
            }
        }
    }
}

/// A reader that does not read is waited for briefly, then loses the message: one stuck client must not stop the
/// child for everybody else.
async fn deliver(to: &[Sender], piece: &Piece) {
    for sender in to {
        if let Err(mpsc::error::TrySendError::Full(piece)) = sender.try_send(piece.clone()) {
            let _ = timeout(Duration::from_secs(5), sender.send(piece)).await;
        }
    }
}

/// Lines of a child that concern one call or one session.
#[derive(Debug)]
pub struct Lines {
    process: Arc<Process>,
    from: mpsc::Receiver<Piece>,
    first: Option<Piece>,
    answered: bool,
    number: Option<u64>,
    session: Option<String>,
    cancel_on_drop: bool,
}

impl Lines {
    fn new(process: &Arc<Process>, from: mpsc::Receiver<Piece>) -> Self {
        let process = Arc::clone(process);
        Self {
            process,
            from,
            first: None,
            answered: false,
            number: None,
            session: None,
            cancel_on_drop: false,
        }
    }

    /// Waits for the first message; gives it back if it is the answer, keeps it for [`Self::next`] otherwise.
    ///
    /// # Errors
    /// As for events.
    pub async fn only(&mut self, limits: &Limits, endless: bool) -> Result<Option<Bytes>, Refusal> {
        let piece = self.receive(limits, endless).await?.ok_or_else(gone)?;
        if piece.last && !endless {
            self.answered = true;
            return Ok(Some(piece.bytes));
        }
        self.first = Some(piece);
        Ok(None)
    }

    pub(super) async fn next(
        &mut self,
        limits: &Limits,
        endless: bool,
    ) -> Result<Option<sse::Event>, Refusal> {
        let piece = match self.first.take() {
            Some(piece) => Some(piece),
            None if self.answered => None,
            None => self.receive(limits, endless).await?,
        };
        let Some(piece) = piece else { return Ok(None) };
        self.answered |= piece.last;
        Ok(Some(sse::Event::message(piece.bytes)))
    }

    async fn receive(&mut self, limits: &Limits, endless: bool) -> Result<Option<Piece>, Refusal> {
        let received = if endless {
            self.from.recv().await
        } else {
            timeout(Duration::from_millis(limits.first_byte_timeout_ms), self.from.recv())
                .await
                .map_err(|_elapsed| Refusal::new(Code::UpstreamTimeout, "the child did not answer in time"))?
        };
        match received {
            Some(piece) => Ok(Some(piece)),
            None if self.process.alive() => Ok(None),
            None => Err(gone()),
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            // Only if it is still ours: a newer stream of the session may have taken over.
            if self.from.is_closed() {
                return;
            }
            self.process.pending().close_stream(&session);
        }
        let Some(number) = self.number else { return };
        let unanswered = self.process.pending().forget(number);
        if unanswered && self.cancel_on_drop {
            // Specification 2026-07-28, stdio: a request is cancelled by notification.
            let line = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number}}}}}"#
            );
            let process = Arc::clone(&self.process);
            tokio::spawn(async move { process.write(Bytes::from(line)).await });
        }
    }
}
