//! Postal codes of five digits, and of nine as in the US: called so, or behind a comma and a state of the US.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "postal_code",
    doc: "Postal codes of five digits (called so, or behind a state of the US), ZIP+4 as well.",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &[
        "zip",
        "zip code",
        "zip_code",
        "zipcode",
        "postal code",
        "postal_code",
        "postalcode",
        "postcode",
        "postleitzahl",
        "code postal",
        "código postal",
    ],
    lead: Lead::Digit,
    form: Form::Word((5, 5), read),
}];

/// States, districts and territories of the US as the Postal Service writes them.
const STATES: &[&[u8; 2]] = &[
    b"AL", b"AK", b"AZ", b"AR", b"CA", b"CO", b"CT", b"DE", b"DC", b"FL", b"GA", b"HI", b"ID", b"IL", b"IN",
    b"IA", b"KS", b"KY", b"LA", b"ME", b"MD", b"MA", b"MI", b"MN", b"MS", b"MO", b"MT", b"NE", b"NV", b"NH",
    b"NJ", b"NM", b"NY", b"NC", b"ND", b"OH", b"OK", b"OR", b"PA", b"PR", b"RI", b"SC", b"SD", b"TN", b"TX",
    b"UT", b"VT", b"VA", b"VI", b"WA", b"WV", b"WI", b"WY",
];

fn read(look: &Look<'_>) -> Option<Value> {
    let start = look.word.start;
    if !look.text().iter().all(u8::is_ascii_digit) {
        return None;
    }
    let more = look.run(look.word.end + 1, 5, |byte| byte.is_ascii_digit());
    let nine = look.byte(look.word.end) == b'-' && more == look.word.end + 5;
    let range = look.whole(start..if nine { more } else { look.word.end })?;
    let alone = match look.bytes.get(start.saturating_sub(5)..start) {
        Some([b',', b' ', one, two, b' ']) => STATES.iter().any(|state| **state == [*one, *two]),
        _ => false,
    };
    Some(Value { range, alone })
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_codes_that_are_called_so_or_stand_behind_a_state() {
        for (text, expected) in [
            ("ZIP code 94110-1234.", "94110-1234"),
            ("{\"zip\": \"03601\"}", "03601"),
            ("12 Main St, Austin, TX 78701", "78701"),
            ("name,zip\nAnn,78701", "78701"),
        ] {
            found("postal_code", text, expected);
        }
    }

    #[test]
    fn leaves_other_numbers() {
        for text in ["order 94110", "a.zip 94110123", "port 8080, PR 12345", "OK 20000 rows", "zip 941"] {
            nothing("postal_code", text);
        }
    }
}
