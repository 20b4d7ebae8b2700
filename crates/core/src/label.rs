//! Labels: what using a thing does with data, and what kinds of data a session has read. Said by the operator or found by
//! detectors; never taken from a server's own hints.

use alloc::vec::Vec;
use core::fmt;

macro_rules! labels {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal),+ $(,)?) => {
        /// What using a thing does with data, or what data it brings.
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
    /// Data about money: payment cards, accounts.
    Financial = "financial",
    /// Data about the health of people.
    Health = "health",
    /// Data about people.
    Personal = "personal",
    /// Its answers contain private data.
    ReadsPrivate = "reads_private",
    /// Credentials and keys.
    Secret = "secret",
    /// Its answers contain text that strangers wrote.
    SeesUntrusted = "sees_untrusted",
    /// It carries data to where others can read it.
    WritesExternal = "writes_external",
}

impl Label {
    /// Those that are kinds of data, for which there may be rules on where it goes.
    pub const DATA: &'static [Self] = &[Self::Financial, Self::Health, Self::Personal, Self::Secret];

    /// The label of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|label| label.name() == name)
    }
}

/// A set of labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(u16);

impl Labels {
    /// No label.
    pub const NONE: Self = Self(0);

    /// These and those.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the label is among them.
    #[must_use]
    pub const fn has(self, label: Label) -> bool {
        self.0 & (1 << label as u16) != 0
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

    /// Their names.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(Label::name).collect()
    }

    /// With what follows: who reads data of a kind that the operator declared reads private data.
    #[must_use]
    pub fn closed(self) -> Self {
        let data: Self = Label::DATA.iter().copied().collect();
        if self.both(data).is_empty() { self } else { self.with([Label::ReadsPrivate].into_iter().collect()) }
    }
}

impl FromIterator<Label> for Labels {
    fn from_iter<T: IntoIterator<Item = Label>>(labels: T) -> Self {
        labels.into_iter().fold(Self::NONE, |all, label| Self(all.0 | 1 << label as u16))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_is_declared_is_private_and_every_label_is_found_by_its_name() {
        for label in Label::ALL {
            assert_eq!(Label::named(label.name()), Some(*label));
            let one: Labels = [*label].into_iter().collect();
            let private = Label::DATA.contains(label) || *label == Label::ReadsPrivate;
            assert_eq!(one.closed().has(Label::ReadsPrivate), private, "{}", label.name());
            assert_eq!(one.closed().both(one), one);
        }
        assert_eq!(Label::named("public"), None);
    }
}
