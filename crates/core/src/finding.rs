//! What a detector saw, and what policy obliges us to do about it. Detectors only report.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
};

use crate::{Approval, Digest, Label};

/// Which way a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the caller to a server: arguments.
    Inward,
    /// From a server to the caller: results, errors, notifications, questions, definitions.
    Outward,
}

/// How bad it is, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Worth counting.
    Info,
    /// Worth a look.
    Low,
    /// Likely unwanted.
    Medium,
    /// Likely an attack or a leak.
    High,
    /// A secret of the gateway, or bait, where it must not be: somebody should look now.
    Critical,
}

/// What is done about a finding, mildest first, so that the greatest of several wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Treatment {
    /// Let it through; the finding is recorded.
    Pass,
    /// Let it through, marked so that a model sees that others wrote it.
    Warn,
    /// Let it through once people said yes; what nobody can be asked about is masked.
    Ask,
    /// Replace the matched text by a placeholder.
    Mask,
    /// Leave out the member that holds it.
    Drop,
    /// Refuse the message.
    Refuse,
}

impl Treatment {
    /// Every treatment, mildest first.
    pub const ALL: &'static [Self] =
        &[Self::Pass, Self::Warn, Self::Ask, Self::Mask, Self::Drop, Self::Refuse];

    /// The name, as in configuration, ledger entries and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Ask => "ask",
            Self::Mask => "mask",
            Self::Drop => "drop",
            Self::Refuse => "refuse",
        }
    }

    /// Whether it takes something away.
    #[must_use]
    pub const fn takes(self) -> bool {
        matches!(self, Self::Mask | Self::Drop)
    }

    /// The treatment of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|treatment| treatment.name() == name)
    }
}

/// Something a detector saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The detector's catalogue name, for example `payment_card`.
    pub kind: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// How sure, of 1,000.
    pub confidence: u16,
    /// Where: a JSON pointer (RFC 6901) into the message.
    pub place: String,
    /// SHA-256 of the matched text, so that two sightings can be compared without keeping the text.
    pub evidence: Digest,
    /// What was done about it.
    pub treatment: Treatment,
}

impl Finding {
    /// As sure as can be.
    pub const CERTAIN: u16 = 1_000;
}

/// What a permit demands beyond "yes". New members stop the build where they must be honoured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obligations {
    /// Detector name to the least treatment of what it finds in answers (`@mask`, `@refuse` on a policy).
    pub answers: BTreeMap<String, Treatment>,
    /// Whom to ask before the call is made (`@approval` on a policy).
    pub approval: Option<Approval>,
    /// Detectors whose tokens in arguments are restored (`@restore` on a policy).
    pub restore: BTreeSet<String>,
    /// Kinds of data that may not go where the caller is, to the least treatment of what is found of them in answers.
    pub abroad: BTreeMap<Label, Treatment>,
    /// Whether nothing of the answer passes before all of it was judged (`@buffer` on a policy).
    pub buffer: bool,
}

impl Obligations {
    /// What two policies demand that both allow a call: the stricter wins, and what one restores is restored.
    pub fn add(&mut self, other: &Self) {
        self.restore.extend(other.restore.iter().cloned());
        self.demand(other);
    }

    /// What is left where two callers must both be allowed: the stricter wins in everything.
    pub fn narrow(&mut self, other: &Self) {
        self.restore.retain(|detector| other.restore.contains(detector));
        self.demand(other);
    }

    /// What such a detector finds in answers is treated at least like that.
    pub fn at_least(&mut self, detector: &str, treatment: Treatment) {
        let least = self.answers.entry(detector.into()).or_insert(treatment);
        *least = (*least).max(treatment);
    }

    fn demand(&mut self, other: &Self) {
        let Self { answers, approval, restore: _, abroad, buffer } = other;
        self.buffer |= buffer;
        for (detector, treatment) in answers {
            self.at_least(detector, *treatment);
        }
        for (label, treatment) in abroad {
            let least = self.abroad.entry(*label).or_insert(*treatment);
            *least = (*least).max(*treatment);
        }
        self.approval = match (self.approval.take(), approval) {
            (Some(one), Some(other)) => Some(one.and(other)),
            (one, other) => one.or_else(|| other.clone()),
        };
    }
}
