//! Tokens of callers for servers, and the gateway's registrations at authorization servers. The store sees only sealed
//! texts and what people need to see of them.

use std::fmt;

use async_trait::async_trait;
use portcullis_core::Timestamp;

use crate::StoreError;

/// A caller's connection to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRow {
    /// Whose it is.
    pub caller: String,
    /// What it is to.
    pub server: String,
    /// Who issued the token, byte for byte.
    pub issuer: String,
    /// Scopes that were granted, with spaces between.
    pub scopes: String,
    /// When the user consented.
    pub granted: Timestamp,
    /// When the token was last renewed.
    pub refreshed: Option<Timestamp>,
    /// When the token ends, if that was said.
    pub expires: Option<Timestamp>,
    /// The tokens, sealed for the three names above.
    pub sealed: String,
    /// Names this state of it; no other has the same.
    pub revision: String,
}

/// A connection as somebody has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whose it is.
    pub caller: String,
    /// What it is to.
    pub server: String,
    /// Its state.
    pub revision: String,
}

/// Who may renew a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Whoever asked.
    Ours,
    /// Another gateway, which has claimed it.
    Theirs,
    /// Nobody: it is not any more what was seen.
    Changed,
}

/// Keeps connections. There is at most one for each caller and server.
#[async_trait]
pub trait Connections: Send + Sync + fmt::Debug {
    /// Stores a connection in the place of the one before it, unless there are `max` others.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when there are `max`; otherwise what the store reports.
    async fn put_connection(&self, row: ConnectionRow, max: u64) -> Result<(), StoreError>;

    /// The connection of `caller` to `server`.
    ///
    /// # Errors
    /// What the store reports.
    async fn connection(&self, caller: &str, server: &str) -> Result<Option<ConnectionRow>, StoreError>;

    /// Claims the renewal of a connection for `holder` from `now` until `until`, if it still is what was seen. A claim of
    /// another counts until it ends; one that ends later than `until` was made by a clock that has been put back.
    ///
    /// # Errors
    /// What the store reports.
    async fn claim_connection(
        &self,
        seen: Seen,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Claim, StoreError>;

    /// Gives a claim back.
    ///
    /// # Errors
    /// What the store reports.
    async fn release_connection(&self, seen: Seen, holder: &str) -> Result<(), StoreError>;

    /// Stores a connection in the place of the one that was seen, and nothing if it is not any more what it was; then
    /// false.
    ///
    /// # Errors
    /// What the store reports.
    async fn replace_connection(&self, row: ConnectionRow, revision: &str) -> Result<bool, StoreError>;

    /// Every connection, by server and caller.
    ///
    /// # Errors
    /// What the store reports.
    async fn connections(&self) -> Result<Vec<ConnectionRow>, StoreError>;

    /// Forgets a connection; false when there is none.
    ///
    /// # Errors
    /// What the store reports.
    async fn forget_connection(&self, caller: &str, server: &str) -> Result<bool, StoreError>;

    /// Forgets a connection if it still is what was seen; false when it is not.
    ///
    /// # Errors
    /// What the store reports.
    async fn forget_seen(&self, seen: Seen) -> Result<bool, StoreError>;

    /// Stores the gateway's registration at an issuer for one redirect URI.
    ///
    /// # Errors
    /// What the store reports.
    async fn put_registration(&self, issuer: &str, redirect: &str, sealed: &str) -> Result<(), StoreError>;

    /// The gateway's registration at an issuer for one redirect URI.
    ///
    /// # Errors
    /// What the store reports.
    async fn registration(&self, issuer: &str, redirect: &str) -> Result<Option<String>, StoreError>;

    /// Forgets a registration.
    ///
    /// # Errors
    /// What the store reports.
    async fn forget_registration(&self, issuer: &str, redirect: &str) -> Result<(), StoreError>;
}
