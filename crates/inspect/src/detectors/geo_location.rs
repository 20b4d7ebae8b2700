//! Places on Earth as coordinates: degrees with three decimals or more that are called a latitude, a longitude or a
//! position. Cities and survey points have coordinates too; those of persons are called so.

use alloc::boxed::Box;

use portcullis_core::kind::Kind;

use super::Detector;
use crate::{
    Schemes,
    identifiers::{Form, Lead, Look, Scheme, Value},
};

pub(super) const KIND: Kind<Box<dyn Detector>> = Kind {
    name: "geo_location",
    doc: "Coordinates of persons and devices (called so).",
    build: |_| Ok(Box::new(Schemes(SCHEMES))),
};

const SCHEMES: &[Scheme] = &[Scheme {
    labels: &[
        "lat",
        "latitude",
        "lon",
        "lng",
        "long",
        "longitude",
        "gps",
        "geolocation",
        "geo_location",
        "geo",
        "location",
        "position",
        "breitengrad",
        "längengrad",
        "ubicación",
        "localisation",
    ],
    lead: Lead::Digit,
    form: Form::Called((1, 3), read),
}];

/// One number, or two with a comma.
fn read(look: &Look<'_>) -> Option<Value> {
    let (start, first, mut end) = degrees(look, look.word.start)?;
    let gap = look.run(end, 2, |byte| matches!(byte, b',' | b' '));
    let pair = look.byte(end) == b',' && (first <= 90);
    if pair
        && let Some((_, second, after)) = degrees(look, gap + usize::from(look.byte(gap) == b'-'))
        && second <= 180
    {
        end = after;
    }
    (first <= 180).then(|| look.whole(start..end)).flatten().and_then(Value::labelled)
}

/// Where a number of degrees begins with its sign, its whole part, and where it ends.
fn degrees(look: &Look<'_>, at: usize) -> Option<(usize, u32, usize)> {
    let dot = look.run(at, 4, |byte| byte.is_ascii_digit());
    let end = look.run(dot + 1, 16, |byte| byte.is_ascii_digit());
    let whole = look.bytes.get(at..dot).filter(|digits| (1..=3).contains(&digits.len()))?;
    let whole = whole.iter().fold(0, |whole, digit| whole * 10 + u32::from(digit - b'0'));
    let signed = look.before(at) == b'-' && !look.before(at - 1).is_ascii_alphanumeric();
    (look.byte(dot) == b'.' && end > dot + 3).then_some((at - usize::from(signed), whole, end))
}

#[cfg(test)]
mod tests {
    use crate::testing::{found, nothing};

    #[test]
    fn catches_coordinates_that_are_called_so() {
        for (text, expected) in [
            ("GPS: 52.5200, -13.4050", "52.5200, -13.4050"),
            ("{\"lat\": 40.741895, \"lng\": -73.989308}", "40.741895|-73.989308"),
        ] {
            found("geo_location", text, expected);
        }
    }

    #[test]
    fn leaves_other_numbers() {
        for text in ["Coordinates 52.5200, 13.4050", "lat 52.5", "gps 10.4.128.3", "latency: 212.5001"] {
            nothing("geo_location", text);
        }
    }
}
