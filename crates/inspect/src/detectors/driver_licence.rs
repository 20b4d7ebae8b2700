//! Numbers of driving licences: letters and digits of many lengths that are called so.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "driver_licence",
    doc: "Numbers of driving licences (called so).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &[
        "driver's license",
        "driver's licence",
        "drivers license",
        "drivers licence",
        "driver license",
        "driver licence",
        "driving license",
        "driving licence",
        "driverlicense",
        "driverslicense",
        "driver_license",
        "drivers_license",
        "driver_licence",
        "driving_licence",
        "driver’s license",
        "driver’s licence",
        "dl number",
        "dl no",
        "dl",
        "license number",
        "licence number",
        "license no",
        "licence no",
        "dvla",
        "führerschein",
        "fuehrerschein",
        "permis de conduire",
        "licencia de conducir",
        "permiso de conducir",
        "carnet de conducir",
        "patente di guida",
        "patente",
        "rijbewijs",
        "carteira de motorista",
        "carta de condução",
        "cnh",
        "prawo jazdy",
        "körkort",
        "kørekort",
        "førerkort",
        "ajokortti",
    ],
    lead: Lead::Any,
    form: Form::Called((3, 20), read),
}];

/// One word, or groups with dashes.
fn read(look: &Look<'_>) -> Option<Value> {
    let mut start = look.word.start;
    if look.before(start) == b'-' && look.before(start - 1).is_ascii_uppercase() {
        start = look.run_back(start - 1, 3, |byte| byte.is_ascii_uppercase());
    }
    let end = look.run(start, 24, |byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let text = look.bytes.get(start..end)?;
    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
    let length = text.iter().filter(|byte| byte.is_ascii_alphanumeric()).count();
    let fits = (5..=20).contains(&length)
        && digits >= 4
        && text.iter().all(|byte| !byte.is_ascii_lowercase())
        && text.last() != Some(&b'-');
    Value::labelled(look.whole(start..end).filter(|_| fits)?)
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_that_are_called_so() {
        for (text, expected) in [
            ("My driver's license number is H386917650639", "H386917650639"),
            ("driver licence D3610051, issued", "D3610051"),
            ("\"driverLicense\": \"S530-4608-5182-09\"", "S530-4608-5182-09"),
            ("Driving licence: MORGA753116SM9IJ", "MORGA753116SM9IJ"),
        ] {
            found("driver_licence", text, expected);
        }
    }

    #[test]
    fn leaves_other_numbers() {
        for text in ["D3610051", "driver 536.23", "MIT license 2024", "driver version 12345678"] {
            nothing("driver_licence", text);
        }
    }
}
