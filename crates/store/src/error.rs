//! What can go wrong with the store, in words an operator can act upon.

use portcullis_core::Digest;

/// The store could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Too many requests wait for the store.
    #[error("the store is overloaded: {0} requests wait")]
    Busy(usize),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A revision with this digest exists and has another body.
    #[error("`{name}` already has a revision {digest} with another body")]
    Conflict {
        /// Name of the governed thing.
        name: String,
        /// The digest both claim.
        digest: Digest,
    },
    /// The database is damaged or is no database.
    #[error("the database is damaged: {0}; hint: restore the data directory from a backup")]
    Corrupt(String),
    /// An API key with this id exists.
    #[error("a key with id `{0}` exists already")]
    Duplicate(String),
    /// The disk is full.
    #[error("the disk is full; hint: free some space, nothing was written")]
    Full,
    /// The operating system refused.
    #[error("the database cannot be used: {0}")]
    Io(String),
    /// Another process holds the database.
    #[error("the database is locked by another process")]
    Locked,
    /// A head or a parent names a revision that is not there.
    #[error("no such revision")]
    Missing,
    /// Written by a later version of the program.
    #[error(
        "the database has schema version {found}, this program knows up to {known}; \
         hint: run the version that wrote it or a later one"
    )]
    Newer {
        /// Version in the file.
        found: u32,
        /// Latest version this program knows.
        known: u32,
    },
    /// The database belongs to another program.
    #[error("the file is a database of another program; hint: point `data` at a directory of its own")]
    NotOurs,
    /// A value is larger than the store keeps.
    #[error("a value of {size} bytes exceeds the store's limit of {limit}")]
    TooLarge {
        /// Bytes given.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Anything else SQLite reports.
    #[error("the database failed: {0}")]
    Other(String),
}
