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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PostLabels {
    hook: String,
    outcome: &'static str,
}

/// What became of a post to a chat system.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Posted {
    Delivered,
    Dropped,
    Failed,
}

/// Counted by the event of the ledger, and by what became of posts.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    events: Family<Labels, Counter>,
    posts: Family<PostLabels, Counter>,
}

impl Counts {
    /// Counted in `registry`.
    #[must_use]
    pub fn registered(registry: &mut Registry) -> Self {
        let counts = Self::default();
        let help = "Questions for approval: asked, granted, denied, redeemed, expired";
        registry.register("portcullis_approvals", help, counts.events.clone());
        let help = "Questions for approval posted to chat systems: delivered, failed, dropped";
        registry.register("portcullis_approval_posts", help, counts.posts.clone());
        counts
    }

    pub(crate) fn happened(&self, event: Event) {
        let event = event.name().rsplit('.').next().unwrap_or_default();
        self.events.get_or_create(&Labels { event }).inc();
    }

    pub(crate) fn posted(&self, hook: &str, posted: Posted) {
        let outcome = match posted {
            Posted::Delivered => "delivered",
            Posted::Dropped => "dropped",
            Posted::Failed => "failed",
        };
        self.posts.get_or_create(&PostLabels { hook: hook.to_owned(), outcome }).inc();
    }
}
