//! The part of the policies that can matter for some roles on one server. Cedar's cost grows with the number of
//! policies, so each request is put to its slice; a policy outside it cannot apply, by its own scope.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    string::{String, ToString as _},
    sync::Arc,
    vec::Vec,
};

use arc_swap::ArcSwap;
use cedar_policy::{Authorizer, Entities, Policy, PolicyId, PolicySet, PolicySetError, Request};
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
    /// For lists: permits as some arguments could make them, without the forbids that read arguments or what the session
    /// has seen: what is shown must not come and go with every answer. None where no policy of the slice reads either.
    pub(crate) listing: Option<PolicySet>,
    /// What any of them reads.
    pub(crate) reads: Reads,
    /// Whether any of them mentions a caller by name.
    pub(crate) names_callers: bool,
    /// Whether any of them could allow something.
    pub(crate) permits: bool,
    /// How to find those that matter for one action and target. None where they always decide alike, or were found so.
    pub(crate) narrowing: Option<Narrowing>,
}

/// The policies of a slice without what they ask of the context and of the caller's attributes: one that does not apply
/// without it, does not apply with it.
#[derive(Debug)]
pub(crate) struct Narrowing {
    permits: PolicySet,
    forbids: PolicySet,
    /// Policies that always matter, since evaluating them can fail.
    always: Vec<usize>,
}

impl Narrowing {
    fn build<'a>(chosen: impl Iterator<Item = (usize, &'a Compiled)>) -> Result<Self, Box<PolicySetError>> {
        let mut made = Self { permits: PolicySet::new(), forbids: PolicySet::new(), always: Vec::new() };
        for (index, one) in chosen {
            let Some(policy) = &one.some_request else {
                made.always.push(index);
                continue;
            };
            let set = match one.effect {
                Effect::Permit => &mut made.permits,
                Effect::Forbid => &mut made.forbids,
            };
            set.add(policy.new_id(PolicyId::new(index.to_string())))?;
        }
        Ok(made)
    }

    /// Indexes of the policies that can matter for this question; nothing where that cannot be told.
    pub(crate) fn fitting(&self, request: &Request, entities: &Entities) -> Option<Vec<usize>> {
        let mut members = self.always.clone();
        for set in [&self.permits, &self.forbids] {
            let response = Authorizer::new().is_authorized(request, set, entities);
            if response.diagnostics().errors().next().is_some() {
                return None;
            }
            for id in response.diagnostics().reason() {
                members.push(AsRef::<str>::as_ref(id).parse().ok()?);
            }
        }
        members.sort_unstable();
        Some(members)
    }
}

impl Slice {
    fn build(policies: &[Compiled], members: Vec<usize>) -> Result<Self, Box<PolicySetError>> {
        let chosen = || members.iter().filter_map(|index| policies.get(*index));
        let mut reads = Reads::default();
        chosen().for_each(|one| reads.merge(&one.reads));
        let set = PolicySet::from_policies(chosen().map(|one| one.policy.clone()))?;
        let listing = if reads.any_of(Source::Arguments) || reads.context.has(SEEN) {
            Some(PolicySet::from_policies(chosen().filter_map(listed))?)
        } else {
            None
        };
        let names_callers = chosen().any(|one| one.names_callers);
        let permits = chosen().any(|one| one.effect == Effect::Permit);
        Ok(Self { members, set, listing, reads, names_callers, permits, narrowing: None })
    }

    fn narrowing(self, policies: &[Compiled]) -> Result<Self, Box<PolicySetError>> {
        if self.is_constant() {
            return Ok(self);
        }
        let chosen = self.members.iter().filter_map(|index| Some((*index, policies.get(*index)?)));
        let narrowing = Narrowing::build(chosen)?;
        Ok(Self { narrowing: Some(narrowing), ..self })
    }

    /// Whether the same question always has the same answer.
    pub(crate) fn is_constant(&self) -> bool {
        !self.reads.context.any() && !self.reads.principal.any()
    }
}

/// The member of the context that changes while a session lasts.
pub(crate) const SEEN: &str = "seen";

fn listed(one: &Compiled) -> Option<Policy> {
    match (&one.some_arguments, one.effect) {
        (None, Effect::Forbid) if one.reads.context.has(SEEN) => None,
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
    narrowed: ArcSwap<BTreeMap<Vec<usize>, Arc<Slice>>>,
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
            narrowed: ArcSwap::default(),
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
        let slice = Arc::new(Slice::build(policies, members)?.narrowing(policies)?);
        keep(&self.made, key, &slice);
        Ok(slice)
    }

    /// The slice of exactly these policies.
    pub(crate) fn narrow(
        &self,
        policies: &[Compiled],
        members: Vec<usize>,
    ) -> Result<Arc<Slice>, Box<PolicySetError>> {
        if let Some(slice) = self.narrowed.load().get(&members) {
            return Ok(slice.clone());
        }
        let slice = Arc::new(Slice::build(policies, members.clone())?);
        keep(&self.narrowed, members, &slice);
        Ok(slice)
    }
}

fn keep<K: Ord + Clone>(made: &ArcSwap<BTreeMap<K, Arc<Slice>>>, key: K, slice: &Arc<Slice>) {
    made.rcu(|made| {
        let mut made = if made.len() < Slices::MAX { BTreeMap::clone(made) } else { BTreeMap::new() };
        made.insert(key.clone(), slice.clone());
        made
    });
}
