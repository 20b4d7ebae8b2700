//! Sessions with servers of the older revision, one per caller and set of capabilities, bounded and idle for a time.

use portcullis_upstream::Behalf;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use portcullis_core::{Clock, Code, Digest, Limits, Refusal};
use portcullis_mcp::{
    bridge::client_capabilities,
    json::{View, quote},
    jsonrpc::Message,
    revision::{LEGACY, META_CAPABILITIES, META_CLIENT},
};
use tokio::sync::OnceCell;

use super::{Crossing, link::Link};
use crate::rules::Server;

/// Member of `_meta` with the least severity of log messages.
const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// Which session serves a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    server: Arc<str>,
    /// Whose it is, and with which of its tokens, where that matters.
    caller: Behalf,
    /// What the client can do and which log messages it wants.
    declared: Digest,
}

#[derive(Debug)]
struct Slot {
    link: OnceCell<Arc<Link>>,
    server: Weak<Server>,
    used_us: AtomicU64,
}

/// Sessions with servers.
#[derive(Debug)]
pub(super) struct Pool {
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    clock: Arc<dyn Clock>,
}

/// What a client of the newer revision says of itself in a request.
#[derive(Debug)]
pub(super) struct Said {
    /// The params of `initialize` that say the same.
    pub(super) params: String,
    /// The least severity of log messages (JSON text), if it wants any.
    pub(super) log_level: Option<String>,
    /// Whether the server may ask or log, also beside a call.
    talks: bool,
    digest: Digest,
}

impl Said {
    /// What the message of a crossing says, as far as policy lets the server make use of it.
    pub(super) fn of(crossing: &Crossing<'_>) -> Self {
        let allowed = &crossing.server.settings.server_requests;
        let meta = crossing.message.params().and_then(|params| params.get("_meta"));
        let member = |name: &str| meta.and_then(|meta: View<'_>| meta.get(name));
        let text = |view: View<'_>| String::from_utf8_lossy(view.raw()).into_owned();
        let capabilities = client_capabilities(member(META_CAPABILITIES), |kind| allowed.contains(kind));
        let log_level = member(META_LOG_LEVEL).map(text);
        let digest =
            Digest::of_parts(&[&*capabilities, b"\n", log_level.as_deref().unwrap_or("").as_bytes()]);
        let client = member(META_CLIENT).map(text);
        let client = client.as_deref().unwrap_or(r#"{"name":"portcullis","version":"0.1.0"}"#);
        let params = format!(
            r#"{{"protocolVersion":{},"capabilities":{},"clientInfo":{client}}}"#,
            quote(LEGACY),
            String::from_utf8_lossy(&capabilities)
        );
        let talks = log_level.is_some() || capabilities.len() > 2;
        Self { params, log_level, talks, digest }
    }
}

impl Pool {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { slots: Mutex::default(), clock }
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session for a call; opened where there is none.
    pub(super) async fn link(
        &self,
        crossing: &Crossing<'_>,
        said: &Said,
    ) -> Result<(Key, Arc<Link>), Refusal> {
        let server = Arc::clone(&crossing.server.name);
        let caller = crossing.server.upstream.keeps_for(&crossing.behalf);
        let key = Key { server, caller, declared: said.digest };
        let slot = self.slot(&key, crossing)?;
        let link = slot.link.get_or_try_init(|| open(crossing, said)).await;
        match link {
            Ok(link) => Ok((key, Arc::clone(link))),
            Err(refusal) => {
                self.forget(&key);
                Err(refusal)
            }
        }
    }

    fn slot(&self, key: &Key, crossing: &Crossing<'_>) -> Result<Arc<Slot>, Refusal> {
        let (now, limits) = (self.clock.ticks_us(), crossing.limits);
        let mut slots = self.slots();
        if let Some(slot) = slots.get(key).filter(|slot| slot.fits(crossing.server, now, limits)) {
            slot.used_us.store(now, Ordering::Relaxed);
            return Ok(Arc::clone(slot));
        }
        slots.remove(key);
        let own: Vec<_> =
            slots.iter().filter(|(other, _)| other.caller.caller == key.caller.caller).collect();
        if own.len() as u64 >= limits.caller_sessions_max {
            let idlest = own.iter().min_by_key(|(_, slot)| slot.used_us.load(Ordering::Relaxed));
            let idlest = idlest.map(|(key, _)| (*key).clone());
            slots.retain(|key, _| Some(key) != idlest.as_ref());
        }
        if slots.len() as u64 >= limits.sessions_max {
            slots.retain(|_, slot| slot.young(now, limits));
        }
        if slots.len() as u64 >= limits.sessions_max {
            return Err(Refusal::new(Code::LimitConcurrency, "limits.sessions_max"));
        }
        let (link, used_us) = (OnceCell::new(), AtomicU64::new(now));
        let slot = Arc::new(Slot { link, server: Arc::downgrade(crossing.server), used_us });
        slots.insert(key.clone(), Arc::clone(&slot));
        Ok(slot)
    }

    /// Lets nobody use that session any more.
    pub(super) fn forget(&self, key: &Key) {
        self.slots().remove(key);
    }

    pub(super) fn sweep(&self, limits: &Limits) {
        let now = self.clock.ticks_us();
        self.slots().retain(|_, slot| slot.young(now, limits));
    }
}

impl Slot {
    fn young(&self, now_us: u64, limits: &Limits) -> bool {
        now_us.saturating_sub(self.used_us.load(Ordering::Relaxed)) / 1000 < limits.session_idle_ms
    }

    /// Whether it is of this server as it is configured now, and can still be used.
    fn fits(&self, server: &Arc<Server>, now_us: u64, limits: &Limits) -> bool {
        let same = std::ptr::eq(self.server.as_ptr(), Arc::as_ptr(server));
        same && self.young(now_us, limits) && self.link.get().is_none_or(|link| link.alive())
    }
}

async fn open(crossing: &Crossing<'_>, said: &Said) -> Result<Arc<Link>, Refusal> {
    let limits = crossing.limits;
    let link = Link::open(crossing.server, &crossing.behalf, "pooled", &said.params, limits).await?;
    let logs = has_logging(&link.initialized);
    if let Some(level) = said.log_level.as_ref().filter(|_| logs) {
        link.ask("logging/setLevel", &format!(r#"{{"level":{level}}}"#), limits).await?;
    }
    let link = Arc::new(link);
    if said.talks {
        link.listen().await;
    }
    Ok(link)
}

fn has_logging(initialized: &Message) -> bool {
    initialized.result().is_some_and(|result| result.path(&["capabilities", "logging"]).is_some())
}
