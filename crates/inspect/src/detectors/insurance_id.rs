//! Numbers of members of health plans and of insurance policies: letters and digits that are called so.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "insurance_id",
    doc: "Numbers of members of health plans and of insurance policies (called so).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &[
        "member id",
        "memberid",
        "member_id",
        "member no",
        "member number",
        "member #",
        "membership number",
        "membership id",
        "subscriber id",
        "subscriberid",
        "subscriber_id",
        "subscriber number",
        "policy number",
        "policynumber",
        "policy_number",
        "policy no",
        "policy id",
        "policy #",
        "insurance id",
        "insuranceid",
        "insurance_id",
        "insurance number",
        "insurance no",
        "insurance policy",
        "insurance #",
        "insured id",
        "health plan",
        "health insurance",
        "plan id",
        "group number",
        "group no",
        "beneficiary id",
        "beneficiary number",
        "certificate number",
        "versichertennummer",
        "versicherungsnummer",
        "krankenkasse",
        "policennummer",
        "numéro d'assuré",
        "police d'assurance",
        "numéro de contrat",
        "póliza",
        "poliza",
        "polizza",
        "apólice",
        "polisnummer",
    ],
    lead: Lead::Any,
    form: Form::Called((2, 20), read),
}];

fn read(look: &Look<'_>) -> Option<Value> {
    let mut start = look.word.start;
    if look.before(start) == b'-' {
        start = look.run_back(start - 1, 5, |byte| byte.is_ascii_uppercase());
    }
    let end = look.run(start, 24, |byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let text = look.bytes.get(start..end)?;
    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
    let fits = (6..=20).contains(&text.len())
        && digits >= 5
        && text.iter().all(|byte| !byte.is_ascii_lowercase())
        && text.last() != Some(&b'-');
    Value::labelled(look.whole(start..end).filter(|_| fits)?)
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_that_are_called_so() {
        for (text, expected) in [
            ("Member ID XYZ265346140.", "XYZ265346140"),
            ("\"policyNumber\": \"POL-8842913\"", "POL-8842913"),
            ("Versichertennummer A123456780", "A123456780"),
        ] {
            found("insurance_id", text, expected);
        }
    }

    #[test]
    fn leaves_other_numbers() {
        for text in ["model number XYZ729758396", "XYZ265346140", "member since 2024", "policy of 2024-05-01"]
        {
            nothing("insurance_id", text);
        }
    }
}
