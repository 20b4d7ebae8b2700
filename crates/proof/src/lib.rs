//! All that a stranger must verify offline: ledger entries, the Merkle tree over them, signed checkpoints, proofs of
//! single entries, and the digests by which definitions are pinned. Pure: files are read through [`verify::LogFiles`].
#![no_std]

extern crate alloc;

pub mod checkpoint;
pub mod entry;
mod error;
pub mod key;
pub mod manifest;
pub mod merkle;
pub mod proof_file;
pub mod tile;
pub mod verify;
pub mod wal;

pub use checkpoint::Checkpoint;
pub use entry::{Actor, Content, Decision, Entry, Output, Record};
pub use error::ProofError;
pub use key::{SigningKey, VerifierKey};
