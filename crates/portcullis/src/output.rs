//! What commands print: plain tables or JSON on standard output, failures on standard error, one exit code each.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use portcullis_config::ConfigMistake;
use serde::Serialize;
use serde_json::{Value, json};

/// Exit codes, as `--help` lists them. Code 2 (wrong usage) is clap's own.
pub(crate) mod exit {
    /// Refused or failed.
    pub(crate) const REFUSED: u8 = 1;
    /// No gateway was reached.
    pub(crate) const UNREACHED: u8 = 3;
    /// Verification failed.
    pub(crate) const UNVERIFIED: u8 = 4;
    /// Mistakes in the configuration.
    pub(crate) const MISTAKES: u8 = 5;
}

/// Why a command did not do it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: u8,
    /// For people.
    pub(crate) text: String,
    /// For programs, with `--json`.
    pub(crate) json: Value,
}

impl Failure {
    /// Refused or failed.
    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self::of(exit::REFUSED, text)
    }

    /// A failure with an exit code of its own.
    pub(crate) fn of(exit: u8, text: impl Into<String>) -> Self {
        let text = text.into();
        let json = json!({ "error": { "message": text } });
        Self { exit, text, json }
    }

    /// Mistakes in the configuration.
    pub(crate) fn mistakes(file: &str, mistakes: &[ConfigMistake]) -> Self {
        let mut text = String::new();
        for mistake in mistakes {
            if mistake.file.is_none() {
                text.push_str(file);
                text.push(':');
            }
            text.push_str(&mistake.to_string());
            text.push('\n');
        }
        let count = mistakes.len();
        text.push_str(&format!("{count} mistake{} in the configuration", if count == 1 { "" } else { "s" }));
        Self { exit: exit::MISTAKES, text, json: json!({ "mistakes": mistakes, "file": file }) }
    }
}

/// Where a command prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Whether to print JSON.
    pub(crate) json: bool,
}

impl Output {
    /// Text, or JSON.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Bytes as they are. A reader that has gone away is no failure of the command.
    pub(crate) fn raw(self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
            std::process::exit(0);
        }
    }

    /// One line.
    pub(crate) fn line(self, text: &str) {
        self.raw(format!("{text}\n").as_bytes());
    }

    /// `value` as JSON with `--json`; otherwise what `text` says.
    pub(crate) fn show<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) {
        if self.json {
            let json = serde_json::to_string_pretty(value).unwrap_or_default();
            self.line(&json);
        } else {
            self.line(text(value).trim_end());
        }
    }

    /// `value` as one line of JSON, for streams of values.
    pub(crate) fn json_line<T: Serialize>(self, value: &T) {
        self.line(&serde_json::to_string(value).unwrap_or_default());
    }

    /// Something for people on standard error, where it does not disturb what is printed.
    pub(crate) fn note(self, text: &str) {
        let _closed = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// The failure, and its exit code.
    pub(crate) fn fail(self, failure: &Failure) -> ExitCode {
        if self.json {
            self.note(&failure.json.to_string());
        } else {
            self.note(&printable(&format!("error: {}", failure.text)));
        }
        ExitCode::from(failure.exit)
    }
}

/// Text that came from elsewhere, with control characters escaped: a name must not move a terminal's cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                format!("\\u{{{:x}}}", u32::from(c))
            } else {
                c.to_string()
            }
        })
        .collect()
}

/// A plain table: columns aligned with spaces, no ornament. Headings are dimmed on a terminal only.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| printable(cell).replace(['\n', '\t'], " ")).collect())
        .collect();
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}", width = *width))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let head = line(&headings.iter().map(|heading| heading.to_uppercase()).collect::<Vec<_>>());
    let head = if std::io::stdout().is_terminal() { format!("\u{1b}[2m{head}\u{1b}[0m") } else { head };
    let mut out = head;
    for row in &rows {
        out.push('\n');
        out.push_str(&line(row));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{printable, table};

    #[test]
    fn tables_are_aligned_and_hostile_names_cannot_move_the_cursor() {
        let rows = vec![
            vec![String::from("a\u{1b}[2J"), String::from("1")],
            vec![String::from("longer name\nx"), String::new()],
        ];
        assert_eq!(table(&["name", "n"], &rows), "NAME           N\na\\u{1b}[2J     1\nlonger name x");
        assert_eq!(printable("a\u{7}b\nc"), "a\\u{7}b\nc");
    }
}
