//! What a stranger verifies: checkpoints, proofs, entries, key texts.

use std::collections::BTreeMap;

use portcullis_core::{Event, TargetKind, Timestamp};
use portcullis_proof::manifest::{ManifestError, canonical, definition_digest, diff};
use portcullis_proof::merkle::leaf_hash;
use portcullis_proof::proof_file::ProofFile;
use portcullis_proof::tile::{Entries, Tile, Tree, hash_bytes, push_entry};
use portcullis_proof::verify::{LogFiles, verify};
use portcullis_proof::wal::{Batch, Frames};
use portcullis_proof::{Checkpoint, Entry, SigningKey, VerifierKey};
use serde_json::Value;

fn key() -> SigningKey {
    SigningKey::from_seed("fuzz.example/log", [7; 32]).expect("a fixed seed and a right name")
}

/// The one entry of the log whose checkpoint is among the seeds, signed with `key`.
const ENTRY: &[u8] = b"{\"v\":1}";

/// Only the checkpoint that was signed is ever accepted; key texts print as they were read.
pub fn checkpoint(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let verifier = key().verifier();
    if let Ok(opened) = Checkpoint::open(text, &verifier) {
        assert_eq!(opened, signed(), "nothing else was signed");
    }
    for line in text.lines() {
        if let Ok(parsed) = VerifierKey::from_text(line) {
            let again = VerifierKey::from_text(&parsed.to_string()).expect("what is printed is read");
            assert_eq!((again.id(), again.name()), (parsed.id(), parsed.name()));
        }
        if let Ok(parsed) = SigningKey::from_text(line) {
            assert!(SigningKey::from_text(parsed.to_text().expose()).is_ok());
        }
    }
}

fn signed() -> Checkpoint {
    Checkpoint { origin: key().name().to_owned(), size: 1, root: leaf_hash(ENTRY) }
}

/// A proof that is read prints and reads as the same; only the proof of what was signed verifies.
pub fn proof_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(parsed) = ProofFile::from_text(text) else { return };
    assert_eq!(ProofFile::from_text(&parsed.to_text()).as_ref(), Ok(&parsed));
    let verifier = key().verifier();
    assert!(parsed.verify(b"another entry", &verifier).is_err());
    if let Ok(proven) = parsed.verify(ENTRY, &verifier) {
        assert_eq!((proven, parsed.index), (signed(), 0));
    }
}

/// However hostile the strings, an entry is one line of JSON that says the same.
pub fn entry(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut entry =
        Entry::new(Event::ALL[data.len() % Event::ALL.len()], Timestamp(data.len() as u64), &text);
    entry.detail = Some(&text);
    entry.method = Some(&text);
    entry.trace = Some(&text);
    let parsed = serde_json::from_slice::<Value>(data).ok();
    entry.data = BTreeMap::from_iter(parsed.map(|value| ("value", value)));
    let line = entry.to_jcs();
    assert!(line.len() <= portcullis_proof::entry::ENTRY_BYTES_MAX);
    assert!(!line.contains(&b'\n'));
    let read: Value = serde_json::from_slice(&line).expect("an entry is JSON");
    if text.len() < 256 {
        assert_eq!(read["instance"].as_str(), Some(&*text));
    }
}

/// What is pinned is canonical: the same bytes again, equal digests exactly for equal canonical forms.
pub fn manifest(data: &[u8]) {
    let (old, new) = crate::halves(data);
    let Ok(bytes) = canonical(new) else { return };
    match canonical(&bytes) {
        Ok(again) => assert_eq!(again, bytes, "canonical bytes are their own canonical form"),
        // A whole number written as a fraction (`90071992547409911.0`) is accepted, its shortest form is not.
        Err(ManifestError::UnsafeInteger(_)) => return,
        Err(error) => panic!("canonical bytes are refused: {error}"),
    }
    let value = serde_json::from_slice::<Value>(new).expect("what has a canonical form is JSON");
    assert_eq!(serde_json::from_slice::<Value>(&bytes).map(doubles).ok(), Some(doubles(value)));
    assert!(diff(new, &bytes).is_empty(), "the form is no difference");
    if let Ok(other) = canonical(old) {
        assert_eq!(diff(old, new).is_empty(), other == bytes);
        let digest = |raw| definition_digest(TargetKind::Tool, raw).ok();
        if let (Some(first), Some(second)) = (digest(old), digest(new)) {
            assert_eq!(first == second, other == bytes);
        }
    }
}

/// JCS knows doubles only.
fn doubles(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, |number| Value::from(number + 0.0)),
        Value::Array(items) => items.into_iter().map(doubles).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, doubles(value))).collect(),
        other => other,
    }
}

/// Frames of a write-ahead segment: reading ends, stays inside, and never invents a frame that was not sealed.
pub fn wal(data: &[u8]) {
    let mut frames = Frames::of(data);
    while let Ok(Some(frame)) = frames.read() {
        assert!(frames.offset() <= data.len());
        let mut batch = Batch::default();
        let entries: Vec<&[u8]> = Entries::of(frame.payload).collect();
        assert_eq!(entries.len(), frame.count as usize);
        assert!(entries.iter().all(|entry| batch.push(entry)));
        let sealed = batch.seal(frame.first);
        let end = frames.offset();
        assert_eq!(data.get(end - sealed.len()..end), Some(sealed));
    }
}

/// A whole small log with one file replaced: the input is the file's path, an empty line, and its bytes.
pub fn ledger(data: &[u8]) {
    let (path, bytes) = crate::halves(data);
    let path = String::from_utf8_lossy(path).into_owned();
    let mut files = SmallLog::new();
    let before = files.0.insert(path.clone(), bytes.to_vec());
    let same = before.as_deref() == Some(bytes);
    match verify(&files, &key().verifier(), None) {
        Ok(report) => {
            assert_eq!(report.checkpoint, SmallLog::checkpoint());
            // What is behind the checkpoint is not signed yet, so the segment may hold anything whole.
            let free = before.is_none() || path.starts_with("wal/");
            // Lines of other witnesses may be added to a checkpoint.
            assert!(same || free || path == "checkpoint", "`{path}` was changed and nothing said so");
        }
        Err(faults) => assert!(!same && !faults.is_empty(), "a whole log is said to be broken: {faults:?}"),
    }
}

/// Three entries, in memory.
struct SmallLog(BTreeMap<String, Vec<u8>>);

impl SmallLog {
    const ENTRIES: [&'static [u8]; 3] = [b"{\"n\":0}", b"{\"n\":1}", b"{\"n\":2}"];

    fn tree() -> Tree {
        let mut tree = Tree::load(0, |_| Ok(Vec::new())).expect("an empty tree needs no tiles");
        Self::ENTRIES.iter().for_each(|entry| tree.append(entry, &mut Vec::new()));
        tree
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: key().name().to_owned(), size: 3, root: Self::tree().root() }
    }

    fn new() -> Self {
        let mut files =
            BTreeMap::from([("checkpoint".to_owned(), Self::checkpoint().sign(&key()).into_bytes())]);
        for (tile, hashes) in Self::tree().partial() {
            files.insert(tile.path(), hash_bytes(hashes));
        }
        let mut bundle = Vec::new();
        assert!(Self::ENTRIES.iter().all(|entry| push_entry(&mut bundle, entry)));
        files.insert(Tile { level: None, index: 0, width: 3 }.path(), bundle);
        Self(files)
    }
}

impl LogFiles for SmallLog {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.0.get(path).cloned()
    }

    fn list(&self, dir: &str) -> Vec<String> {
        let names = self.0.keys().filter_map(|path| path.strip_prefix(dir)?.strip_prefix('/'));
        names.filter(|name| !name.contains('/')).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_hold_what_this_key_signs() {
        let note = signed().sign(&key());
        let proof = ProofFile { index: 0, path: Vec::new(), checkpoint: note.clone() }.to_text();
        let mut seeds: Vec<(String, Vec<u8>)> =
            vec![("checkpoint/signed".into(), note.into()), ("proof_file/signed".into(), proof.into())];
        for (path, bytes) in SmallLog::new().0 {
            let name = path.replace('/', "-");
            seeds.push((format!("ledger/{name}"), [path.as_bytes(), b"\n\n", &bytes].concat()));
        }
        let mut batch = Batch::default();
        assert!(SmallLog::ENTRIES.iter().all(|entry| batch.push(entry)));
        let mut segment = batch.seal(0).to_vec();
        segment.extend_from_slice(batch.seal(3));
        seeds.push(("wal/two-frames".into(), segment.clone()));
        seeds.push(("ledger/wal".into(), [b"wal/00000000000000000000\n\n", &segment[..]].concat()));
        for (file, text) in seeds {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(&file);
            if std::env::var_os("WRITE_SEEDS").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            assert_eq!(std::fs::read(path).unwrap(), text, "{file}");
        }
    }
}

/// Whatever an entry holds, each format writes it in one line, and the finding beside it under an id of its own.
pub fn siem(data: &[u8]) {
    let log = std::sync::Arc::from("gateway.example/ledger");
    let seen = portcullis_siem::Seen::read(7, &log, data);
    for format in portcullis_siem::FORMATS {
        let written = (format.render)(&seen);
        assert!((1..=2).contains(&written.len()), "{}", format.name);
        for body in &written {
            let line = body.line();
            assert!(!line.contains(['\n', '\r']), "{}: {line:?}", format.name);
            if matches!(format.name, "ecs" | "json" | "ocsf") {
                assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{}: {line}", format.name);
            }
        }
        if let [first, second] = written.as_slice() {
            assert_ne!(first.line(), second.line());
        }
    }
}
