//! What happened to questions, counted.

use portcullis_core::Event;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    event: &'static str,
}

/// Counted by the event of the ledger.
#[derive(Clone, Debug, Default)]
pub struct Counts(Family<Labels, Counter>);

impl Counts {
    /// Counted in `registry`.
    #[must_use]
    pub fn registered(registry: &mut Registry) -> Self {
        let counts = Self::default();
        let help = "Questions for approval: asked, granted, denied, redeemed, expired";
        registry.register("portcullis_approvals", help, counts.0.clone());
        counts
    }

    pub(crate) fn happened(&self, event: Event) {
        let event = event.name().rsplit('.').next().unwrap_or_default();
        self.0.get_or_create(&Labels { event }).inc();
    }
}
