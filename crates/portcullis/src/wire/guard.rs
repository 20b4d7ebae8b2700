//! Between what looks for secrets that were handed out, and the detectors that read every message.

use std::sync::Arc;

use portcullis_config::{Leaks, SecretsSection};
use portcullis_core::{Digest, Direction, Treatment};
use portcullis_inspect::{ARMED, CANARY, Inspector, Watch, Watched};
use portcullis_secrets::{Broker, Leak, Why};

/// What looks for them, and what is done about them.
#[derive(Debug)]
struct Guard {
    watched: Arc<portcullis_secrets::Watched>,
    leaks: Treatment,
}

/// The detectors, with an eye on secrets that were handed out.
pub(super) fn guarded(inspector: Inspector, section: &SecretsSection, broker: &Broker) -> Inspector {
    let leaks = match section.leaks {
        Leaks::Mask => Treatment::Mask,
        Leaks::Refuse => Treatment::Refuse,
    };
    inspector.watching(Arc::new(Guard { watched: Arc::clone(broker.watched()), leaks }))
}

impl Guard {
    /// What is told of a value that stands in what travels that way. Callers never get what a server is given, so that only
    /// bait says something in their arguments: and that they took it is reason enough to refuse them.
    fn told(&self, direction: Direction, leak: Leak) -> Option<Watched> {
        let (kind, treatment) = match (leak.why, direction) {
            (Why::Armed, Direction::Inward) => return None,
            (Why::Armed, Direction::Outward) => (ARMED, self.leaks),
            (Why::Canary, Direction::Inward) => (CANARY, Treatment::Refuse),
            (Why::Canary, Direction::Outward) => (CANARY, self.leaks),
        };
        Some(Watched { kind, id: leak.id, treatment, range: leak.range })
    }
}

impl Watch for Guard {
    fn looks(&self, direction: Direction) -> bool {
        match direction {
            Direction::Inward => self.watched.is_planted(),
            Direction::Outward => !self.watched.is_empty(),
        }
    }

    fn may_hold(&self, raw: &[u8]) -> bool {
        self.watched.may_hold(raw)
    }

    fn find(&self, direction: Direction, text: &str) -> Vec<Watched> {
        self.watched.find(text).into_iter().filter_map(|leak| self.told(direction, leak)).collect()
    }

    fn name(&self, id: Digest) -> Option<Arc<str>> {
        self.watched.name(id)
    }

    fn changes(&self) -> u64 {
        self.watched.changes()
    }
}
