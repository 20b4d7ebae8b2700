//! Registration numbers of the Drug Enforcement Administration: two letters and seven digits, the last of which checks
//! the others, called so.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value, check},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "dea_number",
    doc: "Registration numbers of the Drug Enforcement Administration (US; check digit holds).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &["dea", "dea number", "dea no", "dea registration", "dea #", "drug enforcement"],
    lead: Lead::Letter,
    form: Form::Called((9, 9), read),
}];

fn read(look: &Look<'_>) -> Option<Value> {
    let [kind, name, digits @ ..] = look.text() else { return None };
    let mut number = [0_u8; 7];
    let known = b"ABCDEFGHJKLMPRSTUX".contains(&kind.to_ascii_uppercase());
    if !known || !(name.is_ascii_alphabetic() || *name == b'9') || digits.len() != number.len() {
        return None;
    }
    for (place, digit) in number.iter_mut().zip(digits) {
        *place = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
    }
    Value::labelled(look.whole(look.word.clone()).filter(|_| check::dea(&number))?)
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_whose_check_digit_holds() {
        found("dea_number", "Prescriber DEA AM1866447, NPI", "AM1866447");
        found("dea_number", "\"dea_number\": \"B91388568\"", "B91388568");
    }

    #[test]
    fn leaves_wrong_digits_and_unnamed_numbers() {
        for text in ["DEA AM1866446", "AM1866447", "DEA AM18664470", "DEA WM1866447"] {
            nothing("dea_number", text);
        }
    }
}
