//! The ledger on files: a write-ahead log that callers wait for, and tiles behind it that strangers can check.

use std::{
    fs::File,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use portcullis_core::Limits;
use portcullis_proof::{
    Checkpoint, SigningKey, VerifierKey,
    merkle::prove_inclusion,
    proof_file::ProofFile,
    tile::{Entries, TILE_WIDTH, Tile, TileNodes},
    verify::LogFiles,
};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;

use super::{
    CheckpointKeeper, Late, Ledger, LedgerError, LedgerStatus, Receipt, Record, Recovery, disk::LogDir,
    integrate::Integrator, recover, shared::Shared, writer::Writer,
};

/// The file with the public key, beside the log.
const VERIFIER: &str = "key.pub";

/// The largest entry: the format counts its length in 16 bits.
const ENTRY_BYTES_MAX: usize = u16::MAX as usize;

/// Records handed out at once.
const READ_MAX: usize = 10_000;

/// How a file ledger is opened.
#[derive(Debug)]
pub struct FileLedgerOptions {
    /// Its directory; made when it is not there.
    pub dir: PathBuf,
    /// Signs checkpoints; its name is the log's origin.
    pub key: SigningKey,
    /// `ledger_*` of these apply.
    pub limits: Limits,
    /// Remembers the last checkpoint elsewhere.
    pub keeper: Arc<dyn CheckpointKeeper>,
    /// A checkpoint is made so long after the first entry that none covers.
    pub checkpoint_every_ms: u64,
    /// A checkpoint is made when so many entries are not covered.
    pub checkpoint_every_entries: u64,
}

impl FileLedgerOptions {
    /// The options with a checkpoint every second or every 16 384 entries.
    pub fn new(
        dir: impl Into<PathBuf>,
        key: SigningKey,
        limits: Limits,
        keeper: Arc<dyn CheckpointKeeper>,
    ) -> Self {
        let (checkpoint_every_ms, checkpoint_every_entries) = (1_000, 4_096);
        Self { dir: dir.into(), key, limits, keeper, checkpoint_every_ms, checkpoint_every_entries }
    }
}

/// A ledger in a directory of this machine.
#[derive(Debug)]
pub struct FileLedger {
    shared: Arc<Shared>,
    dir: LogDir,
    key: VerifierKey,
    timeout_ms: u64,
    threads: Arc<Mutex<Threads>>,
}

#[derive(Debug)]
struct Threads {
    writer: Option<JoinHandle<()>>,
    integrator: Option<JoinHandle<()>>,
    /// Locked against other processes for as long as the threads may write.
    lock: Option<File>,
}

impl FileLedger {
    /// Opens the ledger, or starts one. Blocks on the disk and on `keeper`: not for an async task.
    ///
    /// # Errors
    /// When the directory cannot be used, is in use, or holds a log that is damaged or older than the checkpoint that
    /// `keeper` has.
    pub fn open(options: FileLedgerOptions) -> Result<(Self, Recovery), LedgerError> {
        let FileLedgerOptions { dir, key, limits, keeper, checkpoint_every_ms, checkpoint_every_entries } =
            options;
        let dir = LogDir::new(dir);
        let unusable = |error: std::io::Error| {
            LedgerError::Unavailable(format!("`{}` cannot be used: {error}", dir.root().display()))
        };
        dir.create().map_err(unusable)?;
        let lock = File::open(dir.root()).map_err(unusable)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| LedgerError::InUse(dir.root().display().to_string()))?;
        let opened = recover::open(&dir, &key, &*keeper)?;
        let verifier = key.verifier();
        let verifier_text = recover::verifier_text(&verifier);
        // To write it anew would cost every start two flushes.
        if std::fs::read(dir.root().join(VERIFIER)).ok().as_deref() != Some(verifier_text.as_bytes()) {
            dir.replace(VERIFIER, verifier_text.as_bytes()).map_err(unusable)?;
        }
        let signed = opened.tree.size();
        let shared = Arc::new(Shared::new(
            &limits,
            checkpoint_every_ms,
            checkpoint_every_entries,
            (signed, opened.note),
            opened.pending,
        ));
        let writer = Writer::new(Arc::clone(&shared), dir.clone(), opened.recovery.size).map_err(unusable)?;
        let integrator = Integrator {
            shared: Arc::clone(&shared),
            dir: dir.clone(),
            key,
            keeper,
            tree: opened.tree,
            bundle: opened.bundle,
            kept: vec![signed],
        };
        let spawn = |name: &str| thread::Builder::new().name(name.to_owned());
        let writer = spawn("ledger-writer").spawn(move || writer.run()).map_err(unusable)?;
        let integrator = spawn("ledger-tiles").spawn(move || integrator.run()).map_err(unusable)?;
        let threads = Threads { writer: Some(writer), integrator: Some(integrator), lock: Some(lock) };
        let threads = Arc::new(Mutex::new(threads));
        let timeout_ms = limits.ledger_timeout_ms;
        Ok((Self { shared, dir, key: verifier, timeout_ms, threads }, opened.recovery))
    }

    /// The key that checks the ledger's checkpoints.
    #[must_use]
    pub const fn verifier(&self) -> &VerifierKey {
        &self.key
    }

    /// The directory, for reading.
    #[must_use]
    pub const fn dir(&self) -> &LogDir {
        &self.dir
    }

    /// The text of the last signed checkpoint.
    #[must_use]
    pub fn note(&self) -> String {
        self.shared.signed().1
    }
}

#[async_trait::async_trait]
impl Ledger for FileLedger {
    async fn append(&self, entry: Vec<u8>) -> Result<Receipt, LedgerError> {
        if entry.is_empty() || entry.len() > ENTRY_BYTES_MAX {
            return Err(LedgerError::TooLarge(entry.len()));
        }
        self.shared.room().map_err(LedgerError::Unavailable)?;
        let (number, mut done) = self.shared.push(entry)?;
        match tokio::time::timeout(Duration::from_millis(self.timeout_ms), &mut done).await {
            Ok(Ok(result)) => result.map(|index| Receipt { index }),
            Ok(Err(_)) => Err(LedgerError::Closed),
            Err(_) => {
                self.shared.set_late();
                let late = (!self.shared.withdraw(number, &mut done)).then_some(Late(done));
                Err(LedgerError::Timeout(self.timeout_ms, late))
            }
        }
    }

    fn status(&self) -> LedgerStatus {
        self.shared.status()
    }

    async fn read(&self, from: u64, max: usize) -> Result<Vec<Record>, LedgerError> {
        let (shared, dir) = (Arc::clone(&self.shared), self.dir.clone());
        blocking(move || read(&shared, &dir, from, max.min(READ_MAX))).await
    }

    async fn checkpoint(&self) -> Result<String, LedgerError> {
        self.shared.ask()?.await.map_err(|_| LedgerError::Closed)?
    }

    async fn prove(&self, index: u64) -> Result<String, LedgerError> {
        if index >= self.status().durable {
            return Err(LedgerError::NotFound(index));
        }
        let (size, mut note) = self.shared.signed();
        if index >= size {
            note = self.checkpoint().await?;
        }
        let (dir, key) = (self.dir.clone(), self.key.clone());
        blocking(move || prove(&dir, &key, note, index)).await
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed()
    }

    async fn close(&self) -> Result<(), LedgerError> {
        let (shared, threads) = (Arc::clone(&self.shared), Arc::clone(&self.threads));
        blocking(move || {
            stop(&shared, &threads);
            Ok(())
        })
        .await?;
        let status = self.status();
        match status.error {
            Some(error) if status.lag > 0 => Err(LedgerError::Unavailable(error)),
            Some(_) | None => Ok(()),
        }
    }
}

/// A ledger that was not closed still writes what it took: its callers may have been told.
impl Drop for FileLedger {
    fn drop(&mut self) {
        stop(&self.shared, &self.threads);
    }
}

/// Stops the writer, then the integrator, then gives up the lock. A second time does nothing.
fn stop(shared: &Shared, threads: &Mutex<Threads>) {
    let mut threads = threads.lock().unwrap_or_else(PoisonError::into_inner);
    shared.close_queue();
    if threads.writer.take().is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("the ledger's writer panicked");
    }
    shared.close_log();
    if threads.integrator.take().is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("the ledger's integrator panicked");
    }
    threads.lock = None;
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, LedgerError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| LedgerError::Unavailable(error.to_string()))?
}

fn read(shared: &Shared, dir: &LogDir, from: u64, max: usize) -> Result<Vec<Record>, LedgerError> {
    let to = from.saturating_add(u64::try_from(max).unwrap_or(u64::MAX));
    let mut records = Vec::new();
    let mut next = from;
    // The right edge moves while it is read; what was taken so far stays true.
    while next < to {
        let (signed, pending) = shared.pending(next, to);
        if next >= signed {
            for chunk in pending {
                push_records(&mut records, chunk.first, &chunk.payload, next, to);
            }
            return Ok(records);
        }
        let index = next / TILE_WIDTH;
        let tile = Tile { level: None, index, width: (signed - index * TILE_WIDTH).min(TILE_WIDTH) };
        let Some(bytes) = dir.tile(tile) else {
            if shared.signed().0 == signed {
                return Err(LedgerError::Damaged(format!("`{}` is missing", tile.path())));
            }
            continue;
        };
        let end = push_records(&mut records, index * TILE_WIDTH, &bytes, next, to);
        if end <= next {
            return Err(LedgerError::Damaged(format!("`{}` does not hold entry {next}", tile.path())));
        }
        next = end;
    }
    Ok(records)
}

/// Takes the entries with an index in `from..to` from a bundle that starts at `first`; returns where they end.
fn push_records(records: &mut Vec<Record>, first: u64, bundle: &[u8], from: u64, to: u64) -> u64 {
    let mut end = from;
    for (index, entry) in (first..).zip(Entries::of(bundle)) {
        if (from..to).contains(&index) {
            records.push(Record { index, bytes: entry.to_vec() });
            end = index + 1;
        }
    }
    end
}

fn prove(dir: &LogDir, key: &VerifierKey, note: String, index: u64) -> Result<String, LedgerError> {
    let damaged = |error: portcullis_proof::ProofError| LedgerError::Damaged(error.to_string());
    let checkpoint = Checkpoint::open(&note, key).map_err(damaged)?;
    let read = |path: &str| dir.read(path);
    let nodes = TileNodes::new(checkpoint.size, &read);
    let path = prove_inclusion(&nodes, index, checkpoint.size).map_err(damaged)?;
    Ok(ProofFile { index, path, checkpoint: note }.to_text())
}
