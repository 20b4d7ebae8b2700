//! What is looked for: values of fields, words, and a time. All of it must fit.

use std::collections::BTreeMap;

use portcullis_core::{Digest, Timestamp};
use serde_json::{Value, json};

use crate::{
    Field, ForensicsError,
    moment::{TIMES, moment},
    words,
};

/// Values of fields that one search may ask for.
const VALUES_MAX: usize = 32;
/// Words that one search may ask for.
const WORDS_MAX: usize = 16;
/// Bytes of one value.
const VALUE_BYTES_MAX: usize = 4_096;

/// In which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// That of the ledger.
    #[default]
    Oldest,
    /// The other way round.
    Newest,
}

/// What is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    values: Vec<(Field, String)>,
    words: Vec<String>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
    /// Not before this index.
    pub first: u64,
}

impl Search {
    /// Reads a question: names of fields with their values, `text` with words, `from` and `to` with times as people write
    /// them, `first` with an index.
    ///
    /// # Errors
    /// A name that is none, or a value that cannot be looked for.
    pub fn read<'q>(
        question: impl IntoIterator<Item = (&'q str, &'q str)>,
        now: Timestamp,
    ) -> Result<Self, ForensicsError> {
        let mut out = Self::default();
        for (name, value) in question {
            out.add(name, value, now).map_err(|(no, hint)| ForensicsError::Question(no, hint))?;
        }
        Ok(out)
    }

    fn add(&mut self, name: &str, value: &str, now: Timestamp) -> Result<(), (String, &'static str)> {
        let no = |reason: &str, hint| Err((reason.to_owned(), hint));
        if value.len() > VALUE_BYTES_MAX || self.values.len() >= VALUES_MAX {
            return no("too much is looked for at once", "at most 32 values of at most 4096 bytes");
        }
        match name {
            "from" => self.from = Some(moment(value, now).map_err(|no| (no, TIMES))?),
            "to" => self.to = Some(moment(value, now).map_err(|no| (no, TIMES))?),
            "first" => match value.parse() {
                Ok(index) => self.first = index,
                Err(_) => return no("`first` is the index of an entry", "write a whole number"),
            },
            "text" => {
                self.words.extend(words::asked(value));
                if self.words.is_empty() || self.words.len() > WORDS_MAX {
                    return no("`text` has no words, or more than 16", "write words that all must be there");
                }
            }
            _ => {
                let Some(field) = Field::named(name) else {
                    let reason = format!("entries are not found by `{}`", name.escape_default());
                    return no(&reason, "docs/operate/forensics.md lists the filters");
                };
                field.check(value)?;
                self.values.push((field, value.to_owned()));
            }
        }
        Ok(())
    }

    /// Whether an entry is one of these. This is what a search means; the index only finds them sooner.
    #[must_use]
    pub fn fits(&self, index: u64, entry: &Value) -> bool {
        let at = || entry.get("at").and_then(Value::as_str).and_then(Timestamp::parse);
        let timely = match (self.from, self.to) {
            (None, None) => true,
            (from, to) => {
                at().is_some_and(|at| from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to))
            }
        };
        index >= self.first
            && timely
            && self
                .values
                .iter()
                .all(|(field, wanted)| field.values(entry).iter().any(|value| field.is(value, wanted)))
            && self.words.iter().all(|word| words::has(entry, word))
    }

    /// What to look for in the index: a query of SQLite's FTS5. Empty where the index cannot help.
    pub(crate) fn expression(&self) -> String {
        let values = self.values.iter().filter_map(|(field, wanted)| field.sought(wanted));
        let words = self.words.iter().map(|word| words::sought(word));
        values.chain(words).collect::<Vec<_>>().join(" AND ")
    }

    /// The search as it stands in the ledger entry about it. Words that people type may be anything, also what must not
    /// be kept: `conceal` makes a keyed digest of them.
    #[must_use]
    pub fn recorded(&self, conceal: impl Fn(&str) -> Option<Digest>) -> Value {
        let mut filters: BTreeMap<&str, Value> = BTreeMap::new();
        for (field, wanted) in &self.values {
            let cut: String = wanted.chars().take(256).collect();
            if let Value::Array(list) = filters.entry(field.name()).or_insert_with(|| json!([])) {
                list.push(cut.into());
            }
        }
        if !self.words.is_empty() {
            let digest =
                |word: &String| conceal(word).map_or_else(|| "concealed".to_owned(), |it| it.to_string());
            filters.insert("text", self.words.iter().map(digest).collect());
        }
        for (name, at) in [("from", self.from), ("to", self.to)] {
            if let Some(at) = at {
                filters.insert(name, at.to_string().into());
            }
        }
        if self.first > 0 {
            filters.insert("first", self.first.into());
        }
        json!(filters)
    }

    /// What tells this search from another.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(format!("{self:?}").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(question: &[(&str, &str)]) -> Result<Search, ForensicsError> {
        Search::read(question.iter().copied(), Timestamp(0))
    }

    #[test]
    fn what_cannot_be_looked_for_is_refused_with_a_hint() {
        for question in [
            ("colour", "red"),
            ("tool", ""),
            ("from", "soon"),
            ("first", "-1"),
            ("text", "--"),
            ("input", "12"),
        ] {
            let refused = read(&[question]).unwrap_err();
            assert!(
                matches!(refused, ForensicsError::Question(..)) && !refused.hint().is_empty(),
                "{refused}"
            );
        }
        assert!(read(&vec![("tool", "x"); 33]).is_err());
    }

    #[test]
    fn the_record_of_a_search_names_who_was_looked_for_and_conceals_what_was_typed() {
        let search =
            read(&[("caller", "key:abc"), ("text", "4111-1111 Smith"), ("from", "2026-11-01")]).unwrap();
        let record = search.recorded(|word| Some(Digest::of(word.as_bytes()))).to_string();
        assert!(record.contains("key:abc") && record.contains("2026-11-01T00:00"), "{record}");
        assert!(!record.contains("4111") && !record.to_lowercase().contains("smith"), "{record}");
        assert!(search.recorded(|_| None).to_string().contains("concealed"));
    }
}
