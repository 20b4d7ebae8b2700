//! The file ledger from its door: what was acknowledged is there, whatever happens to the process, the disk or the files.

mod crash;
mod disk_full;
mod flush_fails;
mod tamper;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use portcullis_core::Limits;
use portcullis_proof::{Checkpoint, SigningKey, proof_file::ProofFile, verify::verify};

use super::{
    CheckpointKeeper, FileLedger, FileLedgerOptions, KeeperError, Ledger, LedgerError, LogDir, Recovery,
};

/// Keeps the checkpoint in memory, as the store keeps it in its database.
#[derive(Debug, Default)]
struct Kept(Mutex<Option<String>>);

impl CheckpointKeeper for Kept {
    fn save(&self, note: &str) -> Result<(), KeeperError> {
        *self.0.lock().unwrap() = Some(note.to_owned());
        Ok(())
    }

    fn load(&self, _origin: &str) -> Result<Option<String>, KeeperError> {
        Ok(self.0.lock().unwrap().clone())
    }
}

fn key() -> SigningKey {
    SigningKey::from_seed("test/audit", [11; 32]).unwrap()
}

/// Options with checkpoints only when asked for, so that tests decide.
fn options(dir: &Path, keeper: &Arc<Kept>) -> FileLedgerOptions {
    let keeper = Arc::clone(keeper) as Arc<dyn CheckpointKeeper>;
    FileLedgerOptions {
        checkpoint_every_ms: 3_600_000,
        ..FileLedgerOptions::new(dir, key(), Limits::default(), keeper)
    }
}

fn open(dir: &Path, keeper: &Arc<Kept>) -> Result<(FileLedger, Recovery), LedgerError> {
    FileLedger::open(options(dir, keeper))
}

fn entry(n: u64) -> Vec<u8> {
    format!("{{\"n\":{n}}}").into_bytes()
}

async fn append(ledger: &FileLedger, range: std::ops::Range<u64>) {
    for n in range {
        assert_eq!(ledger.append(entry(n)).await.unwrap().index(), n);
    }
}

/// The entries of the ledger are those of `entry`, from 0 up to `size`.
async fn holds(ledger: &FileLedger, size: u64) {
    assert_eq!(ledger.status().durable, size);
    let mut next = 0;
    while next < size {
        let records = ledger.read(next, 1_000).await.unwrap();
        assert!(!records.is_empty(), "from {next}");
        for record in records {
            assert_eq!((record.index, record.bytes), (next, entry(next)));
            next += 1;
        }
    }
    assert!(ledger.read(size, 10).await.unwrap().is_empty());
}

/// Copies a log; of the room in a segment only so much that thousands of copies are quick.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &target);
        } else {
            let bytes = fs::read(item.path()).unwrap();
            let filled = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            fs::write(target, &bytes[..bytes.len().min(filled + 512)]).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_concurrent_caller_gets_an_index_of_its_own_and_finds_its_entry_there() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    let every = FileLedgerOptions { checkpoint_every_ms: 5, ..options(dir.path(), &keeper) };
    let ledger = Arc::new(FileLedger::open(every).unwrap().0);
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..64_u64 {
        let ledger = Arc::clone(&ledger);
        callers.spawn(async move {
            let mut mine = Vec::new();
            for i in 0..40_u64 {
                let bytes = entry(caller * 1_000 + i);
                mine.push((ledger.append(bytes.clone()).await.unwrap().index(), bytes));
            }
            assert!(mine.is_sorted_by(|a, b| a.0 < b.0), "one caller's entries are in its order");
            mine
        });
    }
    let all: BTreeSet<(u64, Vec<u8>)> = callers.join_all().await.into_iter().flatten().collect();
    let indexes: Vec<u64> = all.iter().map(|(index, _)| *index).collect();
    assert_eq!(indexes, (0..2_560).collect::<Vec<_>>());
    let read = ledger.read(0, 10_000).await.unwrap();
    assert!(read.into_iter().map(|record| (record.index, record.bytes)).eq(all));
    ledger.close().await.unwrap();
    let report = verify(ledger.dir(), ledger.verifier(), None).unwrap();
    assert_eq!((report.size, report.pending), (2_560, 0));
    assert!(matches!(ledger.append(entry(0)).await, Err(LedgerError::Closed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_log_verifies_at_every_moment() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    let every = FileLedgerOptions { checkpoint_every_ms: 2, ..options(dir.path(), &keeper) };
    let ledger = Arc::new(FileLedger::open(every).unwrap().0);
    let writer = tokio::spawn({
        let ledger = Arc::clone(&ledger);
        async move { append(&ledger, 0..1_500).await }
    });
    let (mut looks, mut since) = (0, None);
    while !writer.is_finished() {
        let (log, key) = (ledger.dir().clone(), ledger.verifier().clone());
        let last: Option<Checkpoint> = since.take();
        let report =
            tokio::task::spawn_blocking(move || verify(&log, &key, last.as_ref())).await.unwrap().unwrap();
        since = Some(report.checkpoint);
        looks += 1;
    }
    writer.await.unwrap();
    assert!(looks > 3, "{looks}");
    holds(&ledger, 1_500).await;
}

#[tokio::test]
async fn a_closed_ledger_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    for round in 0..4 {
        let (ledger, recovery) = open(dir.path(), &keeper).unwrap();
        assert!(recovery.is_clean(), "{recovery:?}");
        assert_eq!(recovery.size, round * 300);
        append(&ledger, round * 300..(round + 1) * 300).await;
        holds(&ledger, (round + 1) * 300).await;
        ledger.close().await.unwrap();
        assert_eq!(ledger.status().lag, 0);
    }
    let verifier = key().verifier();
    assert_eq!(verify(&LogDir::new(dir.path()), &verifier, None).unwrap().size, 1_200);
    assert_eq!(fs::read_to_string(dir.path().join("key.pub")).unwrap(), format!("{verifier}\n"));
}

#[tokio::test]
async fn every_entry_has_a_proof_that_verifies_offline() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    let (ledger, _) = open(dir.path(), &keeper).unwrap();
    append(&ledger, 0..260).await;
    ledger.checkpoint().await.unwrap();
    append(&ledger, 260..270).await;
    for index in 0..270 {
        let proof = ProofFile::from_text(&ledger.prove(index).await.unwrap()).unwrap();
        assert_eq!(proof.index, index);
        proof.verify(&entry(index), ledger.verifier()).unwrap();
        assert!(proof.verify(&entry(index + 1), ledger.verifier()).is_err());
    }
    assert!(matches!(ledger.prove(270).await, Err(LedgerError::NotFound(270))));
}

#[tokio::test]
async fn a_checkpoint_covers_everything_acknowledged_and_is_kept_and_published() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    let (ledger, _) = open(dir.path(), &keeper).unwrap();
    append(&ledger, 0..5).await;
    let mut changed = ledger.changed();
    assert_eq!(*changed.borrow_and_update(), 5);
    let status = ledger.status();
    assert_eq!((status.durable, status.signed, status.lag, status.healthy), (5, 0, 5, true));
    let note = ledger.checkpoint().await.unwrap();
    assert_eq!(Checkpoint::open(&note, ledger.verifier()).unwrap().size, 5);
    assert_eq!(keeper.load("test/audit").unwrap().as_deref(), Some(note.as_str()));
    assert_eq!(fs::read_to_string(dir.path().join("checkpoint")).unwrap(), note);
    append(&ledger, 5..6).await;
    assert!(changed.has_changed().unwrap());
}

#[tokio::test]
async fn checkpoints_come_by_themselves_after_time_and_after_entries() {
    for (checkpoint_every_ms, checkpoint_every_entries) in [(20, u64::MAX), (3_600_000, 10)] {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Arc::new(Kept::default());
        let every = FileLedgerOptions {
            checkpoint_every_ms,
            checkpoint_every_entries,
            ..options(dir.path(), &keeper)
        };
        let (ledger, _) = FileLedger::open(every).unwrap();
        append(&ledger, 0..10).await;
        for _ in 0..500 {
            if ledger.status().signed == 10 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(ledger.status().signed, 10);
    }
}

#[tokio::test]
async fn a_second_process_is_refused_and_a_later_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    let (first, _) = open(dir.path(), &keeper).unwrap();
    assert!(matches!(open(dir.path(), &keeper), Err(LedgerError::InUse(_))));
    drop(first);
    assert!(open(dir.path(), &keeper).is_ok());
}

#[tokio::test]
async fn a_full_queue_refuses_and_loses_nothing_that_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    let limits = Limits { ledger_queue_max: 16, ..Limits::default() };
    let (ledger, _) = FileLedger::open(FileLedgerOptions { limits, ..options(dir.path(), &keeper) }).unwrap();
    let ledger = Arc::new(ledger);
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..5_000 {
        let ledger = Arc::clone(&ledger);
        callers.spawn(async move { ledger.append(entry(n)).await.map(|receipt| receipt.index()) });
    }
    let results = callers.join_all().await;
    let taken = results.iter().filter(|result| result.is_ok()).count();
    let busy = results.iter().filter(|result| matches!(result, Err(LedgerError::Busy))).count();
    assert_eq!(taken + busy, 5_000);
    assert!(busy > 0 && taken > 0, "{busy} {taken}");
    assert_eq!(ledger.status().durable, u64::try_from(taken).unwrap());
}

#[tokio::test]
async fn entries_that_the_format_cannot_hold_are_refused_and_the_largest_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    let (ledger, _) = open(dir.path(), &keeper).unwrap();
    for len in [0, 65_536, 10_000_000] {
        assert!(matches!(ledger.append(vec![b'x'; len]).await, Err(LedgerError::TooLarge(n)) if n == len));
    }
    for index in 0..300 {
        assert_eq!(ledger.append(vec![b'x'; 65_535]).await.unwrap().index(), index);
    }
    ledger.close().await.unwrap();
    assert_eq!(verify(ledger.dir(), ledger.verifier(), None).unwrap().size, 300);
    // 300 entries fill more than one segment; those under the checkpoint are gone.
    assert_eq!(ledger.dir().segments().len(), 1);
}

#[test]
fn nobody_else_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    fn check(path: &Path) -> usize {
        let metadata = fs::metadata(path).unwrap();
        let wanted = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.permissions().mode() & 0o777, wanted, "{}", path.display());
        if !metadata.is_dir() {
            return 1;
        }
        fs::read_dir(path).unwrap().map(|item| check(&item.unwrap().path())).sum()
    }
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ledger");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (ledger, _) = open(&dir, &Arc::new(Kept::default())).unwrap();
    runtime.block_on(append(&ledger, 0..300));
    drop(ledger);
    assert!(check(&dir) >= 7);
}
