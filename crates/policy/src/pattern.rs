//! Names with wildcards, as operators write them.

use alloc::{
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::{fmt, str::FromStr};

/// A text with wildcards: `*` stands for any run of characters, `\*` for a star and `\\` for a backslash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Piece {
    Any,
    Text(String),
}

/// The text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A backslash is followed by something else than a star or a backslash.
    #[error("a backslash may stand only before `*` or another backslash")]
    Backslash,
    /// Nothing can match the empty text, since nothing has an empty name.
    #[error("a pattern may not be empty")]
    Empty,
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '*' => {
                    if !literal.is_empty() {
                        pieces.push(Piece::Text(core::mem::take(&mut literal)));
                    }
                    if pieces.last() != Some(&Piece::Any) {
                        pieces.push(Piece::Any);
                    }
                }
                '\\' => match chars.next() {
                    Some(escaped @ ('*' | '\\')) => literal.push(escaped),
                    _ => return Err(PatternError::Backslash),
                },
                other => literal.push(other),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        if pieces.is_empty() { Err(PatternError::Empty) } else { Ok(Self(pieces)) }
    }
}

impl Pattern {
    /// Whether it matches the whole of `text`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let (mut rest, mut floating) = (text, false);
        for (index, piece) in self.0.iter().enumerate() {
            let last = index + 1 == self.0.len();
            match piece {
                Piece::Any => floating = true,
                // The last text has to end the whole; every other takes the first place where it fits.
                Piece::Text(text) if last && floating => return rest.ends_with(text.as_str()),
                Piece::Text(text) => {
                    let found = if floating {
                        rest.find(text.as_str())
                    } else {
                        rest.starts_with(text.as_str()).then_some(0)
                    };
                    let Some(after) = found.and_then(|at| rest.get(at + text.len()..)) else { return false };
                    (rest, floating) = (after, false);
                }
            }
        }
        floating || rest.is_empty()
    }

    /// The text itself when there is no wildcard in it.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// A text that it matches, for questions about what it names.
    pub(crate) fn example(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Any => "…".to_string(),
            Piece::Text(text) => text.clone(),
        };
        self.0.iter().map(piece).collect()
    }

    /// Whether it matches everything.
    pub(crate) fn is_any(&self) -> bool {
        self.0 == [Piece::Any]
    }

    /// The pattern as the right-hand side of Cedar's `like`, quotes included.
    pub(crate) fn to_cedar(&self) -> String {
        let mut out = String::from("\"");
        for piece in &self.0 {
            match piece {
                Piece::Any => out.push('*'),
                Piece::Text(text) => out.push_str(&escaped(text).replace('*', "\\*")),
            }
        }
        out.push('"');
        out
    }
}

/// Prints the pattern as it can be read back.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Any => f.write_str("*")?,
                Piece::Text(text) => f.write_str(&text.replace('\\', "\\\\").replace('*', "\\*"))?,
            }
        }
        Ok(())
    }
}

/// The pattern that matches `text` and nothing else.
pub(crate) fn literal_pattern(text: &str) -> Pattern {
    Pattern(vec![Piece::Text(text.to_string())])
}

/// `text` escaped for the inside of a Cedar string literal.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&alloc::format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}
