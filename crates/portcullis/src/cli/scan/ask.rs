//! Asks one server what it offers, in the revision it speaks, with the code by which the gateway asks; and looks at every
//! text of every definition. Nothing but lists is asked for.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use portcullis_core::{Limits, Refusal, TargetKind};
use portcullis_inspect::{InspectSettings, Inspector, Match, Role, Subject};
use portcullis_mcp::{
    answer,
    json::View,
    revision::{Era, MODERN},
    schema::Schema,
};
use portcullis_net::{
    client::{HttpUpstream, UpstreamOptions},
    egress::EgressProxy,
    incident::Report,
    sandbox::{Sandbox, Surroundings},
    stdio::Environment,
};
use portcullis_proof::manifest;
use portcullis_upstream::{HttpPeer, Isolation, SseServer, StdioPeer, Upstream};
use serde::Serialize;

use super::{
    FINDINGS_MAX, Finding, Level, Scanned,
    target::{Reach, Target},
};
use crate::wire::{OURSELVES, SystemClock, SystemEntropy};

/// What a server said it offers.
#[derive(Debug, Default, Serialize)]
pub(in crate::cli) struct Asked {
    /// The revision in which it was asked; empty where it was not.
    pub(super) revision: String,
    pub(super) tools: Vec<String>,
    pub(super) prompts: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) templates: Vec<String>,
    /// Why it could not be asked, or not to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl Asked {
    fn names(&mut self, kind: TargetKind) -> &mut Vec<String> {
        match kind {
            TargetKind::Prompt => &mut self.prompts,
            TargetKind::Resource => &mut self.resources,
            TargetKind::Template => &mut self.templates,
            TargetKind::Tool => &mut self.tools,
        }
    }
}

/// Asks one server within `patience`; a child is ended before this returns.
pub(super) async fn ask(target: Target, limits: &Limits, patience: Duration) -> Scanned {
    let Target { target, server, shown, reach, findings } = target;
    let mut scanned = Scanned { target, server, reach: shown, asked: Asked::default(), findings };
    let upstream = match reach.and_then(|reach| upstream(&scanned.server, reach, limits)) {
        Ok(Some(upstream)) => upstream,
        Ok(None) => return scanned,
        Err(reason) => {
            scanned.asked.error = Some(reason);
            return scanned;
        }
    };
    let (asked, findings) = (&mut scanned.asked, &mut scanned.findings);
    let outcome = tokio::time::timeout(patience, lists(&upstream, limits, asked, findings)).await;
    asked.error = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(reason)) => Some(reason),
        Err(_) => Some(format!("it did not answer within {} s", patience.as_secs())),
    };
    if let Upstream::Stdio(peer) = &upstream {
        peer.shutdown().await;
    }
    findings.truncate(FINDINGS_MAX);
    scanned
}

fn upstream(name: &str, reach: Reach, limits: &Limits) -> Result<Option<Upstream>, String> {
    Ok(match reach {
        Reach::Unstarted => None,
        Reach::Http { url, headers, egress, legacy } => {
            let client = HttpUpstream::new(&url, &UpstreamOptions::new(egress, limits));
            let client = client.map_err(|error| error.to_string())?;
            Some(if legacy {
                let server = SseServer::new(client, url, headers);
                let clock = Arc::new(SystemClock::new());
                Upstream::Stdio(Box::new(StdioPeer::sse(Arc::from(name), server, Isolation::Shared, clock)))
            } else {
                Upstream::Http(Box::new(HttpPeer::new(client, headers)))
            })
        }
        Reach::Stdio { program, sandbox, hidden } => {
            let environment = Environment::minimal(std::env::vars_os());
            let clock = Arc::new(SystemClock::new());
            let peer = StdioPeer::new(Arc::from(name), program, environment, Isolation::Shared, clock);
            let sandbox = sandbox
                .map(|confinement| Sandbox { confinement, surroundings: surroundings(limits, hidden) });
            Some(Upstream::Stdio(Box::new(peer.confined(sandbox))))
        }
    })
}

/// What is the same for every confined command: a scan has no ledger.
fn surroundings(limits: &Limits, hidden: Vec<PathBuf>) -> Surroundings {
    let connect_timeout = Duration::from_millis(limits.connect_timeout_ms);
    Surroundings {
        confine: PathBuf::from(OURSELVES),
        temp: std::env::temp_dir(),
        hidden,
        egress: EgressProxy::new(Arc::new(SystemEntropy), connect_timeout),
        report: Report::new(|_| {}),
    }
}

async fn lists(
    upstream: &Upstream,
    limits: &Limits,
    asked: &mut Asked,
    findings: &mut Vec<Finding>,
) -> Result<(), String> {
    let inspector = Inspector::new(&InspectSettings::default()).map_err(|error| error.to_string())?;
    let refused = |refusal: Refusal| format!("{} ({})", refusal.private, refusal.code.name());
    let offer = upstream.offer(None, limits).await.map_err(refused)?;
    asked.revision = match offer.era {
        Era::Modern => MODERN.to_owned(),
        Era::Legacy => offer.versions.first().cloned().unwrap_or_default(),
    };
    for kind in TargetKind::ALL.iter().copied().filter(|kind| offer.has(*kind)) {
        let (mut cursor, mut seen, mut bytes) = (None, BTreeSet::new(), 0_usize);
        for page in 0..=limits.list_pages_max {
            if page == limits.list_pages_max || seen.len() as u64 > limits.definitions_max {
                return Err(format!("its list of {}s does not end", kind.name()));
            }
            let message = upstream
                .page(&offer, method(kind), cursor.as_deref(), None, limits)
                .await
                .map_err(refused)?;
            bytes = bytes.saturating_add(message.bytes().len());
            if bytes as u64 > limits.answer_bytes_max {
                return Err(format!(
                    "its list of {}s has more than {} bytes",
                    kind.name(),
                    limits.answer_bytes_max
                ));
            }
            let result = message.result().ok_or("a list without a result")?;
            let items = answer::list_items(result, kind).ok_or("a result without a list")?;
            for (name, view) in items {
                let name = name.map(|name| name.into_owned()).unwrap_or_default();
                let place = format!("{}/{name}", kind.name());
                if name.is_empty() || !seen.insert(name.clone()) {
                    findings.push(own("ambiguous_definition", &place, "has no name of its own".into()));
                }
                definition(kind, &place, view, limits, &inspector, findings);
                asked.names(kind).push(name);
            }
            cursor = answer::next_cursor(&result).map(|cursor| cursor.into_owned());
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(())
}

const fn method(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Prompt => "prompts/list",
        TargetKind::Resource => "resources/list",
        TargetKind::Template => "resources/templates/list",
        TargetKind::Tool => "tools/list",
    }
}

fn own(rule: &'static str, place: &str, message: String) -> Finding {
    Finding { rule, severity: Level::High, place: place.to_owned(), message }
}

/// Everything that can be said of one definition.
fn definition(
    kind: TargetKind,
    place: &str,
    view: View<'_>,
    limits: &Limits,
    inspector: &Inspector,
    findings: &mut Vec<Finding>,
) {
    if findings.len() >= FINDINGS_MAX {
        return;
    }
    if let Err(error) = manifest::definition_digest(kind, view.raw()) {
        findings.push(own("unpinnable_definition", place, format!("cannot be pinned: {error}")));
    }
    if let Some(schema) = view.get("inputSchema").filter(|_| kind == TargetKind::Tool)
        && let Err(error) = Schema::compile(schema.raw(), limits)
    {
        findings.push(own("unusable_schema", place, format!("its input schema cannot be used: {error}")));
    }
    let mut found: Vec<Match> = Vec::new();
    answer::leaves(view, "", |pointer, _, text| {
        if let Some(text) = text.as_str()
            && found.len() < FINDINGS_MAX
        {
            let subject = Subject { role: Role::Definition, place: pointer, text: &text };
            inspector.scan_subject(&subject, &mut found);
        }
    });
    let mut told = BTreeSet::new();
    for sighting in found {
        let finding = sighting.finding;
        // One line for each text and detector; a text full of them is one thing to look at.
        if told.insert((finding.kind, finding.place.clone())) {
            findings.push(Finding {
                rule: finding.kind,
                severity: finding.severity.into(),
                place: place.to_owned(),
                message: format!("seen at {} (evidence {})", finding.place, finding.evidence),
            });
        }
    }
}
