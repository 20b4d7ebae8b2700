//! A no of the admin API: status, stable code, what is wrong and what to do.

use portcullis_forensics::ForensicsError;
use portcullis_store::{LedgerError, StoreError};

use crate::wire::wire;

wire! { answer
    /// The body of every answer that is no success.
    ProblemBody {
        /// What went wrong.
        error: ProblemDetail,
    }
}

wire! { answer
    /// What went wrong.
    ProblemDetail {
        /// Stable name.
        code: String,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    }
}

/// Why the admin API did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The question is not well-formed or asks for something impossible.
    #[error("{message}")]
    Invalid {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// Something else was changed meanwhile, or is in the way.
    #[error("{message}")]
    Conflict {
        /// What is in the way.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// The configuration was refused whole; the old rules stay.
    #[error("the configuration was refused: {0}")]
    ConfigRefused(String),
    /// The host or the origin is not the listener's own: a web page may be trying its luck.
    #[error("{0}")]
    Forbidden(String),
    /// A search that the index cannot answer.
    #[error("{0}")]
    Index(ForensicsError),
    /// The change cannot be recorded and was therefore not made.
    #[error("the change cannot be recorded and was therefore not made: {0}")]
    Ledger(String),
    /// The method does not exist on this path.
    #[error("this method is not allowed here")]
    MethodNotAllowed,
    /// Whoever asks has no role that may.
    #[error("{0}")]
    NotAllowed(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// A signed message counts for nothing.
    #[error("{0}")]
    Signature(String),
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(String),
    /// The body does not fit.
    #[error("the body exceeds {0} bytes")]
    TooLarge(usize),
    /// No token, or not this gateway's.
    #[error("the admin token is missing or wrong")]
    Unauthorized,
    /// The body is not JSON.
    #[error("the body must be application/json")]
    MediaType,
}

/// What needs the keys of the store fails while they are not open.
pub(crate) fn closed() -> Problem {
    Problem::Store("its data keys are not open; `portcullis seal status` says why".into())
}

impl Problem {
    /// An impossible question.
    #[must_use]
    pub fn invalid(message: impl Into<String>, hint: &'static str) -> Self {
        Self::Invalid { message: message.into(), hint }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Invalid { .. } => 400,
            Self::ConfigRefused(_) => 422,
            Self::Conflict { .. } => 409,
            Self::Forbidden(_) | Self::NotAllowed(_) => 403,
            Self::Index(ForensicsError::Cursor | ForensicsError::Question(..)) => 400,
            Self::Index(
                ForensicsError::Damaged { .. } | ForensicsError::Foreign { .. } | ForensicsError::Tampered(_),
            ) => 500,
            Self::Index(
                ForensicsError::InUse(_)
                | ForensicsError::NoIndex
                | ForensicsError::Space(_)
                | ForensicsError::Unavailable(_),
            ) => 503,
            Self::Ledger(_) => 503,
            Self::MediaType => 415,
            Self::MethodNotAllowed => 405,
            Self::NotFound(_) => 404,
            Self::Store(_) => 500,
            Self::TooLarge(_) => 413,
            Self::Signature(_) | Self::Unauthorized => 401,
        }
    }

    /// The stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "admin.invalid",
            Self::ConfigRefused(_) => "config.refused",
            Self::Conflict { .. } => "admin.conflict",
            Self::Forbidden(_) => "admin.forbidden",
            Self::Index(ForensicsError::Cursor | ForensicsError::Question(..)) => "admin.invalid",
            Self::Index(ForensicsError::Damaged { .. } | ForensicsError::Foreign { .. }) => "index.damaged",
            Self::Index(ForensicsError::Tampered(_)) => "ledger.tampered",
            Self::Index(
                ForensicsError::InUse(_)
                | ForensicsError::NoIndex
                | ForensicsError::Space(_)
                | ForensicsError::Unavailable(_),
            ) => "index.unavailable",
            Self::NotAllowed(_) => "admin.not_allowed",
            Self::Ledger(_) => "ledger.unavailable",
            Self::MediaType => "admin.media_type",
            Self::MethodNotAllowed => "admin.method_not_allowed",
            Self::NotFound(_) => "admin.not_found",
            Self::Signature(_) => "admin.signature",
            Self::Store(_) => "store.failed",
            Self::TooLarge(_) => "admin.too_large",
            Self::Unauthorized => "admin.unauthorized",
        }
    }

    /// What to do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Invalid { hint, .. } | Self::Conflict { hint, .. } => hint,
            Self::ConfigRefused(_) => "`portcullis check` names every mistake; the old rules stay in force",
            Self::Forbidden(_) => "call the admin address itself, not through a web page or another name",
            Self::Index(error) => error.hint(),
            Self::NotAllowed(_) => "use the admin token, or a key with a role that `ledger.readers` names",
            Self::Ledger(_) => "look at `/healthz` and the disk; try again when the ledger is healthy",
            Self::MediaType => "send `Content-Type: application/json`",
            Self::MethodNotAllowed | Self::NotFound(_) => "`/openapi.json` lists what there is",
            Self::Signature(_) => {
                "sign id, time and body with the secret of the hook, and send each message once"
            }
            Self::Store(_) => "look at the log and the disk",
            Self::TooLarge(_) => "send less",
            Self::Unauthorized => {
                "send `Authorization: Bearer …` with the contents of `admin.token` in the data directory"
            }
        }
    }

    /// The body of the answer.
    #[must_use]
    pub fn body(&self) -> ProblemBody {
        let detail = ProblemDetail {
            code: self.code().to_owned(),
            message: self.to_string(),
            hint: self.hint().to_owned(),
        };
        ProblemBody { error: detail }
    }
}

impl From<ForensicsError> for Problem {
    fn from(error: ForensicsError) -> Self {
        Self::Index(error)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::NotFound(index) => Self::NotFound(format!("there is no entry `{index}`")),
            error @ (LedgerError::Busy
            | LedgerError::Closed
            | LedgerError::Damaged(_)
            | LedgerError::InUse(_)
            | LedgerError::Older { .. }
            | LedgerError::Timeout(..)
            | LedgerError::TooLarge(_)
            | LedgerError::Unavailable(_)) => Self::Ledger(error.to_string()),
        }
    }
}
