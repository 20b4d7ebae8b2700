//! Answers of people in chat systems.

use std::sync::Arc;

use portcullis_store::ApprovalRow;
use serde::Deserialize;

use crate::{
    AnswerError, Desk,
    signature::{Signature, SignatureError},
};

/// Bytes of a reason at most.
pub const REASON_BYTES_MAX: usize = 1_024;

/// Why an answer of a chat system does not count.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It is not of the chat system, or not of now, or came before.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It says nothing that can be read.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
    /// Configuration names no API key for the user, or one that is not valid.
    #[error("`{0}` is no user of the chat who may answer here")]
    User(String),
    /// As any other answer.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    kind: String,
    approval: String,
    user: String,
    answer: String,
    #[serde(default)]
    reason: String,
}

impl Desk {
    /// Counts the answer of a person in a chat, for the API key that configuration names for it.
    ///
    /// # Errors
    /// Why it does not count.
    pub async fn answer_by_hook(
        self: &Arc<Self>,
        name: &str,
        signed: &Signature,
        body: &[u8],
    ) -> Result<Arc<ApprovalRow>, HookError> {
        let users = self.hooks.users(name, signed, body, self.parts.clock.now())?;
        let said: Said =
            serde_json::from_slice(body).map_err(|error| HookError::Unreadable(error.to_string()))?;
        let unreadable = |what: &str| Err(HookError::Unreadable(what.to_owned()));
        if said.kind != "approval.answer" {
            return unreadable("`kind` must be `approval.answer`");
        }
        let yes = match said.answer.as_str() {
            "yes" => true,
            "no" => false,
            _ => return unreadable("`answer` must be `yes` or `no`"),
        };
        if said.reason.len() > REASON_BYTES_MAX || said.reason.chars().any(char::is_control) {
            return unreadable("a reason has at most 1024 bytes and no control characters");
        }
        let by = users.get(&said.user).and_then(|key| self.hooks.person(key));
        let by = by.ok_or_else(|| HookError::User(said.user.chars().take(128).collect()))?;
        let via = format!("hook:{name}");
        Ok(self.answer(&said.approval, &by, (yes, &said.reason), &via).await?)
    }
}
