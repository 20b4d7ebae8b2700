//! What must not be in a message, beside what detectors see.

use alloc::sync::Arc;

use portcullis_core::{Finding, Labels, Severity};

use super::{Inspector, Match, bounds::start_of};
use crate::{
    Subject,
    form::placeholder,
    watch::{Watch, Watched},
};

impl Inspector {
    /// With values that must not be in a message, whatever detectors are switched on.
    #[must_use]
    pub fn watching(self, watch: Arc<dyn Watch>) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// What looks for values that must not be in a message, where there is something.
    #[must_use]
    pub fn watch(&self) -> Option<&Arc<dyn Watch>> {
        self.watch.as_ref()
    }

    /// Tells of values that must not be in the text, and of nothing else.
    pub fn watched(&self, subject: &Subject<'_>, tell: impl FnMut(Match)) {
        let direction = subject.role.direction();
        let watch = self.watch.iter().filter(|watch| watch.looks(direction));
        watch
            .flat_map(|watch| watch.find(direction, subject.text))
            .map(|one| reported(one, subject))
            .for_each(tell);
    }
}

/// A finding of a value that must not be there.
fn reported(watched: Watched, subject: &Subject<'_>) -> Match {
    let Watched { kind, id, treatment, range } = watched;
    let place = start_of(subject.place).into();
    let (severity, confidence) = (Severity::Critical, Finding::CERTAIN);
    let finding = Finding { kind, severity, confidence, place, evidence: id, treatment };
    Match { finding, range, labels: Labels::NONE, replacement: placeholder(kind) }
}
