//! Tampering is found and named. The logs here are made by hand in memory; the ledger's own are checked in the store.

extern crate std;
use alloc::{
    borrow::ToOwned,
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{Fault, LogFiles, verify};
use crate::{
    Checkpoint, SigningKey,
    tile::{TILE_WIDTH, Tile, Tree, hash_bytes, partial_tiles, push_entry},
    wal::{Batch, segment_name},
};

#[derive(Clone, Default)]
struct Memory(BTreeMap<String, Vec<u8>>);

impl LogFiles for Memory {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.0.get(path).cloned()
    }

    fn list(&self, dir: &str) -> Vec<String> {
        let prefix = format!("{dir}/");
        self.0.keys().filter_map(|path| path.strip_prefix(&prefix)).map(ToOwned::to_owned).collect()
    }
}

fn key() -> SigningKey {
    SigningKey::from_seed("test/log", [5; 32]).unwrap()
}

fn entry(index: u64) -> Vec<u8> {
    format!("{{\"entry\":{index}}}").into_bytes()
}

/// A log of `size` entries under a checkpoint and `pending` more in the write-ahead log.
fn log(size: u64, pending: u64) -> (Memory, Checkpoint) {
    let mut files = BTreeMap::new();
    let mut tree = Tree::default();
    let (mut full, mut bundle) = (Vec::new(), Vec::new());
    for index in 0..size {
        assert!(push_entry(&mut bundle, &entry(index)));
        tree.append(&entry(index), &mut full);
        if tree.size() % TILE_WIDTH == 0 {
            let tile = Tile { level: None, index: index / TILE_WIDTH, width: TILE_WIDTH };
            files.insert(tile.path(), core::mem::take(&mut bundle));
        }
    }
    files.extend(full.into_iter().map(|(tile, hashes)| (tile.path(), hash_bytes(&hashes))));
    files.extend(tree.partial().map(|(tile, hashes)| (tile.path(), hash_bytes(hashes))));
    if let Some(tile) = partial_tiles(size).into_iter().find(|tile| tile.level.is_none()) {
        files.insert(tile.path(), bundle);
    }
    let checkpoint = Checkpoint { origin: "test/log".to_string(), size, root: tree.root() };
    files.insert("checkpoint".to_owned(), checkpoint.sign(&key()).into_bytes());
    let mut segment = Vec::new();
    let mut batch = Batch::default();
    let from = size.saturating_sub(3);
    for index in from..size + pending {
        batch.clear();
        assert!(batch.push(&entry(index)));
        segment.extend_from_slice(batch.seal(index));
    }
    files.insert(format!("wal/{}", segment_name(from)), segment);
    (Memory(files), checkpoint)
}

fn faults(log: &Memory) -> Vec<Fault> {
    verify(log, &key().verifier(), None).unwrap_err()
}

#[test]
fn a_whole_log_of_any_size_verifies_with_its_tail_and_against_all_older_checkpoints() {
    for (size, pending) in [(0, 0), (0, 2), (1, 0), (255, 1), (256, 0), (257, 3), (1_000, 7), (65_700, 2)] {
        let (files, checkpoint) = log(size, pending);
        let report = verify(&files, &key().verifier(), None).unwrap();
        assert_eq!((report.size, report.pending), (size, pending));
        assert_eq!(report.checkpoint, checkpoint);
        for since in [0, 1, size / 2, size, size + pending] {
            let (_, since) = log(since.min(size + pending), 0);
            assert!(verify(&files, &key().verifier(), Some(&since)).is_ok(), "{size} since {}", since.size);
        }
    }
}

#[test]
fn every_flipped_bit_of_every_file_is_found_and_the_file_or_entry_named() {
    let mut tried = 0;
    // All bytes of a small log, and a sample of one with full tiles.
    for (whole, step) in [(log(40, 2).0, 1), (log(300, 2).0, 7)] {
        tried += flip_each(&whole, step);
    }
    assert!(tried > 4_000, "{tried}");
}

fn flip_each(whole: &Memory, step: usize) -> usize {
    let mut tried = 0;
    for (path, bytes) in &whole.0 {
        for at in (0..bytes.len()).step_by(step) {
            let mut files = whole.clone();
            files.0.get_mut(path).unwrap()[at] ^= 1 << (at % 8);
            let faults = faults(&files);
            let named = faults.iter().any(|fault| fault.to_string().contains(path.as_str()));
            assert!(named, "{path} byte {at}: {faults:?}");
            tried += 1;
        }
    }
    tried
}

#[test]
fn a_missing_file_is_named() {
    let (whole, _) = log(600, 0);
    for path in whole.0.keys().filter(|path| !path.starts_with("wal/")) {
        let mut files = whole.clone();
        files.0.remove(path);
        assert!(faults(&files).contains(&Fault::Missing(path.clone())), "{path}");
    }
}

#[test]
fn a_cut_file_is_named() {
    let (whole, _) = log(300, 2);
    for (path, bytes) in &whole.0 {
        for len in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            let mut files = whole.clone();
            files.0.get_mut(path).unwrap().truncate(len);
            // A segment cut between two batches under the checkpoint loses nothing.
            if path.starts_with("wal/") && len == 0 {
                continue;
            }
            let faults = faults(&files);
            assert!(
                faults.iter().any(|fault| fault.to_string().contains(path.as_str())),
                "{path} at {len}: {faults:?}"
            );
        }
    }
}

#[test]
fn the_changed_entry_is_named_by_its_index() {
    let (mut files, _) = log(600, 0);
    let bundle = files.0.get_mut("tile/entries/001").unwrap();
    let at = bundle.windows(3).position(|window| window == b"400").unwrap();
    bundle[at] = b'9';
    let path = "tile/entries/001".to_owned();
    assert_eq!(faults(&files), [Fault::Entry { index: 400, path }]);
}

#[test]
fn two_entries_in_another_order_are_named() {
    let (mut files, _) = log(100, 0);
    let mut bundle = Vec::new();
    for index in 0..100 {
        let swapped = match index {
            30 => 31,
            31 => 30,
            other => other,
        };
        assert!(push_entry(&mut bundle, &entry(swapped)));
    }
    files.0.insert("tile/entries/000.p/100".to_owned(), bundle);
    let path = || "tile/entries/000.p/100".to_owned();
    assert_eq!(
        faults(&files),
        [Fault::Entry { index: 30, path: path() }, Fault::Entry { index: 31, path: path() }]
    );
}

#[test]
fn an_older_copy_is_found_only_by_the_checkpoint_that_was_kept() {
    let (older, _) = log(200, 0);
    let (_, since) = log(300, 0);
    assert!(verify(&older, &key().verifier(), None).is_ok());
    let faults = verify(&older, &key().verifier(), Some(&since)).unwrap_err();
    assert_eq!(faults, [Fault::Older { found: 200, since: 300 }]);
}

#[test]
fn a_rewritten_log_under_the_same_key_is_found_by_the_checkpoint_that_was_kept() {
    let (files, _) = log(300, 0);
    let (_, mut since) = log(200, 0);
    since.root = portcullis_core::Digest::of(b"another history");
    let faults = verify(&files, &key().verifier(), Some(&since)).unwrap_err();
    assert_eq!(faults, [Fault::Inconsistent { size: 200 }]);
}

#[test]
fn another_key_is_refused() {
    let (files, _) = log(10, 0);
    let other = SigningKey::from_seed("test/log", [6; 32]).unwrap();
    let faults = verify(&files, &other.verifier(), None).unwrap_err();
    assert!(matches!(faults.as_slice(), [Fault::Checkpoint(_)]), "{faults:?}");
}

#[test]
fn a_hole_before_the_tail_is_named() {
    let (mut files, _) = log(10, 0);
    files.0.retain(|path, _| !path.starts_with("wal/"));
    let mut batch = Batch::default();
    batch.clear();
    assert!(batch.push(b"late"));
    let path = format!("wal/{}", segment_name(12));
    files.0.insert(path.clone(), batch.seal(12).to_vec());
    assert_eq!(faults(&files), [Fault::WalHole { from: 10, to: 11, path }]);
}
