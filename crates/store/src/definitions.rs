//! How definitions of tools, prompts, resources and templates lie in [`Revisions`](crate::Revisions): one
//! convention for the data plane, which observes them, and the control plane, where people judge them.
//!
//! The revision's kind is the [`TargetKind`](portcullis_core::TargetKind)'s name, its body the definition as the
//! server wrote it, its digest the definition digest. Heads carry the state; see [`Heads::standing`].

use portcullis_core::Digest;

/// Separates server and name in a revision's name; neither can hold it.
const SEPARATOR: char = '\u{1f}';

/// Slot of the definition that is approved and in force.
pub const PINNED: &str = "pinned";
/// Slot of the definition that the server last showed; absent when it no longer lists it.
pub const OBSERVED: &str = "observed";
/// Slot of the definition that a person rejected.
pub const REJECTED: &str = "rejected";

/// The revision name of a definition.
#[must_use]
pub fn name(server: &str, item: &str) -> String {
    format!("{server}{SEPARATOR}{item}")
}

/// What the revision names of all definitions of a server begin with.
#[must_use]
pub fn prefix(server: &str) -> String {
    format!("{server}{SEPARATOR}")
}

/// Server and item of a revision name.
#[must_use]
pub fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once(SEPARATOR)
}

/// Where the heads of one definition stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    /// Approved and in force.
    pub pinned: Option<Digest>,
    /// Last seen on the server.
    pub observed: Option<Digest>,
    /// Rejected by a person.
    pub rejected: Option<Digest>,
}

/// How a definition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// What the server says is what was approved.
    Approved,
    /// The server says something else than what was approved.
    Changed,
    /// Nobody has approved it yet.
    Pending,
    /// A person rejected what the server says.
    Rejected,
    /// Approved, but the server no longer has it.
    Vanished,
}

impl Standing {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Changed => "changed",
            Self::Pending => "pending",
            Self::Rejected => "rejected",
            Self::Vanished => "vanished",
        }
    }
}

impl Heads {
    /// Takes the head of a slot; slots of other conventions are ignored.
    pub fn set(&mut self, slot: &str, digest: Digest) {
        match slot {
            PINNED => self.pinned = Some(digest),
            OBSERVED => self.observed = Some(digest),
            REJECTED => self.rejected = Some(digest),
            _ => {}
        }
    }

    /// How the definition stands; `None` when there is nothing to use or to judge.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        match (self.pinned, self.observed) {
            (None, None) => None,
            (Some(pinned), Some(observed)) if pinned == observed => Some(Standing::Approved),
            (_, Some(observed)) if self.rejected == Some(observed) => Some(Standing::Rejected),
            (Some(_), Some(_)) => Some(Standing::Changed),
            (Some(_), None) => Some(Standing::Vanished),
            (None, Some(_)) => Some(Standing::Pending),
        }
    }
}
