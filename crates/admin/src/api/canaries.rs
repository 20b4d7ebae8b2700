//! Credentials that are planted, so that somebody hears when one is found and used.

use std::collections::BTreeMap;

use portcullis_core::{Event, Secret};
use serde_json::json;

use super::{Control, control::OPERATOR, secrets::check_name};
use crate::{
    parts::{CanaryState, CanaryValues},
    problem::Problem,
    wire::wire,
};

/// Bytes of a value that is looked for: shorter ones occur by chance, longer ones are no credential.
const VALUE_BYTES: std::ops::RangeInclusive<usize> = 8..=4_096;
/// Planted credentials: what is looked for costs time in every message.
const CANARIES_MAX: usize = 256;
/// The kind of a value that the operator brings.
const OWN: &str = "own";

wire! { answer
    /// A credential that was planted, without its value.
    Canary {
        /// Its name.
        name: String,
        /// What it looks like; `own` where the operator brought the value. Left out while the keys of the store are not open.
        kind: Option<String>,
        /// When it was planted (RFC 3339).
        created: String,
        /// Who planted it.
        by: String,
    }
}

wire! { answer
    /// Every credential that was planted.
    CanaryList {
        /// By name.
        canaries: Vec<Canary>,
    }
}

wire! { answer
    /// One value of a planted credential.
    CanaryValue {
        /// The variable in which programs look for it.
        variable: String,
        /// The value.
        value: String,
    }
}

/// A planted credential, with its values.
#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CreatedCanary {
    /// Its name.
    pub name: String,
    /// What it looks like.
    pub kind: String,
    /// What is to be left where somebody finds it; nothing where the operator brought the value.
    pub values: Vec<CanaryValue>,
    /// Index of the ledger entry.
    pub entry: u64,
}

impl std::fmt::Debug for CreatedCanary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedCanary").field("name", &self.name).finish_non_exhaustive()
    }
}

impl crate::wire::Described for CreatedCanary {
    fn schema() -> serde_json::Value {
        json!({
            "type": "object",
            "description": "A planted credential, with its values.",
            "properties": {
                "name": {"type": "string", "description": "Its name."},
                "kind": {"type": "string", "description": "What it looks like."},
                "values": {
                    "type": "array",
                    "items": <CanaryValue as crate::wire::Described>::schema(),
                    "description": "What is to be left where somebody finds it; nothing where the operator brought the value.",
                },
                "entry": {"type": "integer", "minimum": 0, "description": "Index of the ledger entry."},
            },
            "required": ["name", "kind", "values", "entry"],
            "additionalProperties": true,
        })
    }
}

/// A credential that is to be planted. It is not printed.
#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateCanary {
    /// The name: letters, digits, `.`, `_`, `-` and `/`.
    pub name: String,
    /// What it shall look like.
    pub kind: Option<String>,
    /// The value, where the operator brings one.
    pub value: Option<String>,
}

impl std::fmt::Debug for CreateCanary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateCanary").field("name", &self.name).finish_non_exhaustive()
    }
}

impl crate::wire::Described for CreateCanary {
    fn schema() -> serde_json::Value {
        json!({
            "type": "object",
            "description": "A credential that is to be planted. It is not printed.",
            "properties": {
                "name": {"type": "string", "description": "The name: letters, digits, `.`, `_`, `-` and `/`."},
                "kind": {
                    "anyOf": [{"type": "string"}, {"type": "null"}],
                    "description": "What it shall look like, such as `aws` or `github`; a password where neither this nor a value is given.",
                },
                "value": {
                    "anyOf": [{"type": "string", "format": "password"}, {"type": "null"}],
                    "description": "The value, where the operator brings one.",
                    "writeOnly": true,
                },
            },
            "required": ["name"],
            "additionalProperties": false,
        })
    }
}

wire! { question
    /// A planted credential that is not to be looked for any more.
    RemoveCanary {
        /// Its name.
        name: String,
    }
}

wire! { answer
    /// A planted credential that is not looked for any more.
    CanaryChanged {
        /// Its name.
        name: String,
        /// Index of the ledger entry.
        entry: u64,
    }
}

fn view(state: CanaryState) -> Canary {
    Canary { name: state.name, kind: state.kind, created: state.created.to_string(), by: state.by }
}

/// What is planted of the value that the operator brings.
fn own(value: String) -> Result<CanaryValues, Problem> {
    let value = Secret::new(value);
    if !VALUE_BYTES.contains(&value.expose().len()) {
        let message = "a value that is looked for has between 8 and 4,096 bytes";
        return Err(Problem::invalid(message, "shorter ones occur by chance, and would raise false alarms"));
    }
    Ok(vec![(String::new(), value)])
}

impl Control {
    pub(super) async fn canaries(&self) -> Result<CanaryList, Problem> {
        let canaries = self.parts.canaries.list().await.map_err(Problem::Store)?;
        Ok(CanaryList { canaries: canaries.into_iter().map(view).collect() })
    }

    pub(super) async fn plant_canary(&self, question: CreateCanary) -> Result<CreatedCanary, Problem> {
        let CreateCanary { name, kind, value } = question;
        check_name(&name)?;
        let (kind, values, brought) = match (kind, value) {
            (Some(_), Some(_)) => {
                let message = "a value of your own has no kind";
                return Err(Problem::invalid(message, "name a kind, or bring a value"));
            }
            (None, Some(value)) => (OWN.to_owned(), own(value)?, true),
            (kind, None) => {
                let kind = kind.unwrap_or_else(|| "password".to_owned());
                let made = self.parts.canaries.make(&kind).ok_or_else(|| {
                    let message = format!("there is no kind `{}`", kind.escape_default());
                    Problem::invalid(message, "`portcullis secret canary create --help` names the kinds")
                });
                (kind, made?, false)
            }
        };
        let _one_at_a_time = self.changing.lock().await;
        let known = self.parts.canaries.list().await.map_err(Problem::Store)?;
        if known.iter().any(|canary| canary.name == name) {
            let message = format!("`{name}` is planted already");
            return Err(Problem::Conflict { message, hint: "remove it first, or take another name" });
        }
        if known.len() >= CANARIES_MAX {
            let message = format!("{CANARIES_MAX} credentials are planted already");
            return Err(Problem::Conflict { message, hint: "remove those that nobody can find any more" });
        }
        let data = BTreeMap::from([("canary", json!(name)), ("kind", json!(kind))]);
        let entry = self.record(Event::CanaryCreated, None, data).await?;
        self.parts.canaries.plant(&name, &kind, &values, OPERATOR).await.map_err(Problem::Store)?;
        let values = if brought { Vec::new() } else { values };
        let values = values
            .into_iter()
            .map(|(variable, value)| CanaryValue { variable, value: value.expose().clone() })
            .collect();
        Ok(CreatedCanary { name, kind, values, entry })
    }

    pub(super) async fn drop_canary(&self, question: RemoveCanary) -> Result<CanaryChanged, Problem> {
        let name = question.name;
        let known = self.parts.canaries.list().await.map_err(Problem::Store)?;
        if !known.iter().any(|canary| canary.name == name) {
            return Err(Problem::NotFound(format!("nothing is planted as `{}`", name.escape_default())));
        }
        let data = BTreeMap::from([("canary", json!(name))]);
        let entry = self.record(Event::CanaryRemoved, None, data).await?;
        self.parts.canaries.remove(&name, OPERATOR).await.map_err(Problem::Store)?;
        Ok(CanaryChanged { name, entry })
    }
}
