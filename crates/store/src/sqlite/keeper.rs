//! The last signed checkpoint of the ledger, kept where an older copy of the ledger's directory does not bring its
//! own along.

use rusqlite::OptionalExtension as _;

use crate::{CheckpointKeeper, KeeperError, Sqlite};

impl CheckpointKeeper for Sqlite {
    fn save(&self, note: &str) -> Result<(), KeeperError> {
        let note = note.to_owned();
        let saved = self.ask_blocking(move |worker| {
            let sql = "INSERT INTO checkpoint (only, note) VALUES (1, ?1)
                       ON CONFLICT (only) DO UPDATE SET note = excluded.note";
            worker.connection.prepare_cached(sql)?.execute([note])?;
            Ok(())
        });
        saved.map_err(|error| KeeperError(error.to_string()))
    }

    fn load(&self) -> Result<Option<String>, KeeperError> {
        let loaded = self.ask_blocking(|worker| {
            let mut statement = worker.connection.prepare_cached("SELECT note FROM checkpoint")?;
            Ok(statement.query_row([], |row| row.get(0)).optional()?)
        });
        loaded.map_err(|error| KeeperError(error.to_string()))
    }
}
