//! What sessions and traces have seen, in SQLite. There is no copy in memory here: a rule about it must hold on the next call,
//! whichever gateway that comes to.

use async_trait::async_trait;
use portcullis_core::{Digest, Label, Labels, Timestamp};
use rusqlite::{OptionalExtension as _, Row, Transaction, TransactionBehavior};

use super::{
    Sqlite, Worker,
    keys::{millis, timestamp},
};
use crate::{SeenLabels, SeenRoom, SeenRow, StoreError};

impl Worker {
    fn seen(&mut self, caller: &str, thread: Digest, since: Timestamp) -> Result<Vec<SeenRow>, StoreError> {
        let sql = "SELECT caller, thread, labels, used FROM seen_labels
                   WHERE used >= ?3 AND ((caller = ?1 AND thread IN (?2, x'')) OR (caller = '' AND thread = x''))";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map((caller, thread.0.as_slice(), millis(since)), row_of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn add_seen(&mut self, row: &SeenRow, room: SeenRoom) -> Result<(), StoreError> {
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        change.prepare_cached("DELETE FROM seen_labels WHERE used < ?1")?.execute([millis(room.since)])?;
        let (caller, thread) = placed(&change, row, room)?;
        let known = "SELECT labels FROM seen_labels WHERE caller = ?1 AND thread = ?2";
        let known: Option<String> =
            change.prepare_cached(known)?.query_row((caller, thread), |row| row.get(0)).optional()?;
        let labels = labels_of(&known.unwrap_or_default()).with(row.labels);
        let put = "INSERT INTO seen_labels (caller, thread, labels, used) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (caller, thread) DO UPDATE
                       SET labels = excluded.labels, used = max(used, excluded.used)";
        let values = (caller, thread, labels.names().join(" "), millis(row.used));
        change.prepare_cached(put)?.execute(values)?;
        Ok(change.commit()?)
    }
}

/// Where a row goes: its own place where there is room for it.
fn placed<'r>(
    change: &Transaction<'_>,
    row: &'r SeenRow,
    room: SeenRoom,
) -> Result<(&'r str, &'r [u8]), StoreError> {
    let count = |sql: &str, values: &[&dyn rusqlite::ToSql]| -> Result<u64, StoreError> {
        let count: i64 = change.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
        Ok(count.unsigned_abs())
    };
    let caller = row.caller.as_str();
    let thread = row.thread.as_ref().map_or(&[][..], |thread| &thread.0[..]);
    if caller.is_empty() {
        return Ok(("", &[]));
    }
    let there = "SELECT count(*) FROM seen_labels WHERE caller = ?1 AND thread = ?2";
    if count(there, &[&caller, &thread])? > 0 {
        return Ok((caller, thread));
    }
    let threads = count("SELECT count(*) FROM seen_labels WHERE caller = ?1", &[&caller])?;
    if threads == 0 && count("SELECT count(DISTINCT caller) FROM seen_labels", &[])? >= room.callers_max {
        return Ok(("", &[]));
    }
    Ok(if threads >= room.threads_max { (caller, &[]) } else { (caller, thread) })
}

fn labels_of(names: &str) -> Labels {
    names.split(' ').filter_map(Label::named).collect()
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<SeenRow> {
    let thread: Vec<u8> = row.get("thread")?;
    Ok(SeenRow {
        caller: row.get("caller")?,
        thread: thread.try_into().ok().map(Digest),
        labels: labels_of(&row.get::<_, String>("labels")?),
        used: timestamp(row.get("used")?),
    })
}

#[async_trait]
impl SeenLabels for Sqlite {
    async fn seen(&self, caller: &str, thread: Digest, since: Timestamp) -> Result<Vec<SeenRow>, StoreError> {
        let caller = caller.to_owned();
        self.ask(move |worker| worker.seen(&caller, thread, since)).await
    }

    async fn add_seen(&self, row: SeenRow, room: SeenRoom) -> Result<(), StoreError> {
        self.ask(move |worker| worker.add_seen(&row, room)).await
    }

    fn end_seen(&self, caller: &str, thread: Digest) {
        let caller = caller.to_owned();
        let ended = self.send(Box::new(move |worker| {
            let sql = "DELETE FROM seen_labels WHERE caller = ?1 AND thread = ?2";
            if let Err(error) = worker.connection.execute(sql, (caller, thread.0.as_slice())) {
                tracing::warn!(%error, "what an ended session has seen is remembered until it is idle for long");
            }
        }));
        if let Err(error) = ended {
            tracing::warn!(%error, "what an ended session has seen is remembered until it is idle for long");
        }
    }
}
