//! National Insurance numbers of the United Kingdom: two letters that are given out, six digits, A to D.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "uk_nino",
    doc: "National Insurance numbers (UK).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &["national insurance", "ni number", "ni no", "nino", "nino number", "insurance number"],
    lead: Lead::Any,
    form: Form::Word((2, 9), read),
}];

/// `AB123456C`, `AB 12 34 56 C`, and with dashes.
fn read(look: &Look<'_>) -> Option<Value> {
    let mut start = look.word.start;
    if look.byte(start).is_ascii_digit() {
        let gap = usize::from(matches!(look.before(start), b' ' | b'-'));
        start = start.checked_sub(gap + 2)?;
    }
    if !look.byte(start).is_ascii_alphabetic() {
        return None;
    }
    let mut letters = [0_u8; 9];
    let mut at = start;
    for place in &mut letters {
        if at > start && matches!(look.byte(at), b' ' | b'-') {
            at += 1;
        }
        *place = look.byte(at).to_ascii_uppercase();
        at += 1;
    }
    let [first, second, digits @ .., suffix] = letters;
    let given = first.is_ascii_uppercase()
        && second.is_ascii_uppercase()
        && !b"DFIQUV".contains(&first)
        && !b"DFIOQUV".contains(&second)
        && ![*b"BG", *b"GB", *b"NK", *b"KN", *b"TN", *b"NT", *b"ZZ"].contains(&[first, second]);
    let fits = given && digits.iter().all(u8::is_ascii_digit) && (b'A'..=b'D').contains(&suffix);
    let range = look.whole(start..at).filter(|_| fits)?;
    Some(Value { alone: look.byte(start).is_ascii_uppercase(), range })
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_together_and_in_pairs() {
        for (text, expected) in [
            ("| Ann | KW449329C |", "KW449329C"),
            ("NI number: AB 12 34 56 C.", "AB 12 34 56 C"),
            ("\"nino\":\"sl-12-34-56-d\"", "sl-12-34-56-d"),
        ] {
            found("uk_nino", text, expected);
        }
    }

    #[test]
    fn leaves_prefixes_and_suffixes_that_are_not_given_out() {
        for text in
            ["DA123456C", "AO123456C", "GB123456C", "AB123456E", "XAB123456C", "AB1234567C", "SKU AB123456C"]
        {
            nothing("uk_nino", text);
        }
    }
}
