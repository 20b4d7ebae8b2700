//! The start: what must be there, is made or is refused, in this order, before anything listens.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::{Context as _, anyhow};
use arc_swap::{ArcSwap, ArcSwapOption};
use portcullis_admin::{AdminParts, GatewayInfo};
use portcullis_approve::{self as approve, Desk};
use portcullis_authorize::{Authorizer, Parts as AuthorizerParts};
use portcullis_certs::Ocsp;
use portcullis_config::{Config, ConfigMistake};
use portcullis_connect::auth::{ProofMemory, new_api_key};
use portcullis_core::{Caller, CallerKind, Clock, Entropy, Event, Scope, Secret};
use portcullis_inspect::{InspectSettings, Inspector};
use portcullis_net::{
    listen::Bound,
    stdio::Environment,
    tls::{ServerIdentity, ServerTls},
};
use portcullis_proof::{SigningKey, VerifierKey, entry::Entry};
use portcullis_proxy::{
    Gateway,
    bridge::Bridge,
    metrics::Metrics,
    rules::Rules,
    running::Running,
    session::Sessions,
    tasks::Tasks,
    throttle::{Counts, Rates},
    trace::Tracer,
};
use portcullis_seal::{Keyring, Sealer};
use portcullis_siem::Couriers;
use portcullis_store::{
    CheckpointKeeper, Connections, DataDir, FileLedger, FileLedgerOptions, Keys, KillSwitch, Ledger, NewKey,
    Recovery, Revisions, Sqlite, Subjects,
};
use portcullis_usage::Usage;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::RunOptions;
use super::{
    canaries::Canaries,
    certificates::{self, Source},
    compile::{self, World},
    control, judge, own_tls, sandbox,
    telemetry::Telemetry,
    world::{SystemClock, SystemEntropy},
};
use super::{keys, secrets};

/// What runs for as long as the process.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) world: World,
    pub(crate) config: ArcSwap<Config>,
    pub(crate) options: RunOptions,
    pub(crate) keys: Arc<dyn Keys>,
    pub(crate) revisions: Arc<dyn Revisions>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) instance: Arc<str>,
    pub(crate) telemetry: Telemetry,
    /// One reload at a time.
    pub(crate) reloading: tokio::sync::Mutex<()>,
    /// Told when somebody has rotated a secret.
    pub(crate) rotated: tokio::sync::Notify,
    /// The run-time servers in force, as one text; whoever follows the store holds it.
    pub(crate) active: tokio::sync::Mutex<Option<String>>,
    /// The certificate that was obtained, where it does not come from files.
    pub(crate) obtained: ArcSwapOption<ServerIdentity>,
    /// Fetches what authorities say of certificates.
    pub(crate) ocsp: Option<Ocsp>,
    /// What counts how it is obtained.
    pub(crate) certificates: portcullis_certs::Counts,
    /// Bring ledger entries to sinks.
    pub(crate) couriers: Couriers,
    /// A second instance is kept out for as long as this lives.
    pub(crate) dir: DataDir,
}

/// A node that is ready to serve.
pub(crate) struct Node {
    pub(crate) core: Arc<Core>,
    pub(crate) data: Bound,
    pub(crate) admin: Bound,
    pub(crate) tls: Option<ServerTls>,
    /// What gets the certificate, where it does not come from files.
    pub(crate) source: Option<Source>,
    pub(crate) parts: AdminParts,
}

/// Every mistake, one per line, each with its hint.
pub(crate) fn mistakes(mistakes: &[ConfigMistake]) -> anyhow::Error {
    let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    anyhow!("the configuration has mistakes:\n{}", lines.join("\n"))
}

/// Opens everything and compiles the rules.
pub(crate) async fn node(config: Config, options: &RunOptions) -> anyhow::Result<Node> {
    let dir = DataDir::open(config.data_dir())?;
    own_tls::make(&dir, &config, std::time::SystemTime::now())?;
    let base = Base::open(dir, &config).await?;
    let (token, _) = base.dir.secret(&base.dir.admin_token(), || hex(&random(&*base.entropy)))?;

    let data = bind(config.settings.listen.address, "listen.address")?;
    let admin = bind(config.settings.admin.address, "admin.address")?;
    write_address(&base.dir, admin.local_addr())?;
    let entropy = Arc::clone(&base.entropy);
    let registrations = Arc::clone(&base.kept.store) as Arc<dyn Connections>;
    let (started, vkey) = (base.clock.now(), base.kept.verifier.to_string());
    let environment = Environment::minimal(std::env::vars_os());
    let core =
        Box::pin(base.core(config, options, Place { data: data.local_addr(), environment, local: None }))
            .await?;
    let source = certificates::source(&core, registrations).await?;
    let obtained = core.obtained.load().as_deref().cloned();
    let obtained = (obtained, core.ocsp.as_ref());
    let tls = judge::tls_with(&core.config.load(), obtained, core.world.spiffe.as_ref())?;
    let tls = tls.map(|tls| source.iter().fold(tls, |tls, source| source.answering(tls)));
    let info = GatewayInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: core.instance.to_string(),
        endpoint: format!("{}/mcp/", core.gateway.rules.load().public_url),
        config: core.config.load().path.as_ref().map(|path| path.display().to_string()),
        data: core.dir.path().display().to_string(),
        vkey,
        started_ms: started.0,
    };
    let parts = control::parts(&core, &token, entropy, info)?;
    Ok(Node { core, data, admin, tls, source, parts })
}

/// Where a gateway stands and whom it serves.
pub(crate) struct Place {
    /// The address of the data plane; of no meaning where there is no listener.
    pub(crate) data: SocketAddr,
    /// What children get.
    pub(crate) environment: Environment,
    /// The only caller, where there is no listener.
    pub(crate) local: Option<Arc<Caller>>,
}

/// What is there before the rules are.
pub(crate) struct Base {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    keyring: Arc<Keyring>,
    kept: Kept,
    dir: DataDir,
}

impl Base {
    /// Opens what a data directory holds.
    pub(crate) async fn open(dir: DataDir, config: &Config) -> anyhow::Result<Self> {
        // A flood of connections must not take the descriptors that the ledger needs.
        portcullis_net::descriptors::keep();
        portcullis_net::descriptors::raise_limit();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let kept = Kept::open(&dir, config, &*entropy)?;
        let keyring = keys::open((&dir, config), &kept.store, (&clock, &entropy)).await?;
        Ok(Self { clock, entropy, keyring, kept, dir })
    }

    /// Compiles the rules and makes the gateway.
    pub(crate) async fn core(
        self,
        config: Config,
        options: &RunOptions,
        place: Place,
    ) -> anyhow::Result<Arc<Core>> {
        let Self { clock, entropy, keyring, kept, dir } = self;
        let sealer = Sealer::new(Arc::clone(keyring.ring()));
        let mut registry = Registry::default();
        let metrics = Arc::new(Metrics::new(&mut registry));
        let approval_counts = approve::Counts::registered(&mut registry);
        let certificates = portcullis_certs::Counts::registered(&mut registry);
        let sink_counts = portcullis_siem::Counts::registered(&mut registry);
        let telemetry =
            Telemetry::new(registry, config.settings.telemetry.otlp.as_ref(), Arc::clone(&kept.ledger))?;
        let instance: Arc<str> = Arc::from(kept.verifier.name());
        let recording = (Arc::clone(&kept.ledger), Arc::clone(&clock), Arc::clone(&entropy));
        let surroundings = sandbox::surroundings(&dir, &config, recording, Arc::clone(&instance));
        let authorizer = authorizer(&kept, (&clock, &entropy, &instance), sealer.clone());
        let (secrets, fixed) = (&config.settings.secrets, (&clock, &entropy, &instance));
        let (own, broker) = secrets::open(secrets, (&kept.store, &kept.ledger), fixed, keyring.ring())?;
        let canaries = Canaries::open(&kept.store, &sealer, (&clock, &entropy), &broker).await?;
        let spiffe = certificates::spiffe(&config, (&kept.ledger, &certificates), fixed).await?;
        let world = World {
            spiffe,
            authorizer,
            broker,
            canaries,
            own,
            subjects: Arc::clone(&kept.store) as Arc<dyn Subjects>,
            entropy: Arc::clone(&entropy),
            clock,
            keys: Arc::clone(&kept.store) as Arc<dyn Keys>,
            revisions: Arc::clone(&kept.store) as Arc<dyn Revisions>,
            ledger: Arc::clone(&kept.ledger),
            keyring,
            proofs: Arc::new(ProofMemory::new(&*entropy)),
            environment: place.environment,
            surroundings,
            instance,
            inspector: Arc::new(ArcSwap::from_pointee(Inspector::new(&InspectSettings::default())?)),
            neighbours: Arc::default(),
            data: place.data,
            local: place.local,
        };
        let kills = KillSwitch::open(Arc::clone(&world.revisions)).await?;
        let rules = compile::rules(&config, &world, None).await.map_err(|found| mistakes(&found))?;
        let usage = Usage::open(Arc::clone(&kept.store), world.clock.now()).await?;
        let desk = super::hooks::desk(&kept.store, &world, sealer);
        let hooks = super::hooks::start(&config.settings, (&world.clock, &world.broker), &approval_counts)?;
        let waits = (usage, kills, Desk::new(desk, approval_counts, hooks));
        let couriers = super::sinks::couriers(&world, Arc::clone(&kept.store) as _, sink_counts);
        let core = Arc::new(Core {
            couriers,
            ocsp: certificates::ocsp(&config, &world, &certificates),
            gateway: gateway(rules, &world, metrics, entropy, telemetry.tracer(), waits)?,
            config: ArcSwap::from_pointee(config),
            options: options.clone(),
            keys: Arc::clone(&world.keys),
            revisions: Arc::clone(&world.revisions),
            ledger: Arc::clone(&world.ledger),
            instance: Arc::clone(&world.instance),
            world,
            telemetry,
            reloading: tokio::sync::Mutex::default(),
            active: tokio::sync::Mutex::default(),
            obtained: ArcSwapOption::empty(),
            certificates,
            rotated: tokio::sync::Notify::new(),
            dir,
        });
        super::hooks::know(&core);
        super::sinks::apply(&core, &core.config.load()).map_err(|error| anyhow!(error))?;
        recovered(&core, &kept.recovery).await.map(|()| core)
    }
}

/// What was kept from the last run.
struct Kept {
    store: Arc<Sqlite>,
    ledger: Arc<dyn Ledger>,
    recovery: Recovery,
    verifier: VerifierKey,
}

impl Kept {
    fn open(dir: &DataDir, config: &Config, entropy: &dyn Entropy) -> anyhow::Result<Self> {
        let key = signing_key(dir, config, entropy)?;
        let verifier = key.verifier();
        let settings = &config.settings;
        let store = Arc::new(Sqlite::open(settings.store.sqlite.clone().unwrap_or_else(|| dir.db()))?);
        let folder = settings.ledger.directory.clone().unwrap_or_else(|| dir.ledger());
        let keeper: Arc<dyn CheckpointKeeper> = store.clone();
        let mut opening = FileLedgerOptions::new(folder, key, settings.limits.clone(), keeper);
        opening.checkpoint_every_ms = settings.ledger.checkpoint_ms.0;
        let (ledger, recovery) = FileLedger::open(opening)?;
        Ok(Self { store, ledger: Arc::new(ledger), recovery, verifier })
    }
}

fn gateway(
    rules: Rules,
    world: &World,
    metrics: Arc<Metrics>,
    entropy: Arc<dyn Entropy>,
    tracer: Option<Arc<dyn Tracer>>,
    (usage, kills, approvals): (Usage, KillSwitch, Desk),
) -> anyhow::Result<Arc<Gateway>> {
    // Gateways with one store have the same keys: each of them can open what another sealed.
    let sealer = Sealer::new(Arc::clone(world.keyring.ring()));
    let bridge = Bridge::new(sealer.clone(), Arc::clone(&world.clock), Arc::clone(&entropy));
    Ok(Arc::new(Gateway {
        rules: ArcSwap::from_pointee(rules),
        sessions: Sessions::new(Arc::clone(&world.clock), Arc::clone(&entropy)),
        tasks: Tasks::new(sealer, Arc::clone(&world.clock), Arc::clone(&entropy)),
        ledger: Arc::clone(&world.ledger),
        metrics,
        clock: Arc::clone(&world.clock),
        entropy,
        instance: Arc::clone(&world.instance),
        tracer,
        kills: Arc::new(kills),
        approvals: Arc::new(approvals),
        stopping: AtomicBool::new(false),
        sources: Rates::default(),
        callers: Rates::default(),
        alike: Rates::default(),
        caller_calls: Counts::default(),
        server_calls: Counts::default(),
        caller_streams: Counts::default(),
        server_streams: Counts::default(),
        running: Running::default(),
        usage,
        bridge,
    }))
}

/// 32 random bytes.
pub(super) fn random(entropy: &dyn Entropy) -> Secret<Vec<u8>> {
    let mut bytes = vec![0; 32];
    entropy.fill(&mut bytes);
    Secret::new(bytes)
}

pub(super) fn bind(address: SocketAddr, key: &str) -> anyhow::Result<Bound> {
    Bound::bind(address).with_context(|| {
        format!("cannot listen on {address}; hint: is another program using it? set `{key}`")
    })
}

fn hex(bytes: &Secret<Vec<u8>>) -> Secret<Vec<u8>> {
    Secret::new(bytes.expose().iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect())
}

/// The ledger's key; made once, under the origin that the configuration names then.
fn signing_key(dir: &DataDir, config: &Config, entropy: &dyn Entropy) -> anyhow::Result<SigningKey> {
    let origin = &config.settings.ledger.origin.0;
    let mut seed = [0; 32];
    entropy.fill(&mut seed);
    let fresh = SigningKey::from_seed(origin, seed)?;
    let (text, _) =
        dir.secret(&dir.ledger_key(), || Secret::new(fresh.to_text().expose().clone().into_bytes()))?;
    let text = std::str::from_utf8(text.expose()).context("ledger.key is not text")?;
    let key = SigningKey::from_text(text).context("ledger.key is damaged")?;
    if key.name() != origin.as_str() {
        return Err(anyhow!(
            "the ledger in this data directory is named `{}`, the configuration says `{origin}`; \
             hint: a log keeps its name: set `ledger.origin` back, or use another data directory",
            key.name()
        ));
    }
    Ok(key)
}

/// The command line finds the admin API of a data directory here.
fn write_address(dir: &DataDir, address: SocketAddr) -> anyhow::Result<()> {
    let path = dir.path().join("admin.addr");
    let next = dir.path().join("admin.addr.next");
    // Moved into place, since a command may read it at any time.
    std::fs::write(&next, address.to_string())
        .and_then(|()| std::fs::rename(&next, &path))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

async fn recovered(core: &Core, recovery: &Recovery) -> anyhow::Result<()> {
    if recovery.is_clean() {
        return Ok(());
    }
    tracing::warn!(?recovery, "the ledger was not closed in order; it is whole again");
    record(core, Event::LedgerRecovered, [("recovery", json!(format!("{recovery:?}")))]).await
}

/// Writes an entry about the gateway itself.
pub(crate) async fn record<const N: usize>(
    core: &Core,
    event: Event,
    data: [(&'static str, Value); N],
) -> anyhow::Result<()> {
    let mut entry = Entry::new(event, core.gateway.clock.now(), &core.instance);
    entry.rules = Some(core.gateway.rules.load().digest);
    entry.data = data.into_iter().collect();
    core.ledger.append(entry.to_jcs()).await.context("the ledger cannot be written")?;
    Ok(())
}

/// On the very first start there is no key yet: one is made and told once.
pub(crate) async fn first_key(core: &Core) -> anyhow::Result<Option<Secret<String>>> {
    let settings = core.config.load();
    if !settings.settings.identities.api_keys || !core.keys.list().await?.is_empty() {
        return Ok(None);
    }
    let index = core.world.keyring.ring().index().context("the data keys of the store are not open")?;
    let (text, id, hash) = new_api_key(&*core.gateway.entropy, &index);
    let roles = vec!["operator".to_owned()];
    record(
        core,
        Event::KeyCreated,
        [("id", json!(id)), ("roles", json!(roles)), ("reason", json!("first start"))],
    )
    .await?;
    core.keys
        .create(NewKey {
            id,
            name: "first".to_owned(),
            hash,
            roles,
            servers: Scope::All,
            kind: CallerKind::Service,
            created: core.gateway.clock.now(),
            expires: None,
            created_by: "portcullis run".to_owned(),
        })
        .await?;
    Ok(Some(text))
}

/// Gets tokens for servers.
fn authorizer(
    kept: &Kept,
    (clock, entropy, instance): (&Arc<dyn Clock>, &Arc<dyn Entropy>, &Arc<str>),
    sealer: Sealer,
) -> Arc<Authorizer> {
    Arc::new(Authorizer::new(AuthorizerParts {
        store: Arc::clone(&kept.store) as Arc<dyn Connections>,
        sealer,
        ledger: Arc::clone(&kept.ledger),
        clock: Arc::clone(clock),
        entropy: Arc::clone(entropy),
        instance: Arc::clone(instance),
    }))
}

impl Core {
    /// Ends the child processes of every server in order.
    pub(crate) async fn shutdown_children(&self) {
        let rules = self.gateway.rules.load_full();
        for server in rules.servers.values() {
            if let portcullis_upstream::Upstream::Stdio(peer) = &server.upstream {
                peer.shutdown().await;
            }
        }
    }
}
