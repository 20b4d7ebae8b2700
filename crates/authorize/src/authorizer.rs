//! What all servers share: who connected to which, whose consent is awaited, and where all of that is kept.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use portcullis_core::{Caller, Clock, Code, Entropy, Event, Target, Timestamp};
use portcullis_proof::{Entry, entry::Actor};
use portcullis_seal::Sealer;
use portcullis_store::{ConnectionRow, Connections, Ledger};

use crate::{
    flow::{Answer, Flow, Flows},
    grant::Grant,
    presented::Presented,
    vault::Vault,
    web::Failure,
};

/// Callers and servers whose grants are held in memory; the others are read again when they are needed.
const SLOTS_MAX: usize = 10_000;
/// Connections of all callers. Beyond, nobody new can connect.
pub(crate) const CONNECTIONS_MAX: u64 = 1_000_000;

/// What an authorizer works with.
pub struct Parts {
    /// Where grants are kept.
    pub store: Arc<dyn Connections>,
    /// Seals them.
    pub sealer: Sealer,
    /// Where every change is recorded before it takes effect.
    pub ledger: Arc<dyn Ledger>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// Which gateway this is, in entries.
    pub instance: Arc<str>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("instance", &self.instance).finish_non_exhaustive()
    }
}

/// An authorization that was answered.
#[derive(Debug)]
pub struct Taken(pub(crate) Flow);

impl Taken {
    /// Whose it is.
    #[must_use]
    pub fn caller(&self) -> &str {
        &self.0.caller
    }

    /// The server it is about.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.0.server
    }
}

/// A caller's grant for a server, as far as it is known here. One at a time works with it, so that a refresh token is
/// used once.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// Whether the store was asked.
    pub(crate) known: bool,
    pub(crate) grant: Option<Grant>,
    /// What the server said when it wanted a token: where its metadata is, and which scopes.
    pub(crate) said: Option<(Option<String>, Vec<String>)>,
    /// What went wrong the last time, and when, so that those who waited for it do not all try the same.
    pub(crate) failed: Option<(Timestamp, Failure)>,
    /// When an operator ended the connection: what was begun before leads to none.
    pub(crate) ended: Option<Timestamp>,
    /// What an exchange gave counts in this epoch alone.
    pub(crate) epoch: u64,
}

type Slots = HashMap<(Arc<str>, String), Arc<tokio::sync::Mutex<Slot>>>;

/// Under which name the exchange of one token of a caller is held.
pub(crate) fn exchange_name(caller: &str, token: &str) -> String {
    format!("{caller}\n{token}")
}

fn exchanged_for(name: &str) -> Option<&str> {
    name.rsplit_once('\n').map(|(caller, _)| caller)
}

/// Tokens for the servers behind one gateway.
#[derive(Debug)]
pub struct Authorizer {
    pub(crate) vault: Vault,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    instance: Arc<str>,
    /// Which links were used is known from here on alone.
    pub(crate) started: Timestamp,
    flows: Mutex<Flows>,
    slots: Mutex<Slots>,
    presented: Mutex<Presented>,
    epoch: AtomicU64,
}

impl Authorizer {
    /// An authorizer with these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { store, sealer, ledger, clock, entropy, instance } = parts;
        let vault = Vault::new(store, sealer, Arc::clone(&entropy));
        Self {
            vault,
            ledger,
            started: clock.now(),
            clock,
            entropy,
            instance,
            flows: Mutex::default(),
            slots: Mutex::default(),
            presented: Mutex::default(),
            epoch: AtomicU64::default(),
        }
    }

    /// Notes that a caller came with that token, which was judged valid, so that it can be exchanged.
    pub fn presented_by(&self, caller: &Caller, token: &str) {
        self.presented().note(caller, token, self.clock.now());
    }

    /// Uses nothing any more that was obtained in exchange, as after somebody was killed.
    pub fn exchange_anew(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether anything is held that the tokens of `caller` were exchanged for.
    pub(crate) fn holds_exchanged(&self, server: &Arc<str>, caller: &str) -> bool {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.keys().any(|(of, name)| of == server && exchanged_for(name) == Some(caller))
    }

    /// Forgets what the tokens of `caller` were exchanged for.
    pub(crate) fn forget_exchanged(&self, server: &Arc<str>, caller: &str) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|(of, name), _| of != server || exchanged_for(name) != Some(caller));
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    pub(crate) fn presented(&self) -> MutexGuard<'_, Presented> {
        self.presented.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is connected to what.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn list(&self) -> Result<Vec<ConnectionRow>, Failure> {
        self.vault.list().await
    }

    /// Forgets what is kept for a server that is not declared any more; nothing when there is nothing.
    ///
    /// # Errors
    /// When the ledger or the store does not take it.
    pub async fn forget(
        &self,
        caller: &str,
        server: &str,
        by: &str,
    ) -> Result<Option<Result<(), Failure>>, Failure> {
        if !self.vault.has(caller, server).await? {
            return Ok(None);
        }
        let why = "what is kept does not belong to the server as it is declared now";
        let server: Arc<str> = Arc::from(server);
        self.record(Event::ConnectionRevoked, (caller, &server), &[("by", by)], Some(why)).await?;
        self.vault.forget(caller, &server).await?;
        Ok(Some(Err(Failure::Unavailable(why.into()))))
    }

    /// The authorization that the answer of a browser belongs to, which it answers for good.
    ///
    /// # Errors
    /// [`Failure::Untrusted`] when it belongs to none, came too late, in another browser, or from somebody else.
    pub fn take(&self, answer: &Answer, cookie: Option<&str>) -> Result<Taken, Failure> {
        self.flows().take(answer, cookie, self.clock.now()).map(Taken)
    }

    pub(crate) fn flows(&self) -> MutexGuard<'_, Flows> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn slot(&self, server: &Arc<str>, caller: &str) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= SLOTS_MAX {
            // One that somebody works with stays, so that nobody works with another of the same grant.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry((Arc::clone(server), caller.to_owned())).or_default())
    }

    /// When an operator ended the connection of `caller`; nothing while somebody works with it.
    pub(crate) fn ended(&self, server: &Arc<str>, caller: &str) -> Option<Timestamp> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.get(&(Arc::clone(server), caller.to_owned()))?;
        slot.try_lock().ok()?.ended
    }

    /// Records a change before it takes effect.
    pub(crate) async fn record(
        &self,
        event: Event,
        (caller, server): (&str, &Arc<str>),
        data: &[(&'static str, &str)],
        detail: Option<&str>,
    ) -> Result<(), Failure> {
        let target = Target { server: Arc::clone(server), item: None, digest: None };
        let mut entry = Entry::new(event, self.clock.now(), &self.instance);
        entry.actor = Some(Actor {
            id: caller,
            kind: portcullis_core::CallerKind::User,
            proof: "connection",
            roles: &[],
            issuer: None,
            token: None,
        });
        entry.target = Some(&target);
        entry.data = data.iter().map(|(name, value)| (*name, serde_json::Value::from(*value))).collect();
        entry.detail = detail;
        entry.code = (event == Event::ConnectionFailed).then_some(Code::ConnectionFailed);
        let appended = self.ledger.append(entry.to_jcs()).await;
        appended.map(drop).map_err(|error| Failure::Ours(format!("the ledger cannot be written: {error}")))
    }
}
