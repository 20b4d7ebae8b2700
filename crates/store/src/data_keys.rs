//! Data keys, wrapped, and the rows that are sealed with them. The store sees neither.

use std::fmt;

use async_trait::async_trait;
use portcullis_core::{Digest, Timestamp};

use crate::StoreError;

/// A data key, wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataKeyRow {
    /// What it is for.
    pub name: String,
    /// Which of that name.
    pub version: u32,
    /// The key, wrapped.
    pub wrapped: String,
    /// What wrapped it.
    pub kek: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it may be used to seal: every gateway on the store knows it by then.
    pub from: Timestamp,
}

/// A table with sealed texts, and what a text there is sealed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedTable {
    /// Tokens of callers for servers.
    Connections,
    /// The gateway's registrations at authorization servers.
    Registrations,
    /// Keys of people.
    Subjects,
}

impl SealedTable {
    /// Every table.
    pub const ALL: [Self; 3] = [Self::Connections, Self::Registrations, Self::Subjects];

    /// What binds the key of a person to its row.
    #[must_use]
    pub fn person(id: i64, subject: Digest) -> [String; 2] {
        [id.to_string(), subject.hex()]
    }

    /// The purpose that a text is sealed for.
    #[must_use]
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Connections => "connection",
            Self::Registrations => "registration",
            Self::Subjects => "person",
        }
    }
}

/// A row with a sealed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRow {
    /// Where it stands.
    pub table: SealedTable,
    /// What it is sealed for, beside the purpose of its table; names the row.
    pub bound: Vec<String>,
    /// The text.
    pub sealed: String,
}

/// Keeps data keys, and gives sealed rows to be sealed anew.
#[async_trait]
pub trait DataKeys: Send + Sync + fmt::Debug {
    /// Every key.
    ///
    /// # Errors
    /// What the store reports.
    async fn data_keys(&self) -> Result<Vec<DataKeyRow>, StoreError>;

    /// Keeps new keys, all or none; false where one of them is there already.
    ///
    /// # Errors
    /// What the store reports.
    async fn add_data_keys(&self, rows: Vec<DataKeyRow>) -> Result<bool, StoreError>;

    /// Puts the same key, wrapped otherwise, in the place of `before`; false when that is not there any more.
    ///
    /// # Errors
    /// What the store reports.
    async fn rewrap_data_key(
        &self,
        before: DataKeyRow,
        wrapped: String,
        kek: String,
    ) -> Result<bool, StoreError>;

    /// Destroys keys: all of them, or the versions of `name` before `below`. Not to be read again from the file.
    ///
    /// # Errors
    /// What the store reports.
    async fn destroy_data_keys(&self, which: Option<(String, u32)>) -> Result<u64, StoreError>;

    /// How many sealed rows there are whose text begins with `start`, and how many in all.
    ///
    /// # Errors
    /// What the store reports.
    async fn count_sealed(&self, start: String) -> Result<(u64, u64), StoreError>;

    /// Up to `max` sealed rows whose text does not begin with `start`.
    ///
    /// # Errors
    /// What the store reports.
    async fn sealed_otherwise(&self, start: String, max: u32) -> Result<Vec<SealedRow>, StoreError>;

    /// Puts a text in the place of that of `before`; false when it changed meanwhile.
    ///
    /// # Errors
    /// What the store reports.
    async fn reseal(&self, before: SealedRow, sealed: String) -> Result<bool, StoreError>;
}
