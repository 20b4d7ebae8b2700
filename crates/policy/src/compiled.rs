//! One policy, compiled.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
};

use cedar_policy::{ActionConstraint, Policy, PrincipalConstraint, ResourceConstraint};
use portcullis_core::{Approval, Treatment};

use crate::{Effect, reads::Reads, render::BUFFERED};

/// One policy with all that is known of it beforehand.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) id: String,
    pub(crate) policy: Policy,
    pub(crate) effect: Effect,
    pub(crate) file: String,
    pub(crate) line: Option<u32>,
    /// The role it was compiled from.
    pub(crate) origin: Option<String>,
    pub(crate) text: String,
    /// It applies to callers in this role only.
    pub(crate) role: Option<String>,
    /// It applies to this server only.
    pub(crate) server: Option<String>,
    /// It mentions a caller by name.
    pub(crate) names_callers: bool,
    pub(crate) obligations: BTreeMap<String, Treatment>,
    pub(crate) restore: BTreeSet<String>,
    pub(crate) buffer: bool,
    pub(crate) approval: Option<Approval>,
    pub(crate) reads: Reads,
    /// Without what it asks of arguments: applies where some arguments could make it apply.
    pub(crate) some_arguments: Option<Policy>,
    /// Without what it asks of arguments and claims.
    pub(crate) some_values: Option<Policy>,
    /// Without what it asks of the context and of attributes of the caller: where this does not apply, it never does.
    /// None where evaluating it can fail, which counts wherever it stands.
    pub(crate) some_request: Option<Policy>,
}

impl Compiled {
    /// Whether it applies to everybody and everything.
    pub(crate) fn is_unconditional(&self) -> bool {
        let policy = &self.policy;
        !policy.has_non_scope_constraint()
            && matches!(policy.principal_constraint(), PrincipalConstraint::Any)
            && matches!(policy.action_constraint(), ActionConstraint::Any)
            && matches!(policy.resource_constraint(), ResourceConstraint::Any)
    }
}

/// Whether it lets nothing of an answer pass before all of it was judged.
///
/// # Errors
/// What is wrong with how it says so, and a hint.
pub(crate) fn buffers(policy: &Policy) -> Result<bool, (&'static str, &'static str)> {
    let Some(what) = policy.annotation("buffer") else { return Ok(false) };
    if policy.effect() == cedar_policy::Effect::Forbid || what != BUFFERED {
        let message = "`@buffer` is written `@buffer(\"answer\")` and stands on a `permit`";
        return Err((message, "put it on the `permit` that allows the call"));
    }
    Ok(true)
}
