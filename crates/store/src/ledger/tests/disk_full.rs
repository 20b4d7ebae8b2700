//! A disk that fills up: calls are refused, nothing is lost, and the ledger goes on by itself when there is room.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use portcullis_proof::verify::verify;

use super::{Kept, key, open, options};
use crate::ledger::{FileLedger, FileLedgerOptions, Ledger, LedgerError, LogDir};

/// A small file system in memory; gone with the value.
struct Tmpfs<'d>(&'d Path);

impl<'d> Tmpfs<'d> {
    fn mount(dir: &'d Path) -> Self {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(dir).status().unwrap();
        assert!(mounted.success(), "mounting a tmpfs: {mounted}");
        Self(dir)
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_calls_and_the_ledger_recovers_alone() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: mounting a small file system needs root");
        return;
    }
    let mount = tempfile::tempdir().unwrap();
    let _tmpfs = Tmpfs::mount(mount.path());
    let dir = mount.path().join("ledger");
    let keeper = Arc::new(Kept::default());
    let every = FileLedgerOptions { checkpoint_every_ms: 20, ..options(&dir, &keeper) };
    let (ledger, _) = FileLedger::open(every).unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..3_u64 {
        let refusal = fill(&ledger, round, &mut acknowledged).await;
        assert!(matches!(&refusal, LedgerError::Unavailable(_)), "{refusal}");
        let status = ledger.status();
        assert!(!status.healthy && status.error.is_some(), "{status:?}");
        // Still refused while nothing changes.
        let again = tokio::time::timeout(Duration::from_secs(20), ledger.append(vec![b'x'; 20_000])).await;
        assert!(again.unwrap().is_err());
        make_room(mount.path(), round);
        recovered(&ledger).await;
    }
    ledger.close().await.unwrap();
    let report = verify(ledger.dir(), ledger.verifier(), None).unwrap();
    assert!(report.size >= u64::try_from(acknowledged.len()).unwrap());
    for (index, entry) in &acknowledged {
        let record = ledger.read(*index, 1).await.unwrap();
        assert_eq!(record.first().map(|record| &record.bytes), Some(entry), "entry {index}");
    }
    drop(ledger);
    let (again, recovery) = open(&dir, &keeper).unwrap();
    assert!(recovery.is_clean(), "{recovery:?}");
    drop(again);
    assert!(verify(&LogDir::new(&dir), &key().verifier(), None).is_ok());
}

/// Appends until it is refused.
async fn fill(ledger: &FileLedger, round: u64, acknowledged: &mut Vec<(u64, Vec<u8>)>) -> LedgerError {
    for i in 0..10_000 {
        let entry = format!("{round} {i} {}", "x".repeat(10_000)).into_bytes();
        match ledger.append(entry.clone()).await {
            Ok(receipt) => acknowledged.push((receipt.index(), entry)),
            Err(refusal) => return refusal,
        }
    }
    panic!("the disk never filled up");
}

/// Grows the small file system, as an operator would. Entries behind the last checkpoint need their space twice: in
/// the write-ahead log and in the tiles that will replace it.
fn make_room(mount: &Path, round: u64) {
    let size = format!("remount,size={}m", 16 << round);
    let grown = Command::new("mount").args(["-o", &size]).arg(mount).status().unwrap();
    assert!(grown.success());
}

async fn recovered(ledger: &FileLedger) {
    for _ in 0..400 {
        if ledger.status().healthy && ledger.append(b"back".to_vec()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("still refused: {:?}", ledger.status());
}
