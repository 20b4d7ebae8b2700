//! Questions for approval show the arguments of calls, and answers wait with them: they are sealed before a store sees them.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use portcullis_core::{Digest, Entropy, Timestamp};
use portcullis_store::{Answered, ApprovalAnswer, ApprovalRow, Approvals, NewApproval, StoreError};

use crate::sealer::Sealer;

const PURPOSE: &str = "approval";
const ANSWER: &str = "held answer";
/// Bytes of a sealed question, or answer.
const SEALED_BYTES_MAX: usize = 2_097_152;
/// What stands in the place of a question that no key opens: who has asked whom is still told.
const LOST: &str = r#"{"sealed":true}"#;

/// Keeps questions, sealed.
pub struct SealedApprovals {
    store: Arc<dyn Approvals>,
    sealer: Sealer,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for SealedApprovals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SealedApprovals").field(&self.store).finish()
    }
}

impl SealedApprovals {
    /// What `store` keeps, sealed with `sealer`.
    #[must_use]
    pub fn new(store: Arc<dyn Approvals>, sealer: Sealer, entropy: Arc<dyn Entropy>) -> Self {
        Self { store, sealer, entropy }
    }

    fn opened(&self, row: &ApprovalRow) -> Arc<ApprovalRow> {
        let sealed = &row.asked.question;
        let plain = self.sealer.open_within(PURPOSE, &[&row.asked.id], sealed, SEALED_BYTES_MAX);
        let mut row = row.clone();
        row.asked.question =
            plain.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| LOST.to_owned());
        Arc::new(row)
    }
}

#[async_trait]
impl Approvals for SealedApprovals {
    async fn ask(&self, mut new: NewApproval) -> Result<Arc<ApprovalRow>, StoreError> {
        let sealed = |purpose: &str, plain: &str| {
            let sealed = self.sealer.seal(purpose, &[&new.id], plain.as_bytes(), &*self.entropy);
            sealed.ok_or_else(|| StoreError::Io("the keys of the store are not open".into()))
        };
        let answer = new.answer.as_ref().map(|answer| sealed(ANSWER, answer)).transpose()?;
        (new.question, new.answer) = (sealed(PURPOSE, &new.question)?, answer);
        Ok(self.opened(&*self.store.ask(new).await?))
    }

    async fn asked(&self, call: Digest) -> Result<Option<Arc<ApprovalRow>>, StoreError> {
        Ok(self.store.asked(call).await?.map(|row| self.opened(&row)))
    }

    async fn approval(&self, id: &str) -> Result<Option<Arc<ApprovalRow>>, StoreError> {
        Ok(self.store.approval(id).await?.map(|row| self.opened(&row)))
    }

    async fn approvals(&self) -> Result<Vec<Arc<ApprovalRow>>, StoreError> {
        Ok(self.store.approvals().await?.iter().map(|row| self.opened(row)).collect())
    }

    async fn open_questions(&self, caller: &str, now: Timestamp) -> Result<(u64, u64), StoreError> {
        self.store.open_questions(caller, now).await
    }

    async fn answer(&self, id: &str, answer: ApprovalAnswer) -> Result<Answered, StoreError> {
        Ok(match self.store.answer(id, answer).await? {
            Answered::Counts(row) => Answered::Counts(self.opened(&row)),
            other @ (Answered::Closed | Answered::Before) => other,
        })
    }

    async fn redeem(&self, call: Digest, now: Timestamp) -> Result<Option<String>, StoreError> {
        self.store.redeem(call, now).await
    }

    async fn held(&self, id: &str) -> Result<Option<String>, StoreError> {
        let held = self.store.held(id).await?;
        let plain = held.and_then(|held| self.sealer.open_within(ANSWER, &[id], &held, SEALED_BYTES_MAX));
        Ok(plain.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    async fn restore(&self, id: &str) -> Result<(), StoreError> {
        self.store.restore(id).await
    }

    async fn expire(&self, id: &str, now: Timestamp) -> Result<bool, StoreError> {
        self.store.expire(id, now).await
    }

    async fn again(&self, id: &str, round: Digest, until: Timestamp) -> Result<(), StoreError> {
        self.store.again(id, round, until).await
    }

    async fn take_round(
        &self,
        first: Digest,
        round: Digest,
        now: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        self.store.take_round(first, round, now).await
    }
}
