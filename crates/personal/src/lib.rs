//! Personal data: check digits of identifiers, and what has no form of its own, names of persons, postal addresses and web
//! addresses, by small dictionaries written for this purpose, by the words that stand before them, and by how posts write them.
#![no_std]

extern crate alloc;

mod address;
pub mod check;
pub mod general;
mod label;
mod name;
mod url;
mod word;

use core::ops::Range;

pub use address::addresses;
pub use name::Names;
pub use url::urls;

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Bytes of the text.
    pub range: Range<usize>,
    /// How sure, of 1,000.
    pub confidence: u16,
}

/// Whether a list of words with strokes between them has a word.
fn has(list: &str, word: &str) -> bool {
    list.split('|').any(|one| one == word)
}
