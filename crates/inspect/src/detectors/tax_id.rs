//! Numbers that tax offices give to persons who trade and to businesses, with the check digits of their countries.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Alone, Form, Lead, Look, Scheme, Value, check},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "tax_id",
    doc: "Tax numbers of persons and businesses (AU TFN and ABN, BR CNPJ, IN PAN).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[
    Scheme {
        labels: &["tfn", "tax file number", "tax file no", "taxfilenumber"],
        lead: Lead::Digit,
        form: Form::Digits(&[&[3, 3, 3], &[9]], check::tfn_au, Alone::Never),
    },
    Scheme {
        labels: &["abn", "australian business"],
        lead: Lead::Digit,
        form: Form::Digits(&[&[2, 3, 3, 3], &[11]], check::abn_au, Alone::Never),
    },
    Scheme {
        labels: &["cnpj"],
        lead: Lead::Digit,
        form: Form::Digits(&[&[2, 3, 3, 4, 2], &[14]], check::cnpj, Alone::By(b"../-")),
    },
    Scheme {
        labels: &["pan", "pan number", "pan no", "pan card", "permanent account"],
        lead: Lead::Letter,
        form: Form::Word((10, 10), pan),
    },
];

/// Five letters, of which the fourth says who holds it, four digits and a letter.
fn pan(look: &Look<'_>) -> Option<Value> {
    let word = look.text();
    let kind = |(byte, kind): (&u8, &u8)| match kind {
        b'A' => byte.is_ascii_uppercase(),
        b'H' => b"ABCFGHLJPT".contains(byte),
        _ => byte.is_ascii_digit(),
    };
    let form = word.len() == 10 && word.iter().zip(b"AAAHANNNNA").all(kind);
    Value::alone(look.whole(look.word.clone()).filter(|_| form)?)
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_of_every_country() {
        for (text, expected) in [
            ("TFN 123 456 782", "123 456 782"),
            ("ABN 51 824 753 556", "51 824 753 556"),
            ("11.222.333/0001-81", "11.222.333/0001-81"),
            ("PAN: ABCPE1234F", "ABCPE1234F"),
        ] {
            found("tax_id", text, expected);
        }
    }

    #[test]
    fn leaves_wrong_check_digits_and_unnamed_numbers() {
        for text in [
            "TFN 123 456 783",
            "123 456 782",
            "ABN 51 824 753 557",
            "11.222.333/0001-82",
            "ABCDE1234F",
            "SKU ABCPE1234F",
        ] {
            nothing("tax_id", text);
        }
    }
}
