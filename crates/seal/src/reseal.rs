//! What is kept is sealed anew with the newest key, a batch at a time while the gateway serves. Whoever stops in between goes
//! on where it stopped: what is left is what the newest key did not seal.

use portcullis_store::{LocalSecret, LocalSecrets, SealedRow, StoreError};
use zeroize::Zeroizing;

use crate::{
    kek::KekError,
    keyring::Keyring,
    sealer::{Sealer, parts},
};

/// Rows of one batch.
const BATCH: u32 = 100;
/// Who changes them, in their history.
const AUTHOR: &str = "portcullis seal rotate";

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows that the newest key has sealed.
    pub done: u64,
    /// Rows that it has not.
    pub left: u64,
    /// Rows of this batch that no key opens; they are left as they are.
    pub lost: u64,
}

impl Keyring {
    fn version(&self) -> u32 {
        self.ring().keys().map_or(0, |keys| keys.current)
    }

    /// How much the newest key has sealed.
    pub(crate) async fn behind(&self) -> Result<Progress, StoreError> {
        let version = self.version();
        let (with, all) = self.parts.store.count_sealed(format!("1.{version}.")).await?;
        let (mut done, mut all) = (with, all);
        for kept in &self.parts.kept {
            let secrets = kept.list().await?;
            let newest = secrets.iter().filter(|secret| sealed_with(secret, version)).count() as u64;
            (done, all) = (done.saturating_add(newest), all.saturating_add(secrets.len() as u64));
        }
        Ok(Progress { done, left: all.saturating_sub(done), lost: 0 })
    }

    /// Seals a batch anew.
    ///
    /// # Errors
    /// What the store reports.
    pub async fn reseal(&self) -> Result<Progress, KekError> {
        let failed = |error: StoreError| KekError::Unavailable(error.to_string());
        let version = self.version();
        let start = format!("1.{version}.");
        let mut lost = 0;
        for row in self.parts.store.sealed_otherwise(start, BATCH).await.map_err(failed)? {
            lost += u64::from(!self.reseal_row(row).await.map_err(failed)?);
        }
        for kept in &self.parts.kept {
            let secrets = kept.list().await.map_err(failed)?.into_iter();
            for secret in secrets.filter(|secret| !sealed_with(secret, version)).take(BATCH as usize) {
                lost += u64::from(!self.reseal_secret(kept, secret).await.map_err(failed)?);
            }
        }
        Ok(Progress { lost, ..self.behind().await.map_err(failed)? })
    }

    /// The same text under the newest key; nothing where no key opens it.
    fn anew(&self, purpose: &str, bound: &[&str], sealed: &str) -> Option<String> {
        let sealer = Sealer::new(std::sync::Arc::clone(self.ring()));
        let plain = sealer.open_kept(purpose, bound, sealed).map(Zeroizing::new)?;
        sealer.seal(purpose, bound, &plain, &*self.parts.entropy)
    }

    /// False where it does not open. That it changed meanwhile is as good: whoever changed it has the newest key.
    async fn reseal_row(&self, row: SealedRow) -> Result<bool, StoreError> {
        let bound: Vec<&str> = row.bound.iter().map(String::as_str).collect();
        let Some(sealed) = self.anew(row.table.purpose(), &bound, &row.sealed) else {
            tracing::warn!(table = ?row.table, "a sealed row does not open and is left as it is");
            return Ok(false);
        };
        self.parts.store.reseal(row, sealed).await?;
        Ok(true)
    }

    async fn reseal_secret(&self, kept: &LocalSecrets, secret: LocalSecret) -> Result<bool, StoreError> {
        let Some(sealed) = self.anew(kept.purpose(), &[&secret.name], &secret.sealed) else {
            tracing::warn!(
                kind = kept.purpose(),
                secret = secret.name,
                "a kept secret does not open and is left as it is"
            );
            return Ok(false);
        };
        let by = (AUTHOR, self.parts.clock.now());
        kept.put(&secret.name, sealed, Some(secret.digest), by).await?;
        Ok(true)
    }
}

fn sealed_with(secret: &LocalSecret, version: u32) -> bool {
    parts(&secret.sealed).is_some_and(|(found, _)| found == version)
}
