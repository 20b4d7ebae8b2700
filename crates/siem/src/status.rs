//! What is known of each sink while the gateway runs.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// How a sink is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// How its messages are written.
    pub format: String,
    /// The next entry that it gets, or that is looked at for it.
    pub next: u64,
    /// Entries that were not looked at yet.
    pub lag: u64,
    /// Messages delivered since the start.
    pub delivered: u64,
    /// Messages that the receiver did not want since the start.
    pub skipped: u64,
    /// Why the last attempt failed, while the sink fails.
    pub error: Option<String>,
    /// When something was last delivered, in milliseconds since 1970.
    pub delivered_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    sink: String,
}

/// Counted for all sinks.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    delivered: Family<Labels, Counter>,
    failures: Family<Labels, Counter>,
    skipped: Family<Labels, Counter>,
    lag: Family<Labels, Gauge>,
    failing: Family<Labels, Gauge>,
}

impl Counts {
    /// Counted in `registry`.
    #[must_use]
    pub fn registered(registry: &mut Registry) -> Self {
        let counts = Self::default();
        registry.register(
            "portcullis_sink_delivered",
            "Messages that a sink has taken",
            counts.delivered.clone(),
        );
        registry.register(
            "portcullis_sink_failures",
            "Deliveries to a sink that failed",
            counts.failures.clone(),
        );
        registry.register(
            "portcullis_sink_skipped",
            "Messages that a sink did not want",
            counts.skipped.clone(),
        );
        registry.register(
            "portcullis_sink_lag",
            "Ledger entries not yet looked at for a sink",
            counts.lag.clone(),
        );
        registry.register(
            "portcullis_sink_failing",
            "1 while a sink cannot be delivered to",
            counts.failing.clone(),
        );
        counts
    }

    /// One of each, for the reference.
    pub fn sample(&self) {
        self.delivered("", 0);
        self.failed("");
        self.skipped("");
        self.state("", 0, false);
    }

    pub(crate) fn delivered(&self, sink: &str, count: u64) {
        self.delivered.get_or_create(&labels(sink)).inc_by(count);
    }

    pub(crate) fn failed(&self, sink: &str) {
        self.failures.get_or_create(&labels(sink)).inc();
    }

    pub(crate) fn skipped(&self, sink: &str) {
        self.skipped.get_or_create(&labels(sink)).inc();
    }

    pub(crate) fn state(&self, sink: &str, lag: u64, failing: bool) {
        self.lag.get_or_create(&labels(sink)).set(i64::try_from(lag).unwrap_or(i64::MAX));
        self.failing.get_or_create(&labels(sink)).set(i64::from(failing));
    }

    pub(crate) fn forget(&self, sink: &str) {
        self.lag.remove(&labels(sink));
        self.failing.remove(&labels(sink));
    }
}

fn labels(sink: &str) -> Labels {
    Labels { sink: sink.to_owned() }
}
