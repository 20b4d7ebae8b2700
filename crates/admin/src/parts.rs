//! What the control plane works with. The binary puts it together, so that this crate never sees the data plane.

use std::{collections::BTreeSet, fmt, pin::Pin, sync::Arc};

use portcullis_approve::Desk;
use portcullis_core::{Caller, Clock, Digest, Limits, Secret, Timestamp};
use portcullis_forensics::Librarian;
use portcullis_policy::Policies;
use portcullis_seal::Keyring;
use portcullis_store::{ConnectionRow, Grants, Keys, KillSwitch, Ledger, Revisions, Subjects};
use serde_json::Value;

use crate::wire::wire;

/// A future of the control plane.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A fresh API key: its whole text (told once, kept nowhere), its public id and the keyed hash to store.
#[derive(Debug)]
pub struct FreshKey {
    /// What the caller will present.
    pub text: Secret<String>,
    /// The public part.
    pub id: String,
    /// What is stored.
    pub hash: [u8; 32],
}

/// Facts about the running gateway that do not change while it runs.
#[derive(Clone, Debug)]
pub struct GatewayInfo {
    /// Version of the program.
    pub version: String,
    /// Which gateway this is, for ledger entries.
    pub instance: String,
    /// URL for clients, without the server's name.
    pub endpoint: String,
    /// The configuration file; `None` where there is none.
    pub config: Option<String>,
    /// The data directory.
    pub data: String,
    /// Verifier key of the ledger (C2SP vkey).
    pub vkey: String,
    /// When it started, in milliseconds since 1970.
    pub started_ms: u64,
}

wire! { answer
    /// What was used of a quota by those who share one count.
    QuotaState {
        /// The quota, by name.
        quota: String,
        /// Who shares a count: `caller`, `role`, `tool`, `caller_and_tool` or `all`.
        per: String,
        /// Who shares this one.
        sharer: String,
        /// When the window ends (RFC 3339).
        ends: String,
        /// Calls, those written ahead of their use included.
        calls: u64,
        /// The most.
        calls_max: Option<u64>,
        /// Bytes.
        bytes: u64,
        /// The most.
        bytes_max: Option<u64>,
        /// Units.
        cost: u64,
        /// The most.
        cost_max: Option<u64>,
    }
}

wire! { answer
    /// One server behind the gateway.
    ServerState {
        /// Its name, the last part of its route.
        name: String,
        /// `http` or `stdio`.
        transport: String,
        /// `file` (declared in portcullis.yaml) or `runtime` (added through this API).
        source: String,
        /// `ready`, `starting`, `failing` or `unknown` (not used yet).
        state: String,
        /// URL or program, without arguments and credentials.
        place: String,
        /// Protocol revisions it speaks, as far as known.
        revisions: Vec<String>,
        /// How its processes are confined: `off`, `full`, or what this kernel lacks; absent where it has none.
        sandbox: Option<String>,
        /// What is wrong, while something is.
        error: Option<String>,
    }
}

/// How the data plane is.
pub trait Health: Send + Sync + fmt::Debug {
    /// Every server behind the gateway, by name.
    fn servers(&self) -> Vec<ServerState>;

    /// Whether there is a server, or a route over several, of that name.
    fn leads_somewhere(&self, server: &str) -> bool {
        self.servers().iter().any(|known| known.name == server)
    }

    /// Whether the gateway takes calls; false while it starts or stops.
    fn ready(&self) -> bool;
}

/// What became of a connection that was to be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// There is none.
    Unknown,
    /// The tokens are forgotten, and the authorization server took them back.
    Everywhere,
    /// The tokens are forgotten; why the authorization server did not take them back.
    Here(String),
}

/// Who is connected to what, and how that ends.
pub trait ConnectionBook: Send + Sync + fmt::Debug {
    /// Every connection.
    fn list(&self) -> Pending<Result<Vec<ConnectionRow>, String>>;

    /// Ends one, recorded before it takes effect.
    fn revoke(&self, caller: &str, server: &str, by: &str) -> Pending<Result<Revoked, String>>;
}

/// A secret that the gateway keeps, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretState {
    /// Its name.
    pub name: String,
    /// When the value in force was put here.
    pub changed: Timestamp,
    /// Who put it here.
    pub by: String,
    /// Whether its value is long enough to be looked for in what comes back; nothing while the keys of the store are not open.
    pub watched: Option<bool>,
}

/// A place in the configuration at which a secret stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUse {
    /// The key there.
    pub key: String,
    /// The reference.
    pub reference: String,
    /// The server that is given it; nothing where the gateway alone uses it.
    pub server: Option<String>,
    /// Whether each caller has a value of its own.
    pub personal: bool,
}

/// A secret that was fetched anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewedSecret {
    /// The reference without its field.
    pub document: String,
    /// Whether the value is another one; nothing was held before where this says nothing.
    pub changed: Option<bool>,
    /// What the source calls this state of it.
    pub version: Option<String>,
}

/// The secrets that the gateway keeps, and those that its configuration refers to. No value ever comes out.
pub trait SecretBook: Send + Sync + fmt::Debug {
    /// Every secret, by name.
    fn list(&self) -> Pending<Result<Vec<SecretState>, String>>;

    /// Seals a value and puts it in force.
    fn put(&self, name: &str, value: Secret<String>, by: &str) -> Pending<Result<(), String>>;

    /// Takes a secret out of use.
    fn remove(&self, name: &str, by: &str) -> Pending<Result<(), String>>;

    /// Where a secret stands, by its reference (also without its field), by `local:NAME` or by the key in the configuration.
    fn uses(&self, name: &str) -> Pending<Result<Vec<SecretUse>, String>>;

    /// Fetches anew what stands at such a place; with `at_source` its source makes a new value first.
    fn renew(&self, key: &str, at_source: bool) -> Pending<Result<Vec<RenewedSecret>, String>>;
}

/// A credential that was planted, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryState {
    /// Its name.
    pub name: String,
    /// What it looks like; nothing while the keys of the store are not open.
    pub kind: Option<String>,
    /// When it was planted.
    pub created: Timestamp,
    /// Who planted it.
    pub by: String,
}

/// The values of a credential, by the variables in which programs look for them.
pub type CanaryValues = Vec<(String, Secret<String>)>;

/// Credentials that nobody has a reason to use.
pub trait CanaryBook: Send + Sync + fmt::Debug {
    /// Every one, by name.
    fn list(&self) -> Pending<Result<Vec<CanaryState>, String>>;

    /// A new credential of that kind; nothing where there is no such kind.
    fn make(&self, kind: &str) -> Option<CanaryValues>;

    /// Seals a credential under a name that is free, and looks for it from now on.
    fn plant(&self, name: &str, kind: &str, values: &CanaryValues, by: &str) -> Pending<Result<(), String>>;

    /// Does not look for it any more.
    fn remove(&self, name: &str, by: &str) -> Pending<Result<(), String>>;
}

/// How a sink is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkState {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// How entries are written for it.
    pub format: String,
    /// The next entry.
    pub next: u64,
    /// Entries that were not looked at yet.
    pub lag: u64,
    /// Messages delivered since the start.
    pub delivered: u64,
    /// Messages that were not wanted since the start.
    pub skipped: u64,
    /// Why the last attempt failed, while the sink fails.
    pub error: Option<String>,
    /// When something was last delivered, in milliseconds since 1970.
    pub last_ms: Option<u64>,
    /// Entries go there in the clear.
    pub plain_text: bool,
}

/// Where ledger entries go beside the ledger.
pub trait SinkBook: Send + Sync + fmt::Debug {
    /// Every sink, by name.
    fn list(&self) -> Vec<SinkState>;

    /// Has a sink go on at another entry.
    fn go_to(&self, sink: &str, index: u64) -> Pending<Result<(), String>>;
}

/// Searches in the ledger.
#[derive(Clone)]
pub struct Searching {
    /// Keeps the index.
    pub librarian: Arc<Librarian>,
    /// Roles whose holders may search, now.
    pub readers: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl fmt::Debug for Searching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Searching").field("librarian", &self.librarian).finish_non_exhaustive()
    }
}

/// Applies the configuration file again, whole or not at all: what is in force now, or every mistake.
pub type Reload = dyn Fn() -> Pending<Result<String, Vec<String>>> + Send + Sync;
/// Brings what is in memory up to what the store says, so that a change is in force when its answer goes out.
pub type Follow = dyn Fn() -> Pending<()> + Send + Sync;
/// Who somebody is: a keyed digest of what identifies a person.
pub type SubjectOf = dyn Fn(&str) -> Option<Digest> + Send + Sync;
/// Who holds an API key: nobody where it is not valid now.
pub type Holder = dyn Fn(&str) -> Option<Arc<Caller>> + Send + Sync;
/// How many sessions a caller has; with true they end, and what they have seen is forgotten.
pub type CountSessions = dyn Fn(&str, bool) -> u64 + Send + Sync;
/// Judges a server that is to be added: its name and its section of the configuration as JSON.
pub type CheckServer = dyn Fn(&str, &Value) -> Pending<Result<(), Vec<String>>> + Send + Sync;

/// Everything the control plane works with.
#[derive(Clone)]
pub struct AdminParts {
    /// Where every change is recorded before it is made.
    pub ledger: Arc<dyn Ledger>,
    /// API keys.
    pub keys: Arc<dyn Keys>,
    /// Roles for a time.
    pub grants: Arc<dyn Grants>,
    /// What was used of each quota.
    pub quotas: Arc<dyn Fn() -> Pending<Vec<QuotaState>> + Send + Sync>,
    /// Who is connected to what.
    pub connections: Arc<dyn ConnectionBook>,
    /// The keys that seal what is kept.
    pub keyring: Arc<Keyring>,
    /// The secrets that the gateway keeps.
    pub secrets: Arc<dyn SecretBook>,
    /// The credentials that were planted.
    pub canaries: Arc<dyn CanaryBook>,
    /// Where ledger entries go beside the ledger.
    pub sinks: Arc<dyn SinkBook>,
    /// Searches in the ledger.
    pub searching: Searching,
    /// Definitions and run-time servers.
    pub revisions: Arc<dyn Revisions>,
    /// What is stopped.
    pub kills: Arc<KillSwitch>,
    /// Calls that wait for people.
    pub approvals: Arc<Desk>,
    /// Keys of people whose data became tokens.
    pub subjects: Arc<dyn Subjects>,
    /// Who somebody is: a keyed digest of what identifies a person; nothing while the keys of the store are not open.
    pub subject_of: Arc<SubjectOf>,
    /// The sessions of callers.
    pub sessions: Arc<CountSessions>,
    /// Who holds an API key.
    pub holder: Arc<Holder>,
    /// Makes an API key; nothing while the keys of the store are not open.
    pub fresh_key: Arc<dyn Fn() -> Option<FreshKey> + Send + Sync>,
    /// The policies in force.
    pub policies: Arc<dyn Fn() -> Arc<Policies> + Send + Sync>,
    /// The roles that exist now.
    pub roles: Arc<dyn Fn() -> BTreeSet<String> + Send + Sync>,
    /// How the data plane is.
    pub health: Arc<dyn Health>,
    /// Metrics in the text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Serve metrics without a token.
    pub metrics_public: bool,
    /// Applies the configuration file again.
    pub reload: Arc<Reload>,
    /// Follows the store.
    pub follow: Arc<Follow>,
    /// Judges a server that is to be added.
    pub check_server: Arc<CheckServer>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The limits of the listener.
    pub limits: Limits,
    /// The bearer token of the admin API.
    pub token: Secret<String>,
    /// Facts about the gateway.
    pub info: GatewayInfo,
}

impl fmt::Debug for AdminParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminParts").field("info", &self.info).finish_non_exhaustive()
    }
}
