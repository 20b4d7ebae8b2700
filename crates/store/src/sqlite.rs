//! The embedded store: one SQLite file, one connection on one thread. SQLite has one writer in any case; a thread
//! of its own keeps its waits for the disk out of the async runtime and its transactions in one order.

mod approvals;
mod connections;
mod data_keys;
mod error;
mod grants;
mod keeper;
mod keys;
mod migrate;
mod revisions;
mod seen;
mod sinks;
mod subjects;

use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use portcullis_core::{Digest, Timestamp};
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::{
    Batch, Head, KeyRow, Keys, NewKey, Revision, RevisionMeta, Revisions, StoreError,
    sqlite::{grants::GrantIndex, keys::KeyIndex, subjects::SubjectIndex},
};

/// Requests that wait for the thread at most; beyond, callers get [`StoreError::Busy`].
const QUEUE_MAX: usize = 1_024;
/// Time SQLite waits for another process to release the file.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How often the turn to make the file ready is asked for.
const LOCK_RETRY: Duration = Duration::from_millis(5);
/// How often an idle store looks whether another process changed the file.
const FOREIGN_CHANGE_EVERY: Duration = Duration::from_millis(250);
type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// The embedded store.
pub struct Sqlite {
    /// `None` only while dropping.
    jobs: Option<SyncSender<Job>>,
    keys: Arc<KeyIndex>,
    grants: Arc<GrantIndex>,
    subjects: Arc<SubjectIndex>,
    changed: watch::Sender<u64>,
    thread: Option<JoinHandle<()>>,
}

/// What lives on the thread.
struct Worker {
    connection: Connection,
    /// Closed after the connection, see [`open`].
    _file: File,
    keys: Arc<KeyIndex>,
    grants: Arc<GrantIndex>,
    subjects: Arc<SubjectIndex>,
    changed: watch::Sender<u64>,
    /// SQLite's counter of commits by others.
    data_version: i64,
    /// How often the keys of people had changed when they were read.
    subjects_changed: i64,
}

impl Sqlite {
    /// Opens the file, creates it where it is missing (mode 0600), checks that it is whole and ours, and brings
    /// its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Newer`] for a file of a later version, [`StoreError::Corrupt`] for a damaged one,
    /// [`StoreError::NotOurs`] for somebody else's; otherwise what SQLite or the system reports.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let (connection, file) = open(path.as_ref())?;
        let (keys, grants) = (Arc::new(KeyIndex::default()), Arc::new(GrantIndex::default()));
        let subjects = Arc::new(SubjectIndex::default());
        let changed = watch::Sender::new(0);
        let mut worker = Worker {
            connection,
            _file: file,
            keys: Arc::clone(&keys),
            grants: Arc::clone(&grants),
            subjects: Arc::clone(&subjects),
            changed: changed.clone(),
            data_version: 0,
            subjects_changed: -1,
        };
        worker.data_version = worker.read_data_version()?;
        worker.reload_keys()?;
        worker.reload_grants()?;
        worker.reload_subjects()?;
        let (jobs, queue) = sync_channel(QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || worker.run(&queue))
            .map_err(|error| StoreError::Io(error.to_string()))?;
        Ok(Self { jobs: Some(jobs), keys, grants, subjects, changed, thread: Some(thread) })
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
            self.reload_grants()?;
            // They are many: what else changed must not cost reading them all.
            if self.count_changes("subject_keys")? != self.subjects_changed {
                self.reload_subjects()?;
            }
            // After the reload: a reload that failed is tried again.
            self.data_version = version;
            self.bump();
        }
        Ok(())
    }

    fn count_changes(&self, what: &str) -> Result<i64, StoreError> {
        let sql = "SELECT count FROM changes WHERE what = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([what], |row| row.get(0))?)
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

/// Makes a database where there is none: without a flush beside its place, then whole and durable into it at once,
/// which costs two flushes where eight would be needed in place. What fails here is tried again in place, and says why.
fn make(path: &Path) -> Option<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".new-{}", std::process::id()));
    let beside = Path::new(&beside);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside).ok()?;
    let filled = fill(beside).ok().and_then(|()| file.sync_all().ok());
    // Closing it would give up the locks that a connection of ours has on the same file.
    drop(file);
    // Unlike a renamed one, a linked file never takes the place of what another process made meanwhile.
    let linked = filled.and_then(|()| std::fs::hard_link(beside, path).ok());
    let _gone = std::fs::remove_file(beside);
    linked?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).ok()?.sync_all().ok()
}

fn fill(path: &Path) -> Result<(), StoreError> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "journal_mode", "MEMORY")?;
    migrate::migrate(&mut connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.close().map_err(|(_, error)| error.into())
}

/// The connection, and the file held open beside it: to close it would give up SQLite's locks (`fcntl` locks go with
/// the first descriptor of the process that is closed).
fn open(path: &Path) -> Result<(Connection, File), StoreError> {
    if !path.exists() {
        make(path);
    }
    // SQLite would create it readable by others, and gives its -wal and -shm files the mode of this one.
    let unusable = |error: std::io::Error| StoreError::Io(format!("`{}`: {error}", path.display()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(unusable)?;
    lock(&file, path)?;
    // SQLite takes a stump for an empty database and would start anew: keys, pins and checkpoint gone without a word.
    let mut header = [0; 18];
    let bytes = file.metadata().map_err(unusable)?.len();
    let whole = bytes == 0 || { file.read_exact_at(&mut header, 0).is_ok() && bytes >= page_bytes(&header) };
    if !whole {
        return Err(StoreError::Corrupt(format!("the file has only {bytes} bytes")));
    }
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
    file.unlock().map_err(unusable)?;
    Ok((connection, file))
}

/// Waits its turn to make the file ready. SQLite's own wait does not cover the change to a write-ahead log, and its
/// locks (`fcntl`) are others than this one (`flock`).
fn lock(file: &File, path: &Path) -> Result<(), StoreError> {
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked),
            Err(TryLockError::Error(error)) => {
                return Err(StoreError::Io(format!("`{}`: {error}", path.display())));
            }
        }
    }
}

/// The page size that a database's header states (file format, section 1.3.2).
fn page_bytes(header: &[u8; 18]) -> u64 {
    let [.., high, low] = *header;
    match u16::from_be_bytes([high, low]) {
        1 => 65_536,
        size => u64::from(size).max(512),
    }
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

    async fn forget(&self, kind: &str, prefix: &str, keep: u64) -> Result<usize, StoreError> {
        let (kind, prefix) = (kind.to_owned(), prefix.to_owned());
        self.ask(move |worker| worker.forget(&kind, &prefix, keep)).await
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use portcullis_core::{Digest, Timestamp};

    use super::{QUEUE_MAX, Sqlite};
    use crate::{NewRevision, Revisions as _, StoreError};

    fn revision(name: &str, bytes: usize) -> NewRevision {
        let body = vec![7; bytes];
        NewRevision {
            kind: "definition".into(),
            name: name.into(),
            digest: Digest::of(&body),
            body,
            parent: None,
            author: "test".into(),
            reason: "test".into(),
            at: Timestamp(1),
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_said_and_leaves_everything_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path().join("portcullis.db")).unwrap();
        store.put(revision("before", 10)).await.unwrap();
        let limit = |pages: u32| {
            store.ask(move |worker| Ok(worker.connection.pragma_update(None, "max_page_count", pages)?))
        };
        limit(1).await.unwrap();
        assert_eq!(store.put(revision("during", 100_000)).await, Err(StoreError::Full));
        assert!(store.history("definition", "during").await.unwrap().is_empty());
        assert_eq!(store.history("definition", "before").await.unwrap().len(), 1);
        limit(1_000_000).await.unwrap();
        assert_eq!(store.put(revision("during", 100_000)).await, Ok(()), "it recovers without help");
    }

    #[tokio::test]
    async fn more_requests_than_the_queue_holds_are_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path().join("portcullis.db")).unwrap();
        let (go, stop) = channel::<()>();
        store
            .send(Box::new(move |_| {
                let _gone = stop.recv();
            }))
            .unwrap();
        let refused = (0..QUEUE_MAX + 2).find_map(|_| store.send(Box::new(|_| {})).err());
        assert_eq!(refused, Some(StoreError::Busy(QUEUE_MAX)));
        drop(go);
        while store.put(revision("after", 1)).await == Err(StoreError::Busy(QUEUE_MAX)) {
            tokio::task::yield_now().await;
        }
        assert_eq!(store.history("definition", "after").await.unwrap().len(), 1, "it recovers without help");
    }

    #[tokio::test]
    async fn a_request_that_panics_closes_the_store_and_hangs_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path().join("portcullis.db")).unwrap();
        assert_eq!(store.ask::<()>(|_| panic!("on purpose")).await, Err(StoreError::Closed));
        assert_eq!(store.put(revision("a", 1)).await, Err(StoreError::Closed));
    }
}
