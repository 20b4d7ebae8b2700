//! Secrets that the gateway keeps itself, for `local:NAME`. What is stored is sealed by whoever puts it here; each value is a
//! revision, and a head says which one is in force.

use std::sync::Arc;

use portcullis_core::{Digest, Timestamp};

use crate::{Batch, Head, Move, NewRevision, Revisions, StoreError};

/// Revision kind of local secrets.
const KIND: &str = "secret";
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

/// All of them.
#[derive(Clone, Debug)]
pub struct LocalSecrets(Arc<dyn Revisions>);

impl LocalSecrets {
    /// Those of a store.
    #[must_use]
    pub fn new(revisions: Arc<dyn Revisions>) -> Self {
        Self(revisions)
    }

    /// What a value is sealed for, with its name.
    pub const PURPOSE: &str = "secret";

    /// Every secret, by name.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn list(&self) -> Result<Vec<LocalSecret>, StoreError> {
        let heads = self.0.heads_with_bodies(KIND).await?.into_iter();
        let current = heads.filter(|(head, _)| head.slot == SLOT);
        current.map(|(head, revision)| read(head, revision.body)).collect()
    }

    /// The secret of that name.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn get(&self, name: &str) -> Result<Option<LocalSecret>, StoreError> {
        let Some(head) = self.0.head(KIND, name, SLOT).await? else { return Ok(None) };
        let Some(revision) = self.0.get(KIND, name, head.digest).await? else { return Ok(None) };
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
            kind: KIND.to_owned(),
            name: name.to_owned(),
            body,
            digest,
            parent: before,
            author: by.to_owned(),
            reason: String::new(),
            at,
        };
        let moves = vec![moved(name, (before, Some(digest)), (by, at))];
        self.0.apply(Batch { puts: vec![put], moves }).await
    }

    /// Takes a secret out of use; false when it changed meanwhile.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn remove(&self, secret: &LocalSecret, by: (&str, Timestamp)) -> Result<bool, StoreError> {
        self.0.move_head(moved(&secret.name, (Some(secret.digest), None), by)).await
    }
}

fn read(head: Head, body: Vec<u8>) -> Result<LocalSecret, StoreError> {
    let corrupt = |_| StoreError::Corrupt(format!("the secret `{}`", head.name.escape_default()));
    let sealed = String::from_utf8(body).map_err(corrupt)?;
    Ok(LocalSecret { name: head.name, sealed, digest: head.digest, at: head.moved_at, by: head.moved_by })
}

fn moved(name: &str, (expect, to): (Option<Digest>, Option<Digest>), (by, at): (&str, Timestamp)) -> Move {
    Move {
        kind: KIND.to_owned(),
        name: name.to_owned(),
        slot: SLOT.to_owned(),
        expect,
        to,
        by: by.to_owned(),
        at,
    }
}
