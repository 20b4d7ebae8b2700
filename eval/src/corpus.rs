//! Corpora: one JSON object a line, in the format that the development corpus describes.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// A piece of a text and what it is. Offsets count characters.
#[derive(Clone, Debug, Deserialize)]
pub struct Span {
    /// The first character.
    pub start: usize,
    /// The character after the last.
    pub end: usize,
    /// What it is: `EMAIL`, `IBAN`, and so on.
    #[serde(rename = "type")]
    pub kind: String,
}

/// One labelled text.
#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    /// Where it comes from.
    pub source: String,
    /// `tool_description`, `tool_args`, `tool_result`, `user_text`, `secret`, `pii`, `call_sequence`.
    pub kind: String,
    /// `benign`, or what is wrong with it.
    pub label: String,
    /// The class within its label.
    pub category: String,
    /// The text itself.
    pub text: String,
    /// The attack in the text, where it is known.
    #[serde(default)]
    pub payload: Option<String>,
    /// First character of a secret.
    #[serde(default)]
    pub start: Option<usize>,
    /// Character after the last of a secret.
    #[serde(default)]
    pub end: Option<usize>,
    /// Personal data in the text.
    #[serde(default)]
    pub spans: Vec<Span>,
    /// What a classifier makes of it that has seen nothing of its source.
    #[serde(skip)]
    pub unseen: Option<u16>,
}

impl Row {
    /// Whether nothing is wrong with it.
    pub fn is_benign(&self) -> bool {
        self.label == "benign"
    }

    /// Characters to bytes.
    pub fn bytes(&self, start: usize, end: usize) -> (usize, usize) {
        let at = |characters| self.text.char_indices().nth(characters).map_or(self.text.len(), |(at, _)| at);
        (at(start), at(end))
    }
}

/// Every row of every `.jsonl` file of a folder that has a text. Rows of other forms are counted, not read.
pub fn read(folder: &Path) -> Result<Vec<Row>> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .with_context(|| format!("{} cannot be read", folder.display()))?
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    let mut rows = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let value: serde_json::Value =
                serde_json::from_str(line).with_context(|| format!("{}:{}", file.display(), number + 1))?;
            if value.get("text").is_some_and(serde_json::Value::is_string) && value["kind"] != "call_sequence"
            {
                rows.push(
                    serde_json::from_value(value)
                        .with_context(|| format!("{}:{}", file.display(), number + 1))?,
                );
            }
        }
    }
    anyhow::ensure!(
        !rows.is_empty(),
        "{} holds no rows; hint: --corpus names a folder of .jsonl files",
        folder.display()
    );
    Ok(rows)
}
