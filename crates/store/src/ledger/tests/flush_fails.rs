//! A flush that fails: nobody is told that the batch is durable, and no later flush is taken as proof that it is.

use std::{process::Command, sync::Arc, time::Duration};

use portcullis_proof::verify::verify;

use super::{Kept, entry, open};
use crate::ledger::{Ledger, LedgerError};

#[test]
fn a_failed_flush_refuses_its_callers_and_the_ledger_recovers_alone() {
    if Command::new("strace").arg("--version").output().is_err() {
        eprintln!("not run: strace is not installed");
        return;
    }
    for nth in 1..=4 {
        under_strace("one_flush_fails", nth);
    }
}

#[test]
fn a_segment_that_cannot_be_begun_does_not_keep_the_ledger_from_recovering() {
    if Command::new("strace").arg("--version").output().is_err() {
        eprintln!("not run: strace is not installed");
        return;
    }
    under_strace("a_checkpoint_covers_the_segment_meanwhile", 2);
}

/// Runs one ignored test of this file while the kernel makes one flush of each thread fail.
fn under_strace(test: &str, nth: u32) {
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e"])
        .arg(format!("inject=fdatasync:error=EIO:when={nth}"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("ledger::tests::flush_fails::{test}"), "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{nth}: {text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "runs under strace, which makes one flush fail; started by the test above"]
async fn one_flush_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open(dir.path(), &Arc::new(Kept::default())).unwrap();
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for n in 0..6 {
        loop {
            match ledger.append(entry(n)).await {
                Ok(receipt) => break acknowledged.push(receipt.index()),
                Err(LedgerError::Unavailable(reason)) => {
                    assert!(reason.contains("Input/output error"), "{reason}");
                    // A moment later it may have recovered already.
                    assert!(refused > 0 || !ledger.status().healthy);
                    refused += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(refused > 0, "the flush did not fail");
    assert!(ledger.status().healthy);
    // The refused entry is not there: it was written once, when it was acknowledged.
    assert_eq!(acknowledged, [0, 1, 2, 3, 4, 5]);
    super::holds(&ledger, 6).await;
    ledger.close().await.unwrap();
    assert_eq!(verify(ledger.dir(), ledger.verifier(), None).unwrap().size, 6);
}

#[tokio::test]
#[ignore = "runs under strace, which makes one flush fail; started by the test above"]
async fn a_checkpoint_covers_the_segment_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open(dir.path(), &Arc::new(Kept::default())).unwrap();
    ledger.append(entry(0)).await.unwrap();
    let (old, new) = (ledger.dir().segment(0), ledger.dir().segment(1));
    // In the way of a new segment, as what is left of a first try would be.
    std::fs::create_dir(&new).unwrap();
    assert!(ledger.append(entry(1)).await.is_err(), "the flush did not fail");
    ledger.checkpoint().await.unwrap();
    assert!(!old.exists(), "the segment is covered and was kept");
    let tried = || ledger.status().error.is_some_and(|error| error.contains("directory"));
    eventually(tried, "no new segment was tried").await;
    std::fs::remove_dir(&new).unwrap();
    eventually(|| ledger.status().healthy, "it never recovered").await;
    ledger.append(entry(1)).await.unwrap();
    super::holds(&ledger, 2).await;
    ledger.close().await.unwrap();
    assert_eq!(verify(ledger.dir(), ledger.verifier(), None).unwrap().size, 2);
}

async fn eventually(mut is: impl FnMut() -> bool, otherwise: &str) {
    for _ in 0..2_000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{otherwise}");
}
