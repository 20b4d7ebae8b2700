//! Places of sinks in SQLite.

use async_trait::async_trait;
use rusqlite::OptionalExtension as _;

use super::Sqlite;
use crate::{SinkPlaces, StoreError};

#[async_trait]
impl SinkPlaces for Sqlite {
    async fn sink_place(&self, log: &str, sink: &str) -> Result<Option<u64>, StoreError> {
        let names = (log.to_owned(), sink.to_owned());
        let place = self.ask(move |worker| {
            let sql = "SELECT next FROM sink_places WHERE log = ?1 AND sink = ?2";
            let place = worker.connection.prepare_cached(sql)?.query_row(names, |row| row.get::<_, i64>(0));
            Ok(place.optional()?)
        });
        Ok(place.await?.map(|next| u64::try_from(next).unwrap_or(0)))
    }

    async fn keep_sink_place(&self, log: &str, sink: &str, next: u64) -> Result<(), StoreError> {
        let values = (log.to_owned(), sink.to_owned(), i64::try_from(next).unwrap_or(i64::MAX));
        self.ask(move |worker| {
            let sql = "INSERT INTO sink_places (log, sink, next) VALUES (?1, ?2, ?3)
                       ON CONFLICT (log, sink) DO UPDATE SET next = excluded.next";
            worker.connection.prepare_cached(sql)?.execute(values)?;
            Ok(())
        })
        .await
    }
}
