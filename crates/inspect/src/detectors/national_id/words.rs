//! Those that have letters in them.

use crate::identifiers::{Form, Lead, Look, Scheme, Value, check};

/// Italy.
pub(super) const CODICE_FISCALE: Scheme = Scheme {
    labels: &["codice fiscale", "cod. fisc"],
    lead: Lead::Letter,
    form: Form::Word((16, 16), codice_fiscale),
};
/// Spain: Documento Nacional de Identidad and Número de Identidad de Extranjero.
pub(super) const DNI: Scheme = Scheme {
    labels: &["dni", "nie", "nif", "documento nacional", "identidad"],
    lead: Lead::Any,
    form: Form::Called((8, 9), dni),
};
/// Finland.
pub(super) const HETU: Scheme = Scheme {
    labels: &["hetu", "henkilötunnus", "personbeteckning"],
    lead: Lead::Digit,
    form: Form::Called((6, 11), hetu),
};
/// Ireland.
pub(super) const PPS: Scheme = Scheme {
    labels: &["pps", "ppsn", "pps number", "pps no"],
    lead: Lead::Digit,
    form: Form::Called((8, 9), pps),
};

fn codice_fiscale(look: &Look<'_>) -> Option<Value> {
    let word = look.text();
    let kind = |(byte, kind): (&u8, &u8)| match kind {
        b'A' => byte.is_ascii_alphabetic(),
        // Digits become letters where two persons would have the same code.
        _ => byte.is_ascii_digit() || b"LMNPQRSTUV".contains(&byte.to_ascii_uppercase()),
    };
    let form = word.len() == 16 && word.iter().zip(b"AAAAAANNANNANNNA").all(kind);
    Value::alone(look.whole(look.word.clone()).filter(|_| form && check::codice_fiscale(word))?)
}

fn dni(look: &Look<'_>) -> Option<Value> {
    let (letter, body) = look.text().split_last()?;
    let (first, digits) = match body {
        [foreign @ (b'X' | b'Y' | b'Z' | b'x' | b'y' | b'z'), digits @ ..] if digits.len() == 7 => {
            (u32::from(foreign.to_ascii_uppercase() - b'X'), digits)
        }
        digits if digits.len() == 8 => (0, digits),
        _ => return None,
    };
    let number = digits.iter().try_fold(first, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0'))
    })?;
    Value::labelled(look.whole(look.word.clone()).filter(|_| check::dni(number, *letter))?)
}

/// `131052-308T`: day, century, number, and a letter for the rest of 31.
fn hetu(look: &Look<'_>) -> Option<Value> {
    const LETTERS: &[u8] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";
    let start = look.word.start;
    let bytes = look.bytes.get(start..start + 11)?;
    let (date, rest) = bytes.split_at_checked(6)?;
    let [sign, number @ .., letter] = rest else { return None };
    let value = date.iter().chain(number).try_fold(0_usize, |value, digit| {
        digit.is_ascii_digit().then(|| value * 10 + usize::from(digit - b'0'))
    })?;
    let fits =
        matches!(sign, b'-' | b'+' | b'A'..=b'F' | b'U'..=b'Y') && LETTERS.get(value % 31) == Some(letter);
    Value::labelled(look.whole(start..start + 11).filter(|_| fits)?)
}

/// Seven digits, a letter of modulus 23, and since 2013 another.
fn pps(look: &Look<'_>) -> Option<Value> {
    let (digits, letters) = look.text().split_at_checked(7)?;
    let (check, second) = match letters {
        [check] => (check, 0),
        [check, second] if second.is_ascii_uppercase() => (check, u32::from((second - b'A' + 1) % 23)),
        _ => return None,
    };
    let sum = digits.iter().zip((2..=8).rev()).try_fold(second * 9, |sum, (digit, weight)| {
        digit.is_ascii_digit().then(|| sum + u32::from(digit - b'0') * weight)
    })?;
    let expected = b"WABCDEFGHIJKLMNOPQRSTUV".get((sum % 23) as usize)?;
    Value::labelled(look.whole(look.word.clone()).filter(|_| check == expected)?)
}
