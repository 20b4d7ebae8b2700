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
    let mut words = Vec::with_capacity(text.len() / 6);
    let mut chars = text.char_indices().peekable();
    while let Some((start, first)) = chars.next() {
        // Parts of names of programs are no words.
        if !first.is_alphabetic() {
            continue;
        }
        let (mut end, mut letters) = (start + first.len_utf8(), 1_usize);
        let (mut small, mut large) = (usize::from(first.is_lowercase()), usize::from(first.is_uppercase()));
        while let Some((at, c)) = chars.peek().copied() {
            let rest = text.get(at + c.len_utf8()..).unwrap_or_default();
            // `Ann's`
            let owns =
                c != '-' && rest.strip_prefix('s').is_some_and(|rest| !rest.starts_with(char::is_alphabetic));
            let joins =
                matches!(c, '\'' | '\u{2019}' | '-') && rest.starts_with(char::is_alphabetic) && !owns;
            if !c.is_alphabetic() && !joins {
                break;
            }
            letters += 1;
            small += usize::from(c.is_lowercase());
            large += usize::from(c.is_uppercase());
            end = at + c.len_utf8();
            chars.next();
        }
        let shape = match (first.is_uppercase(), letters) {
            (true, 1) => Shape::Initial,
            (true, _) if small == 0 => Shape::Upper,
            (true, _) if large <= 3 => Shape::Capital,
            _ => Shape::Lower,
        };
        words.push(Word { range: start..end, shape });
    }
    words
}

/// A word in small letters without accents.
pub(crate) fn fold(word: &str) -> String {
    word.chars().flat_map(char::to_lowercase).map(bare).collect()
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
