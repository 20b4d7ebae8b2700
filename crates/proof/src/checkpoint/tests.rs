//! Checkpoints are read exactly as signed, or not at all.

extern crate std;
use alloc::{format, string::ToString};

use portcullis_core::Digest;

use super::Checkpoint;
use crate::SigningKey;

fn signed() -> (SigningKey, Checkpoint, alloc::string::String) {
    let key = SigningKey::from_seed("example.com/log", [3; 32]).unwrap();
    let checkpoint =
        Checkpoint { origin: "example.com/log".to_string(), size: 4_711, root: Digest::of(b"root") };
    let note = checkpoint.sign(&key);
    (key, checkpoint, note)
}

#[test]
fn opens_what_it_signed() {
    let (key, checkpoint, note) = signed();
    assert_eq!(Checkpoint::open(&note, &key.verifier()), Ok(checkpoint));
}

#[test]
fn refuses_every_flipped_bit_and_every_cut() {
    let (key, _, note) = signed();
    for at in 0..note.len() {
        assert!(Checkpoint::open(note.get(..at).unwrap_or(""), &key.verifier()).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            if let Ok(text) = alloc::string::String::from_utf8(bytes) {
                assert!(Checkpoint::open(&text, &key.verifier()).is_err(), "byte {at} bit {bit}");
            }
        }
    }
}

#[test]
fn accepts_cosignatures_and_refuses_other_keys_and_origins() {
    let (key, checkpoint, note) = signed();
    let witness = SigningKey::from_seed("witness.example", [9; 32]).unwrap();
    let line = checkpoint.sign(&witness);
    let cosigned = format!("{note}{}\n", line.lines().last().unwrap());
    assert_eq!(Checkpoint::open(&cosigned, &key.verifier()), Ok(checkpoint));
    assert!(Checkpoint::open(&note, &witness.verifier()).is_err());
    let twin = SigningKey::from_seed("example.com/log", [4; 32]).unwrap();
    assert!(Checkpoint::open(&note, &twin.verifier()).is_err());
    assert!(Checkpoint::open(&note.repeat(500), &key.verifier()).is_err());
}
