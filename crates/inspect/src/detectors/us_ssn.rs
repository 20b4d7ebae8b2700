//! Social Security numbers and Individual Taxpayer Identification numbers of the United States: ranges that are given
//! out, divided by dashes, or called so.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Alone, Form, Lead, Scheme, check},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "us_ssn",
    doc: "Social Security and Individual Taxpayer Identification numbers (US).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &[
        "ssn",
        "ssns",
        "itin",
        "social security",
        "social sec",
        "soc sec",
        "socialsecurity",
        "social_security",
        "taxpayer id",
        "taxpayer identification",
        "tax id",
        "tax_id",
        "taxid",
        "tin",
        "seguro social",
        "social #",
    ],
    lead: Lead::Digit,
    form: Form::Digits(&[&[3, 2, 4], &[9]], check::ssn, Alone::By(b"--")),
}];

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_in_their_own_form_or_called_so() {
        for (text, expected) in [
            ("it is 536-22-8412.", "536-22-8412"),
            ("\"ssn\": \"536 22 8412\"", "536 22 8412"),
            ("My social security number is 536228412", "536228412"),
            ("name,ssn\nAnn,536228412\nBob,537 22 8412", "536228412|537 22 8412"),
            ("ITIN 912-70-1234", "912-70-1234"),
        ] {
            found("us_ssn", text, expected);
        }
    }

    #[test]
    fn leaves_ranges_that_are_not_given_out_and_numbers_of_other_things() {
        for text in [
            "000-22-8412",
            "666-22-8412",
            "536-00-8412",
            "536-22-0000",
            "900-10-1234",
            "SKU 536-22-8412",
            "536-22-8412-1",
            "536 22 8412",
            "536228412",
        ] {
            nothing("us_ssn", text);
        }
    }
}
