//! Questions and answers: may this caller do this to that?

use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use cedar_policy::{Authorizer, Entities, Policy, PolicyId, PolicySet, Request, Response};
use portcullis_core::{Action, Caller, Code, Obligations, Target};
use serde_json::Value;

use crate::{
    Arguments, Decision, Denial, Permit, Policies, RequestContext,
    cache::Known,
    compiled::Compiled,
    entities::{self, Unspeakable},
    permit::refused,
    reads::{Members, Reads, Source},
    slice::Slice,
};

/// One request in Cedar's terms.
pub(crate) struct Question {
    pub(crate) request: Request,
    pub(crate) entities: Entities,
    arguments: Value,
}

impl Policies {
    /// Whether a policy reads what a session has seen.
    #[must_use]
    pub const fn reads_seen(&self) -> bool {
        self.seeing
    }

    /// May `caller` do `action` to `target`? The whole answer. Where somebody acts for the caller, both must be allowed.
    #[must_use]
    pub fn decide(
        &self,
        caller: &Caller,
        action: Action,
        target: &Target,
        arguments: Option<Arguments<'_>>,
        context: &RequestContext<'_>,
    ) -> Arc<Decision> {
        let ask = |caller: &Caller| self.decide_alone(caller, action, target, arguments, context);
        self.resident(caller, target, self.narrowed(caller, ask(caller), ask))
    }

    fn decide_alone(
        &self,
        caller: &Caller,
        action: Action,
        target: &Target,
        arguments: Option<Arguments<'_>>,
        context: &RequestContext<'_>,
    ) -> Arc<Decision> {
        // Before the cache, which does not know what a credential reaches.
        if let Some(refusal) = out_of_reach(caller, action, target) {
            return Arc::new(refusal);
        }
        match self.known(caller, action, target, context) {
            Err(error) => Arc::new(unspeakable(&*error)),
            Ok(Known::Decision(decision)) => decision,
            Ok(Known::Slice(slice)) => {
                Arc::new(self.in_slice(&slice, caller, action, target, arguments, context))
            }
        }
    }

    /// What is known without arguments and context: the decision, or the policies that it depends on.
    fn known(
        &self,
        caller: &Caller,
        action: Action,
        target: &Target,
        context: &RequestContext<'_>,
    ) -> Result<Known, Unspeakable> {
        if let Some(known) = self.cache.get(caller, action, target) {
            return Ok(known);
        }
        let slice = self.slices.of(&self.policies, &self.hierarchy, caller, target)?;
        let slice = match &slice.narrowing {
            None => slice,
            Some(narrowing) => {
                let reads = Reads { principal: Members::ALL, facts: slice.reads.facts, ..Reads::default() };
                let question = self.question(&reads, caller, action, target, None, context)?;
                match narrowing.fitting(&question.request, &question.entities) {
                    Some(members) if members.len() < slice.members.len() => {
                        self.slices.narrow(&self.policies, members)?
                    }
                    Some(_) | None => slice,
                }
            }
        };
        let known = if slice.is_constant() {
            Known::Decision(Arc::new(self.in_slice(&slice, caller, action, target, None, context)))
        } else {
            Known::Slice(slice)
        };
        self.cache.put(caller, action, target, &known);
        Ok(known)
    }

    /// May `caller` do `action` to `target`? The proof, or why not.
    ///
    /// # Errors
    /// [`Denial`] when nothing permits, something forbids, or a policy fails to evaluate.
    pub fn permit(
        &self,
        caller: &Caller,
        action: Action,
        target: &Target,
        arguments: Option<Arguments<'_>>,
        context: &RequestContext<'_>,
    ) -> Result<Permit, Denial> {
        Permit::judge(self.decide(caller, action, target, arguments, context))
    }

    /// Whether `target` is shown to `caller` in lists. Where no policy reads arguments this is exactly
    /// [`Self::decide`]. Where one does, they are unknown yet, and the target is shown when some arguments could be
    /// allowed: permits count without what they ask of arguments, and forbids that read arguments do not count. So
    /// nothing usable is hidden; what is shown may still be refused for its arguments.
    #[must_use]
    pub fn may_see(
        &self,
        caller: &Caller,
        action: Action,
        target: &Target,
        context: &RequestContext<'_>,
    ) -> bool {
        self.sees_alone(caller, action, target, context)
            && self.actors(caller).is_ok_and(|actors| {
                actors.iter().all(|actor| self.sees_alone(actor, action, target, context))
            })
    }

    fn sees_alone(
        &self,
        caller: &Caller,
        action: Action,
        target: &Target,
        context: &RequestContext<'_>,
    ) -> bool {
        if out_of_reach(caller, action, target).is_some() {
            return false;
        }
        let slice = match self.known(caller, action, target, context) {
            Err(_) => return false,
            Ok(Known::Decision(decision)) => return is_shown(&decision),
            // Nobody need ask what else forbids it.
            Ok(Known::Slice(slice)) if !slice.permits => return false,
            Ok(Known::Slice(slice)) => slice,
        };
        let Some(listing) = &slice.listing else {
            return is_shown(&self.in_slice(&slice, caller, action, target, None, context));
        };
        match self.question(&slice.reads, caller, action, target, None, context) {
            Err(_) => false,
            Ok(question) => {
                // Only claims can be confused here, and then every call is refused.
                self.confused(&slice, &question, caller).next().is_none()
                    && is_shown(&self.answer(listing, &question))
            }
        }
    }

    fn in_slice(
        &self,
        slice: &Slice,
        caller: &Caller,
        action: Action,
        target: &Target,
        arguments: Option<Arguments<'_>>,
        context: &RequestContext<'_>,
    ) -> Decision {
        let question = match self.question(&slice.reads, caller, action, target, arguments, context) {
            Ok(question) => question,
            Err(error) => return unspeakable(&*error),
        };
        let confused: Vec<&Compiled> = self.confused(slice, &question, caller).collect();
        if !confused.is_empty() {
            return confusion(&confused, &question.arguments, caller);
        }
        self.answer(&slice.set, &question)
    }

    pub(crate) fn question(
        &self,
        reads: &Reads,
        caller: &Caller,
        action: Action,
        target: &Target,
        arguments: Option<Arguments<'_>>,
        context: &RequestContext<'_>,
    ) -> Result<Question, Unspeakable> {
        let mut entities = self.words.entities(
            caller,
            target,
            reads,
            (&self.hierarchy, &self.facts, || self.regions(caller)),
        )?;
        let mut values = Value::Null;
        if reads.any_of(Source::Arguments) {
            if let Some(arguments) = arguments {
                values = arguments();
            }
            entities.extend(self.words.bags(Source::Arguments, &values, &reads.values)?);
        }
        if reads.any_of(Source::Claims) {
            let claims = claims(caller);
            entities.extend(self.words.bags(Source::Claims, &claims, &reads.values)?);
        }
        let context = self.words.context(caller, context, reads.context)?;
        let request = Request::new(
            self.words.caller(caller),
            self.words.action(action),
            self.words.target(target),
            context,
            None,
        )?;
        Ok(Question { request, entities: entities::together(entities)?, arguments: values })
    }

    /// The policies of the slice that would apply but read a value as a type which it does not have. Cedar would
    /// take such a value for absent, and a `forbid` on it could be slipped past with `"1000"` for `1000`.
    fn confused<'a>(
        &'a self,
        slice: &'a Slice,
        question: &'a Question,
        caller: &'a Caller,
    ) -> impl Iterator<Item = &'a Compiled> {
        let claims = if slice.reads.any_of(Source::Claims) { claims(caller) } else { Value::Null };
        slice.members.iter().filter_map(|index| self.policies.get(*index)).filter(move |one| {
            one.reads.values.iter().any(|read| match read.source {
                Source::Arguments => read.is_confused(&question.arguments),
                Source::Claims => read.is_confused(&claims),
            }) && one.some_values.as_ref().is_some_and(|policy| fits(policy, question))
        })
    }

    pub(crate) fn answer(&self, set: &PolicySet, question: &Question) -> Decision {
        let decision =
            self.read(&Authorizer::new().is_authorized(&question.request, set, &question.entities));
        if decision.code == Some(Code::PolicyFlow) {
            return self.but_for_flow(decision, set, question);
        }
        decision
    }

    /// What is said where the flow rule forbids and nothing else does: it is refused, or people are asked, and in both
    /// cases only where it would be allowed otherwise.
    fn but_for_flow(&self, flow: Decision, set: &PolicySet, question: &Question) -> Decision {
        let mut others = set.clone();
        for id in &*flow.policies {
            // What is not in the set does not forbid either.
            let _ = others.remove_static(PolicyId::new(id));
        }
        let response = Authorizer::new().is_authorized(&question.request, &others, &question.entities);
        let mut decision = self.read(&response);
        let asking = self.obligations(&flow.policies);
        if !decision.is_allowed() {
            return decision;
        }
        if asking.approval.is_none() {
            return flow;
        }
        Arc::make_mut(&mut decision.obligations).add(&asking);
        let mut policies = [&*decision.policies, &*flow.policies].concat();
        policies.sort();
        Decision { policies: policies.into(), ..decision }
    }

    fn read(&self, response: &Response) -> Decision {
        // INVARIANT: a failing policy evaluation is a refusal, although Cedar would skip it.
        let mut errors = response.diagnostics().errors().peekable();
        if errors.peek().is_some() {
            let mut failed: Vec<(String, String)> = errors
                .map(|cedar_policy::AuthorizationError::PolicyEvaluationError(error)| {
                    let id = error.policy_id().to_string();
                    let reason = format!("policy `{id}` failed: {}", error.inner());
                    (id, reason)
                })
                .collect();
            failed.sort();
            let (policies, reasons): (Vec<String>, Vec<String>) = failed.into_iter().unzip();
            return refused(Code::PolicyError, policies, reasons.join("; "));
        }
        let mut policies: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        policies.sort();
        match response.decision() {
            cedar_policy::Decision::Allow => {
                let obligations = Arc::new(self.obligations(&policies));
                Decision { code: None, policies: policies.into(), obligations, reason: String::new() }
            }
            cedar_policy::Decision::Deny if policies.is_empty() => {
                refused(Code::PolicyDenied, policies, "no policy permits it".into())
            }
            cedar_policy::Decision::Deny => {
                let reason = format!("forbidden by `{}`", policies.join("`, `"));
                // Who could get an approval should know that nothing else stands in the way.
                let flow = policies.iter().all(|id| self.is_flow(id));
                refused(if flow { Code::PolicyFlow } else { Code::PolicyDenied }, policies, reason)
            }
        }
    }

    /// Every permit that applies adds what it demands; the stricter wins.
    fn obligations(&self, permitting: &[String]) -> Obligations {
        let mut all = Obligations::default();
        for one in self.policies.iter().filter(|one| permitting.binary_search(&one.id).is_ok()) {
            all.add(&Obligations {
                answers: one.obligations.clone(),
                approval: one.approval.clone(),
                restore: one.restore.clone(),
                buffer: one.buffer,
                ..Obligations::default()
            });
        }
        all
    }
}

/// What only the flow rule forbids is shown: it may be used in another session, or once somebody approves.
fn is_shown(decision: &Decision) -> bool {
    decision.is_allowed() || decision.code == Some(Code::PolicyFlow)
}

/// Whether `policy` alone applies, or fails.
pub(crate) fn fits(policy: &Policy, question: &Question) -> bool {
    let Ok(set) = PolicySet::from_policies([policy.clone()]) else { return true };
    let response = Authorizer::new().is_authorized(&question.request, &set, &question.entities);
    response.diagnostics().reason().next().is_some() || response.diagnostics().errors().next().is_some()
}

pub(crate) fn out_of_reach(caller: &Caller, action: Action, target: &Target) -> Option<Decision> {
    if !caller.servers.reaches(&target.server) {
        let reason = format!("the credential does not reach server `{}`", target.server);
        return Some(refused(Code::PolicyDenied, Vec::new(), reason));
    }
    if !entities::applies(action, target) {
        let reason = format!("`{action}` cannot be asked of `{target}`");
        return Some(refused(Code::PolicyError, Vec::new(), reason));
    }
    None
}

fn claims(caller: &Caller) -> Value {
    caller.claims.as_ref().map_or(Value::Null, |claims| Value::Object(claims.as_ref().clone()))
}

fn confusion(confused: &[&Compiled], arguments: &Value, caller: &Caller) -> Decision {
    let claims = claims(caller);
    let mut reasons = Vec::new();
    for one in confused {
        let values = one.reads.values.iter().filter(|read| match read.source {
            Source::Arguments => read.is_confused(arguments),
            Source::Claims => read.is_confused(&claims),
        });
        for read in values {
            reasons.push(format!(
                "policy `{}` reads `{}` of {} as {}, which it is not",
                one.id,
                read.path,
                read.source.name(),
                read.sort.name()
            ));
        }
    }
    let mut policies: Vec<String> = confused.iter().map(|one| one.id.clone()).collect();
    policies.sort();
    refused(Code::PolicyError, policies, reasons.join("; "))
}

fn unspeakable(error: &dyn core::fmt::Display) -> Decision {
    refused(Code::PolicyError, Vec::new(), format!("the request cannot be put to the policies: {error}"))
}
