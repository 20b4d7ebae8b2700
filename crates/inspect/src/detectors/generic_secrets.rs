//! Passwords, keys and tokens of no published form, known by what stands before them (`password:`, `API_KEY=`,
//! `Authorization: Bearer`, the name of a provider, the member of a JSON object) and by looking drawn by chance; and
//! passwords in URLs.
//!
//! Defaults: reported in arguments (a call may need one), masked in answers, where none has any business.

use alloc::{boxed::Box, format, vec::Vec};
use core::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use portcullis_core::{
    Severity, Treatment,
    kind::{Kind, KindError},
};

use self::{
    label::{Label, OTHERS, PROVIDERS, WORDS},
    value::{PLACEHOLDERS, is_placeholder, is_secret},
};
use super::{Detector, Sighting};
use crate::{
    DetectorSettings, Subject,
    needles::{Hit, Needles},
    raw::Raw,
};

mod label;
mod value;

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "generic_secrets",
    doc: "Passwords, keys and tokens known by what stands before them, and passwords in URLs.",
    build: |_| Ok(Box::new(GenericSecrets::new()?)),
};

/// Bytes of a name to either side of the word that makes it one.
const NAME_BYTES_MAX: usize = 48;
/// Bytes between a name and its value.
const GAP_BYTES_MAX: usize = 48;
/// No value is longer.
const VALUE_BYTES_MAX: usize = 1_024;
/// Bytes of raw JSON behind a word in which its value begins: a gap may be escaped.
const RAW_BYTES_MAX: usize = 256;
/// Within a longer value that is none no other is looked for.
const AGAIN_BYTES_MAX: usize = 64;
/// No value is shorter.
const VALUE_BYTES_MIN: usize = 6;

#[derive(Debug)]
struct GenericSecrets {
    words: Needles,
    others: AhoCorasick,
    placeholders: AhoCorasick,
}

impl GenericSecrets {
    fn new() -> Result<Self, KindError> {
        let words = Needles::new(WORDS.iter().chain(PROVIDERS).copied());
        let failed = || KindError { name: KIND.name, reason: "a word is too short".into() };
        Ok(Self {
            words: words.ok_or_else(failed)?,
            others: automaton(OTHERS)?,
            placeholders: automaton(PLACEHOLDERS)?,
        })
    }
}

fn automaton(words: &[&str]) -> Result<AhoCorasick, KindError> {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::DFA))
        .match_kind(MatchKind::Standard)
        .build(words)
        .map_err(|error| KindError { name: KIND.name, reason: format!("{error}") })
}

impl Detector for GenericSecrets {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Pass, answers: Treatment::Mask }
    }

    // Every name of a secret holds one of the words as well.
    fn anchors(&self) -> Vec<&'static str> {
        WORDS.iter().chain(PROVIDERS).copied().collect()
    }

    // Behind a word stands, not far, something long enough with a digit in it, or something longer.
    fn may_match(&self, raw: &Raw<'_>) -> bool {
        let bytes = raw.bytes();
        let (mut from, mut may) = (0, raw.is_disguised());
        if !may {
            self.words.each(bytes, |hit| {
                let start = hit.end.max(from);
                let end = bytes.len().min(hit.end + RAW_BYTES_MAX);
                from = end.saturating_sub(VALUE_BYTES_MIN * 4).max(from);
                may = may_hold(
                    bytes.get(start..bytes.len().min(end + VALUE_BYTES_MIN * 4)).unwrap_or_default(),
                );
                !may
            });
        }
        may
    }

    fn wants_places(&self) -> bool {
        true
    }

    fn find_at(&self, subject: &Subject<'_>, anchors: &[Hit], found: &mut Vec<Sighting>) {
        let bytes = subject.text.as_bytes();
        let mut ranges: Vec<Range<usize>> = Vec::new();
        ranges.extend(self.under(subject));
        // Within a long value that was looked at no other is looked for: the search stays linear.
        let mut done = 0;
        for hit in longest(anchors) {
            if hit.start < done {
                continue;
            }
            let word = bytes.get(hit.start..hit.end).unwrap_or_default();
            if word == b"://" {
                ranges.extend(self.in_url(bytes, hit.end));
                continue;
            }
            let provider = hit.word >= WORDS.len();
            let Some((value, secret)) = self.behind(bytes, hit.start..hit.end, provider) else { continue };
            if secret || value.len() > AGAIN_BYTES_MAX {
                done = value.end;
            }
            ranges.extend(secret.then_some(value));
        }
        ranges.sort_by_key(|range| (range.start, core::cmp::Reverse(range.end)));
        let mut done = 0;
        for range in ranges {
            if range.start >= done && subject.text.get(range.clone()).is_some() {
                done = range.end;
                found.push(Sighting {
                    confidence: Sighting::CERTAIN,
                    ..Sighting::visible(range, Severity::High)
                });
            }
        }
    }
}

/// The longest word at the first place, the longest behind it, and so on.
fn longest(words: &[Hit]) -> impl Iterator<Item = Hit> {
    let mut rest = words.iter().copied().peekable();
    let mut from = 0;
    core::iter::from_fn(move || {
        let mut word = rest.by_ref().find(|word| word.start >= from)?;
        while let Some(longer) = rest.next_if(|next| next.start == word.start) {
            word = if longer.end > word.end { longer } else { word };
        }
        from = word.end;
        Some(word)
    })
}

/// Whether raw JSON holds a run without blanks and quotes that may be a value.
fn may_hold(raw: &[u8]) -> bool {
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'"';
    raw.split(blank).any(|run| {
        run.len() >= VALUE_BYTES_MIN
            && (run.iter().any(u8::is_ascii_digit) || run.len() >= VALUE_BYTES_MIN * 2)
    })
}

impl GenericSecrets {
    /// The whole text, where the name under which it stands says what it is.
    fn under(&self, subject: &Subject<'_>) -> Option<Range<usize>> {
        let text = subject.text.as_bytes();
        if text.len() > VALUE_BYTES_MAX {
            return None;
        }
        let label = Label::of(subject.key().as_bytes(), &self.others)?;
        is_secret(label, false, text, &self.placeholders).then_some(0..text.len())
    }

    /// The value behind a word where the two belong together, and whether it is a secret.
    fn behind(&self, bytes: &[u8], word: Range<usize>, provider: bool) -> Option<(Range<usize>, bool)> {
        let before = bytes.get(word.start.saturating_sub(NAME_BYTES_MAX)..word.start)?;
        let start = word.start - before.iter().rev().take_while(|byte| is_name(**byte)).count();
        let after = bytes.get(word.end..)?;
        let end = word.end + after.iter().take(NAME_BYTES_MAX).take_while(|byte| is_name(**byte)).count();
        // What is longer is no name.
        if bytes.get(end).is_some_and(|next| is_name(*next)) {
            return None;
        }
        let name = bytes.get(start..end)?;
        let gap = gap(name.starts_with(b"-"), bytes.get(end..bytes.len().min(end + GAP_BYTES_MAX))?)?;
        let label = match Label::of(name, &self.others) {
            Some(label) => label,
            None if provider && Label::may_be(name, &self.others) => Label::Provider,
            None => return None,
        };
        if !gap.assigned && label != Label::Bearer {
            return None;
        }
        let from = end + gap.length;
        let value = value::at(bytes.get(from..bytes.len().min(from + VALUE_BYTES_MAX))?);
        let value = from + value.start..from + value.end;
        let secret = is_secret(label, gap.worded, bytes.get(value.clone())?, &self.placeholders);
        Some((value, secret))
    }

    /// The password of a URL whose authority begins at `at`.
    fn in_url(&self, bytes: &[u8], at: usize) -> Option<Range<usize>> {
        let authority = bytes.get(at..bytes.len().min(at + 256))?;
        let end = authority
            .iter()
            .position(|byte| byte.is_ascii_whitespace() || b"/\"'`<>\\,;(){}[]|?#".contains(byte))
            .unwrap_or(authority.len());
        let authority = authority.get(..end)?;
        let sign = memchr::memrchr(b'@', authority)?;
        let colon = memchr::memchr(b':', authority.get(..sign)?)?;
        let password = authority.get(colon + 1..sign)?;
        let fits = password.len() >= 5
            && password.is_ascii()
            && !is_placeholder(password, &self.placeholders)
            && password.iter().any(u8::is_ascii_digit)
            && password.iter().any(u8::is_ascii_alphabetic);
        fits.then_some(at + colon + 1..at + sign)
    }
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// What stands between a name and its value.
struct Gap {
    length: usize,
    /// A sign or a word assigns the one to the other.
    assigned: bool,
    /// Words stand between them.
    worded: bool,
}

/// Quotes, blanks, a sign that assigns, or few plain words that end in one. Blanks alone assign to a flag, and come
/// between a scheme and its credential.
fn gap(flag: bool, gap: &[u8]) -> Option<Gap> {
    let mut at = 0;
    let mut assigned = false;
    let mut words = 0;
    while let Some(byte) = gap.get(at) {
        match byte {
            b':' | b'=' | b'|' | b'>' => {
                assigned = true;
                at += 1;
            }
            b'"' | b'\'' | b'`' | b'*' | b'\\' | b'(' | b'[' | b']' | b')' => at += 1,
            b' ' | b'\t' => at += 1,
            byte if !assigned && !flag && byte.is_ascii_lowercase() => {
                let length = gap.get(at..)?.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
                let word = gap.get(at..at + length)?;
                let ends = gap.get(at + length).is_none_or(|next| matches!(next, b' ' | b':' | b'='));
                if !ends {
                    break;
                }
                words += 1;
                assigned = matches!(word, b"is" | b"was" | b"are" | b"be");
                at += length;
                if words > 5 {
                    return None;
                }
            }
            _ => break,
        }
    }
    let spaced = gap.first().is_some_and(u8::is_ascii_whitespace) && words == 0;
    (assigned || spaced).then_some(Gap { length: at, assigned: assigned || flag, worded: words > 0 })
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_values_behind_names_in_every_form_of_assignment() {
        for (text, expected) in [
            ("password: hunter2-Kp9", "hunter2-Kp9"),
            ("The password is Tr0ub4dor&3, thanks", "Tr0ub4dor&3"),
            ("DB_PASSWORD='s3cR3t!pw'", "s3cR3t!pw"),
            ("mysql -u app --password=Xk29vQp1 db", "Xk29vQp1"),
            ("export ADAFRUIT_TOKEN=f9uk64km7i1br3ooerxdqsqh26l71vm3", "f9uk64km7i1br3ooerxdqsqh26l71vm3"),
            (
                r#"{"kraken": {"apiKey": "c89c524b719303620ab46a7b4430d8cb"}}"#,
                "c89c524b719303620ab46a7b4430d8cb",
            ),
            ("const meterKey = \"cym6pfm74f99iyb8\";", "cym6pfm74f99iyb8"),
            ("curl -H 'Authorization: Bearer cym6pfm74f99iyb8qq1z' x", "cym6pfm74f99iyb8qq1z"),
            ("Here are the credentials you asked for: am9r8bhqhgefka44 (please", "am9r8bhqhgefka44"),
            (
                "| datadog | w5i772qgoglksp0z9lr6v0w3hv3bc7te9vlc1jie | active",
                "w5i772qgoglksp0z9lr6v0w3hv3bc7te9vlc1jie",
            ),
            ("postgres://app:p4ssK9xz@db.internal:5432/app", "p4ssK9xz"),
            ("<secret>f9uk64km7i1br3ooerxdqsqh26l71vm3</secret>", "f9uk64km7i1br3ooerxdqsqh26l71vm3"),
        ] {
            found("generic_secrets", text, expected);
        }
    }

    #[test]
    fn leaves_code_placeholders_and_identifiers() {
        for text in [
            "password = \"testpass\"",
            "token = os.environ.get(\"GITHUB_TOKEN\")",
            "API_KEY=<your key here>",
            "api_key = ${API_KEY_2}",
            "access_token: Token2::new(x),",
            "\"nextPageToken\": \"e+y6SemASMBKxNxwGhxz3m576P1e17WOkTXjF8ikJGiR\"",
            "\"progressToken\":9007199254740993,",
            "syncToken: CPDAlvWDx70CEPDAlvWDx70CGAU=",
            "primary_key = user_id_2024",
            "max_tokens: 4096",
            "key_id: 29f63271-dc2f-4734-8221-5b31b5169bac",
            "keyword: \"Befaehigung_P2\"",
            "https://user:password@host/",
            "ssh://git@github.com:22/a1b2c3",
            "integrity sha512-u6uOh4osTSrsHbSQhxIP7eNMZq1",
            "password: ********",
            "secret: xxxxxxxxxxxxxxxxxxxx1",
        ] {
            nothing("generic_secrets", text);
        }
    }
}
