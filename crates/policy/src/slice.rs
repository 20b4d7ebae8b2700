//! The part of the policies that can matter for some roles on one server. Cedar's cost grows with the number of
//! policies, so each request is put to its slice; a policy outside it cannot apply, by its own scope.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    string::String,
    sync::Arc,
    vec::Vec,
};

use arc_swap::ArcSwap;
use cedar_policy::{Policy, PolicySet, PolicySetError};
use portcullis_core::{Caller, Target};

use crate::{
    Effect,
    compiled::Compiled,
    hierarchy::Hierarchy,
    reads::{Reads, Source},
};

/// The policies that can matter for some roles on one server.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// Indexes of the policies.
    pub(crate) members: Vec<usize>,
    /// All of them.
    pub(crate) set: PolicySet,
    /// For lists: permits as some arguments could make them, without the forbids that read arguments. None where no
    /// policy of the slice reads arguments.
    pub(crate) listing: Option<PolicySet>,
    /// What any of them reads.
    pub(crate) reads: Reads,
    /// Whether any of them mentions a caller by name.
    pub(crate) names_callers: bool,
}

impl Slice {
    fn build(policies: &[Compiled], members: Vec<usize>) -> Result<Self, Box<PolicySetError>> {
        let chosen = || members.iter().filter_map(|index| policies.get(*index));
        let mut reads = Reads::default();
        chosen().for_each(|one| reads.merge(&one.reads));
        let set = PolicySet::from_policies(chosen().map(|one| one.policy.clone()))?;
        let listing = if reads.any_of(Source::Arguments) {
            Some(PolicySet::from_policies(chosen().filter_map(listed))?)
        } else {
            None
        };
        let names_callers = chosen().any(|one| one.names_callers);
        Ok(Self { members, set, listing, reads, names_callers })
    }

    /// Whether the same question always has the same answer.
    pub(crate) const fn is_constant(&self) -> bool {
        !self.reads.context && !self.reads.principal
    }
}

fn listed(one: &Compiled) -> Option<Policy> {
    match (&one.some_arguments, one.effect) {
        (None, _) => Some(one.policy.clone()),
        (Some(weakened), Effect::Permit) => Some(weakened.clone()),
        (Some(_), Effect::Forbid) => None,
    }
}

/// The roles and the server that policies name, as numbers; roles and servers that no policy names are alike.
type Key = (Vec<usize>, Option<usize>);

/// The slices made so far. Their number is bounded.
#[derive(Debug)]
pub(crate) struct Slices {
    roles: Vec<String>,
    servers: Vec<String>,
    made: ArcSwap<BTreeMap<Key, Arc<Slice>>>,
}

impl Slices {
    /// Slices kept at once; more make it start anew.
    const MAX: usize = 1_024;

    pub(crate) fn new(policies: &[Compiled]) -> Self {
        let roles: BTreeSet<String> = policies.iter().filter_map(|one| one.role.clone()).collect();
        let servers: BTreeSet<String> = policies.iter().filter_map(|one| one.server.clone()).collect();
        Self {
            roles: roles.into_iter().collect(),
            servers: servers.into_iter().collect(),
            made: ArcSwap::default(),
        }
    }

    /// The slice for a caller's roles on a target's server.
    pub(crate) fn of(
        &self,
        policies: &[Compiled],
        hierarchy: &Hierarchy,
        caller: &Caller,
        target: &Target,
    ) -> Result<Arc<Slice>, Box<PolicySetError>> {
        let mut roles: Vec<usize> =
            hierarchy.all(&caller.roles).filter_map(|role| self.roles.binary_search(role).ok()).collect();
        roles.sort_unstable();
        roles.dedup();
        let server = self.servers.binary_search_by(|known| known.as_str().cmp(&target.server)).ok();
        let key = (roles, server);
        if let Some(slice) = self.made.load().get(&key) {
            return Ok(slice.clone());
        }
        let held = |role: &String| self.roles.binary_search(role).is_ok_and(|at| key.0.contains(&at));
        let fits = |one: &Compiled| {
            one.role.as_ref().is_none_or(held)
                && one.server.as_ref().is_none_or(|server| **server == *target.server)
        };
        let members = (0..).zip(policies).filter(|(_, one)| fits(one)).map(|(index, _)| index).collect();
        let slice = Arc::new(Slice::build(policies, members)?);
        self.made.rcu(|made| {
            let mut made = if made.len() < Self::MAX { BTreeMap::clone(made) } else { BTreeMap::new() };
            made.insert(key.clone(), slice.clone());
            made
        });
        Ok(slice)
    }
}
