//! Connections and registrations in SQLite.

use async_trait::async_trait;
use portcullis_core::Timestamp;
use rusqlite::{OptionalExtension, Row};

use super::{
    Sqlite, Worker,
    keys::{millis, timestamp},
};
use crate::{Claim, ConnectionRow, Connections, Seen, StoreError};

/// Registrations kept; the oldest makes room, and is made anew when it is needed.
const REGISTRATIONS_MAX: i64 = 10_000;

const COLUMNS: &str = "caller, server, issuer, scopes, granted, refreshed, expires, sealed, revision";

impl Worker {
    fn put_connection(&mut self, row: &ConnectionRow, max: u64) -> Result<(), StoreError> {
        // Nobody counts for a renewal, of which there are many.
        let known = "SELECT 1 FROM connections WHERE caller = ?1 AND server = ?2";
        if !self.connection.prepare_cached(known)?.exists((&row.caller, &row.server))? {
            let all = "SELECT count(*) FROM connections";
            let all: i64 = self.connection.prepare_cached(all)?.query_row((), |row| row.get(0))?;
            if u64::try_from(all).unwrap_or(0) >= max {
                return Err(StoreError::Busy(usize::try_from(max).unwrap_or(usize::MAX)));
            }
        }
        let sql = format!(
            "INSERT OR REPLACE INTO connections ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
        );
        self.connection.prepare_cached(&sql)?.execute((
            &row.caller,
            &row.server,
            &row.issuer,
            &row.scopes,
            millis(row.granted),
            row.refreshed.map(millis),
            row.expires.map(millis),
            &row.sealed,
            &row.revision,
        ))?;
        Ok(())
    }

    fn claim_connection(
        &mut self,
        seen: &Seen,
        holder: &str,
        (now, until): (Timestamp, Timestamp),
    ) -> Result<Claim, StoreError> {
        let Seen { caller, server, revision } = seen;
        let claim = "UPDATE connections SET claimed_by = ?4, claimed_until = ?5
            WHERE caller = ?1 AND server = ?2 AND revision = ?3
            AND (claimed_until IS NULL OR claimed_until NOT BETWEEN ?6 + 1 AND ?5)";
        let mut statement = self.connection.prepare_cached(claim)?;
        if statement.execute((caller, server, revision, holder, millis(until), millis(now)))? == 1 {
            return Ok(Claim::Ours);
        }
        let still = "SELECT 1 FROM connections WHERE caller = ?1 AND server = ?2 AND revision = ?3";
        let still = self.connection.prepare_cached(still)?.exists((caller, server, revision))?;
        Ok(if still { Claim::Theirs } else { Claim::Changed })
    }

    fn replace_connection(&mut self, row: &ConnectionRow, revision: &str) -> Result<bool, StoreError> {
        let sql =
            "UPDATE connections SET issuer = ?4, scopes = ?5, granted = ?6, refreshed = ?7, expires = ?8,
            sealed = ?9, revision = ?10, claimed_by = NULL, claimed_until = NULL
            WHERE caller = ?1 AND server = ?2 AND revision = ?3";
        let replaced = self.connection.prepare_cached(sql)?.execute((
            &row.caller,
            &row.server,
            revision,
            &row.issuer,
            &row.scopes,
            millis(row.granted),
            row.refreshed.map(millis),
            row.expires.map(millis),
            &row.sealed,
            &row.revision,
        ))?;
        Ok(replaced == 1)
    }

    fn put_registration(&mut self, issuer: &str, redirect: &str, sealed: &str) -> Result<(), StoreError> {
        let put = "INSERT OR REPLACE INTO registrations (issuer, redirect, sealed) VALUES (?1, ?2, ?3)";
        self.connection.prepare_cached(put)?.execute((issuer, redirect, sealed))?;
        let oldest =
            "DELETE FROM registrations WHERE sequence <= (SELECT max(sequence) FROM registrations) - ?1";
        self.connection.prepare_cached(oldest)?.execute([REGISTRATIONS_MAX])?;
        Ok(())
    }
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<ConnectionRow> {
    Ok(ConnectionRow {
        caller: row.get("caller")?,
        server: row.get("server")?,
        issuer: row.get("issuer")?,
        scopes: row.get("scopes")?,
        granted: timestamp(row.get("granted")?),
        refreshed: row.get::<_, Option<i64>>("refreshed")?.map(timestamp),
        expires: row.get::<_, Option<i64>>("expires")?.map(timestamp),
        sealed: row.get("sealed")?,
        revision: row.get("revision")?,
    })
}

#[async_trait]
impl Connections for Sqlite {
    async fn put_connection(&self, row: ConnectionRow, max: u64) -> Result<(), StoreError> {
        self.ask(move |worker| worker.put_connection(&row, max)).await
    }

    async fn connection(&self, caller: &str, server: &str) -> Result<Option<ConnectionRow>, StoreError> {
        let key = (caller.to_owned(), server.to_owned());
        let sql = format!("SELECT {COLUMNS} FROM connections WHERE caller = ?1 AND server = ?2");
        self.ask(move |worker| {
            Ok(worker.connection.prepare_cached(&sql)?.query_row((&key.0, &key.1), row_of).optional()?)
        })
        .await
    }

    async fn claim_connection(
        &self,
        seen: Seen,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Claim, StoreError> {
        let holder = holder.to_owned();
        self.ask(move |worker| worker.claim_connection(&seen, &holder, (now, until))).await
    }

    async fn release_connection(&self, seen: Seen, holder: &str) -> Result<(), StoreError> {
        let holder = holder.to_owned();
        let sql = "UPDATE connections SET claimed_by = NULL, claimed_until = NULL
            WHERE caller = ?1 AND server = ?2 AND revision = ?3 AND claimed_by = ?4";
        self.ask(move |worker| {
            let Seen { caller, server, revision } = &seen;
            worker.connection.prepare_cached(sql)?.execute((caller, server, revision, &holder))?;
            Ok(())
        })
        .await
    }

    async fn replace_connection(&self, row: ConnectionRow, revision: &str) -> Result<bool, StoreError> {
        let revision = revision.to_owned();
        self.ask(move |worker| worker.replace_connection(&row, &revision)).await
    }

    async fn forget_seen(&self, seen: Seen) -> Result<bool, StoreError> {
        let sql = "DELETE FROM connections WHERE caller = ?1 AND server = ?2 AND revision = ?3";
        self.ask(move |worker| {
            let Seen { caller, server, revision } = &seen;
            Ok(worker.connection.prepare_cached(sql)?.execute((caller, server, revision))? > 0)
        })
        .await
    }

    async fn connections(&self) -> Result<Vec<ConnectionRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM connections ORDER BY server, caller");
        self.ask(move |worker| {
            let mut statement = worker.connection.prepare_cached(&sql)?;
            let rows = statement.query_map([], row_of)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn forget_connection(&self, caller: &str, server: &str) -> Result<bool, StoreError> {
        let key = (caller.to_owned(), server.to_owned());
        let sql = "DELETE FROM connections WHERE caller = ?1 AND server = ?2";
        self.ask(move |worker| Ok(worker.connection.prepare_cached(sql)?.execute((&key.0, &key.1))? > 0))
            .await
    }

    async fn put_registration(&self, issuer: &str, redirect: &str, sealed: &str) -> Result<(), StoreError> {
        let (issuer, redirect, sealed) = (issuer.to_owned(), redirect.to_owned(), sealed.to_owned());
        self.ask(move |worker| worker.put_registration(&issuer, &redirect, &sealed)).await
    }

    async fn registration(&self, issuer: &str, redirect: &str) -> Result<Option<String>, StoreError> {
        let key = (issuer.to_owned(), redirect.to_owned());
        let sql = "SELECT sealed FROM registrations WHERE issuer = ?1 AND redirect = ?2";
        self.ask(move |worker| {
            let found = worker.connection.prepare_cached(sql)?.query_row((&key.0, &key.1), |row| row.get(0));
            Ok(found.optional()?)
        })
        .await
    }

    async fn forget_registration(&self, issuer: &str, redirect: &str) -> Result<(), StoreError> {
        let key = (issuer.to_owned(), redirect.to_owned());
        let sql = "DELETE FROM registrations WHERE issuer = ?1 AND redirect = ?2";
        self.ask(move |worker| {
            worker.connection.prepare_cached(sql)?.execute((&key.0, &key.1))?;
            Ok(())
        })
        .await
    }
}
