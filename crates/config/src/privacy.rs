//! What the operator says about the privacy of data: what is done about it, where it may go, and where callers are.

use std::collections::BTreeMap;

use portcullis_core::Label;

use super::{
    decode::{choice, section},
    primitives::Bounded,
};

section! {
    /// What is done about personal data, and where it may go. Servers say where they are with `region`.
    Privacy {
        /// Where the settings of detectors begin.
        preset: Option<Preset>;
        /// Regions of callers, by role. Who has several roles with regions is in all of them.
        caller_regions: BTreeMap<String, String>;
        /// The claim of tokens that says where its user is: a text or a list of texts. It has to be among `claims` of its
        /// issuer.
        region_claim: Option<String>;
        /// Where data may go, by its kind. What is not here may go everywhere.
        residency: ResidencyRules;
        /// So long after a person was first met his tokens can be restored; then he gets a new key.
        token_lifetime_s: Bounded<1, 315_360_000> = Bounded(2_592_000);
        /// Within what a token is the same for the same value, and is restored. Those of a session end with it, at the latest
        /// `limits.session_idle_ms` after its last call and `limits.session_total_ms` after they were made.
        token_scope: TokenScope = TokenScope::Gateway;
    }
}

section! {
    /// Where data may go, by its kind.
    ResidencyRules {
        /// Payment cards, accounts.
        financial: Option<ResidencySection>;
        /// The health of people.
        health: Option<ResidencySection>;
        /// People.
        personal: Option<ResidencySection>;
        /// Credentials and keys.
        secret: Option<ResidencySection>;
    }
}

impl ResidencyRules {
    /// Those that there are.
    pub fn iter(&self) -> impl Iterator<Item = (Label, &ResidencySection)> {
        let Self { financial, health, personal, secret } = self;
        let all = [
            (Label::Financial, financial),
            (Label::Health, health),
            (Label::Personal, personal),
            (Label::Secret, secret),
        ];
        all.into_iter().filter_map(|(label, section)| Some((label, section.as_ref()?)))
    }
}

section! {
    /// Where one kind of data may go: what detectors find of it, and the answers of tools that are labelled so. A server or
    /// a caller of whom no region is known gets none.
    ResidencySection {
        /// Regions of the servers that may get it in arguments and of the callers who may get it in answers.
        regions: Vec<String>;
        /// What is done about it in answers for callers elsewhere. In arguments for servers elsewhere it is refused.
        answers: Abroad = Abroad::Refuse;
    }
}

choice! {
    /// Settings of detectors for the sake of a rule; `docs/reference/detectors.md` has them clause by clause.
    Preset {
        /// Regulation (EU) 2016/679: personal data becomes pseudonyms, data on health placeholders.
        Gdpr = "gdpr",
        /// 45 CFR 164.514(b)(2): the identifiers of Safe Harbor become placeholders or are generalised.
        HipaaSafeHarbor = "hipaa-safe-harbor",
        /// PCI DSS: card numbers keep their last four digits.
        Pci = "pci",
        /// Personal data is not looked for; secrets, hidden text and attacks are.
        NoneButSecrets = "none-but-secrets",
    }
}

choice! {
    /// What is done about data in answers for callers where it may not go.
    Abroad {
        /// What detectors find of it is masked.
        Mask = "mask",
        /// The answer is refused; what is labelled so is not called at all.
        Refuse = "refuse",
    }
}

choice! {
    /// Within what a token is the same for the same value, and is restored.
    TokenScope {
        /// One caller: its tokens mean nothing to others, and nothing in the hands of others.
        Caller = "caller",
        /// Everybody who uses the gateway.
        Gateway = "gateway",
        /// One session of one caller: the MCP session, or the calls with one trace id; all of its calls where there is neither.
        Session = "session",
    }
}
