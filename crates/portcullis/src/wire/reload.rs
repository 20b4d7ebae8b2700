//! A changed configuration takes effect whole or not at all, without a failed request: rules are compiled beside
//! those in force and swapped.

use std::{path::PathBuf, sync::Arc, time::Duration};

use notify::{RecursiveMode, Watcher as _};
use portcullis_config::{ClientCertificates, Config, ConfigMistake, Settings};
use portcullis_core::Event;
use portcullis_net::tls::ServerTls;
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::{
    compile, judge,
    start::{Core, record},
};

/// Editors write a file in several steps; a reload waits for this much quiet.
const QUIET: Duration = Duration::from_millis(200);

/// Reads the configuration again and puts it in force.
pub(crate) async fn reload(core: &Core) -> Result<String, Vec<String>> {
    let _one = core.reloading.lock().await;
    let old_config = core.config.load_full();
    let path = old_config.path.clone();
    let read = tokio::task::block_in_place(|| Config::load(path.as_deref(), &core.options.overrides));
    let compiled = match read.and_then(|config| needs_restart(&old_config, &config).map(|()| config)) {
        Ok(config) => {
            let old = core.gateway.rules.load_full();
            Box::pin(compile::rules(&config, &core.world, Some(&old))).await.map(|rules| (config, rules))
        }
        Err(mistakes) => Err(mistakes),
    };
    match compiled {
        Ok((config, rules)) => apply(core, config, rules).await,
        Err(mistakes) => {
            let texts: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            tracing::error!(
                mistakes = texts.join("; "),
                "the changed configuration is refused; the old rules stay"
            );
            if let Err(error) = record(core, Event::ConfigRefused, [("mistakes", json!(texts))]).await {
                tracing::error!(%error, "the refused configuration could not be recorded");
            }
            Err(texts)
        }
    }
}

async fn apply(
    core: &Core,
    config: Config,
    rules: portcullis_proxy::rules::Rules,
) -> Result<String, Vec<String>> {
    let (before, after) = (core.gateway.rules.load().digest, rules.digest);
    let summary = format!("{} servers, rules {after}", rules.servers.len());
    if before == after {
        core.gateway.rules.store(Arc::new(rules));
        core.config.store(Arc::new(config));
        // What stands in files that a sink names is none of the rules.
        renew_sinks(core);
        return Ok(format!("nothing changed; {summary}"));
    }
    // Recorded before it takes effect; without a record it does not.
    let data = [("before", json!(before)), ("after", json!(after)), ("file", json!(config.digest))];
    record(core, Event::ConfigChanged, data).await.map_err(|error| vec![format!("{error:#}")])?;
    let old = core.gateway.rules.swap(Arc::new(rules));
    core.config.store(Arc::new(config));
    renew_sinks(core);
    tracing::info!(%before, %after, "new rules are in force");
    end_removed(core, &old).await;
    Ok(summary)
}

fn renew_sinks(core: &Core) {
    if let Err(error) = super::sinks::apply(core, &core.config.load()) {
        // They were judged with the rest; what changed since then is a file that they name.
        tracing::error!(error, "sinks go on as they were");
    }
}

/// Children of servers that are gone end in order.
async fn end_removed(core: &Core, old: &portcullis_proxy::rules::Rules) {
    let rules = core.gateway.rules.load_full();
    for (name, server) in &old.servers {
        let kept = rules.servers.get(name).is_some_and(|kept| Arc::ptr_eq(kept, server));
        if let (false, portcullis_upstream::Upstream::Stdio(_)) = (kept, &server.upstream) {
            let server = Arc::clone(server);
            tokio::spawn(async move {
                if let portcullis_upstream::Upstream::Stdio(peer) = &server.upstream {
                    peer.shutdown().await;
                }
            });
        }
    }
}

/// Whether clients are asked for certificates, and whether they need one.
fn asks(settings: &Settings) -> Option<ClientCertificates> {
    let tls = settings.listen.tls.as_ref()?;
    tls.asks().then_some(tls.client_certificates)
}

/// Where the certificate comes from, if not from files.
fn acme(settings: &Settings) -> Option<&portcullis_config::AcmeSection> {
    settings.listen.tls.as_ref()?.acme.as_ref()
}

fn ocsp(settings: &Settings) -> Option<&portcullis_config::OcspSection> {
    settings.listen.tls.as_ref()?.ocsp.as_ref()
}

/// Whether it is that of the SPIFFE Workload API.
fn of_spiffe(settings: &Settings) -> bool {
    settings.listen.tls.as_ref().is_some_and(|tls| tls.spiffe)
}

/// The oldest version of TLS that clients may speak.
fn oldest(settings: &Settings) -> Option<portcullis_config::TlsVersion> {
    settings.listen.tls.as_ref().map(|tls| tls.min_version)
}

/// What a node needs to start cannot change under it.
fn needs_restart(old: &Config, new: &Config) -> Result<(), Vec<ConfigMistake>> {
    let (old_settings, new_settings) = (&old.settings, &new.settings);
    let (old_limits, new_limits) = (&old_settings.limits, &new_settings.limits);
    let fixed = [
        ("listen.address", old_settings.listen.address == new_settings.listen.address),
        ("listen.tls", old_settings.listen.tls.is_some() == new_settings.listen.tls.is_some()),
        ("listen.tls.acme", acme(old_settings) == acme(new_settings)),
        ("listen.tls.spiffe", of_spiffe(old_settings) == of_spiffe(new_settings)),
        ("listen.tls.ocsp", ocsp(old_settings) == ocsp(new_settings)),
        ("listen.tls.client_ca", asks(old_settings) == asks(new_settings)),
        ("listen.tls.min_version", oldest(old_settings) == oldest(new_settings)),
        ("admin.address", old_settings.admin.address == new_settings.admin.address),
        ("data", old.data_dir() == new.data_dir()),
        ("approval_hooks", old_settings.approval_hooks == new_settings.approval_hooks),
        ("encryption", old_settings.encryption == new_settings.encryption),
        ("spiffe", old_settings.spiffe == new_settings.spiffe),
        ("secrets", old_settings.secrets == new_settings.secrets),
        ("store", old_settings.store == new_settings.store),
        ("ledger", old_settings.ledger == new_settings.ledger),
        ("log", old_settings.log == new_settings.log),
        ("telemetry", old_settings.telemetry == new_settings.telemetry),
        ("limits.connections_max", old_limits.connections_max == new_limits.connections_max),
        ("limits.headers_max", old_limits.headers_max == new_limits.headers_max),
        ("limits.header_bytes_max", old_limits.header_bytes_max == new_limits.header_bytes_max),
        ("limits.ledger_queue_max", old_limits.ledger_queue_max == new_limits.ledger_queue_max),
        ("limits.ledger_bytes_max", old_limits.ledger_bytes_max == new_limits.ledger_bytes_max),
        ("limits.ledger_timeout_ms", old_limits.ledger_timeout_ms == new_limits.ledger_timeout_ms),
    ];
    let changed: Vec<_> = fixed
        .into_iter()
        .filter(|(_, same)| !same)
        .map(|(key, _)| {
            let hint = "restart the gateway for this change; everything else can be reloaded";
            ConfigMistake::new(
                portcullis_config::Place::START,
                key,
                "cannot change while the gateway runs",
                hint,
            )
        })
        .collect();
    if changed.is_empty() { Ok(()) } else { Err(changed) }
}

/// What makes the gateway read its configuration again. Received from the moment it exists: before, a SIGHUP ends a
/// process and a changed file goes unseen.
pub(crate) struct Signs {
    hangup: tokio::signal::unix::Signal,
    changes: mpsc::Receiver<()>,
    _watcher: Option<notify::RecommendedWatcher>,
}

impl Signs {
    /// Starts to receive.
    pub(crate) fn new(core: &Core) -> std::io::Result<Self> {
        let hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
        let (changed, changes) = mpsc::channel(1);
        Ok(Self { hangup, changes, _watcher: watch_files(core, changed) })
    }
}

/// Reloads on SIGHUP and whenever a file of the configuration changes; renews the certificate on the same signs.
pub(crate) async fn on_signals_and_changes(
    core: Arc<Core>,
    tls: Option<ServerTls>,
    mut signs: Signs,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            _ = signs.hangup.recv() => {}
            Some(()) = signs.changes.recv() => {
                tokio::time::sleep(QUIET).await;
                while signs.changes.try_recv().is_ok() {}
            }
        }
        let _ = reload(&core).await;
        renew(&core, tls.as_ref());
    }
}

pub(super) fn renew(core: &Core, tls: Option<&ServerTls>) {
    let config = core.config.load();
    let (Some(tls), Some(files)) = (tls, &config.settings.listen.tls) else { return };
    let read = judge::identities(files, core.obtained.load().as_deref().cloned(), core.ocsp.as_ref())
        .map_err(|error| format!("{error:#}"));
    if let Err(error) = read.and_then(|all| tls.reload(&all).map_err(|error| error.to_string())) {
        tracing::error!(error, "the certificate cannot be renewed; the old one stays");
    }
    // What was in use stays in use: it refuses by itself once a revocation list is out of date.
    let clients = judge::clients(files, core.world.spiffe.as_ref()).map_err(|error| format!("{error:#}"));
    let renewed = clients.and_then(|clients| match clients {
        Some(clients) => tls.reload_clients(&clients).map_err(|error| error.to_string()),
        None => Ok(()),
    });
    if let Err(error) = renewed {
        tracing::error!(
            error,
            "authorities and revocation lists of clients cannot be renewed; the old ones stay"
        );
    }
}

/// Watches the folders, since editors replace files.
fn watch_files(core: &Core, changed: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let config = core.config.load();
    let mut files: Vec<PathBuf> =
        config.path.iter().chain(&config.settings.shadow).chain(&config.settings.policies).cloned().collect();
    if let Some(tls) = &config.settings.listen.tls {
        files.extend(tls.certificate.iter().chain(&tls.key).cloned());
        files.extend(tls.ocsp_response.iter().cloned());
        for one in &tls.certificates {
            files.extend([one.certificate.clone(), one.key.clone()]);
            files.extend(one.ocsp_response.iter().cloned());
        }
        files.extend(tls.client_ca.iter().chain(&tls.client_crls).cloned());
    }
    let files: Vec<_> = files.into_iter().filter_map(|file| std::path::absolute(file).ok()).collect();
    let watched = files.clone();
    let ours = move |path: &PathBuf| watched.iter().any(|file| path == file || path.starts_with(file));
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        let writes = !matches!(event.kind, notify::EventKind::Access(_));
        if writes && event.paths.iter().any(&ours) {
            // One waiting sign is enough.
            let _ = changed.try_send(());
        }
    })
    .inspect_err(|error| tracing::warn!(%error, "files cannot be watched; reload with SIGHUP"))
    .ok()?;
    for file in &files {
        let folder = if file.is_dir() { file.as_path() } else { file.parent().unwrap_or(file) };
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::warn!(folder = %folder.display(), %error, "cannot be watched; reload with SIGHUP");
        }
    }
    Some(watcher)
}
