//! Roles given to callers for a time, and counts that outlive a restart.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use portcullis_core::Timestamp;

use crate::StoreError;

/// A grant to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGrant {
    /// Its name, unique.
    pub id: String,
    /// Who gets the role, by the caller's id.
    pub caller: String,
    /// The role.
    pub role: String,
    /// Why.
    pub reason: String,
    /// In an emergency: somebody looks at it afterwards.
    pub emergency: bool,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// A stored grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRow {
    /// What it gives.
    pub grant: NewGrant,
    /// When it was revoked, if it was.
    pub revoked: Option<Timestamp>,
    /// Who revoked it.
    pub revoked_by: Option<String>,
}

impl GrantRow {
    /// Whether it counts at `now`.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && now < self.grant.expires
    }
}

/// Keeps grants.
#[async_trait]
pub trait Grants: Send + Sync + fmt::Debug {
    /// Stores a grant; `of` sees it before this returns.
    ///
    /// # Errors
    /// What the store reports.
    async fn give(&self, grant: NewGrant) -> Result<Arc<GrantRow>, StoreError>;

    /// Every grant, ended ones too, oldest first.
    ///
    /// # Errors
    /// What the store reports.
    async fn grants(&self) -> Result<Vec<Arc<GrantRow>>, StoreError>;

    /// Revokes a grant; `of` sees it before this returns. False when there is no such grant or it was revoked before.
    ///
    /// # Errors
    /// What the store reports.
    async fn take_back(&self, id: &str, by: &str, at: Timestamp) -> Result<bool, StoreError>;

    /// The grants of a caller that count at `now`, from memory: this is on the path of every request.
    fn of(&self, caller: &str, now: Timestamp) -> Vec<Arc<GrantRow>>;
}

/// What was used of a quota by those who share one count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaRow {
    /// The quota, by name.
    pub quota: String,
    /// Who shares the count.
    pub sharer: String,
    /// When the window began.
    pub began: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
    /// Calls.
    pub calls: u64,
    /// Bytes of messages, both ways.
    pub bytes: u64,
    /// Units.
    pub cost: u64,
}

/// Keeps the counts of quotas.
#[async_trait]
pub trait Quotas: Send + Sync + fmt::Debug {
    /// Keeps a count, durably, in place of the one before.
    ///
    /// # Errors
    /// What the store reports.
    async fn keep(&self, row: QuotaRow) -> Result<(), StoreError>;

    /// Every count whose window has not ended at `now`; the others are forgotten.
    ///
    /// # Errors
    /// What the store reports.
    async fn counts(&self, now: Timestamp) -> Result<Vec<QuotaRow>, StoreError>;
}
