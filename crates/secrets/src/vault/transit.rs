//! A key-encryption key in the engine `transit`: `encrypt` and `decrypt`, with what a wrapped key is for as associated data.

use std::fmt;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use portcullis_seal::{Kek, KekError, Key};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Vault;
use crate::aws::{failed, key_in};

/// A key of transit.
pub struct TransitKek {
    id: String,
    vault: Vault,
    mount: String,
    key: String,
}

impl fmt::Debug for TransitKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TransitKek").field(&self.id).finish()
    }
}

impl TransitKek {
    /// The key of that name in the engine at `mount`. Nothing is connected yet.
    #[must_use]
    pub fn new(vault: Vault, mount: String, key: String) -> Self {
        Self { id: format!("vault:{mount}/{key}"), vault, mount, key }
    }

    async fn ask(&self, action: &str, context: &str, more: (&str, Value)) -> Result<Value, KekError> {
        let mut body = json!({ "associated_data": STANDARD.encode(context) });
        if let Some(members) = body.as_object_mut() {
            members.insert(more.0.to_owned(), more.1);
        }
        let path: Vec<&str> = self.mount.split('/').chain([action, &self.key]).collect();
        self.vault.authorized(&Method::POST, &path, None, Some(&body)).await.map_err(failed)
    }
}

#[async_trait]
impl Kek for TransitKek {
    fn id(&self) -> &str {
        &self.id
    }

    async fn wrap(&self, key: &Key, context: &str) -> Result<String, KekError> {
        let plain = json!(*Zeroizing::new(STANDARD.encode(key.as_slice())));
        let answer = self.ask("encrypt", context, ("plaintext", plain)).await?;
        let text = answer.pointer("/data/ciphertext").and_then(Value::as_str);
        let silent = || KekError::Unavailable("transit answers without a ciphertext".into());
        text.map(str::to_owned).ok_or_else(silent)
    }

    async fn unwrap(&self, wrapped: &str, context: &str) -> Result<Key, KekError> {
        key_in(&self.ask("decrypt", context, ("ciphertext", json!(wrapped))).await?, "/data/plaintext")
    }

    async fn close(&self) {
        self.vault.leave().await;
    }
}
