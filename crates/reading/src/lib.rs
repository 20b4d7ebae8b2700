//! What a text says: codes are undone, look-alike letters read as what they look like, and what nobody sees is told.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod chance;
pub mod decode;
pub mod needles;
pub mod plain;
pub mod unseen;
pub mod worn;
