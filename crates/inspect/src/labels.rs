//! What kind of data each detector finds. It labels the session that reads it, and says where it may go.

use portcullis_core::{Label, Labels};

/// The labels of what a detector finds, unless configuration says otherwise. Who reads a mail address has not read private
/// data for that alone: they stand on every page.
#[must_use]
pub fn labels_of(detector: &str) -> Labels {
    use Label::{Financial, Health, Personal, ReadsPrivate, Secret, SeesUntrusted};
    let labels: &[Label] = match detector {
        "age" | "care_date" | "email" | "ip_address" | "mac_address" | "phone" | "postal_code" | "url"
        | "vehicle" => &[Personal],
        "credentials" | "crypto_wallet" | "generic_secrets" => &[Secret, ReadsPrivate],
        "iban" | "payment_card" | "bank_account" => &[Financial, Personal, ReadsPrivate],
        "dea_number" | "diagnosis_code" | "insurance_id" | "medical_record" | "medicare_id"
        | "nhs_number" | "npi" => &[Health, Personal, ReadsPrivate],
        "biometric_id" | "date_of_birth" | "device_id" | "driver_licence" | "geo_location"
        | "national_id" | "passport" | "person_name" | "street_address" | "tax_id" | "uk_nino" | "us_ssn" => {
            &[Personal, ReadsPrivate]
        }
        "injection" | "overreach" | "tag_characters" => &[SeesUntrusted],
        _ => &[],
    };
    labels.iter().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CATALOG;

    /// What says nothing about the data: how a text is written, and what an argument would do to a program.
    const UNLABELLED: &[&str] = &[
        "argument_injection",
        "bidi_controls",
        "control_characters",
        "crlf_injection",
        "csv_formula",
        "deserialization",
        "embedded_file",
        "homoglyphs",
        "ldap_injection",
        "nosql_injection",
        "path_traversal",
        "shell_injection",
        "sql_injection",
        "ssrf_target",
        "template_injection",
        "token_flood",
        "xxe",
    ];

    #[test]
    fn every_detector_says_what_kind_of_data_it_finds_or_that_it_finds_none() {
        for kind in CATALOG {
            let unlabelled = UNLABELLED.contains(&kind.name);
            assert_eq!(labels_of(kind.name).is_empty(), unlabelled, "{}", kind.name);
        }
    }
}
