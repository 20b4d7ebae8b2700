//! Why a decision is what it is, for people and for tools.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use cedar_policy::{Authorizer, Policy, PolicySet};
use portcullis_core::{Action, Caller, Target};
use serde_json::{Value, json};

use crate::{
    Arguments, Effect, Policies, RequestContext, approval,
    compiled::Compiled,
    decide::{Question, fits},
    reads::{Members, Reads},
};

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

/// One policy that does not fit or that failed, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WhyNot {
    /// Its id.
    pub policy: String,
    /// What does not fit (the caller, the action, the target or a condition), or how it failed.
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
    /// The caller's roles.
    pub roles: Vec<String>,
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
    /// Permits that do not fit, with what does not. Empty when it is allowed.
    pub why_not: Vec<WhyNot>,
    /// Labels of what it is aimed at.
    pub labels: Vec<&'static str>,
    /// Labels of what the session has seen before.
    pub seen: Vec<&'static str>,
    /// Whom it must be approved by before it is made, in words.
    pub approval: Option<String>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = if self.allowed { "allowed" } else { "refused" };
        writeln!(
            f,
            "{answer}: `{}` may{} {} `{}`",
            self.caller,
            if self.allowed { "" } else { " not" },
            self.action,
            self.target
        )?;
        if !self.reason.is_empty() {
            writeln!(f, "because {}", self.reason)?;
        }
        for (what, labels) in [("it is labelled", &self.labels), ("the session has seen", &self.seen)] {
            if !labels.is_empty() {
                writeln!(f, "{what} {}", labels.join(", "))?;
            }
        }
        if let Some(approval) = &self.approval {
            writeln!(f, "{approval}")?;
        }
        for view in &self.policies {
            write!(f, "\n{} `{}` in {}", view.effect, view.policy, view.file)?;
            if let Some(line) = view.line {
                write!(f, ":{line}")?;
            }
            writeln!(f)?;
            for line in view.text.lines() {
                writeln!(f, "    {line}")?;
            }
        }
        for (title, entries) in [("failed", &self.errors), ("permits that do not fit", &self.why_not)] {
            if !entries.is_empty() {
                writeln!(f, "\n{title}:")?;
            }
            for WhyNot { policy, reason } in entries {
                writeln!(f, "    `{policy}`: {reason}")?;
            }
        }
        Ok(())
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
        let decided = self.policies.iter().filter(|one| decision.policies.contains(&one.id));
        let mut out = Explanation {
            allowed: decision.is_allowed(),
            code: decision.code.map(portcullis_core::Code::name),
            caller: caller.id.to_string(),
            roles: caller.roles.to_vec(),
            action: action.name(),
            target: target.to_string(),
            reason: decision.reason.clone(),
            policies: decided.map(view).collect(),
            errors: Vec::new(),
            why_not: Vec::new(),
            labels: self.labels(target).names(),
            seen: context.seen.names(),
            approval: decision.obligations.approval.as_ref().map(approval::in_words),
        };
        let mut reads =
            Reads { context: Members::ALL, principal: Members::ALL, facts: true, values: Vec::new() };
        self.policies.iter().for_each(|one| reads.merge(&one.reads));
        if let Ok(question) = self.question(&reads, caller, action, target, arguments, context) {
            for one in &self.policies {
                out.errors.extend(failure(one, &question));
                if !decision.is_allowed() && one.effect == Effect::Permit {
                    out.why_not.extend(misfit(one, &question));
                }
            }
        }
        out
    }
}

fn view(one: &Compiled) -> PolicyView {
    PolicyView {
        policy: one.id.clone(),
        effect: match one.effect {
            Effect::Forbid => "forbid",
            Effect::Permit => "permit",
        },
        file: one.file.clone(),
        line: one.line,
        role: one.origin.clone(),
        text: one.text.clone(),
    }
}

fn failure(one: &Compiled, question: &Question) -> Option<WhyNot> {
    let set = PolicySet::from_policies([one.policy.clone()]).ok()?;
    let response = Authorizer::new().is_authorized(&question.request, &set, &question.entities);
    let cedar_policy::AuthorizationError::PolicyEvaluationError(error) =
        response.diagnostics().errors().next()?;
    Some(WhyNot { policy: one.id.clone(), reason: error.inner().to_string() })
}

/// What of the policy does not fit, found by asking it again with the other parts taken out.
fn misfit(one: &Compiled, question: &Question) -> Option<WhyNot> {
    if fits(&one.policy, question) {
        return None;
    }
    let whole = one.policy.to_json().ok()?;
    let mut reasons = Vec::new();
    for (part, words) in [("principal", "the caller"), ("action", "the action"), ("resource", "the target")] {
        if !fits(&only(&whole, part)?, question) {
            reasons.push(words);
        }
    }
    if reasons.is_empty() {
        reasons.push("a condition");
    }
    Some(WhyNot { policy: one.id.clone(), reason: format!("{} does not fit", reasons.join(" and ")) })
}

fn only(whole: &Value, part: &str) -> Option<Policy> {
    let mut est = whole.clone();
    let members = est.as_object_mut()?;
    for other in ["principal", "action", "resource"] {
        if other != part {
            members.insert(other.into(), json!({ "op": "All" }));
        }
    }
    members.insert("conditions".into(), json!([]));
    Policy::from_json(None, est).ok()
}
