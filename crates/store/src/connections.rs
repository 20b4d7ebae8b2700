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
