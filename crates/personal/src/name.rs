//! Names of persons: a title, or what is called a name or a patient, and what follows; a given name and what follows; a
//! given name alone, which says least.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use crate::{
    Found, has,
    label::{self, Way},
    word::{Shape, Word, fold, fold_into, words},
};

/// Bytes of a word that is looked up.
const WORD_BYTES_MAX: usize = 48;
/// Words of a name at most.
const WORDS_MAX: usize = 5;

/// Behind a title or a label.
const CALLED: u16 = 950;
/// Behind a word that names other things too.
const NAMED: u16 = 900;
/// A given name and another word.
const WHOLE: u16 = 800;
/// A given name that is no other word.
const ALONE: u16 = 600;

/// Titles before names, in small letters without accents.
const TITLES: &str = "\
    mr|mrs|ms|miss|mx|dr|prof|professor|sir|herr|frau|fraulein|monsieur|madame|mme|mlle|senor|senora|\
    senorita|sra|srta|sr|don|dona|signor|signora|sig|dott|dottor|dottoressa|senhor|senhora|dhr|mevr|meneer|\
    mevrouw|pan|pani|nurse|judge";

/// What a name is called, whatever it is.
const STRONG: &str = "\
    full name|full_name|fullname|first name|first_name|firstname|last name|last_name|lastname|middle name|\
    middle_name|surname|family name|family_name|familyname|given name|given_name|givenname|maiden name|\
    maiden_name|patient|patient name|patient_name|patientname|name of patient|cardholder|card holder|\
    account holder|policyholder|policy holder|next of kin|emergency contact|beneficiary|guardian|spouse|\
    physician|attending|doctor|employee|customer name|customer_name|contact name|contact_name|vorname|\
    nachname|familienname|prenom|prénom|nom de famille|nombre|apellido|apellidos|cognome|sobrenome|voornaam|\
    achternaam|naam|imię|nazwisko|förnamn|efternamn|dear|signed|issued to|my name is|je m'appelle|ich heiße|\
    mi nombre es|me llamo|mi chiamo|patientin|paciente|paziente|patiënt";

/// What names of other things are called as well.
const WEAK: &str = "\
    name|nom|nome|author|owner|contact|customer|client|user|member|sender|recipient|attn|assigned to|\
    reporter|assignee|this is|i am|i'm|hi|hello|regards|sincerely|holder|employer|manager|mother|father|\
    wife|husband|son|daughter|sister|brother|caller|from|to|by";

/// What stands between the parts of a name.
const PARTICLES: &str = "de|del|della|di|da|dos|das|do|van|von|der|den|la|le|bin|al|el|ten|ter|zu|af";

/// Words with a capital letter that are no part of a name: of sentences, of calendars, of organisations.
const OTHERS: &str = "\
    a|address|ag|age|algorithm|all|alpha|also|an|and|any|api|april|are|as|at|august|ave|avenue|award|bank|\
    be|birth|blvd|born|boulevard|bridge|but|by|can|care|center|centre|city|client|clinic|code|college|\
    committee|company|corp|corporation|could|council|county|ct|customer|data|date|day|de|december|\
    department|detection|did|do|dob|does|drive|east|email|example|false|february|file|files|for|foundation|\
    friday|from|gender|gmbh|group|had|has|have|he|health|her|his|hospital|how|i|id|if|in|inc|institute|is|\
    it|its|january|jr|july|june|lake|lane|language|licence|license|llc|ltd|madam|mail|march|may|medical|\
    model|monday|my|name|names|new|no|none|north|not|november|null|number|october|of|old|on|optional|or|our|\
    park|patient|patients|phone|plc|please|prize|programming|project|rd|required|river|road|safety|saturday|\
    school|september|server|service|services|sex|she|should|sir|so|south|square|st|state|street|string|\
    sunday|support|team|test|tests|text|that|the|their|then|there|they|this|thursday|title|to|tool|tools|\
    true|tuesday|university|unknown|user|users|was|we|wednesday|were|west|what|when|where|which|who|why|\
    will|with|would|yes|you|your";

/// What a word is, by bits: a given name that is no other word, one that is, a family name, another word, a title.
const GIVEN: u8 = 1;
const SHARED: u8 = 2;
const FAMILY: u8 = 4;
const OTHER: u8 = 8;
const TITLE: u8 = 16;

/// The dictionaries.
#[derive(Debug)]
pub struct Names {
    /// In order.
    words: Vec<(String, u8)>,
}

impl Default for Names {
    fn default() -> Self {
        let lists = [
            (include_str!("../data/given.txt"), GIVEN),
            (include_str!("../data/shared.txt"), SHARED),
            (include_str!("../data/family.txt"), FAMILY),
            (OTHERS, OTHER),
            (TITLES, TITLE),
        ];
        let mut all: BTreeMap<String, u8> = BTreeMap::new();
        for (list, kind) in lists {
            let words = list.split(|c: char| c.is_whitespace() || c == '|').filter(|word| !word.is_empty());
            words.for_each(|word| *all.entry(fold(word)).or_default() |= kind);
        }
        Self { words: all.into_iter().collect() }
    }
}

/// One text, in words, and what each of them is that has a capital letter.
struct Text<'a> {
    key: &'a str,
    text: &'a str,
    words: Vec<Word>,
    kinds: Vec<u8>,
}

impl Text<'_> {
    fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", |word| word.text(self.text))
    }

    fn is(&self, at: usize, kind: u8) -> bool {
        self.kinds.get(at).is_some_and(|kinds| kinds & kind != 0)
    }

    fn is_other(&self, at: usize) -> bool {
        self.is(at, OTHER)
    }

    /// What stands between a word and the next.
    fn gap(&self, at: usize) -> &str {
        let end = self.words.get(at).map_or(0, |word| word.range.end);
        self.words.get(at + 1).and_then(|next| self.text.get(end..next.range.start)).unwrap_or("\n")
    }

    /// How many words from there on may be a name: with capital letters, with initials, with particles between them.
    fn run(&self, at: usize) -> usize {
        let mut end = at;
        while let Some(word) = self.words.get(end).filter(|_| end < at + WORDS_MAX) {
            let particle = || {
                let is_one = |at: usize| self.gap(at) == " " && has(PARTICLES, self.word(at));
                let capital = |at: usize| self.words.get(at).is_some_and(Word::is_capital);
                let two = is_one(end + 1) && capital(end + 2);
                end > at && is_one(end) && (capital(end + 1) || two)
            };
            let initial = word.shape == Shape::Initial;
            if !(initial || particle() || (word.is_capital() && !self.is_other(end))) {
                break;
            }
            end += 1;
            if !(self.gap(end - 1) == " " || (initial && matches!(self.gap(end - 1), ". " | "."))) {
                break;
            }
        }
        // A name ends in none of its initials: `Ann B. The`.
        while end > at + 1 && self.words.get(end - 1).is_some_and(|word| word.shape == Shape::Initial) {
            end -= 1;
        }
        end - at
    }
}

impl Names {
    /// The names in a text that stands under that name of a member.
    #[must_use]
    pub fn find(&self, key: &str, text: &str) -> Vec<Found> {
        let words = words(text);
        let mut folded = String::new();
        let kind = |word: &Word| match word.shape {
            Shape::Lower | Shape::Initial => 0,
            Shape::Capital | Shape::Upper => self.kind(word.text(text), &mut folded),
        };
        let kinds = words.iter().map(kind).collect();
        let text = Text { key, text, words, kinds };
        let mut found = Vec::new();
        let mut at = 0;
        while at < text.words.len() {
            match self.at(&text, at) {
                Some((from, to, confidence)) => {
                    let start = text.words.get(from).map_or(0, |word| word.range.start);
                    let end = text.words.get(to - 1).map_or(start, |word| word.range.end);
                    found.push(Found { range: start..end, confidence });
                    at = to;
                }
                None => at += 1,
            }
        }
        found
    }

    /// The name that begins at a word: its first word, the one behind its last, and how sure.
    fn at(&self, text: &Text<'_>, at: usize) -> Option<(usize, usize, u16)> {
        let word = text.words.get(at)?;
        if word.shape == Shape::Lower {
            return self.small(text, at);
        }
        if word.shape != Shape::Upper && text.is(at, TITLE) && matches!(text.gap(at), " " | ". ") {
            let run = text.run(at + 1);
            return (run > 0 && !text.is_other(at + 1)).then_some((at + 1, at + 1 + run, CALLED));
        }
        if word.shape == Shape::Upper {
            return loud(text, at);
        }
        let run = text.run(at);
        if run == 0 || (run == 1 && word.shape == Shape::Initial) || text.is_other(at) {
            return None;
        }
        let (given, shared) = (text.is(at, GIVEN), text.is(at, SHARED));
        let family = (at + 1..at + run).any(|at| text.is(at, FAMILY));
        let confidence =
            called(text, at, run, (given, shared, family)).or_else(|| match (given, shared, run) {
                (true, _, 2..) => Some(WHOLE),
                (_, true, 2..) if family => Some(WHOLE),
                (true, ..) if is_family_before(text, at) => Some(WHOLE),
                (true, ..) => Some(ALONE),
                _ if word.shape == Shape::Initial && family => Some(ALONE),
                _ => None,
            })?;
        Some((at, at + run, confidence))
    }

    /// What a word is. Of two with a dash the first counts.
    fn kind(&self, word: &str, folded: &mut String) -> u8 {
        let of = |word: &str| {
            let found = self.words.binary_search_by(|(known, _)| known.as_str().cmp(word));
            found.ok().and_then(|at| self.words.get(at)).map_or(0, |(_, kind)| *kind)
        };
        if word.len() > WORD_BYTES_MAX {
            return 0;
        }
        fold_into(word, folded);
        match (of(folded), folded.split_once('-')) {
            (0, Some((first, _))) => of(first) & (GIVEN | SHARED),
            (kind, _) => kind,
        }
    }

    /// A name all in small letters, where it is called one.
    fn small(&self, text: &Text<'_>, at: usize) -> Option<(usize, usize, u16)> {
        let start = text.words.get(at)?.range.start;
        let before = text.text.get(..start)?.trim_end_matches([' ', '"', '\'']);
        let called = before.is_empty() || before.ends_with([':', '=', '>', '|']) || before.ends_with("is");
        if !called || text.gap(at) != " " {
            return None;
        }
        let mut folded = String::new();
        let mut kind = |at: usize| self.kind(text.word(at), &mut folded);
        let (first, next) = (kind(at), kind(at + 1));
        if first & (GIVEN | SHARED) == 0 || next & FAMILY == 0 {
            return None;
        }
        let (_, way) = label::before(STRONG, (text.key, text.text), start)
            .or_else(|| label::before(WEAK, (text.key, text.text), start))?;
        (first & GIVEN != 0 || way == Way::Named).then_some((at, at + 2, NAMED))
    }
}

/// How sure the label before a name makes.
fn called(
    text: &Text<'_>,
    at: usize,
    run: usize,
    (given, shared, family): (bool, bool, bool),
) -> Option<u16> {
    let start = text.words.get(at)?.range.start;
    let known = given || shared || family || (run == 1 && text.is(at, FAMILY));
    // What nobody knows counts only where a sign parts it from its label.
    let before = text.text.get(..start)?.trim_end_matches([' ', '"', '\'']);
    if !known && !before.is_empty() && !before.ends_with([':', '=', '>', '|', '*', '\n']) {
        return None;
    }
    if let Some((label, way)) = label::before(STRONG, (text.key, text.text), start) {
        let whole = text.words.get(at + run - 1).and_then(|last| text.text.get(last.range.end..));
        let ends = whole
            .is_none_or(|rest| rest.is_empty() || rest.starts_with(['"', '\n', ',', ';', '\\', '|', '<']));
        let explicit =
            label.ends_with("name") || matches!(label, "apellido" | "apellidos" | "nazwisko" | "cognome");
        return (known || (way == Way::Named && ends && (run > 1 || explicit))).then_some(CALLED);
    }
    let (_, way) = label::before(WEAK, (text.key, text.text), start)?;
    let sure = match way {
        Way::Named => given || (family && run > 1),
        Way::Said => given || (shared && run > 1),
    };
    sure.then_some(NAMED)
}

/// `Nixon, John`
fn is_family_before(text: &Text<'_>, at: usize) -> bool {
    at.checked_sub(1).is_some_and(|before| text.gap(before) == ", " && text.is(before, FAMILY))
}

/// A name all in capital letters.
fn loud(text: &Text<'_>, at: usize) -> Option<(usize, usize, u16)> {
    let upper = |at: usize| text.words.get(at).is_some_and(|word| word.shape == Shape::Upper);
    let given = text.is(at, GIVEN | SHARED);
    let pair = text.gap(at) == " " && upper(at + 1) && !text.is_other(at + 1);
    let whole = pair && given && text.is(at + 1, FAMILY);
    whole.then_some((at, at + 2, WHOLE))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{string::String, vec::Vec};

    use super::*;

    fn seen(key: &str, text: &str, least: u16) -> String {
        let found = Names::default().find(key, text);
        let sure = found.into_iter().filter(|one| one.confidence >= least);
        let texts: Vec<&str> = sure.map(|one| text.get(one.range).unwrap()).collect();
        texts.join("|")
    }

    #[test]
    fn names_are_found_by_what_stands_before_them_and_by_dictionary() {
        for (key, text, expected) in [
            ("", "Patient Ann-Marie Lindqvist (MRN 3678997) saw Dr. Okonkwo.", "Ann-Marie Lindqvist|Okonkwo"),
            ("", "Dear Ms Quispe, thank you for referring Juan de la Cruz.", "Quispe|Juan de la Cruz"),
            ("", "{\"full_name\": \"Xochitl Zz\", \"id\": 4}", "Xochitl Zz"),
            ("patientName", "Xochitl Zz", "Xochitl Zz"),
            ("", "{\"name\": \"Piotr Zieliński\"}", "Piotr Zieliński"),
            ("", "Sehr geehrte Frau Öztürk, Ihr Termin", "Öztürk"),
            ("", "Chère Madame Lefèvre-Dubois,", "Lefèvre-Dubois"),
            ("", "| Siobhan Byrne | QQ123456C |", "Siobhan Byrne"),
            ("", "signed: John R. Smith", "John R. Smith"),
            ("", "MARIA GARCIA was admitted", "MARIA GARCIA"),
            ("", "my name is maria garcia", "maria garcia"),
            ("", "Kowalska, Agnieszka", "Agnieszka"),
            ("", "It is Wendy's turn.", "Wendy"),
        ] {
            assert_eq!(seen(key, text, ALONE), expected, "{text}");
        }
    }

    #[test]
    fn what_says_least_is_least_sure() {
        assert_eq!(
            (seen("", "Wendy left.", NAMED), seen("", "Wendy left.", ALONE)),
            ("".into(), "Wendy".into())
        );
        assert_eq!(seen("", "Dr Wendy Byrne", CALLED), "Wendy Byrne");
    }

    #[test]
    fn other_words_with_capital_letters_are_no_names() {
        for (key, text) in [
            ("", "Patient Safety Committee of New York General Hospital"),
            ("", "Will May June be Rose Grace? Mark Done. Max Tokens: 5"),
            ("", "Claude Code reads the Jordan River Report in Austin"),
            ("name", "Get Weather"),
            ("tool_name", "search_files"),
            ("", "Dear Customer, see MS Docs and the Customer Support Team."),
            ("", "{\"name\": \"Read File\", \"user\": \"Admin\"}"),
            ("", "lower case words and numbers 12345 only"),
        ] {
            assert_eq!(seen(key, text, 0), "", "{text}");
        }
    }

    #[test]
    fn the_dictionaries_are_there_and_no_name_is_both_another_word_and_none() {
        let names = Names::default();
        let of = |kind: u8| names.words.iter().filter(move |(_, kinds)| kinds & kind == kind).count();
        assert!(of(GIVEN) > 2_000 && of(FAMILY) > 600);
        assert_eq!((of(GIVEN | SHARED), of(GIVEN | OTHER), of(GIVEN | TITLE)), (0, 0, 0));
    }
}
