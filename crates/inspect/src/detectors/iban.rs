//! International Bank Account Numbers (ISO 13616): the length of their country, and a checksum that holds.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value, check},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "iban",
    doc: "International Bank Account Numbers (checksum holds).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &["iban", "account number", "kontonummer"],
    lead: Lead::Letter,
    form: Form::Word((4, 34), read),
}];

/// Countries of the SWIFT registry, by the length of their numbers.
const LENGTHS: &[(usize, &str)] = &[
    (15, "NO"),
    (16, "BE"),
    (18, "DK FK FI FO GL NL SD"),
    (19, "MK SI"),
    (20, "AT BA EE KZ LT LU MN XK"),
    (21, "CH CR HR LI LV"),
    (22, "BG BH DE GB GE IE ME RS VA"),
    (23, "AE GI IL IQ OM SO TL"),
    (24, "AD CZ DZ ES MD PK RO SA SE SK TN VG"),
    (25, "LY PT ST"),
    (26, "IS TR"),
    (27, "BI DJ FR GR IT MC MR SM"),
    (28, "AL AZ BY CM CY DO GT HU LB NI PL SV"),
    (29, "BR EG PS QA UA"),
    (30, "JO KW MU YE"),
    (31, "MT SC"),
    (33, "RU"),
];

fn read(look: &Look<'_>) -> Option<Value> {
    let [first, second, third, fourth, ..] = look.text() else { return None };
    let country = [first.to_ascii_uppercase(), second.to_ascii_uppercase()];
    let begins = second.is_ascii_alphabetic() && third.is_ascii_digit() && fourth.is_ascii_digit();
    if !begins || look.is_begun(look.word.start) {
        return None;
    }
    let (length, _) = LENGTHS
        .iter()
        .find(|(_, countries)| countries.as_bytes().chunks(3).any(|known| known.starts_with(&country)))?;
    // In one piece, or in fours.
    let mut count = 0;
    let mut end = look.word.start;
    while count < *length {
        if count > 0 && count.is_multiple_of(4) && matches!(look.byte(end), b' ' | b'-') {
            end += 1;
        }
        if !look.byte(end).is_ascii_alphanumeric() {
            return None;
        }
        end += 1;
        count += 1;
    }
    let bytes = look.bytes.get(look.word.start..end)?;
    let letters = bytes.iter().copied().filter(u8::is_ascii_alphanumeric);
    let ends = !look.byte(end).is_ascii_alphanumeric();
    (ends && check::iban(letters)).then_some(Value { range: look.word.start..end, alone: true })
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_of_every_length_together_and_in_fours() {
        for (text, expected) in [
            ("to IBAN GB82WEST12345698765432, please", "GB82WEST12345698765432"),
            ("GB82 WEST 1234 5698 7654 32 by Friday", "GB82 WEST 1234 5698 7654 32"),
            ("de89370400440532013000", "de89370400440532013000"),
            ("NO9386011117947", "NO9386011117947"),
            ("MT84MALT011000012345MTLCAST001S", "MT84MALT011000012345MTLCAST001S"),
        ] {
            found("iban", text, expected);
        }
    }

    #[test]
    fn leaves_wrong_checksums_lengths_and_countries() {
        for text in [
            "GB83WEST12345698765432",
            "GB82WEST1234569876543",
            "GB82WEST123456987654321",
            "XX82WEST12345698765432",
        ] {
            nothing("iban", text);
        }
    }
}
