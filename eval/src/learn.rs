//! What the classifier learns from which texts, and how it does on sources that it has not learnt from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, anyhow};
use portcullis_core::Digest;
use portcullis_inspect::{
    Role,
    learned::{self, Model, Words},
};

use crate::{
    boost::{Example, boost},
    corpus::Row,
    generate::Maker,
    grammar::Grammar,
    train::{Lesson, ONE_TURN, TURNS, Trained, train},
};

/// Where learning begins; another one gives another, equally good table.
pub const SEED: u64 = 0x706f_7274;
/// Generated attacks, and generated texts that only look like some, for each role.
const BAD: usize = 16_000;
const HARMLESS: usize = 7_000;
/// What the rows of one class of one source count together, at most.
const CLASS_WEIGHT: f32 = 120.0;
/// How much a harmless text of another kind counts: descriptions beside answers, and what users ask.
const OTHER_WEIGHT: f32 = 1.0;
const ASKED_WEIGHT: f32 = 0.3;
/// Trainings at once.
const THREADS: usize = 2;
/// Groups of sources and tactics; what the second look learns of each comes from a table that has seen the others.
const HELD_OUT: usize = 3;
/// How much a part that is no order counts in the second look.
const HARMLESS_WEIGHT: f32 = 1.0;
/// Sources of harmless texts that are left out together: there are too many for a training each.
const GROUPS: usize = 4;

/// The kind of rows that a role is measured on.
pub const fn kind(role: Role) -> &'static str {
    match role {
        Role::Definition => "tool_description",
        Role::Answer | Role::Argument => "tool_result",
    }
}

/// The file of the table of a role, in the crate `inspect`.
pub const fn file(role: Role) -> &'static str {
    match role {
        Role::Definition => "definition.bin",
        Role::Answer | Role::Argument => "answer.bin",
    }
}

/// Learns from the rows and from generated texts.
pub fn learn(
    words: &Words,
    grammar: &Grammar,
    role: Role,
    rows: &[&Row],
    skip: impl Fn(&str) -> bool,
) -> Result<Trained> {
    let own: Vec<&&Row> = rows.iter().filter(|row| row.kind == kind(role)).collect();
    let mut sizes = BTreeMap::<(&str, &str), f32>::new();
    for row in &own {
        *sizes.entry((&row.source, &row.category)).or_default() += 1.0;
    }
    let mut lessons = Vec::new();
    for row in &own {
        let size = sizes.get(&(row.source.as_str(), row.category.as_str())).copied().unwrap_or(1.0);
        let weight = if row.is_benign() { 1.0 } else { (CLASS_WEIGHT / size).min(1.0) };
        let lesson = Lesson::new(words, &row.text, row.payload.as_deref(), !row.is_benign(), weight);
        lessons.push(lesson.of(group(&row.source)));
    }
    for row in rows.iter().filter(|row| row.kind != kind(role) && row.is_benign()) {
        let weight = match row.kind.as_str() {
            "tool_description" | "tool_result" => OTHER_WEIGHT,
            "user_text" => ASKED_WEIGHT,
            _ => continue,
        };
        lessons.push(Lesson::new(words, &row.text, None, false, weight).of(group(&row.source)));
    }
    let carriers: Vec<&str> = own.iter().filter(|row| row.is_benign()).map(|row| row.text.as_str()).collect();
    let mut maker = Maker::new(grammar, role, &carriers, SEED, skip);
    for at in 0..BAD + HARMLESS {
        let made = maker.make(at < BAD)?;
        lessons
            .push(Lesson::new(words, &made.text, Some(&made.payload), made.bad, 1.0).of(group(&made.family)));
    }
    let all: Vec<&Lesson> = lessons.iter().collect();
    // Trees found fewer of the poisoned definitions of a list from which nothing was learnt than the table alone.
    if role == Role::Definition {
        return Ok(train(&all, SEED, TURNS));
    }
    let mut examples = Vec::new();
    for held in 0..HELD_OUT {
        let rest: Vec<&Lesson> = all.iter().copied().filter(|lesson| lesson.group != held).collect();
        let trained = train(&rest, SEED, ONE_TURN);
        let model = Model::new(&trained.weights, trained.bias, &trained.trees);
        for lesson in all.iter().filter(|lesson| lesson.group == held) {
            examples_of(words, &model, lesson, &mut examples);
        }
    }
    let trees = boost(&examples, SEED);
    Ok(Trained { trees, ..train(&all, SEED, TURNS) })
}

/// What the second look learns of a text: its parts, as a table of weights finds them that has not seen the like.
fn examples_of(words: &Words, model: &Model<'_>, lesson: &Lesson, examples: &mut Vec<Example>) {
    for (at, part) in model.parts(words, &lesson.text).into_iter().enumerate() {
        let bad = lesson.bad
            && lesson.payload.map_or(at == 0, |(start, end)| {
                let common = part.tokens.end.min(end).saturating_sub(part.tokens.start.max(start));
                3 * common >= part.tokens.len()
            });
        // Beside the attack stands something harmless; where nobody says where the attack is, only the first part counts.
        if lesson.bad && !bad && lesson.payload.is_none() {
            continue;
        }
        let Some(signs) = part.signs else { continue };
        let weight = if bad { lesson.weight } else { lesson.weight * HARMLESS_WEIGHT };
        examples.push(Example { signs, bad, weight });
    }
}

/// The group of a source or a tactic.
fn group(source: &str) -> usize {
    source.bytes().fold(7_usize, |sum, byte| (sum * 31 + usize::from(byte)) % 1_000_003) % HELD_OUT
}

/// The score of each row of a role, by a classifier that has seen nothing of its source: by the row's place.
pub fn unseen(words: &Words, grammar: &Grammar, role: Role, rows: &[Row]) -> Result<BTreeMap<usize, u16>> {
    let own: Vec<(usize, &Row)> = rows.iter().enumerate().filter(|(_, row)| row.kind == kind(role)).collect();
    let attackers: BTreeSet<&str> =
        own.iter().filter(|(_, row)| !row.is_benign()).map(|(_, row)| row.source.as_str()).collect();
    let others: BTreeSet<&str> =
        own.iter().map(|(_, row)| row.source.as_str()).filter(|source| !attackers.contains(source)).collect();
    let mut folds: Vec<BTreeSet<&str>> = attackers.iter().map(|one| BTreeSet::from([*one])).collect();
    let groups = GROUPS.min(others.len());
    folds.extend((0..groups).map(|group| {
        others.iter().enumerate().filter(|(at, _)| at % groups == group).map(|(_, one)| *one).collect()
    }));
    let judged = |fold: &BTreeSet<&str>| -> Result<Vec<(usize, u16)>> {
        let rest: Vec<&Row> = rows.iter().filter(|row| !fold.contains(row.source.as_str())).collect();
        let trained = learn(words, grammar, role, &rest, |_| false)?;
        let model = Model::new(&trained.weights, trained.bias, &trained.trees);
        let held = own.iter().filter(|(_, row)| fold.contains(row.source.as_str()));
        Ok(held.map(|(at, row)| (*at, score(&model, words, &row.text))).collect())
    };
    // Each takes what nobody else has begun; the scores do not depend on who does.
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, u16)>> {
        let mut out = Vec::new();
        while let Some(fold) = folds.get(next.fetch_add(1, Ordering::Relaxed)) {
            out.extend(judged(fold)?);
        }
        Ok(out)
    };
    let parts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let done = |thread: std::thread::ScopedJoinHandle<'_, Result<Vec<(usize, u16)>>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("a training did not end well")))
        };
        threads.into_iter().map(done).collect::<Result<Vec<_>>>()
    })?;
    Ok(parts.into_iter().flatten().collect())
}

/// What a classifier makes of a text.
pub fn score(model: &Model<'_>, words: &Words, text: &str) -> u16 {
    let looks = learned::readings(words, text).into_iter().filter_map(|text| model.look(words, &text));
    looks.map(|(_, score)| score).max().unwrap_or_default()
}

/// Learns from everything and writes the tables, and of what they were made.
pub fn write(words: &Words, grammar: &Grammar, rows: &[Row], (corpus, root): (&Path, &Path)) -> Result<()> {
    let all: Vec<&Row> = rows.iter().collect();
    for role in [Role::Definition, Role::Answer] {
        let trained = learn(words, grammar, role, &all, |_| false)?;
        let mut bytes = trained.weights;
        bytes.extend(trained.bias.to_le_bytes());
        bytes.extend(trained.trees);
        let path = root.join(MODELS).join(file(role));
        std::fs::write(&path, bytes).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let path = root.join(MODELS).join(MADE_OF);
    std::fs::write(&path, made_of(corpus, root)?)
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// Where the tables stand, and beside them of what they were made.
const MODELS: &str = "crates/inspect/models";
const MADE_OF: &str = "made-of.txt";

/// The digests of the tables and of what they were made of: another one of the latter wants them trained again.
fn made_of(corpus: &Path, root: &Path) -> Result<String> {
    let mut paths: Vec<PathBuf> =
        ["definition.bin", "answer.bin"].map(|name| Path::new(MODELS).join(name)).into();
    for name in ["attention", "families", "harmless", "plain", "tactics", "words"] {
        paths.push(Path::new("eval/grammar").join(name).with_extension("txt"));
    }
    for name in ["boost", "generate", "grammar", "train"] {
        paths.push(Path::new("eval/src").join(name).with_extension("rs"));
    }
    let mut lines = String::new();
    let named = paths.iter().map(|path| (path.display().to_string(), root.join(path)));
    for (name, path) in named.chain([("injection.jsonl".to_owned(), corpus.join("injection.jsonl"))]) {
        let bytes = std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        lines.push_str(&format!("{} {name}\n", Digest::of(&bytes)));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_were_made_by_this_program_of_these_texts() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let made = std::fs::read_to_string(root.join(MODELS).join(MADE_OF)).unwrap();
        let now = made_of(&root.join("../shared/corpus"), &root).unwrap();
        assert_eq!(now, made, "`cargo xtask train` makes them again");
    }
}
