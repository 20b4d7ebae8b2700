//! The proof that policy said yes, and its opposite. Only this crate can make a [`Permit`].

use alloc::{string::String, sync::Arc, vec::Vec};
use core::fmt;

use portcullis_core::{Code, Obligations, Refusal};

/// What the policies say about one question. The whole answer, for caches and explanations; [`Permit`] is the proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Nothing when it is allowed; else why not.
    pub code: Option<Code>,
    /// The policies that decided, by id, sorted. Empty when nothing permits.
    pub policies: Arc<[String]>,
    /// What a permit demands.
    pub obligations: Arc<Obligations>,
    /// For the operator: why, in words. Empty when it is allowed.
    pub reason: String,
}

impl Decision {
    /// Whether it is allowed.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        self.code.is_none()
    }
}

/// A no.
pub(crate) fn refused(code: Code, policies: Vec<String>, reason: String) -> Decision {
    Decision { code: Some(code), policies: policies.into(), obligations: Arc::default(), reason }
}

/// Proof that policy allows what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit(Arc<Decision>);

impl Permit {
    pub(crate) fn judge(decision: Arc<Decision>) -> Result<Self, Denial> {
        match decision.code {
            None => Ok(Self(decision)),
            Some(code) => {
                Err(Denial { code, policies: decision.policies.clone(), reason: decision.reason.clone() })
            }
        }
    }

    /// What must be done with the answer.
    #[must_use]
    pub fn obligations(&self) -> &Obligations {
        &self.0.obligations
    }

    /// Whether people are to say yes first.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.0.obligations.approval.is_some()
    }

    /// The policies that permit, by id, sorted.
    #[must_use]
    pub fn policies(&self) -> &[String] {
        &self.0.policies
    }
}

/// Policy says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Denial {
    /// `policy.denied`, or `policy.error` when a policy failed to evaluate.
    pub code: Code,
    /// The policies that forbid or failed, by id, sorted; empty when nothing permits.
    pub policies: Arc<[String]>,
    /// For the operator.
    pub reason: String,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self::new(denial.code, denial.reason)
    }
}
