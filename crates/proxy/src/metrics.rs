//! What the data plane counts. Labels come from our own tables and the configuration, never from a message, so
//! their number is bounded.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicI64, AtomicU64},
};

use portcullis_core::{Action, Code};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// The stages that are timed, in order.
pub const STAGES: [&str; 15] = [
    "accept",
    "throttle",
    "read",
    "authenticate",
    "parse",
    "resolve",
    "validate",
    "authorize",
    "inspect",
    "approve",
    "record",
    "arm",
    "forward",
    "inspect_answer",
    "record_outcome",
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    server: String,
    action: &'static str,
    decision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FindingLabels {
    kind: &'static str,
    treatment: &'static str,
}

/// Counters and histograms of the data plane.
#[derive(Debug)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    refusals: BTreeMap<&'static str, Counter>,
    findings: Family<FindingLabels, Counter>,
    stages: Vec<Histogram>,
    total: Histogram,
    in_flight: Gauge<i64, AtomicI64>,
    sessions: Gauge<i64, AtomicI64>,
    suppressed: Counter<u64, AtomicU64>,
    /// Calls that the candidate would have decided the other way: allowed, refused.
    shadows: [Counter<u64, AtomicU64>; 2],
}

/// Seconds, from 1 µs to 30 s, four buckets a decade where calls live.
const BUCKETS: [f64; 20] = [
    0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002,
    0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
];

impl Metrics {
    /// Registers the data plane's metrics.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let calls = Family::<CallLabels, Counter>::default();
        registry.register("portcullis_calls", "Messages by server, action and decision", calls.clone());
        let codes = Family::<CodeLabels, Counter>::default();
        registry.register("portcullis_refusals", "Refusals by code", codes.clone());
        let refusals = Code::ALL
            .iter()
            .map(|code| (code.name(), codes.get_or_create_owned(&CodeLabels { code: code.name() })))
            .collect();
        let findings = Family::<FindingLabels, Counter>::default();
        registry.register("portcullis_findings", "Findings by detector and treatment", findings.clone());
        let histogram = || Histogram::new(BUCKETS);
        let stage_family =
            Family::<StageLabels, Histogram, fn() -> Histogram>::new_with_constructor(histogram);
        registry.register_with_unit(
            "portcullis_stage_duration",
            "Time in each stage of the pipeline",
            Unit::Seconds,
            stage_family.clone(),
        );
        let stages =
            STAGES.iter().map(|stage| stage_family.get_or_create_owned(&StageLabels { stage })).collect();
        let total = histogram();
        registry.register_with_unit(
            "portcullis_call_duration",
            "Time from the first byte of a message to its answer",
            Unit::Seconds,
            total.clone(),
        );
        let in_flight = Gauge::<i64, AtomicI64>::default();
        registry.register("portcullis_calls_in_flight", "Messages being worked on", in_flight.clone());
        let sessions = Gauge::<i64, AtomicI64>::default();
        registry.register("portcullis_sessions", "Sessions of revision 2025-11-25", sessions.clone());
        let suppressed = Counter::<u64, AtomicU64>::default();
        registry.register(
            "portcullis_throttled",
            "Messages beyond a source's rate; the first of each run is in the ledger",
            suppressed.clone(),
        );
        let shadows = [Counter::default(), Counter::default()];
        let [allowed, refused] = &shadows;
        let allowing = "Calls that were refused and the candidate policy would have allowed";
        registry.register("portcullis_shadow_allowed", allowing, allowed.clone());
        let refusing = "Calls that were allowed and the candidate policy would have refused";
        registry.register("portcullis_shadow_refused", refusing, refused.clone());
        Self { calls, refusals, findings, stages, total, in_flight, sessions, suppressed, shadows }
    }

    /// A message was answered (`allowed`) or refused.
    pub fn call(&self, server: &str, action: Option<Action>, refusal: Option<Code>) {
        let decision = if refusal.is_some() { "refused" } else { "allowed" };
        let action = action.map_or("none", Action::name);
        self.calls.get_or_create(&CallLabels { server: server.to_owned(), action, decision }).inc();
        if let Some(counter) = refusal.and_then(|code| self.refusals.get(code.name())) {
            counter.inc();
        }
    }

    /// A detector saw something.
    pub fn finding(&self, kind: &'static str, treatment: &'static str) {
        self.findings.get_or_create(&FindingLabels { kind, treatment }).inc();
    }

    /// A stage took `us` microseconds.
    pub fn stage(&self, stage: usize, us: u64) {
        if let Some(histogram) = self.stages.get(stage) {
            histogram.observe(seconds(us));
        }
    }

    /// A message was done after `us` microseconds.
    pub fn done(&self, us: u64) {
        self.total.observe(seconds(us));
    }

    /// The number of messages being worked on.
    pub fn in_flight(&self, change: i64) {
        self.in_flight.inc_by(change);
    }

    /// The number of sessions.
    pub fn sessions(&self, now: usize) {
        self.sessions.set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    /// The candidate policy would have decided the other way.
    pub fn shadow(&self, allow: bool) {
        let [allowed, refused] = &self.shadows;
        if allow {
            allowed.inc()
        } else {
            refused.inc()
        };
    }

    /// A message beyond a source's rate was refused without an entry of its own.
    pub fn suppressed(&self) {
        self.suppressed.inc();
    }
}

#[expect(clippy::cast_precision_loss, reason = "durations are far below 2^52 microseconds")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}
