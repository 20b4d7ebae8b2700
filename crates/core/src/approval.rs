//! Whom a permit wants to be asked before a call is made.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
};

/// People who must say yes to exactly this call (`@approval` on a policy).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// How many of them.
    pub people: u8,
    /// Who may answer: whoever has a role of each set. No set: only the caller itself.
    pub roles: BTreeSet<BTreeSet<String>>,
    /// So long after it was asked a question, and a yes to it, are good.
    pub expires_s: u32,
    /// Whether the caller may confirm the call itself, in its client.
    pub by_caller: bool,
}

impl Approval {
    /// How long a question is good where nothing is said.
    pub const EXPIRES_S: u32 = 3_600;
    /// The longest that a question is good.
    pub const EXPIRES_S_MAX: u32 = 604_800;
    /// The most people that can be asked for.
    pub const PEOPLE_MAX: u8 = 10;

    /// What satisfies both: as many people as either wants, who are good enough for both, within the shorter time.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            people: self.people.max(other.people),
            roles: self.roles.union(&other.roles).cloned().collect(),
            expires_s: self.expires_s.min(other.expires_s),
            by_caller: self.by_caller && other.by_caller,
        }
    }

    /// Whether somebody with these roles may answer.
    #[must_use]
    pub fn may_answer(&self, roles: &[String]) -> bool {
        !self.roles.is_empty() && self.roles.iter().all(|any| roles.iter().any(|role| any.contains(role)))
    }
}

/// Whom to ask about what detectors find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// About the finds of every other detector.
    pub others: Approval,
    /// About those of the detectors of these names.
    pub detectors: BTreeMap<String, Approval>,
}

impl Review {
    /// What satisfies `demand` and all that is said of the finds of these detectors.
    #[must_use]
    pub fn and<'a>(
        &self,
        demand: Option<Approval>,
        detectors: impl IntoIterator<Item = &'a str>,
    ) -> Option<Approval> {
        let asked = detectors.into_iter().map(|name| self.detectors.get(name).unwrap_or(&self.others));
        asked.fold(demand, |all, one| Some(all.map_or_else(|| one.clone(), |all| all.and(one))))
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec::Vec};

    use super::*;

    fn approval(people: u8, roles: &[&str], expires_s: u32, by_caller: bool) -> Approval {
        let any: BTreeSet<String> = roles.iter().map(ToString::to_string).collect();
        let roles = if any.is_empty() { BTreeSet::new() } else { BTreeSet::from([any]) };
        Approval { people, roles, expires_s, by_caller }
    }

    #[test]
    fn where_two_policies_ask_whoever_answers_is_good_enough_for_both() {
        let both = approval(1, &["lead", "boss"], 60, true).and(&approval(2, &["security"], 600, false));
        assert_eq!((both.people, both.expires_s, both.by_caller), (2, 60, false));
        for (roles, may) in [
            (&["lead"][..], false),
            (&["security"], false),
            (&["lead", "security"], true),
            (&["boss", "security", "x"], true),
            (&[], false),
        ] {
            let roles: Vec<String> = roles.iter().map(ToString::to_string).collect();
            assert_eq!(both.may_answer(&roles), may, "{roles:?}");
        }
    }

    #[test]
    fn one_question_is_enough_for_a_policy_and_all_that_was_found() {
        let (lead, security) = (approval(1, &["lead"], 60, true), approval(2, &["security"], 600, false));
        let detectors = BTreeMap::from([("sql_injection".to_string(), security.clone())]);
        let review = Review { others: lead.clone(), detectors };
        let policy = approval(1, &["boss"], 30, true);
        for (demand, found, expected) in [
            (None, &[][..], None),
            (Some(&policy), &[], Some(policy.clone())),
            (None, &["injection"], Some(lead.clone())),
            (None, &["sql_injection"], Some(security.clone())),
            (None, &["injection", "sql_injection"], Some(lead.and(&security))),
            (Some(&policy), &["sql_injection"], Some(policy.and(&security))),
        ] {
            assert_eq!(review.and(demand.cloned(), found.iter().copied()), expected, "{found:?}");
        }
    }

    #[test]
    fn where_only_the_caller_may_confirm_nobody_else_can_answer() {
        assert!(!approval(1, &[], 60, true).may_answer(&["admin".to_string()]));
    }
}
