//! What a confined child tried and may not, as far as the gateway can see it.

use std::{fmt, sync::Arc};

/// One attempt of a child that was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// The server's configured name.
    pub server: Arc<str>,
    /// What was tried.
    pub kind: IncidentKind,
    /// The host and port it asked for, or what the kernel said; bounded, and without contents of messages.
    pub detail: String,
}

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IncidentKind {
    /// It asked the egress proxy for a host that it may not reach.
    Egress,
    /// It used more processor time than it may and was ended by the kernel.
    Cpu,
    /// It wrote a larger file than it may and was ended by the kernel.
    FileSize,
    /// It had more processes than it may, and all were killed.
    Processes,
    /// It made a system call that ends a child.
    Syscall,
}

impl IncidentKind {
    /// The stable name, as in ledger entries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Cpu => "cpu",
            Self::FileSize => "file_size",
            Self::Processes => "processes",
            Self::Syscall => "syscall",
        }
    }
}

/// Takes incidents to where they are recorded. Must not block.
#[derive(Clone)]
pub struct Report(Arc<dyn Fn(Incident) + Send + Sync>);

impl Report {
    /// Reports go to `take`.
    pub fn new(take: impl Fn(Incident) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// Reports one.
    pub fn send(&self, incident: Incident) {
        (self.0)(incident);
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report")
    }
}
