//! Why a decision is what it is, for people and for tools.

use alloc::{string::String, vec::Vec};
use core::fmt;

use portcullis_core::{Action, Caller, Target};

use crate::{Arguments, Policies, RequestContext};

/// One policy that decided.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PolicyView {
    /// Its id.
    pub policy: String,
    /// `permit` or `forbid`.
    pub effect: &'static str,
    /// The Cedar file, or ``role `NAME` ``.
    pub file: String,
    /// The line in the file, from 1.
    pub line: Option<u32>,
    /// The role it was compiled from.
    pub role: Option<String>,
    /// Its Cedar text.
    pub text: String,
}

/// One policy that could have permitted but does not fit, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WhyNot {
    /// Its id.
    pub policy: String,
    /// What does not fit: the caller, the action, the target or a condition.
    pub reason: String,
}

/// A decision with its reasons.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Explanation {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Name of the code of the refusal.
    pub code: Option<&'static str>,
    /// Who asked.
    pub caller: String,
    /// What for.
    pub action: &'static str,
    /// On what.
    pub target: String,
    /// In words; empty when it is allowed.
    pub reason: String,
    /// The policies that decided.
    pub policies: Vec<PolicyView>,
    /// Policies that failed to evaluate, with the cause.
    pub errors: Vec<WhyNot>,
    /// Permits that do not fit, with what does not.
    pub why_not: Vec<WhyNot>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Policies {
    /// Decides as [`Self::decide`] does, and says why.
    #[must_use]
    pub fn explain(
        &self,
        caller: &Caller,
        action: Action,
        target: &Target,
        arguments: Option<Arguments<'_>>,
        context: &RequestContext<'_>,
    ) -> Explanation {
        let decision = self.decide(caller, action, target, arguments, context);
        Explanation {
            allowed: decision.is_allowed(),
            code: decision.code.map(portcullis_core::Code::name),
            caller: caller.id.as_ref().into(),
            action: action.name(),
            target: alloc::format!("{target}"),
            reason: decision.reason.clone(),
            policies: Vec::new(),
            errors: Vec::new(),
            why_not: Vec::new(),
        }
    }
}
