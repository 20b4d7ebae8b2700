//! API keys at rest: who they stand for and a keyed hash, never the key.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use portcullis_core::{CallerKind, Scope, Timestamp};

use crate::StoreError;

/// A key to be stored. Whoever makes keys chooses `id` and computes `hash`; the store never sees the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// Public part, unique.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// HMAC-SHA-256 of the key's text under the pepper.
    pub hash: [u8; 32],
    /// Roles the caller gets.
    pub roles: Vec<String>,
    /// Servers the key reaches.
    pub servers: Scope,
    /// Person or program.
    pub kind: CallerKind,
    /// When it was made.
    pub created: Timestamp,
    /// When it stops being valid, if it does.
    pub expires: Option<Timestamp>,
    /// Who made it.
    pub created_by: String,
}

/// A stored key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Public part, unique.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// HMAC-SHA-256 of the key's text under the pepper.
    pub hash: [u8; 32],
    /// Roles the caller gets.
    pub roles: Vec<String>,
    /// Servers the key reaches.
    pub servers: Scope,
    /// Person or program.
    pub kind: CallerKind,
    /// When it was made.
    pub created: Timestamp,
    /// When it stops being valid, if it does.
    pub expires: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked: Option<Timestamp>,
    /// Who revoked it.
    pub revoked_by: Option<String>,
    /// Who made it.
    pub created_by: String,
}

impl KeyRow {
    /// Whether the key may be used at `now`.
    #[must_use]
    pub fn valid(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| now < expires)
    }
}

/// Without the hash: it is no secret by itself, but it has no business in a log either.
impl fmt::Debug for KeyRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            name,
            hash: _,
            roles,
            servers,
            kind,
            created,
            expires,
            revoked,
            revoked_by,
            created_by,
        } = self;
        f.debug_struct("KeyRow")
            .field("id", id)
            .field("name", name)
            .field("roles", roles)
            .field("servers", servers)
            .field("kind", kind)
            .field("created", created)
            .field("expires", expires)
            .field("revoked", revoked)
            .field("revoked_by", revoked_by)
            .field("created_by", created_by)
            .finish_non_exhaustive()
    }
}

/// Keeps API keys.
#[async_trait]
pub trait Keys: Send + Sync + fmt::Debug {
    /// Stores a key; `find` sees it before this returns.
    ///
    /// # Errors
    /// [`StoreError::Duplicate`] when the id is taken; otherwise what the store reports.
    async fn create(&self, key: NewKey) -> Result<Arc<KeyRow>, StoreError>;

    /// Every key, revoked and expired ones too, oldest first.
    ///
    /// # Errors
    /// What the store reports.
    async fn list(&self) -> Result<Vec<Arc<KeyRow>>, StoreError>;

    /// Revokes a key; `find` sees it before this returns. False when there is no such key or it was revoked
    /// before (the first revocation stands).
    ///
    /// # Errors
    /// What the store reports.
    async fn revoke(&self, id: &str, by: &str, at: Timestamp) -> Result<bool, StoreError>;

    /// The key of that id, from memory: this is on the path of every request.
    fn find(&self, id: &str) -> Option<Arc<KeyRow>>;
}
