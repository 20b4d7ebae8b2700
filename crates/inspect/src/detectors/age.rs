//! Ages over 89, which only few people have: a number from 90 to 129 that is called an age, or is followed by years.

use alloc::{boxed::Box, vec::Vec};

use portcullis_core::{Severity, Treatment, kind::Kind};

use super::Detector;
use crate::{DetectorSettings, Raw, Role, Sighting, Subject};

pub(super) const KIND: Kind<Box<dyn Detector>> =
    Kind { name: "age", doc: "Ages over 89 (called so).", build: |_| Ok(Box::new(Age)) };

#[derive(Debug)]
struct Age;

/// How sure.
const CONFIDENCE: u16 = 950;

/// What stands between a name and the number.
const BETWEEN: [u8; 6] = [b' ', b':', b'=', b'"', b'\'', b','];

/// Bytes of what may stand between in a text.
const BETWEEN_MAX: usize = 4;

impl Detector for Age {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Pass, answers: Treatment::Pass }
    }

    fn anchors(&self) -> Vec<&'static str> {
        Vec::from(["age", "year", "y/o"])
    }

    fn threshold(&self, role: Role) -> Option<u16> {
        match role {
            Role::Argument | Role::Answer => Some(CONFIDENCE),
            Role::Definition => None,
        }
    }

    fn may_match(&self, raw: &Raw<'_>) -> bool {
        // What is escaped may stand where nothing seems to; everything else stands there as it is, but for the blanks
        // between a member's name and its value.
        let bytes = raw.bytes();
        raw.has_escapes()
            || numbers(bytes).any(|(start, end)| {
                let near = bytes.get(start.saturating_sub(16)..end.saturating_add(16).min(bytes.len()));
                let before = bytes.get(..start).unwrap_or_default();
                let blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b':');
                let named = before.iter().rposition(|byte| !blank(byte)).map(|last| last + 1);
                near.is_some_and(|near| near.contains(&b'\\'))
                    || is_called(bytes, start)
                    || is_in_years(bytes, end)
                    || named.is_some_and(|end| ends_in_age(before.get(..end).unwrap_or_default()))
            })
    }

    fn find(&self, subject: &Subject<'_>, found: &mut Vec<Sighting>) {
        let bytes = subject.text.as_bytes();
        // A list of numbers is called so by nothing that stands near it.
        let key = subject.place.rsplit('/').next().unwrap_or_default().as_bytes();
        for (start, end) in numbers(bytes) {
            let whole = ends_in_age(key) && subject.text.trim().len() == end - start;
            if whole || is_called(bytes, start) || is_in_years(bytes, end) {
                let sighting = Sighting::visible(start..end, Severity::Medium);
                found.push(Sighting { confidence: CONFIDENCE, ..sighting });
            }
        }
    }
}

/// Numbers from 90 to 129 that are no part of something else.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    memchr::memchr2_iter(b'9', b'1', bytes).filter_map(|start| {
        let end = match bytes.get(start..)? {
            [b'9', b'0'..=b'9', ..] => start + 2,
            [b'1', b'0'..=b'2', b'0'..=b'9', ..] => start + 3,
            _ => return None,
        };
        let before = start.checked_sub(1).and_then(|at| bytes.get(at)).copied().unwrap_or_default();
        let after = bytes.get(end).copied().unwrap_or_default();
        let further = bytes.get(end + 1).copied().unwrap_or_default();
        let begun =
            before.is_ascii_alphanumeric() || matches!(before, b'.' | b'-' | b'/' | b'$' | b'_' | b'+');
        let goes_on = after.is_ascii_digit()
            || matches!(after, b'+' | b'%' | b'_')
            || (matches!(after, b'.' | b',' | b'/' | b':' | b'-') && further.is_ascii_digit())
            || (after.is_ascii_alphabetic() && !after.eq_ignore_ascii_case(&b'y'));
        (!begun && !goes_on).then_some((start, end))
    })
}

/// Whether what stands before that place calls it an age: `age 92`, `aged 92`, `"age": 92`, `at the age of 92`.
fn is_called(bytes: &[u8], start: usize) -> bool {
    let before = bytes.get(..start).unwrap_or_default();
    let between = before.iter().rev().take(BETWEEN_MAX).take_while(|byte| BETWEEN.contains(byte)).count();
    let name = before.get(..start - between).unwrap_or_default();
    let name = match name {
        [name @ .., b' ', b'o' | b'O', b'f' | b'F'] | [name @ .., b'd' | b'D'] => name,
        _ => name,
    };
    between > 0 && ends_in_age(name)
}

/// Whether a name ends in `age` as a word: `age`, `patient_age`, `patientAge`.
fn ends_in_age(name: &[u8]) -> bool {
    let Some((rest, last)) = name.split_last_chunk::<3>() else { return false };
    let before = rest.last().copied().unwrap_or_default();
    last.eq_ignore_ascii_case(b"age")
        && (!before.is_ascii_alphabetic() || (before.is_ascii_lowercase() && last == b"Age"))
}

/// Whether what follows counts years of a life: `92 years old`, `92-year-old`, `92 y/o`, `92 years of age`.
fn is_in_years(bytes: &[u8], end: usize) -> bool {
    let rest = bytes.get(end..bytes.len().min(end + 16)).unwrap_or_default();
    let rest = rest.strip_prefix(b" ").or_else(|| rest.strip_prefix(b"-")).unwrap_or(rest);
    let starts =
        |with: &str| rest.get(..with.len()).is_some_and(|it| it.eq_ignore_ascii_case(with.as_bytes()));
    ["years old", "year old", "year-old", "years-old", "years of age", "y/o"].into_iter().any(starts)
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_ages_over_89_that_are_called_so() {
        for (text, expected) in [
            ("The patient, aged 92, fell.", "92"),
            ("a 101-year-old woman and a man of 90 years old", "101|90"),
            ("died at the age of 97.", "97"),
            ("Age: 93 y/o", "93"),
            ("{\"patientAge\": 94, \"age\":\"95\"}", "94|95"),
        ] {
            found("age", text, expected);
        }
    }

    #[test]
    fn leaves_younger_people_and_other_numbers() {
        for text in [
            "aged 89",
            "page 92 of 120",
            "average 95",
            "a message of 92 bytes",
            "age 90+",
            "aged 92% of the time",
            "in 95 years",
            "age: 92.5",
        ] {
            nothing("age", text);
        }
    }
}
