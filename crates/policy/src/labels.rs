//! What an operator says about servers and the things on them: labels, environment, region, price. Never taken from a
//! server's own hints.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::fmt;

use portcullis_core::Target;

use crate::Pattern;

macro_rules! labels {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal),+ $(,)?) => {
        /// What using a thing does with data.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Label { $($(#[doc = $doc])+ $variant),+ }

        impl Label {
            /// Every label, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name, as in configuration, Cedar and ledger entries.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What it means, for the reference page.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+)),+ }
            }
        }
    };
}

labels! {
    /// It destroys or overwrites something.
    Destructive = "destructive",
    /// Its answers contain private data.
    ReadsPrivate = "reads_private",
    /// Its answers contain text that strangers wrote.
    SeesUntrusted = "sees_untrusted",
    /// It carries data to where others can read it.
    WritesExternal = "writes_external",
}

/// A set of labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(u8);

impl Labels {
    /// No label.
    pub const NONE: Self = Self(0);

    /// These and those.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the label is among them.
    #[must_use]
    pub const fn has(self, label: Label) -> bool {
        self.0 & (1 << label as u8) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Label> {
        Label::ALL.iter().copied().filter(move |label| self.has(*label))
    }
}

impl FromIterator<Label> for Labels {
    fn from_iter<T: IntoIterator<Item = Label>>(labels: T) -> Self {
        labels.into_iter().fold(Self::NONE, |all, label| Self(all.0 | 1 << label as u8))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Label::name).collect();
        f.write_str(&names.join(", "))
    }
}

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
        fitting.fold(Labels::NONE, |all, (_, labels)| all.with(*labels))
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
        self.labels.iter().any(|(_, labels)| labels.has(label))
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
