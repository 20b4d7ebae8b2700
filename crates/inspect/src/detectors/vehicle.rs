//! Vehicles: identification numbers (ISO 3779), and plates where they are called so.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value, check},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "vehicle",
    doc: "Vehicle identification numbers, and plates (called so).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[
    Scheme {
        labels: &[
            "vin",
            "vin number",
            "vehicle id",
            "vehicle identification",
            "chassis",
            "fahrgestellnummer",
            "bastidor",
            "telaio",
        ],
        lead: Lead::Any,
        form: Form::Word((17, 17), number),
    },
    Scheme {
        labels: &[
            "license plate",
            "licence plate",
            "license_plate",
            "licence_plate",
            "licenseplate",
            "licenceplate",
            "number plate",
            "plate number",
            "plate no",
            "plate",
            "registration plate",
            "vehicle registration",
            "kennzeichen",
            "immatriculation",
            "matrícula",
            "matricula",
            "targa",
            "kenteken",
            "placa",
            "tablica rejestracyjna",
        ],
        lead: Lead::Any,
        form: Form::Called((1, 9), plate),
    },
];

fn number(look: &Look<'_>) -> Option<Value> {
    let word = look.text();
    let letter = |byte: &u8| byte.is_ascii_uppercase() && !matches!(byte, b'I' | b'O' | b'Q');
    let serial = word.get(13..)?;
    let form = word.len() == 17
        && word.iter().all(|byte| letter(byte) || byte.is_ascii_digit())
        && word.iter().filter(|byte| letter(byte)).count() >= 3
        && serial.iter().all(u8::is_ascii_digit);
    let range = look.whole(look.word.clone()).filter(|_| form)?;
    Some(Value { range, alone: check::vin(word) })
}

/// Letters and digits, four to nine of them, with blanks or dashes.
fn plate(look: &Look<'_>) -> Option<Value> {
    let fits = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b' ' | b'-');
    let mut start = look.run_back(look.word.start, 6, fits);
    let mut end = look.run(look.word.start, 12, fits);
    start = look.run(start, 3, |byte| matches!(byte, b' ' | b'-'));
    end = look.run_back(end, 3, |byte| matches!(byte, b' ' | b'-'));
    let text = look.bytes.get(start..end)?;
    let letters = text.iter().filter(|byte| byte.is_ascii_uppercase()).count();
    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
    let form = (4..=9).contains(&(letters + digits)) && letters >= 1 && digits >= 1;
    Value::labelled(look.whole(start..end).filter(|_| form)?)
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_and_plates() {
        for (text, expected) in [
            ("1HGCM82633A004352", "1HGCM82633A004352"),
            ("VIN: WVWZZZ1JZ3W386752", "WVWZZZ1JZ3W386752"),
            ("license plate: 7ABC123, blue", "7ABC123"),
            ("Kennzeichen B-MW 1234", "B-MW 1234"),
        ] {
            found("vehicle", text, expected);
        }
    }

    #[test]
    fn leaves_other_words() {
        for text in ["1HGCM82633A004353", "WVWZZZ1JZ3W386752", "plate 12", "7ABC123"] {
            nothing("vehicle", text);
        }
    }
}
