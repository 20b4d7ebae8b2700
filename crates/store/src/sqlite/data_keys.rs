//! Data keys and sealed rows in SQLite.

use async_trait::async_trait;
use rusqlite::{Row, TransactionBehavior};

use super::{
    Sqlite, Worker,
    keys::{millis, timestamp},
};
use crate::{DataKeyRow, DataKeys, SealedRow, SealedTable, StoreError};

const COLUMNS: &str = "name, version, wrapped, kek, created, used_from";

/// Table, and the columns that name a row.
const fn table(table: SealedTable) -> (&'static str, &'static [&'static str]) {
    match table {
        SealedTable::Connections => ("connections", &["caller", "server", "issuer"]),
        SealedTable::Registrations => ("registrations", &["issuer", "redirect"]),
        SealedTable::Subjects => ("subject_keys", &["CAST(id AS TEXT)", "lower(hex(subject))"]),
    }
}

impl Worker {
    fn data_keys(&mut self) -> Result<Vec<DataKeyRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM data_keys ORDER BY name, version");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([], row_of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn add_data_keys(&mut self, rows: &[DataKeyRow]) -> Result<bool, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sql = format!("INSERT OR IGNORE INTO data_keys ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
        for row in rows {
            let values =
                (&row.name, row.version, &row.wrapped, &row.kek, millis(row.created), millis(row.from));
            if transaction.execute(&sql, values)? == 0 {
                return Ok(false);
            }
        }
        transaction.commit()?;
        self.bump();
        Ok(true)
    }

    /// What is replaced or removed is overwritten, in the file and in what was written ahead of it.
    pub(super) fn overwriting<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.connection.pragma_update(None, "secure_delete", true)?;
        let done = work(self);
        let restored = self.connection.pragma_update(None, "secure_delete", false);
        let done = done?;
        restored?;
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.bump();
        Ok(done)
    }

    fn rewrap_data_key(&mut self, before: &DataKeyRow, wrapped: &str, kek: &str) -> Result<bool, StoreError> {
        let sql =
            "UPDATE data_keys SET wrapped = ?4, kek = ?5 WHERE name = ?1 AND version = ?2 AND wrapped = ?3";
        let values = (&before.name, before.version, &before.wrapped, wrapped, kek);
        self.overwriting(|worker| Ok(worker.connection.execute(sql, values)? == 1))
    }

    fn destroy_data_keys(&mut self, which: Option<(String, u32)>) -> Result<u64, StoreError> {
        self.overwriting(|worker| {
            let gone = match which {
                None => worker.connection.execute("DELETE FROM data_keys", [])?,
                Some((name, below)) => worker
                    .connection
                    .execute("DELETE FROM data_keys WHERE name = ?1 AND version < ?2", (name, below))?,
            };
            Ok(gone as u64)
        })
    }

    fn count_sealed(&mut self, start: &str) -> Result<(u64, u64), StoreError> {
        let (mut with, mut all) = (0_u64, 0_u64);
        for of in SealedTable::ALL {
            let (name, _) = table(of);
            let sql =
                format!("SELECT coalesce(sum(substr(sealed, 1, length(?1)) = ?1), 0), count(*) FROM {name}");
            let (some, every): (u32, u32) =
                self.connection.query_row(&sql, [start], |row| Ok((row.get(0)?, row.get(1)?)))?;
            with += u64::from(some);
            all += u64::from(every);
        }
        Ok((with, all))
    }

    fn sealed_otherwise(&mut self, start: &str, max: u32) -> Result<Vec<SealedRow>, StoreError> {
        let mut found = Vec::new();
        for of in SealedTable::ALL {
            let (name, columns) = table(of);
            let left = max.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            let sql = format!(
                "SELECT sealed, {} FROM {name} WHERE substr(sealed, 1, length(?1)) <> ?1 LIMIT ?2",
                columns.join(", ")
            );
            let mut statement = self.connection.prepare_cached(&sql)?;
            let rows = statement.query_map((start, left), |row| {
                let bound = (1..=columns.len()).map(|at| row.get(at)).collect::<Result<_, _>>()?;
                Ok(SealedRow { table: of, bound, sealed: row.get(0)? })
            })?;
            for row in rows {
                found.push(row?);
            }
        }
        Ok(found)
    }

    fn reseal(&mut self, before: &SealedRow, sealed: &str) -> Result<bool, StoreError> {
        let (name, columns) = table(before.table);
        let named: Vec<String> =
            columns.iter().enumerate().map(|(at, column)| format!("{column} = ?{}", at + 3)).collect();
        let sql = format!("UPDATE {name} SET sealed = ?1 WHERE sealed = ?2 AND {}", named.join(" AND "));
        let values = [sealed, &before.sealed].into_iter().chain(before.bound.iter().map(String::as_str));
        let done = self.connection.prepare_cached(&sql)?.execute(rusqlite::params_from_iter(values))? == 1;
        if before.table == SealedTable::Subjects {
            self.reload_subjects()?;
        }
        Ok(done)
    }
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<DataKeyRow> {
    Ok(DataKeyRow {
        name: row.get("name")?,
        version: row.get("version")?,
        wrapped: row.get("wrapped")?,
        kek: row.get("kek")?,
        created: timestamp(row.get("created")?),
        from: timestamp(row.get("used_from")?),
    })
}

#[async_trait]
impl DataKeys for Sqlite {
    async fn data_keys(&self) -> Result<Vec<DataKeyRow>, StoreError> {
        self.ask(Worker::data_keys).await
    }

    async fn add_data_keys(&self, rows: Vec<DataKeyRow>) -> Result<bool, StoreError> {
        self.ask(move |worker| worker.add_data_keys(&rows)).await
    }

    async fn rewrap_data_key(
        &self,
        before: DataKeyRow,
        wrapped: String,
        kek: String,
    ) -> Result<bool, StoreError> {
        self.ask(move |worker| worker.rewrap_data_key(&before, &wrapped, &kek)).await
    }

    async fn destroy_data_keys(&self, which: Option<(String, u32)>) -> Result<u64, StoreError> {
        self.ask(move |worker| worker.destroy_data_keys(which)).await
    }

    async fn count_sealed(&self, start: String) -> Result<(u64, u64), StoreError> {
        self.ask(move |worker| worker.count_sealed(&start)).await
    }

    async fn sealed_otherwise(&self, start: String, max: u32) -> Result<Vec<SealedRow>, StoreError> {
        self.ask(move |worker| worker.sealed_otherwise(&start, max)).await
    }

    async fn reseal(&self, before: SealedRow, sealed: String) -> Result<bool, StoreError> {
        self.ask(move |worker| worker.reseal(&before, &sealed)).await
    }
}
