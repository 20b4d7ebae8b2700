//! The embedded store: one SQLite file, one connection on one thread. SQLite has one writer in any case; a thread
//! of its own keeps its waits for the disk out of the async runtime and its transactions in one order.

mod error;
mod keys;
mod migrate;
mod revisions;

use std::{
    fmt,
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use portcullis_core::{Digest, Timestamp};
use rusqlite::{Connection, OptionalExtension as _};
use tokio::sync::{oneshot, watch};

use crate::{
    Batch, Head, KeyRow, Keys, NewKey, Revision, RevisionMeta, Revisions, StoreError, sqlite::keys::KeyIndex,
};

/// Requests that wait for the thread at most; beyond, callers get [`StoreError::Busy`].
const QUEUE_MAX: usize = 1_024;
/// Time SQLite waits for another process to release the file.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How often an idle store looks whether another process changed the file.
const FOREIGN_CHANGE_EVERY: Duration = Duration::from_millis(250);

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// The embedded store.
pub struct Sqlite {
    /// `None` only while dropping.
    jobs: Option<SyncSender<Job>>,
    keys: Arc<KeyIndex>,
    changed: watch::Sender<u64>,
    thread: Option<JoinHandle<()>>,
}

/// What lives on the thread.
struct Worker {
    connection: Connection,
    keys: Arc<KeyIndex>,
    changed: watch::Sender<u64>,
    /// SQLite's counter of commits by others.
    data_version: i64,
}

impl Sqlite {
    /// Opens the file, creates it where it is missing (mode 0600), checks that it is whole and ours, and brings
    /// its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Newer`] for a file of a later version, [`StoreError::Corrupt`] for a damaged one,
    /// [`StoreError::NotOurs`] for somebody else's; otherwise what SQLite or the system reports.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let connection = open(path.as_ref())?;
        let keys = Arc::new(KeyIndex::default());
        let changed = watch::Sender::new(0);
        let mut worker =
            Worker { connection, keys: Arc::clone(&keys), changed: changed.clone(), data_version: 0 };
        worker.data_version = worker.read_data_version()?;
        worker.reload_keys()?;
        let (jobs, queue) = sync_channel(QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || worker.run(&queue))
            .map_err(|error| StoreError::Io(error.to_string()))?;
        Ok(Self { jobs: Some(jobs), keys, changed, thread: Some(thread) })
    }

    fn send(&self, job: Job) -> Result<(), StoreError> {
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy(QUEUE_MAX),
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    /// Runs `work` on the thread and waits for its answer. Work that was sent is done even if nobody waits.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(move |worker| {
            // Nobody waits any more: the work is done all the same.
            let _gone = reply.send(work(worker));
        }))?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// As `ask`, for threads that may block.
    fn ask_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = sync_channel(1);
        self.send(Box::new(move |worker| {
            let _gone = reply.send(work(worker));
        }))?;
        answer.recv().map_err(|_| StoreError::Closed)?
    }

    /// Keeps `note` as the last signed checkpoint of the ledger; it is on disk when this returns. Blocks.
    pub(crate) fn save_checkpoint(&self, note: &str) -> Result<(), StoreError> {
        let note = note.to_owned();
        self.ask_blocking(move |worker| {
            let sql = "INSERT INTO checkpoint (only, note) VALUES (1, ?1)
                       ON CONFLICT (only) DO UPDATE SET note = excluded.note";
            worker.connection.prepare_cached(sql)?.execute([note])?;
            Ok(())
        })
    }

    /// The last signed checkpoint of the ledger. Blocks.
    pub(crate) fn load_checkpoint(&self) -> Result<Option<String>, StoreError> {
        self.ask_blocking(|worker| {
            let sql = "SELECT note FROM checkpoint";
            Ok(worker.connection.query_row(sql, [], |row| row.get(0)).optional()?)
        })
    }
}

impl Worker {
    fn run(mut self, queue: &Receiver<Job>) {
        loop {
            match queue.recv_timeout(FOREIGN_CHANGE_EVERY) {
                Ok(job) => job(&mut self),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Err(error) = self.notice_foreign_changes() {
                tracing::warn!(%error, "cannot see whether the database was changed by another process");
            }
        }
    }

    /// Another connection committed: what memory holds may be old.
    fn notice_foreign_changes(&mut self) -> Result<(), StoreError> {
        let version = self.read_data_version()?;
        if version != self.data_version {
            self.reload_keys()?;
            // After the reload: a reload that failed is tried again.
            self.data_version = version;
            self.bump();
        }
        Ok(())
    }

    fn read_data_version(&self) -> Result<i64, StoreError> {
        Ok(self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?)
    }

    fn bump(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Finishes what was sent and closes the file in order.
impl Drop for Sqlite {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").finish_non_exhaustive()
    }
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    // SQLite would create it readable by others, and gives its -wal and -shm files the mode of this one.
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| StoreError::Io(format!("`{}`: {error}", path.display())))?;
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(LOCK_WAIT)?;
    migrate::check_ours(&connection)?;
    let damage: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if damage != "ok" {
        return Err(StoreError::Corrupt(damage));
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: a commit that was acknowledged survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    migrate::migrate(&mut connection)?;
    Ok(connection)
}

#[async_trait]
impl Keys for Sqlite {
    async fn create(&self, key: NewKey) -> Result<Arc<KeyRow>, StoreError> {
        self.ask(move |worker| worker.create_key(key)).await
    }

    async fn list(&self) -> Result<Vec<Arc<KeyRow>>, StoreError> {
        Ok(self.keys.list())
    }

    async fn revoke(&self, id: &str, by: &str, at: Timestamp) -> Result<bool, StoreError> {
        let (id, by) = (id.to_owned(), by.to_owned());
        self.ask(move |worker| worker.revoke_key(&id, &by, at)).await
    }

    fn find(&self, id: &str) -> Option<Arc<KeyRow>> {
        self.keys.find(id)
    }
}

#[async_trait]
impl Revisions for Sqlite {
    async fn apply(&self, batch: Batch) -> Result<bool, StoreError> {
        self.ask(move |worker| worker.apply(&batch)).await
    }

    async fn get(&self, kind: &str, name: &str, digest: Digest) -> Result<Option<Revision>, StoreError> {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        self.ask(move |worker| worker.get(&kind, &name, digest)).await
    }

    async fn heads(&self, kind: &str) -> Result<Vec<Head>, StoreError> {
        let kind = kind.to_owned();
        self.ask(move |worker| worker.heads(&kind)).await
    }

    async fn heads_with_bodies(&self, kind: &str) -> Result<Vec<(Head, Revision)>, StoreError> {
        let kind = kind.to_owned();
        self.ask(move |worker| worker.heads_with_bodies(&kind)).await
    }

    async fn head(&self, kind: &str, name: &str, slot: &str) -> Result<Option<Head>, StoreError> {
        let (kind, name, slot) = (kind.to_owned(), name.to_owned(), slot.to_owned());
        self.ask(move |worker| worker.head(&kind, &name, &slot)).await
    }

    async fn history(&self, kind: &str, name: &str) -> Result<Vec<RevisionMeta>, StoreError> {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        self.ask(move |worker| worker.history(&kind, &name)).await
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
