//! What all confined children share, and how what they tried gets into the ledger.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use portcullis_config::Config;
use portcullis_core::{Clock, Entropy, Event};
use portcullis_net::{
    egress::EgressProxy,
    incident::{Incident, IncidentKind, Report},
    sandbox::{Confinement, Support, Surroundings},
};
use portcullis_proof::entry::Entry;
use portcullis_store::{DataDir, Ledger};
use serde_json::json;
use tokio::sync::mpsc;

/// This very program, also after its file was replaced by a newer one.
pub(crate) const OURSELVES: &str = "/proc/self/exe";

/// Incidents that wait for the ledger; beyond, they are counted.
const WAITING_MAX: usize = 256;

/// Entries about one kind of incident of one server in one minute; beyond, incidents are counted, and the next entry says
/// how many. By kind, so that many of one cannot hide another.
const ENTRIES_PER_MINUTE_MAX: u32 = 60;
const MINUTE_MS: u64 = 60_000;

/// What is the same for every confined child of this gateway.
pub(super) fn surroundings(
    dir: &DataDir,
    config: &Config,
    parts: (Arc<dyn Ledger>, Arc<dyn Clock>, Arc<dyn Entropy>),
    instance: Arc<str>,
) -> Surroundings {
    let (ledger, clock, entropy) = parts;
    let connect_timeout = Duration::from_millis(config.settings.limits.connect_timeout_ms);
    let (send, waiting) = mpsc::channel(WAITING_MAX);
    let mut record = Record { ledger, clock, instance, counts: BTreeMap::new() };
    tokio::spawn(async move { record.all(waiting).await });
    Surroundings {
        confine: PathBuf::from(OURSELVES),
        temp: std::env::temp_dir(),
        hidden: hidden(dir.path(), config.path.as_deref()),
        egress: EgressProxy::new(entropy, connect_timeout),
        report: Report::new(move |incident| {
            if send.try_send(incident).is_err() {
                tracing::warn!("incidents of confined children come faster than the ledger takes them");
            }
        }),
    }
}

/// The gateway's own files, by their real names.
pub(super) fn hidden(data: &Path, config: Option<&Path>) -> Vec<PathBuf> {
    let real = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path));
    [Some(data), config].into_iter().flatten().filter_map(|path| real(path).ok()).collect()
}

/// The first declared path that would show a server the gateway's own files.
pub(super) fn uncovering(confinement: &Confinement, hidden: &[PathBuf]) -> Option<PathBuf> {
    let mut declared = confinement.read.iter().chain(&confinement.write);
    let found = declared.find(|path| {
        let real = path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_default();
        hidden.iter().any(|hidden| hidden.starts_with(&real) || real.starts_with(hidden))
    });
    found.cloned()
}

/// How a server is confined here, in words: `full`, or what this kernel lacks.
pub(super) fn state(confinement: &Confinement) -> String {
    let lacking = Support::detect().lacking(confinement);
    if lacking.is_empty() { "full".to_owned() } else { format!("without {}", lacking.join(", ")) }
}

/// Says once per start of a server what its confinement will lack.
pub(super) fn announce(server: &str, confinement: &Confinement) {
    let lacking = Support::detect().lacking(confinement).join(", ");
    match (lacking.is_empty(), confinement.required) {
        (true, _) => tracing::info!(server, "children are confined fully"),
        (false, true) => tracing::error!(
            server,
            lacking,
            "children must be confined, and this kernel cannot: none is started"
        ),
        (false, false) => tracing::warn!(
            server,
            lacking,
            "this kernel cannot confine children fully; `require_sandbox: true` would refuse to start them"
        ),
    }
}

struct Record {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    instance: Arc<str>,
    /// By server, of which there are as many as the configuration names, and kind: start of the minute, entries, left out.
    counts: BTreeMap<(Arc<str>, IncidentKind), (u64, u32, u64)>,
}

impl Record {
    async fn all(&mut self, mut waiting: mpsc::Receiver<Incident>) {
        while let Some(incident) = waiting.recv().await {
            let Some(left_out) = self.admit(&incident) else { continue };
            let mut entry = Entry::new(Event::SandboxDenied, self.clock.now(), &self.instance);
            entry.data.insert("server", json!(incident.server));
            entry.data.insert("kind", json!(incident.kind.name()));
            entry.data.insert("target", json!(incident.target));
            entry.data.insert("detail", json!(incident.detail));
            entry.data.insert("count", json!(incident.count));
            if left_out > 0 {
                entry.data.insert("left_out", json!(left_out));
            }
            if let Err(error) = self.ledger.append(entry.to_jcs()).await {
                tracing::error!(%error, server = %incident.server, kind = incident.kind.name(), "an incident of a confined child could not be recorded");
            }
        }
    }

    /// Whether there is room for an entry; and how many were left out since the last.
    fn admit(&mut self, incident: &Incident) -> Option<u64> {
        let now = self.clock.now().0;
        let (start, entries, left_out) =
            self.counts.entry((Arc::clone(&incident.server), incident.kind)).or_default();
        if now.saturating_sub(*start) >= MINUTE_MS {
            (*start, *entries) = (now, 0);
        }
        if *entries >= ENTRIES_PER_MINUTE_MAX {
            *left_out = left_out.saturating_add(incident.count);
            return None;
        }
        *entries += 1;
        Some(std::mem::take(left_out))
    }
}
