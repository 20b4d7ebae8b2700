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

#[cfg(test)]
mod tests {
    extern crate std;
    use std::time::{Duration, Instant};

    use super::*;

    type Look<'a> = &'a dyn Fn(&str) -> usize;

    #[test]
    fn the_work_for_the_worst_texts_grows_as_they_do() {
        let names = Names::default();
        let looks: [(&str, Look<'_>); 3] = [
            ("names", &|text| names.find("", text).len()),
            ("addresses", &|text| addresses("", text).len()),
            ("urls", &|text| urls(text).len()),
        ];
        let pieces = [
            "1 ",
            "1 A ",
            "12 Aa Bb Cc 3,",
            "http://",
            "www.",
            "address: 1 ",
            "name: Zz ",
            "Zz ",
            "Ann ",
            "x(1",
            "is ann ",
        ];
        for (look, find) in looks {
            for piece in pieces {
                let time = |bytes: usize| {
                    let text = piece.repeat(bytes / piece.len());
                    let once = || {
                        let begun = Instant::now();
                        let _ = find(&text);
                        begun.elapsed()
                    };
                    (0..3).map(|_| once()).min().unwrap_or_default()
                };
                // Eight times as much text; what grows with its square would take 64 times as long.
                let (small, large) = (time(8 * 1_024), time(64 * 1_024));
                assert!(
                    large < small * 30 + Duration::from_millis(20),
                    "{look} of {piece:?}: {small:?}, {large:?}"
                );
            }
        }
    }
}
