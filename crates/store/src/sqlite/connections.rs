//! Connections and registrations in SQLite.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row};

use super::{
    Sqlite, Worker,
    keys::{millis, timestamp},
};
use crate::{ConnectionRow, Connections, StoreError};

/// Registrations kept; the oldest makes room, and is made anew when it is needed.
const REGISTRATIONS_MAX: i64 = 10_000;

const COLUMNS: &str = "caller, server, issuer, scopes, granted, refreshed, expires, sealed";

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
        let sql =
            format!("INSERT OR REPLACE INTO connections ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
        self.connection.prepare_cached(&sql)?.execute((
            &row.caller,
            &row.server,
            &row.issuer,
            &row.scopes,
            millis(row.granted),
            row.refreshed.map(millis),
            row.expires.map(millis),
            &row.sealed,
        ))?;
        Ok(())
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
