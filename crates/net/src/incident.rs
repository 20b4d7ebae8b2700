//! What a confined child tried and may not.

use std::{fmt, sync::Arc};

/// Attempts of a child that were stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// The server's configured name.
    pub server: Arc<str>,
    /// What was tried.
    pub kind: IncidentKind,
    /// What it was tried on: a path, an address, a process, a call. Bounded, made visible, without contents of messages.
    pub target: String,
    /// What else is known: how it was tried, or why it was refused.
    pub detail: String,
    /// How often; of the same attempt only the first is told at once.
    pub count: u64,
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal),+ $(,)?) => {
        /// What was tried.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum IncidentKind { $($(#[doc = $doc])+ $variant),+ }

        impl IncidentKind {
            /// The stable name, as in ledger entries.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

kinds! {
    /// It asked the egress proxy for a host that it may not reach.
    Egress = "egress",
    /// It used more processor time than it may and was ended by the kernel.
    Cpu = "cpu",
    /// It wrote a larger file than it may and was ended by the kernel.
    FileSize = "file_size",
    /// It filled its temporary folder beyond what it may, and all its processes were killed.
    Disk = "disk",
    /// It had more processes than it may, and all were killed.
    Processes = "processes",
    /// It made a system call that is refused or ends a child.
    Syscall = "syscall",
    /// It opened a file or folder that it may not read.
    Read = "read",
    /// It opened for writing, made, moved or removed what it may not.
    Write = "write",
    /// It started a program that it may not.
    Execute = "execute",
    /// It made a socket that it may not have.
    Socket = "socket",
    /// It connected to an address that it may not reach.
    Connect = "connect",
    /// It waited for connections, which it may not.
    Listen = "listen",
    /// It sent a signal to a process that is not its own.
    Signal = "signal",
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
