//! What must survive: ledger, keys, revisions, checkpoints.

mod approvals;
mod connections;
#[cfg(feature = "contract")]
pub mod contract;
mod data_dir;
mod data_keys;
pub mod definitions;
mod error;
mod grants;
mod keys;
mod kills;
mod ledger;
mod local_secrets;
mod revisions;
mod seen;
mod sinks;
mod sqlite;
mod subjects;

pub use approvals::{Answered, ApprovalAnswer, ApprovalRow, ApprovalState, Approvals, NewApproval};
pub use connections::{Claim, ConnectionRow, Connections, Seen};
pub use data_dir::{DataDir, DataDirError, read_secret};
pub use data_keys::{DataKeyRow, DataKeys, SealedRow, SealedTable};
pub use error::StoreError;
pub use grants::{GrantRow, Grants, NewGrant, QuotaRow, Quotas};
pub use keys::{KeyRow, Keys, NewKey};
pub use kills::{Involved, Kill, KillSwitch, KillSyntax, KillTarget, Kills};
pub use ledger::{
    CheckpointKeeper, FileLedger, FileLedgerOptions, KeeperError, Late, Ledger, LedgerError, LedgerStatus,
    LogDir, Receipt, Record, Recovery,
};
pub use local_secrets::{LocalSecret, LocalSecrets};
pub use revisions::{BODY_BYTES_MAX, Batch, Head, Move, NewRevision, Revision, RevisionMeta, Revisions};
pub use seen::{SeenLabels, SeenRoom, SeenRow};
pub use sinks::SinkPlaces;
pub use sqlite::Sqlite;
pub use subjects::{Erased, SubjectRow, Subjects};
