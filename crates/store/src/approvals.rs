//! Calls that wait for people: questions, answers, and the one use of each approval. Every gateway on the same store
//! sees the same; each change is one conditional statement, so that no two of them make it twice.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use portcullis_core::{Approval, Digest, Timestamp};

use crate::StoreError;

/// How long an ended question is kept for lists; the ledger has it for ever.
pub(crate) const ENDED_KEPT_MS: u64 = 7 * 86_400_000;
/// How long an answer that people let through is kept: whoever lets it through gives back what it could not use.
pub(crate) const HELD_KEPT_MS: u64 = 60_000;
/// How many of them at most: callers whose questions end soon ask many.
pub(crate) const ENDED_KEPT_MAX: u32 = 1_000;

/// A question to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApproval {
    /// Its name, unique.
    pub id: String,
    /// Over everything that is approved: another caller, target, message, definition or policy is another call.
    pub call: Digest,
    /// The same without what a client adds in later rounds of the same call.
    pub first: Digest,
    /// Who asks, by the caller's id.
    pub caller: String,
    /// Who asks and who acts for who asks: none of them can answer.
    pub askers: Vec<String>,
    /// What people are shown, as JSON.
    pub question: String,
    /// Whom to ask.
    pub demand: Approval,
    /// When it was asked.
    pub created: Timestamp,
    /// When question and approval end.
    pub expires: Timestamp,
    /// The answer that waits for them, where one does. Rows come without it.
    pub answer: Option<String>,
}

/// How a question stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalState {
    /// Waits for people.
    Open,
    /// Enough said yes; the call was not made yet.
    Approved,
    /// Somebody said no.
    Denied,
    /// The call was made.
    Redeemed,
    /// The time was over.
    Expired,
}

impl ApprovalState {
    /// Every state.
    pub const ALL: &'static [Self] =
        &[Self::Open, Self::Approved, Self::Denied, Self::Redeemed, Self::Expired];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Open => "open",
            Self::Redeemed => "redeemed",
        }
    }
}

/// What one person said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalAnswer {
    /// Who.
    pub by: String,
    /// Yes or no.
    pub yes: bool,
    /// By which way it came.
    pub via: String,
    /// Why; empty when nobody said.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// A stored question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRow {
    /// What is asked.
    pub asked: NewApproval,
    /// As it is written; see [`ApprovalRow::state`].
    pub written: ApprovalState,
    /// When the call was made.
    pub redeemed: Option<Timestamp>,
    /// What people said, in order.
    pub answers: Vec<ApprovalAnswer>,
}

impl ApprovalRow {
    /// How it stands at `now`: what nobody has noticed to be over is over all the same.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> ApprovalState {
        match self.written {
            ApprovalState::Open | ApprovalState::Approved | ApprovalState::Denied
                if now >= self.asked.expires =>
            {
                ApprovalState::Expired
            }
            written => written,
        }
    }

    /// How many said yes.
    #[must_use]
    pub fn given(&self) -> usize {
        self.answers.iter().filter(|answer| answer.yes).count()
    }
}

/// What came of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It counts; how the question stands now.
    Counts(Arc<ApprovalRow>),
    /// It is not open, or is none.
    Closed,
    /// The same person said so before.
    Before,
}

/// Keeps questions for approval.
#[async_trait]
pub trait Approvals: Send + Sync + fmt::Debug {
    /// Stores a question, unless there is one for the same call that is not over: then that one is returned.
    ///
    /// # Errors
    /// What the store reports.
    async fn ask(&self, new: NewApproval) -> Result<Arc<ApprovalRow>, StoreError>;

    /// The question for exactly this call that nobody has noticed to be over, and that is not used up.
    ///
    /// # Errors
    /// What the store reports.
    async fn asked(&self, call: Digest) -> Result<Option<Arc<ApprovalRow>>, StoreError>;

    /// The question of that name.
    ///
    /// # Errors
    /// What the store reports.
    async fn approval(&self, id: &str) -> Result<Option<Arc<ApprovalRow>>, StoreError>;

    /// Every question that is kept, oldest first.
    ///
    /// # Errors
    /// What the store reports.
    async fn approvals(&self) -> Result<Vec<Arc<ApprovalRow>>, StoreError>;

    /// How many questions are open at `now`: of everybody, and of `caller`.
    ///
    /// # Errors
    /// What the store reports.
    async fn open_questions(&self, caller: &str, now: Timestamp) -> Result<(u64, u64), StoreError>;

    /// Counts an answer. A no also takes back an approval that is not used yet.
    ///
    /// # Errors
    /// What the store reports.
    async fn answer(&self, id: &str, answer: ApprovalAnswer) -> Result<Answered, StoreError>;

    /// Uses up the approval of exactly this call, if there is one that is not over; its name. Whoever asks, one alone
    /// gets it.
    ///
    /// # Errors
    /// What the store reports.
    async fn redeem(&self, call: Digest, now: Timestamp) -> Result<Option<String>, StoreError>;

    /// The answer that waits with the question of that name, where it is not over for long.
    ///
    /// # Errors
    /// What the store reports.
    async fn held(&self, id: &str) -> Result<Option<String>, StoreError>;

    /// Takes back that it was used up: the call was not made.
    ///
    /// # Errors
    /// What the store reports.
    async fn restore(&self, id: &str) -> Result<(), StoreError>;

    /// Notes that a question is over; false when somebody did before.
    ///
    /// # Errors
    /// What the store reports.
    async fn expire(&self, id: &str, now: Timestamp) -> Result<bool, StoreError>;

    /// The server of an approved call wants it once more, with `round`, until then.
    ///
    /// # Errors
    /// What the store reports.
    async fn again(&self, id: &str, round: Digest, until: Timestamp) -> Result<(), StoreError>;

    /// Uses up a further round of a call; the name of its approval.
    ///
    /// # Errors
    /// What the store reports.
    async fn take_round(
        &self,
        first: Digest,
        round: Digest,
        now: Timestamp,
    ) -> Result<Option<String>, StoreError>;
}
