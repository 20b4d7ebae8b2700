//! Presets: what is done about which detector in answers, and for the sake of which clause. A preset is a beginning that
//! the operator's own settings overrule; it is no proof that a law is kept. What no detector sees of a clause is said with
//! it ([`Preset::beyond`]).

use alloc::string::String;

use portcullis_core::Treatment;

use crate::{DetectorSettings, Form, InspectSettings};

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Personal data becomes pseudonyms, data on health and the numbers that open accounts placeholders.
    Gdpr,
    /// The identifiers of Safe Harbor become placeholders, and what the rule lets stand of them stays.
    HipaaSafeHarbor,
    /// Card numbers keep their last four digits.
    Pci,
    /// Personal data is not looked for; secrets, hidden text and attacks are.
    NoneButSecrets,
}

/// One line of a preset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clause {
    /// The detector.
    pub detector: &'static str,
    /// What stands in the place of what it finds in answers.
    pub form: Form,
    /// Which clause wants it.
    pub clause: &'static str,
}

const fn line(detector: &'static str, form: Form, clause: &'static str) -> Clause {
    Clause { detector, form, clause }
}

const IDENTIFIER: &str = "Art. 4(1) identification number, Art. 25 and 32(1)(a) pseudonymisation";
const ONLINE: &str = "Art. 4(1) online identifier, recital 30";
const HEALTH: &str = "Art. 9(1) data concerning health";

/// A clause, and what of it no detector sees.
pub type Beyond = (&'static str, &'static str);

/// What no detector of texts sees of personal data.
const UNSEEN: &[Beyond] = &[
    (
        "Art. 4(1) name",
        "`person_name` knows some 2,300 given names of Europe, the Americas, the Arab world, India, East Asia and West Africa; a rare \
         name without a title, a label or a known family name passes",
    ),
    (
        "Art. 4(1) location data",
        "`street_address` knows streets with numbers; a village or a house with a name alone passes",
    ),
    (
        "Art. 4(1) factors specific to the identity",
        "what describes a person without a number or a name passes: a job, a family, what somebody did",
    ),
    ("Art. 9(1) special categories", "opinions, faith, origin, orientation and health in free words pass"),
    (
        "Art. 9(1) biometric data",
        "`biometric_id` reads numbers and templates that are called so; pictures and voices pass",
    ),
];

/// What no detector of texts sees of the identifiers of Safe Harbor.
const UNSEEN_HARBOR: &[Beyond] = &[
    (
        "(A) names",
        "`person_name` knows some 2,300 given names in the languages of Europe, the Americas, the Arab world, India, East Asia and West \
         Africa; a rare name without a title, a label or a known family name passes",
    ),
    (
        "(B) geographic subdivisions smaller than a state",
        "`street_address` masks streets with numbers, boxes and the town behind them; a county, a town or a house with a name alone \
         passes, and postal codes of other forms than five digits where no street stands before them",
    ),
    ("(C) elements of dates", "a date that is not called one of birth, of care or of death passes whole"),
    (
        "(N) web universal resource locators",
        "`url` leaves the `uri` by which the protocol names a resource, which a client has to follow",
    ),
    (
        "(P) biometric identifiers",
        "`biometric_id` reads numbers and templates that are called so; recordings of voices and pictures of fingers pass",
    ),
    (
        "(Q) full-face photographs",
        "nothing looks into pictures: give the tools that show them to no role that must not see them",
    ),
    ("(R) any other unique number", "a number of a kind of its own passes"),
    (
        "164.514(b)(2)(ii) no actual knowledge",
        "whether what is left can identify somebody is for a person to judge",
    ),
];

/// Regulation (EU) 2016/679.
const GDPR: &[Clause] = &[
    line("person_name", Form::Pseudonym, "Art. 4(1) name"),
    line("street_address", Form::Pseudonym, "Art. 4(1) location data"),
    line("email", Form::Pseudonym, ONLINE),
    line("phone", Form::Pseudonym, IDENTIFIER),
    line("date_of_birth", Form::Pseudonym, "Art. 4(1), Art. 5(1)(c) minimisation"),
    line("national_id", Form::Pseudonym, "Art. 87 national identification numbers"),
    line("passport", Form::Pseudonym, "Art. 87 national identification numbers"),
    line("driver_licence", Form::Pseudonym, IDENTIFIER),
    line("tax_id", Form::Pseudonym, IDENTIFIER),
    line("uk_nino", Form::Pseudonym, IDENTIFIER),
    line("us_ssn", Form::Pseudonym, IDENTIFIER),
    line("npi", Form::Pseudonym, IDENTIFIER),
    line("dea_number", Form::Pseudonym, IDENTIFIER),
    line("vehicle", Form::Pseudonym, IDENTIFIER),
    line("ip_address", Form::Pseudonym, ONLINE),
    line("mac_address", Form::Pseudonym, ONLINE),
    line("device_id", Form::Pseudonym, ONLINE),
    line("crypto_wallet", Form::Pseudonym, ONLINE),
    line("geo_location", Form::Generalise, "Art. 4(1) location data, Art. 5(1)(c) minimisation"),
    line("postal_code", Form::Generalise, "Art. 4(1), Art. 5(1)(c) minimisation"),
    line("care_date", Form::Generalise, HEALTH),
    line("iban", Form::Placeholder, "Art. 4(1), Art. 32 security"),
    line("payment_card", Form::Placeholder, "Art. 4(1), Art. 32 security"),
    line("medical_record", Form::Placeholder, HEALTH),
    line("diagnosis_code", Form::Placeholder, HEALTH),
    line("insurance_id", Form::Placeholder, HEALTH),
    line("medicare_id", Form::Placeholder, HEALTH),
    line("nhs_number", Form::Placeholder, HEALTH),
    line("biometric_id", Form::Placeholder, "Art. 9(1) biometric data"),
];

/// 45 CFR 164.514(b)(2)(i).
const HIPAA_SAFE_HARBOR: &[Clause] = &[
    line("person_name", Form::Placeholder, "(A) names"),
    line(
        "street_address",
        Form::Placeholder,
        "(B) geographic subdivisions smaller than a state: street address, city",
    ),
    line(
        "postal_code",
        Form::Generalise,
        "(B) three digits of a ZIP code, 000 for the 17 areas of 20,000 people or fewer",
    ),
    line("geo_location", Form::Placeholder, "(B) geographic subdivisions smaller than a state"),
    line(
        "date_of_birth",
        Form::Generalise,
        "(C) elements of dates but the year, and the year of who is over 89",
    ),
    line("care_date", Form::Generalise, "(C) elements of dates but the year: admission, discharge, death"),
    line("age", Form::Generalise, "(C) ages over 89 are one category: 90 or older"),
    line("phone", Form::Placeholder, "(D) telephone numbers, (E) fax numbers"),
    line("email", Form::Placeholder, "(F) electronic mail addresses"),
    line("us_ssn", Form::Placeholder, "(G) social security numbers"),
    line("medical_record", Form::Placeholder, "(H) medical record numbers"),
    line("insurance_id", Form::Placeholder, "(I) health plan beneficiary numbers"),
    line("medicare_id", Form::Placeholder, "(I) health plan beneficiary numbers"),
    line("payment_card", Form::Placeholder, "(J) account numbers"),
    line("iban", Form::Placeholder, "(J) account numbers"),
    line("crypto_wallet", Form::Placeholder, "(J) account numbers"),
    line("driver_licence", Form::Placeholder, "(K) certificate and license numbers"),
    line("passport", Form::Placeholder, "(K) certificate and license numbers"),
    line("dea_number", Form::Placeholder, "(K) certificate and license numbers"),
    line("vehicle", Form::Placeholder, "(L) vehicle identifiers, license plates included"),
    line("device_id", Form::Placeholder, "(M) device identifiers and serial numbers"),
    line("mac_address", Form::Placeholder, "(M) device identifiers and serial numbers"),
    line("url", Form::Placeholder, "(N) web universal resource locators"),
    line("ip_address", Form::Placeholder, "(O) Internet Protocol addresses"),
    line("biometric_id", Form::Placeholder, "(P) biometric identifiers, finger and voice prints included"),
    line("national_id", Form::Placeholder, "(R) any other unique identifying number"),
    line("nhs_number", Form::Placeholder, "(R) any other unique identifying number"),
    line("npi", Form::Placeholder, "(R) any other unique identifying number"),
    line("tax_id", Form::Placeholder, "(R) any other unique identifying number"),
    line("uk_nino", Form::Placeholder, "(R) any other unique identifying number"),
];

/// PCI DSS 4.0.1.
const PCI: &[Clause] = &[line(
    "payment_card",
    Form::Stars,
    "3.4.1 masked when displayed: at most the first six and last four digits",
)];

impl Preset {
    /// Every preset.
    pub const ALL: &[Self] = &[Self::Gdpr, Self::HipaaSafeHarbor, Self::Pci, Self::NoneButSecrets];

    /// As it is written in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gdpr => "gdpr",
            Self::HipaaSafeHarbor => "hipaa-safe-harbor",
            Self::Pci => "pci",
            Self::NoneButSecrets => "none-but-secrets",
        }
    }

    /// Line by line: what is masked in answers.
    #[must_use]
    pub const fn clauses(self) -> &'static [Clause] {
        match self {
            Self::Gdpr => GDPR,
            Self::HipaaSafeHarbor => HIPAA_SAFE_HARBOR,
            Self::Pci => PCI,
            Self::NoneButSecrets => &[],
        }
    }

    /// What of the rule no detector sees, clause by clause.
    #[must_use]
    pub const fn beyond(self) -> &'static [Beyond] {
        match self {
            Self::Gdpr => UNSEEN,
            Self::HipaaSafeHarbor => UNSEEN_HARBOR,
            Self::Pci | Self::NoneButSecrets => &[],
        }
    }

    /// The defaults of all detectors, and what the preset says instead.
    #[must_use]
    pub fn settings(self) -> InspectSettings {
        let mut all = InspectSettings::default();
        for Clause { detector, form, clause: _ } in self.clauses() {
            if let Some(settings) = all.detectors.get_mut(*detector) {
                *settings = DetectorSettings { enabled: true, answers: Treatment::Mask, ..*settings };
                all.forms.insert(String::from(*detector), *form);
            }
        }
        if self == Self::NoneButSecrets {
            let personal = [GDPR, HIPAA_SAFE_HARBOR, PCI].concat();
            for Clause { detector, .. } in personal {
                if let Some(settings) = all.detectors.get_mut(detector) {
                    settings.enabled = false;
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::BTreeSet;

    use super::*;
    use crate::CATALOG;

    #[test]
    fn presets_name_detectors_that_exist_once_each_and_do_what_they_say() {
        for preset in Preset::ALL {
            let names: BTreeSet<&str> = preset.clauses().iter().map(|line| line.detector).collect();
            assert_eq!(names.len(), preset.clauses().len(), "{preset:?}");
            let settings = preset.settings();
            for line in preset.clauses() {
                assert!(CATALOG.iter().any(|kind| kind.name == line.detector), "{line:?}");
                assert_eq!(settings.detectors[line.detector].answers, Treatment::Mask);
            }
        }
        let bare = Preset::NoneButSecrets.settings();
        let personal: BTreeSet<&str> =
            Preset::ALL.iter().flat_map(|one| one.clauses()).map(|line| line.detector).collect();
        for kind in CATALOG {
            let identifies = !(kind.build)(&()).unwrap().schemes().0.is_empty();
            assert!(!identifies || personal.contains(kind.name), "no preset names {}", kind.name);
            assert_eq!(bare.detectors[kind.name].enabled, !personal.contains(kind.name), "{}", kind.name);
        }
    }
}
