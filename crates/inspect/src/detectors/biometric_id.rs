//! Biometric identifiers: numbers and templates of fingerprints, voices, irises, faces and palms that are called so. What is
//! called a fingerprint alone is mostly that of a key or a browser.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "biometric_id",
    doc: "Numbers and templates of fingerprints, voices, irises, faces and palms (called so).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &[
        "biometric",
        "biometric_id",
        "biometric_template",
        "fingerprint id",
        "fingerprint_id",
        "fingerprint template",
        "fingerprint_template",
        "fingerprint scan",
        "fingerprint record",
        "voiceprint",
        "voice print",
        "voice_print",
        "voiceprint_id",
        "iris scan",
        "iris_scan",
        "iris code",
        "iris_code",
        "retina scan",
        "face_template",
        "face id",
        "face_id",
        "palm print",
        "palmprint",
        "dna profile",
        "dna_profile",
        "fingerabdruck",
        "stimmabdruck",
        "iris-scan",
        "empreinte digitale",
        "empreinte vocale",
        "huella dactilar",
        "huella digital",
        "impronta digitale",
        "impressão digital",
        "vingerafdruk",
    ],
    lead: Lead::Any,
    form: Form::Called((2, 96), read),
}];

/// Letters, digits and what base64 and names of templates are made of.
fn read(look: &Look<'_>) -> Option<Value> {
    let fits = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+' | b'/' | b'=' | b':' | b'.')
    };
    let start = look.run_back(look.word.start, 96, fits);
    let end = look.run(look.word.end, 8_192, fits);
    let marks =
        look.bytes.get(start..end)?.iter().rev().take_while(|byte| matches!(byte, b'.' | b':')).count();
    Value::labelled(start..end - marks).filter(|value| value.range.len() >= 6)
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_templates_and_numbers_that_are_called_so() {
        for (text, expected) in [
            ("Fingerprint ID: FP-2291-88 on file", "FP-2291-88"),
            ("{\"voiceprint_id\": \"VP-7781-2231\"}", "VP-7781-2231"),
            ("iris scan 9f86d081884c7d659a2feaa0", "9f86d081884c7d659a2feaa0"),
            ("biometric template: AAEC4wQFBgcICQ+K1wwNDg8/==", "AAEC4wQFBgcICQ+K1wwNDg8/=="),
            ("Huella dactilar: HD-003-441.", "HD-003-441"),
        ] {
            found("biometric_id", text, expected);
        }
    }

    #[test]
    fn leaves_fingerprints_of_keys_and_browsers() {
        for text in [
            "fingerprint: SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8",
            "browser fingerprint 9f86d081884c7d65",
            "biometric login was enabled in 2024",
            "The iris of 2021-03-04",
        ] {
            nothing("biometric_id", text);
        }
    }
}
