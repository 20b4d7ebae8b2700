//! API keys in SQLite, and the copy in memory that every request looks into.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use portcullis_core::{CallerKind, Scope, Timestamp};
use rusqlite::{ErrorCode, Row, types::Type};

use crate::{KeyRow, NewKey, StoreError, sqlite::Worker};

/// Every key by id. Written by the store's thread after each commit, read by requests.
#[derive(Default)]
pub(super) struct KeyIndex(RwLock<HashMap<String, Arc<KeyRow>>>);

impl KeyIndex {
    pub(super) fn find(&self, id: &str) -> Option<Arc<KeyRow>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    pub(super) fn list(&self) -> Vec<Arc<KeyRow>> {
        let mut all: Vec<_> =
            self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        all.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        all
    }

    fn insert(&self, row: Arc<KeyRow>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(row.id.clone(), row);
    }

    fn replace(&self, all: HashMap<String, Arc<KeyRow>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all;
    }
}

const COLUMNS: &str =
    "id, name, hash, roles, servers, kind, created, expires, revoked, revoked_by, created_by";

impl Worker {
    pub(super) fn reload_keys(&mut self) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(&format!("SELECT {COLUMNS} FROM keys"))?;
        let rows = statement.query_map([], row_of)?;
        let all = rows.map(|row| row.map(|row| (row.id.clone(), Arc::new(row)))).collect::<Result<_, _>>()?;
        self.keys.replace(all);
        Ok(())
    }

    pub(super) fn create_key(&mut self, key: NewKey) -> Result<Arc<KeyRow>, StoreError> {
        let NewKey { id, name, hash, roles, servers, kind, created, expires, created_by } = key;
        let sql = "INSERT INTO keys (id, name, hash, roles, servers, kind, created, expires, created_by)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let servers_text = match &servers {
            Scope::All => None,
            Scope::Only(names) => Some(json(names)?),
        };
        let outcome = self.connection.prepare_cached(sql)?.execute((
            &id,
            &name,
            hash.as_slice(),
            json(&roles)?,
            servers_text,
            kind_name(kind),
            millis(created),
            expires.map(millis),
            &created_by,
        ));
        if let Err(rusqlite::Error::SqliteFailure(failure, _)) = &outcome
            && failure.code == ErrorCode::ConstraintViolation
            && self.keys.find(&id).is_some()
        {
            return Err(StoreError::Duplicate(id));
        }
        outcome?;
        let row = Arc::new(KeyRow {
            id,
            name,
            hash,
            roles,
            servers,
            kind,
            created,
            expires,
            revoked: None,
            revoked_by: None,
            created_by,
        });
        self.keys.insert(Arc::clone(&row));
        Ok(row)
    }

    pub(super) fn revoke_key(&mut self, id: &str, by: &str, at: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE keys SET revoked = ?2, revoked_by = ?3 WHERE id = ?1 AND revoked IS NULL";
        let revoked = self.connection.prepare_cached(sql)?.execute((id, millis(at), by))? > 0;
        if revoked {
            self.reload_keys()?;
        }
        Ok(revoked)
    }
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    let roles: String = row.get("roles")?;
    let servers: Option<String> = row.get("servers")?;
    let kind: String = row.get("kind")?;
    Ok(KeyRow {
        id: row.get("id")?,
        name: row.get("name")?,
        hash: row.get("hash")?,
        roles: from_json(&roles)?,
        servers: match servers {
            None => Scope::All,
            Some(text) => Scope::Only(from_json::<BTreeSet<String>>(&text)?),
        },
        kind: kind_named(&kind)?,
        created: timestamp(row.get("created")?),
        expires: row.get::<_, Option<i64>>("expires")?.map(timestamp),
        revoked: row.get::<_, Option<i64>>("revoked")?.map(timestamp),
        revoked_by: row.get("revoked_by")?,
        created_by: row.get("created_by")?,
    })
}

const fn kind_name(kind: CallerKind) -> &'static str {
    match kind {
        CallerKind::Anonymous => "anonymous",
        CallerKind::Service => "service",
        CallerKind::User => "user",
    }
}

fn kind_named(name: &str) -> rusqlite::Result<CallerKind> {
    match name {
        "anonymous" => Ok(CallerKind::Anonymous),
        "service" => Ok(CallerKind::Service),
        "user" => Ok(CallerKind::User),
        _ => Err(unreadable(format!("unknown kind of caller `{name}`").into())),
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Other(error.to_string()))
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| unreadable(error.into()))
}

fn unreadable(error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error)
}

/// As SQLite keeps it: signed. The end of time is far enough for both.
pub(super) fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

pub(super) fn timestamp(millis: i64) -> Timestamp {
    Timestamp(u64::try_from(millis).unwrap_or(0))
}
