//! Whether a piece of text was drawn by chance or written by people: what tells keys from words, names and examples.

/// The commonest pairs of letters, two by two. Of the pairs in words nine of ten are here; of pairs drawn by chance, three.
const PAIRS: &str = "\
    abacadagaialamanaparasatauavaybabeblbobycacccechcickclcocrctcudadddedidodreaecedeeefelemeneperesetev\
    ewexfafefifofrfugegigrhahehihoiaicidieifigiliminioipirisitivkelaldlelilllolsltlulymambmemimmmompmuna\
    ncndnenfngninonsntnuocodofogokolomonoooporosotouovowpapepiplpoppprptqurarcrdrerirkrmrnrorrrsrtrurysa\
    scseshsisospssstsusytatethtitotrtstttutyucudueulumunupurusutvaveviwewhwiwoyoypys";

/// Of 1,000 pairs of adjacent letters, how many are common in words. None where there are too few.
fn common_pairs(text: &[u8]) -> Option<usize> {
    let pairs = || {
        text.windows(2).filter_map(|pair| match pair {
            [one, other] if one.is_ascii_alphabetic() && other.is_ascii_alphabetic() => {
                Some([one.to_ascii_lowercase(), other.to_ascii_lowercase()])
            }
            _ => None,
        })
    };
    let known = |pair: &[u8; 2]| PAIRS.as_bytes().chunks_exact(2).any(|known| known == pair);
    let count = pairs().count();
    (count >= 6).then(|| pairs().filter(known).count() * 1_000 / count)
}

/// Shannon entropy of the bytes, in thousandths of a bit.
fn entropy(text: &[u8]) -> u32 {
    let mut counts = [0_u32; 256];
    for byte in text {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let total = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let bits = counts.iter().map(|count| u64::from(count * log2(*count))).sum::<u64>();
    log2(total).saturating_sub(u32::try_from(bits / u64::from(total.max(1))).unwrap_or(u32::MAX))
}

/// The binary logarithm in thousandths, exact enough for a comparison: no floating point without the standard library.
fn log2(number: u32) -> u32 {
    let Some(whole) = number.checked_ilog2() else { return 0 };
    let fraction = ((u64::from(number) << 10) >> whole) - 1_024;
    // The chord of each octave, bent up by a parabola.
    let bend = fraction * (1_024 - fraction) * 344 / (1_024 * 1_024);
    whole * 1_000 + u32::try_from((fraction + bend) * 1_000 / 1_024).unwrap_or_default()
}

/// What a text is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made {
    /// Small letters.
    pub lower: usize,
    /// Capital letters.
    pub upper: usize,
    /// Digits.
    pub digits: usize,
    /// Everything else.
    pub other: usize,
    /// Places where a letter follows a digit or the other way round.
    pub changes: usize,
    /// Places where the next byte follows in the alphabet or repeats: `abc`, `123`, `xxx`.
    pub steps: usize,
}

impl Made {
    /// What this one is.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        let mut made = Self::default();
        let mut last = 0_u8;
        for byte in text {
            match byte {
                b'a'..=b'z' => made.lower += 1,
                b'A'..=b'Z' => made.upper += 1,
                b'0'..=b'9' => made.digits += 1,
                _ => made.other += 1,
            }
            made.changes += usize::from(
                (last.is_ascii_digit() && byte.is_ascii_alphabetic())
                    || (last.is_ascii_alphabetic() && byte.is_ascii_digit()),
            );
            made.steps +=
                usize::from(byte.is_ascii_alphanumeric() && (*byte == last || *byte == last.wrapping_add(1)));
            last = *byte;
        }
        made
    }
}

/// Whether a text of letters, digits and few signs looks drawn by chance.
pub fn is_random(text: &[u8]) -> bool {
    let made = Made::of(text);
    let letters = made.lower + made.upper;
    if text.len() < 8 || made.steps * 3 > text.len() || made.other * 3 > text.len() {
        return false;
    }
    let pairs = common_pairs(text);
    // Few letters between digits are no words, whatever they are.
    let worded = made.digits * 4 < letters && pairs.is_some_and(|share| share > 700);
    if text.len() < 16 {
        return made.digits >= 1 && letters >= 3 && made.changes >= 2 && !worded && entropy(text) > 2_300;
    }
    match (made.digits, letters) {
        (_, 0) => made.changes == 0 && made.other == 0 && entropy(text) > 2_200,
        (0, _) => {
            let mixed = made.lower >= 3 && made.upper >= 3;
            pairs.is_some_and(|share| share < if mixed { 600 } else { 560 }) && entropy(text) > 3_000
        }
        _ => {
            // A name with a number in it has one or two changes; hex and base 62 have many.
            let dense = made.changes * 8 >= letters + made.digits || made.changes >= 6;
            dense && !worded && entropy(text) > 2_700
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_words_names_and_examples() {
        for text in [
            "f9uk64km7i1br3ooerxdqsqh26l71vm3",
            "c89c524b719303620ab46a7b4430d8cb",
            "AvmKOBMNpMuBg54CGPvdVouGeWUH1yZSNibNTUr0",
            "lou5ye8l28eu15msc",
            "cym6pfm74f99iyb8",
            "iygkoi1fgpldfnqmyyt6mwkmfc",
            "TjBXwzxXVecvfBhMnTqBkYHucbMmfQkMoR",
            "4867229965991441",
        ] {
            assert!(is_random(text.as_bytes()), "{text}");
        }
        for text in [
            "os.environ.get",
            "get_access_token_from_request_v2",
            "xxxxxxxxxxxxxxxxxxxxxxxxx",
            "abcdefghijklmnop12345678",
            "1234567890123456",
            "SalesResults-1.2",
            "your-api-key-goes-here-2024",
            "AccessTokenCredential",
            "my_password_for_testing",
            "",
        ] {
            assert!(!is_random(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn logarithms_are_right_to_a_hundredth() {
        for (number, expected) in [(1, 0), (2, 1_000), (3, 1_585), (8, 3_000), (10, 3_322), (1_000, 9_966)] {
            assert!(log2(number).abs_diff(expected) <= 10, "{number}: {}", log2(number));
        }
    }
}
