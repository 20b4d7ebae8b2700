//! Names that look like others: letters that nobody tells from those of ASCII (UTS 39), or that nobody sees.

use unicode_security::confusable_detection::skeleton;

/// Whether a name that is not ASCII looks as if it were. A name in a script of its own does not.
pub(crate) fn imitates(name: &str) -> bool {
    !name.is_ascii() && skeleton(name).all(|c| c.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_one_of_ascii_is_told_from_names_in_other_languages() {
        for name in [
            "re\u{430}d_file",
            "\u{441}\u{43e}\u{440}\u{443}",
            "send\u{200b}",
            "\u{ff53}end",
            "\u{1d5cb}ead",
            "r\u{3bf}ot",
        ] {
            assert!(imitates(name), "{name}");
        }
        for name in [
            "read_file",
            "l1st",
            "caf\u{e9}",
            "\u{43f}\u{440}\u{438}\u{432}\u{435}\u{442}",
            "\u{691c}\u{7d22}",
            "gr\u{f6}\u{df}e",
            "\u{1f4c1}",
        ] {
            assert!(!imitates(name), "{name}");
        }
    }

    #[test]
    fn every_pair_of_the_unicode_table_is_seen_and_no_name_of_ascii() {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/unicode-tr39/confusables.txt");
        let table = std::fs::read_to_string(path).unwrap();
        let text = |codes: &str| -> Option<String> {
            codes
                .split_whitespace()
                .map(|code| u32::from_str_radix(code, 16).ok().and_then(char::from_u32))
                .collect()
        };
        let (mut pairs, mut missed) = (0, Vec::new());
        for line in table.lines().filter(|line| !line.starts_with(['#', '\u{feff}']) && line.contains(';')) {
            let mut fields = line.split(';');
            let (Some(source), Some(target)) = (fields.next().and_then(text), fields.next().and_then(text))
            else {
                continue;
            };
            if source.is_ascii() {
                assert!(!imitates(&format!("get_{source}_x")), "{source}");
            } else if target.is_ascii() {
                pairs += 1;
                if !imitates(&format!("get_{source}_x")) {
                    missed.push(source);
                }
            }
        }
        assert!(pairs > 1_000, "{pairs}");
        // Six are taken apart before the table is asked, or are newer than the table of the library.
        assert!(missed.len() <= 6, "{missed:?} of {pairs}");
    }
}
