//! What a stranger verifies: checkpoints, proofs, entries, key texts.

use std::collections::BTreeMap;

use portcullis_core::{Event, Timestamp};
use portcullis_proof::merkle::leaf_hash;
use portcullis_proof::proof_file::ProofFile;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_hold_what_this_key_signs() {
        let note = signed().sign(&key());
        let proof = ProofFile { index: 0, path: Vec::new(), checkpoint: note.clone() }.to_text();
        for (file, text) in [("checkpoint/signed", note), ("proof_file/signed", proof)] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(file);
            if std::env::var_os("WRITE_SEEDS").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            assert_eq!(std::fs::read_to_string(path).unwrap(), text);
        }
    }
}
