//! Payment card numbers: 13 to 19 digits of a known issuer whose check digit holds, in one piece or grouped as
//! cards print them.
//!
//! Defaults: let through in arguments (paying needs them), masked in answers.

use alloc::{boxed::Box, vec::Vec};
use core::ops::Range;

use portcullis_core::{Severity, Treatment, kind::Kind};

use super::{Detector, Sighting};
use crate::{DetectorSettings, Subject, raw::Raw};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "payment_card",
    doc: "Payment card numbers (issuer range and check digit hold).",
    build: |_| Ok(Box::new(PaymentCard)),
};

const DIGITS_MIN: usize = 13;
const DIGITS_MAX: usize = 19;

#[derive(Debug)]
struct PaymentCard;

impl Detector for PaymentCard {
    fn defaults(&self) -> DetectorSettings {
        DetectorSettings { enabled: true, arguments: Treatment::Pass, answers: Treatment::Mask }
    }

    fn may_match(&self, raw: &Raw<'_>) -> bool {
        let bytes = raw.bytes();
        raw.is_disguised()
            || runs(bytes).any(|run| {
                // Hex digits of an escape would join the number; then only decoding tells them apart.
                let before = bytes.get(run.start.saturating_sub(6)..run.start).unwrap_or_default();
                let joined = raw.has_escapes() && before.windows(2).any(|pair| pair == b"\\u");
                // Layout escapes (`\n`) end in a letter, so letters around a number mean nothing here.
                joined || cards(bytes, run).next().is_some()
            })
    }

    fn find(&self, subject: &Subject<'_>, found: &mut Vec<Sighting>) {
        let text = subject.text;
        let bytes = text.as_bytes();
        for run in runs(bytes) {
            let mut done = run.start;
            for range in cards(bytes, run) {
                let letter =
                    |at: Option<&u8>| at.is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
                let before = range.start.checked_sub(1).and_then(|at| bytes.get(at));
                let alone = !letter(before) && !letter(bytes.get(range.end)) && !is_part(bytes, &range);
                if range.start >= done && alone {
                    done = range.end;
                    found.push(Sighting::visible(range, Severity::High));
                }
            }
        }
    }
}

/// `4111-0768-1193-8222-9` goes on: a part number, not a card.
fn is_part(bytes: &[u8], range: &Range<usize>) -> bool {
    let dashed = bytes.get(range.clone()).is_some_and(|number| number.contains(&b'-'));
    let joins = |dash: Option<usize>, digit: Option<usize>| {
        dash.and_then(|at| bytes.get(at)) == Some(&b'-')
            && digit.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit)
    };
    dashed
        && (joins(range.start.checked_sub(1), range.start.checked_sub(2))
            || joins(Some(range.end), range.end.checked_add(1)))
}

/// The longest stretches of digits with at most one separator between two of them, of 13 bytes or more. Only every
/// 13th byte is looked at until one lies in such a stretch.
fn runs(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = DIGITS_MIN - 1;
    let mut floor = 0;
    core::iter::from_fn(move || {
        while let Some(byte) = bytes.get(at) {
            let next = bytes.get(at + 1).copied().unwrap_or_default();
            let inside = byte.is_ascii_digit() || (is_separator(*byte) && next.is_ascii_digit());
            if !inside {
                at += DIGITS_MIN;
                continue;
            }
            let run = stretch(bytes, if byte.is_ascii_digit() { at } else { at + 1 }, floor);
            at = run.end + DIGITS_MIN - 1;
            floor = run.end;
            if run.len() >= DIGITS_MIN {
                return Some(run);
            }
        }
        None
    })
}

/// The stretch round the digit at `at`, not before `floor`.
fn stretch(bytes: &[u8], at: usize, floor: usize) -> Range<usize> {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
    let mut start = at;
    while start > floor {
        if byte(start - 1).is_ascii_digit() {
            start -= 1;
        } else if is_separator(byte(start - 1)) && start >= floor + 2 && byte(start - 2).is_ascii_digit() {
            start -= 2;
        } else {
            break;
        }
    }
    let mut end = at + 1;
    loop {
        if byte(end).is_ascii_digit() {
            end += 1;
        } else if is_separator(byte(end)) && byte(end + 1).is_ascii_digit() {
            end += 2;
        } else {
            return start..end;
        }
    }
}

const fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-')
}

/// The card numbers of a run: each begins and ends with a whole group of digits.
fn cards(bytes: &[u8], run: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let digits = bytes.get(run.clone()).unwrap_or_default();
    // The fraction of a number is no card number.
    let fraction = run.start.checked_sub(1).and_then(|at| bytes.get(at)) == Some(&b'.');
    let mut from = Some(0);
    core::iter::from_fn(move || {
        while let Some(start) = from {
            let rest = digits.get(start..).unwrap_or_default();
            from = memchr::memchr2(b' ', b'-', rest).map(|separator| start + separator + 1);
            // The first digit is that of the industry: 2 to 6 for what pays.
            let pays = rest.first().is_some_and(|digit| (b'2'..=b'6').contains(digit));
            if pays
                && !(fraction && start == 0)
                && let Some(length) = card(rest)
            {
                let start = run.start + start;
                return Some(start..start + length);
            }
        }
        None
    })
}

/// The length of the card number at the start of `text`.
fn card(text: &[u8]) -> Option<usize> {
    let mut number = [0_u8; DIGITS_MAX];
    let mut groups = [0_usize; 6];
    let (mut count, mut group, mut separator) = (0, 0, None);
    for (at, byte) in text.iter().enumerate() {
        if byte.is_ascii_digit() {
            *number.get_mut(count)? = byte - b'0';
            *groups.get_mut(group)? += 1;
            count += 1;
            let ends = text.get(at + 1).is_none_or(|next| !next.is_ascii_digit());
            let shape = groups.get(..=group).is_some_and(is_shape);
            if ends && shape && number.get(..count).is_some_and(is_card) {
                return Some(at + 1);
            }
        } else {
            if separator.is_some_and(|known| known != *byte) {
                return None;
            }
            separator = Some(*byte);
            group += 1;
        }
    }
    None
}

/// Undivided, in fours with a shorter rest, or 4-6-5 and 4-6-4.
fn is_shape(groups: &[usize]) -> bool {
    match groups {
        [_] | [4, 6, 4 | 5] => true,
        [fours @ .., last] => fours.iter().all(|group| *group == 4) && *last <= 4,
        [] => false,
    }
}

fn is_card(number: &[u8]) -> bool {
    let prefix = |digits: usize| {
        number.iter().take(digits).fold(0_u32, |prefix, digit| prefix * 10 + u32::from(*digit))
    };
    let lengths: &[usize] = match (prefix(1), prefix(2), prefix(3), prefix(4)) {
        (4, ..) => &[13, 16, 19],
        (_, 51..=55, ..) | (.., 2221..=2720) | (.., 3528..=3589) => &[16],
        (_, 34 | 37, ..) => &[15],
        (_, _, 300..=305, _) | (_, 36 | 38 | 39, ..) => &[14],
        (_, 62 | 65, ..) | (_, _, 644..=649, _) | (.., 6011) => &[16, 17, 18, 19],
        (.., 5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763) => &[13, 14, 15, 16, 17, 18, 19],
        _ => return false,
    };
    lengths.contains(&number.len()) && checks(number)
}

/// ISO/IEC 7812-1, annex B (Luhn).
fn checks(number: &[u8]) -> bool {
    let sum: u32 = number
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| match (index % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_numbers_of_every_issuer_as_cards_print_them() {
        for (text, expected) in [
            ("4111111111111111", "4111111111111111"),
            ("card 4111 1111 1111 1111, exp 12/27", "4111 1111 1111 1111"),
            ("12 4111-1111-1111-1111 34", "4111-1111-1111-1111"),
            ("3782 822463 10005", "3782 822463 10005"),
            ("378282246310005|5555555555554444", "378282246310005|5555555555554444"),
            ("2223003122003222", "2223003122003222"),
            ("6011000990139424", "6011000990139424"),
            ("30569309025904", "30569309025904"),
            ("3530111333300000", "3530111333300000"),
            ("4111111111111111 4111111111111111", "4111111111111111|4111111111111111"),
        ] {
            found("payment_card", text, expected);
        }
    }

    #[test]
    fn leaves_other_numbers() {
        for text in [
            "4111111111111112",
            "1763843820000",
            "0.4111111111111111",
            "x4111111111111111",
            "41111111111111110",
            "4111  1111 1111 1111",
            "4111-1111 1111-1111",
            "411-11111-1111-1111",
            "SKU 4111-1111-1111-1111-9",
            "7-4111-1111-1111-1111",
            "2024-11-22 20:18:00 1234567890123",
            "",
        ] {
            nothing("payment_card", text);
        }
    }
}
