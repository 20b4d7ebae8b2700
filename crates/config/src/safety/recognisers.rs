//! Recognisers that cannot work, and values that would allow everything.

use portcullis_inspect::{CATALOG, Recogniser};

use crate::{decode::place, mistake::ConfigMistake, recognisers::is_name, sections::Settings, yaml::Node};

/// Patterns of all recognisers.
const PATTERNS_MAX: usize = 256;
/// Words of all recognisers.
const WORDS_MAX: usize = 100_000;
/// What a name has to be.
const NAME_HINT: &str = "use up to 32 small letters, digits and `_`, beginning with a letter";

/// What is wrong with them, and with what is never a find.
pub(super) fn mistakes(settings: &Settings, root: &Node) -> Vec<ConfigMistake> {
    let mut out = Vec::new();
    let mut refuse = |key: String, message: String, hint: &str| {
        out.push(ConfigMistake::new(place(root, &key), key, message, hint));
    };
    if settings.recognisers.len() > Recogniser::COUNT_MAX {
        let message = format!("{}, {} are allowed", settings.recognisers.len(), Recogniser::COUNT_MAX);
        refuse("recognisers".into(), message, "one recogniser can have many patterns and words");
    }
    let patterns: usize = settings.recognisers.values().map(|one| one.patterns.len()).sum();
    if patterns > PATTERNS_MAX {
        let message = format!("{patterns} patterns, {PATTERNS_MAX} are allowed");
        refuse("recognisers".into(), message, "join some with `|`");
    }
    let words: usize = settings.recognisers.values().map(|one| one.words.len() + one.context.len()).sum();
    if words > WORDS_MAX {
        refuse("recognisers".into(), format!("{words} words, {WORDS_MAX} are allowed"), "leave some out");
    }
    for (name, section) in &settings.recognisers {
        let key = format!("recognisers.{name}");
        if CATALOG.iter().any(|kind| kind.name == name) {
            refuse(key, "there is a detector of this name".into(), "choose another name");
        } else if !is_name(name) {
            refuse(key, "cannot be the name of finds".into(), NAME_HINT);
        } else if let Some(recogniser) = section.compiled(name) {
            if let Some(problem) = recogniser.problem() {
                refuse(key, problem, "docs/operate/inspection.md, \"Recognisers of your own\"");
            }
        } else {
            refuse(key, "this process has seen too many names".into(), "restart the gateway");
        }
    }
    for (name, section) in &settings.inspect {
        let key = format!("inspect.{}.allow", name.0);
        for value in &section.allow {
            if value.chars().all(|c| c == '*' || c.is_whitespace()) {
                let hint = format!("name values, or set `inspect.{}.enabled: false`", name.0);
                refuse(key.clone(), format!("`{value}` would allow everything or nothing"), &hint);
            }
        }
    }
    out
}
