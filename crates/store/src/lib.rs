//! What must survive: ledger, keys, revisions, checkpoints.

mod data_dir;
mod error;
mod keys;
mod revisions;
mod sqlite;

pub use data_dir::{DataDir, DataDirError, read_secret};
pub use error::StoreError;
pub use keys::{KeyRow, Keys, NewKey};
pub use revisions::{BODY_BYTES_MAX, Batch, Head, Move, NewRevision, Revision, RevisionMeta, Revisions};
pub use sqlite::Sqlite;
