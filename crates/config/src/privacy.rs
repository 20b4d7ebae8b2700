//! What the operator says about the privacy of data.

use super::decode::{choice, section};

section! {
    /// What is done about personal data.
    Privacy {
        /// Where the settings of detectors begin.
        preset: Option<Preset>;
    }
}

choice! {
    /// Settings of detectors for the sake of a rule; `docs/reference/detectors.md` has them clause by clause.
    Preset {
        /// Regulation (EU) 2016/679: personal data becomes pseudonyms, data on health placeholders.
        Gdpr = "gdpr",
        /// 45 CFR 164.514(b)(2): the identifiers of Safe Harbor become placeholders.
        HipaaSafeHarbor = "hipaa-safe-harbor",
        /// PCI DSS: card numbers keep their last four digits.
        Pci = "pci",
        /// Personal data is not looked for; secrets, hidden text and attacks are.
        NoneButSecrets = "none-but-secrets",
    }
}
