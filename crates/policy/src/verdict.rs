//! What a set of policies says of a question of which not everything is known.

use alloc::{collections::BTreeSet, string::String, vec::Vec};

use cedar_policy::{Policy, PolicySet};
use portcullis_core::{Action, Caller, Target};

use crate::{
    Effect, Policies, RequestContext,
    compiled::Compiled,
    decide::{Question, fits, out_of_reach},
    reads::{Members, Reads, Unknown, weakened},
};

/// What policies say.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Yes, whatever is not known.
    Allow,
    /// Yes, whatever is not known, once people have said so.
    Approval,
    /// No, whatever is not known.
    Deny,
    /// It depends on what is not known: on these policies.
    Depends(Vec<String>),
}

impl Policies {
    /// What the policies say, whatever the arguments, claims and scopes may be; where `context` is not known either,
    /// whatever the time, the place and the session may be.
    #[must_use]
    pub fn verdict(
        &self,
        caller: &Caller,
        action: Action,
        target: &Target,
        context: Option<&RequestContext<'_>>,
    ) -> Verdict {
        let ask = |caller: &Caller| self.verdict_alone(caller, action, target, context);
        self.narrowed_verdict(caller, ask(caller), ask)
    }

    fn verdict_alone(
        &self,
        caller: &Caller,
        action: Action,
        target: &Target,
        context: Option<&RequestContext<'_>>,
    ) -> Verdict {
        let unknown = RequestContext::new(portcullis_core::Timestamp(0), "2025-11-25");
        let whole = Reads { context: Members::ALL, principal: Members::ALL, facts: true, values: Vec::new() };
        let slice = self.slices.of(&self.policies, &self.hierarchy, caller, target);
        let question = self.question(&whole, caller, action, target, None, context.unwrap_or(&unknown));
        let (Ok(slice), Ok(question)) = (slice, question) else { return Verdict::Deny };
        if out_of_reach(caller, action, target).is_some() {
            return Verdict::Deny;
        }
        let members = slice.members.iter().filter_map(|index| self.policies.get(*index));
        let (open, known): (Vec<&Compiled>, Vec<&Compiled>) =
            members.partition(|one| one.is_open(context.is_some()));
        let Ok(known) = PolicySet::from_policies(known.into_iter().map(|one| one.policy.clone())) else {
            return Verdict::Deny;
        };
        let sure = self.answer(&known, &question);
        let (open, question) = (&open, &question);
        let in_scope = |effect: Effect| {
            let fitting = open
                .iter()
                .filter(move |one| one.effect == effect && one.could_fit(question, context.is_some()));
            fitting.map(|one| one.id.clone()).collect::<BTreeSet<String>>()
        };
        let (permits, forbids) = (in_scope(Effect::Permit), in_scope(Effect::Forbid));
        let forbidden = !sure.is_allowed() && !sure.policies.is_empty();
        if forbidden || (!sure.is_allowed() && permits.is_empty()) {
            return Verdict::Deny;
        }
        // A permit that fails to evaluate refuses as well.
        if sure.is_allowed() && forbids.is_empty() && permits.is_empty() {
            return if sure.obligations.approval.is_some() { Verdict::Approval } else { Verdict::Allow };
        }
        Verdict::Depends(permits.union(&forbids).cloned().collect())
    }
}

impl Compiled {
    /// Whether it reads something that is not known.
    fn is_open(&self, context_known: bool) -> bool {
        !self.reads.values.is_empty()
            || self.reads.principal.any()
            || (self.reads.context.any() && !context_known)
    }

    /// Whether with some values of what is not known it might apply.
    fn could_fit(&self, question: &Question, context_known: bool) -> bool {
        let Ok(est) = self.policy.to_json() else { return true };
        let known = weakened(&est, Unknown::Caller { context: !context_known });
        Policy::from_json(None, known).map_or(true, |policy| fits(&policy, question))
    }
}
