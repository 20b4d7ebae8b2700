//! The list of detectors. Each lives in a file of its own: purpose, defaults, logic, samples.

use alloc::{boxed::Box, vec::Vec};
use core::{fmt, ops::Range};

use portcullis_core::{Severity, catalog, kind::Kind};

use crate::{Attack, DetectorSettings, Role, Schemes, Subject, needles::Hit, raw::Raw};

/// Looks for one kind of thing. It only reports; the verdict decides.
pub trait Detector: fmt::Debug + Send + Sync {
    /// What is done about its finds unless configuration says otherwise.
    fn defaults(&self) -> DetectorSettings;

    /// Words of which one occurs, in whatever case, in every text in which something is found. None: any text may.
    fn anchors(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// More such words, of which two have to stand near each other where none of the others occurs.
    fn weak_anchors(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// The least confidence that is reported in a text of that role; none where it does not look at all.
    fn threshold(&self, _role: Role) -> Option<u16> {
        Some(Sighting::CERTAIN)
    }

    /// Whether a definition in which it sees something waits for a person before anybody may use it.
    fn holds(&self) -> bool {
        false
    }

    /// The identifiers that one pass for all detectors is to look for; what it sees of them is reported for this one.
    fn schemes(&self) -> Schemes {
        Schemes::default()
    }

    /// What it scores of an argument that is unwrapped once for all detectors; that is reported for this one.
    fn attack(&self) -> Option<Attack> {
        None
    }

    /// Whether the raw JSON text may hold something that [`Self::find`] would report in one of its strings, decoded.
    /// False is certain. Asked only where one of the anchors occurs.
    fn may_match(&self, raw: &Raw<'_>) -> bool;

    /// Appends what it sees in a decoded text, in order and without overlap, whatever the confidence. One that wants places
    /// is asked by [`Self::find_at`] instead.
    fn find(&self, _subject: &Subject<'_>, _found: &mut Vec<Sighting>) {}

    /// Whether it reads a text that wears disguises only without them.
    fn reads_plain(&self) -> bool {
        false
    }

    /// Whether it is to be told where its anchors stand.
    fn wants_places(&self) -> bool {
        false
    }

    /// As [`Self::find`], told where its anchors stand in the text: all of them, in order of their beginnings.
    fn find_at(&self, _subject: &Subject<'_>, _anchors: &[Hit], _found: &mut Vec<Sighting>) {}
}

/// What a detector saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Bytes of the text.
    pub range: Range<usize>,
    /// How bad it is.
    pub severity: Severity,
    /// How sure, of 1,000.
    pub confidence: u16,
    /// Whether masking takes it out without a trace (what nobody sees needs no placeholder).
    pub vanishes: bool,
}

impl Sighting {
    /// The confidence where nothing is guessed.
    pub const CERTAIN: u16 = 1_000;

    /// A piece of text that a placeholder replaces when it is masked, seen for certain.
    pub(crate) const fn visible(range: Range<usize>, severity: Severity) -> Self {
        Self { range, severity, confidence: Self::CERTAIN, vanishes: false }
    }

    /// A piece of text that nobody sees, and that leaves no trace when it is masked.
    pub(crate) const fn unseen(range: Range<usize>, severity: Severity) -> Self {
        Self { range, severity, confidence: Self::CERTAIN, vanishes: true }
    }
}

catalog! {
    /// Every detector.
    pub CATALOG: [Kind<Box<dyn Detector>>] =
        age, argument_injection, bidi_controls, biometric_id, care_date, control_characters, credentials, crlf_injection,
        crypto_wallet, csv_formula, date_of_birth, dea_number, deserialization, device_id, diagnosis_code,
        driver_licence, email, embedded_file, generic_secrets, geo_location, homoglyphs, iban, injection,
        insurance_id, ip_address, ldap_injection, mac_address, medical_record, medicare_id, national_id,
        nhs_number, nosql_injection, npi, overreach, passport, path_traversal, payment_card, person_name, phone,
        postal_code, shell_injection, sql_injection, ssrf_target, street_address, tag_characters, tax_id,
        template_injection, token_flood, uk_nino, url, us_ssn, vehicle, xxe
}
