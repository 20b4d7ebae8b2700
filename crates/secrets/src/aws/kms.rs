//! A key-encryption key in AWS KMS: `GenerateDataKey`, `Encrypt` and `Decrypt`. What a wrapped key is for is its encryption
//! context, which KMS checks and writes to CloudTrail.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_core::{Clock, Entropy};
use portcullis_seal::{Kek, KekError, Key};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Api, AwsIdentity};
use crate::source::Failure;

/// A key of KMS.
pub struct KmsKek {
    id: String,
    api: Api,
    /// Id, ARN or alias.
    key: String,
}

impl fmt::Debug for KmsKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KmsKek").field(&self.id).finish()
    }
}

impl KmsKek {
    /// The key of that id, ARN or alias. Nothing is connected yet.
    #[must_use]
    pub fn new(key: String, identity: AwsIdentity, clock: Arc<dyn Clock>) -> Self {
        Self { id: format!("aws:{key}"), api: Api::new(("kms", "TrentService"), identity, clock), key }
    }

    async fn ask(&self, action: &str, context: &str, more: (&str, Value)) -> Result<Value, KekError> {
        let mut body = json!({ "KeyId": self.key, "EncryptionContext": { "portcullis": context } });
        if let Some(members) = body.as_object_mut() {
            members.insert(more.0.to_owned(), more.1);
        }
        let region = self.api.region_of(&self.key).map_err(failed)?;
        self.api.ask(action, region, &body).await.map_err(failed)
    }
}

/// Whether another try may end otherwise.
pub(crate) fn failed(failure: Failure) -> KekError {
    match failure {
        Failure::Unavailable(reason) => KekError::Unavailable(reason),
        Failure::Absent(reason) | Failure::Forbidden(reason) => KekError::Refused(reason),
    }
}

/// A key of 32 bytes in base64.
pub(crate) fn key_in(answer: &Value, member: &str) -> Result<Key, KekError> {
    let text = answer.pointer(member).and_then(Value::as_str).unwrap_or_default();
    let bytes = Zeroizing::new(STANDARD.decode(text).unwrap_or_default());
    let exact = <&[u8; 32]>::try_from(bytes.as_slice());
    let exact = exact.map_err(|_| KekError::Refused("what was unwrapped is no data key".into()))?;
    Ok(Key::new(*exact))
}

fn text_in(answer: &Value, member: &str) -> Result<String, KekError> {
    let text = answer.get(member).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| KekError::Unavailable(format!("KMS answers without `{member}`")))
}

#[async_trait]
impl Kek for KmsKek {
    fn id(&self) -> &str {
        &self.id
    }

    async fn wrap(&self, key: &Key, context: &str) -> Result<String, KekError> {
        let plain = json!(*Zeroizing::new(STANDARD.encode(key.as_slice())));
        text_in(&self.ask("Encrypt", context, ("Plaintext", plain)).await?, "CiphertextBlob")
    }

    async fn unwrap(&self, wrapped: &str, context: &str) -> Result<Key, KekError> {
        key_in(&self.ask("Decrypt", context, ("CiphertextBlob", json!(wrapped))).await?, "/Plaintext")
    }

    async fn make(&self, context: &str, _entropy: &dyn Entropy) -> Result<(Key, String), KekError> {
        let answer = self.ask("GenerateDataKey", context, ("KeySpec", json!("AES_256"))).await?;
        Ok((key_in(&answer, "/Plaintext")?, text_in(&answer, "CiphertextBlob")?))
    }
}
