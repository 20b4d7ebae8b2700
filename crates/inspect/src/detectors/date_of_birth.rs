//! Dates of birth: a date of any common form that is called so. Other dates are nobody's.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "date_of_birth",
    doc: "Dates of birth (a date that is called so).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &[
        "dob",
        "d.o.b",
        "date of birth",
        "dateofbirth",
        "date_of_birth",
        "birth date",
        "birthdate",
        "birth_date",
        "birthday",
        "bday",
        "born",
        "birth",
        "geburtsdatum",
        "geburtstag",
        "geboren",
        "geb",
        "né le",
        "née le",
        "date de naissance",
        "naissance",
        "fecha de nacimiento",
        "nacimiento",
        "nacido",
        "nacida",
        "nació",
        "data di nascita",
        "nascita",
        "nato il",
        "nata il",
        "data de nascimento",
        "nascimento",
        "nascido",
        "nascida",
        "geboortedatum",
        "geboorte",
        "data urodzenia",
        "urodzon",
        "födelsedatum",
        "född",
        "fødselsdato",
        "født",
        "syntymäaika",
        "syntynyt",
        "生年月日",
        "出生日期",
        "дата рождения",
    ],
    lead: Lead::Digit,
    form: Form::Called((1, 8), read),
}];

/// The first letters of the months, as the commonest languages of Europe write them.
const MONTHS: [&[&str]; 12] = [
    &["jan", "jän", "ene", "gen", "stycz"],
    &["feb", "fév", "fev", "lut", "helmi"],
    &["mar", "mär", "maa", "mrz", "marz"],
    &["apr", "avr", "abr", "kwie", "huhti"],
    &["may", "mai", "maj", "mei", "mag", "touko"],
    &["jun", "juin", "giu", "czerw", "kesä"],
    &["jul", "juil", "lug", "lip", "heinä"],
    &["aug", "aoû", "aou", "ago", "sierp", "elo"],
    &["sep", "set", "wrze", "syys"],
    &["oct", "okt", "out", "ott", "paź", "loka"],
    &["nov", "listop", "marras"],
    &["dec", "déc", "dez", "dic", "grud", "joulu"],
];

/// A date of any common form.
pub(super) fn read(look: &Look<'_>) -> Option<Value> {
    let range = numeric(look).or_else(|| written(look))?;
    Value::labelled(range)
}

fn is_date(year: usize, month: usize, day: usize) -> bool {
    ((1_880..=2_040).contains(&year) || year < 100) && (1..=12).contains(&month) && (1..=31).contains(&day)
}

/// `1933-04-04`, `04.04.1933`, `4/4/33`, `19330404`.
fn numeric(look: &Look<'_>) -> Option<core::ops::Range<usize>> {
    let start = look.word.start;
    let same = || {
        look.groups.separator(0) == look.groups.separator(1)
            && matches!(look.groups.separator(0), b'-' | b'.' | b'/' | b' ')
    };
    for sizes in [
        [4, 2, 2],
        [2, 2, 4],
        [1, 2, 4],
        [2, 1, 4],
        [1, 1, 4],
        [4, 1, 2],
        [4, 2, 1],
        [4, 1, 1],
        [2, 2, 2],
        [1, 2, 2],
        [2, 1, 2],
        [1, 1, 2],
    ] {
        let Some((digits, length)) = look.groups.fit(&sizes) else { continue };
        let mut parts = [0_usize; 3];
        let mut rest = digits;
        for (part, size) in parts.iter_mut().zip(sizes) {
            let (own, after) = rest.split_at_checked(usize::from(size))?;
            *part = own.iter().fold(0, |part, digit| part * 10 + usize::from(*digit));
            rest = after;
        }
        let [first, second, third] = parts;
        let fits = match sizes {
            [4, ..] => is_date(first, second, third),
            _ => is_date(third, second, first) || is_date(third, first, second),
        };
        // A time may follow.
        let end = start + length;
        let time = matches!(look.byte(end), b'T' | b' ') && look.byte(end + 1).is_ascii_digit();
        if fits && same() && !look.is_begun(start) && (time || !look.goes_on(end)) {
            return Some(start..end);
        }
    }
    let (digits, length) = look.groups.fit(&[8])?;
    let part = |from: usize, to: usize| {
        digits.get(from..to).unwrap_or_default().iter().fold(0, |part, digit| part * 10 + usize::from(*digit))
    };
    let fits = is_date(part(0, 4), part(4, 6), part(6, 8)) && part(0, 4) > 100;
    look.whole(start..start + length).filter(|_| fits)
}

/// `4 April 1933`, `4. April 1933`, `4 de abril de 1933`, `April 4th, 1933`, `04-Apr-1933`.
fn written(look: &Look<'_>) -> Option<core::ops::Range<usize>> {
    let start = look.word.start;
    let first = look.run(start, 5, |byte| byte.is_ascii_digit());
    let number = |range: core::ops::Range<usize>| {
        look.bytes
            .get(range)
            .unwrap_or_default()
            .iter()
            .fold(0, |all, digit| all * 10 + usize::from(digit - b'0'))
    };
    let day = number(start..first);
    if !(1..=31).contains(&day) || first - start > 2 {
        return None;
    }
    // The day may be an ordinal, and commas, dots and small words stand between.
    let mut at = first;
    if look
        .bytes
        .get(at..at + 2)
        .is_some_and(|two| [b"st", b"nd", b"rd", b"th"].iter().any(|one| two == *one))
    {
        at += 2;
    }
    let before = month_before(look, start);
    at = gap(look, at);
    if before.is_none() {
        at = month_at(look, at)?;
        at = gap(look, at);
    }
    let end = look.run(at, 5, |byte| byte.is_ascii_digit());
    let fits = matches!(end - at, 2 | 4) && is_date(number(at..end), 1, day) && !look.goes_on(end);
    let begin = before.unwrap_or(start);
    (fits && !look.before(begin).is_ascii_alphanumeric()).then_some(begin..end)
}

/// Behind commas, dots, blanks, dashes and `de`, `of`, `del`.
fn gap(look: &Look<'_>, at: usize) -> usize {
    let blank = |byte: u8| matches!(byte, b' ' | b'.' | b',' | b'-' | b'/');
    let at = look.run(at, 3, blank);
    let word = look.run(at, 4, |byte| byte.is_ascii_lowercase());
    match look.bytes.get(at..word) {
        Some(b"de" | b"of" | b"del" | b"do") => look.run(word, 2, blank),
        _ => at,
    }
}

const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || !byte.is_ascii()
}

fn is_month(word: &[u8]) -> bool {
    let Ok(word) = core::str::from_utf8(word) else { return false };
    let mut letters = word.chars().flat_map(char::to_lowercase);
    let lower: [char; 12] = core::array::from_fn(|_| letters.next().unwrap_or_default());
    word.len() <= 14
        && MONTHS
            .iter()
            .flat_map(|names| names.iter())
            .any(|name| name.chars().zip(lower).all(|(one, other)| one == other))
}

fn month_at(look: &Look<'_>, at: usize) -> Option<usize> {
    let end = look.run(at, 15, is_letter);
    is_month(look.bytes.get(at..end)?).then_some(end)
}

fn month_before(look: &Look<'_>, at: usize) -> Option<usize> {
    let blank = look.run_back(at, 2, |byte| matches!(byte, b' ' | b'.' | b'-'));
    let start = look.run_back(blank, 15, is_letter);
    (blank < at && is_month(look.bytes.get(start..blank)?)).then_some(start)
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_dates_of_every_form_that_are_called_so() {
        for date in [
            "1933-04-04",
            "04/23/1933",
            "23.04.1933",
            "4/4/33",
            "19330404",
            "04 April 1933",
            "4. April 1933",
            "Nov 10, 1934",
            "May 15th, 1939",
            "04-Apr-1933",
            "4 de abril de 1933",
            "12 août 1970",
        ] {
            found("date_of_birth", &alloc::format!("She was born on {date}, here"), date);
            found("date_of_birth", &alloc::format!("{{\"dob\": \"{date}\"}}"), date);
            found("date_of_birth", &alloc::format!("Geburtsdatum: {date}"), date);
        }
        found("date_of_birth", "{\"birthDate\":\"1968-05-13T00:00:00Z\"}", "1968-05-13");
        found("date_of_birth", "name;born\nAnn;1968-05-13", "1968-05-13");
    }

    #[test]
    fn leaves_other_dates_and_what_is_none() {
        for text in [
            "2024-05-01 to 2024-05-03",
            "dob 1968-13-41",
            "born 99/99/1999",
            "born 3 times",
            "born on 4 July",
            "date of birth unknown; admitted 2024-05-01",
        ] {
            nothing("date_of_birth", text);
        }
    }
}
