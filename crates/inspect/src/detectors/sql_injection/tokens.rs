//! Tokens of SQL, as far as all dialects agree. The text is in lower case.

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(&'a str),
    Number,
    /// A quoted text.
    Text,
    /// A quoted text that does not end.
    Open,
    /// `@@version`, `@x`.
    Variable,
    /// `=`, `<>`, `!=`, `<=`, `>=`, `<=>`.
    Compare,
    /// `||`.
    Or,
    /// `&&`.
    And,
    /// `--`, `#`, or `/*` that does not end.
    Comment,
    Sign(u8),
}

/// The tokens of a text.
pub(super) struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn run(&self, from: usize, fits: impl Fn(u8) -> bool) -> usize {
        let rest = self.text.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|byte| fits(**byte)).count()
    }

    /// Past blanks and comments that end.
    fn skip(&mut self) {
        loop {
            self.at = self
                .run(self.at, |byte| byte.is_ascii_whitespace() || byte == 0 || byte == 0xa0 || byte == 0x0b);
            let rest = self.text.get(self.at..).unwrap_or_default();
            let Some(inner) = rest.strip_prefix(b"/*").filter(|inner| inner.first() != Some(&b'!')) else {
                return;
            };
            let Some(end) = memchr::memmem::find(inner, b"*/") else { return };
            self.at += end + 4;
        }
    }

    fn quoted(&mut self, quote: u8) -> Token<'a> {
        let rest = self.text.get(self.at + 1..).unwrap_or_default();
        match memchr::memchr(quote, rest) {
            Some(end) => {
                self.at += end + 2;
                Token::Text
            }
            None => {
                self.at = self.text.len();
                Token::Open
            }
        }
    }

    fn word(&mut self) -> Token<'a> {
        let end = self.run(self.at, |byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let word = self.text.get(self.at..end).unwrap_or_default();
        self.at = end;
        Token::Word(core::str::from_utf8(word).unwrap_or_default())
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip();
        let rest = self.text.get(self.at..)?;
        let (token, length) = match rest {
            [] => return None,
            [b'-', b'-', ..] => (Token::Comment, 2),
            [b'#', ..] => (Token::Comment, 1),
            // A long dash that a word processor made of two.
            [0xe2, 0x80, 0x93 | 0x94, ..] => (Token::Comment, 3),
            [b'/', b'*', b'!', ..] => (Token::Sign(b'!'), 3),
            [b'/', b'*', ..] => (Token::Comment, 2),
            [b'*', b'/', ..] => {
                return {
                    self.at += 2;
                    self.next()
                };
            }
            [b'|', b'|', ..] => (Token::Or, 2),
            [b'&', b'&', ..] => (Token::And, 2),
            [b'<', b'=', b'>', ..] => (Token::Compare, 3),
            [b'<', b'>' | b'=', ..] | [b'>' | b'!', b'=', ..] => (Token::Compare, 2),
            [b'=' | b'<' | b'>', ..] => (Token::Compare, 1),
            [b'@', ..] => {
                let end =
                    self.run(self.at, |byte| byte == b'@' || byte == b'_' || byte.is_ascii_alphanumeric());
                (Token::Variable, end - self.at)
            }
            [quote @ (b'\'' | b'"' | b'`'), ..] => return Some(self.quoted(*quote)),
            [digit, ..] if digit.is_ascii_digit() => {
                let end = self.run(self.at, |byte| byte.is_ascii_alphanumeric() || byte == b'.');
                (Token::Number, end - self.at)
            }
            [letter, ..] if letter.is_ascii_alphabetic() || *letter == b'_' => return Some(self.word()),
            [sign, ..] => (Token::Sign(*sign), 1),
        };
        self.at += length;
        Some(token)
    }
}
