//! Why a search or the index does not go on, each with what to do.

use rusqlite::ErrorCode;

/// Why it does not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForensicsError {
    /// The cursor is of another search, or of none.
    #[error("the cursor is not one of this search")]
    Cursor,
    /// The index file is damaged.
    #[error("the index `{path}` is damaged: {reason}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The index is one of another log, or of another version of this program.
    #[error("the index `{path}` is not one of this ledger: {reason}")]
    Foreign {
        /// The file.
        path: String,
        /// What differs.
        reason: String,
    },
    /// Another process uses the index.
    #[error("the index `{0}` is in use")]
    InUse(String),
    /// This gateway keeps no index.
    #[error("this gateway keeps no index")]
    NoIndex,
    /// The question is not well-formed.
    #[error("{0}")]
    Question(String, &'static str),
    /// Too little is left on the disk: the ledger needs it.
    #[error(
        "the index stops at entry {0}: less than 256 MiB are left on its disk, and the ledger needs them"
    )]
    Space(u64),
    /// The ledger is not the one that was signed.
    #[error("the ledger was changed: {0}; the index does not go on")]
    Tampered(String),
    /// A file cannot be used at the moment.
    #[error("{0}")]
    Unavailable(String),
}

impl ForensicsError {
    /// What to do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Cursor => "a cursor goes with the filters and the order it was given for",
            Self::Damaged { .. } | Self::Foreign { .. } => {
                "`portcullis audit index rebuild` makes it anew from the ledger"
            }
            Self::InUse(_) => {
                "end what uses it, or have the gateway make it anew: `portcullis audit index rebuild` without --ledger"
            }
            Self::NoIndex => "set `ledger.index` to true, or search the files with --ledger",
            Self::Question(_, hint) => hint,
            Self::Space(_) => "make room; it goes on by itself",
            Self::Tampered(_) => {
                "`portcullis audit verify` names what was changed; when the ledger is whole again, `portcullis audit index rebuild`"
            }
            Self::Unavailable(_) => "look at the files and the disk, and try again",
        }
    }

    /// What SQLite says of the index in `path`.
    pub(crate) fn sqlite(path: &std::path::Path, error: &rusqlite::Error) -> Self {
        let path = path.display().to_string();
        let corrupt = [ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase];
        // What SQLite has no name for is a table or a value that we did not write.
        let damaged = |code| corrupt.contains(&code) || code == ErrorCode::Unknown;
        if error.sqlite_error_code().is_none_or(damaged) {
            return Self::Damaged { path, reason: error.to_string() };
        }
        Self::Unavailable(format!("the index `{path}` cannot be used: {error}"))
    }
}
