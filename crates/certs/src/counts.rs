//! What became of orders, and when the certificate ends, as metrics.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Counted by outcome.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    orders: Family<Outcome, Counter>,
    expires: Gauge,
    answers: Family<Outcome, Counter>,
}

impl Counts {
    /// Counted in `registry`.
    #[must_use]
    pub fn registered(registry: &mut Registry) -> Self {
        let counts = Self::default();
        let help = "Attempts to get a certificate for the gateway: obtained, failed";
        registry.register("portcullis_certificate_orders", help, counts.orders.clone());
        let help = "When the certificate that was obtained for the gateway ends, in seconds since 1970; 0: there is none";
        registry.register("portcullis_certificate_expires", help, counts.expires.clone());
        let help = "OCSP answers that were fetched for certificates of the listener: obtained, failed";
        registry.register("portcullis_ocsp_answers", help, counts.answers.clone());
        counts
    }

    pub(crate) fn answered(&self, obtained: bool) {
        let outcome = if obtained { "obtained" } else { "failed" };
        self.answers.get_or_create(&Outcome { outcome }).inc();
    }

    /// One of each, so that all have their labels.
    pub fn sample(&self) {
        self.ordered(false);
        self.answered(false);
    }

    pub(crate) fn ordered(&self, obtained: bool) {
        let outcome = if obtained { "obtained" } else { "failed" };
        self.orders.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn expires(&self, at_s: u64) {
        self.expires.set(i64::try_from(at_s).unwrap_or(i64::MAX));
    }
}
