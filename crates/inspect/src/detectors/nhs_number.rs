//! NHS numbers of England, Wales and the Isle of Man: ten digits of modulus 11, called so.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Alone, Form, Lead, Scheme, check},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "nhs_number",
    doc: "NHS numbers (UK; check digit holds).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &[
        "nhs",
        "nhs number",
        "nhs no",
        "nhsnumber",
        "nhs_number",
        "national health service",
        "health service number",
    ],
    lead: Lead::Digit,
    form: Form::Digits(&[&[3, 3, 4], &[10]], check::nhs, Alone::Never),
}];

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_whose_check_digit_holds() {
        found("nhs_number", "NHS No: 943 476 5919. Dear Dr", "943 476 5919");
        found("nhs_number", "{\"nhsNumber\": \"9434765919\"}", "9434765919");
    }

    #[test]
    fn leaves_wrong_digits_and_unnamed_numbers() {
        for text in ["NHS No: 943 476 5918", "943 476 5919", "9434765919", "NHS No: 943 476 59199"] {
            nothing("nhs_number", text);
        }
    }
}
