//! Roles for a time, joined to a caller's own.

use std::{collections::BTreeSet, sync::Arc};

use portcullis_core::{Caller, Timestamp};
use portcullis_store::Grants;

/// The caller with the roles that count now, and the ids of the grants that gave them; the caller itself where there
/// are none. Asked for each request, so that a grant ends by the clock.
#[must_use]
pub fn granted(grants: &dyn Grants, caller: Arc<Caller>, now: Timestamp) -> (Arc<Caller>, Vec<String>) {
    let rows = grants.of(&caller.id, now);
    if rows.is_empty() {
        return (caller, Vec::new());
    }
    let mut roles: BTreeSet<String> = caller.roles.iter().cloned().collect();
    roles.extend(rows.iter().map(|row| row.grant.role.clone()));
    let roles: Vec<String> = roles.into_iter().collect();
    let caller = Caller { roles: roles.into(), ..Caller::clone(&caller) };
    (Arc::new(caller), rows.iter().map(|row| row.grant.id.clone()).collect())
}
