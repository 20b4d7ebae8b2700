//! National Provider Identifiers of the United States: ten digits of Luhn behind 80840, called so.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Alone, Form, Lead, Scheme, check},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "npi",
    doc: "National Provider Identifiers (US; check digit holds).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &[
        "npi",
        "us-npi",
        "npi number",
        "national provider",
        "provider id",
        "provider identifier",
        "provider number",
    ],
    lead: Lead::Digit,
    form: Form::Digits(&[&[10]], check::npi, Alone::Never),
}];

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_whose_check_digit_holds() {
        found("npi", "Prescriber NPI 1234567893.", "1234567893");
        found("npi", "\"providerNpi\":\"1245319599\"", "1245319599");
    }

    #[test]
    fn leaves_wrong_digits_and_unnamed_numbers() {
        for text in ["NPI 1234567894", "1234567893", "NPI 3234567893"] {
            nothing("npi", text);
        }
    }
}
