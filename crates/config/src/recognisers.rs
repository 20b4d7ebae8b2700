//! What is looked for beyond the detectors there are.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use portcullis_core::{Label, Severity};
use portcullis_inspect::Recogniser;

use super::decode::{choice, section};

section! {
    /// Something that is looked for beyond the detectors there are. What is done about it stands under `inspect`, by its name;
    /// finds in answers are masked where nothing stands there.
    RecogniserSection {
        /// Regular expressions, without look-around and references back, of which no match is longer than 256 bytes.
        patterns: Vec<String>;
        /// Words that are finds as they are, where they are no part of a longer word.
        words: Vec<String>;
        /// Words of which one has to stand within 96 bytes of a match of a pattern, or in the name of the member that holds it.
        context: Vec<String>;
        /// What the digits of a match of a pattern must come to.
        check: Option<CheckDigit>;
        /// Whether capital letters count.
        case_sensitive: bool = false;
        /// How bad a find is.
        severity: Grade = Grade::Medium;
        /// What kind of data it is.
        labels: Vec<Label>;
    }
}

choice! {
    /// A check digit.
    CheckDigit {
        /// ISO/IEC 7812-1, as in payment cards.
        Luhn = "luhn",
        /// Verhoeff's scheme, as in Aadhaar.
        Verhoeff = "verhoeff",
        /// ISO 7064, modulus 11,10, as in the German Steuer-ID.
        Mod11 = "mod11_10",
        /// ISO 7064, modulus 97,10: the number leaves 1.
        Mod97 = "mod97_10",
    }
}

choice! {
    /// How bad a find is.
    Grade {
        /// Worth counting.
        Info = "info",
        /// Worth a look.
        Low = "low",
        /// Likely unwanted.
        Medium = "medium",
        /// Likely an attack or a leak.
        High = "high",
        /// Somebody should look now.
        Critical = "critical",
    }
}

/// Names of recognisers that one process keeps: they live as long as it.
const NAMES_MAX: usize = 4_096;
/// Whether finds can be called so: it stands in placeholders, tokens and metrics.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The one copy of a name; none where there are too many.
fn kept(name: &str) -> Option<&'static str> {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return Some(known);
    }
    if names.len() >= NAMES_MAX || !is_name(name) {
        return None;
    }
    let name: &'static str = Box::leak(Box::from(name));
    names.insert(name);
    Some(name)
}

impl RecogniserSection {
    /// As detectors take it; none where the name cannot be one, or there were too many.
    pub(crate) fn compiled(&self, name: &str) -> Option<Recogniser> {
        let Self { patterns, words, context, check, case_sensitive, severity, labels } = self;
        Some(Recogniser {
            name: kept(name)?,
            patterns: patterns.clone(),
            words: words.clone(),
            context: context.clone(),
            check: check.map(|check| match check {
                CheckDigit::Luhn => portcullis_inspect::Check::Luhn,
                CheckDigit::Verhoeff => portcullis_inspect::Check::Verhoeff,
                CheckDigit::Mod11 => portcullis_inspect::Check::Mod11,
                CheckDigit::Mod97 => portcullis_inspect::Check::Mod97,
            }),
            case: *case_sensitive,
            severity: match severity {
                Grade::Info => Severity::Info,
                Grade::Low => Severity::Low,
                Grade::Medium => Severity::Medium,
                Grade::High => Severity::High,
                Grade::Critical => Severity::Critical,
            },
            labels: labels.iter().copied().collect(),
        })
    }
}
