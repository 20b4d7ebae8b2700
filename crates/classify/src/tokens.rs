//! From a text to tokens: words, and what stands for things whose exact writing says nothing (addresses, numbers).

use alloc::vec::Vec;
use core::ops::Range;

use crate::{
    hash::Hash,
    lexicon::Concept,
    words::{Spelling, Words},
};

/// Bytes of a text of which tokens are made: the first ones. What is longer is looked at in parts.
pub(super) const TOKEN_BYTES_MAX: usize = 256;

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Of its lower-case text, or of what it stands for.
    pub(super) hash: u32,
    /// What it is about.
    pub(super) concept: Option<Concept>,
    /// It stands in quotation marks that follow a word: somebody speaks about it.
    pub(super) quoted: bool,
    /// It begins a sentence, a line or a bracket.
    pub(super) begins: bool,
    /// It is written in capital letters.
    pub(super) loud: bool,
    /// Bytes of the text. Short numbers: there are many tokens.
    start: u32,
    bytes: u16,
}

impl Token {
    /// Bytes of the text.
    pub(super) const fn range(&self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.bytes as usize
    }
}

/// Reads tokens one after the other.
pub(super) struct Reader<'a> {
    text: &'a str,
    words: &'a Words,
    at: usize,
    begins: bool,
    /// The quotation mark that ends what is quoted.
    quote: Option<char>,
    quoted_from: usize,
    /// What stands between the marks is a value, such as that of an attribute.
    value: bool,
    /// What came last was a word.
    after_word: bool,
    out: Vec<Token>,
}

/// Bytes of quoted text at most: who speaks about an order names it, and does not give all of it.
const QUOTED_BYTES_MAX: usize = 64;

/// The tokens of a text.
pub(super) fn tokens(text: &str, words: &Words) -> Vec<Token> {
    let mut reader = Reader {
        text,
        words,
        at: 0,
        begins: true,
        quote: None,
        quoted_from: 0,
        value: false,
        after_word: false,
        out: Vec::with_capacity(text.len() / 5),
    };
    while reader.step() {}
    reader.out
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn step(&mut self) -> bool {
        let Some(byte) = self.text.as_bytes().get(self.at).copied() else { return false };
        if self.quote.is_some() && self.at.saturating_sub(self.quoted_from) > QUOTED_BYTES_MAX {
            self.quote = None;
        }
        if byte.is_ascii() && self.simple(byte) {
            return true;
        }
        let Some(c) = self.rest().chars().next() else { return false };
        let worded = if c.is_ascii() { c.is_ascii_alphanumeric() } else { c.is_alphanumeric() };
        if worded || matches!(c, '~' | '/' | '.' | '_') && self.is_path_start() {
            self.chunk(c);
        } else {
            self.sign(c);
        }
        true
    }

    /// Reads what most texts consist of: words of ASCII letters, and single signs. False where the other functions, which
    /// read everything, have to look.
    fn simple(&mut self, byte: u8) -> bool {
        let next = self.text.as_bytes().get(self.at + 1).copied().unwrap_or_default();
        let single = next != byte;
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => return self.simple_words(),
            b' ' if !matches!(next, b' ' | b'\t') && next.is_ascii() => {}
            b',' | b'$' | b'%' | b'&' | b'+' | b'@' | b'^' | b'\\' => self.after_word = false,
            b'-' | b'=' | b'*' | b'#' if single => self.after_word = false,
            b'"' | b'`' | b'\'' => {
                self.begins |= self.quotation(char::from(byte));
                self.after_word = false;
            }
            b')' | b'}' | b']' | b'>' | b'|' => (self.begins, self.after_word) = (true, false),
            b'{' if single => (self.begins, self.after_word) = (true, false),
            b'(' if single => self.begins = true,
            b'.' | b'!' | b'?' | b';' if single && !(byte == b'.' && next.is_ascii_alphabetic()) => {
                (self.begins, self.after_word) = (true, false);
            }
            b':' if single && self.out.last().is_none_or(|last| !last.begins) => {
                (self.begins, self.after_word) = (true, false);
            }
            b'\n' if !matches!(next, b'\n' | b'\r' | b' ' | b'\t') => {
                (self.begins, self.after_word) = (true, false);
            }
            _ => return false,
        }
        self.at += 1;
        true
    }

    /// Such words with a blank between them.
    fn simple_words(&mut self) -> bool {
        while self.simple_word() {
            match self.text.as_bytes().get(self.at..) {
                Some([b' ', next, ..]) if next.is_ascii_alphanumeric() && self.quote.is_none() => {
                    self.at += 1
                }
                _ => return true,
            }
        }
        false
    }

    /// A word of ASCII letters and digits that nothing is joined to, or a number.
    fn simple_word(&mut self) -> bool {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let mut spelling = Spelling::new();
        let mut length = spelling.read(rest);
        let mut worded = false;
        while let Some(sign) = rest.get(length) {
            let next = rest.get(length + 1).copied().unwrap_or_default();
            match sign {
                // Signs that join a word to what follows.
                b'\'' | b'-' if next.is_ascii_alphabetic() => {
                    worded = true;
                    spelling.add(*sign);
                    length += 1 + spelling.read(rest.get(length + 1..).unwrap_or_default());
                }
                b'\'' | b'-' if next < 128 => break,
                sign if binds(*sign) && !joins(next) => break,
                sign if binds(*sign) || matches!(sign, b'\'' | b'-' | 128..) => return false,
                _ => break,
            }
        }
        let Some(word) = rest.get(..length).filter(|word| word.len() < TOKEN_BYTES_MAX) else { return false };
        let range = self.at..self.at + length;
        if worded || spelling.has_letters() {
            let found = self.words.spelt(word, &spelling);
            self.push(found.hash, found.concept, length > 2 && !spelling.has_small(), range);
        } else {
            self.push(Hash::new(2).byte(length.min(6) as u8).get(), None, false, range);
        }
        self.at += length;
        self.begins = false;
        self.after_word = true;
        true
    }

    /// Whether what follows looks like a path or a dot file.
    fn is_path_start(&self) -> bool {
        let mut bytes = self.rest().bytes();
        match (bytes.next(), bytes.next()) {
            (Some(b'~'), Some(b'/')) => true,
            (Some(b'/' | b'.'), Some(next)) => {
                next.is_ascii_alphabetic()
                    && !self
                        .text
                        .get(..self.at)
                        .is_some_and(|before| before.ends_with(|c: char| c.is_alphanumeric() || c == '<'))
            }
            (Some(b'_'), Some(next)) => next.is_ascii_alphabetic(),
            _ => false,
        }
    }

    /// A word, a number, an address, a name.
    fn chunk(&mut self, first: char) {
        if is_ideograph(first) {
            return self.ideograph(first);
        }
        let rest = self.rest();
        let (end, signs) = ascii_chunk(rest.as_bytes()).unwrap_or_else(|| any_chunk(rest));
        let end = end.max(first.len_utf8());
        let chunk = rest.get(..end).unwrap_or_default();
        let concept_of_form = if signs == 0 { None } else { form(chunk) };
        let range = self.at..self.at + end;
        match concept_of_form {
            Some(concept) => {
                let secret =
                    matches!(concept, Concept::Path) && self.words.any_part(chunk, Concept::SecretFile);
                let concept = if secret { Concept::SecretFile } else { concept };
                self.push(Hash::new(1).byte(concept as u8).get(), Some(concept), false, range);
                if matches!(concept, Concept::Identifier) {
                    self.parts(chunk);
                }
            }
            None if chunk.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.push(Hash::new(2).byte(chunk.len().min(6) as u8).get(), None, false, range);
            }
            None if signs > 0 => self.parts(chunk),
            None => self.word(chunk, self.at),
        }
        self.at += end;
        self.begins = false;
        // What stands behind an address is its title.
        self.after_word = concept_of_form != Some(Concept::Url);
    }

    /// The words of a joined name.
    fn parts(&mut self, chunk: &str) {
        let mut at = self.at;
        let ends = |c: char| if c.is_ascii() { !c.is_ascii_alphanumeric() } else { !c.is_alphanumeric() };
        for part in chunk.split(ends) {
            if part.len() > 1 && !part.bytes().all(|byte| byte.is_ascii_digit()) {
                self.word(part, at);
            }
            at += part.len() + 1;
        }
    }

    fn word(&mut self, word: &str, at: usize) {
        let found = self.words.find(word);
        let loud = word.len() > 2 && word.bytes().all(|byte| !byte.is_ascii_lowercase()) && word.is_ascii();
        self.push(found.hash, found.concept, loud, at..at + word.len());
    }

    /// Scripts without blanks: every character is a token, with the concept of the word that begins at it.
    fn ideograph(&mut self, first: char) {
        let found = self.words.find_start(self.rest());
        let range = self.at..self.at + first.len_utf8();
        self.push(found.hash, found.concept, false, range);
        self.at += first.len_utf8();
        self.begins = false;
        self.after_word = true;
    }

    fn sign(&mut self, c: char) {
        let rest = self.rest();
        // Only asked where the whole run is used up, so that every byte is looked at once.
        let run = || rest.chars().take_while(|next| *next == c).map(char::len_utf8).sum::<usize>();
        let (mut used, mut concept, mut begins) = (c.len_utf8(), None, self.begins);
        match c {
            '\n' => {
                let blank =
                    rest.bytes().take_while(|byte| matches!(byte, b'\n' | b'\r' | b' ' | b'\t')).count();
                let lines = rest.bytes().take(blank).filter(|byte| *byte == b'\n').count();
                (used, begins) = (blank, true);
                concept = (lines >= 6 || blank >= 60).then_some(Concept::Padding);
            }
            ' ' | '\t' | '\u{a0}' => {
                used = run();
                concept = (used >= 40).then_some(Concept::Padding);
                // The next cell of a row.
                begins |= c == '\t';
            }
            '.' | '!' | '?' | ';' | ':' | '\u{3002}' | '\u{ff01}' => {
                used = run();
                if c == ':' && self.out.last().is_some_and(|last| last.begins) {
                    // A name before a colon at the beginning: somebody's turn in a conversation, a label.
                    concept = Some(Concept::Turn);
                }
                begins = true;
            }
            '<' if rest.starts_with("<!--") => (used, concept, begins) = (4, Some(Concept::Comment), true),
            '<' => {
                let tag = rest.get(1..).is_some_and(|next| {
                    next.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '|')
                });
                (concept, begins) = (tag.then_some(Concept::Tag), true);
            }
            '[' | '{' | '(' | '\u{3010}' => {
                used = run();
                concept = (c != '(' && c != '{').then_some(Concept::Bracket);
                begins = true;
            }
            '-' | '=' | '*' | '#' | '~' | '_' => {
                used = run();
                concept = (used >= 3).then_some(Concept::Rule);
                begins = begins || used >= 2;
            }
            '"' | '`' | '\'' | '\u{201c}' | '\u{201d}' | '\u{2018}' | '\u{2019}' => {
                begins |= self.quotation(c);
            }
            '>' | ']' | '}' | ')' | '|' => begins = true,
            _ => {}
        }
        let after_word = self.after_word && matches!(c, ' ' | '(');
        if let Some(concept) = concept {
            let range = self.at..self.at + used;
            self.push(Hash::new(1).byte(concept as u8).get(), Some(concept), false, range);
        }
        self.at += used.max(1);
        self.begins = begins;
        self.after_word = after_word;
    }

    /// A quotation mark. True where something begins at it: a value, such as that of an attribute, of a member or of a cell,
    /// whose end is no beginning. Behind a word and a blank somebody is quoted instead.
    fn quotation(&mut self, c: char) -> bool {
        if self.quote == Some(c) {
            self.quote = None;
            return false;
        }
        let (before, after) = self.text.split_at_checked(self.at).unwrap_or_default();
        let after = after.get(c.len_utf8()..).unwrap_or_default();
        let attached = before.ends_with(char::is_alphanumeric);
        if self.quote.is_some() || attached || after.starts_with(char::is_whitespace) {
            return false;
        }
        let closing = match c {
            '\u{201c}' => '\u{201d}',
            '\u{2018}' => '\u{2019}',
            other => other,
        };
        let apart = before.strip_suffix('(').unwrap_or(before).ends_with(char::is_whitespace);
        let speech = self.after_word && apart;
        if speech && !closes(after, closing) {
            return false;
        }
        (self.quote, self.quoted_from, self.value) = (Some(closing), self.at, !speech);
        !speech
    }

    fn push(&mut self, hash: u32, concept: Option<Concept>, loud: bool, range: Range<usize>) {
        self.out.push(Token {
            hash,
            concept,
            quoted: self.quote.is_some() && !self.value,
            begins: self.begins,
            loud,
            start: u32::try_from(range.start).unwrap_or(u32::MAX),
            bytes: u16::try_from(range.len()).unwrap_or(u16::MAX),
        });
    }
}

/// The bytes of what is joined to a text's first character, and how many signs join it.
fn any_chunk(rest: &str) -> (usize, usize) {
    let inner = |c: char| c.is_alphanumeric() && !is_ideograph(c);
    let mut end = 0;
    let mut signs = 0_usize;
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let joins = match c {
            _ if inner(c) => true,
            '\'' | '\u{2019}' | '-' => chars.peek().is_some_and(|(_, next)| next.is_alphabetic()) && at > 0,
            _ if u8::try_from(c).is_ok_and(binds) => {
                let close = chars
                    .peek()
                    .is_some_and(|(_, next)| inner(*next) || matches!(next, '/' | '_' | '.' | '~'));
                signs += usize::from(close);
                close
            }
            _ => false,
        };
        if !joins || at > TOKEN_BYTES_MAX {
            break;
        }
        end = at + c.len_utf8();
    }
    (end, signs)
}

/// The same where only ASCII decides it.
fn ascii_chunk(rest: &[u8]) -> Option<(usize, usize)> {
    let mut signs = 0;
    for (at, byte) in rest.iter().enumerate() {
        let next = rest.get(at + 1).copied().unwrap_or_default();
        let joined = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => true,
            b'\'' | b'-' if next.is_ascii() => next.is_ascii_alphabetic() && at > 0,
            sign if binds(*sign) && next.is_ascii() => {
                signs += usize::from(joins(next));
                joins(next)
            }
            sign if binds(*sign) || matches!(sign, b'\'' | b'-' | 128..) => return None,
            _ => false,
        };
        if !joined || at > TOKEN_BYTES_MAX {
            return Some((at, signs));
        }
    }
    Some((rest.len(), signs))
}

/// Signs that bind what follows to what stands before.
const fn binds(sign: u8) -> bool {
    matches!(
        sign,
        b'_' | b'/' | b'~' | b'.' | b'@' | b':' | b'\\' | b'=' | b'?' | b'&' | b'%' | b'#' | b'+' | b'$'
    )
}

/// Whether what follows a sign is joined by it to what stands before.
const fn joins(next: u8) -> bool {
    next.is_ascii_alphanumeric() || matches!(next, b'/' | b'_' | b'.' | b'~' | 128..)
}

/// Marks within what is quoted, such as apostrophes, behind which its end is not looked for.
const INNER_MARKS_MAX: usize = 4;

/// Whether what is quoted ends soon, at a mark that no word follows at once.
fn closes(text: &str, mark: char) -> bool {
    let near = text.get(..text.floor_char_boundary(QUOTED_BYTES_MAX)).unwrap_or(text);
    near.match_indices(mark).take(INNER_MARKS_MAX).any(|(at, sign)| {
        let rest = text.get(at + sign.len()..).unwrap_or_default();
        !rest.starts_with(char::is_alphanumeric)
    })
}

/// What a chunk with signs in it is.
fn form(chunk: &str) -> Option<Concept> {
    let bytes = chunk.as_bytes();
    let [mut slash, mut dot, mut at, mut colon, mut bar, mut back, mut small] = [false; 7];
    for byte in bytes {
        match byte {
            b'a'..=b'z' => small = true,
            b'/' => slash = true,
            b'.' => dot = true,
            b'@' => at = true,
            b':' => colon = true,
            b'_' => bar = true,
            b'\\' => back = true,
            _ => {}
        }
    }
    if (colon && slash && chunk.contains("://")) || bytes.starts_with(b"www.") {
        Some(Concept::Url)
    } else if at && dot {
        Some(Concept::Mail)
    } else if matches!(bytes, [b'~' | b'/' | b'.', ..]) || (slash && dot) || back {
        Some(Concept::Path)
    } else {
        (bar && !slash && small).then_some(Concept::Identifier)
    }
}

/// Scripts that put no blanks between words.
const fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}')
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::{any_chunk, ascii_chunk};

    proptest! {
        #[test]
        fn what_is_joined_is_the_same_read_by_bytes_and_by_characters(text in "[a-c1 _/~.@:=?#+'\u{2d}\u{e9}\u{4e2d}]{1,24}") {
            let ascii = ascii_chunk(text.as_bytes());
            prop_assert!(ascii.is_none_or(|joined| joined == any_chunk(&text)), "{text}");
            prop_assert!(!text.is_ascii() || ascii.is_some());
        }
    }
}
