//! A reference with what it takes to follow it.

use std::sync::Arc;

use portcullis_core::{Code, Refusal, Secret};

use crate::{broker::Broker, reference::Reference, source::Failure};

/// A reference that can be followed, wherever its value is needed.
#[derive(Clone, Debug)]
pub struct Value {
    reference: Reference,
    /// What is written out needs none.
    broker: Option<Arc<Broker>>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::new(Code::SecretUnavailable, failure.to_string())
    }
}

impl Value {
    /// A reference, followed through `broker`.
    #[must_use]
    pub const fn new(reference: Reference, broker: Arc<Broker>) -> Self {
        Self { reference, broker: Some(broker) }
    }

    /// Whether the value can be another one later.
    #[must_use]
    pub const fn changes(&self) -> bool {
        !self.reference.fixed()
    }

    /// The value itself.
    #[must_use]
    pub fn literal(value: &str) -> Self {
        Self { reference: Reference::literal(value), broker: None }
    }

    /// The reference.
    #[must_use]
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }

    /// What it is followed through, where it has to be.
    #[must_use]
    pub const fn broker(&self) -> Option<&Arc<Broker>> {
        self.broker.as_ref()
    }

    /// Whether the value differs by caller.
    #[must_use]
    pub fn personal(&self) -> bool {
        self.reference.personal()
    }

    /// The value for a caller, or for the gateway itself.
    ///
    /// # Errors
    /// `secret.unavailable`.
    pub async fn get(&self, caller: Option<&str>) -> Result<Secret<String>, Refusal> {
        match (self.reference.as_literal(), &self.broker) {
            (Some(value), _) => Ok(Secret::new(value.to_owned())),
            // Boxed, so that calls without secrets do not carry the room for them.
            (None, Some(broker)) => Ok(Box::pin(broker.value(&self.reference, caller)).await?),
            (None, None) => {
                Ok(Err(Failure::Unavailable(format!("`{}` cannot be followed", self.reference)))?)
            }
        }
    }

    /// Another value than the one that a server did not take, where there is one by now.
    ///
    /// # Errors
    /// `secret.unavailable`.
    pub async fn refused(
        &self,
        caller: Option<&str>,
        value: &Secret<String>,
    ) -> Result<Option<Secret<String>>, Refusal> {
        let Some(broker) = &self.broker else { return Ok(None) };
        Ok(Box::pin(broker.refused(&self.reference, caller, value)).await?)
    }
}
