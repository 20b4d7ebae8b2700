//! AWS Secrets Manager and KMS, over their JSON API (`x-amz-json-1.1`), and who the gateway is at AWS.

mod api;
mod credentials;
mod kms;
mod sign;
mod sts;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_core::{Clock, Secret, Timestamp};
use serde_json::{Value, json};

use api::Api;
pub use credentials::{AssumeRole, AwsIdentity};
pub use kms::KmsKek;
pub(crate) use kms::{failed, key_in};
pub(crate) use sts::caller_identity;

use crate::{
    reference::AwsValue,
    source::{Document, Failure, Lease, WHOLE},
};

/// Pages of a listing.
const PAGES_MAX: usize = 1_000;

/// AWS Secrets Manager.
#[derive(Debug)]
pub struct SecretsManager(Api);

impl SecretsManager {
    /// The service as the operator declared it. Nothing is connected yet.
    #[must_use]
    pub fn new(identity: AwsIdentity, clock: Arc<dyn Clock>) -> Self {
        Self(Api::new(("secretsmanager", "secretsmanager"), identity, clock))
    }

    /// The value of a secret.
    pub(crate) async fn read(&self, name: &str, which: &AwsValue) -> Result<Document, Failure> {
        let mut body = json!({ "SecretId": name });
        let (member, value) = match which {
            AwsValue::Stage(stage) => ("VersionStage", stage),
            AwsValue::Version(version) => ("VersionId", version),
        };
        if let Some(members) = body.as_object_mut() {
            members.insert(member.to_owned(), Value::from(value.as_str()));
        }
        let answer = self.0.ask("GetSecretValue", self.0.region_of(name)?, &body).await?;
        document(name, &answer)
    }

    /// Has the service rotate a secret, which it does with the function that is configured there.
    pub(crate) async fn rotate(&self, name: &str) -> Result<(), Failure> {
        self.0.ask("RotateSecret", self.0.region_of(name)?, &json!({ "SecretId": name })).await.map(drop)
    }

    /// The names of all secrets that the gateway may list, page by page.
    ///
    /// # Errors
    /// When a page cannot be had.
    pub async fn list(&self) -> Result<Vec<String>, Failure> {
        let region = self.0.region_of("")?;
        let (mut names, mut next) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let mut body = json!({ "MaxResults": 100 });
            if let (Some(next), Some(members)) = (next.take(), body.as_object_mut()) {
                members.insert("NextToken".to_owned(), Value::from(next));
            }
            let answer = self.0.ask("ListSecrets", region.clone(), &body).await?;
            let page = answer.get("SecretList").and_then(Value::as_array).into_iter().flatten();
            names.extend(page.filter_map(|one| one.get("Name").and_then(Value::as_str)).map(str::to_owned));
            next = answer.get("NextToken").and_then(Value::as_str).map(str::to_owned);
            if next.is_none() {
                return Ok(names);
            }
        }
        Err(Failure::Unavailable("the list of secrets has no end".into()))
    }
}

/// A document of a secret: the members of its JSON text, and the text itself.
fn document(name: &str, answer: &Value) -> Result<Document, Failure> {
    let text = match (answer.get("SecretString").and_then(Value::as_str), answer.get("SecretBinary")) {
        (Some(text), _) => text.to_owned(),
        (None, Some(Value::String(binary))) => {
            // Bytes that are no text come as the service writes them.
            let bytes = STANDARD.decode(binary).ok();
            bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| binary.clone())
        }
        _ => return Err(Failure::Absent(format!("`{name}` holds no value"))),
    };
    let mut fields: BTreeMap<String, Secret<String>> = match serde_json::from_str(&text) {
        Ok(Value::Object(members)) => members
            .into_iter()
            .map(|(name, value)| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (name, Secret::new(value))
            })
            .collect(),
        Ok(_) | Err(_) => BTreeMap::new(),
    };
    fields.insert(WHOLE.to_owned(), Secret::new(text));
    let version = answer.get("VersionId").and_then(Value::as_str).map(str::to_owned);
    let created = answer.get("CreatedDate").and_then(Value::as_f64).map(|seconds| {
        Timestamp(
            Duration::try_from_secs_f64(seconds)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        )
    });
    Ok(Document { fields, version, lease: Lease::Unstated, created })
}
