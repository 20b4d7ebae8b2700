//! One child process: its pipes, its process group, its end.

use std::{
    process::Stdio,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncWriteExt,
    process::{Child as Process, ChildStdin},
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    ChildOptions, Command, Exit, SendError, SpawnError, Violation, confined::Confined, lines, stderr,
};
use crate::queue;

/// Lines that wait in either direction.
const QUEUE_LINES: usize = 64;

/// Bytes of lines that go to the child in one write.
const WRITE_BYTES: usize = 65_536;

/// Time the kernel gets to end a process after SIGKILL; longer means it hangs in the kernel, where nothing helps.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// A running child process. Dropping it kills the whole process group.
#[derive(Debug)]
pub struct Child {
    name: Arc<str>,
    pid: u32,
    grace: Duration,
    line_bytes_max: usize,
    stdin: mpsc::Sender<Bytes>,
    closing: watch::Sender<bool>,
    exit: watch::Receiver<Option<Exit>>,
    group: Arc<Group>,
}

impl Child {
    /// Starts the program. The receiver yields its standard output line by line, without line ends and without empty
    /// lines; it ends when the output does. Must be called within a tokio runtime.
    pub fn spawn(
        command: &Command,
        options: &ChildOptions,
    ) -> Result<(Self, mpsc::Receiver<Bytes>), SpawnError> {
        let stillborn = || SpawnError::Stillborn { program: command.program.clone() };
        let confined = Confined::prepare(command, options)?;
        let mut process = prepare(command, options, confined.as_ref())
            .spawn()
            .map_err(|error| SpawnError::Os { program: command.program.clone(), error })?;
        let pid = process.id().ok_or_else(stillborn)?;
        let group = i32::try_from(pid).ok().and_then(Pid::from_raw).map(Group::new).map(Arc::new);
        let group = group.ok_or_else(stillborn)?;
        let (Some(stdin), Some(stdout), Some(standard_error)) =
            (process.stdin.take(), process.stdout.take(), process.stderr.take())
        else {
            return Err(stillborn());
        };

        let (stdin_sender, stdin_lines) = mpsc::channel(QUEUE_LINES);
        let (stdout_sender, stdout_lines) = mpsc::channel(QUEUE_LINES);
        let (closing, closing_seen) = watch::channel(false);
        let (exit_sender, exit) = watch::channel(None);
        tracing::info!(server = %options.name, pid, program = %command.program, "child started");
        tokio::spawn(write(stdin, stdin_lines, closing_seen));
        let filtered =
            confined.as_ref().map_or_else(|| options.clone(), |confined| confined.discreet(options));
        tokio::spawn(stderr::log(standard_error, filtered));
        let output = Output { sender: stdout_sender, exit: exit.clone(), group: Arc::clone(&group) };
        tokio::spawn(output.read(stdout, options.line_bytes_max, options.grace));
        let confined = confined.map(|confined| confined.started(pid, &group));
        tokio::spawn(reap(process, Arc::clone(&group), exit_sender, Arc::clone(&options.name), confined));
        let child = Self {
            name: Arc::clone(&options.name),
            pid,
            grace: options.grace,
            line_bytes_max: options.line_bytes_max,
            stdin: stdin_sender,
            closing,
            exit,
            group,
        };
        Ok((child, stdout_lines))
    }

    /// Sends one line; the line end is added. Waits while the child does not read. Dropping the future before it is
    /// done sends nothing.
    pub async fn send_line(&self, line: Bytes) -> Result<(), SendError> {
        if memchr::memchr2(b'\n', b'\r', &line).is_some() {
            return Err(SendError::LineBreak);
        }
        if line.len() > self.line_bytes_max {
            return Err(SendError::TooLong);
        }
        if *self.closing.borrow() {
            return Err(SendError::Closed);
        }
        queue::offer(&self.stdin, line.len(), line).await.map_err(|_closed| SendError::Closed)
    }

    /// Changes to `Some` when the process has ended.
    #[must_use]
    pub fn exited(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.clone()
    }

    /// The process id, which is also the id of its group.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends the child in order: closes its input, waits; SIGTERM to the group, waits; SIGKILL to the group. Returns how it
    /// ended; `None` if the kernel did not let go of it.
    pub async fn shutdown(&self) -> Option<Exit> {
        self.closing.send_replace(true);
        if let Some(exit) = self.ended_within(self.grace).await {
            return Some(exit);
        }
        self.group.signal(Signal::TERM);
        if let Some(exit) = self.ended_within(self.grace).await {
            return Some(exit);
        }
        tracing::warn!(server = %self.name, pid = self.pid, "child ignored SIGTERM and is killed");
        self.group.signal(Signal::KILL);
        self.ended_within(KILL_PATIENCE).await
    }

    async fn ended_within(&self, limit: Duration) -> Option<Exit> {
        let mut exit = self.exit.clone();
        let ended = timeout(limit, exit.wait_for(Option::is_some)).await;
        ended.ok().and_then(Result::ok).and_then(|exit| *exit)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.group.signal(Signal::KILL);
    }
}

fn prepare(
    command: &Command,
    options: &ChildOptions,
    confined: Option<&Confined>,
) -> tokio::process::Command {
    let mut prepared = match confined {
        None => tokio::process::Command::new(&command.program),
        Some(confined) => {
            let mut prepared = tokio::process::Command::new(&confined.prepared.program);
            prepared.args(&confined.prepared.before).arg(&command.program);
            prepared
        }
    };
    let own = confined.map(|confined| confined.prepared.env.as_slice()).unwrap_or_default();
    prepared
        .args(&command.args)
        .env_clear()
        .envs(&options.base_env.0)
        .envs(&command.env)
        .envs(own.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(cwd) = &command.cwd {
        prepared.current_dir(cwd);
    }
    prepared
}

/// The process group of a child, for as long as its number is known to be the child's.
#[derive(Debug)]
pub(super) struct Group {
    leader: Mutex<Option<Pid>>,
    violation: OnceLock<Violation>,
}

impl Group {
    const fn new(leader: Pid) -> Self {
        Self { leader: Mutex::new(Some(leader)), violation: OnceLock::new() }
    }

    fn signal(&self, signal: Signal) {
        let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leader) = *leader {
            // Fails only where nobody is left, which is what we want.
            let _nobody = kill_process_group(leader, signal).is_err();
        }
    }

    pub(super) fn kill_for(&self, violation: Violation) {
        let _already_known = self.violation.set(violation).is_err();
        self.signal(Signal::KILL);
    }

    /// Kills what the leader left behind. From here on the number may belong to somebody else.
    fn dissolve(&self) {
        self.signal(Signal::KILL);
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Waits for the end, so that no zombie stays, even if nobody else cares for the child any more.
async fn reap(
    mut process: Process,
    group: Arc<Group>,
    exit: watch::Sender<Option<Exit>>,
    name: Arc<str>,
    confined: Option<Confined>,
) {
    let waited = process.wait().await;
    group.dissolve();
    if let (Some(confined), Ok(status)) = (&confined, &waited) {
        confined.ended(*status);
    }
    // The private folder goes, and so does the way out.
    drop(confined);
    match waited {
        Ok(status) => {
            let ended = Exit { status, violation: group.violation.get().copied() };
            tracing::info!(server = %name, exit = %ended, "child ended");
            exit.send_replace(Some(ended));
        }
        // The sender is dropped, which also ends every wait.
        Err(error) => tracing::error!(server = %name, %error, "cannot wait for the child"),
    }
}

async fn write(mut stdin: ChildStdin, mut lines: mpsc::Receiver<Bytes>, mut closing: watch::Receiver<bool>) {
    let mut pending = BytesMut::new();
    loop {
        let line = tokio::select! {
            biased;
            line = lines.recv() => line,
            () = asked_to_close(&mut closing) => {
                // What was accepted before the close is still written.
                lines.close();
                lines.recv().await
            }
        };
        let Some(line) = line else { return };
        put(&mut pending, &line);
        while pending.len() < WRITE_BYTES {
            let Ok(line) = lines.try_recv() else { break };
            put(&mut pending, &line);
        }
        if stdin.write_all(&pending).await.is_err() {
            return;
        }
        pending.clear();
        if pending.capacity() > WRITE_BYTES * 2 {
            pending = BytesMut::new();
        }
    }
}

/// A handle that is gone asks for nothing any more: that is a close, too.
async fn asked_to_close(closing: &mut watch::Receiver<bool>) {
    let _gone = closing.wait_for(|closing| *closing).await.is_err();
}

fn put(pending: &mut BytesMut, line: &[u8]) {
    pending.reserve(line.len() + 1);
    pending.extend_from_slice(line);
    pending.put_u8(b'\n');
}

/// Standard output on its way to whoever reads lines.
struct Output {
    sender: mpsc::Sender<Bytes>,
    exit: watch::Receiver<Option<Exit>>,
    group: Arc<Group>,
}

impl Output {
    async fn read(mut self, stdout: tokio::process::ChildStdout, line_bytes_max: usize, grace: Duration) {
        let mut lines = lines::Lines::new(stdout, line_bytes_max);
        loop {
            let next = tokio::select! {
                biased;
                next = lines.next() => next,
                // A process that left the group may hold the pipe open for ever.
                () = ended_since(self.exit.clone(), grace) => return,
            };
            match next {
                Ok(Some(line)) => {
                    if queue::offer(&self.sender, line.len(), line).await.is_err() {
                        // Nobody listens any more, so nobody can use the child.
                        return self.group.signal(Signal::KILL);
                    }
                }
                Ok(None) | Err(lines::LineError::Broken) => break,
                Err(lines::LineError::TooLong) => return self.group.kill_for(Violation::LineTooLong),
            }
        }
        if timeout(grace, self.exit.wait_for(Option::is_some)).await.is_err() {
            self.group.kill_for(Violation::StdoutClosed);
        }
    }
}

async fn ended_since(mut exit: watch::Receiver<Option<Exit>>, grace: Duration) {
    let _reaper_gone = exit.wait_for(Option::is_some).await.is_err();
    tokio::time::sleep(grace).await;
}
