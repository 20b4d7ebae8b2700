//! A session on a route over several servers: the sessions with each of them, opened when they are first needed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use portcullis_mcp::jsonrpc::Id;
use tokio::sync::mpsc;

use super::Session;

/// Servers whose streams wait to be merged into the client's.
const JOINING_MAX: usize = 64;

/// The session with one server. One call at a time opens it, so that a server sees one `initialize`.
#[derive(Debug, Default)]
pub struct Slot {
    gate: tokio::sync::Mutex<()>,
    held: Mutex<Option<Arc<Session>>>,
}

impl Slot {
    /// Held while the session is opened.
    pub async fn opening(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.gate.lock().await
    }

    /// The session, once there is one.
    #[must_use]
    pub fn session(&self) -> Option<Arc<Session>> {
        lock(&self.held).clone()
    }

    /// Takes the place of the session before.
    pub fn put(&self, session: Arc<Session>) {
        *lock(&self.held) = Some(session);
    }
}

/// The sessions with the servers of a route.
#[derive(Debug, Default)]
pub struct Members {
    slots: Mutex<BTreeMap<Arc<str>, Arc<Slot>>>,
    running: Arc<Mutex<HashMap<Bytes, Arc<str>>>>,
    joining: Mutex<Option<mpsc::Sender<Arc<str>>>>,
    level: Mutex<Option<Arc<str>>>,
}

impl Members {
    /// The place of the session with `server`; there are as many as the route has servers.
    #[must_use]
    pub fn slot(&self, server: &Arc<str>) -> Arc<Slot> {
        Arc::clone(lock(&self.slots).entry(Arc::clone(server)).or_default())
    }

    /// The session with `server`, once there is one.
    #[must_use]
    pub fn of(&self, server: &str) -> Option<Arc<Session>> {
        lock(&self.slots).get(server)?.session()
    }

    /// Every session that is open, with the name of its server.
    #[must_use]
    pub fn open(&self) -> Vec<(Arc<str>, Arc<Session>)> {
        let slots = lock(&self.slots);
        slots.iter().filter_map(|(name, slot)| Some((Arc::clone(name), slot.session()?))).collect()
    }

    /// The server has ended its session: the next call opens a new one.
    pub fn forget(&self, server: &str) {
        if let Some(slot) = lock(&self.slots).get(server) {
            *lock(&slot.held) = None;
        }
    }

    /// From which level on the client wants to be told of logs.
    #[must_use]
    pub fn level(&self) -> Option<Arc<str>> {
        lock(&self.level).clone()
    }

    /// The client has named a level.
    pub fn set_level(&self, level: &str) {
        *lock(&self.level) = Some(Arc::from(level));
    }

    /// A request with this id goes to `server`, until what is returned is dropped.
    #[must_use]
    pub fn runs(&self, id: &Id, server: &Arc<str>) -> Running {
        let id = Bytes::copy_from_slice(id.canonical());
        lock(&self.running).insert(id.clone(), Arc::clone(server));
        Running { id, table: Arc::clone(&self.running) }
    }

    /// The server that the request with this id, as JSON, runs on.
    #[must_use]
    pub fn runs_on(&self, id: &[u8]) -> Option<Arc<str>> {
        let id = Id::from_json(Bytes::copy_from_slice(id))?;
        lock(&self.running).get(id.canonical()).cloned()
    }

    /// A session with `server` was opened: a stream that is open takes its events as well.
    pub fn joined(&self, server: &Arc<str>) {
        if let Some(joining) = lock(&self.joining).as_ref() {
            // Only a client that reads nothing lets these pile up; it asks again when it reads on.
            let _ = joining.try_send(Arc::clone(server));
        }
    }

    /// Where servers are named whose sessions are opened from now on; a stream before this one hears no more.
    #[must_use]
    pub fn joins(&self) -> mpsc::Receiver<Arc<str>> {
        let (to, from) = mpsc::channel(JOINING_MAX);
        *lock(&self.joining) = Some(to);
        from
    }
}

/// A request that is running. Dropping it is its end.
#[derive(Debug)]
pub struct Running {
    id: Bytes,
    table: Arc<Mutex<HashMap<Bytes, Arc<str>>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.table).remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_request_is_known_by_its_id_however_it_is_written_until_it_is_over() {
        let members = Members::default();
        let id = |text: &'static str| Id::from_json(Bytes::from_static(text.as_bytes())).unwrap();
        let running = members.runs(&id(r#""a""#), &Arc::from("files"));
        assert_eq!(members.runs_on(br#""\u0061""#).as_deref(), Some("files"));
        assert_eq!(members.runs_on(b"1"), None);
        assert_eq!(members.runs_on(b"{}"), None);
        drop(running);
        assert_eq!(members.runs_on(br#""a""#), None);
    }
}
