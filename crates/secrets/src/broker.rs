//! Values of references: fetched when they are first needed, kept for as long as their source lets them, fetched anew
//! ahead of that in the background, and never used beyond it.

mod address;
mod guard;
mod obtain;
mod renew;
mod slot;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use portcullis_core::{Clock, Secret, Timestamp};

pub use guard::Censor;
pub use renew::Renewed;

use address::Address;
use slot::{Held, Slot};

use crate::{
    aws::SecretsManager,
    local::{self, Variables},
    reference::{AwsValue, Place, Reference},
    source::{Document, Failure, Lease},
    vault::Vault,
    watch::Watched,
};

/// Documents that are held.
const SLOTS_MAX: usize = 10_000;
/// For how long a failure is the answer to whoever asks next.
const FAILED_US: u64 = 1_000_000;
/// After a failure a new value is looked for again, while the old one may still be used.
const RETRY_US: u64 = 5_000_000;
/// For one document, whatever is tried.
const FETCH: Duration = Duration::from_secs(20);
/// Calls under way may still use what a new lease replaced.
const REPLACED: Duration = Duration::from_secs(60);
/// A value that a server did not take is not asked for anew more often.
const REFUSED_US: u64 = 1_000_000;

/// What the operator declares about values.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// How long a value is used whose source does not say.
    pub lasts: Duration,
    /// How much longer it is used while its source does not answer, by reference without field, or for all as `*`.
    pub outage: BTreeMap<String, Duration>,
    /// How long a value is looked for in what comes back, after it was last handed out.
    pub watched: Duration,
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            lasts: Duration::from_secs(300),
            outage: BTreeMap::new(),
            watched: Duration::from_secs(86_400),
        }
    }
}

/// Keeps the record of what happens to secrets. Values never come here.
#[async_trait]
pub trait Witness: Send + Sync + fmt::Debug {
    /// A caller is about to use a secret for the first time since the gateway started.
    async fn used(&self, reference: &str, caller: Option<&str>) -> Result<(), Failure>;

    /// A secret has a new value, which is about to be used.
    async fn rotated(&self, reference: &str, version: Option<&str>) -> Result<(), Failure>;

    /// A secret, or one that was planted, stood in what a server writes beside its answers.
    async fn leaked(&self, reference: &str, canary: bool, server: &str) -> Result<(), Failure>;
}

/// Secrets that the gateway keeps itself.
#[async_trait]
pub trait Keeper: Send + Sync + fmt::Debug {
    /// The value in force, and what names it.
    async fn read(&self, name: &str) -> Result<Option<(Secret<String>, String)>, Failure>;
}

/// What is known of a secret without its value.
#[derive(Clone, Debug)]
pub struct State {
    /// The reference without its field.
    pub document: String,
    /// When its value was fetched.
    pub since: Timestamp,
    /// What the source calls this state of it.
    pub version: Option<String>,
    /// When the source got it, where it says so.
    pub created: Option<Timestamp>,
    /// How many seconds it may still be used.
    pub remaining_s: u64,
    /// Whether it ends with a lease.
    pub leased: bool,
}

/// All values.
pub struct Broker {
    vault: Option<Vault>,
    aws: Option<SecretsManager>,
    keeper: Option<Arc<dyn Keeper>>,
    variables: Variables,
    clock: Arc<dyn Clock>,
    keeping: Keeping,
    witness: Arc<dyn Witness>,
    watched: Arc<Watched>,
    slots: Mutex<HashMap<Address, Arc<Slot>>>,
    closed: AtomicBool,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("vault", &self.vault).field("aws", &self.aws).finish_non_exhaustive()
    }
}

/// Why a source is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Nothing is held that may be used without a question.
    Missing,
    /// What is held ends soon.
    Ahead,
    /// A server does not take what is held.
    Refused,
    /// An operator wants another.
    Asked,
}

/// Where values come from.
#[derive(Debug)]
pub struct Parts {
    /// Vault or OpenBao.
    pub vault: Option<Vault>,
    /// AWS Secrets Manager.
    pub aws: Option<SecretsManager>,
    /// What the gateway keeps itself.
    pub keeper: Option<Arc<dyn Keeper>>,
    /// The environment.
    pub variables: Variables,
    /// How long they are kept.
    pub keeping: Keeping,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The record.
    pub witness: Arc<dyn Witness>,
}

impl Broker {
    /// The values of all references. Nothing is connected yet.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { vault, aws, keeper, variables, keeping, clock, witness } = parts;
        let (slots, closed) = (Mutex::default(), AtomicBool::new(false));
        let watched = Arc::new(Watched::new(Arc::clone(&clock), keeping.watched));
        Arc::new(Self { vault, aws, keeper, variables, clock, keeping, witness, watched, slots, closed })
    }

    /// AWS Secrets Manager, where it is declared.
    #[must_use]
    pub const fn aws(&self) -> Option<&SecretsManager> {
        self.aws.as_ref()
    }

    /// The value of a reference for a caller, or for the gateway itself.
    ///
    /// # Errors
    /// Why there is none that may be used now.
    pub async fn value(
        self: &Arc<Self>,
        reference: &Reference,
        caller: Option<&str>,
    ) -> Result<Secret<String>, Failure> {
        if reference.fixed() {
            return self.here(reference).map_err(Failure::Unavailable);
        }
        let slot = self.slot(reference, caller)?;
        let held = self.held(&slot).await?;
        let value = held.document.fields.get(reference.field()).ok_or_else(|| {
            let known: Vec<&str> =
                held.document.fields.keys().map(String::as_str).filter(|name| !name.is_empty()).collect();
            Failure::Absent(format!("`{reference}`: no field of that name; there are: {}", known.join(", ")))
        })?;
        if !matches!(slot.address, Address::File(_)) && slot.first(caller) {
            let recorded = self.witness.used(&slot.address.to_string(), caller).await;
            if let Err(failure) = recorded {
                slot.forget(caller);
                return Err(failure);
            }
        }
        let named = || match &slot.address {
            Address::Vault { .. } | Address::Aws { .. } => format!("{}#{}", slot.address, reference.field()),
            Address::File(_) | Address::Local(_) => reference.to_string(),
        };
        self.arm(reference, named, value.expose());
        Ok(Secret::new(format!("{}{}", reference.prefix(), value.expose())))
    }

    /// The value of a reference that is on this machine.
    fn here(&self, reference: &Reference) -> Result<Secret<String>, String> {
        let value = local::read(reference, &self.variables)?;
        let bare = value.expose().strip_prefix(reference.prefix()).unwrap_or_default();
        self.arm(reference, || reference.to_string(), bare);
        Ok(value)
    }

    /// The value of a reference that is on this machine or was fetched before: for what is made once, where nobody can
    /// wait.
    ///
    /// # Errors
    /// Names the reference, never the value.
    pub fn known(&self, reference: &Reference) -> Result<Secret<String>, String> {
        if !reference.kept_elsewhere() {
            return self.here(reference);
        }
        let slot = self.slot(reference, None).map_err(|failure| failure.to_string())?;
        let held = slot.held().filter(|held| self.clock.ticks_us() < held.dead_us);
        let value = held.as_ref().and_then(|held| held.document.fields.get(reference.field()));
        let value = value.ok_or_else(|| format!("`{reference}` was not fetched, or has no such field"))?;
        Ok(Secret::new(format!("{}{}", reference.prefix(), value.expose())))
    }

    /// A server did not take the value. Another one, where the source has it by now.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub async fn refused(
        self: &Arc<Self>,
        reference: &Reference,
        caller: Option<&str>,
        value: &Secret<String>,
    ) -> Result<Option<Secret<String>>, Failure> {
        if reference.fixed() {
            return Ok(None);
        }
        let other = self.value(reference, caller).await?;
        if other.expose() != value.expose() {
            return Ok(Some(other));
        }
        self.fetch(&self.slot(reference, caller)?, Why::Refused).await?;
        let other = self.value(reference, caller).await?;
        Ok((other.expose() != value.expose()).then_some(other))
    }

    /// Files, and what the gateway keeps itself, are read anew when they are needed next.
    pub fn look_again(&self) {
        for slot in self.lock().values() {
            if matches!(slot.address, Address::File(_) | Address::Local(_)) {
                slot.look_again();
            }
        }
    }

    /// What is held now.
    #[must_use]
    pub fn states(&self) -> Vec<State> {
        let slots: Vec<_> = self.lock().values().cloned().collect();
        let now = self.clock.ticks_us();
        let state = |slot: &Arc<Slot>| {
            let held = slot.held()?;
            Some(State {
                document: slot.address.to_string(),
                since: held.since,
                version: held.document.version.clone(),
                created: held.document.created,
                remaining_s: held.dead_us.saturating_sub(now) / 1_000_000,
                leased: matches!(held.document.lease, Lease::Held { .. }),
            })
        };
        let mut states: Vec<State> = slots.iter().filter_map(state).collect();
        states.sort_by(|a, b| a.document.cmp(&b.document));
        states
    }

    /// Gives back every lease and the token. Values are not handed out any more.
    pub async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let slots: Vec<_> = self.lock().drain().map(|(_, slot)| slot).collect();
        let Some(vault) = &self.vault else { return };
        for slot in slots {
            let held = slot.held();
            if let Some(Lease::Held { id, .. }) = held.as_ref().map(|held| &held.document.lease)
                && let Err(error) = vault.revoke(id).await
            {
                tracing::warn!(secret = %slot.address, %error, "a lease could not be given back and ends by itself");
            }
        }
        vault.leave().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Address, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, reference: &Reference, caller: Option<&str>) -> Result<Arc<Slot>, Failure> {
        let nobody = || Failure::Absent(format!("`{reference}` differs by caller, and nobody calls"));
        let address = match reference.place() {
            Place::Vault { path, version, .. } => {
                Address::Vault { path: path.filled(caller).ok_or_else(nobody)?, version: *version }
            }
            Place::Aws { name, which, .. } => {
                let (stage, version) = match which {
                    AwsValue::Stage(stage) => (Some(stage.clone()), None),
                    AwsValue::Version(version) => (None, Some(version.clone())),
                };
                Address::Aws { name: name.filled(caller).ok_or_else(nobody)?, stage, version }
            }
            Place::File(path) => Address::File(path.clone()),
            Place::Local(name) => Address::Local(name.clone()),
            Place::Literal | Place::Env(_) => return Err(nobody()),
        };
        if self.closed.load(Ordering::Acquire) {
            return Err(Failure::Unavailable("the gateway is stopping".into()));
        }
        let mut slots = self.lock();
        if let Some(slot) = slots.get(&address) {
            return Ok(Arc::clone(slot));
        }
        if slots.len() >= SLOTS_MAX {
            let now = self.clock.ticks_us();
            slots.retain(|_, slot| slot.held().is_some_and(|held| now < held.dead_us));
        }
        if slots.len() >= SLOTS_MAX {
            return Err(Failure::Unavailable(format!("more than {SLOTS_MAX} secrets are in use")));
        }
        let slot = Arc::new(Slot::new(address.clone()));
        slots.insert(address, Arc::clone(&slot));
        Ok(slot)
    }

    /// What may be used now: what is held, or what comes of asking.
    async fn held(self: &Arc<Self>, slot: &Arc<Slot>) -> Result<Arc<Held>, Failure> {
        if slot.looks_again() {
            return self.fetch(slot, Why::Asked).await;
        }
        let now = self.clock.ticks_us();
        if let Some(held) = slot.held().filter(|held| now < held.dead_us) {
            if now >= held.refresh_us.load(Ordering::Relaxed) && slot.begin_refresh() {
                let (broker, slot) = (Arc::clone(self), Arc::clone(slot));
                tokio::spawn(async move {
                    if let Err(error) = broker.fetch(&slot, Why::Ahead).await {
                        tracing::warn!(secret = %slot.address, %error, "no new value; the old one is used to its end");
                    }
                    slot.end_refresh();
                });
            }
            if now < held.fresh_us || slot.failed_since(held.fresh_us) || slot.refreshing() {
                return Ok(held);
            }
        }
        self.fetch(slot, Why::Missing).await
    }

    /// Asks the source, one at a time for each document.
    async fn fetch(self: &Arc<Self>, slot: &Arc<Slot>, why: Why) -> Result<Arc<Held>, Failure> {
        let before = slot.held().map(|held| held.since_us);
        let _turn = slot.turn.lock().await;
        let now = self.clock.ticks_us();
        let held = slot.held();
        if let Some(held) = &held {
            let answered = held.since_us != before.unwrap_or(u64::MAX);
            let enough = match why {
                Why::Missing => now < held.fresh_us,
                Why::Ahead | Why::Asked => false,
                Why::Refused => !slot.asks_again(now, REFUSED_US),
            };
            if answered || enough {
                return Ok(Arc::clone(held));
            }
        }
        if let Some(failure) = slot.failure(now, FAILED_US).filter(|_| why != Why::Asked) {
            return Err(failure);
        }
        // A lease that is renewed keeps its value.
        let renewable = held.as_deref().filter(|_| why != Why::Asked);
        let obtained = tokio::time::timeout(FETCH, self.obtain(slot, renewable)).await;
        let obtained =
            obtained.unwrap_or_else(|_elapsed| Err(Failure::Unavailable("it took too long".into())));
        match obtained {
            Ok(document) => self.keep(slot, held.as_ref(), document).await,
            Err(failure) => {
                let now = self.clock.ticks_us();
                slot.fail(now, failure.clone());
                match held {
                    Some(held) if now < held.dead_us && failure.passing() => {
                        held.refresh_us.store(now.saturating_add(RETRY_US), Ordering::Relaxed);
                        match why {
                            Why::Missing => Ok(held),
                            Why::Ahead | Why::Refused | Why::Asked => Err(failure),
                        }
                    }
                    // It was taken away: what is held must not be used any more either.
                    Some(_) if !failure.passing() => {
                        slot.clear();
                        Err(failure)
                    }
                    Some(_) | None => Err(failure),
                }
            }
        }
    }

    /// Puts a document in force, once it is on record that it is another one.
    async fn keep(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        before: Option<&Arc<Held>>,
        document: Document,
    ) -> Result<Arc<Held>, Failure> {
        let changed = before.is_some_and(|before| slot::differs(&before.document, &document));
        if changed {
            self.witness.rotated(&slot.address.to_string(), document.version.as_deref()).await?;
        }
        let name = slot.address.to_string();
        let outage = self.keeping.outage.get(&name).or_else(|| self.keeping.outage.get("*")).copied();
        let times = (self.keeping.lasts, outage.unwrap_or_default());
        let held = Arc::new(Held::new(document, times, (self.clock.ticks_us(), self.clock.now())));
        slot.keep(Arc::clone(&held));
        if let Some(Lease::Held { id, .. }) = before.map(|before| &before.document.lease)
            && held.document.lease.id() != Some(id)
        {
            self.give_back_later(id.clone());
        }
        Ok(held)
    }

    /// What a new lease replaced is given back, once no call can use it any more.
    fn give_back_later(self: &Arc<Self>, id: String) {
        let broker = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(REPLACED).await;
            if let Some(vault) = &broker.vault
                && let Err(error) = vault.revoke(&id).await
            {
                tracing::debug!(%error, "a lease that was replaced ends by itself");
            }
        });
    }
}
