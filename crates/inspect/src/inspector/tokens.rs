//! Reversible tokens: what they stand for, where that may be seen.

use alloc::{collections::BTreeSet, string::String, vec::Vec};

use portcullis_core::{Digest, Finding, Severity, Treatment};

use super::{Inspector, bounds::start_of};
use crate::{
    Subject,
    form::{TokenKeys, TokenScope},
};

impl Inspector {
    /// By what tokens are kept, and who keeps their keys, where they are not the whole gateway's.
    #[must_use]
    pub fn token_keys(&self) -> Option<(TokenScope, &dyn TokenKeys)> {
        let keys = self.keys.people()?;
        Some((keys.scope(), &**keys)).filter(|(scope, _)| *scope != TokenScope::Gateway)
    }

    /// The text with the tokens of those detectors restored, and what was, if anything.
    #[must_use]
    pub fn restored(
        &self,
        scope: Option<Digest>,
        subject: &Subject<'_>,
        detectors: &BTreeSet<String>,
    ) -> Option<(String, Vec<Finding>)> {
        let (text, values) = self.keys.restore(scope, subject.text, |name| detectors.contains(name))?;
        let finding = |(kind, value): (&'static str, String)| Finding {
            kind,
            severity: Severity::Info,
            confidence: Finding::CERTAIN,
            place: start_of(subject.place).into(),
            evidence: Digest::of(value.as_bytes()),
            treatment: Treatment::Pass,
        };
        Some((text, values.into_iter().map(finding).collect()))
    }
}
