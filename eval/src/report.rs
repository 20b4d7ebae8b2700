//! The page that the evaluation writes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::stats::{Share, mean};

/// Rows of misses that a class lists at most; their texts stay in the corpus.
const LISTED_MAX: usize = 12;

/// A page of Markdown that grows.
#[derive(Debug, Default)]
pub struct Report(pub String);

impl Report {
    /// A line of text.
    pub fn say(&mut self, text: impl AsRef<str>) {
        let _ = writeln!(self.0, "{}\n", text.as_ref());
    }

    /// A table of shares.
    pub fn shares(&mut self, head: &str, value: &str, shares: &BTreeMap<String, Share>) {
        let _ = writeln!(self.0, "| {head} | {value} |\n|---|---|");
        for (name, share) in shares {
            let _ = writeln!(self.0, "| {name} | {share} |");
        }
        let _ = writeln!(self.0, "| *mean* | {:.1} % |\n", mean(shares.values()) * 100.0);
    }

    /// How many of each class were missed, most first.
    pub fn misses(&mut self, shares: &BTreeMap<String, Share>) {
        let mut missed: Vec<_> = shares
            .iter()
            .filter(|(_, share)| share.hits < share.of)
            .map(|(name, share)| (share.of - share.hits, name))
            .collect();
        missed.sort_by(|one, other| other.cmp(one));
        if missed.is_empty() {
            self.say("Missed: none.");
            return;
        }
        let more = missed.len().saturating_sub(LISTED_MAX * 4);
        let list: Vec<_> =
            missed.iter().take(LISTED_MAX * 4).map(|(count, name)| format!("{name} {count}")).collect();
        let tail = if more > 0 { format!(", and {more} classes more") } else { String::new() };
        self.say(format!("Missed: {}{tail}.", list.join(", ")));
    }
}
