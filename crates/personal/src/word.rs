//! A text in words, with what their letters look like.

use alloc::{string::String, vec::Vec};
use core::ops::Range;

/// How a word is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `word`
    Lower,
    /// `Word`, `McWord`
    Capital,
    /// `WORD`
    Upper,
    /// `W`
    Initial,
}

/// Letters that stand together; apostrophes and dashes between letters belong to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) range: Range<usize>,
    pub(crate) shape: Shape,
}

impl Word {
    pub(crate) fn text<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.range.clone()).unwrap_or_default()
    }

    /// Whether it may be a part of a name.
    pub(crate) const fn is_capital(&self) -> bool {
        matches!(self.shape, Shape::Capital)
    }
}

/// The words of a text.
pub(crate) fn words(text: &str) -> Vec<Word> {
    let bytes = text.as_bytes();
    let mut words = Vec::with_capacity(text.len() / 6);
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | 128.. => {
                let word = word(text, at);
                at = word.range.end.max(at + 1);
                if !word.range.is_empty() {
                    words.push(word);
                }
            }
            _ => at += 1,
        }
    }
    words
}

/// The word that begins there; an empty one where none does.
fn word(text: &str, start: usize) -> Word {
    let bytes = text.as_bytes();
    let (mut end, mut letters, mut small, mut large) = (start, 0_usize, 0_usize, 0_usize);
    let mut upper = false;
    while let Some(byte) = bytes.get(end) {
        let (is_small, is_large, length) = match byte {
            b'a'..=b'z' => (true, false, 1),
            b'A'..=b'Z' => (false, true, 1),
            b'\'' | b'-' if letters > 0 && joins(text, end, 1) => (false, false, 1),
            128.. => match text.get(end..).and_then(|rest| rest.chars().next()) {
                Some(c) if c.is_alphabetic() => (c.is_lowercase(), c.is_uppercase(), c.len_utf8()),
                Some(c @ '\u{2019}') if letters > 0 && joins(text, end, c.len_utf8()) => (false, false, 3),
                _ => break,
            },
            _ => break,
        };
        upper |= letters == 0 && is_large;
        letters += 1;
        small += usize::from(is_small);
        large += usize::from(is_large);
        end += length;
    }
    let shape = match (upper, letters) {
        (true, 1) => Shape::Initial,
        (true, _) if small == 0 => Shape::Upper,
        (true, _) if large <= 3 => Shape::Capital,
        _ => Shape::Lower,
    };
    Word { range: start..end, shape }
}

/// Whether a letter follows an apostrophe or dash, other than that of `Ann's`.
fn joins(text: &str, at: usize, length: usize) -> bool {
    let rest = text.get(at + length..).unwrap_or_default();
    let owns = text.as_bytes().get(at) != Some(&b'-')
        && rest.strip_prefix('s').is_some_and(|rest| !rest.starts_with(char::is_alphabetic));
    rest.starts_with(char::is_alphabetic) && !owns
}

/// A word in small letters without accents.
pub(crate) fn fold(word: &str) -> String {
    let mut folded = String::new();
    fold_into(word, &mut folded);
    folded
}

/// The same, in a text that is used again.
pub(crate) fn fold_into(word: &str, folded: &mut String) {
    folded.clear();
    if word.is_ascii() {
        folded.push_str(word);
        folded.make_ascii_lowercase();
    } else {
        folded.extend(word.chars().flat_map(char::to_lowercase).map(bare));
    }
}

const fn bare(c: char) -> char {
    match c {
        'à'..='å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'ď' | 'đ' => 'd',
        'è'..='ë' | 'ē' | 'ę' | 'ě' => 'e',
        'ğ' => 'g',
        'ì'..='ï' | 'ī' | 'ı' => 'i',
        'ł' => 'l',
        'ñ' | 'ń' | 'ň' => 'n',
        'ò'..='ö' | 'ø' | 'ō' | 'ő' => 'o',
        'ř' => 'r',
        'ś' | 'š' | 'ş' | 'ș' | 'ß' => 's',
        'ť' | 'ț' => 't',
        'ù'..='ü' | 'ū' | 'ů' | 'ű' => 'u',
        'ý' | 'ÿ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        '\u{2019}' => '\'',
        other => other,
    }
}
