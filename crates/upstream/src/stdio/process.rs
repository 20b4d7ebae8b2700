//! One child process: its lines, and who waits for which of them.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use portcullis_core::{Code, Digest, Limits, Refusal};
use portcullis_mcp::{
    json::{Edits, JsonLimits},
    jsonrpc::{Message, Shape},
    sse,
};
use portcullis_net::stdio::{Child, ChildOptions, Command, SpawnError};
use portcullis_secrets::Broker;
use tokio::{
    sync::{OnceCell, mpsc},
    time::{Instant, timeout},
};

use super::super::{
    pending::{Pending, Piece},
    sse::{SseLink, SseServer},
};
use super::{
    backoff::{End, LIVED},
    program,
    reader::Reader,
};

/// Messages waiting for one slow reader before the child's output waits too.
const LINES_WAITING_MAX: usize = 64;

/// How a channel to a server is opened.
#[derive(Debug)]
pub(super) enum How<'a> {
    Child(&'a Command, Box<ChildOptions>),
    Connection(&'a SseServer),
}

/// What a channel to a server runs over.
#[derive(Debug)]
enum Link {
    Child(Child),
    Sse(Box<SseLink>),
}

impl Link {
    fn open(start: &Start<'_>, limits: &Limits) -> Result<(Self, mpsc::Receiver<Bytes>), Refusal> {
        let (command, mut options) = match start.how {
            How::Child(command, ref options) => (command, options.clone()),
            How::Connection(server) => {
                let (link, messages) = server.connect(start.name, limits);
                return Ok((Self::Sse(Box::new(link)), messages));
            }
        };
        let without = super::masking::without(command.env.values());
        options.stderr_filter = Some(match start.guard {
            Some(guard) => {
                let censor = guard.censor(start.name, command.env.values());
                Arc::new(move |line| without(censor(line)))
            }
            None => without,
        });
        let (child, lines) = Child::spawn(command, &options).map_err(|error| {
            let code = match &error {
                SpawnError::Sandbox(_) => Code::SandboxUnavailable,
                SpawnError::Os { .. } | SpawnError::Stillborn { .. } => Code::UpstreamUnavailable,
            };
            Refusal::new(code, error.to_string())
        })?;
        Ok((Self::Child(child), lines))
    }
}

/// What a process is started with.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) name: &'a Arc<str>,
    pub(super) how: How<'a>,
    pub(super) shared: bool,
    pub(super) changed: &'a Arc<tokio::sync::Notify>,
    /// What looks for the secrets that it is given.
    pub(super) guard: Option<&'a Arc<Broker>>,
}

/// One child process, or one connection that is used like one.
#[derive(Debug)]
pub struct Process {
    link: Link,
    pending: Mutex<Pending>,
    opened: OnceCell<Bytes>,
    born: Instant,
    /// How long it lived, when it is dead.
    lived: OnceLock<Duration>,
    alive: AtomicBool,
    /// It was given what has been replaced: it ends once its calls have.
    pub(super) retired: AtomicBool,
    /// What it was given.
    pub(super) given: Option<Digest>,
    spoke: AtomicBool,
    /// The child agreed to be opened.
    agreed: AtomicBool,
    /// The child was opened and not yet told so: its client does that.
    unconfirmed: AtomicBool,
    pub(super) used_us: AtomicU64,
}

impl Process {
    pub(super) fn start(start: &Start<'_>, limits: &Limits) -> Result<Arc<Self>, Refusal> {
        let given = match start.how {
            How::Child(command, _) => Some(program::given(command)),
            How::Connection(_) => None,
        };
        let (link, lines) = Link::open(start, limits)?;
        let process = Arc::new(Self {
            link,
            pending: Mutex::new(Pending::new(start.shared)),
            opened: OnceCell::new(),
            born: Instant::now(),
            lived: OnceLock::new(),
            alive: AtomicBool::new(true),
            retired: AtomicBool::new(false),
            given,
            spoke: AtomicBool::new(false),
            agreed: AtomicBool::new(false),
            unconfirmed: AtomicBool::new(false),
            used_us: AtomicU64::new(0),
        });
        tokio::spawn(Reader::new(start, limits, &process).run(lines));
        Ok(process)
    }

    /// Whether the child still runs.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Ends the process or the connection in order.
    pub(super) async fn shutdown(&self) {
        match &self.link {
            Link::Child(child) => drop(child.shutdown().await),
            Link::Sse(link) => link.close(),
        }
    }

    /// Lets nobody use the process any more.
    pub(super) fn over(&self) {
        self.alive.store(false, Ordering::Release);
    }

    /// The child said something of meaning.
    pub(super) fn heard(&self) {
        self.spoke.store(true, Ordering::Release);
    }

    /// The child is gone; whoever waits for it hears that.
    pub(super) fn died(&self) {
        let _before = self.lived.set(self.born.elapsed());
        self.over();
        self.pending().fail_all();
    }

    /// Who began to wait when the child was gone already hears that, too: nobody else would ever say so.
    fn fail_late(&self) {
        if !self.alive() {
            self.pending().fail_all();
        }
    }

    /// How it ended, once it has.
    pub(super) fn end(&self) -> End {
        let lived = self.lived.get().copied().unwrap_or(LIVED);
        End::of(self.spoke.load(Ordering::Acquire), self.pending().served(), lived)
    }

    pub(super) fn idle(&self) -> bool {
        self.pending().idle()
    }

    pub(super) fn touch(&self, now_us: u64) {
        self.used_us.store(now_us, Ordering::Relaxed);
    }

    pub(super) fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the child, once. With `confirms` it is told at once that it is open.
    pub(super) async fn initialize(
        &self,
        params: Bytes,
        limits: &Limits,
        confirms: bool,
    ) -> Result<Bytes, Refusal> {
        let open = || async {
            let answer = self.own_request("initialize", &params, limits).await?;
            if let Shape::Response = answer.shape() {
                self.agreed.store(true, Ordering::Release);
                self.unconfirmed.store(true, Ordering::Release);
                if confirms {
                    self.confirm().await?;
                }
            }
            Ok::<_, Refusal>(answer.bytes().clone())
        };
        self.opened.get_or_try_init(open).await.cloned()
    }

    /// What the child answered when it was opened; nothing if it refused to be.
    pub(super) fn answer_to_initialize(&self) -> Option<Bytes> {
        self.opened.get().filter(|_| self.agreed.load(Ordering::Acquire)).cloned()
    }

    /// Tells the child that it is open, unless it knows.
    ///
    /// # Errors
    /// `upstream.unavailable` when the child is gone.
    pub async fn confirm(&self) -> Result<(), Refusal> {
        if !self.unconfirmed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.write(Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)).await
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
        self.fail_late();
        let guard = Forget { process: self, number };
        let params = String::from_utf8_lossy(params);
        let line = format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"{method}","params":{params}}}"#);
        self.write(Bytes::from(line)).await?;
        let wait = Duration::from_millis(limits.first_byte_timeout_ms);
        let late = |_| Refusal::new(Code::UpstreamTimeout, format!("no answer to `{method}` in time"));
        let answer = timeout(wait, from.recv()).await.map_err(late)?;
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
        self.fail_late();
        self.write(line).await?;
        Ok(lines)
    }

    /// Sends a client's notification; a cancellation is re-addressed to the call it means.
    ///
    /// # Errors
    /// `upstream.unavailable` when the child is gone.
    pub async fn notify(&self, message: &Message, session: Option<&str>) -> Result<(), Refusal> {
        let line = match message.method_name().as_deref() {
            // In most cases the gateway told the child itself when it opened it.
            Some("notifications/initialized") => return self.confirm().await,
            Some("notifications/cancelled") => {
                let id = message.params().and_then(|params| params.get("requestId"));
                let Some(id) = id else { return Ok(()) };
                let Some(number) = self.pending().cancel(session, id.raw()) else { return Ok(()) };
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
            let what = "an answer to a question that was not asked here";
            return Err(Refusal::new(Code::RequestInvalid, what));
        }
        self.write(message.bytes().clone()).await
    }

    /// Refuses a question on behalf of the client.
    pub async fn decline(&self, id: &[u8], session: &str) {
        self.pending().take_question(session, id);
        let _ = self.write(declined(id)).await;
    }

    /// The one call of a session waits for its client, or goes on: while it waits it asks nothing.
    pub fn pause(&self, session: &str, waits: bool) {
        self.pending().pause(session, waits);
    }

    /// Opens the event stream of a session; an older one of the same session ends.
    #[must_use]
    pub fn open_stream(self: &Arc<Self>, session: &str) -> Lines {
        let (to, from) = mpsc::channel(LINES_WAITING_MAX);
        self.pending().open_stream(session, to);
        self.fail_late();
        let mut lines = Lines::new(self, from);
        lines.session = Some(session.to_owned());
        lines
    }

    /// Forgets a session that ended.
    pub fn close_session(&self, session: &str) {
        self.pending().close_session(session);
    }

    pub(super) async fn write(&self, line: Bytes) -> Result<(), Refusal> {
        match &self.link {
            Link::Child(child) => child.send_line(on_one_line(line)).await.map_err(|_| gone()),
            Link::Sse(link) => link.send(line).await,
        }
    }
}

/// The transport ends a message with a line break, so none may stand inside. Strings of JSON hold none as they are:
/// whatever the parser let through stands between members, where a space means the same.
fn on_one_line(message: Bytes) -> Bytes {
    if memchr::memchr2(b'\n', b'\r', &message).is_none() {
        return message;
    }
    message.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

fn gone() -> Refusal {
    Refusal::new(Code::UpstreamUnavailable, "the child process, or the connection, ended")
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

/// Lines of a child that concern one call or one session.
#[derive(Debug)]
pub struct Lines {
    process: Arc<Process>,
    from: mpsc::Receiver<Piece>,
    first: Option<Piece>,
    begun: bool,
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
            begun: false,
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

    pub(crate) async fn next(
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
            let wait = if self.begun { limits.idle_timeout_ms } else { limits.first_byte_timeout_ms };
            timeout(Duration::from_millis(wait), self.from.recv())
                .await
                .map_err(|_elapsed| Refusal::new(Code::UpstreamTimeout, "the child did not answer in time"))?
        };
        self.begun = true;
        match received {
            Some(piece) => Ok(Some(piece)),
            None if !self.process.alive() => Err(gone()),
            // Nothing else ends a call before its answer.
            None if self.number.is_some() && !self.answered => Err(Refusal::new(
                Code::RequestUnread,
                "the server waited too long for a client that does not read",
            )),
            None => Ok(None),
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
