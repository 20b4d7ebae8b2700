//! Figures beside what is aimed at, as lines or as JSON.

use anyhow::Result;

/// Median time of a list of 500 tools, µs.
pub(crate) const LIST_US_AIM: f64 = 1_000.0;

/// One figure beside what is aimed at.
#[derive(Debug, serde::Serialize)]
struct Row {
    name: String,
    aim: f64,
    seen: f64,
    unit: &'static str,
    met: bool,
    note: String,
}

/// What was measured so far.
#[derive(Debug)]
pub(crate) struct Rows {
    rows: Vec<Row>,
    /// Said at the end, instead of line by line.
    json: bool,
}

impl Rows {
    /// None yet; said as lines, or at the end as `json`.
    pub(crate) const fn new(json: bool) -> Self {
        Self { rows: Vec::new(), json }
    }

    /// Whether every aim was met.
    pub(crate) fn end(self) -> Result<bool> {
        if self.json {
            crate::say(&serde_json::to_string_pretty(&self.rows)?)?;
        }
        Ok(self.rows.iter().all(|row| row.met))
    }

    /// Adds a figure; no more than `aim` is wanted.
    pub(crate) fn add(
        &mut self,
        name: &str,
        seen: f64,
        aim: f64,
        unit: &'static str,
        note: &str,
    ) -> Result<()> {
        let met = seen <= aim;
        self.rows.push(Row { name: name.to_owned(), aim, seen, unit, met, note: note.to_owned() });
        if self.json {
            return Ok(());
        }
        let word = if met { "met" } else { "MISSED" };
        crate::say(&format!("{name:<50} aim {aim:>7.1}  seen {seen:>8.2} {unit:<4} {word:<7} {note}"))
    }
}
