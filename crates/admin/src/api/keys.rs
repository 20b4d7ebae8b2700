//! API keys: created, listed, revoked. The text of a key exists in one answer and nowhere else.

use std::collections::BTreeMap;

use portcullis_core::{CallerKind, Event, Scope, Timestamp};
use portcullis_store::{KeyRow, NewKey};
use serde_json::json;

use super::{
    Control,
    control::{OPERATOR, checked_name},
};
use crate::{
    problem::{Problem, closed},
    wire::wire,
};

/// Longest validity of a key, in seconds: ten years.
const VALID_S_MAX: u64 = 315_360_000;

wire! { question
    /// An API key to be created.
    CreateKey {
        /// What people call it.
        name: String,
        /// Roles of whoever presents it.
        roles: Vec<String>,
        /// Servers it reaches; all when left out.
        servers: Option<Vec<String>>,
        /// `service` (the default) or `user`.
        kind: Option<String>,
        /// Seconds until it expires; never when left out.
        expires_in_s: Option<u64>,
    }
}

wire! { answer
    /// An API key, without its text.
    Key {
        /// The public part.
        id: String,
        /// What people call it.
        name: String,
        /// Roles of whoever presents it.
        roles: Vec<String>,
        /// Servers it reaches; all when null.
        servers: Option<Vec<String>>,
        /// `service` or `user`.
        kind: String,
        /// `valid`, `expired` or `revoked`.
        state: String,
        /// When it was made (RFC 3339).
        created: String,
        /// Who made it.
        created_by: String,
        /// When it expires (RFC 3339).
        expires: Option<String>,
        /// When it was revoked (RFC 3339).
        revoked: Option<String>,
    }
}

wire! { answer
    /// Every API key.
    KeyList {
        /// Oldest first.
        keys: Vec<Key>,
    }
}

wire! { answer
    /// A new API key.
    CreatedKey {
        /// Its text: shown here and never again.
        text: String,
        /// All but the text.
        key: Key,
    }
}

fn view(row: &KeyRow, now: Timestamp) -> Key {
    let state = match (row.revoked, row.valid(now)) {
        (Some(_), _) => "revoked",
        (None, true) => "valid",
        (None, false) => "expired",
    };
    Key {
        id: row.id.clone(),
        name: row.name.clone(),
        roles: row.roles.clone(),
        servers: match &row.servers {
            Scope::All => None,
            Scope::Only(names) => Some(names.iter().cloned().collect()),
        },
        kind: kind_name(row.kind).to_owned(),
        state: state.to_owned(),
        created: row.created.to_string(),
        created_by: row.created_by.clone(),
        expires: row.expires.map(|at| at.to_string()),
        revoked: row.revoked.map(|at| at.to_string()),
    }
}

const fn kind_name(kind: CallerKind) -> &'static str {
    match kind {
        CallerKind::Anonymous => "anonymous",
        CallerKind::Service => "service",
        CallerKind::User => "user",
    }
}

/// A name that no route can have would be a scope that nobody meant.
fn check_server_name(name: &str) -> Result<(), Problem> {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if letters && (1..=64).contains(&name.len()) {
        return Ok(());
    }
    Err(Problem::invalid(
        format!("`{name}` cannot be the name of a server"),
        "use the name under `servers` in portcullis.yaml",
    ))
}

impl Control {
    pub(super) async fn keys(&self) -> Result<KeyList, Problem> {
        let now = self.parts.clock.now();
        let rows = self.parts.keys.list().await?;
        Ok(KeyList { keys: rows.iter().map(|row| view(row, now)).collect() })
    }

    pub(super) async fn new_key(&self, question: CreateKey) -> Result<CreatedKey, Problem> {
        let CreateKey { name, roles, servers, kind, expires_in_s } = question;
        checked_name("the name of a key", &name)?;
        self.check_roles(&roles)?;
        let kind = match kind.as_deref() {
            None | Some("service") => CallerKind::Service,
            Some("user") => CallerKind::User,
            Some(other) => {
                return Err(Problem::invalid(format!("unknown kind `{other}`"), "write `service` or `user`"));
            }
        };
        let now = self.parts.clock.now();
        let expires = match expires_in_s {
            None => None,
            Some(seconds) if (1..=VALID_S_MAX).contains(&seconds) => {
                Some(now.plus_ms(seconds.saturating_mul(1_000)))
            }
            Some(seconds) => {
                let message = format!("a key cannot expire in {seconds} s");
                return Err(Problem::invalid(message, "choose 1 second to ten years"));
            }
        };
        for server in servers.iter().flatten() {
            check_server_name(server)?;
        }
        let _changing = self.changing.lock().await;
        let fresh = (self.parts.fresh_key)().ok_or_else(closed)?;
        let data = BTreeMap::from([
            ("expires", json!(expires.map(|at| at.to_string()))),
            ("key", json!(fresh.id)),
            ("kind", json!(kind_name(kind))),
            ("name", json!(name)),
            ("roles", json!(roles)),
            ("servers", json!(servers)),
        ]);
        self.record(Event::KeyCreated, None, data).await?;
        let servers = servers.map_or(Scope::All, |names| Scope::Only(names.into_iter().collect()));
        let created_by = OPERATOR.to_owned();
        let key = NewKey {
            id: fresh.id,
            name,
            hash: fresh.hash,
            roles,
            servers,
            kind,
            created: now,
            expires,
            created_by,
        };
        let row = self.parts.keys.create(key).await?;
        Ok(CreatedKey { text: fresh.text.expose().clone(), key: view(&row, now) })
    }

    pub(super) fn check_roles(&self, roles: &[String]) -> Result<(), Problem> {
        let known = (self.parts.roles)();
        if roles.is_empty() {
            return Err(Problem::invalid("a key without a role may do nothing", "name at least one role"));
        }
        match roles.iter().find(|role| !known.contains(*role)) {
            None => Ok(()),
            Some(role) => {
                let names: Vec<&str> = known.iter().map(String::as_str).collect();
                let message = format!("unknown role `{role}`; known: {}", names.join(", "));
                Err(Problem::invalid(message, "declare the role under `roles` in portcullis.yaml"))
            }
        }
    }

    pub(super) async fn end_key(&self, id: &str) -> Result<Key, Problem> {
        let _changing = self.changing.lock().await;
        let found = self.parts.keys.list().await?.into_iter().find(|row| row.id == id);
        let Some(row) = found else { return Err(Problem::NotFound(format!("there is no key `{id}`"))) };
        let now = self.parts.clock.now();
        if row.revoked.is_some() {
            return Ok(view(&row, now));
        }
        self.record(Event::KeyRevoked, None, BTreeMap::from([("key", json!(id)), ("name", json!(row.name))]))
            .await?;
        self.parts.keys.revoke(id, OPERATOR, now).await?;
        let found = self.parts.keys.list().await?.into_iter().find(|row| row.id == id);
        Ok(view(&found.unwrap_or(row), now))
    }
}
