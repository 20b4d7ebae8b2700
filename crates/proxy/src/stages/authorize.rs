//! Policy: may this caller do this to that, with these arguments? Deny by default.

use std::sync::Arc;

use portcullis_core::{Action, Caller, Refusal, Target, TargetKind};
use portcullis_policy::{Denial, Permit, RequestContext};

use super::{resolve, validate::Valid};
use crate::{catalog::State, gateway::Gateway, rules::Rules};

/// A call that policy allows.
#[derive(Debug)]
pub struct Permitted {
    pub(super) valid: Valid,
    pub(super) caller: Arc<Caller>,
    pub(super) permit: Permit,
}

impl Permitted {
    /// The policies that permit, for the ledger.
    #[must_use]
    pub fn policies(&self) -> &[String] {
        self.permit.policies()
    }
}

/// Decides about a call; the policies that denied it go to `denied`.
///
/// # Errors
/// `policy.denied`, `policy.error`; where the caller may not even see the target it looks unknown.
pub fn call(
    gateway: &Gateway,
    caller: &Arc<Caller>,
    valid: Valid,
    rules: &Rules,
    denied: &mut Vec<String>,
) -> Result<Permitted, Refusal> {
    match permit(gateway, caller, &valid, rules) {
        Ok(permit) => Ok(Permitted { caller: Arc::clone(caller), permit, valid }),
        Err(Denied::Route(denial)) => {
            denied.extend(denial.policies.iter().cloned());
            Err(Refusal::from(denial))
        }
        Err(Denied::Call(denial)) => {
            denied.extend(denial.policies.iter().cloned());
            Err(refusal(denial, caller, &valid, rules, &valid.aimed.call.context(gateway.clock.now())))
        }
    }
}

/// A denial, and whether it is about the route over several servers or about the call itself.
pub(super) enum Denied {
    Call(Denial),
    Route(Denial),
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Call(denial) | Denied::Route(denial) => Self::from(denial),
        }
    }
}

/// Asks the policies.
pub(super) fn permit(
    gateway: &Gateway,
    caller: &Arc<Caller>,
    valid: &Valid,
    rules: &Rules,
) -> Result<Permit, Denied> {
    let aimed = &valid.aimed;
    let context = aimed.call.context(gateway.clock.now());
    // On a route over several servers policy speaks about the route as well, with the one action that it has.
    if let Some(via) = &aimed.call.via {
        let route = Target { server: Arc::clone(via.route()), item: None, digest: None };
        rules.policy.permit(caller, Action::Connect, &route, None, &context).map_err(Denied::Route)?;
    }
    let arguments = || {
        let view = aimed.call.message().and_then(|message| message.params()?.get("arguments"));
        view.map_or_else(|| serde_json::Value::Object(serde_json::Map::new()), |view| view.to_value())
    };
    // What concerns all of its servers is asked about each of them where it is done.
    let action = if aimed.server.group.is_some() { Action::Connect } else { aimed.call.action };
    let permit = rules.policy.permit(caller, action, &aimed.target, Some(&arguments), &context);
    permit.map_err(Denied::Call)
}

fn refusal(
    denial: Denial,
    caller: &Caller,
    valid: &Valid,
    rules: &Rules,
    context: &RequestContext<'_>,
) -> Refusal {
    let aimed = &valid.aimed;
    let code = denial.code;
    let refusal = Refusal::from(denial);
    let Some((kind, name)) = &aimed.target.item else { return refusal };
    if rules.policy.may_see(caller, aimed.call.action, &aimed.target, context) {
        return refusal.saying(format!("{}: {kind} `{}`", code.sentence(), aimed.call.shown(name)));
    }
    resolve::hide(refusal, &aimed.call, *kind, name)
}

/// Which definitions of a kind are shown to a caller in lists, in the order of the catalogue: the same policies, asked
/// the same way as for the call.
#[must_use]
pub fn shown(
    rules: &Rules,
    caller: &Caller,
    kind: TargetKind,
    (server, state): (&Arc<str>, &State),
    context: &RequestContext<'_>,
) -> Arc<[bool]> {
    let action = match kind {
        TargetKind::Prompt => Action::GetPrompt,
        TargetKind::Resource | TargetKind::Template => Action::ReadResource,
        TargetKind::Tool => Action::CallTool,
    };
    let target = Target { server: Arc::clone(server), item: None, digest: None };
    let audience = rules.policy.audience(caller, &target);
    state.shown(kind, audience, rules.limits.decision_cache_max, |item| {
        let target = Target { item: Some((kind, Arc::clone(&item.name))), ..target.clone() };
        rules.policy.may_see(caller, action, &target, context)
    })
}
