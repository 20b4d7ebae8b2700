//! OAuth scopes: does the token bring what calls like this one need? Asked of the name in the call, before it is known
//! whether there is such a thing, so that the answer does not tell.

use std::collections::BTreeSet;

use portcullis_core::{Action, Caller, Code, Refusal, TargetKind};

use super::named;
use crate::{rules::Rules, stages::parse::Call};

/// Checks a call to `server`, under the rules of the server and of the route that led there.
///
/// # Errors
/// `auth.scope`, with all the scopes that the call needs.
pub(in crate::stages) fn check(
    call: &Call,
    caller: &Caller,
    server: &str,
    rules: &Rules,
) -> Result<(), Refusal> {
    if free(caller, rules) {
        return Ok(());
    }
    let named = named(call)?;
    let item = named.as_ref().map(|(kind, name)| (*kind, name.as_str()));
    let exposed = call.via.as_ref().and_then(|via| via.alias.clone());
    ask(call, caller, server, rules, (call.action, item, exposed))
}

/// Checks a call about a task: to follow what a tool does takes what it takes to call the tool.
///
/// # Errors
/// As [`check`].
pub(super) fn of_task(
    call: &Call,
    caller: &Caller,
    server: &str,
    rules: &Rules,
    tool: &str,
) -> Result<(), Refusal> {
    if free(caller, rules) {
        return Ok(());
    }
    let exposed = exposed(call, server, rules, tool);
    ask(call, caller, server, rules, (Action::CallTool, Some((TargetKind::Tool, tool)), exposed))
}

/// Whether nobody asks this caller for scopes.
fn free(caller: &Caller, rules: &Rules) -> bool {
    !caller.has_token() || rules.scopes.is_empty()
}

/// What a tool of the server is called on the route of the call, where that leads to several.
fn exposed(call: &Call, server: &str, rules: &Rules, tool: &str) -> Option<String> {
    let group = rules.route(&call.head.server)?.group.as_ref()?;
    let member = group.members().iter().find(|member| *member.server == *server)?;
    Some(member.prefix.expose_name(tool, group.bounds.name_bytes_max))
}

/// `exposed`: what the thing is called on a route over several servers.
fn ask(
    call: &Call,
    caller: &Caller,
    server: &str,
    rules: &Rules,
    (action, item, exposed): (Action, Option<(TargetKind, &str)>, Option<String>),
) -> Result<(), Refusal> {
    let mut needed = BTreeSet::new();
    let route = &*call.head.server;
    for rules in [server, route].into_iter().filter_map(|name| rules.scopes.get(name)) {
        rules.collect(action, item, &mut needed);
    }
    // Whoever writes rules for such a route can know its things by the names that they have there.
    if let (Some(rules), Some((kind, _)), Some(exposed)) = (rules.scopes.get(route), item, &exposed) {
        rules.collect(action, Some((kind, exposed)), &mut needed);
    }
    let lacking =
        needed.iter().any(|scope| caller.scopes.binary_search_by(|own| own.as_str().cmp(scope)).is_err());
    if !lacking {
        return Ok(());
    }
    let all = needed.into_iter().collect::<Vec<_>>().join(" ");
    Err(Refusal::new(Code::AuthScope, format!("the call needs the scopes `{all}`")).needing(all))
}
