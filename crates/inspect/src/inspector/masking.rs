//! What is left of a text once its finds were treated, and whether people are asked about any of them.

use alloc::{string::String, vec::Vec};

use portcullis_core::{Obligations, Treatment};

use super::{Inspector, Match};
use crate::{
    Budget, Subject, Verdict,
    verdict::{mask, takes, verdict},
};

impl Inspector {
    /// Whether people are to be asked about anything that is found in answers.
    #[must_use]
    pub fn asks_of_answers(&self) -> bool {
        self.active.iter().any(|one| one.settings.answers == Treatment::Ask)
    }

    /// The text with `matches` masked, and again as long as what was taken away lets something else be seen, which is
    /// added to them. None where that is to be refused, does not end, or is more than may be read.
    #[must_use]
    pub fn masked(
        &self,
        subject: &Subject<'_>,
        matches: &mut Vec<Match>,
        obligations: &Obligations,
        budget: &mut Budget,
    ) -> Option<String> {
        let mut text = mask(subject.text, matches);
        for _ in 0..Self::MASKED_MAX {
            let mut more = Vec::new();
            self.scan_within(&Subject { text: &text, ..*subject }, budget, &mut more);
            if budget.is_spent() {
                return None;
            }
            if verdict(subject.role.direction(), &mut more, obligations) == Verdict::Refuse {
                return None;
            }
            let done = !takes(&more);
            if !done {
                text = mask(&text, &more);
            }
            more.retain(|one| one.finding.treatment.takes() || is_news(one, matches));
            matches.append(&mut more);
            if done {
                return Some(text);
            }
        }
        None
    }
}

/// Whether people would have to be asked about it who are not asked about any of those.
fn is_news(one: &Match, known: &[Match]) -> bool {
    let asks = |one: &Match| one.finding.treatment == Treatment::Ask;
    asks(one) && !known.iter().any(|known| asks(known) && known.finding.kind == one.finding.kind)
}
