//! Callers who are shown the same of a server: what such decisions depend on, so that a list is decided once for all
//! of them.

use alloc::sync::Arc;

use portcullis_core::{Caller, CallerKind, Digest, Target};

use crate::Policies;

/// Callers for whom [`Policies::may_see`] says the same of everything on a server, at any time and from anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Audience {
    policies: Digest,
    kind: CallerKind,
    /// Where a policy names single callers.
    id: Option<Arc<str>>,
    roles: Arc<[alloc::string::String]>,
    reaches: bool,
}

impl Policies {
    /// The audience that `caller` belongs to on the server of `target`. Nothing where a policy reads more: the time,
    /// an address, a claim, arguments; and where somebody acts for the caller.
    #[must_use]
    pub fn audience(&self, caller: &Caller, target: &Target) -> Option<Audience> {
        let slice = self.slices.of(&self.policies, &self.hierarchy, caller, target).ok()?;
        (slice.is_constant() && caller.actors.is_empty()).then(|| Audience {
            policies: self.digest(),
            kind: caller.kind,
            id: slice.names_callers.then(|| caller.id.clone()),
            roles: caller.roles.clone(),
            reaches: caller.servers.reaches(&target.server),
        })
    }
}
