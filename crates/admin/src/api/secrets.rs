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
        /// Whether its value is long enough to be looked for in what comes back; left out while the keys of the store are not
        /// open.
        watched: Option<bool>,
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

wire! { question
    /// A secret, by name.
    NamedSecret {
        /// A reference of the configuration (also without its field), `local:NAME`, or the key under which it stands.
        name: String,
    }
}

wire! { answer
    /// Somebody to whose calls a secret would be joined.
    SecretUser {
        /// `key`, `role` or `gateway`.
        kind: String,
        /// The id of the API key, or the name of the role.
        id: String,
        /// What people call the key.
        name: Option<String>,
        /// `allow`; `approval` once people agree; `depends` on arguments, claims, time or place; `connect` where only
        /// a connection may be opened.
        verdict: String,
    }
}

wire! { answer
    /// A place at which a secret stands.
    SecretUse {
        /// The key in the configuration.
        key: String,
        /// The reference.
        reference: String,
        /// The server that is given it; left out where the gateway alone uses it.
        server: Option<String>,
        /// Whether each caller has a value of its own.
        personal: bool,
        /// To whose calls it would be joined.
        users: Vec<SecretUser>,
    }
}

wire! { answer
    /// Where a secret stands, and who would use it.
    SecretUses {
        /// What was asked for.
        name: String,
        /// Every place.
        uses: Vec<SecretUse>,
    }
}

/// A secret that is to be fetched anew. It is not printed.
#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewSecret {
    /// As for `NamedSecret`.
    pub name: String,
    /// The new value, for a secret that the gateway keeps.
    pub value: Option<String>,
    /// Have the source make a new value first.
    pub at_source: Option<bool>,
}

impl std::fmt::Debug for RenewSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RenewSecret").field("name", &self.name).finish_non_exhaustive()
    }
}

impl crate::wire::Described for RenewSecret {
    fn schema() -> serde_json::Value {
        json!({
            "type": "object",
            "description": "A secret that is to be fetched anew. It is not printed.",
            "properties": {
                "name": {"type": "string", "description": "A reference of the configuration (also without its field), `local:NAME`, or the key under which it stands."},
                "value": {
                    "anyOf": [{"type": "string", "format": "password"}, {"type": "null"}],
                    "description": "The new value, for a secret that the gateway keeps.",
                    "writeOnly": true,
                },
                "at_source": {
                    "anyOf": [{"type": "boolean"}, {"type": "null"}],
                    "description": "Have the source make a new value first: AWS Secrets Manager by its rotation, Vault of an account whose password an engine keeps.",
                },
            },
            "required": ["name"],
            "additionalProperties": false,
        })
    }
}

wire! { answer
    /// A secret that was fetched anew.
    RenewedSecret {
        /// The reference without its field.
        document: String,
        /// Whether the value is another one; left out where none was held before.
        changed: Option<bool>,
        /// What the source calls this state of it.
        version: Option<String>,
    }
}

wire! { answer
    /// What was fetched anew.
    RenewedSecrets {
        /// What was asked for.
        name: String,
        /// Every document.
        documents: Vec<RenewedSecret>,
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
    LocalSecret { name: state.name, changed: state.changed.to_string(), by: state.by, watched: state.watched }
}

pub(super) fn check_name(name: &str) -> Result<(), Problem> {
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

    /// The places of a secret; a refusal where there is none.
    async fn places(&self, name: &str) -> Result<Vec<crate::parts::SecretUse>, Problem> {
        let uses = self.parts.secrets.uses(name).await.map_err(Problem::Store)?;
        if uses.is_empty() {
            let name = name.escape_default();
            return Err(Problem::NotFound(format!("nothing in the configuration refers to `{name}`")));
        }
        Ok(uses)
    }

    pub(super) async fn who_uses(&self, question: NamedSecret) -> Result<SecretUses, Problem> {
        let mut uses = Vec::new();
        for one in self.places(&question.name).await? {
            let crate::parts::SecretUse { key, reference, server, personal } = one;
            let mut users = match &server {
                Some(server) => self.users_of(server).await?,
                None => Vec::new(),
            };
            // It lists what a server offers, where nobody else has to be named for that.
            if !personal {
                let (kind, id) = ("gateway".to_owned(), "gateway".to_owned());
                users.insert(0, SecretUser { kind, id, name: None, verdict: "allow".to_owned() });
            }
            uses.push(SecretUse { key, reference, server, personal, users });
        }
        Ok(SecretUses { name: question.name, uses })
    }

    pub(super) async fn renewed(&self, question: RenewSecret) -> Result<RenewedSecrets, Problem> {
        let RenewSecret { name, value, at_source } = question;
        let at_source = at_source.unwrap_or(false);
        let own = name.strip_prefix("local:").map(str::to_owned);
        if let (Some(value), Some(own)) = (value.clone(), &own) {
            let known = self.parts.secrets.list().await.map_err(Problem::Store)?;
            if !known.iter().any(|secret| secret.name == *own) {
                let message = format!("the gateway keeps no secret `{}`", own.escape_default());
                return Err(Problem::NotFound(message));
            }
            self.keep_secret(PutSecret { name: own.clone(), value }).await?;
        } else if value.is_some() {
            let message = "only a secret that the gateway keeps (`local:NAME`) takes a value here";
            return Err(Problem::invalid(message, "put the new value into its source, then rotate"));
        } else if own.is_some() {
            let message = "a secret that the gateway keeps has no source that could make a new value";
            return Err(Problem::invalid(message, "give the new value"));
        }
        let places = match self.places(&name).await {
            // What the gateway keeps may be there before anything refers to it.
            Err(Problem::NotFound(_)) if own.is_some() => Vec::new(),
            places => places?,
        };
        let how = if at_source { "at source" } else { "fetched" };
        let data = BTreeMap::from([("secret", json!(name)), ("how", json!(how))]);
        let entry = self.record(Event::SecretRenewed, None, data).await?;
        let (mut documents, mut seen) = (Vec::<RenewedSecret>::new(), std::collections::BTreeSet::new());
        for place in places {
            // The same document may stand at many places.
            let document = place.reference.split('#').next().unwrap_or_default().to_owned();
            if !seen.insert(document) {
                continue;
            }
            let done = self.parts.secrets.renew(&place.key, at_source).await;
            let hint = "the old value is used as long as it may be; `portcullis secret check` tells more";
            let done = done.map_err(|message| Problem::Conflict { message, hint })?;
            documents.extend(done.into_iter().map(|one| {
                let crate::parts::RenewedSecret { document, changed, version } = one;
                // What looks after kept values may have seen the new one before this look did.
                let changed = if own.is_some() { Some(true) } else { changed };
                RenewedSecret { document, changed, version }
            }));
        }
        Ok(RenewedSecrets { name, documents, entry })
    }
}
