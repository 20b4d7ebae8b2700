//! OAuth scopes: does the token bring what calls like this one need? Asked of the name in the call, before it is known
//! whether there is such a thing, so that the answer does not tell.

use std::collections::BTreeSet;

use portcullis_core::{Caller, Code, Refusal};

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
    if !caller.has_token() || rules.scopes.is_empty() {
        return Ok(());
    }
    let named = named(call)?;
    let item = named.as_ref().map(|(kind, name)| (*kind, name.as_str()));
    let mut needed = BTreeSet::new();
    let via = call.via.as_ref().map(|via| &**via.route());
    for rules in [Some(server), via].into_iter().flatten().filter_map(|name| rules.scopes.get(name)) {
        rules.collect(call.action, item, &mut needed);
    }
    let lacking =
        needed.iter().any(|scope| caller.scopes.binary_search_by(|own| own.as_str().cmp(scope)).is_err());
    if !lacking {
        return Ok(());
    }
    let all = needed.into_iter().collect::<Vec<_>>().join(" ");
    Err(Refusal::new(Code::AuthScope, format!("the call needs the scopes `{all}`")).needing(all))
}
