//! What an operator says about servers and the things on them: labels, environment, region, price. Never taken from a
//! server's own hints.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use portcullis_core::{Label, Labels, Target};

use crate::Pattern;

/// What an operator says about one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// What it belongs to, like `production`.
    pub environment: Option<String>,
    /// Where its data is kept, like `eu`.
    pub region: Option<String>,
    /// Names of tools and prompts and URIs of resources, and what using them does. Every pattern that fits adds.
    pub labels: Vec<(Pattern, Labels)>,
    /// Units that a use costs, by name; 1 where nothing fits, the greatest where several do.
    pub costs: Vec<(Pattern, u64)>,
}

impl ServerFacts {
    /// The labels of the thing of that name.
    #[must_use]
    pub fn labels(&self, name: &str) -> Labels {
        let fitting = self.labels.iter().filter(|(pattern, _)| pattern.matches(name));
        fitting.fold(Labels::NONE, |all, (_, labels)| all.with(*labels)).closed()
    }

    /// What a use of the thing of that name costs.
    #[must_use]
    pub fn cost(&self, name: &str) -> u64 {
        self.costs
            .iter()
            .filter(|(pattern, _)| pattern.matches(name))
            .map(|(_, units)| *units)
            .max()
            .unwrap_or(1)
    }

    /// Whether anything on it has the label.
    pub(crate) fn any(&self, label: Label) -> bool {
        self.labels.iter().any(|(_, labels)| labels.closed().has(label))
    }
}

/// The servers that something is said about, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts(BTreeMap<String, ServerFacts>);

impl Facts {
    pub(crate) const fn new(servers: BTreeMap<String, ServerFacts>) -> Self {
        Self(servers)
    }

    pub(crate) fn of(&self, target: &Target) -> Option<&ServerFacts> {
        self.0.get(&*target.server)
    }

    pub(crate) fn named(&self, server: &str) -> Option<&ServerFacts> {
        self.0.get(server)
    }

    pub(crate) fn labels(&self, target: &Target) -> Labels {
        match (self.of(target), &target.item) {
            (Some(facts), Some((_, name))) => facts.labels(name),
            (None, _) | (_, None) => Labels::NONE,
        }
    }

    pub(crate) fn cost(&self, target: &Target) -> u64 {
        match (self.of(target), &target.item) {
            (Some(facts), Some((_, name))) => facts.cost(name),
            (None, _) | (_, None) => 1,
        }
    }

    /// Every fact as text, for the digest of the policies.
    pub(crate) fn to_text(&self) -> String {
        let mut out = String::new();
        for (name, facts) in &self.0 {
            out.push_str(name);
            for (key, value) in [("environment", &facts.environment), ("region", &facts.region)] {
                out.push_str(&alloc::format!("\n{key}={value:?}"));
            }
            for (pattern, labels) in &facts.labels {
                out.push_str(&alloc::format!("\n{pattern:?}: {labels}"));
            }
            for (pattern, units) in &facts.costs {
                out.push_str(&alloc::format!("\n{pattern:?}: {units}"));
            }
            out.push('\n');
        }
        out
    }
}
