//! Medicare: beneficiaries of the United States (the form of 2018) and cards of Australia.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Alone, Form, Lead, Look, Scheme, Value, check},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "medicare_id",
    doc: "Medicare numbers (US beneficiaries, Australian cards).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[
    Scheme {
        labels: &["medicare", "mbi", "medicare beneficiary", "medicare id", "medicare number"],
        lead: Lead::Digit,
        form: Form::Word((4, 11), read),
    },
    Scheme {
        labels: &["medicare", "medicare card", "medicare no", "medicare number"],
        lead: Lead::Digit,
        form: Form::Digits(&[&[4, 5, 1], &[4, 5, 1, 1], &[10], &[11]], check::medicare_au, Alone::Never),
    },
];

/// `C A AN N A AN N A A N N`, in one piece or with dashes after the fourth and the seventh; no S, L, O, I, B, Z.
fn read(look: &Look<'_>) -> Option<Value> {
    let mut at = look.word.start;
    for (index, kind) in b"CAXNAXNAANN".iter().enumerate() {
        if matches!(index, 4 | 7) && matches!(look.byte(at), b'-' | b' ') {
            at += 1;
        }
        let byte = look.byte(at).to_ascii_uppercase();
        let letter = byte.is_ascii_uppercase() && !b"SLOIBZ".contains(&byte);
        let fits = match kind {
            b'C' => (b'1'..=b'9').contains(&byte),
            b'N' => byte.is_ascii_digit(),
            b'A' => letter,
            _ => letter || byte.is_ascii_digit(),
        };
        if !fits {
            return None;
        }
        at += 1;
    }
    Value::alone(look.whole(look.word.start..at)?)
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_of_both_countries() {
        for (text, expected) in [
            ("Medicare beneficiary 6FJ6NN5VX81 - Ann", "6FJ6NN5VX81"),
            ("it is 1EG4-TE5-MK73", "1EG4-TE5-MK73"),
            ("Medicare card 2123 45670 1", "2123 45670 1"),
        ] {
            found("medicare_id", text, expected);
        }
    }

    #[test]
    fn leaves_wrong_letters_and_wrong_digits() {
        for text in
            ["1SG4-TE5-MK73", "0EG4-TE5-MK73", "1EG4-TE5-MK733", "Medicare card 2123 45671 1", "2123 45670 1"]
        {
            nothing("medicare_id", text);
        }
    }
}
