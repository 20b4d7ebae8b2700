//! Secrets that the gateway keeps itself, for `local:NAME`, and credentials that were planted. What is stored is sealed by
//! whoever puts it here; each value is a revision, and a head says which one is in force.

use std::sync::Arc;

use portcullis_core::{Digest, Timestamp};

use crate::{Batch, Head, Move, NewRevision, Revisions, StoreError};

/// Revision kind of local secrets.
const SECRET: &str = "secret";
/// Revision kind of planted credentials.
const CANARY: &str = "canary";
/// The head of the value in force.
const SLOT: &str = "current";

/// A secret, sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSecret {
    /// Its name.
    pub name: String,
    /// The sealed value.
    pub sealed: String,
    /// Names the value among all that the secret had.
    pub digest: Digest,
    /// When it was put here.
    pub at: Timestamp,
    /// Who put it here.
    pub by: String,
}

/// All of one kind.
#[derive(Clone, Debug)]
pub struct LocalSecrets {
    revisions: Arc<dyn Revisions>,
    kind: &'static str,
}

impl LocalSecrets {
    /// The secrets of a store.
    #[must_use]
    pub fn new(revisions: Arc<dyn Revisions>) -> Self {
        Self { revisions, kind: SECRET }
    }

    /// The planted credentials of a store.
    #[must_use]
    pub fn canaries(revisions: Arc<dyn Revisions>) -> Self {
        Self { revisions, kind: CANARY }
    }

    /// Everything of a store that is kept sealed so.
    #[must_use]
    pub fn all(revisions: &Arc<dyn Revisions>) -> Vec<Self> {
        vec![Self::new(Arc::clone(revisions)), Self::canaries(Arc::clone(revisions))]
    }

    /// What a value is sealed for, with its name.
    #[must_use]
    pub const fn purpose(&self) -> &'static str {
        self.kind
    }

    /// Every secret, by name.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn list(&self) -> Result<Vec<LocalSecret>, StoreError> {
        let heads = self.revisions.heads_with_bodies(self.kind).await?.into_iter();
        let current = heads.filter(|(head, _)| head.slot == SLOT);
        current.map(|(head, revision)| read(head, revision.body)).collect()
    }

    /// The secret of that name.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn get(&self, name: &str) -> Result<Option<LocalSecret>, StoreError> {
        let Some(head) = self.revisions.head(self.kind, name, SLOT).await? else { return Ok(None) };
        let Some(revision) = self.revisions.get(self.kind, name, head.digest).await? else { return Ok(None) };
        read(head, revision.body).map(Some)
    }

    /// Puts a sealed value in the place of `before`; false when somebody else was faster.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn put(
        &self,
        name: &str,
        sealed: String,
        before: Option<Digest>,
        (by, at): (&str, Timestamp),
    ) -> Result<bool, StoreError> {
        let body = sealed.into_bytes();
        let digest = Digest::of(&body);
        let put = NewRevision {
            kind: self.kind.to_owned(),
            name: name.to_owned(),
            body,
            digest,
            parent: before,
            author: by.to_owned(),
            reason: String::new(),
            at,
        };
        let moves = vec![self.moved(name, (before, Some(digest)), (by, at))];
        self.revisions.apply(Batch { puts: vec![put], moves }).await
    }

    /// Takes a secret out of use; false when it changed meanwhile.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn remove(&self, secret: &LocalSecret, by: (&str, Timestamp)) -> Result<bool, StoreError> {
        self.revisions.move_head(self.moved(&secret.name, (Some(secret.digest), None), by)).await
    }

    fn moved(
        &self,
        name: &str,
        (expect, to): (Option<Digest>, Option<Digest>),
        (by, at): (&str, Timestamp),
    ) -> Move {
        Move {
            kind: self.kind.to_owned(),
            name: name.to_owned(),
            slot: SLOT.to_owned(),
            expect,
            to,
            by: by.to_owned(),
            at,
        }
    }
}

fn read(head: Head, body: Vec<u8>) -> Result<LocalSecret, StoreError> {
    let corrupt = |_| StoreError::Corrupt(format!("the secret `{}`", head.name.escape_default()));
    let sealed = String::from_utf8(body).map_err(corrupt)?;
    Ok(LocalSecret { name: head.name, sealed, digest: head.digest, at: head.moved_at, by: head.moved_by })
}
