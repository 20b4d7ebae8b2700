//! A server that runs as child processes: which callers share one, how it is opened, and how lines find their way.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use bytes::Bytes;
use portcullis_core::{Clock, Code, Digest, Limits, Refusal};
use portcullis_mcp::revision::Era;
use portcullis_net::{
    sandbox::Sandbox,
    stdio::{ChildOptions, Command, Environment},
};
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use super::{
    SseServer,
    spoken::{INITIALIZE, PROBE_MS, Spoken},
};
use crate::Isolation;

mod backoff;
mod masking;
mod process;
mod program;
mod reader;
mod turnover;

use backoff::{Backoff, End};
use process::{How, Start};
use turnover::Retired;

pub use process::{Lines, Process, declined};
pub use program::Program;

/// Whose process it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    modern: bool,
    owner: Owned,
    params: Option<Digest>,
}

/// Whom a process belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Owned {
    /// A caller, or one session of it.
    Caller(String, Option<String>),
    /// All callers.
    Everybody,
    /// The gateway itself.
    Gateway,
}

impl Owned {
    /// Whom it concerns that its processes fail.
    fn backs_off(&self) -> &str {
        match self {
            Self::Caller(caller, _) => caller,
            Self::Everybody | Self::Gateway => "",
        }
    }
}

/// Who wants a process.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'a> {
    /// A caller, in a session or without one.
    Caller(&'a str),
    /// The gateway itself, to read the catalogue.
    Gateway,
}

/// What is behind the channel.
#[derive(Debug)]
enum Behind {
    Program(Program, Environment),
    Connection(Box<SseServer>),
}

/// How the channel is opened, with all secrets.
enum Opening {
    Child(Command),
    Connection(Box<SseServer>),
}

/// A server that runs as child processes, or that is spoken to as if it did.
#[derive(Debug)]
pub struct StdioPeer {
    name: Arc<str>,
    behind: Behind,
    isolation: Isolation,
    sandbox: Option<Sandbox>,
    clock: Arc<dyn Clock>,
    processes: AsyncMutex<HashMap<Key, Arc<Process>>>,
    backoff: Mutex<Backoff>,
    /// Processes that were given what has been replaced, until their calls have finished.
    retired: Mutex<Vec<Retired>>,
    modern_spoken: OnceCell<bool>,
    pub(super) spoken: Spoken,
    /// Told whenever a child says that one of its lists changed.
    pub changed: Arc<tokio::sync::Notify>,
}

impl StdioPeer {
    /// A server started by `program` on top of the environment `base`.
    #[must_use]
    pub fn new(
        name: Arc<str>,
        program: Program,
        base: Environment,
        isolation: Isolation,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::of(name, Behind::Program(program, base), isolation, clock)
    }

    /// A server of the transport before Streamable HTTP.
    #[must_use]
    pub fn sse(name: Arc<str>, server: SseServer, isolation: Isolation, clock: Arc<dyn Clock>) -> Self {
        Self::of(name, Behind::Connection(Box::new(server)), isolation, clock)
    }

    /// Whether the server can only speak the older era.
    #[must_use]
    pub const fn legacy_only(&self) -> bool {
        matches!(self.behind, Behind::Connection(_))
    }

    fn of(name: Arc<str>, behind: Behind, isolation: Isolation, clock: Arc<dyn Clock>) -> Self {
        Self {
            name,
            behind,
            isolation,
            sandbox: None,
            clock,
            processes: AsyncMutex::default(),
            backoff: Mutex::default(),
            retired: Mutex::default(),
            modern_spoken: OnceCell::new(),
            spoken: Spoken::default(),
            changed: Arc::default(),
        }
    }

    /// The same server, with its processes confined.
    #[must_use]
    pub fn confined(mut self, sandbox: Option<Sandbox>) -> Self {
        self.sandbox = sandbox;
        self
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
        let params = if shared { Bytes::from_static(INITIALIZE) } else { params.clone() };
        let key = Key { modern: false, owner: self.owner(owner, unique), params: Some(Digest::of(&params)) };
        let process = self.process(key, limits).await?;
        // Where a process is one caller's own, that caller says when it is ready to be asked.
        let confirms = self.isolation != Isolation::Solo || matches!(owner, Owner::Gateway);
        let answer = process.initialize(params, limits, confirms).await?;
        Box::pin(self.refused_era(&answer, limits)).await;
        Ok((process, answer))
    }

    /// The process that the only caller has opened under 2025-11-25, and what it answered then.
    pub(super) async fn opened(&self) -> Option<(Arc<Process>, Bytes)> {
        if self.isolation != Isolation::Solo {
            return None;
        }
        let processes = self.processes.lock().await;
        processes
            .iter()
            .filter(|(key, process)| !key.modern && process.usable())
            .find_map(|(_, process)| Some((Arc::clone(process), process.answer_to_initialize()?)))
    }

    /// Notes where there is one caller that the only process was asked in vain.
    pub(super) fn does_not_speak_modern(&self) {
        if self.isolation == Isolation::Solo {
            let _known = self.modern_spoken.set(false);
        }
    }

    /// The process that was asked in vain whether it speaks 2026-07-28: the handshake may follow on it. And back, where
    /// it refuses that: it was only slow to start when it was asked.
    fn probed(&self, processes: &mut HashMap<Key, Arc<Process>>, key: &Key) -> Option<Arc<Process>> {
        if self.isolation != Isolation::Solo {
            return None;
        }
        if key.modern {
            let refused = self.spoken.legacy() == Some(false);
            let other = processes.keys().find(|other| refused && !other.modern).cloned()?;
            return processes.remove(&other).filter(|process| process.usable());
        }
        if self.modern_spoken.get() != Some(&false) {
            return None;
        }
        let asked = Key { modern: true, owner: key.owner.clone(), params: None };
        processes.remove(&asked).filter(|process| process.usable())
    }

    fn owner(&self, owner: Owner<'_>, unique: Option<&str>) -> Owned {
        match (self.isolation, owner) {
            (Isolation::Shared | Isolation::Solo, _) => Owned::Everybody,
            (Isolation::PerCaller | Isolation::PerSession, Owner::Gateway) => Owned::Gateway,
            (Isolation::PerSession, Owner::Caller(caller)) => {
                Owned::Caller(caller.to_owned(), unique.map(str::to_owned))
            }
            (Isolation::PerCaller, Owner::Caller(caller)) => Owned::Caller(caller.to_owned(), None),
        }
    }

    async fn process(&self, key: Key, limits: &Limits) -> Result<Arc<Process>, Refusal> {
        let runs = |process: &&Arc<Process>| process.usable();
        if let Some(process) = self.processes.lock().await.get(&key).filter(runs) {
            process.touch(self.clock.ticks_us());
            return Ok(Arc::clone(process));
        }
        // Nobody waits for the secrets of another's process.
        let opening = Box::pin(self.opening(&key.owner)).await?;
        let mut processes = self.processes.lock().await;
        if let Some(process) = processes.get(&key).filter(|process| process.usable()) {
            process.touch(self.clock.ticks_us());
            return Ok(Arc::clone(process));
        }
        if let Some(process) = self.probed(&mut processes, &key) {
            process.touch(self.clock.ticks_us());
            processes.insert(key, Arc::clone(&process));
            return Ok(process);
        }
        self.bury(&mut processes, limits);
        make_room(&mut processes, &key.owner, limits)?;
        self.wait_allowed(&key.owner)?;
        let process = Process::start(&self.start(&opening, limits), limits).inspect_err(|refusal| {
            // What the kernel lacks does not come back with time.
            if refusal.code != Code::SandboxUnavailable {
                self.ended(key.owner.backs_off(), End::Mute, limits);
            }
        })?;
        process.touch(self.clock.ticks_us());
        processes.insert(key, Arc::clone(&process));
        Ok(process)
    }

    /// What is behind the channel, with the secrets of whoever it is for.
    async fn opening(&self, owner: &Owned) -> Result<Opening, Refusal> {
        let caller = match owner {
            Owned::Caller(caller, _) => Some(caller.as_str()),
            Owned::Everybody | Owned::Gateway => None,
        };
        Ok(match &self.behind {
            Behind::Program(program, _) => Opening::Child(program.command(caller).await?),
            Behind::Connection(server) => Opening::Connection(Box::new(server.on_behalf_of(caller))),
        })
    }

    fn start<'a>(&'a self, opening: &'a Opening, limits: &Limits) -> Start<'a> {
        let how = match opening {
            Opening::Child(command) => {
                let base = match &self.behind {
                    Behind::Program(_, base) => base.clone(),
                    Behind::Connection(_) => Environment::default(),
                };
                let mut options = ChildOptions::new(Arc::clone(&self.name), limits, base);
                options.sandbox.clone_from(&self.sandbox);
                How::Child(command, Box::new(options))
            }
            Opening::Connection(server) => How::Connection(server),
        };
        let shared = self.isolation == Isolation::Shared;
        let guard = match &self.behind {
            Behind::Program(program, _) => program.guard(),
            Behind::Connection(_) => None,
        };
        Start { name: &self.name, how, shared, changed: &self.changed, guard }
    }

    /// Forgets processes that ended, and remembers how they did.
    fn bury(&self, processes: &mut HashMap<Key, Arc<Process>>, limits: &Limits) {
        // Who ends at the question of the newer revision may just not know it.
        let judged = |key: &Key| !key.modern || self.spoken.modern() == Some(true);
        let dead = processes.iter().filter(|(key, process)| judged(key) && !process.alive());
        // Of those that failed side by side one counts, so that a crowd does not wait longer than one alone.
        let mut ends = HashMap::<&str, End>::new();
        for (key, process) in dead {
            let end = process.end();
            ends.entry(key.owner.backs_off()).and_modify(|worst| *worst = end.min(*worst)).or_insert(end);
        }
        for (owner, end) in ends {
            self.ended(owner, end, limits);
        }
        processes.retain(|_, process| process.alive());
    }

    fn ended(&self, owner: &str, end: End, limits: &Limits) {
        let mut backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        backoff.ended(owner, end, self.clock.ticks_us(), limits.child_backoff_max_ms);
    }

    fn wait_allowed(&self, owner: &Owned) -> Result<(), Refusal> {
        let backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        let left_us = backoff.left_us(owner.backs_off(), self.clock.ticks_us());
        drop(backoff);
        if left_us == 0 {
            return Ok(());
        }
        let seconds = u32::try_from(left_us.div_ceil(1_000_000)).unwrap_or(u32::MAX);
        Err(Refusal::new(Code::UpstreamUnavailable, "the child keeps failing and is started again later")
            .retry_after_s(seconds))
    }

    /// Whether the server speaks revision 2026-07-28; asked once.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn speaks_modern(&self, limits: &Limits) -> Result<bool, Refusal> {
        let ask = || async {
            if self.isolation == Isolation::Solo {
                return Ok(self.discover(limits, PROBE_MS).await?.is_some());
            }
            self.offer(limits).await.map(|offer| offer.era == Era::Modern)
        };
        self.modern_spoken.get_or_try_init(ask).await.copied()
    }

    /// Ends processes nobody has used for the idle time of a session.
    pub async fn sweep(&self, limits: &Limits) {
        let now = self.clock.ticks_us();
        let idle_us = limits.session_idle_ms * 1000;
        let busy = |process: &Arc<Process>| {
            !process.idle() || now.saturating_sub(process.used_us.load(Ordering::Relaxed)) < idle_us
        };
        let mut processes = self.processes.lock().await;
        self.bury(&mut processes, limits);
        processes.retain(|_, process| busy(process));
    }

    /// Ends the process of a session that has one of its own.
    pub async fn end(&self, process: &Arc<Process>) {
        if self.isolation == Isolation::PerSession {
            self.processes.lock().await.retain(|_, held| !Arc::ptr_eq(held, process));
            process.shutdown().await;
        }
    }

    /// Ends all processes in order.
    pub async fn shutdown(&self) {
        let mut processes: Vec<_> = self.processes.lock().await.drain().map(|(_, process)| process).collect();
        processes.extend(self.take_retired());
        for process in processes {
            process.shutdown().await;
        }
    }
}

/// Makes room for one more process of `owner`: of a caller that has its share already by ending its own longest idle
/// one, else by ending the longest idle of all.
fn make_room(
    processes: &mut HashMap<Key, Arc<Process>>,
    owner: &Owned,
    limits: &Limits,
) -> Result<(), Refusal> {
    let refused = |code, what: &str| Refusal::new(code, format!("all {what} processes are busy"));
    if let Owned::Caller(caller, _) = owner {
        let own = |key: &Key| matches!(&key.owner, Owned::Caller(other, _) if other == caller);
        // Whatever is configured, one caller leaves room for another.
        let share = limits.caller_children_max.min(limits.children_max / 2).max(1);
        if processes.keys().filter(|key| own(key)).count() as u64 >= share && !end_idlest(processes, own) {
            return Err(refused(Code::LimitChildren, "limits.caller_children_max"));
        }
    }
    if processes.len() as u64 >= limits.children_max && !end_idlest(processes, |_| true) {
        return Err(refused(Code::LimitConcurrency, "limits.children_max"));
    }
    Ok(())
}

/// Ends the longest idle process of those; false when all are busy.
fn end_idlest(processes: &mut HashMap<Key, Arc<Process>>, of: impl Fn(&Key) -> bool) -> bool {
    let idlest = processes
        .iter()
        .filter(|(key, process)| of(key) && process.idle())
        .min_by_key(|(_, process)| process.used_us.load(Ordering::Relaxed))
        .map(|(key, _)| key.clone());
    let Some(process) = idlest.and_then(|key| processes.remove(&key)) else { return false };
    // Sessions still hold it, so that dropping it here would end nothing; they open another when used.
    process.over();
    tokio::spawn(async move { process.shutdown().await });
    true
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use portcullis_core::Timestamp;
    use portcullis_mcp::{json::JsonLimits, jsonrpc::Message};
    use tokio::time::timeout;

    use super::*;

    #[derive(Debug)]
    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp(1)
        }

        fn ticks_us(&self) -> u64 {
            1
        }
    }

    #[tokio::test]
    async fn who_begins_to_wait_when_the_child_is_gone_already_does_not_wait_for_its_time_to_be_over() {
        let command = Program { program: "true".into(), args: Vec::new(), env: BTreeMap::new(), cwd: None };
        let path = ("PATH".into(), "/usr/bin:/bin".into());
        let server = StdioPeer::new(
            Arc::from("s"),
            command,
            Environment::minimal([path]),
            Isolation::Shared,
            Arc::new(Still),
        );
        let limits = Limits::default();
        let process = server.modern(Owner::Gateway, &limits).await.unwrap();
        let soon = Duration::from_secs(30);
        let dead = async {
            while process.alive() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(soon, dead).await.unwrap();
        let own = timeout(soon, process.own_request("ping", b"{}", &limits)).await.unwrap();
        assert_eq!(own.unwrap_err().code, Code::UpstreamUnavailable);
        let ping = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
        let ping = Message::parse(ping, &JsonLimits::answer(&limits)).unwrap();
        // Whether the line could still be queued decides who says so.
        if let Ok(mut lines) = process.request(&ping, None, false).await {
            let read = timeout(soon, lines.only(&limits, false)).await.unwrap();
            assert_eq!(read.unwrap_err().code, Code::UpstreamUnavailable);
        }
        let mut stream = process.open_stream("s");
        let read = timeout(soon, stream.next(&limits, true)).await.unwrap();
        assert_eq!(read.unwrap_err().code, Code::UpstreamUnavailable);
    }
}
