//! Phone numbers: in the form of E.164 with a country's code, in the forms of North America and of countries that dial a
//! zero first, and undivided where they are called so.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value},
};

pub(super) const KIND: Kind<Box<dyn Detector>> =
    Kind { name: "phone", doc: "Phone and fax numbers.", build: |_| Ok(Box::new(Schemes(SCHEMES))) };

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &[
        "phone",
        "phones",
        "phone number",
        "phonenumber",
        "phone_number",
        "telephone",
        "tel",
        "tel no",
        "mobile",
        "mobil",
        "cell",
        "cellphone",
        "cellular",
        "fax",
        "telefax",
        "call",
        "calling",
        "called",
        "caller",
        "dial",
        "registered",
        "my number",
        "your number",
        "her number",
        "his number",
        "their number",
        "ring",
        "sms",
        "text me",
        "texted",
        "messages to",
        "message to",
        "whatsapp",
        "signal",
        "hotline",
        "contact",
        "landline",
        "desk",
        "office",
        "answering",
        "reach me",
        "reach us",
        "reach him",
        "reach her",
        "reached at",
        "voicemail",
        "pager",
        "msisdn",
        "telefon",
        "telefonnummer",
        "rufnummer",
        "handy",
        "handynummer",
        "mobilnummer",
        "festnetz",
        "durchwahl",
        "anrufen",
        "téléphone",
        "telephone",
        "portable",
        "numéro de tél",
        "appelez",
        "appeler",
        "teléfono",
        "telefono",
        "móvil",
        "movil",
        "celular",
        "llamar",
        "llame",
        "cellulare",
        "chiamare",
        "telefone",
        "telemóvel",
        "ligar",
        "telefoon",
        "telefoonnummer",
        "mobiel",
        "bellen",
        "komórka",
        "zadzwo",
        "puhelin",
        "tlf",
        "mobiltelefon",
        "電話",
        "电话",
        "手机",
        "телефон",
    ],
    lead: Lead::Digit,
    form: Form::Word((1, 16), read),
}];

/// No number has fewer digits.
const DIGITS_MIN: usize = 7;

/// Country codes of E.164 by their first digits; all others have three.
fn country(digits: &[u8]) -> Option<usize> {
    match digits {
        [1 | 7, ..] => Some(1),
        [2, 0 | 7, ..] | [3, 0..=4 | 6 | 9, ..] | [4, 0 | 1 | 3..=9, ..] | [5, 1..=8, ..] => Some(2),
        [6, 0..=6, ..] | [8, 1 | 2 | 4 | 6, ..] | [9, 0..=5 | 8, ..] => Some(2),
        [2, 1 | 2..=6 | 9, _, ..] | [3, 5 | 7 | 8, _, ..] | [4, 2, _, ..] | [5, 0 | 9, _, ..] => Some(3),
        [6, 7..=9, _, ..] | [8, 0 | 5 | 7 | 8, _, ..] | [9, 6 | 7 | 9, _, ..] => Some(3),
        _ => None,
    }
}

/// Digits, and how they were divided.
#[derive(Default)]
struct Number {
    digits: [u8; 18],
    count: usize,
    /// Sizes of the groups.
    groups: [u8; 8],
    divided: usize,
    /// A parenthesis stands in it.
    enclosed: bool,
    blanks: bool,
    end: usize,
}

fn read(look: &Look<'_>) -> Option<Value> {
    let word = look.word.start;
    if !is_long(look, word) {
        return None;
    }
    let enclosed = look.before(word) == b'(';
    let mut start = word - usize::from(enclosed);
    let plus = look.before(start) == b'+';
    start -= usize::from(plus);
    let before = look.before(start);
    if before.is_ascii_alphanumeric() || matches!(before, b'_' | b'$' | b'#' | b'+') {
        return None;
    }
    if look.is_begun(start) {
        return None;
    }
    let number = digits(look, if enclosed { word - 1 } else { word })?;
    // The end of a longer number, as cards print them.
    let rest = before == b' ' && look.before(start - 1).is_ascii_digit();
    let all = number.digits.get(..number.count)?;
    let groups = number.groups.get(..number.divided)?;
    let alone = match (plus, all) {
        (true, _) => {
            let national = number.count.checked_sub(country(all)?)?;
            if !(6..=12).contains(&national) {
                return None;
            }
            true
        }
        (false, [0, 0, rest @ ..]) => {
            country(rest).is_some() && (9..=15).contains(&rest.len()) && number.divided > 1
        }
        (false, [0, 1..=9, ..]) => {
            (9..=12).contains(&number.count)
                && (number.divided > 1 || number.enclosed)
                && is_zero_first(groups)
        }
        (false, rest) => north_american(rest, groups, &number),
    };
    let alone = alone && (plus || !rest);
    let fits = alone || ((7..=15).contains(&number.count) && is_plain(groups));
    let end = extension(look, number.end);
    let range = start..end;
    let goes_on = look.goes_on(range.end) || is_unit(look, range.end);
    (fits && !goes_on).then_some(Value { range, alone })
}

/// Whether digits and what may stand between them go on until there are as many as the shortest number has: most
/// numbers in a text are shorter, and none of them is read closer.
fn is_long(look: &Look<'_>, at: usize) -> bool {
    let rest = look.bytes.get(at..).unwrap_or_default();
    let mut digits = 0;
    for byte in rest {
        match byte {
            b'0'..=b'9' => digits += 1,
            b' ' | b'-' | b'.' | b'/' | b'(' | b')' => {}
            _ => return false,
        }
        if digits >= DIGITS_MIN {
            return true;
        }
    }
    false
}

/// Groups as people write them: none of one digit but the first.
fn is_plain(groups: &[u8]) -> bool {
    groups.iter().skip(1).all(|group| *group >= 2) && groups != [4, 2, 2] && groups != [2, 2, 4]
}

/// The area, then its subscriber, in pairs, threes or fours.
fn is_zero_first(groups: &[u8]) -> bool {
    matches!(groups.first(), Some(2..=6))
        && groups.iter().skip(1).all(|group| (2..=8).contains(group))
        && groups.len() <= 6
}

/// The North American Numbering Plan: area and exchange begin with 2 to 9.
fn north_american(digits: &[u8], groups: &[u8], number: &Number) -> bool {
    let ten = match digits {
        [1, ten @ ..] if ten.len() == 10 => ten,
        ten if ten.len() == 10 => ten,
        _ => return false,
    };
    let plan = matches!(ten, [2..=9, _, _, 2..=9, ..]);
    let form = matches!(groups, [3, 3, 4] | [1, 3, 3, 4]) || (number.enclosed && matches!(groups, [3, 7]));
    plan && form && (number.enclosed || !number.blanks)
}

/// The digits from `at` on, with what divides them: a blank, a dash, a dot, a slash, parentheses.
fn digits(look: &Look<'_>, at: usize) -> Option<Number> {
    let mut number = Number::default();
    let mut at = at;
    let mut open = false;
    loop {
        let run = look.run(at, 16, |byte| byte.is_ascii_digit());
        for digit in look.bytes.get(at..run)? {
            *number.digits.get_mut(number.count)? = digit - b'0';
            number.count += 1;
        }
        if run > at {
            let group = number.groups.get_mut(number.divided)?;
            *group = u8::try_from(run - at).ok()?;
            number.divided += 1;
            number.end = run;
        }
        at = run;
        let (next, further) = (look.byte(at), look.byte(at + 1));
        match (next, further) {
            (b'(', b'0'..=b'9') if !open && number.count <= 3 => {
                open = true;
                number.enclosed = true;
                // `+44(0)117`: the zero is not dialled with the code.
                at += if further == b'0' && look.byte(at + 2) == b')' { 2 } else { 1 };
            }
            (b')', _) if open || (number.divided == 1 && !number.enclosed) => {
                open = false;
                number.enclosed = true;
                number.end = at + 1;
                at += 1 + usize::from(matches!(further, b' ' | b'-') && look.byte(at + 2).is_ascii_digit());
                if !look.byte(at).is_ascii_digit() {
                    break;
                }
            }
            (b' ', b'(') if look.byte(at + 2).is_ascii_digit() && number.count <= 3 && number.count > 0 => {
                at += 1
            }
            (b' ' | b'-' | b'.' | b'/', b'0'..=b'9') => {
                number.blanks |= next == b' ';
                at += 1;
            }
            _ => break,
        }
        if number.divided >= number.groups.len() {
            break;
        }
    }
    Some(number)
}

/// The end of an extension: `x37225`, ` ext. 12`.
fn extension(look: &Look<'_>, at: usize) -> usize {
    let rest = look.bytes.get(at..look.bytes.len().min(at + 8)).unwrap_or_default();
    let mark = [" ext. ", " ext ", " ext.", " x", "ext", " #", "x"]
        .iter()
        .find(|mark| rest.get(..mark.len()).is_some_and(|start| start.eq_ignore_ascii_case(mark.as_bytes())));
    let Some(mark) = mark else { return at };
    let end = look.run(at + mark.len(), 6, |byte| byte.is_ascii_digit());
    if end == at + mark.len() || end > at + mark.len() + 5 { at } else { end }
}

/// What is counted is no number to call.
fn is_unit(look: &Look<'_>, at: usize) -> bool {
    if look.byte(at) != b' ' {
        return look.byte(at) == b'%';
    }
    let end = look.run(at + 1, 8, |byte| byte.is_ascii_alphabetic());
    let word = look.bytes.get(at + 1..end).unwrap_or_default();
    [
        "ms", "us", "ns", "s", "sec", "secs", "seconds", "bytes", "b", "kb", "mb", "gb", "rows", "usd",
        "eur", "gbp", "px", "m", "km",
    ]
    .iter()
    .any(|unit| word.eq_ignore_ascii_case(unit.as_bytes()))
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_that_need_no_name() {
        for text in [
            "+1-877-577-1503x710",
            "001-309-943-0080x37225",
            "(877)875-9364",
            "(877) 875-9364",
            "740.691.4752",
            "958-204-4428",
            "1-212-555-0123",
            "+44(0)117 4960407",
            "+44 (0)20 7946 0018",
            "(0117)4960407",
            "(0151) 4960347",
            "0151 496 0719",
            "0117 4960627",
            "+44909 879 0860",
            "+4930901820",
            "+33 1 23 45 67 89",
            "01 23 45 67 89",
            "030/9018200",
            "+91 98765 43210",
        ] {
            found("phone", &alloc::format!("Hello: {text}, thanks"), text);
        }
    }

    #[test]
    fn catches_undivided_numbers_where_they_are_called_so() {
        for (text, expected) in [
            ("please call me back on 08081570480.", "08081570480"),
            ("id,name,phone\n1,Ann,7398320161\n2,Bob,740.691.4752", "7398320161|740.691.4752"),
            ("{\"mobilePhone\":\"6582599527\"}", "6582599527"),
            ("Telefon: 612 345 678", "612 345 678"),
            ("7505463484 (mobile)", "7505463484"),
        ] {
            found("phone", text, expected);
        }
    }

    #[test]
    fn leaves_other_numbers() {
        for text in [
            "Build 20250304.12 took 512-555-0199 ms?",
            "Room 415-2671 is booked 2024-05-01 to 2024-05-03.",
            "Order 4539-1488-0343 shipped",
            "ISBN 978-3-16-148410-0",
            "7398320161",
            "0.4151234567",
            "2024-05-01 10:00",
            "$740.691.4752",
            "SKU 740-691-4752",
            "+12",
        ] {
            nothing("phone", text);
        }
    }
}
