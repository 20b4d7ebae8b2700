//! Roles that contain other roles: who has one has all that it inherits.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

use crate::Role;

/// Each role that inherits, with everything it inherits, however far away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hierarchy(BTreeMap<String, BTreeSet<String>>);

impl Hierarchy {
    /// The hierarchy, and what is wrong with it: the role, what, and what to do.
    pub(crate) fn of(roles: &[Role]) -> (Self, Vec<(String, String, &'static str)>) {
        let direct: BTreeMap<&str, &[String]> =
            roles.iter().map(|role| (role.name.as_str(), role.inherits.as_slice())).collect();
        let mut mistakes = Vec::new();
        let mut all = BTreeMap::new();
        for role in roles.iter().filter(|role| !role.inherits.is_empty()) {
            for parent in role.inherits.iter().filter(|parent| !direct.contains_key(parent.as_str())) {
                let message = format!("inherits `{parent}`, which is no role");
                mistakes.push((role.name.clone(), message, "declare it under `roles`"));
            }
            // Each role is visited once, so a ring ends here as well.
            let (mut found, mut open) = (BTreeSet::new(), role.inherits.iter().collect::<Vec<_>>());
            while let Some(name) = open.pop() {
                if found.insert(name.clone()) {
                    open.extend(direct.get(name.as_str()).copied().into_iter().flatten());
                }
            }
            if found.contains(&role.name) {
                let message = String::from("inherits itself, directly or through others");
                mistakes.push((role.name.clone(), message, "cut the ring: a role cannot contain itself"));
            }
            all.insert(role.name.clone(), found);
        }
        (Self(all), mistakes)
    }

    /// `roles` and all that they inherit.
    pub(crate) fn all<'a>(&'a self, roles: &'a [String]) -> impl Iterator<Item = &'a String> {
        roles.iter().flat_map(|role| core::iter::once(role).chain(self.0.get(role).into_iter().flatten()))
    }

    /// The hierarchy as text, for the digest of the policies.
    pub(crate) fn to_text(&self) -> String {
        format!("{:?}", self.0)
    }
}
