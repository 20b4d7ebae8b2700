//! From configuration to rules. The same code judges a file in `check`, at the start and at every reload; servers
//! that did not change keep their connections, processes and catalogues.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use portcullis_authorize::{Authorizer, Outgoing};
use portcullis_catalog::{Catalog, Neighbours, Parts as CatalogParts, Trust};
use portcullis_certs::Spiffe;
use portcullis_config::{self as config, Config, Reference, Settings};
use portcullis_connect::auth::{AuthSettings, Authenticator, Parts, ProofMemory};
use portcullis_core::{Caller, Clock, Digest, Entropy, Limits, Secret};
use portcullis_inspect::{Inspector, TokenScope};
use portcullis_mcp::json::JsonLimits;
use portcullis_meaning::Meanings;
use portcullis_net::{
    client::{HttpUpstream, UpstreamOptions},
    guard::EgressPolicy,
    sandbox::{Confinement, Sandbox, Surroundings},
    stdio::Environment,
    tls::{ClientTls, Workload},
};
use portcullis_policy::{Lint, Policies};
use portcullis_privacy::{Book, Life};
use portcullis_proxy::{
    rules::{Rules, Server},
    settings::{OutputSchema, ServerSettings, Transport},
};
use portcullis_seal::{Keyring, Sealer};
use portcullis_secrets::{Broker, Value as SecretValue};
use portcullis_store::{Keys, Ledger, Revisions, Subjects};
use portcullis_upstream::{HttpPeer, Isolation, SseServer, StdioPeer, Tokens, Upstream, stdio::Program};
use serde_json::Value;
use url::Url;

use super::{
    judge::{Checked, Found, SAMPLE, check_with, mistake},
    sandbox,
};

/// What compiling works with.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keys: Arc<dyn Keys>,
    pub(crate) revisions: Arc<dyn Revisions>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) authorizer: Arc<Authorizer>,
    /// Follows references to secrets.
    pub(crate) broker: Arc<Broker>,
    pub(crate) canaries: super::canaries::Canaries,
    /// Secrets of the gateway's own keeping.
    pub(crate) own: Arc<super::secrets::Own>,
    pub(crate) subjects: Arc<dyn Subjects>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// The data keys of the store.
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) proofs: Arc<ProofMemory>,
    pub(crate) environment: Environment,
    pub(crate) surroundings: Surroundings,
    pub(crate) instance: Arc<str>,
    /// The detectors in force, for catalogues.
    pub(crate) inspector: Arc<ArcSwap<Inspector>>,
    /// What servers call their tools.
    pub(crate) neighbours: Arc<Neighbours>,
    pub(crate) data: SocketAddr,
    /// The Workload API, where there is one.
    pub(crate) spiffe: Option<Spiffe>,
    /// The only caller, where there is no listener.
    pub(crate) local: Option<Arc<Caller>>,
}

/// What the settings of a server are made with.
type Around<'a> = (&'a Surroundings, &'a Arc<Broker>, Option<Workload>);

impl World {
    fn around(&self) -> Around<'_> {
        (&self.surroundings, &self.broker, self.spiffe.as_ref().map(Spiffe::workload))
    }

    /// The key of digests that are looked up. While it is not open one that is good for nothing later on: what is found
    /// with it was put there in the meantime.
    pub(crate) fn index(&self) -> Secret<Vec<u8>> {
        self.keyring.ring().index().unwrap_or_else(|| super::start::random(&*self.entropy))
    }
}

/// The rules that a configuration stands for.
///
/// # Errors
/// Every mistake that only shows in the world: unset environment variables, unreadable files.
pub(crate) async fn rules(config: &Config, world: &World, old: Option<&Rules>) -> Result<Rules, Found> {
    let declared = declared(config, world).await?;
    let Checked { policy, shadow, inspector, warnings } = check_with(config, &declared)?;
    warnings.iter().for_each(tell);
    let (settings, limits) = (&config.settings, config.settings.limits.clone());
    let identities = |error: String| vec![mistake("identities", error, "see docs/reference/config.md")];
    let ways = super::convert::auth(settings, &world.broker).map_err(identities)?;
    let issuers = ways.issuers.clone();
    let auth = authenticator(config, ways, world).map_err(identities)?;
    let public_url = public_url(settings, world.data);
    let mut digests = digests(config, &policy, shadow.as_deref(), &declared);
    let (mut servers, mut found) = (BTreeMap::new(), Found::new());
    // Links and answers of browsers name it.
    let moved = old.is_some_and(|old| old.public_url != public_url);
    for (name, section) in &declared {
        match server_settings(section, settings.require_sandbox, world.around()) {
            Ok(settings) => {
                digests.push(settings.digest);
                let kept = old.and_then(|old| old.servers.get(name)).filter(|kept| {
                    kept.settings.digest == settings.digest && (!moved || kept.authorization.is_none())
                });
                let server = match kept {
                    Some(kept) => Ok(Arc::clone(kept)),
                    None => server(name, settings, (world, &public_url), &limits).await,
                };
                match server {
                    Ok(server) => drop(servers.insert(name.clone(), server)),
                    Err(reason) => {
                        found.push(mistake(format!("servers.{name}"), reason, "see docs/reference/config.md"))
                    }
                }
            }
            Err(reason) => found.push(mistake(
                format!("servers.{name}"),
                reason,
                "set the variable or make the file readable, then try again",
            )),
        }
    }
    let groups = super::groups::groups(settings, world, &servers).map_err(|more| found.extend(more)).ok();
    let Some(groups) = groups.filter(|_| found.is_empty()) else { return Err(found) };
    let mut rules = Rules {
        exchange: Outgoing::exchanging(servers.values().filter_map(|own| own.authorization.as_ref())),
        digest: Digest::of_parts(&digests.iter().map(|digest| digest.0.as_slice()).collect::<Vec<_>>()),
        request: JsonLimits::request(&limits),
        answer: JsonLimits::answer(&limits),
        limits,
        hosts: hosts(settings, world.data, &public_url),
        any_address: world.data.ip().is_unspecified(),
        origins: settings.listen.origins.iter().map(|origin| origin.0.clone()).collect(),
        public_url,
        authorization_servers: settings.identities.jwt.iter().map(|jwt| jwt.issuer.clone()).collect(),
        auth: Arc::new(auth),
        policy,
        shadow,
        quotas: settings.compiled_quotas(),
        meanings: meanings(&declared),
        review: settings.compiled_review(),
        replicas: replicas(&declared),
        inspector: Arc::new(with_people(inspector.keyed(world.index().expose()), settings, world)),
        servers,
        groups,
        access: BTreeMap::new(),
        scopes: super::convert::scopes(settings),
    };
    rules.access =
        super::convert::access(settings, &issuers, |name| rules.resource(name)).map_err(identities)?;
    world.inspector.store(Arc::clone(&rules.inspector));
    Ok(rules)
}

fn tell(lint: &Lint) {
    tracing::warn!(place = lint.place, hint = lint.hint, "{}", lint.message);
}

/// Fetches what is made once from its value: where that cannot be had, the rules cannot be either.
async fn fetch_early(
    settings: &Settings,
    servers: &BTreeMap<String, config::Server>,
    broker: &Arc<Broker>,
) -> Result<(), Found> {
    let mut found = Found::new();
    for (key, reference) in settings.early_references(servers) {
        if reference.kept_elsewhere()
            && let Err(failure) = broker.value(reference, None).await
        {
            found.push(mistake(
                key,
                failure.to_string(),
                "`portcullis secret check` looks at every reference",
            ));
        }
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// Of what the rules are made from, beside the servers: of what their parameters mean, too, since servers are added at
/// run time.
fn digests(
    config: &Config,
    policy: &Policies,
    shadow: Option<&Policies>,
    declared: &BTreeMap<String, config::Server>,
) -> Vec<Digest> {
    let mut digests = vec![config.digest, policy.digest()];
    digests.extend(shadow.map(Policies::digest));
    digests.push(Digest::of(format!("{:?}", meanings(declared)).as_bytes()));
    digests
}

/// Servers that are the same service elsewhere, by the one that clients call.
fn replicas(declared: &BTreeMap<String, config::Server>) -> BTreeMap<String, Vec<String>> {
    let all = declared.iter().map(|(name, section)| (name.clone(), section.replicas.clone()));
    all.filter(|(_, replicas)| !replicas.is_empty()).collect()
}

/// What parameters of tools mean, by server.
fn meanings(declared: &BTreeMap<String, config::Server>) -> BTreeMap<String, Meanings> {
    let all = declared.iter().map(|(name, section)| (name.clone(), section.meanings()));
    all.filter(|(_, meanings)| !meanings.is_empty()).collect()
}

/// With a key for each person whose data becomes a token, the year by which ages are told, and an eye on secrets that were
/// handed out.
fn with_people(inspector: Inspector, settings: &Settings, world: &World) -> Inspector {
    let parts = (Arc::clone(&world.subjects), Arc::clone(&world.clock), Arc::clone(&world.entropy));
    let lifetime_ms = settings.privacy.token_lifetime_s.0.saturating_mul(1_000);
    let (limits, scope) = (&settings.limits, settings.privacy.token_scope);
    let life = match scope {
        config::TokenScope::Caller => (TokenScope::Caller, lifetime_ms),
        config::TokenScope::Gateway => (TokenScope::Gateway, lifetime_ms),
        config::TokenScope::Session => (TokenScope::Session, lifetime_ms.min(limits.session_total_ms)),
    };
    let life = Life { scope: life.0, total_ms: life.1, idle_ms: limits.session_idle_ms };
    let inspector = inspector.in_year(world.clock.now().year());
    let sealer = Sealer::new(Arc::clone(world.keyring.ring()));
    let book = Book::new(sealer, parts, life, settings.limits.token_people_max);
    super::guard::guarded(inspector.with_people(Arc::new(book)), &settings.secrets, &world.broker)
}

/// Servers of the file, servers added at run time, and the sample where there is none at all; with the secrets that they
/// need before they serve.
async fn declared(config: &Config, world: &World) -> Result<BTreeMap<String, config::Server>, Found> {
    let mut servers = config.settings.servers.clone();
    if servers.is_empty() {
        let program = std::env::current_exe().map_err(|error| {
            vec![mistake(
                "servers",
                format!("the sample server cannot be found: {error}"),
                "declare a server",
            )]
        })?;
        servers.insert(SAMPLE.to_owned(), config::Server::sample(program.to_string_lossy().into_owned()));
    }
    let store = |error: portcullis_store::StoreError| {
        vec![mistake("store", error.to_string(), "look at the database file")]
    };
    for (name, server) in super::added::added(world).await.map_err(store)? {
        servers.entry(name).or_insert(server);
    }
    // Whoever reloads has perhaps put another secret into a file.
    world.broker.look_again();
    Box::pin(fetch_early(&config.settings, &servers, &world.broker)).await?;
    Ok(servers)
}

/// Judges a server that is to be added. Secrets that it needs before it serves are fetched now.
pub(crate) async fn check_server(
    config: &Config,
    world: &World,
    name: &str,
    json: &Value,
) -> Result<(), Vec<String>> {
    if config.settings.servers.contains_key(name) {
        return Err(vec![format!("`{name}` is declared in the configuration file")]);
    }
    if super::groups::names(&config.settings).any(|group| group == name) {
        return Err(vec![format!("`{name}` is a route over several servers")]);
    }
    let texts = |mistakes: Found| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let server = config::Server::from_json(name, json).map_err(texts)?;
    let alone = BTreeMap::from([(name.to_owned(), server.clone())]);
    Box::pin(fetch_early(&config.settings, &alone, &world.broker)).await.map_err(texts)?;
    server_settings(&server, config.settings.require_sandbox, world.around())
        .map(|_| ())
        .map_err(|reason| vec![reason])
}

fn server_settings(
    section: &config::Server,
    required: bool,
    (around, broker, workload): Around<'_>,
) -> Result<ServerSettings, String> {
    let mut parts = vec![
        format!("{:?}{:?}{:?}", section.trust, section.isolation, section.server_requests),
        format!("{:?}{:?}{:?}", section.methods, section.extensions, section.output_schema),
    ];
    let tls = super::server_tls::read(section.tls.as_deref(), workload, &mut parts)?;
    let transport = match &section.upstream {
        config::Upstream::Http { url, transport, headers, egress, authorization } => {
            let mut joined = Vec::new();
            for (name, reference) in headers {
                parts.push(compared(name, reference, broker)?);
                let header = name.parse().map_err(|_| format!("`{name}` is not a header name"))?;
                joined.push((header, SecretValue::new(reference.clone(), Arc::clone(broker))));
            }
            parts.push(format!("{url} {transport:?} {egress:?}"));
            let egress = EgressPolicy::of(egress.allow_loopback, egress.allow_private);
            let authorization = authorization
                .as_ref()
                .map(|section| {
                    super::authorization::settings(section, url, egress, (&mut parts, broker)).map(Box::new)
                })
                .transpose()?;
            let (url, headers) = (url.clone(), joined);
            match transport {
                config::Transport::StreamableHttp => Transport::Http { url, headers, egress, authorization },
                config::Transport::LegacySse => {
                    Transport::LegacySse { url, headers, egress, isolation: isolation(section.isolation) }
                }
            }
        }
        config::Upstream::Stdio { program, args, env, cwd, sandbox } => {
            for (name, reference) in env {
                parts.push(compared(name, reference, broker)?);
            }
            parts.push(format!("{program} {args:?} {cwd:?} {required} {sandbox:?}"));
            let isolation = isolation(section.isolation);
            let sandbox = confined(sandbox.as_ref(), required, around)?;
            let value = |reference: &Reference| SecretValue::new(reference.clone(), Arc::clone(broker));
            let program = Program {
                program: program.clone(),
                args: args.clone(),
                env: env.iter().map(|(name, reference)| (name.clone(), value(reference))).collect(),
                cwd: cwd.clone(),
            };
            Transport::Stdio { program, isolation, sandbox }
        }
    };
    let trust = match section.trust {
        config::Trust::Review => Trust::Review,
        config::Trust::TrustOnFirstUse => Trust::TrustOnFirstUse,
    };
    let server_requests =
        section.server_requests.iter().map(|request| request_name(*request).to_owned()).collect();
    let digest = Digest::of(parts.join("\n").as_bytes());
    parts.iter_mut().for_each(zeroize::Zeroize::zeroize);
    let (methods, extensions) =
        (section.methods.iter().cloned().collect(), section.extensions.iter().cloned().collect());
    let output_schema = match section.output_schema {
        config::OutputSchema::Record => OutputSchema::Record,
        config::OutputSchema::Refuse => OutputSchema::Refuse,
    };
    Ok(ServerSettings { transport, trust, server_requests, methods, extensions, output_schema, tls, digest })
}

/// What a reload compares of a secret: the value where it is on this machine, so that a new one is seen, and only the
/// reference where it is kept elsewhere, and followed at each use.
fn compared(name: &str, reference: &Reference, broker: &Broker) -> Result<String, String> {
    if reference.kept_elsewhere() {
        return Ok(format!("{name}={reference}"));
    }
    broker.known(reference).map(|value| format!("{name}={}", value.expose()))
}

/// The confinement of a server, with what it shares with all others.
fn confined(
    confinement: Option<&Confinement>,
    required: bool,
    around: &Surroundings,
) -> Result<Option<Box<Sandbox>>, String> {
    let Some(confinement) = confinement else { return Ok(None) };
    if let Some(path) = sandbox::uncovering(confinement, &around.hidden) {
        return Err(format!("`{}` in `sandbox` would show the gateway's own keys", path.display()));
    }
    let confinement = Confinement { required, ..confinement.clone() };
    Ok(Some(Box::new(Sandbox { confinement, surroundings: around.clone() })))
}

fn request_name(request: config::ServerRequest) -> &'static str {
    match request {
        config::ServerRequest::Elicitation => "elicitation",
        config::ServerRequest::Roots => "roots",
        config::ServerRequest::Sampling => "sampling",
    }
}

fn isolation(isolation: config::Isolation) -> Isolation {
    match isolation {
        config::Isolation::PerCaller => Isolation::PerCaller,
        config::Isolation::PerSession => Isolation::PerSession,
        config::Isolation::Shared => Isolation::Shared,
    }
}

async fn server(
    name: &str,
    settings: ServerSettings,
    (world, public_url): (&World, &str),
    limits: &Limits,
) -> Result<Arc<Server>, String> {
    let name: Arc<str> = Arc::from(name);
    let authorization = super::authorization::outgoing(&name, &settings, world, public_url);
    let upstream = match &settings.transport {
        Transport::LegacySse { url, headers, egress, isolation } => {
            let server =
                SseServer::new(client(url, (*egress, &settings.tls), limits)?, url.clone(), headers.clone());
            let (name, clock) = (Arc::clone(&name), Arc::clone(&world.clock));
            Upstream::Stdio(Box::new(StdioPeer::sse(name, server, *isolation, clock)))
        }
        Transport::Http { url, headers, egress, authorization: _ } => {
            let client = client(url, (*egress, &settings.tls), limits)?;
            let tokens = authorization.clone().map(|outgoing| outgoing as Arc<dyn Tokens>);
            let peer = HttpPeer::new(client, headers.clone());
            Upstream::Http(Box::new(peer.with_tokens(tokens).guarded(&world.broker, &name)))
        }
        Transport::Group => Upstream::Group,
        Transport::Stdio { program, isolation, sandbox } => {
            let peer = StdioPeer::new(
                Arc::clone(&name),
                program.clone(),
                world.environment.clone(),
                if world.local.is_some() { Isolation::Solo } else { *isolation },
                Arc::clone(&world.clock),
            );
            if let Some(sandbox) = sandbox {
                sandbox::announce(&name, &sandbox.confinement);
            }
            Upstream::Stdio(Box::new(peer.confined(sandbox.as_deref().cloned())))
        }
    };
    let catalog = Catalog::new(Arc::clone(&name), settings.trust, catalog_parts(world));
    catalog.load().await.map_err(|error| error.to_string())?;
    Ok(Arc::new(Server { name, settings, upstream, catalog, authorization, group: None }))
}

/// What a catalogue works with.
pub(super) fn catalog_parts(world: &World) -> CatalogParts {
    CatalogParts {
        revisions: Arc::clone(&world.revisions),
        ledger: Arc::clone(&world.ledger),
        clock: Arc::clone(&world.clock),
        instance: Arc::clone(&world.instance),
        inspector: Arc::clone(&world.inspector),
        neighbours: Arc::clone(&world.neighbours),
    }
}

fn client(
    url: &Url,
    (egress, tls): (EgressPolicy, &ClientTls),
    limits: &Limits,
) -> Result<HttpUpstream, String> {
    let mut options = UpstreamOptions::new(egress, limits);
    options.tls.clone_from(tls);
    // The stages own this deadline; the client's is only a second line.
    options.first_byte_timeout = Duration::from_millis(limits.total_timeout_ms);
    HttpUpstream::new(url, &options).map_err(|error| error.to_string())
}

fn authenticator(config: &Config, ways: AuthSettings, world: &World) -> Result<Authenticator, String> {
    if let Some(caller) = &world.local {
        return Ok(Authenticator::local(Arc::clone(caller)));
    }
    let parts = Parts {
        keys: Arc::clone(&world.keys),
        pepper: world.keyring.ring().index(),
        clock: Arc::clone(&world.clock),
        proofs: Arc::clone(&world.proofs),
        limits: config.settings.limits.clone(),
    };
    Authenticator::new(ways, parts).map_err(|error| error.to_string())
}

/// Scheme and authority under which clients reach us; loopback names are all us.
fn public_url(settings: &Settings, data: SocketAddr) -> String {
    if let Some(url) = &settings.listen.public_url {
        return url.as_str().trim_end_matches('/').to_owned();
    }
    let scheme = if settings.listen.tls.is_some() { "https" } else { "http" };
    // Every address is none that a client can write; this machine's own reaches it from here.
    let address = match data.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, data.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, data.port())),
        IpAddr::V4(_) | IpAddr::V6(_) => data,
    };
    format!("{scheme}://{address}")
}

fn hosts(settings: &Settings, data: SocketAddr, public_url: &str) -> BTreeSet<String> {
    let mut hosts: BTreeSet<String> =
        settings.listen.hosts.iter().map(|host| host.0.to_ascii_lowercase()).collect();
    hosts.insert(data.ip().to_string());
    if data.ip().is_loopback() || data.ip().is_unspecified() {
        hosts.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    }
    let public = url::Url::parse(public_url).ok();
    hosts.extend(
        public.as_ref().and_then(url::Url::host_str).map(|host| host.trim_matches(['[', ']']).to_owned()),
    );
    hosts
}
