//! Watches a confined child: seccomp asks us about every call that is refused or that opens, makes, runs or signals
//! something, and we tell what was an attempt. Landlock stays what refuses; a lost race can blur a report and opens no
//! door. Each child has a thread, because its calls wait for it.

mod calls;
mod judge;
mod network;
mod place;
mod rules;
mod tally;

use std::{
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use portcullis_sys::notify::{Call, Listener};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg, sockopt::socket_peercred,
    },
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use self::{
    judge::{Judge, Sentence},
    place::Task,
    rules::Rules,
    tally::{DELAY, Tally},
};
use super::Policy;
use crate::incident::Report;

pub(super) use self::calls::{FILES, SIGNALS, SOCKETS};

/// Time from the start of `confine` until it has handed its listener over.
const HANDOVER: Duration = Duration::from_secs(20);
/// How long one look for `confine` takes.
const LOOK: Duration = Duration::from_millis(100);
/// Memory of a watching thread's stack.
const STACK_BYTES: usize = 512 * 1_024;
/// What is sent with the listener, and back when somebody watches.
const READY: [u8; 1] = [1];

/// Whether this kernel lets us watch.
pub(super) fn supported() -> bool {
    // A security module may keep a process from reading the memory even of its own children.
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    let closed = scope.is_ok_and(|scope| scope.trim().parse::<u8>().is_ok_and(|scope| scope > 1));
    Listener::supported() && (!closed || rustix::process::geteuid().is_root())
}

/// The group that a process belongs to.
fn group_of(process: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    super::crowd::group(&text)
}

/// Waits for a child's listener. Dropped with the child.
#[derive(Debug)]
pub(crate) struct Watch {
    listener: Option<UnixListener>,
    policy: Policy,
    over: Arc<AtomicBool>,
}

impl Watch {
    /// Listens for `confine` under the name that its policy carries. The socket has no place in the file system.
    pub(super) fn new(policy: Policy, name: &str) -> io::Result<Self> {
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener: Some(listener), policy, over: Arc::default() })
    }

    /// Watches the child `leader` until it and all its processes are gone.
    pub(crate) fn start(&mut self, leader: u32, server: &Arc<str>, report: &Report) -> io::Result<()> {
        let Some(listener) = self.listener.take() else { return Ok(()) };
        let (policy, over) = (self.policy.clone(), Arc::clone(&self.over));
        let (server, report) = (Arc::clone(server), report.clone());
        let watched = move || match accept(&listener, leader, &over) {
            Ok(Some((stream, calls))) => {
                drop(listener);
                watch(stream, &calls, policy, leader, Tally::new(server, report, Instant::now()));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(
                %server, %error, "a confined child is not watched: what it may not is refused and not recorded"
            ),
        };
        thread::Builder::new().name("watch".to_owned()).stack_size(STACK_BYTES).spawn(watched).map(drop)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// The connection of this very child, and its listener; nothing where the child is gone before.
fn accept(
    listener: &UnixListener,
    leader: u32,
    over: &AtomicBool,
) -> io::Result<Option<(UnixStream, Listener)>> {
    let due = Instant::now() + HANDOVER;
    while Instant::now() < due && !over.load(Ordering::Relaxed) {
        if !readable(listener, Some(LOOK))? {
            continue;
        }
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        // Anybody may connect who learns the name.
        if socket_peercred(&stream)?.pid.as_raw_pid().unsigned_abs() != leader {
            continue;
        }
        stream.set_read_timeout(Some(HANDOVER))?;
        return receive(&stream).map(|calls| Some((stream, calls)));
    }
    if over.load(Ordering::Relaxed) { Ok(None) } else { Err(io::ErrorKind::TimedOut.into()) }
}

fn receive(stream: &UnixStream) -> io::Result<Listener> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut first = [0; 1];
    recvmsg(stream, &mut [IoSliceMut::new(&mut first)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let handed = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    handed.map(Listener::from).ok_or_else(|| io::Error::other("it has no listener"))
}

/// The part of `confine`: the way to who will watch. To be called while there are rights to connect.
pub(super) fn connect(name: &str) -> io::Result<UnixStream> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)
}

/// The part of `confine`: hands the listener over and waits until somebody watches. From then on this process does not
/// hold it any more, so that nobody but the gateway does.
pub(super) fn hand_over(mut stream: UnixStream, listener: Listener) -> io::Result<()> {
    let handed = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&handed)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    sendmsg(&stream, &[IoSlice::new(&READY)], &mut control, SendFlags::NOSIGNAL)?;
    drop(listener);
    let mut answer = [0; 1];
    stream.read_exact(&mut answer)
}

fn readable(fd: &impl std::os::fd::AsFd, patience: Option<Duration>) -> io::Result<bool> {
    let patience = patience.and_then(|time| Timespec::try_from(time).ok());
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    match poll(&mut fds, patience.as_ref()) {
        Ok(0) | Err(Errno::INTR) => Ok(false),
        Ok(_) => {
            let met = fds.first().map_or(PollFlags::empty(), PollFd::revents);
            // Nobody is left who could call.
            if met.contains(PollFlags::IN) { Ok(true) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        }
        Err(error) => Err(error.into()),
    }
}

fn watch(mut stream: UnixStream, calls: &Listener, policy: Policy, leader: u32, mut tally: Tally) {
    let rules = Rules::of(&policy, leader);
    let judge = Judge { policy, rules };
    if stream.write_all(&READY).is_err() {
        return;
    }
    drop(stream);
    while let Ok(waiting) = readable(calls, tally.due(Instant::now())) {
        if waiting && let Ok(call) = calls.next() {
            decide(calls, &judge, &call, leader, &mut tally);
        }
        tally.tick(Instant::now());
    }
    tally.flush();
}

fn decide(calls: &Listener, judge: &Judge, call: &Call, leader: u32, tally: &mut Tally) {
    let Sentence { answer, attempt, ends } = judge.judge(call, Task { thread: call.thread, leader });
    // Had the caller gone meanwhile, we would have looked at somebody else.
    if !calls.waits(call) {
        return;
    }
    let flood = attempt.is_some_and(|attempt| tally.add(attempt));
    if ends {
        end(calls, call);
    }
    if flood {
        thread::sleep(DELAY);
    }
    // Fails only where the caller is gone.
    let _gone = calls.answer(call, answer).is_err();
}

/// Kills the process that made a call, and no other that has its number by then.
fn end(calls: &Listener, call: &Call) {
    let process = Task { thread: call.thread, leader: 0 }.process();
    let pid = process.and_then(|process| Pid::from_raw(i32::try_from(process).ok()?));
    let handle: Option<OwnedFd> = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    if let Some(handle) = handle.filter(|_| calls.waits(call)) {
        let _gone = pidfd_send_signal(handle.as_fd(), Signal::KILL).is_err();
    }
}
