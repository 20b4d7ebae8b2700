//! Secrets that the gateway keeps itself: listed, put, removed. A value comes in and never goes out.

use std::collections::BTreeMap;

use portcullis_core::{Event, Secret};
use serde_json::json;

use super::{Control, control::OPERATOR};
use crate::{parts::SecretState, problem::Problem, wire::wire};

/// Bytes of a value.
const VALUE_BYTES_MAX: usize = 65_536;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 128;

wire! { answer
    /// A secret that the gateway keeps, without its value.
    LocalSecret {
        /// Its name, as in `local:NAME`.
        name: String,
        /// When the value in force was put here (RFC 3339).
        changed: String,
        /// Who put it here.
        by: String,
    }
}

wire! { answer
    /// Every secret that the gateway keeps.
    LocalSecretList {
        /// By name.
        secrets: Vec<LocalSecret>,
    }
}

wire! { answer
    /// A secret that was put, or taken out of use.
    LocalSecretChanged {
        /// Its name.
        name: String,
        /// Index of the ledger entry.
        entry: u64,
    }
}

/// A value for a secret. It is not printed, and gone once it is sealed.
#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutSecret {
    /// The name, as in `local:NAME`: letters, digits, `.`, `_`, `-` and `/`.
    pub name: String,
    /// The value.
    pub value: String,
}

impl std::fmt::Debug for PutSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutSecret").field("name", &self.name).finish_non_exhaustive()
    }
}

impl crate::wire::Described for PutSecret {
    fn schema() -> serde_json::Value {
        json!({
            "type": "object",
            "description": "A value for a secret. It is not printed, and gone once it is sealed.",
            "properties": {
                "name": {"type": "string", "description": "The name, as in `local:NAME`: letters, digits, `.`, `_`, `-` and `/`."},
                "value": {"type": "string", "description": "The value.", "format": "password", "writeOnly": true},
            },
            "required": ["name", "value"],
            "additionalProperties": false,
        })
    }
}

wire! { question
    /// A secret to be taken out of use.
    RemoveSecret {
        /// Its name.
        name: String,
    }
}

fn view(state: SecretState) -> LocalSecret {
    LocalSecret { name: state.name, changed: state.changed.to_string(), by: state.by }
}

fn check_name(name: &str) -> Result<(), Problem> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(fits) {
        return Ok(());
    }
    let message = format!("`{}` cannot be the name of a secret", name.escape_default());
    Err(Problem::invalid(message, "use up to 128 letters, digits, `.`, `_`, `-` and `/`"))
}

impl Control {
    pub(super) async fn local_secrets(&self) -> Result<LocalSecretList, Problem> {
        let secrets = self.parts.secrets.list().await.map_err(Problem::Store)?;
        Ok(LocalSecretList { secrets: secrets.into_iter().map(view).collect() })
    }

    pub(super) async fn keep_secret(&self, question: PutSecret) -> Result<LocalSecretChanged, Problem> {
        let PutSecret { name, value } = question;
        let value = Secret::new(value);
        check_name(&name)?;
        if value.expose().is_empty() || value.expose().len() > VALUE_BYTES_MAX {
            let message = format!("a secret has between 1 and {VALUE_BYTES_MAX} bytes");
            return Err(Problem::invalid(message, "keep larger things in a file: `file:PATH`"));
        }
        let entry = self.record(Event::SecretPut, None, BTreeMap::from([("secret", json!(name))])).await?;
        self.parts.secrets.put(&name, value, OPERATOR).await.map_err(Problem::Store)?;
        Ok(LocalSecretChanged { name, entry })
    }

    pub(super) async fn drop_secret(&self, question: RemoveSecret) -> Result<LocalSecretChanged, Problem> {
        let name = question.name;
        let known = self.parts.secrets.list().await.map_err(Problem::Store)?;
        if !known.iter().any(|secret| secret.name == name) {
            return Err(Problem::NotFound(format!("no secret is called `{}`", name.escape_default())));
        }
        let entry =
            self.record(Event::SecretRemoved, None, BTreeMap::from([("secret", json!(name))])).await?;
        self.parts.secrets.remove(&name, OPERATOR).await.map_err(Problem::Store)?;
        Ok(LocalSecretChanged { name, entry })
    }
}
