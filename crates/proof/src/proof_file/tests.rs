//! Proof files verify for their entry and for nothing else.

extern crate std;
use alloc::{format, string::ToString, vec::Vec};

use super::ProofFile;
use crate::{
    Checkpoint, SigningKey,
    merkle::{leaf_hash, node_hash},
};

#[test]
fn a_proof_file_verifies_for_its_entry_and_for_no_other() {
    let key = SigningKey::from_seed("log", [1; 32]).unwrap();
    let (left, right) = (leaf_hash(b"left"), leaf_hash(b"right"));
    let checkpoint = Checkpoint { origin: "log".to_string(), size: 2, root: node_hash(&left, &right) };
    let file = ProofFile { index: 1, path: Vec::from([left]), checkpoint: checkpoint.sign(&key) };
    let text = file.to_text();
    let read = ProofFile::from_text(&text).unwrap();
    assert_eq!(read, file);
    assert_eq!(read.verify(b"right", &key.verifier()), Ok(checkpoint));
    assert!(read.verify(b"left", &key.verifier()).is_err());
    let with_extra = text.replacen("index", "extra aGVsbG8=\nindex", 1);
    assert_eq!(ProofFile::from_text(&with_extra), Ok(file));
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let accepted = alloc::string::String::from_utf8(bytes)
            .ok()
            .and_then(|text| ProofFile::from_text(&text).ok())
            .is_some_and(|file| file.index == 1 && file.verify(b"right", &key.verifier()).is_ok());
        assert!(!accepted, "byte {at}");
    }
    for bad in ["", "index 1\n\n", &format!("{text}\n").replacen("@v1", "@v2", 1)] {
        assert!(ProofFile::from_text(bad).is_err(), "{bad}");
    }
}
