//! Medical record numbers: every hospital has a form of its own, so the name decides.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "medical_record",
    doc: "Medical record numbers (called so).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &[
        "mrn",
        "mrns",
        "medical record",
        "medicalrecord",
        "medical_record",
        "med rec",
        "patient id",
        "patientid",
        "patient_id",
        "patient no",
        "patient number",
        "patient identifier",
        "chart number",
        "chart no",
        "hospital number",
        "hospital no",
        "health record",
        "record number",
        "account mrn",
        "patientennummer",
        "patienten-id",
        "patientennr",
        "fallnummer",
        "numéro de patient",
        "numéro de dossier",
        "ipp",
        "historia clínica",
        "historia clinica",
        "número de paciente",
        "nhc",
        "cartella clinica",
        "numero paziente",
        "prontuário",
        "patiëntnummer",
    ],
    lead: Lead::Any,
    form: Form::Called((5, 16), read),
}];

/// Up to four letters, a dash, five to twelve digits.
fn read(look: &Look<'_>) -> Option<Value> {
    let word = look.text();
    let letters = word.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let digits = word.get(letters..)?;
    let mut start = look.word.start;
    if letters == 0 && look.before(start) == b'-' {
        start = look.run_back(start - 1, 5, |byte| byte.is_ascii_alphabetic());
    }
    let prefix = letters.max(look.word.start.saturating_sub(start + 1));
    let fits = prefix <= 4 && (5..=12).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    Value::labelled(look.whole(start..look.word.end).filter(|_| fits)?)
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_that_are_called_so() {
        for (text, expected) in [
            ("Patient Ann (MRN 3678997), born", "3678997"),
            ("(MRN M-2945782)", "M-2945782"),
            ("MRN: MRN7168080", "MRN7168080"),
            ("{\"system\": \"urn:mrn\", \"value\": \"0051747262\"}", "0051747262"),
            ("{\"patientMrn\":\"0051747262\"}", "0051747262"),
        ] {
            found("medical_record", text, expected);
        }
    }

    #[test]
    fn leaves_other_numbers() {
        for text in ["3678997", "MRN 1234", "order 3678997", "a record number of visitors! 3678997"] {
            nothing("medical_record", text);
        }
    }
}
