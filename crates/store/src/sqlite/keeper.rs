//! The last signed checkpoint of the ledger, kept where an older copy of the ledger's directory does not bring its
//! own along.

use rusqlite::OptionalExtension as _;

use crate::{CheckpointKeeper, KeeperError, Sqlite};

impl CheckpointKeeper for Sqlite {
    fn save(&self, note: &str) -> Result<(), KeeperError> {
        let origin = note.lines().next().unwrap_or_default().to_owned();
        let note = note.to_owned();
        let saved = self.ask_blocking(move |worker| {
            let sql = "INSERT INTO checkpoints (origin, note) VALUES (?1, ?2)
                       ON CONFLICT (origin) DO UPDATE SET note = excluded.note";
            worker.connection.prepare_cached(sql)?.execute((origin, note))?;
            Ok(())
        });
        saved.map_err(|error| KeeperError(error.to_string()))
    }

    fn load(&self, origin: &str) -> Result<Option<String>, KeeperError> {
        let origin = origin.to_owned();
        let loaded = self.ask_blocking(move |worker| {
            let sql = "SELECT note FROM checkpoints WHERE origin = ?1";
            let mut statement = worker.connection.prepare_cached(sql)?;
            Ok(statement.query_row([origin], |row| row.get(0)).optional()?)
        });
        loaded.map_err(|error| KeeperError(error.to_string()))
    }
}
