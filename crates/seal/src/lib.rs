//! Encryption at rest. Data keys seal what is sensitive in the store; a key-encryption key, which is kept elsewhere,
//! wraps the data keys. Start reading in `sealer.rs`, then `ring.rs`, `keyring.rs` and `kek.rs`.

mod approvals;
mod kek;
mod keyring;
mod reference;
mod reseal;
mod ring;
mod sealer;

pub use self::{
    approvals::SealedApprovals,
    kek::{FileKek, Kek, KekError, Pkcs11Kek},
    keyring::{Keyring, Parts, Status, StatusKey},
    reference::{KeyReference, Pkcs11Uri},
    reseal::Progress,
    ring::Ring,
    sealer::Sealer,
};

/// A data key, or what it is derived from.
pub type Key = zeroize::Zeroizing<[u8; 32]>;
