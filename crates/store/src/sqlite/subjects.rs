//! Keys of people in SQLite, and the copy in memory that calls look into.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
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
    people: HashMap<(Option<Digest>, Digest), Vec<i64>>,
    scopes: HashMap<Digest, Vec<i64>>,
    ends: BTreeSet<(Timestamp, i64)>,
}

impl Held {
    fn put(&mut self, row: SubjectRow) {
        if self.keys.contains_key(&row.id) {
            return;
        }
        self.ends.insert((row.expires, row.id));
        self.people.entry((row.scope, row.subject)).or_default().push(row.id);
        if let Some(scope) = row.scope {
            self.scopes.entry(scope).or_default().push(row.id);
        }
        self.keys.insert(row.id, Arc::new(row));
    }

    fn forget(&mut self, id: i64) {
        let Some(row) = self.keys.remove(&id) else { return };
        self.ends.remove(&(row.expires, id));
        leave(&mut self.people, &(row.scope, row.subject), id);
        if let Some(scope) = &row.scope {
            leave(&mut self.scopes, scope, id);
        }
    }

    /// Forgets the keys of a scope; false where there were none.
    fn end(&mut self, scope: Digest) -> bool {
        let ids = self.scopes.get(&scope).cloned().unwrap_or_default();
        ids.iter().for_each(|id| self.forget(*id));
        !ids.is_empty()
    }

    /// The keys of a scope that are to end at another time than they do.
    fn prolonged(&self, scope: Digest, now: Timestamp, expires: Timestamp, total_ms: u64) -> Vec<SubjectRow> {
        let rows = self.scopes.get(&scope).into_iter().flatten().filter_map(|id| self.keys.get(id));
        let later = |row: &Arc<SubjectRow>| {
            let expires = expires.min(row.created.plus_ms(total_ms));
            // Not each time: an eighth of what is left is given away where it is not used for so long.
            let step = expires.0.saturating_sub(now.0) / 8;
            let worth = row.expires > now && row.expires.0 + step < expires.0;
            worth.then(|| SubjectRow { expires, ..SubjectRow::clone(row) })
        };
        rows.filter_map(later).collect()
    }

    fn forget_ended(&mut self, now: Timestamp) {
        while let Some((ends, id)) = self.ends.first().copied().filter(|(ends, _)| *ends <= now) {
            self.forget(id);
            self.ends.remove(&(ends, id));
        }
    }
}

fn leave<K: Eq + Hash>(groups: &mut HashMap<K, Vec<i64>>, key: &K, id: i64) {
    let Some(ids) = groups.get_mut(key) else { return };
    ids.retain(|other| *other != id);
    if ids.is_empty() {
        groups.remove(key);
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

const COLUMNS: &str = "id, subject, scope, sealed, created, expires";

impl Worker {
    pub(super) fn reload_subjects(&mut self) -> Result<(), StoreError> {
        // What changes while they are read is read again.
        let changed = self.count_changes("subject_keys")?;
        let sql = format!("SELECT {COLUMNS} FROM subject_keys ORDER BY created, id");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut held = Held::default();
        for row in statement.query_map([], row_of)? {
            held.put(row?);
        }
        self.subjects.write(|before| *before = held);
        self.subjects_changed = changed;
        Ok(())
    }

    fn keep_key(&mut self, row: &SubjectRow) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("DELETE FROM subject_keys WHERE expires <= ?1")?
            .execute([millis(row.created)])?;
        let sql = format!("INSERT OR IGNORE INTO subject_keys ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
        let scope = row.scope.map(|scope| scope.0.to_vec());
        let (created, expires) = (millis(row.created), millis(row.expires));
        let values = (row.id, row.subject.0.as_slice(), scope, &row.sealed, created, expires);
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

    fn prolong(&mut self, rows: &[SubjectRow]) -> Result<(), StoreError> {
        let change = self.connection.transaction()?;
        for row in rows {
            change
                .prepare_cached("UPDATE subject_keys SET expires = ?2 WHERE id = ?1")?
                .execute((row.id, millis(row.expires)))?;
        }
        Ok(change.commit()?)
    }

    fn end_scope(&mut self, scope: Digest) -> Result<(), StoreError> {
        self.overwriting(|worker| {
            let sql = "DELETE FROM subject_keys WHERE scope = ?1";
            worker.connection.prepare_cached(sql)?.execute([scope.0.as_slice()])?;
            Ok(())
        })?;
        // A key that was made just before is in memory again once it is in the file.
        self.subjects.write(|held| held.end(scope));
        Ok(())
    }

    fn erase(&mut self, subject: Digest, caller: &str, approvals: &[String]) -> Result<Erased, StoreError> {
        let erased = self.overwriting(|worker| worker.erase_rows(subject, caller, approvals))?;
        self.reload_subjects()?;
        self.reload_grants()?;
        self.bump();
        Ok(erased)
    }

    fn erase_rows(&mut self, subject: Digest, caller: &str, named: &[String]) -> Result<Erased, StoreError> {
        let transaction = self.connection.transaction()?;
        let keys =
            transaction.execute("DELETE FROM subject_keys WHERE subject = ?1", [subject.0.as_slice()])?;
        let grants = transaction.execute("DELETE FROM grants WHERE caller = ?1", [caller])?;
        let mut approvals = transaction.execute("DELETE FROM approvals WHERE caller = ?1", [caller])?;
        for id in named {
            approvals += transaction.execute("DELETE FROM approvals WHERE id = ?1", [id])?;
        }
        transaction.execute("DELETE FROM seen_labels WHERE caller = ?1 AND caller != ''", [caller])?;
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
        scope: row.get::<_, Option<[u8; 32]>>("scope")?.map(Digest),
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

    fn newest_key(&self, scope: Option<Digest>, subject: Digest, now: Timestamp) -> Option<Arc<SubjectRow>> {
        self.subjects.read(|held| {
            let rows = held.people.get(&(scope, subject))?.iter().filter_map(|id| held.keys.get(id));
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

    fn prolong_keys(&self, scope: Digest, now: Timestamp, expires: Timestamp, total_ms: u64) {
        let rows = self.subjects.read(|held| held.prolonged(scope, now, expires, total_ms));
        if rows.is_empty() {
            return;
        }
        self.subjects.write(|held| {
            for row in &rows {
                // Unless it was ended in between.
                if held.keys.contains_key(&row.id) {
                    held.forget(row.id);
                    held.put(row.clone());
                }
            }
        });
        let kept = self.send(Box::new(move |worker| {
            if let Err(error) = worker.prolong(&rows) {
                tracing::error!(%error, "keys of tokens end earlier than their session");
            }
        }));
        if let Err(error) = kept {
            tracing::error!(%error, "keys of tokens end earlier than their session");
        }
    }

    fn end_keys(&self, scope: Digest) {
        let known = self.subjects.write(|held| held.end(scope));
        let ended = known.then(|| {
            self.send(Box::new(move |worker| {
                if let Err(error) = worker.end_scope(scope) {
                    tracing::error!(%error, "keys of an ended session are still in the file until their time is over");
                }
            }))
        });
        if let Some(Err(error)) = ended {
            tracing::error!(%error, "keys of an ended session are still in the file until their time is over");
        }
    }

    async fn subject_keys(&self, subject: Digest) -> Result<Vec<SubjectRow>, StoreError> {
        self.ask(move |worker| worker.keys_of(subject)).await
    }

    async fn erase(
        &self,
        subject: Digest,
        caller: &str,
        approvals: Vec<String>,
    ) -> Result<Erased, StoreError> {
        let caller = caller.to_owned();
        self.ask(move |worker| worker.erase(subject, &caller, &approvals)).await
    }
}
