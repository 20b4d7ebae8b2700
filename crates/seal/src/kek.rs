//! Keys that wrap data keys. They are used when the gateway starts and when keys are rotated, never for a call. Kinds whose
//! service is asked over the network stand where its client does, in the crate `secrets`.

mod file;
mod pkcs11;

use std::fmt;

use async_trait::async_trait;
use portcullis_core::Entropy;

pub use self::{file::FileKek, pkcs11::Pkcs11Kek};
use crate::Key;

/// Why a key cannot be wrapped or unwrapped. No text here holds a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KekError {
    /// What holds the key-encryption key does not answer. Another time it may.
    #[error("{0}")]
    Unavailable(String),
    /// It refuses, or the wrapped key is not one of its own.
    #[error("{0}")]
    Refused(String),
}

/// A key-encryption key.
#[async_trait]
pub trait Kek: Send + Sync + fmt::Debug {
    /// What wrapped keys are marked with: who has unwrapped one knows which key that takes.
    fn id(&self) -> &str;

    /// Wraps a key; it unwraps for the same context alone.
    ///
    /// # Errors
    /// [`KekError`].
    async fn wrap(&self, key: &Key, context: &str) -> Result<String, KekError>;

    /// The key that was wrapped.
    ///
    /// # Errors
    /// [`KekError`].
    async fn unwrap(&self, wrapped: &str, context: &str) -> Result<Key, KekError>;

    /// A new key, and the same wrapped.
    ///
    /// # Errors
    /// [`KekError`].
    async fn make(&self, context: &str, entropy: &dyn Entropy) -> Result<(Key, String), KekError> {
        let mut key = Key::default();
        entropy.fill(key.as_mut_slice());
        let wrapped = self.wrap(&key, context).await?;
        Ok((key, wrapped))
    }

    /// Gives back what was obtained to be let in.
    async fn close(&self) {}
}
