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
    let this = std::env::current_exe().unwrap();
    for nth in 1..=4 {
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e"])
            .arg(format!("inject=fdatasync:error=EIO:when={nth}"))
            .arg(&this)
            .args(["--exact", "ledger::tests::flush_fails::one_flush_fails", "--ignored", "--nocapture"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{nth}: {text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("1 passed"), "{text}");
    }
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
