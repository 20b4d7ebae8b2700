//! What a server offers, pinned. Clients see and call the pinned definitions; what a server says now is compared
//! with them, and what changed is quarantined until a person decides (promise 10; `definitions.rs` of the store
//! holds the convention that the admin API shares).

mod entries;
mod fresh;
mod held;
mod imitation;
mod lists;
mod neighbours;
mod refresh;
mod shown;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use portcullis_connect::results::Results;
use portcullis_core::{Clock, Code, Digest, Refusal, TargetKind};
use portcullis_inspect::Inspector;
use portcullis_mcp::{json::View, revision::ParamHeader, schema::Schema, template};
use portcullis_policy::Audience;
pub use portcullis_store::definitions::Standing;
use portcullis_store::{Ledger, Revisions, StoreError, definitions};

use self::{entries::Allowance, fresh::Fresh, lists::Lists, neighbours::Seat, shown::Shown};
pub use self::{
    lists::{Judges, List, Made},
    neighbours::Neighbours,
};

/// Who moves heads when a server shows something new.
const OBSERVER: &str = "gateway";

/// What happens to definitions nobody has approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nothing is usable before a person approved it.
    Review,
    /// The first catalogue is pinned as it is; what comes later is reviewed.
    TrustOnFirstUse,
}

/// One definition.
#[derive(Debug)]
pub struct Item {
    /// Tool, prompt, resource or template.
    pub kind: TargetKind,
    /// Its name, URI or URI template.
    pub name: Arc<str>,
    /// The pinned definition as the server wrote it; the observed one while nothing is pinned.
    pub raw: Bytes,
    /// Digest of `raw`.
    pub digest: Digest,
    /// How it stands.
    pub standing: Standing,
    /// Whether `raw` is approved and in force.
    pub pinned: bool,
    schema: OnceLock<Result<Schema, String>>,
    output: OnceLock<Option<Result<Schema, String>>>,
    headers: OnceLock<Vec<ParamHeader>>,
}

impl Item {
    /// The compiled `inputSchema`; a tool without one takes any object.
    ///
    /// # Errors
    /// Why the schema cannot be used: then the tool cannot be called.
    pub fn schema(&self, limits: &portcullis_core::Limits) -> Result<&Schema, &str> {
        let compile = || {
            let schema = View::of(&self.raw).get("inputSchema").map_or(&b"{}"[..], |view| view.raw());
            Schema::compile(schema, limits).map_err(|error| error.to_string())
        };
        self.schema.get_or_init(compile).as_ref().map_err(String::as_str)
    }

    /// The compiled `outputSchema`, if the tool has one.
    ///
    /// # Errors
    /// Why the schema cannot be used.
    pub fn output(&self, limits: &portcullis_core::Limits) -> Result<Option<&Schema>, &str> {
        let compile = || {
            let schema = View::of(&self.raw).get("outputSchema")?;
            Some(Schema::compile(schema.raw(), limits).map_err(|error| error.to_string()))
        };
        self.output.get_or_init(compile).as_ref().map(Result::as_ref).transpose().map_err(String::as_str)
    }

    /// Arguments that clients mirror in `Mcp-Param-*` headers. A tool whose annotations are invalid is held back before it
    /// is pinned; one that was pinned earlier mirrors nothing.
    pub fn headers(&self) -> &[ParamHeader] {
        self.headers.get_or_init(|| {
            let schema = View::of(&self.raw).get("inputSchema");
            schema.and_then(|schema| ParamHeader::from_schema(&schema).ok()).unwrap_or_default()
        })
    }

    /// Whether lists show it: only what is pinned, and only while the server has it.
    #[must_use]
    pub fn listed(&self) -> bool {
        match self.standing {
            Standing::Approved | Standing::Changed => true,
            Standing::Rejected => self.pinned,
            Standing::Pending | Standing::Vanished => false,
        }
    }
}

/// All definitions of a server at one moment.
#[derive(Debug, Default)]
pub struct State {
    items: [HashMap<Arc<str>, Arc<Item>>; TargetKind::ALL.len()],
    /// In the order in which the server last listed them.
    order: BTreeMap<TargetKind, Vec<Arc<str>>>,
    /// Kinds of which anything was ever pinned or observed.
    known: [bool; TargetKind::ALL.len()],
    /// What the server lists but nobody can pin, with the reason.
    held: Held,
    shown: Shown,
}

/// Reasons by kind and name.
type Held = BTreeMap<TargetKind, BTreeMap<Arc<str>, Arc<str>>>;

impl State {
    /// The definition of that kind and name.
    #[must_use]
    pub fn find(&self, kind: TargetKind, name: &str) -> Option<&Arc<Item>> {
        self.items.get(kind as usize)?.get(name)
    }

    /// Why the server's definition of that kind and name cannot be pinned, if that is so.
    #[must_use]
    pub fn held(&self, kind: TargetKind, name: &str) -> Option<&str> {
        self.held.get(&kind)?.get(name).map(|why| &**why)
    }

    /// Whether anything of that kind was ever pinned or observed: then the first catalogue has been.
    #[must_use]
    pub fn known(&self, kind: TargetKind) -> bool {
        self.known.get(kind as usize).copied().unwrap_or(false)
    }

    /// The template that a URI is an instance of.
    #[must_use]
    pub fn template_of(&self, uri: &str) -> Option<&Arc<Item>> {
        let templates = self.order.get(&TargetKind::Template)?;
        let name = templates.iter().find(|name| template::matches(name, uri))?;
        self.find(TargetKind::Template, name)
    }

    /// All definitions of a kind, in the server's order.
    pub fn list(&self, kind: TargetKind) -> impl Iterator<Item = &Arc<Item>> {
        self.order.get(&kind).into_iter().flatten().filter_map(move |name| self.find(kind, name))
    }

    /// Which definitions of a kind are shown, in the order of [`Self::list`]: what `decide` says, remembered for
    /// `audience` where there is one.
    pub fn shown(
        &self,
        kind: TargetKind,
        audience: Option<Audience>,
        decisions_max: u64,
        decide: impl Fn(&Item) -> bool,
    ) -> Arc<[bool]> {
        let all = || self.list(kind).map(|item| item.listed() && decide(item)).collect();
        match audience {
            Some(audience) => self.shown.of(kind, audience, decisions_max, all),
            None => all(),
        }
    }

    /// Whether both hold the same, in the same order.
    fn is_like(&self, other: &Self) -> bool {
        let same = |one: &HashMap<Arc<str>, Arc<Item>>, other: &HashMap<Arc<str>, Arc<Item>>| {
            let held = |(name, item): (&Arc<str>, &Arc<Item>)| {
                other.get(name).is_some_and(|other| Arc::ptr_eq(item, other))
            };
            one.len() == other.len() && one.iter().all(held)
        };
        self.known == other.known
            && self.order == other.order
            && self.held == other.held
            && self.items.iter().zip(&other.items).all(|(one, other)| same(one, other))
    }
}

/// The parts of the world a catalogue works with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where definitions are kept.
    pub revisions: Arc<dyn Revisions>,
    /// Where changes are recorded before they take effect.
    pub ledger: Arc<dyn Ledger>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Which gateway this is, for entries.
    pub instance: Arc<str>,
    /// The detectors of the configuration in force.
    pub inspector: Arc<ArcSwap<Inspector>>,
    /// What the servers of the gateway call their tools.
    pub neighbours: Arc<Neighbours>,
}

/// What one server offers.
#[derive(Debug)]
pub struct Catalog {
    server: Arc<str>,
    trust: Trust,
    parts: Parts,
    state: ArcSwap<State>,
    /// The order of the last listing, by kind.
    order: std::sync::Mutex<BTreeMap<TargetKind, Vec<Arc<str>>>>,
    /// What of the last listing cannot be pinned.
    held: std::sync::Mutex<Held>,
    /// One refresh at a time; whoever waited takes a result that began after it asked.
    gate: tokio::sync::Mutex<()>,
    loading: tokio::sync::Mutex<()>,
    judging: tokio::sync::Mutex<()>,
    /// What of its neighbours was known when its definitions were last judged by them.
    judged: AtomicU64,
    fetched_us: [AtomicU64; 4],
    error: std::sync::Mutex<Option<String>>,
    offered: ArcSwap<Vec<String>>,
    capabilities: ArcSwap<Bytes>,
    fresh: Fresh,
    seat: Seat,
    /// What was recorded of its changes.
    entries: std::sync::Mutex<Allowance>,
    /// What of its resources was read, where it says that this may be kept.
    pub reads: Results,
    /// Answers to lists of its route.
    pub lists: Lists,
}

impl Catalog {
    /// An empty catalogue; [`Self::load`] fills it from the store.
    #[must_use]
    pub fn new(server: Arc<str>, trust: Trust, parts: Parts) -> Self {
        let seat = parts.neighbours.seat(&server);
        Self {
            seat,
            server,
            trust,
            parts,
            state: ArcSwap::default(),
            order: std::sync::Mutex::default(),
            held: std::sync::Mutex::default(),
            gate: tokio::sync::Mutex::default(),
            loading: tokio::sync::Mutex::default(),
            judging: tokio::sync::Mutex::default(),
            judged: AtomicU64::default(),
            fetched_us: Default::default(),
            error: std::sync::Mutex::default(),
            offered: ArcSwap::default(),
            capabilities: ArcSwap::new(Arc::new(Bytes::from_static(b"{}"))),
            fresh: Fresh::default(),
            entries: std::sync::Mutex::default(),
            reads: Results::default(),
            lists: Lists::default(),
        }
    }

    /// The catalogue at this moment.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Why the last refresh failed, if it did.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        lock(&self.error).clone()
    }

    /// What the server lists that cannot be pinned, in words; the rest of its catalogue is in use.
    #[must_use]
    pub fn unusable(&self) -> Option<String> {
        let state = self.state();
        let all = state.held.iter().flat_map(|(kind, held)| held.iter().map(move |one| (kind, one)));
        let words = all.map(|(kind, (name, why))| format!("{kind} `{name}` cannot be pinned: {why}"));
        // One is enough to look at the server; there can be many.
        let (count, first) = (state.held.values().map(BTreeMap::len).sum::<usize>(), words.min()?);
        Some(if count > 1 { format!("{first}; and {} more", count - 1) } else { first })
    }

    /// The protocol versions that the server says it supports; empty before it was asked.
    #[must_use]
    pub fn versions(&self) -> Arc<Vec<String>> {
        self.offered.load_full()
    }

    /// The capabilities that the server stated last, as JSON; an empty object before it was asked.
    #[must_use]
    pub fn capabilities(&self) -> Arc<Bytes> {
        self.capabilities.load_full()
    }

    /// Whether the newest listing of a kind may still be served: the server's `ttlMs` is not over, and it has not
    /// said since that the list changed. What states no `ttlMs` is kept for `unstated_ms`; nothing longer than `max_ms`.
    #[must_use]
    pub fn is_fresh(&self, kind: TargetKind, unstated_ms: u64, max_ms: u64) -> bool {
        let fetched = self.fetched_us.get(kind as usize).map_or(0, |at| at.load(Ordering::Acquire));
        self.fresh.lasts(kind, fetched, self.parts.clock.ticks_us(), unstated_ms, max_ms)
    }

    /// How long the newest listing of a kind lasts: as the server stated, or `unstated_ms`.
    #[must_use]
    pub fn ttl_ms(&self, kind: TargetKind, unstated_ms: u64) -> u64 {
        self.fresh.ttl_ms(kind, unstated_ms)
    }

    /// The server said that its lists changed: what was listed or read before is served no more.
    pub fn invalidate(&self) {
        self.reads.clear();
        self.fresh.changed(self.parts.clock.ticks_us());
    }

    /// Whether nobody waits for the [`Self::turn`] to fetch what changed; from now on somebody does.
    pub fn queue(&self) -> bool {
        self.fresh.queue()
    }

    /// Waits until what changed may be fetched: at once, or a second after the last time.
    pub async fn turn(&self) {
        let pause_us = self.fresh.pause_us(self.parts.clock.ticks_us());
        tokio::time::sleep(Duration::from_micros(pause_us)).await;
        self.fresh.turn(self.parts.clock.ticks_us());
    }

    /// How old the newest listing of a kind is; `None` before the first.
    #[must_use]
    pub fn age_us(&self, kind: TargetKind) -> Option<u64> {
        let at = self.fetched_us.get(kind as usize).map_or(0, |at| at.load(Ordering::Acquire));
        (at > 0).then(|| self.parts.clock.ticks_us().saturating_sub(at))
    }

    /// Reads pinned and observed definitions from the store, after a start and after every change there.
    ///
    /// # Errors
    /// When the store cannot be read; the old state stays.
    pub async fn load(&self) -> Result<(), StoreError> {
        // One at a time: of two, the one that read the store first must not be the last to say what it saw.
        let _one = self.loading.lock().await;
        let old = self.state();
        let mut state = State { order: self.order(), held: lock(&self.held).clone(), ..State::default() };
        for kind in TargetKind::ALL {
            for (name, heads) in self.heads(*kind).await? {
                if let Some(known) = state.known.get_mut(*kind as usize) {
                    *known = true;
                }
                if let Some(item) = self.item(&old, *kind, &name, &heads).await? {
                    let order = state.order.entry(*kind).or_default();
                    if !order.contains(&item.name) {
                        order.push(Arc::clone(&item.name));
                    }
                    if let Some(items) = state.items.get_mut(*kind as usize) {
                        items.insert(Arc::clone(&item.name), item);
                    }
                }
            }
        }
        let tools = state.list(TargetKind::Tool).map(|item| (Arc::clone(&item.name), item.pinned)).collect();
        // What was decided about a state lasts as long as it does.
        if !state.is_like(&old) {
            self.state.store(Arc::new(state));
        }
        self.seat.set(tools);
        Ok(())
    }

    /// Where the definitions of a kind stand in the store, by name.
    async fn heads(&self, kind: TargetKind) -> Result<BTreeMap<String, definitions::Heads>, StoreError> {
        let mut held: BTreeMap<String, definitions::Heads> = BTreeMap::new();
        for head in self.parts.revisions.heads(kind.name()).await? {
            if let Some((server, name)) = definitions::split(&head.name)
                && server == &*self.server
            {
                held.entry(name.to_owned()).or_default().set(&head.slot, head.digest);
            }
        }
        Ok(held)
    }

    fn order(&self) -> BTreeMap<TargetKind, Vec<Arc<str>>> {
        lock(&self.order).clone()
    }

    async fn item(
        &self,
        old: &State,
        kind: TargetKind,
        name: &str,
        heads: &definitions::Heads,
    ) -> Result<Option<Arc<Item>>, StoreError> {
        let Some(standing) = heads.standing() else { return Ok(None) };
        let Some(digest) = heads.pinned.or(heads.observed) else { return Ok(None) };
        let reused = old.find(kind, name).filter(|item| item.digest == digest);
        if let Some(item) = reused.filter(|item| item.standing == standing) {
            return Ok(Some(Arc::clone(item)));
        }
        let raw = match reused {
            Some(item) => item.raw.clone(),
            None => {
                let stored = definitions::name(&self.server, name);
                match self.parts.revisions.get(kind.name(), &stored, digest).await? {
                    Some(revision) => Bytes::from(revision.body.clone()),
                    None => return Ok(None),
                }
            }
        };
        let name = Arc::from(name);
        let (schema, output, headers) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Ok(Some(Arc::new(Item {
            kind,
            name,
            raw,
            digest,
            standing,
            pinned: heads.pinned.is_some(),
            schema,
            output,
            headers,
        })))
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn store_refusal(error: StoreError) -> Refusal {
    Refusal::new(Code::Internal, format!("the store failed: {error}"))
}
