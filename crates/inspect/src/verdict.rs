//! From findings and obligations to what is done: one pure function.

use alloc::string::String;

use portcullis_core::{Direction, Obligations, Treatment};

use crate::Match;

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Let it through unchanged.
    Pass,
    /// Let it through, marked so that a model sees that others wrote it.
    Warn,
    /// Let it through with the matched texts replaced ([`mask`]).
    Mask,
    /// Ask people, and let it through once they said yes, with the matched texts replaced of which that is said.
    Ask,
    /// Refuse it.
    Refuse,
}

/// Raises each finding's treatment to what `obligations` demand of answers, and returns what is
/// done with all of them.
pub fn verdict(direction: Direction, matches: &mut [Match], obligations: &Obligations) -> Verdict {
    let Obligations { answers, approval: _, restore: _, abroad, buffer: _ } = obligations;
    let mut greatest = Verdict::Pass;
    for Match { finding, range: _, replacement: _, labels } in matches {
        if direction == Direction::Outward
            && let Some(least) = answers.get(finding.kind)
        {
            finding.treatment = finding.treatment.max(*least);
        }
        if direction == Direction::Outward {
            let barred = abroad.iter().filter(|(label, _)| labels.has(**label));
            finding.treatment = barred.fold(finding.treatment, |all, (_, least)| all.max(*least));
        }
        greatest = greatest.max(match finding.treatment {
            Treatment::Pass => Verdict::Pass,
            Treatment::Warn => Verdict::Warn,
            Treatment::Mask | Treatment::Drop => Verdict::Mask,
            Treatment::Ask => Verdict::Ask,
            Treatment::Refuse => Verdict::Refuse,
        });
    }
    greatest
}

/// Whether something is taken away of a text with these matches.
#[must_use]
pub fn takes(matches: &[Match]) -> bool {
    matches.iter().any(|found| found.finding.treatment.takes())
}

/// `text` with every match replaced whose treatment takes something away, and without those that are to be left out. The matches are those of this text, in any order;
/// where two overlap, the union goes and the placeholder of the first stays.
#[must_use]
pub fn mask(text: &str, matches: &[Match]) -> String {
    let mut cuts: alloc::vec::Vec<&Match> =
        matches.iter().filter(|found| found.finding.treatment >= Treatment::Mask).collect();
    cuts.sort_by_key(|found| (found.range.start, core::cmp::Reverse(found.range.end)));
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for found in cuts {
        if found.range.start >= done {
            out.push_str(text.get(done..found.range.start).unwrap_or_default());
            let dropped = found.finding.treatment == Treatment::Drop;
            out.push_str(if dropped { "" } else { &found.replacement });
        }
        done = done.max(found.range.end);
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}
