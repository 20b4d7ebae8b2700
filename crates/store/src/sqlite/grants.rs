//! Grants and counts of quotas in SQLite, and the copy of the grants in memory that every request looks into.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use portcullis_core::Timestamp;
use rusqlite::Row;

use super::keys::{millis, timestamp};
use crate::{GrantRow, Grants, NewGrant, QuotaRow, Quotas, Sqlite, StoreError, sqlite::Worker};

/// Grants that are not revoked, by caller. Written by the store's thread after each commit, read by requests.
#[derive(Default)]
pub(super) struct GrantIndex(RwLock<HashMap<String, Vec<Arc<GrantRow>>>>);

impl GrantIndex {
    fn of(&self, caller: &str, now: Timestamp) -> Vec<Arc<GrantRow>> {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        held.get(caller).into_iter().flatten().filter(|row| row.holds(now)).cloned().collect()
    }

    fn replace(&self, all: &[Arc<GrantRow>]) {
        let mut index = HashMap::<String, Vec<Arc<GrantRow>>>::new();
        for row in all.iter().filter(|row| row.revoked.is_none()) {
            index.entry(row.grant.caller.clone()).or_default().push(Arc::clone(row));
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = index;
    }
}

impl Worker {
    pub(super) fn reload_grants(&mut self) -> Result<Vec<Arc<GrantRow>>, StoreError> {
        let sql =
            "SELECT id, caller, role, reason, emergency, created, created_by, expires, revoked, revoked_by
                   FROM grants ORDER BY created, id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], row_of)?;
        let all = rows.map(|row| row.map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        self.grants.replace(&all);
        Ok(all)
    }

    fn give(&mut self, grant: NewGrant) -> Result<Arc<GrantRow>, StoreError> {
        let sql = "INSERT INTO grants (id, caller, role, reason, emergency, created, created_by, expires)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        self.connection.prepare_cached(sql)?.execute((
            &grant.id,
            &grant.caller,
            &grant.role,
            &grant.reason,
            grant.emergency,
            millis(grant.created),
            &grant.created_by,
            millis(grant.expires),
        ))?;
        self.reload_grants()?;
        Ok(Arc::new(GrantRow { grant, revoked: None, revoked_by: None }))
    }

    fn take_back(&mut self, id: &str, by: &str, at: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE grants SET revoked = ?2, revoked_by = ?3 WHERE id = ?1 AND revoked IS NULL";
        let revoked = self.connection.prepare_cached(sql)?.execute((id, millis(at), by))? > 0;
        if revoked {
            self.reload_grants()?;
        }
        Ok(revoked)
    }

    fn keep(&mut self, row: &QuotaRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO quota_counts (quota, sharer, began, ends, calls, bytes, cost)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                   ON CONFLICT (quota, sharer) DO UPDATE SET began = excluded.began, ends = excluded.ends,
                       calls = excluded.calls, bytes = excluded.bytes, cost = excluded.cost";
        let QuotaRow { quota, sharer, began, ends, calls, bytes, cost } = row;
        let (calls, bytes, cost) = (signed(*calls), signed(*bytes), signed(*cost));
        let values = (quota, sharer, millis(*began), millis(*ends), calls, bytes, cost);
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    fn counts(&mut self, now: Timestamp) -> Result<Vec<QuotaRow>, StoreError> {
        self.connection
            .prepare_cached("DELETE FROM quota_counts WHERE ends <= ?1")?
            .execute([millis(now)])?;
        let sql = "SELECT quota, sharer, began, ends, calls, bytes, cost FROM quota_counts";
        let mut statement = self.connection.prepare_cached(sql)?;
        let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
        let rows = statement.query_map([], |row| {
            Ok(QuotaRow {
                quota: row.get("quota")?,
                sharer: row.get("sharer")?,
                began: timestamp(row.get("began")?),
                ends: timestamp(row.get("ends")?),
                calls: unsigned(row.get("calls")?),
                bytes: unsigned(row.get("bytes")?),
                cost: unsigned(row.get("cost")?),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// As SQLite keeps it: signed. More than that is as good as endless.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<GrantRow> {
    Ok(GrantRow {
        grant: NewGrant {
            id: row.get("id")?,
            caller: row.get("caller")?,
            role: row.get("role")?,
            reason: row.get("reason")?,
            emergency: row.get("emergency")?,
            created: timestamp(row.get("created")?),
            created_by: row.get("created_by")?,
            expires: timestamp(row.get("expires")?),
        },
        revoked: row.get::<_, Option<i64>>("revoked")?.map(timestamp),
        revoked_by: row.get("revoked_by")?,
    })
}

#[async_trait]
impl Grants for Sqlite {
    async fn give(&self, grant: NewGrant) -> Result<Arc<GrantRow>, StoreError> {
        self.ask(move |worker| worker.give(grant)).await
    }

    async fn grants(&self) -> Result<Vec<Arc<GrantRow>>, StoreError> {
        self.ask(Worker::reload_grants).await
    }

    async fn take_back(&self, id: &str, by: &str, at: Timestamp) -> Result<bool, StoreError> {
        let (id, by) = (id.to_owned(), by.to_owned());
        self.ask(move |worker| worker.take_back(&id, &by, at)).await
    }

    fn of(&self, caller: &str, now: Timestamp) -> Vec<Arc<GrantRow>> {
        self.grants.of(caller, now)
    }
}

#[async_trait]
impl Quotas for Sqlite {
    async fn keep(&self, row: QuotaRow) -> Result<(), StoreError> {
        self.ask(move |worker| worker.keep(&row)).await
    }

    async fn counts(&self, now: Timestamp) -> Result<Vec<QuotaRow>, StoreError> {
        self.ask(move |worker| worker.counts(now)).await
    }
}
