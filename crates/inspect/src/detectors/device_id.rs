//! Identifiers of devices: IMEI of mobile phones, IMSI and ICCID of their cards, called so.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Alone, Form, Lead, Scheme, check},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "device_id",
    doc: "Identifiers of mobile phones and their cards (IMEI, IMSI, ICCID; called so).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[
    Scheme {
        labels: &["imei", "imei number", "imei no", "meid"],
        lead: Lead::Digit,
        form: Form::Digits(&[&[15], &[2, 6, 6, 1]], check::luhn, Alone::Never),
    },
    Scheme {
        labels: &["imsi"],
        lead: Lead::Digit,
        form: Form::Digits(&[&[15], &[14]], check::varied, Alone::Never),
    },
    Scheme {
        labels: &["iccid", "sim card", "sim number", "sim no"],
        lead: Lead::Digit,
        form: Form::Digits(&[&[19], &[20]], check::luhn, Alone::Never),
    },
];

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_that_are_called_so() {
        found("device_id", "IMEI 490154203237518", "490154203237518");
        found("device_id", "imei: 49-015420-323751-8", "49-015420-323751-8");
        found("device_id", "\"imsi\": \"310150123456789\"", "310150123456789");
    }

    #[test]
    fn leaves_wrong_digits_and_unnamed_numbers() {
        for text in ["IMEI 490154203237519", "490154203237518"] {
            nothing("device_id", text);
        }
    }
}
