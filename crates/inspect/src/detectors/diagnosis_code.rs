//! Codes of diagnoses (ICD-10): a letter, two digits and up to four places behind a dot, called so.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "diagnosis_code",
    doc: "Codes of diagnoses (ICD-10; called so).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &[
        "icd",
        "icd-10",
        "icd10",
        "icd-10-cm",
        "diagnosis",
        "diagnoses",
        "diagnosis code",
        "diagnosed",
        "dx",
        "diabetes",
        "disease",
        "disorder",
        "syndrome",
        "diagnose",
        "diagnostic",
        "diagnóstico",
        "diagnosi",
        "rozpoznanie",
        "condition code",
    ],
    lead: Lead::Letter,
    form: Form::Called((3, 8), read),
}];

fn read(look: &Look<'_>) -> Option<Value> {
    let [letter, first, second, third @ ..] = look.text() else { return None };
    let category = letter.is_ascii_uppercase() && first.is_ascii_digit() && second.is_ascii_alphanumeric();
    if !category || third.len() > 4 || second.is_ascii_lowercase() {
        return None;
    }
    let dotted =
        third.is_empty() && look.byte(look.word.end) == b'.' && look.byte(look.word.end + 1).is_ascii_digit();
    let end = if dotted {
        look.run(look.word.end + 1, 5, |byte| byte.is_ascii_alphanumeric())
    } else {
        look.word.end
    };
    let places = end - look.word.end;
    // Without a dot it takes more to be a code.
    let fits = (dotted && places <= 5) || (2..=4).contains(&third.len());
    Value::labelled(look.whole(look.word.start..end).filter(|_| fits)?)
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_codes_that_are_called_so() {
        for (text, expected) in [
            ("type 2 diabetes (E11.9), HbA1c", "E11.9"),
            ("ICD-10: F32.1", "F32.1"),
            ("\"diagnosisCode\": \"S72001A\"", "S72001A"),
        ] {
            found("diagnosis_code", text, expected);
        }
    }

    #[test]
    fn leaves_other_codes() {
        for text in ["E11.9", "diagnosis: B12", "ISO A4.1", "diagnosis e11.9"] {
            nothing("diagnosis_code", text);
        }
    }
}
