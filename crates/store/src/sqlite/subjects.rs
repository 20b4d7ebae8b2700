//! Keys of people in SQLite, and the copy in memory that calls look into.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use portcullis_core::{Digest, Timestamp};
use rusqlite::Row;

use super::{
    Sqlite, Worker,
    keys::{millis, timestamp},
};
use crate::{Erased, StoreError, SubjectRow, Subjects};

/// Keys by name, and their names by person.
#[derive(Default)]
struct Held {
    keys: HashMap<i64, Arc<SubjectRow>>,
    people: HashMap<Digest, Vec<i64>>,
    ends: BTreeSet<(Timestamp, i64)>,
}

impl Held {
    fn put(&mut self, row: SubjectRow) {
        if self.keys.contains_key(&row.id) {
            return;
        }
        self.ends.insert((row.expires, row.id));
        self.people.entry(row.subject).or_default().push(row.id);
        self.keys.insert(row.id, Arc::new(row));
    }

    fn forget(&mut self, id: i64) {
        let Some(row) = self.keys.remove(&id) else { return };
        self.ends.remove(&(row.expires, id));
        if let Some(ids) = self.people.get_mut(&row.subject) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.people.remove(&row.subject);
            }
        }
    }

    fn forget_ended(&mut self, now: Timestamp) {
        while let Some((ends, id)) = self.ends.first().copied().filter(|(ends, _)| *ends <= now) {
            self.forget(id);
            self.ends.remove(&(ends, id));
        }
    }
}

/// The keys in memory, as they are kept: sealed.
#[derive(Default)]
pub(super) struct SubjectIndex(RwLock<Held>);

impl SubjectIndex {
    fn read<T>(&self, look: impl FnOnce(&Held) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

const COLUMNS: &str = "id, subject, sealed, created, expires";

impl Worker {
    pub(super) fn reload_subjects(&mut self) -> Result<(), StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM subject_keys ORDER BY created, id");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut held = Held::default();
        for row in statement.query_map([], row_of)? {
            held.put(row?);
        }
        self.subjects.write(|before| *before = held);
        Ok(())
    }

    fn keep_key(&mut self, row: &SubjectRow) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("DELETE FROM subject_keys WHERE expires <= ?1")?
            .execute([millis(row.created)])?;
        let sql = format!("INSERT OR IGNORE INTO subject_keys ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5)");
        let values =
            (row.id, row.subject.0.as_slice(), &row.sealed, millis(row.created), millis(row.expires));
        self.connection.prepare_cached(&sql)?.execute(values)?;
        // What another process changed meanwhile may have been read without it.
        self.subjects.write(|held| held.put(row.clone()));
        Ok(())
    }

    fn keys_of(&mut self, subject: Digest) -> Result<Vec<SubjectRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM subject_keys WHERE subject = ?1 ORDER BY created, id");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([subject.0.as_slice()], row_of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn erase(&mut self, subject: Digest, caller: &str) -> Result<Erased, StoreError> {
        // What is deleted is overwritten, in the file and in what was written ahead of it.
        self.connection.pragma_update(None, "secure_delete", true)?;
        let erased = self.erase_rows(subject, caller);
        let restored = self.connection.pragma_update(None, "secure_delete", false);
        let erased = erased?;
        restored?;
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.reload_subjects()?;
        self.reload_grants()?;
        self.bump();
        Ok(erased)
    }

    fn erase_rows(&mut self, subject: Digest, caller: &str) -> Result<Erased, StoreError> {
        let transaction = self.connection.transaction()?;
        let keys =
            transaction.execute("DELETE FROM subject_keys WHERE subject = ?1", [subject.0.as_slice()])?;
        let grants = transaction.execute("DELETE FROM grants WHERE caller = ?1", [caller])?;
        let approvals = transaction.execute("DELETE FROM approvals WHERE caller = ?1", [caller])?;
        // A count that callers share is not a person's.
        let quota_counts = transaction.execute("DELETE FROM quota_counts WHERE sharer = ?1", [caller])?;
        transaction.commit()?;
        let count = |rows: usize| rows as u64;
        Ok(Erased {
            keys: count(keys),
            grants: count(grants),
            approvals: count(approvals),
            quota_counts: count(quota_counts),
        })
    }
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<SubjectRow> {
    Ok(SubjectRow {
        id: row.get("id")?,
        subject: Digest(row.get("subject")?),
        sealed: row.get("sealed")?,
        created: timestamp(row.get("created")?),
        expires: timestamp(row.get("expires")?),
    })
}

#[async_trait]
impl Subjects for Sqlite {
    fn subject_key(&self, id: i64, now: Timestamp) -> Option<Arc<SubjectRow>> {
        self.subjects.read(|held| held.keys.get(&id).filter(|row| row.expires > now).cloned())
    }

    fn newest_key(&self, subject: Digest, now: Timestamp) -> Option<Arc<SubjectRow>> {
        self.subjects.read(|held| {
            let rows = held.people.get(&subject)?.iter().filter_map(|id| held.keys.get(id));
            rows.filter(|row| row.expires > now).max_by_key(|row| (row.created, row.id)).cloned()
        })
    }

    fn make_key(&self, row: SubjectRow, max: u64) -> bool {
        let room = self.subjects.write(|held| {
            held.forget_ended(row.created);
            let room = (held.keys.len() as u64) < max;
            if room {
                held.put(row.clone());
            }
            room
        });
        let id = row.id;
        let kept = room
            && self
                .send(Box::new(move |worker| {
                    if let Err(error) = worker.keep_key(&row) {
                        tracing::error!(%error, "the key of a token could not be kept: after a restart it opens nothing");
                    }
                }))
                .is_ok();
        if room && !kept {
            self.subjects.write(|held| held.forget(id));
        }
        kept
    }

    async fn subject_keys(&self, subject: Digest) -> Result<Vec<SubjectRow>, StoreError> {
        self.ask(move |worker| worker.keys_of(subject)).await
    }

    async fn erase(&self, subject: Digest, caller: &str) -> Result<Erased, StoreError> {
        let caller = caller.to_owned();
        self.ask(move |worker| worker.erase(subject, &caller)).await
    }
}
