//! Versions and heads in SQLite.

use portcullis_core::Digest;
use rusqlite::{OptionalExtension as _, Row, Transaction, TransactionBehavior};

use crate::{
    BODY_BYTES_MAX, Batch, Head, Move, NewRevision, Revision, RevisionMeta, StoreError,
    sqlite::{
        Worker,
        keys::{millis, timestamp},
    },
};

impl Worker {
    pub(super) fn apply(&mut self, batch: &Batch) -> Result<bool, StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Dropping the transaction undoes it, on every early return below.
        for revision in &batch.puts {
            put(&transaction, revision)?;
        }
        for change in &batch.moves {
            if !move_head(&transaction, change)? {
                return Ok(false);
            }
        }
        transaction.commit()?;
        self.bump();
        Ok(true)
    }

    pub(super) fn get(&self, kind: &str, name: &str, digest: Digest) -> Result<Option<Revision>, StoreError> {
        let sql = "SELECT sequence, kind, name, digest, parent, author, reason, at, body
                   FROM revisions WHERE kind = ?1 AND name = ?2 AND digest = ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row((kind, name, digest.0.as_slice()), revision_of).optional()?)
    }

    pub(super) fn heads(&self, kind: &str) -> Result<Vec<Head>, StoreError> {
        let sql = "SELECT kind, name, slot, digest, moved_at, moved_by FROM heads WHERE kind = ?1
                   ORDER BY name, slot";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([kind], head_of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn heads_with_bodies(&self, kind: &str) -> Result<Vec<(Head, Revision)>, StoreError> {
        let sql = "SELECT kind, name, slot, digest, moved_at, moved_by,
                          sequence, parent, author, reason, at, body
                   FROM heads JOIN revisions USING (kind, name, digest) WHERE kind = ?1 ORDER BY name, slot";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([kind], |row| Ok((head_of(row)?, revision_of(row)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn head(&self, kind: &str, name: &str, slot: &str) -> Result<Option<Head>, StoreError> {
        let sql = "SELECT kind, name, slot, digest, moved_at, moved_by FROM heads
                   WHERE kind = ?1 AND name = ?2 AND slot = ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row((kind, name, slot), head_of).optional()?)
    }

    pub(super) fn history(&self, kind: &str, name: &str) -> Result<Vec<RevisionMeta>, StoreError> {
        let sql = "SELECT sequence, kind, name, digest, parent, author, reason, at FROM revisions
                   WHERE kind = ?1 AND name = ?2 ORDER BY sequence";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([kind, name], meta_of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Worker {
    /// No count of changes: whatever is in force is as before.
    pub(super) fn forget(&mut self, kind: &str, prefix: &str, keep: u64) -> Result<usize, StoreError> {
        // By the bytes of a name, so that the index finds where they begin.
        let sql = "DELETE FROM revisions WHERE sequence IN (
                       SELECT sequence FROM revisions AS old
                       WHERE kind = ?1 AND name >= ?2 AND substr(name, 1, length(?2)) = ?2
                         AND NOT EXISTS (SELECT 1 FROM heads
                             WHERE kind = old.kind AND name = old.name AND digest = old.digest)
                         AND NOT EXISTS (SELECT 1 FROM judged
                             WHERE kind = old.kind AND name = old.name AND digest = old.digest)
                       ORDER BY sequence DESC LIMIT -1 OFFSET ?3)";
        let keep = i64::try_from(keep).unwrap_or(i64::MAX);
        Ok(self.connection.prepare_cached(sql)?.execute((kind, prefix, keep))?)
    }
}

fn put(transaction: &Transaction<'_>, revision: &NewRevision) -> Result<(), StoreError> {
    let NewRevision { kind, name, body, digest, parent, author, reason, at } = revision;
    if body.len() > BODY_BYTES_MAX {
        return Err(StoreError::TooLarge { size: body.len(), limit: BODY_BYTES_MAX });
    }
    let sql = "SELECT body = ?4 FROM revisions WHERE kind = ?1 AND name = ?2 AND digest = ?3";
    let same: Option<bool> = transaction
        .prepare_cached(sql)?
        .query_row((kind, name, digest.0.as_slice(), body), |row| row.get(0))
        .optional()?;
    match same {
        Some(true) => return Ok(()),
        Some(false) => return Err(StoreError::Conflict { name: name.clone(), digest: *digest }),
        None => {}
    }
    let sql = "INSERT INTO revisions (kind, name, digest, parent, author, reason, at, body)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let parent = parent.as_ref().map(|parent| parent.0.as_slice());
    transaction.prepare_cached(sql)?.execute((
        kind,
        name,
        digest.0.as_slice(),
        parent,
        author,
        reason,
        millis(*at),
        body,
    ))?;
    Ok(())
}

/// False when the head is not where the mover believed.
fn move_head(transaction: &Transaction<'_>, change: &Move) -> Result<bool, StoreError> {
    let Move { kind, name, slot, expect, to, by, at } = change;
    let sql = "SELECT digest FROM heads WHERE kind = ?1 AND name = ?2 AND slot = ?3";
    let found: Option<[u8; 32]> =
        transaction.prepare_cached(sql)?.query_row((kind, name, slot), |row| row.get(0)).optional()?;
    if found != expect.map(|digest| digest.0) {
        return Ok(false);
    }
    let Some(to) = to else {
        let sql = "DELETE FROM heads WHERE kind = ?1 AND name = ?2 AND slot = ?3";
        transaction.prepare_cached(sql)?.execute((kind, name, slot))?;
        return Ok(true);
    };
    let sql = "SELECT 1 FROM revisions WHERE kind = ?1 AND name = ?2 AND digest = ?3";
    if !transaction.prepare_cached(sql)?.exists((kind, name, to.0.as_slice()))? {
        return Err(StoreError::Missing);
    }
    let sql =
        "INSERT INTO heads (kind, name, slot, digest, moved_at, moved_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
               ON CONFLICT (kind, name, slot) DO UPDATE
               SET digest = excluded.digest, moved_at = excluded.moved_at, moved_by = excluded.moved_by";
    transaction.prepare_cached(sql)?.execute((kind, name, slot, to.0.as_slice(), millis(*at), by))?;
    Ok(true)
}

fn head_of(row: &Row<'_>) -> rusqlite::Result<Head> {
    Ok(Head {
        kind: row.get("kind")?,
        name: row.get("name")?,
        slot: row.get("slot")?,
        digest: Digest(row.get("digest")?),
        moved_at: timestamp(row.get("moved_at")?),
        moved_by: row.get("moved_by")?,
    })
}

fn meta_of(row: &Row<'_>) -> rusqlite::Result<RevisionMeta> {
    Ok(RevisionMeta {
        sequence: row.get::<_, i64>("sequence")?.unsigned_abs(),
        kind: row.get("kind")?,
        name: row.get("name")?,
        digest: Digest(row.get("digest")?),
        parent: row.get::<_, Option<[u8; 32]>>("parent")?.map(Digest),
        author: row.get("author")?,
        reason: row.get("reason")?,
        at: timestamp(row.get("at")?),
    })
}

fn revision_of(row: &Row<'_>) -> rusqlite::Result<Revision> {
    Ok(Revision { meta: meta_of(row)?, body: row.get("body")? })
}
