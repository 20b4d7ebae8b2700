//! A mistake in the configuration: where it is, what is wrong, what to do.

use core::fmt;

/// A place in a file; lines and columns count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Place {
    /// The start of the file.
    pub const START: Self = Self { line: 1, column: 1 };

    /// From the parser's counting: lines from 1, columns from 0.
    #[must_use]
    pub const fn new(line: usize, column: usize) -> Self {
        Self { line, column: column + 1 }
    }
}

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConfigMistake {
    /// The file, where it is not the configuration file itself (a policy, a certificate).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// Path of the key, like `servers.files.command[0]`; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl ConfigMistake {
    /// A mistake at `at`.
    #[must_use]
    pub fn new(
        at: Place,
        key: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let (key, message, hint) = (key.into(), message.into(), hint.into());
        Self { file: None, line: at.line, column: at.column, key, message, hint }
    }

    /// The same mistake, in another file.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }
}

impl fmt::Display for ConfigMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
        }
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\n  hint: {}", self.message, self.hint)
    }
}
