//! Texts to learn from: what the grammar makes, put into harmless texts as attackers do.

use anyhow::Result;
use portcullis_inspect::Role;

use crate::grammar::{Chance, Grammar};

/// A text, and the attack in it.
#[derive(Clone, Debug)]
pub struct Made {
    /// The whole.
    pub text: String,
    /// The part that is an attack, or looks like one.
    pub payload: String,
    /// Whether it is one.
    pub bad: bool,
    /// Its tactic.
    pub family: String,
}

/// Tactics that are met most, by a part of their names, and how many times as often they are made as others.
const COMMON: &[&str] = &["override", "ignor", "turn_away", "label_order", "trigger", "supersede"];
const OFTEN: usize = 4;

/// Makes texts for one role.
#[derive(Debug)]
pub struct Maker<'a> {
    grammar: &'a Grammar,
    role: Role,
    carriers: &'a [&'a str],
    bad: Vec<&'a str>,
    harmless: Vec<&'a str>,
    chance: Chance,
}

impl<'a> Maker<'a> {
    /// `skip` leaves families out, to see what becomes of tactics that were never seen.
    pub fn new(
        grammar: &'a Grammar,
        role: Role,
        carriers: &'a [&'a str],
        seed: u64,
        skip: impl Fn(&str) -> bool,
    ) -> Self {
        let (bad, harmless): (&[&str], &[&str]) = match role {
            Role::Definition => (&["b.", "d."], &["nd."]),
            Role::Answer | Role::Argument => (&["b.", "r."], &["nr."]),
        };
        let often = |family: &str| if COMMON.iter().any(|part| family.contains(part)) { OFTEN } else { 1 };
        let families = grammar.families(bad).into_iter().filter(|family| !skip(family));
        let bad = families.flat_map(|family| core::iter::repeat_n(family, often(family))).collect();
        Self { grammar, role, carriers, bad, harmless: grammar.families(harmless), chance: Chance::new(seed) }
    }

    /// One text; `bad` says of which kind.
    pub fn make(&mut self, bad: bool) -> Result<Made> {
        let families = if bad { &self.bad } else { &self.harmless };
        let family = self.chance.one(families).copied().unwrap_or_default();
        let mut payload = self.grammar.text(family, &mut self.chance)?;
        if self.chance.percent(12) {
            let more = self.chance.one(families).copied().unwrap_or_default();
            payload = format!("{payload} {}", self.grammar.text(more, &mut self.chance)?);
        }
        let payload = self.written(payload);
        let carrier = self.chance.one(self.carriers).copied().unwrap_or_default();
        let text = match self.role {
            Role::Definition => self.described(carrier, &payload),
            Role::Answer | Role::Argument => self.answered(carrier, &payload),
        };
        Ok(Made { text, payload, bad, family: family.to_owned() })
    }

    /// As people write: capitals, small letters, no full stop, a line in the middle.
    fn written(&mut self, payload: String) -> String {
        match self.chance.below(20) {
            0 => payload.to_uppercase(),
            1 | 2 => payload.to_lowercase(),
            3 => payload.trim_end_matches('.').to_owned(),
            4 => payload.replacen(". ", ".\n", 1),
            5 => {
                let mut letters = payload.chars();
                letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
            }
            _ => payload,
        }
    }

    fn described(&mut self, carrier: &str, payload: &str) -> String {
        let lines: Vec<&str> = carrier.lines().collect();
        let (first, rest) = lines.split_first().map_or(("", [].as_slice()), |(first, rest)| (*first, rest));
        match self.chance.below(8) {
            0 => format!("{carrier} {payload}"),
            1 | 2 => format!("{carrier}\n{payload}"),
            3 => format!("{first} {payload}\n{}", rest.join("\n")),
            4 => format!("{first}\n{payload}\n{}", rest.join("\n")),
            5 => {
                let name = first.split(':').next().unwrap_or_default();
                format!("{name}: {payload}")
            }
            6 => {
                let names = ["notes", "context", "debug", "metadata", "query", "format", "extra"];
                let name = self.chance.one(&names).copied().unwrap_or_default();
                format!("{carrier}\n- {name}: {payload}")
            }
            _ => {
                let blank = "\n".repeat(4 + self.chance.below(30));
                format!("{carrier}{blank}{payload}")
            }
        }
    }

    fn answered(&mut self, carrier: &str, payload: &str) -> String {
        // Not always a whole page: half of them begin and end somewhere.
        let length = carrier.chars().count();
        let part: String = if self.chance.percent(50) {
            let from = self.chance.below(length / 2 + 1);
            carrier.chars().skip(from).take(80 + self.chance.below(400)).collect()
        } else {
            carrier.to_owned()
        };
        let lines: Vec<&str> = part.lines().collect();
        match self.chance.below(10) {
            0 => payload.to_owned(),
            1 | 2 => format!("{part}\n\n{payload}"),
            3 => format!("{payload}\n\n{part}"),
            4 | 5 => {
                let at = self.chance.below(lines.len() + 1);
                let (before, after) = lines.split_at(at.min(lines.len()));
                format!("{}\n{payload}\n{}", before.join("\n"), after.join("\n"))
            }
            6 => {
                let fields = ["comment", "description", "body", "content", "bio", "title", "note", "text"];
                let field = self.chance.one(&fields).copied().unwrap_or_default();
                format!(
                    r#"{{"id": {}, "{field}": "{payload}", "excerpt": "{part}"}}"#,
                    self.chance.below(99_999)
                )
            }
            7 => format!("{part}. {payload}"),
            8 => format!("- {}\n- {payload}", lines.join("\n- ")),
            _ => format!(r#"{{"status": "ok", "result": "{part}\n\n{payload}"}}"#),
        }
    }
}
