//! What operators look for beyond the detectors there are: patterns, words, what stands near them, check digits. And what
//! is never a find of a detector, because the operator says so.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use aho_corasick::{AhoCorasick, MatchKind};
use portcullis_core::{Labels, Severity, Treatment};
use portcullis_personal::check;
use regex::{Regex, RegexBuilder, bytes};
use regex_syntax::ParserBuilder;

use crate::{Detector, DetectorSettings, Role, Sighting, Subject, Window, raw::Raw};

/// A check digit that a value must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// ISO/IEC 7812-1, annex B.
    Luhn,
    /// Verhoeff's scheme.
    Verhoeff,
    /// ISO 7064, modulus 11,10.
    Mod11,
    /// ISO 7064, modulus 97,10: the number leaves 1.
    Mod97,
}

/// What is looked for, as an operator says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recogniser {
    /// What finds are called; no name of [`crate::CATALOG`].
    pub name: &'static str,
    /// Regular expressions; no match is longer than [`Recogniser::BYTES_MAX`].
    pub patterns: Vec<String>,
    /// Words that are finds as they are.
    pub words: Vec<String>,
    /// Words of which one has to stand near a match of a pattern, or be part of the name under which it stands.
    pub context: Vec<String>,
    /// What the digits of a match must come to.
    pub check: Option<Check>,
    /// Whether capital letters count.
    pub case: bool,
    /// How bad a find is.
    pub severity: Severity,
    /// What kind of data it is.
    pub labels: Labels,
}

impl Recogniser {
    /// Recognisers at most.
    pub const COUNT_MAX: usize = 64;
    /// Bytes of a match at most: what is cut across two events of a stream is seen within as many.
    pub const BYTES_MAX: usize = Window::BYTES;
    /// Bytes before and behind a match within which a word of its context begins.
    const REACH: usize = 96;
    /// Bytes that a compiled pattern may take; every letter of every script, some ten times, takes half of it.
    const SIZE_MAX: usize = 1 << 20;

    /// Why it cannot be built, if so.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.build().err()
    }

    /// Builds the detector.
    pub(crate) fn build(&self) -> Result<Box<dyn Detector>, String> {
        if self.patterns.is_empty() && self.words.is_empty() {
            return Err("nothing is looked for: write `patterns` or `words`".into());
        }
        let mut gated = true;
        for pattern in &self.patterns {
            gated &= self.bounded(pattern)?;
        }
        let patterns: Result<Vec<Regex>, _> = self.patterns.iter().map(|one| self.regex(one)).collect();
        let mut gate = bytes::RegexSetBuilder::new(&self.patterns);
        gate.case_insensitive(!self.case).size_limit(Self::SIZE_MAX * self.patterns.len().max(1));
        Ok(Box::new(Custom {
            patterns: patterns?,
            gate: if gated { gate.build().ok() } else { None },
            words: self.search(&self.words)?,
            context: self.search(&self.context)?,
            check: self.check,
            severity: self.severity,
        }))
    }

    /// Refuses a pattern that matches nothing, or without end; whether it can be looked for in JSON as it is written.
    fn bounded(&self, pattern: &str) -> Result<bool, String> {
        let wrong = |what: &str| format!("`{pattern}`: {what}");
        let mut parser = ParserBuilder::new().case_insensitive(!self.case).nest_limit(50).build();
        let tree = parser.parse(pattern).map_err(|error| wrong(&error.to_string()))?;
        let properties = tree.properties();
        if properties.minimum_len().is_none_or(|bytes| bytes == 0) {
            return Err(wrong("it matches where nothing stands"));
        }
        match properties.maximum_len() {
            Some(bytes) if bytes <= Self::BYTES_MAX => Ok(!properties.look_set().contains_anchor()),
            Some(bytes) => {
                Err(wrong(&format!("it matches up to {bytes} bytes, {} are allowed", Self::BYTES_MAX)))
            }
            None => Err(wrong("it matches without end: write `{1,32}` in the place of `+` and `*`")),
        }
    }

    fn regex(&self, pattern: &str) -> Result<Regex, String> {
        let mut builder = RegexBuilder::new(pattern);
        builder.case_insensitive(!self.case).size_limit(Self::SIZE_MAX);
        builder.build().map_err(|_| {
            format!("`{pattern}`: it takes too much when compiled: write `[A-Za-z0-9]` in the place of `\\w`, `[0-9]` of `\\d`")
        })
    }

    /// A search for words, in lower and upper case as well; none where there is none.
    fn search(&self, words: &[String]) -> Result<Option<AhoCorasick>, String> {
        if words.is_empty() {
            return Ok(None);
        }
        if let Some(word) = words.iter().find(|word| word.trim().is_empty() || word.len() > Self::BYTES_MAX) {
            return Err(format!("`{word}`: a word has 1 to {} bytes", Self::BYTES_MAX));
        }
        let cased = |word: &String| match self.case {
            true => Vec::from([word.clone()]),
            false => Vec::from([word.clone(), word.to_lowercase(), word.to_uppercase()]),
        };
        let mut search = AhoCorasick::builder();
        search.ascii_case_insensitive(!self.case).match_kind(MatchKind::LeftmostLongest);
        search.build(words.iter().flat_map(cased)).map(Some).map_err(|error| error.to_string())
    }
}

#[derive(Debug)]
struct Custom {
    patterns: Vec<Regex>,
    /// The patterns as they look in JSON, where they can be looked for there.
    gate: Option<bytes::RegexSet>,
    words: Option<AhoCorasick>,
    context: Option<AhoCorasick>,
    check: Option<Check>,
    severity: Severity,
}

impl Detector for Custom {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Pass, answers: Treatment::Mask }
    }

    fn threshold(&self, role: Role) -> Option<u16> {
        (role != Role::Definition).then_some(Sighting::CERTAIN)
    }

    fn may_match(&self, raw: &Raw<'_>) -> bool {
        let words = || self.words.as_ref().is_some_and(|words| words.is_match(raw.bytes()));
        raw.has_escapes() || self.gate.as_ref().is_none_or(|gate| gate.is_match(raw.bytes())) || words()
    }

    fn find(&self, subject: &Subject<'_>, found: &mut Vec<Sighting>) {
        let text = subject.text;
        let words = self.words.iter().flat_map(|words| words.find_iter(text)).map(|one| one.range());
        let patterns = self.patterns.iter().flat_map(|one| one.find_iter(text)).map(|one| one.range());
        let fits = |range: &core::ops::Range<usize>| {
            self.check.is_none_or(|check| check.fits(text.get(range.clone()).unwrap_or_default()))
                && self.near(subject, range)
        };
        let mut ranges: Vec<_> =
            words.filter(|range| is_whole(text, range)).chain(patterns.filter(fits)).collect();
        ranges.sort_unstable_by_key(|range| (range.start, core::cmp::Reverse(range.end)));
        let mut end = 0;
        for range in ranges {
            if range.start >= end {
                end = range.end;
                found.push(Sighting::visible(range, self.severity));
            }
        }
    }
}

impl Custom {
    /// Whether a word of the context stands near, where there has to be one.
    fn near(&self, subject: &Subject<'_>, range: &core::ops::Range<usize>) -> bool {
        let Some(context) = &self.context else { return true };
        let bytes = subject.text.as_bytes();
        let before = bytes.get(range.start.saturating_sub(Recogniser::REACH)..range.start);
        let behind = bytes.get(range.end..bytes.len().min(range.end + Recogniser::REACH));
        [before, behind, Some(subject.key().as_bytes())]
            .into_iter()
            .flatten()
            .any(|part| context.is_match(part))
    }
}

/// Whether a word is no part of a longer one.
fn is_whole(text: &str, range: &core::ops::Range<usize>) -> bool {
    let letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let side = |at: usize| {
        text.split_at_checked(at).map(|(left, right)| (left.chars().next_back(), right.chars().next()))
    };
    [range.start, range.end]
        .into_iter()
        .all(|at| side(at).is_some_and(|(left, right)| !(letter(left) && letter(right))))
}

impl Check {
    fn fits(self, text: &str) -> bool {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0').collect();
        match self {
            Self::Luhn => check::luhn(&digits),
            Self::Verhoeff => check::verhoeff(&digits),
            Self::Mod11 => check::mod_11_10(&digits),
            Self::Mod97 => digits.iter().fold(0, |rest, digit| (rest * 10 + u32::from(*digit)) % 97) == 1,
        }
    }
}

/// Values that a detector leaves alone.
#[derive(Debug, Default)]
pub(crate) struct Allowed(Vec<Vec<String>>);

impl Allowed {
    /// Bytes of a find that is compared with what is allowed.
    const BYTES_MAX: usize = 1_024;

    /// From values in which `*` stands for any text.
    pub(crate) fn new(values: &[String]) -> Self {
        let parts = |value: &String| value.to_lowercase().split('*').map(String::from).collect();
        Self(values.iter().map(parts).collect())
    }

    /// Whether a find is one of them, in whatever case.
    pub(crate) fn has(&self, seen: &str) -> bool {
        if self.0.is_empty() || seen.len() > Self::BYTES_MAX {
            return false;
        }
        let seen = seen.to_lowercase();
        self.0.iter().any(|parts| fits(parts, &seen))
    }
}

/// Whether a text is these parts in their order, with anything between them.
fn fits(parts: &[String], text: &str) -> bool {
    let [first, between @ .., last] = parts else { return parts.first().is_some_and(|only| only == text) };
    let Some(mut rest) = text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str()))
    else {
        return false;
    };
    between.iter().all(|part| match rest.split_once(part.as_str()) {
        Some((_, behind)) => {
            rest = behind;
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use alloc::{string::String, vec, vec::Vec};

    use portcullis_core::{Direction, Labels, Severity};

    use super::{Allowed, Check, Recogniser};
    use crate::{InspectSettings, Inspector};

    fn recogniser(patterns: &[&str], words: &[&str]) -> Recogniser {
        let list = |words: &[&str]| words.iter().copied().map(String::from).collect();
        Recogniser {
            name: "staff",
            patterns: list(patterns),
            words: list(words),
            context: Vec::new(),
            check: None,
            case: false,
            severity: Severity::Medium,
            labels: Labels::NONE,
        }
    }

    fn found(one: Recogniser, text: &str) -> Vec<String> {
        let settings = InspectSettings { recognisers: vec![one], ..InspectSettings::default() };
        let inspector = Inspector::new(&settings).unwrap();
        let mut matches = Vec::new();
        inspector.scan(Direction::Outward, "/result/content/0/text", text, &mut matches);
        let raw = alloc::format!("\"{text}\"");
        let own = matches.iter().filter(|one| one.finding.kind == "staff");
        let seen: Vec<String> =
            own.map(|one| text.get(one.range.clone()).unwrap_or_default().into()).collect();
        assert!(seen.is_empty() || inspector.quick(Direction::Outward, raw.as_bytes(), false), "{text}");
        seen
    }

    #[test]
    fn patterns_are_found_with_their_context_and_check_digit() {
        let one = recogniser(&[r"E-\d{6}"], &[]);
        assert_eq!(found(one.clone(), "E-123456, e-654321 and F-123456"), ["E-123456", "e-654321"]);
        assert_eq!(found(Recogniser { case: true, ..one.clone() }, "E-123456 e-654321"), ["E-123456"]);
        let near = Recogniser { context: vec!["employee".into()], ..one.clone() };
        assert_eq!(found(near.clone(), "Employee E-123456"), ["E-123456"]);
        assert_eq!(found(near, "part E-123456"), Vec::<String>::new());
        let checked = Recogniser { check: Some(Check::Luhn), ..recogniser(&[r"\b\d{11}\b"], &[]) };
        assert_eq!(found(checked, "79927398713 79927398714"), ["79927398713"]);
        let checked = Recogniser { check: Some(Check::Mod97), ..recogniser(&[r"\b\d{4}\b"], &[]) };
        assert_eq!(found(checked, "0098 0099"), ["0098"]);
        assert_eq!(found(recogniser(&["^E-[0-9]{2}$"], &[]), "E-12"), ["E-12"]);
    }

    #[test]
    fn words_are_found_whole_and_in_any_case() {
        let one = recogniser(&[], &["Project Titan", "Größe"]);
        assert_eq!(found(one.clone(), "PROJECT titan, GRÖSSE, größe"), ["PROJECT titan", "GRÖSSE", "größe"]);
        assert_eq!(found(one, "project titanium"), Vec::<String>::new());
    }

    #[test]
    fn disguises_and_codes_are_seen_through() {
        let one = recogniser(&[], &["project titan"]);
        assert_eq!(
            found(one.clone(), "dGhlIHByb2plY3QgdGl0YW4gaXMgbGF0ZSwgYXMgZXZlcg=="),
            ["dGhlIHByb2plY3QgdGl0YW4gaXMgbGF0ZSwgYXMgZXZlcg=="]
        );
        assert_eq!(found(one, "proj\u{200b}ect titan"), ["proj\u{200b}ect titan"]);
    }

    #[test]
    fn patterns_without_an_end_or_a_beginning_are_refused() {
        for (pattern, reason) in [
            (r"\d+", "without end"),
            (r"\d{0,3}", "where nothing stands"),
            (r"[0-9]{1,500}", "500 bytes"),
            (r"\w{1,64}", "too much when compiled"),
            (r"(", "unclosed group"),
            (r"(\d)\1", "backreferences"),
        ] {
            let error = recogniser(&[pattern], &[]).build().map(|_| ()).expect_err(pattern);
            assert!(error.contains(reason), "{error}");
        }
        assert!(recogniser(&[], &[]).build().is_err());
        assert!(recogniser(&[], &[" "]).build().is_err());
    }

    #[test]
    fn allowed_values_are_compared_whole() {
        let allowed = Allowed::new(&["support@acme.example".into(), "*@Test.example".into(), "a*b*c".into()]);
        for (text, is) in [
            ("Support@acme.example", true),
            ("x@test.example", true),
            ("x@test.example.org", false),
            ("xsupport@acme.example", false),
            ("a--b--c", true),
            ("ac", false),
        ] {
            assert_eq!(allowed.has(text), is, "{text}");
        }
    }
}
