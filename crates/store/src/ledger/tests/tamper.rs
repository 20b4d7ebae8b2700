//! Whoever changes a file of the ledger is found by the check that needs only the public key.

use std::{fs, path::Path, path::PathBuf, sync::Arc};

use portcullis_proof::verify::{Fault, verify};

use super::{Kept, append, copy, key, open};
use crate::ledger::{Ledger, LogDir};

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() { files(&path, into) } else { into.push(path) }
    }
}

/// A small log: some entries under a checkpoint, some only in the write-ahead log.
async fn log(dir: &Path) {
    let keeper = Arc::new(Kept::default());
    let (ledger, _) = open(dir, &keeper).unwrap();
    append(&ledger, 0..6).await;
    ledger.checkpoint().await.unwrap();
    append(&ledger, 6..9).await;
    let running = tempfile::tempdir().unwrap();
    copy(dir, running.path());
    drop(ledger);
    fs::remove_dir_all(dir).unwrap();
    copy(running.path(), dir);
}

#[tokio::test]
async fn every_flipped_byte_is_found_and_its_file_named() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path()).await;
    let (log, verifier) = (LogDir::new(dir.path()), key().verifier());
    let report = verify(&log, &verifier, None).unwrap();
    assert_eq!((report.size, report.pending), (6, 3));
    let mut paths = Vec::new();
    files(dir.path(), &mut paths);
    // The copy of the public key proves nothing: the one who checks brings the key.
    paths.retain(|path| !path.ends_with("key.pub"));
    assert_eq!(paths.len(), 4, "{paths:?}");
    for path in paths {
        let name = path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            let faults = verify(&log, &verifier, None).expect_err(&format!("{name} byte {at}"));
            assert!(faults.iter().any(|fault| fault.to_string().contains(&name)), "{name} {at}: {faults:?}");
        }
        fs::write(&path, whole).unwrap();
    }
    assert!(verify(&log, &verifier, None).is_ok());
}

#[tokio::test]
async fn a_log_put_back_to_an_older_state_is_found_by_a_checkpoint_from_later() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    let (ledger, _) = open(dir.path(), &keeper).unwrap();
    append(&ledger, 0..10).await;
    ledger.checkpoint().await.unwrap();
    let older = tempfile::tempdir().unwrap();
    copy(dir.path(), older.path());
    append(&ledger, 10..20).await;
    ledger.close().await.unwrap();
    let verifier = key().verifier();
    let since = verify(ledger.dir(), &verifier, None).unwrap().checkpoint;
    let old = verify(&LogDir::new(older.path()), &verifier, None).unwrap().checkpoint;
    assert!(verify(ledger.dir(), &verifier, Some(&old)).is_ok());
    let faults = verify(&LogDir::new(older.path()), &verifier, Some(&since)).unwrap_err();
    assert_eq!(faults, [Fault::Older { found: 10, since: 20 }]);
}
