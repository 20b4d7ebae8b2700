//! What the places of callers and servers demand of decisions.

use alloc::{borrow::ToOwned, collections::BTreeSet, format, string::String, sync::Arc, vec::Vec};

use portcullis_core::{Caller, Code, Labels, Obligations, Target, Treatment};

use crate::{
    Decision, Policies,
    permit::refused,
    residency::{Allowed, Places},
};

impl Policies {
    /// Where the caller is; who acts for it is there as well.
    pub(crate) fn regions<'a>(&'a self, caller: &'a Caller) -> BTreeSet<&'a str> {
        self.residency.regions(caller, self.hierarchy.all(&caller.roles))
    }

    /// Where the two ends of a call are.
    #[must_use]
    pub fn places(&self, caller: &Caller, target: &Target) -> Places {
        let server = self.facts.of(target).and_then(|facts| facts.region.clone());
        Places { caller: self.regions(caller).into_iter().map(ToOwned::to_owned).collect(), server }
    }

    /// The kinds of data that may not go to that server.
    #[must_use]
    pub fn barred_from(&self, server: &str) -> Labels {
        if self.residency.data.is_empty() {
            return Labels::NONE;
        }
        let region = self.facts.named(server).and_then(|facts| facts.region.as_deref());
        let may = |one: &Allowed| region.is_some_and(|region| one.regions.contains(region));
        self.residency.data.iter().filter(|(_, one)| !may(one)).map(|(label, _)| *label).collect()
    }

    /// `decision` with what the caller's place demands of answers; a refusal where the target is said to answer with data
    /// that may not go there.
    pub(crate) fn resident(
        &self,
        caller: &Caller,
        target: &Target,
        decision: Arc<Decision>,
    ) -> Arc<Decision> {
        if self.residency.data.is_empty() || !decision.is_allowed() {
            return decision;
        }
        let actors = self.actors(caller).unwrap_or_default();
        let mut regions = self.regions(caller);
        regions.extend(actors.iter().flat_map(|actor| self.regions(actor)));
        let abroad = self.residency.abroad(&regions);
        if abroad.is_empty() {
            return decision;
        }
        let labels = self.facts.labels(target);
        let refusing = abroad.iter().filter(|(_, treatment)| **treatment == Treatment::Refuse);
        let declared: Labels = refusing.map(|(label, _)| *label).filter(|label| labels.has(*label)).collect();
        if !declared.is_empty() {
            let reason =
                format!("`{target}` answers with {declared} data, which may not go to {}", named(&regions));
            return Arc::new(refused(Code::ResidencyRefused, decision.policies.to_vec(), reason));
        }
        let mut decision = Decision::clone(&decision);
        Arc::make_mut(&mut decision.obligations).add(&Obligations { abroad, ..Obligations::default() });
        Arc::new(decision)
    }
}

fn named(regions: &BTreeSet<&str>) -> String {
    if regions.is_empty() {
        return "a caller of whom it is not known where he is".to_owned();
    }
    let regions: Vec<String> = regions.iter().map(|region| format!("`{region}`")).collect();
    format!("callers in {}", regions.join(" and "))
}
