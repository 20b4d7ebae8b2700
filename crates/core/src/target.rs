//! What a call is aimed at: a server and, where the method names one, the pinned definition.

use alloc::sync::Arc;
use core::fmt;

use crate::Digest;

/// What kind of thing a definition describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetKind {
    /// A prompt, by name.
    Prompt,
    /// A resource, by URI.
    Resource,
    /// A resource template, by URI template.
    Template,
    /// A tool, by name.
    Tool,
}

impl TargetKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::Prompt, Self::Resource, Self::Template, Self::Tool];

    /// The stable name, as in ledger entries, the store and the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Resource => "resource",
            Self::Template => "template",
            Self::Tool => "tool",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a call is aimed at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The server's configured name.
    pub server: Arc<str>,
    /// The thing on it, where the method names one.
    pub item: Option<(TargetKind, Arc<str>)>,
    /// Digest of the pinned definition, where there is one.
    pub digest: Option<Digest>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.server)?;
        if let Some((_, name)) = &self.item {
            write!(f, "/{name}")?;
        }
        Ok(())
    }
}
