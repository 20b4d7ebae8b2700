//! The tokens of an entry: one for each value of a field, one for each word of its texts. A token has letters and digits
//! alone and begins with the letter of its field, so that the index needs no columns.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::Field;

/// What tokens of words begin with.
const WORD: char = 'w';
/// Words of one entry that are indexed; an entry of refusals has about twenty.
const WORDS_MAX: usize = 512;
/// Letters of a word that count.
const WORD_CHARS: usize = 40;

/// Members whose words are found: names and reasons. Ids of people, addresses and digests have fields of their own,
/// and can be asked for there alone.
const TEXTS: &[&str] =
    &["code", "detail", "event", "method", "target", "findings", "decision", "data", "output"];

/// The tokens of `entry`, one after the other with spaces between them.
pub(crate) fn of(entry: &Value) -> String {
    let mut tokens = BTreeSet::new();
    for field in Field::ALL {
        for value in field.values(entry) {
            field.tokens(value, |token| {
                tokens.insert(token);
            });
        }
    }
    let fields = tokens.len();
    each_word(entry, &mut |word| {
        if tokens.len() < fields + WORDS_MAX {
            tokens.insert(token(word));
        }
    });
    tokens.into_iter().collect::<Vec<_>>().join(" ")
}

/// Whether a word that is looked for is in the texts of `entry`; a trailing `*` stands for any rest.
pub(crate) fn has(entry: &Value, wanted: &str) -> bool {
    let (wanted, open) = wanted.strip_suffix('*').map_or((wanted, false), |start| (start, true));
    let wanted = lowered(wanted);
    let (mut found, mut seen) = (false, BTreeSet::new());
    each_word(entry, &mut |word| {
        let word = lowered(word);
        if seen.len() < WORDS_MAX || seen.contains(&word) {
            found |= if open { word.starts_with(&wanted) } else { word == wanted };
            seen.insert(word);
        }
    });
    found
}

/// What to look for in the index for a word.
pub(crate) fn sought(wanted: &str) -> String {
    match wanted.strip_suffix('*') {
        Some(start) => format!("\"{}\"*", token(start)),
        None => format!("\"{}\"", token(wanted)),
    }
}

/// The words of a text that is looked for, each with its star.
pub(crate) fn asked(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for part in text.split_whitespace() {
        let open = part.ends_with('*');
        let mut words: Vec<String> = split(part).map(str::to_owned).collect();
        if let (true, Some(last)) = (open, words.last_mut()) {
            last.push('*');
        }
        out.append(&mut words);
    }
    out
}

fn token(word: &str) -> String {
    format!("{WORD}{}", lowered(word))
}

fn lowered(word: &str) -> String {
    word.chars().flat_map(char::to_lowercase).take(WORD_CHARS).collect()
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

fn each_word(entry: &Value, take: &mut impl FnMut(&str)) {
    for member in TEXTS {
        if let Some(value) = entry.get(member) {
            walk(value, take);
        }
    }
}

fn walk(value: &Value, take: &mut impl FnMut(&str)) {
    match value {
        // A digest is found by its field; its digits are no words.
        Value::String(text) if text.starts_with("sha256:") => {}
        Value::String(text) => split(text).for_each(take),
        Value::Array(items) => items.iter().for_each(|item| walk(item, take)),
        Value::Object(members) => members.values().for_each(|member| walk(member, take)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_of_names_and_reasons_are_found_and_ids_addresses_and_digests_are_not() {
        let entry = json!({
            "actor": {"id": "mira.lind@corp.example"}, "source": "192.0.2.7", "detail": "Path /etc/Passwd is refused",
            "target": {"server": "files", "name": "read_file", "digest": "sha256:aabb"}, "data": {"reason": "ΣΊΣΥΦΟΣ"},
        });
        for (word, found) in [
            ("passwd", true),
            ("PASSWD", true),
            ("pass*", true),
            ("pass", false),
            ("read", true),
            ("σίσυ*", true),
            ("mira", false),
            ("192", false),
            ("aabb", false),
        ] {
            assert_eq!(has(&entry, word), found, "{word}");
            let token = sought(word);
            let bare = token.trim_matches(['"', '*']).to_owned();
            let open = token.ends_with('*');
            let tokens = of(&entry);
            let there = tokens.split(' ').any(|one| if open { one.starts_with(&bare) } else { one == bare });
            assert_eq!(there, found, "{word} in {tokens}");
        }
        assert_eq!(asked("read-file* \"x\" *"), ["read", "file*", "x"]);
    }
}
