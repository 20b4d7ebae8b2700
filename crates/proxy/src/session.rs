//! Sessions of revision 2025-11-25. The id is ours, random, bound to one caller and one server, and proves
//! nothing by itself: to anybody else it does not exist (specification 2025-11-25, transports, "Session Management").

mod members;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use portcullis_core::{Clock, Code, Digest, Entropy, Limits, Obligations, Refusal};

pub use self::members::{Members, Running, Slot};
use crate::bridge::BridgedSession;
use portcullis_upstream::stdio::Process;

/// What a session is tied to on the server's side.
#[derive(Clone, Debug)]
pub enum Backend {
    /// A server of revision 2026-07-28, which has no sessions: the gateway keeps this one.
    Bridged(Arc<BridgedSession>),
    /// Several servers, each with a session of its own.
    Group(Arc<Members>),
    /// A Streamable HTTP server, with the session id it gave, if any.
    Http(Option<String>),
    /// A child process.
    Stdio {
        /// The process that the session was opened on.
        process: Arc<Process>,
        /// Tells sessions apart where each has a process of its own.
        unique: String,
    },
}

/// One session.
#[derive(Debug)]
pub struct Session {
    /// Our id, as the client sends it.
    pub id: String,
    /// Whose session it is.
    pub caller: Arc<str>,
    /// On which server.
    pub server: Arc<str>,
    /// The declaration of the server that it was opened on: another server under the same name knows nothing of it.
    pub declared: Digest,
    /// The version that `initialize` agreed on.
    pub version: String,
    /// The server's side.
    pub backend: Backend,
    /// The client's `initialize` params, to open the server's side again.
    pub params: Bytes,
    /// The sessions with replicas of the server, opened when a call first goes there.
    pub replicas: Members,
    /// What the permits of its calls demanded of their answers.
    demanded: Mutex<Obligations>,
    started_us: u64,
    used_us: AtomicU64,
}

impl Session {
    fn new(random: &[u8; 16], new: NewSession, now_us: u64) -> Self {
        let NewSession { caller, server, declared, version, backend, params } = new;
        Self {
            id: format!("pcs_{:032x}", u128::from_be_bytes(*random)),
            caller,
            server,
            declared,
            version,
            backend,
            params,
            replicas: Members::default(),
            demanded: Mutex::default(),
            started_us: now_us,
            used_us: AtomicU64::new(now_us),
        }
    }

    /// Names the session in the ledger without giving it away.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.id.as_bytes())
    }

    /// A call of the session is permitted with these demands.
    pub fn demand(&self, Obligations { answers, approval: _, restore: _, abroad, buffer: _ }: &Obligations) {
        if answers.is_empty() && abroad.is_empty() {
            return;
        }
        let mut demanded = self.demanded.lock().unwrap_or_else(PoisonError::into_inner);
        for (detector, treatment) in answers {
            let least = demanded.answers.entry(detector.clone()).or_insert(*treatment);
            *least = (*least).max(*treatment);
        }
        for (label, treatment) in abroad {
            let least = demanded.abroad.entry(*label).or_insert(*treatment);
            *least = (*least).max(*treatment);
        }
    }

    /// What any call of the session was permitted with, the stricter wins. The stream of a session can bring what
    /// belongs to any of them, an answer of a stream that broke off above all.
    #[must_use]
    pub fn demanded(&self) -> Obligations {
        self.demanded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is needed to start a session.
#[derive(Debug)]
pub struct NewSession {
    /// Whose.
    pub caller: Arc<str>,
    /// On which server.
    pub server: Arc<str>,
    /// Digest of its declaration.
    pub declared: Digest,
    /// The agreed version.
    pub version: String,
    /// The server's side.
    pub backend: Backend,
    /// The client's `initialize` params.
    pub params: Bytes,
}

/// All sessions of this node.
#[derive(Debug)]
pub struct Sessions {
    held: Mutex<HashMap<String, Arc<Session>>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Sessions {
    /// No sessions yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { held: Mutex::default(), clock, entropy }
    }

    /// Starts a session; `None` when there are too many already. A caller's longest idle session makes room for
    /// its own new one.
    pub fn start(&self, new: NewSession, limits: &Limits) -> Option<Arc<Session>> {
        let now = self.clock.ticks_us();
        let mut random = [0; 16];
        self.entropy.fill(&mut random);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = || held.values().filter(|session| session.caller == new.caller);
        let idlest = (own().count() as u64 >= limits.caller_sessions_max)
            .then(|| own().min_by_key(|session| session.used_us.load(Ordering::Relaxed)))
            .flatten()
            .map(|session| session.id.clone());
        if let Some(id) = idlest {
            held.remove(&id);
        }
        if held.len() as u64 >= limits.sessions_max {
            held.retain(|_, session| alive(session, now, limits));
        }
        if held.len() as u64 >= limits.sessions_max {
            return None;
        }
        let session = Arc::new(Session::new(&random, new, now));
        held.insert(session.id.clone(), Arc::clone(&session));
        Some(session)
    }

    /// A session that no client can name: part of one on a route over several servers, and ended with it.
    #[must_use]
    pub fn part(&self, new: NewSession) -> Arc<Session> {
        let mut random = [0; 16];
        self.entropy.fill(&mut random);
        Arc::new(Session::new(&random, new, self.clock.ticks_us()))
    }

    /// The session with that id, if it is this caller's, on this server as it is declared now, and alive.
    ///
    /// # Errors
    /// `session.unknown`; `server.changed` when another server has the name now.
    pub fn find(
        &self,
        id: &str,
        caller: &str,
        (server, declared): (&str, Option<Digest>),
        limits: &Limits,
    ) -> Result<Arc<Session>, Refusal> {
        let unknown = || Refusal::new(Code::SessionUnknown, "no such session of this caller on this server");
        let now = self.clock.ticks_us();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let session = Arc::clone(held.get(id).ok_or_else(unknown)?);
        if &*session.caller != caller || &*session.server != server {
            return Err(unknown());
        }
        if !alive(&session, now, limits) {
            held.remove(id);
            return Err(unknown());
        }
        if declared.is_some_and(|declared| declared != session.declared) {
            held.remove(id);
            return Err(Refusal::new(Code::ServerChanged, "the server was changed since the session began"));
        }
        session.used_us.store(now, Ordering::Relaxed);
        Ok(session)
    }

    /// Ends a session.
    pub fn end(&self, id: &str) -> Option<Arc<Session>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }

    /// The number of a caller's sessions; with `end` they end.
    pub fn of_caller(&self, caller: &str, end: bool) -> u64 {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = |session: &Arc<Session>| &*session.caller == caller;
        let count = held.values().filter(|session| own(session)).count() as u64;
        if end {
            held.retain(|_, session| !own(session));
        }
        count
    }

    /// Ends what is past its time; returns how many are left.
    pub fn sweep(&self, limits: &Limits) -> usize {
        let now = self.clock.ticks_us();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, session| alive(session, now, limits));
        held.len()
    }
}

fn alive(session: &Session, now_us: u64, limits: &Limits) -> bool {
    let idle = now_us.saturating_sub(session.used_us.load(Ordering::Relaxed));
    let total = now_us.saturating_sub(session.started_us);
    idle / 1000 < limits.session_idle_ms && total / 1000 < limits.session_total_ms
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use portcullis_core::{Timestamp, Treatment};

    use super::*;

    #[derive(Debug, Default)]
    struct World(AtomicU64);

    impl Clock for World {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }
        fn ticks_us(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Entropy for World {
        fn fill(&self, out: &mut [u8]) {
            out.fill(self.0.fetch_add(1, Ordering::Relaxed) as u8);
        }
    }

    fn new(caller: &str) -> NewSession {
        let backend = Backend::Http(None);
        let version = "2025-11-25".into();
        let (caller, declared) = (caller.into(), Digest::of(b"d"));
        NewSession { caller, server: "s".into(), declared, version, backend, params: Bytes::new() }
    }

    fn found(sessions: &Sessions, id: &str, caller: &str, server: &str, limits: &Limits) -> bool {
        sessions.find(id, caller, (server, None), limits).is_ok()
    }

    #[test]
    fn a_session_belongs_to_one_caller_and_one_server_and_ends_when_idle() {
        let world = Arc::new(World::default());
        let sessions = Sessions::new(world.clone(), world.clone());
        let limits = Limits { session_idle_ms: 1_000, ..Limits::default() };
        let id = sessions.start(new("a"), &limits).unwrap().id.clone();
        let find = |caller, server| found(&sessions, &id, caller, server, &limits);
        assert_eq!([find("a", "s"), find("b", "s"), find("a", "t")], [true, false, false]);
        world.0.fetch_add(2_000_000, Ordering::Relaxed);
        assert!(!find("a", "s"));
        assert_eq!(sessions.sweep(&limits), 0);
    }

    #[test]
    fn a_session_ends_when_its_server_is_declared_otherwise() {
        let world = Arc::new(World::default());
        let sessions = Sessions::new(world.clone(), world.clone());
        let limits = Limits::default();
        let id = sessions.start(new("a"), &limits).unwrap().id.clone();
        let find = |declared: &[u8]| {
            let found = sessions.find(&id, "a", ("s", Some(Digest::of(declared))), &limits);
            found.map(drop).map_err(|refusal| refusal.code)
        };
        assert_eq!(find(b"d"), Ok(()));
        assert_eq!(find(b"another"), Err(Code::ServerChanged));
        assert_eq!(find(b"d"), Err(Code::SessionUnknown), "it ended");
    }

    #[test]
    fn a_caller_at_its_limit_loses_its_idlest_session_and_the_whole_stays_bounded() {
        let world = Arc::new(World::default());
        let sessions = Sessions::new(world.clone(), world.clone());
        let limits = Limits { caller_sessions_max: 2, sessions_max: 3, ..Limits::default() };
        let ids: Vec<_> = (0..3).map(|_| sessions.start(new("a"), &limits).unwrap().id.clone()).collect();
        let alive: Vec<_> = ids.iter().map(|id| found(&sessions, id, "a", "s", &limits)).collect();
        assert_eq!(alive, [false, true, true]);
        assert!(sessions.start(new("b"), &limits).is_some());
        assert!(sessions.start(new("c"), &limits).is_none());
    }

    #[test]
    fn a_session_remembers_the_strictest_demand_of_any_of_its_calls() {
        let world = Arc::new(World::default());
        let session = Sessions::new(world.clone(), world).start(new("a"), &Limits::default()).unwrap();
        let of = |treatment| Obligations {
            answers: [("email".to_owned(), treatment)].into(),
            ..Obligations::default()
        };
        for (demand, expected) in [
            (Treatment::Mask, Treatment::Mask),
            (Treatment::Refuse, Treatment::Refuse),
            (Treatment::Mask, Treatment::Refuse),
        ] {
            session.demand(&of(demand));
            assert_eq!(session.demanded(), of(expected));
        }
    }
}
