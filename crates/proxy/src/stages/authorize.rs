//! Policy: may this caller do this to that, with these arguments? Deny by default.

use std::sync::Arc;

use portcullis_catalog::State;
use portcullis_core::{Action, Caller, Code, Digest, Labels, Refusal, Target, TargetKind};
use portcullis_inspect::TokenScope;
use portcullis_policy::{Denial, Permit, Policies, RequestContext};
use portcullis_store::StoreError;
use portcullis_usage::{News, Thread};

use super::{arm::Armed, parse::Call, resolve, validate::Valid};
use crate::{
    gateway::Gateway,
    rules::Rules,
    trail::{Shadow, Trail},
};

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

/// Learns what the session of a call has seen at other gateways on the same store, where a policy asks for it.
///
/// # Errors
/// `policy.error`: what it has seen cannot be known.
pub async fn learn(gateway: &Gateway, caller: &Caller, valid: &Valid, rules: &Rules) -> Result<(), Refusal> {
    if !asks_seen(rules) {
        return Ok(());
    }
    let (thread, now) = (thread(&valid.aimed.call), gateway.clock.now());
    gateway.usage.seen.learn(&caller.id, thread, now, &rules.limits).await.map_err(unknown)
}

fn asks_seen(rules: &Rules) -> bool {
    let asks = |policy: &Policies| policy.reads_seen();
    asks(&rules.policy) || rules.shadow.as_deref().is_some_and(asks)
}

/// Has the store know what a session sees, before the session does.
///
/// # Errors
/// `policy.error`: other gateways would not know it.
pub async fn tell(gateway: &Gateway, news: Option<News>, rules: &Rules) -> Result<(), Refusal> {
    let Some(news) = news.filter(|_| asks_seen(rules)) else { return Ok(()) };
    gateway.usage.seen.tell(news, &rules.limits).await.map_err(unknown)
}

fn unknown(error: StoreError) -> Refusal {
    Refusal::new(Code::PolicyError, format!("what the session has seen cannot be looked up: {error}"))
        .retry_after_s(1)
}

/// Decides about a call; the policies that denied it and what a candidate would have decided go to the trail.
///
/// # Errors
/// `policy.denied`, `policy.error`, `policy.flow`; where the caller may not even see the target it looks unknown.
pub fn call(
    gateway: &Gateway,
    caller: &Arc<Caller>,
    valid: Valid,
    rules: &Rules,
    trail: &mut Trail,
) -> Result<Permitted, Refusal> {
    let (call, target) = (&valid.aimed.call, &valid.aimed.target);
    let mut context = context(gateway, caller, call, rules);
    if rules.policy.is_paced() || rules.shadow.as_ref().is_some_and(|shadow| shadow.is_paced()) {
        let (now, most) = (context.now.seconds(), rules.limits.rate_entries_max);
        context.calls_last_minute = gateway.usage.pace.count(&caller.id, now, most);
    }
    trail.seen = context.seen;
    trail.places = rules.policy.places(caller, target);
    let decided = permit(caller, &valid, &rules.policy, &context);
    if let Some(shadow) = &rules.shadow {
        let other = permit(caller, &valid, shadow, &context);
        // Whether people are asked first is half of the answer.
        let effect = |said: &Result<Permit, Denied>| said.as_ref().map(Permit::asks).ok();
        let differs = effect(&other) != effect(&decided);
        trail.shadow = differs.then(|| Shadow::of(other.as_ref().map_err(Denied::denial), decided.is_ok()));
    }
    match decided {
        Ok(permit) => {
            let (seen, labels) = (&gateway.usage.seen, rules.policy.labels(target));
            trail.labels = labels;
            if !labels.is_empty() || !seen.is_empty() {
                trail.news = seen.note(&caller.id, thread(call), labels, context.now, &rules.limits);
            }
            Ok(Permitted { caller: Arc::clone(caller), permit, valid })
        }
        Err(denied) => {
            trail.policies.extend(denied.denial().policies.iter().cloned());
            match denied {
                Denied::Route(denial) => Err(Refusal::from(denial)),
                Denied::Call(denial) => Err(refusal(denial, caller, &valid, rules, &context)),
            }
        }
    }
}

/// Notes what was found in what a server says, before anybody gets it.
///
/// # Errors
/// `policy.error`: other gateways would not know it.
pub async fn brought(gateway: &Gateway, armed: &Armed, labels: Labels, rules: &Rules) -> Result<(), Refusal> {
    if labels.is_empty() || !asks_seen(rules) {
        return Ok(());
    }
    let permitted = &armed.recorded.inspected.permitted;
    let (thread, now) = (thread(&permitted.valid.aimed.call), gateway.clock.now());
    let news = gateway.usage.seen.note(&permitted.caller.id, thread, labels, now, &rules.limits);
    tell(gateway, news, rules).await
}

/// What belongs together with a call, for the labels of what was used before. On a route over several servers that is
/// the client's session with the route: what one of them said counts at the others.
fn thread(call: &Call) -> Thread {
    Thread::of(call.own_session().map(|session| session.digest()), call.trace_parent().as_deref())
}

/// Within what tokens of a call mean something, where that is not everywhere.
pub(super) fn token_scope(permitted: &Permitted, rules: &Rules) -> Option<Digest> {
    let caller = &permitted.caller.id;
    match rules.inspector.token_keys()?.0 {
        TokenScope::Gateway => None,
        TokenScope::Caller => Some(Digest::of_parts(&[b"caller", caller.as_bytes()])),
        TokenScope::Session => Some(thread(&permitted.valid.aimed.call).of_caller(caller)),
    }
}

/// The same of a call on its way back.
pub fn scope(armed: &Armed, rules: &Rules) -> Option<Digest> {
    token_scope(&armed.recorded.inspected.permitted, rules)
}

/// The session of the call was ended by its client: what it has seen is forgotten, and its tokens are worth nothing.
pub fn ended(gateway: &Gateway, armed: &Armed, rules: &Rules) {
    let permitted = &armed.recorded.inspected.permitted;
    gateway.usage.seen.end(&permitted.caller.id, thread(&permitted.valid.aimed.call));
    if let Some((TokenScope::Session, keys)) = rules.inspector.token_keys()
        && let Some(scope) = scope(armed, rules)
    {
        keys.over(scope);
    }
}

/// What policy is told of a call beside caller, action, target and arguments.
pub(super) fn context(
    gateway: &Gateway,
    caller: &Caller,
    call: &Call,
    rules: &Rules,
) -> RequestContext<'static> {
    let mut context = call.context(gateway.clock.now());
    let seen = &gateway.usage.seen;
    if !seen.is_empty() {
        context.seen = seen.labels(&caller.id, thread(call), context.now, &rules.limits);
    }
    context
}

/// A denial, and whether it is about the route over several servers or about the call itself.
pub(super) enum Denied {
    Call(Denial),
    Route(Denial),
}

impl Denied {
    const fn denial(&self) -> &Denial {
        match self {
            Self::Call(denial) | Self::Route(denial) => denial,
        }
    }
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
    caller: &Arc<Caller>,
    valid: &Valid,
    policies: &Policies,
    context: &RequestContext<'_>,
) -> Result<Permit, Denied> {
    let aimed = &valid.aimed;
    // On a route over several servers policy speaks about the route as well, with the one action that it has.
    if let Some(via) = &aimed.call.via {
        let route = Target { server: Arc::clone(via.route()), item: None, digest: None };
        policies.permit(caller, Action::Connect, &route, None, context).map_err(Denied::Route)?;
    }
    let arguments = || {
        let view = aimed.call.message().and_then(|message| message.params()?.get("arguments"));
        view.map_or_else(|| serde_json::Value::Object(serde_json::Map::new()), |view| view.to_value())
    };
    // What concerns all of its servers is asked about each of them where it is done.
    let action = if aimed.server.group.is_some() { Action::Connect } else { aimed.call.action };
    let permit = policies.permit(caller, action, &aimed.target, Some(&arguments), context);
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
