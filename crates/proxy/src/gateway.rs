//! What the data plane of one node holds: rules, sessions, counts, and where calls are recorded.

use std::sync::{Arc, atomic::AtomicBool};

use arc_swap::ArcSwap;
use portcullis_approve::Desk;
use portcullis_core::{Caller, Clock, Code, Entropy, Level, Limits, Refusal};
use portcullis_mcp::jsonrpc::Message;
use portcullis_store::{KillSwitch, Ledger};
use portcullis_usage::{Charged, Usage};

use crate::{
    bridge::Bridge,
    metrics::Metrics,
    rules::{Rules, Server},
    running::Running,
    session::Sessions,
    tasks::Tasks,
    throttle::{Counts, Hold, Rates},
    trace,
    trail::{Measured, Trail},
};

/// The data plane of one node.
#[derive(Debug)]
pub struct Gateway {
    /// The rules in force.
    pub rules: ArcSwap<Rules>,
    /// Sessions of revision 2025-11-25.
    pub sessions: Sessions,
    /// Long-running tasks of callers.
    pub tasks: Tasks,
    /// Where every call is recorded.
    pub ledger: Arc<dyn Ledger>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// Which gateway this is, in entries.
    pub instance: Arc<str>,
    /// Where finished calls go for tracing, if anywhere.
    pub tracer: Option<Arc<dyn trace::Tracer>>,
    /// What an operator stopped.
    pub kills: Arc<KillSwitch>,
    /// Calls that wait for people.
    pub approvals: Arc<Desk>,
    /// Set once, when the gateway stops: connections that are kept alive take no new calls.
    pub stopping: AtomicBool,
    /// Rates by source address.
    pub sources: Rates,
    /// Rates by caller.
    pub callers: Rates,
    /// Rates of calls that are alike.
    pub alike: Rates,
    /// Running calls by caller.
    pub caller_calls: Counts,
    /// Running calls by server.
    pub server_calls: Counts,
    /// Open streams by caller.
    pub caller_streams: Counts,
    /// Open streams by server.
    pub server_streams: Counts,
    /// Calls without an outcome yet.
    pub running: Running,
    /// What callers have used so far.
    pub usage: Usage,
    /// Between clients of one era and servers of the other.
    pub bridge: Bridge,
}

/// What a call holds until its answer is out: its places among the running ones, what its answer is charged to, and whether it
/// was charged.
#[derive(Debug, Default)]
pub(crate) struct Held(pub(crate) Vec<Hold>, pub(crate) Charged, pub(crate) bool);

impl Held {
    pub(crate) fn answered(&self, output: Option<Measured>) {
        self.1.answer(output.map_or(0, |output| output.size));
    }
}

impl Gateway {
    /// Counts a call that is over.
    pub(crate) fn count(&self, trail: &Trail, refusal: Option<Code>) {
        // Only names from the configuration become labels: a guessed path must not grow the metrics.
        let server = trail.target.as_ref().map_or("unknown", |target| &target.server);
        self.metrics.call(server, trail.action, refusal);
        for (stage, us) in trail.spent_us() {
            self.metrics.stage(stage, us);
        }
        if let Some(shadow) = trail.shadow.as_ref().filter(|shadow| shadow.opposite) {
            self.metrics.shadow(shadow.allow);
        }
        self.metrics.done(trail.elapsed_us());
        for finding in &trail.findings {
            self.metrics.finding(finding.kind, finding.treatment.name());
        }
        if let Some(tracer) = &self.tracer {
            tracer.call(&trace::Span::of(trail, refusal));
        }
    }

    /// A notification of a server passed by.
    pub(crate) fn noticed(&self, server: &Arc<Server>, message: &Message) {
        // A route over several servers has no lists of its own; what merges their streams noticed already.
        if server.group.is_none() {
            heed(server, message, &self.rules.load().limits);
        }
    }
}

/// What a server says that changed is not served any more; changed lists are fetched soon.
pub(crate) fn heed(server: &Arc<Server>, message: &Message, limits: &Limits) {
    let Some(name) = message.method_name() else { return };
    if name.ends_with("/list_changed") {
        server.changed(limits.clone());
    } else if name == "notifications/resources/updated" {
        server.catalog.reads.clear();
    }
}

/// Logs a refusal, as loudly as its code asks.
pub(crate) fn log(refusal: &Refusal, trail: &Trail) {
    let caller = trail.caller.as_deref().map_or("", |caller: &Caller| &caller.id);
    let target = trail.target.as_ref().map(ToString::to_string).unwrap_or_default();
    let (code, detail) = (refusal.code.name(), &refusal.private);
    match refusal.code.level() {
        Level::Error => tracing::error!(code, detail, caller, target, hint = refusal.code.hint(), "refused"),
        Level::Warn => tracing::warn!(code, detail, caller, target, "refused"),
        Level::Info => tracing::info!(code, detail, caller, target, "refused"),
    }
}
