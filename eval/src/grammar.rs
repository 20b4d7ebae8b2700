//! Texts from a grammar: rules of alternatives that name other rules. The grammar is ours and stands in `eval/grammar`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

/// Rules that stand within each other at most so deep.
const DEPTH_MAX: usize = 12;

/// Numbers that look drawn by chance and are the same each time (SplitMix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`; 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() >> 11) as usize % end }
    }

    /// Whether something happens that does so in so many of a hundred cases.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of them.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let at = self.below(of.len());
        of.get(at)
    }

    /// Puts them in another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = self.below(at + 1);
            items.swap(at, other);
        }
    }
}

/// Rules by name.
#[derive(Debug)]
pub struct Grammar(BTreeMap<String, Vec<String>>);

impl Grammar {
    /// The grammar of this repository.
    pub fn ours() -> Result<Self> {
        Self::parse(&[
            include_str!("../grammar/words.txt"),
            include_str!("../grammar/families.txt"),
            include_str!("../grammar/attention.txt"),
            include_str!("../grammar/tactics.txt"),
            include_str!("../grammar/harmless.txt"),
            include_str!("../grammar/plain.txt"),
        ])
    }

    /// `@name` begins a rule, each line after it is an alternative; a line that begins with `# ` before the first rule is
    /// a comment.
    pub fn parse(texts: &[&str]) -> Result<Self> {
        let mut rules = BTreeMap::<String, Vec<String>>::new();
        for text in texts {
            let mut name = None;
            for line in text.lines() {
                if let Some(rule) = line.strip_prefix('@')
                    && rule
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_'))
                {
                    ensure!(
                        rules.insert(rule.to_owned(), Vec::new()).is_none(),
                        "rule `{rule}` stands twice"
                    );
                    name = Some(rule.to_owned());
                } else if let Some(name) = &name
                    && !line.is_empty()
                {
                    rules.entry(name.clone()).or_default().push(line.replace("\\n", "\n"));
                }
            }
        }
        rules.entry("nothing".into()).or_default().push(String::new());
        ensure!(rules.values().all(|rule| !rule.is_empty()), "a rule without alternatives");
        Ok(Self(rules))
    }

    /// The rules whose names begin so.
    pub fn families(&self, prefixes: &[&str]) -> Vec<&str> {
        self.0
            .keys()
            .map(String::as_str)
            .filter(|name| prefixes.iter().any(|one| name.starts_with(one)))
            .collect()
    }

    /// One text of a rule.
    pub fn text(&self, rule: &str, chance: &mut Chance) -> Result<String> {
        let mut out = String::new();
        self.expand(rule, chance, 0, &mut out)?;
        Ok(out)
    }

    fn expand(&self, rule: &str, chance: &mut Chance, depth: usize, out: &mut String) -> Result<()> {
        ensure!(depth < DEPTH_MAX, "rule `{rule}` stands within itself");
        let alternatives = self.0.get(rule).with_context(|| format!("there is no rule `{rule}`"))?;
        let mut rest = chance.one(alternatives).map(String::as_str).unwrap_or_default();
        while let Some(open) = rest.find('{') {
            let (before, after) = rest.split_at(open);
            out.push_str(before);
            let name = after.get(1..).and_then(|inner| inner.split_once('}')).map(|(name, _)| name);
            match name.filter(|name| self.0.contains_key(*name)) {
                Some(name) => {
                    self.expand(name, chance, depth + 1, out)?;
                    rest = after.get(name.len() + 2..).unwrap_or_default();
                }
                // A brace that is meant.
                None => {
                    out.push('{');
                    rest = after.get(1..).unwrap_or_default();
                }
            }
        }
        out.push_str(rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_of_our_grammar_makes_texts_and_the_same_ones_each_time() {
        let grammar = Grammar::ours().unwrap();
        let families = grammar.families(&["b.", "d.", "r.", "nd.", "nr."]);
        assert!(families.len() > 40, "{}", families.len());
        for family in families {
            let texts = |seed| {
                let mut chance = Chance::new(seed);
                (0..20).map(|_| grammar.text(family, &mut chance).unwrap()).collect::<Vec<_>>()
            };
            assert_eq!(texts(1), texts(1));
            assert!(texts(1).iter().all(|text| !text.is_empty()), "{family}");
        }
    }

    #[test]
    fn rules_that_stand_twice_or_within_themselves_are_mistakes() {
        assert!(Grammar::parse(&["@a\nx\n@a\ny"]).is_err() && Grammar::parse(&["@a\n@b\nx"]).is_err());
        let grammar = Grammar::parse(&["@a\n{a}\n@b\n{c} {\"x\"}"]).unwrap();
        assert!(grammar.text("a", &mut Chance::new(1)).is_err());
        assert_eq!(grammar.text("b", &mut Chance::new(1)).unwrap(), "{c} {\"x\"}");
    }
}
