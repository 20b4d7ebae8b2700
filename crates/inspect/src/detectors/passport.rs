//! Numbers of passports: six to nine letters and digits that are called so.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "passport",
    doc: "Numbers of passports (called so).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &[
        "passport",
        "passports",
        "passport no",
        "passport number",
        "passportnumber",
        "passport_number",
        "reisepass",
        "passnummer",
        "passeport",
        "pasaporte",
        "passaporto",
        "passaporte",
        "paspoort",
        "paszport",
        "passnummer",
        "паспорт",
        "護照",
        "护照",
        "パスポート",
        "travel document",
    ],
    lead: Lead::Any,
    form: Form::Called((6, 10), read),
}];

fn read(look: &Look<'_>) -> Option<Value> {
    let word = look.text();
    let letters = word.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let digits = word.iter().filter(|byte| byte.is_ascii_digit()).count();
    // Germany and others mix letters into them.
    let fits = (6..=10).contains(&word.len()) && digits >= 4 && letters <= 3;
    let upper = word.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    Value::labelled(look.whole(look.word.clone()).filter(|_| fits && upper)?)
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_that_are_called_so() {
        for (text, expected) in [
            ("Passport no. C47036419, driver", "C47036419"),
            ("\"passport_number\": \"953755471\"", "953755471"),
            ("Reisepass: C01X00T47", "C01X00T47"),
        ] {
            found("passport", text, expected);
        }
    }

    #[test]
    fn leaves_other_numbers() {
        for text in ["C47036419", "passport 12", "passport of 2024-05-01", "passport control; gate 1234567"] {
            nothing("passport", text);
        }
    }
}
