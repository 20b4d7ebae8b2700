//! A process that dies, simulated by copies of its directory that are cut where a crash could cut them.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    sync::Arc,
};

use portcullis_proof::{verify::verify, wal::Frames};
use proptest::prelude::*;

use super::{CheckpointKeeper, Kept, append, copy, entry, holds, key, open};
use crate::ledger::{Ledger, LedgerError, LogDir};

/// The last segment and the offsets of its frames.
fn last_segment(dir: &Path) -> (PathBuf, Vec<usize>) {
    let log = LogDir::new(dir);
    let path = log.segment(*log.segments().last().unwrap());
    let bytes = fs::read(&path).unwrap();
    let mut frames = Frames::of(&bytes);
    let mut offsets = vec![0];
    while frames.read().unwrap().is_some() {
        offsets.push(frames.offset());
    }
    (path, offsets)
}

fn cut(path: &Path, len: usize) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(u64::try_from(len).unwrap()).unwrap();
}

fn message(result: Result<impl Sized, LedgerError>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

#[tokio::test]
async fn a_crash_at_every_byte_of_the_last_batch_keeps_all_batches_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    let (ledger, _) = open(dir.path(), &keeper).unwrap();
    append(&ledger, 0..10).await;
    let note = ledger.checkpoint().await.unwrap();
    append(&ledger, 10..20).await;
    let (path, offsets) = last_segment(dir.path());
    let name = path.strip_prefix(dir.path()).unwrap().to_owned();
    let [.., start, end] = offsets.as_slice() else { panic!("{offsets:?}") };
    for len in *start..=*end {
        let crashed = tempfile::tempdir().unwrap();
        copy(dir.path(), crashed.path());
        cut(&crashed.path().join(&name), len);
        let keeper = Arc::new(Kept::default());
        keeper.save(&note).unwrap();
        let (again, recovery) = open(crashed.path(), &keeper).unwrap();
        let size = if len == *end { 20 } else { 19 };
        assert_eq!((recovery.size, recovery.replayed), (size, size - 10));
        assert_eq!(recovery.torn.is_some(), len != *start && len != *end, "{len}");
        assert!(!recovery.is_clean());
        holds(&again, size).await;
        // What was cut off is written anew, and the log is whole.
        append(&again, size..25).await;
        again.close().await.unwrap();
        assert_eq!(verify(again.dir(), again.verifier(), None).unwrap().size, 25);
        let (third, recovery) = open(crashed.path(), &keeper).unwrap();
        assert!(recovery.is_clean());
        holds(&third, 25).await;
    }
}

#[tokio::test]
async fn room_for_more_entries_is_no_torn_end_in_the_last_segment_nor_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    let (ledger, _) = open(dir.path(), &keeper).unwrap();
    append(&ledger, 0..3).await;
    let killed = tempfile::tempdir().unwrap();
    copy(dir.path(), killed.path());
    for size in [3, 6] {
        let again = tempfile::tempdir().unwrap();
        copy(killed.path(), again.path());
        let (path, offsets) = last_segment(again.path());
        assert!(fs::metadata(path).unwrap().len() > u64::try_from(*offsets.last().unwrap()).unwrap());
        let (ledger, recovery) = open(again.path(), &keeper).unwrap();
        assert_eq!((recovery.size, recovery.torn), (size, None));
        append(&ledger, size..size + 3).await;
        copy(again.path(), killed.path());
    }
    assert_eq!(LogDir::new(killed.path()).segments().len(), 3);
    let (again, recovery) = open(killed.path(), &keeper).unwrap();
    assert_eq!((recovery.size, recovery.torn), (9, None));
    holds(&again, 9).await;
}

#[tokio::test]
async fn garbage_in_the_last_batch_is_a_torn_end() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    let (ledger, _) = open(dir.path(), &keeper).unwrap();
    append(&ledger, 0..5).await;
    drop(ledger);
    keeper.save(&fs::read_to_string(dir.path().join("checkpoint")).unwrap()).unwrap();
    let (ledger, _) = open(dir.path(), &keeper).unwrap();
    append(&ledger, 5..8).await;
    let crashed = tempfile::tempdir().unwrap();
    copy(dir.path(), crashed.path());
    let (path, offsets) = last_segment(crashed.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(*offsets.last().unwrap());
    bytes.extend_from_slice(&[7; 5_000]);
    fs::write(&path, bytes).unwrap();
    let (again, recovery) = open(crashed.path(), &keeper).unwrap();
    assert_eq!(recovery.torn.as_ref().map(|(_, bytes)| *bytes), Some(5_000));
    holds(&again, 8).await;
}

#[tokio::test]
async fn damage_that_no_crash_leaves_behind_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    let (ledger, _) = open(dir.path(), &keeper).unwrap();
    append(&ledger, 0..4).await;
    let (path, offsets) = last_segment(dir.path());
    let name = path.strip_prefix(dir.path()).unwrap().to_owned();
    // Flipped bits before the last batch.
    for at in 0..offsets[3] {
        let damaged = tempfile::tempdir().unwrap();
        copy(dir.path(), damaged.path());
        let path = damaged.path().join(&name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, bytes).unwrap();
        let text = message(open(damaged.path(), &keeper));
        assert!(
            text.contains(name.to_str().unwrap()) && text.contains("whole batches follow"),
            "{at}: {text}"
        );
    }
}

#[tokio::test]
async fn a_missing_segment_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    let (ledger, _) = open(dir.path(), &keeper).unwrap();
    append(&ledger, 0..3).await;
    let copied = tempfile::tempdir().unwrap();
    copy(dir.path(), copied.path());
    let (again, _) = open(copied.path(), &keeper).unwrap();
    append(&again, 3..6).await;
    let holed = tempfile::tempdir().unwrap();
    copy(copied.path(), holed.path());
    fs::remove_file(LogDir::new(holed.path()).segment(0)).unwrap();
    let text = message(open(holed.path(), &keeper));
    assert!(text.contains("entries 0 to 2") && text.contains("are missing"), "{text}");
}

#[tokio::test]
async fn a_missing_checkpoint_a_changed_tile_and_another_key_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    let (ledger, _) = open(dir.path(), &keeper).unwrap();
    append(&ledger, 0..300).await;
    ledger.close().await.unwrap();
    for (file, words) in [
        ("checkpoint", "`checkpoint`"),
        ("tile/0/001.p/44", "tile"),
        ("tile/1/000.p/1", "root"),
        ("tile/entries/001.p/44", "tile/entries/001.p/44"),
    ] {
        let damaged = tempfile::tempdir().unwrap();
        copy(dir.path(), damaged.path());
        let path = damaged.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(&path, bytes).unwrap();
        let text = message(open(damaged.path(), &keeper));
        assert!(text.contains(words) && text.contains("hint: "), "{file}: {text}");
        fs::remove_file(path).unwrap();
        assert!(open(damaged.path(), &keeper).is_err(), "{file}");
    }
    let mut options = super::options(dir.path(), &keeper);
    options.key = portcullis_proof::SigningKey::from_seed("test/audit", [12; 32]).unwrap();
    drop(ledger);
    let text = message(crate::ledger::FileLedger::open(options));
    assert!(text.contains("key"), "{text}");
}

#[tokio::test]
async fn a_ledger_put_back_to_an_older_state_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    let (ledger, _) = open(dir.path(), &keeper).unwrap();
    append(&ledger, 0..10).await;
    ledger.checkpoint().await.unwrap();
    let older = tempfile::tempdir().unwrap();
    copy(dir.path(), older.path());
    append(&ledger, 10..20).await;
    ledger.close().await.unwrap();
    let refused = open(older.path(), &keeper);
    assert!(matches!(refused, Err(LedgerError::Older { found: 10, kept: 20 })));
    assert!(message(refused).contains("hint: "));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(open(empty.path(), &keeper), Err(LedgerError::Older { found: 0, kept: 20 })));
}

#[tokio::test]
async fn another_history_of_the_same_length_does_not_start() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (keeper, other_keeper) = (Arc::new(Kept::default()), Arc::new(Kept::default()));
    let (ledger, _) = open(dir.path(), &keeper).unwrap();
    append(&ledger, 0..10).await;
    ledger.close().await.unwrap();
    let (forged, _) = open(other.path(), &other_keeper).unwrap();
    for n in 100..120 {
        forged.append(entry(n)).await.unwrap();
    }
    forged.close().await.unwrap();
    drop(forged);
    let text = message(open(other.path(), &keeper));
    assert!(text.contains("first 10 entries"), "{text}");
}

#[tokio::test]
async fn a_crash_between_keeping_and_publishing_a_checkpoint_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Arc::new(Kept::default());
    let (ledger, _) = open(dir.path(), &keeper).unwrap();
    append(&ledger, 0..10).await;
    let crashed = tempfile::tempdir().unwrap();
    copy(dir.path(), crashed.path());
    let note = ledger.checkpoint().await.unwrap();
    let (again, recovery) = open(crashed.path(), &keeper).unwrap();
    assert_eq!(recovery.replayed, 10);
    holds(&again, 10).await;
    // The same entries lead to the same checkpoint.
    assert_eq!(again.checkpoint().await.unwrap(), note);
    assert_eq!(keeper.load("test/audit").unwrap(), Some(note));
    assert_eq!(verify(again.dir(), &key().verifier(), None).unwrap().size, 10);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_acknowledged_before_a_crash_is_there_after_it(
        steps in prop::collection::vec((1_u64..80, any::<bool>(), any::<u16>()), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut dir = tempfile::tempdir().unwrap();
            let keeper = Arc::new(Kept::default());
            let mut size = 0;
            for (count, checkpoint, tail) in steps {
                let (ledger, recovery) = open(dir.path(), &keeper).unwrap();
                assert_eq!(recovery.size, size);
                append(&ledger, size..size + count).await;
                size += count;
                if checkpoint {
                    ledger.checkpoint().await.unwrap();
                }
                // The process dies while it writes a batch that nobody was told of.
                let crashed = tempfile::tempdir().unwrap();
                copy(dir.path(), crashed.path());
                let (path, offsets) = last_segment(crashed.path());
                let mut bytes = fs::read(&path).unwrap();
                let frame = bytes[..offsets[1]].to_vec();
                bytes.extend_from_slice(&frame[..usize::from(tail) % frame.len()]);
                fs::write(&path, bytes).unwrap();
                dir = crashed;
            }
            let (ledger, _) = open(dir.path(), &keeper).unwrap();
            holds(&ledger, size).await;
            ledger.close().await.unwrap();
            assert_eq!(verify(ledger.dir(), ledger.verifier(), None).unwrap().size, size);
        });
    }
}
