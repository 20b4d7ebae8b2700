//! What comes from where secrets are kept.

use std::{collections::BTreeMap, time::Duration};

use portcullis_core::{Secret, Timestamp};

/// The name under which a text that is no object is kept.
pub(crate) const WHOLE: &str = "";

/// What stands at one address: fields that belong together, such as a user's name and the password for it.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Values by name; a text that is no object has one value without a name.
    pub fields: BTreeMap<String, Secret<String>>,
    /// What the source calls this state of it.
    pub version: Option<String>,
    /// For how long it may be used.
    pub lease: Lease,
    /// When the source got it, where it says so.
    pub created: Option<Timestamp>,
}

/// For how long a document may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lease {
    /// The source does not say.
    #[default]
    Unstated,
    /// The source expects that it is asked again after so long.
    Until(Duration),
    /// It ends, and may be renewed and given back under its id.
    Held {
        /// The id.
        id: String,
        /// How long it lasts.
        lasts: Duration,
        /// Whether it can be renewed.
        renewable: bool,
    },
}

/// Why a secret cannot be had. No text here holds a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is nothing of that name.
    #[error("{0}")]
    Absent(String),
    /// The source does not let the gateway read it.
    #[error("{0}")]
    Forbidden(String),
    /// The source does not answer as it should. Another time it may.
    #[error("{0}")]
    Unavailable(String),
}

impl Failure {
    /// Whether another try, elsewhere or later, may end otherwise.
    #[must_use]
    pub const fn passing(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
