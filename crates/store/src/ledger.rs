//! The ledger: what must be durable before a call is forwarded. One trait, one implementation on files in the layout
//! of c2sp.org/tlog-tiles, so that a stranger can check it with tools of others.

mod disk;
mod file;
mod integrate;
mod recover;
mod shared;
mod writer;

use core::fmt;

pub use disk::LogDir;
pub use file::{FileLedger, FileLedgerOptions};
pub use portcullis_proof::Record;
pub use recover::Recovery;
use tokio::sync::oneshot;

/// Proof that an entry is durable. Only a ledger of this crate makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    index: u64,
}

impl Receipt {
    /// The entry's index in the log.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }
}

/// An entry that was being written when its caller gave up waiting.
#[derive(Debug)]
pub struct Late(oneshot::Receiver<Result<u64, LedgerError>>);

impl Late {
    /// Proof that the entry is durable after all; nothing if it is not.
    pub async fn receipt(self) -> Option<Receipt> {
        let index = self.0.await.ok()?.ok()?;
        Some(Receipt { index })
    }
}

/// How the ledger is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerStatus {
    /// Entries accepted, durable or about to be.
    pub size: u64,
    /// Entries that survive a crash.
    pub durable: u64,
    /// Entries under the last signed checkpoint.
    pub signed: u64,
    /// Whether entries can be appended. Becomes true again by itself.
    pub healthy: bool,
    /// What is wrong, while something is.
    pub error: Option<String>,
    /// Durable entries that no checkpoint covers yet.
    pub lag: u64,
}

/// Why the ledger did not do it.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The queue is full.
    #[error("the ledger's queue is full (`limits.ledger_queue_max`)")]
    Busy,
    /// The ledger was closed.
    #[error("the ledger is closed")]
    Closed,
    /// The files contradict themselves or the key; the text names the place and says how to proceed.
    #[error("{0}")]
    Damaged(String),
    /// Another process has the ledger open.
    #[error("`{0}` is in use by another process")]
    InUse(String),
    /// There is no such entry.
    #[error("there is no entry `{0}`")]
    NotFound(u64),
    /// The ledger is older than a checkpoint that was kept elsewhere.
    #[error(
        "the ledger was put back to an older state: it holds {found} entries, but a checkpoint over {kept} was signed; hint: restore the newer ledger directory, or, if the loss is accepted, move the directory and the kept checkpoint away and start a new ledger"
    )]
    Older {
        /// Entries found.
        found: u64,
        /// Entries under the kept checkpoint.
        kept: u64,
    },
    /// It did not become durable in time; it may become so later, where it was being written.
    #[error("the entry did not become durable within {0} ms (`limits.ledger_timeout_ms`)")]
    Timeout(u64, Option<Late>),
    /// The entry is empty or larger than the format allows.
    #[error("an entry of {0} bytes does not fit the ledger")]
    TooLarge(usize),
    /// Files cannot be read or written at the moment.
    #[error("the ledger cannot be used: {0}")]
    Unavailable(String),
}

/// Where entries become durable, in order, for ever.
#[async_trait::async_trait]
pub trait Ledger: Send + Sync + fmt::Debug {
    /// Appends `entry` and returns when it is durable. Waits at most `limits.ledger_timeout_ms`.
    async fn append(&self, entry: Vec<u8>) -> Result<Receipt, LedgerError>;

    /// How the ledger is.
    fn status(&self) -> LedgerStatus;

    /// At most `max` durable entries from index `from` on, also those that no checkpoint covers yet.
    async fn read(&self, from: u64, max: usize) -> Result<Vec<Record>, LedgerError>;

    /// Puts everything durable under a signed checkpoint now; returns its text.
    async fn checkpoint(&self) -> Result<String, LedgerError>;

    /// The text of a `.tlog-proof` for the entry.
    async fn prove(&self, index: u64) -> Result<String, LedgerError>;

    /// The count of durable entries, as it grows.
    fn changed(&self) -> tokio::sync::watch::Receiver<u64>;

    /// Writes what is queued, signs a last checkpoint and stops.
    async fn close(&self) -> Result<(), LedgerError>;
}

/// A checkpoint could not be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeeperError(pub String);

/// Keeps the last signed checkpoint outside the ledger's directory, so that an older copy of it is noticed.
/// Blocks; called from the ledger's own threads.
pub trait CheckpointKeeper: Send + Sync + fmt::Debug {
    /// Keeps `note`, durably, in place of the one before of the same origin, which its first line says.
    fn save(&self, note: &str) -> Result<(), KeeperError>;

    /// The note kept last of the log of this origin.
    fn load(&self, origin: &str) -> Result<Option<String>, KeeperError>;
}

#[cfg(test)]
mod tests;
