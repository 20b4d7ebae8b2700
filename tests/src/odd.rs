//! JSON that is right and looks wrong to whoever re-encodes it: number text, escapes, spaces, members nobody knows.

use crate::chance::Chance;

/// Members for any object. Every one of them is lost or changed by a reader that re-encodes what it read.
pub const MEMBERS: &str = r#""zz":1.0,"a":[1e2,1E+2,-0,-0.0,0.10,1e-7,123456789012345678901234567890123,[ ],{ }],"":"",
  "esc":"\u00e9\/\u0041\ud83d\ude00 é 😀 \n\t \u2028","b" : {"z":null,"Z":true , "x":false},"1":"1","c":{"":{"":[[]]}}"#;

/// The same on one line, without the number that a definition may not hold: what is pinned has a canonical form, and
/// that knows no such integer.
#[must_use]
pub fn in_definitions() -> String {
    MEMBERS.replace('\n', " ").replace("123456789012345678901234567890123", "9007199254740991")
}

const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "-0.0",
    "1.0",
    "1.10",
    "1e2",
    "1E2",
    "1e+2",
    "1E-02",
    "0e0",
    "0.1",
    "9007199254740993",
    "-9223372036854775809",
    "1.7976931348623157e308",
    "123456789012345678901234567890123456789012345678901234567890",
    "0.30000000000000004",
    "5e-324",
];

const PIECES: &[&str] = &[
    "a",
    "B",
    " ",
    "é",
    "e\u{301}",
    "\\u0041",
    "\\u00e9",
    "\\u00E9",
    "\\/",
    "/",
    "\\\\",
    "\\\"",
    "\\n",
    "\\t",
    "😀",
    "\\ud83d\\ude00",
    "\\uD83D\\uDE00",
    "\u{2028}",
    "漢",
    "$",
    "<",
    "&",
    "\\r\\n",
];

const SPACES: &[&str] = &["", "", "", "", " ", "  ", "\t", "\n", "\r\n", " \n "];

fn pick<'a>(chance: &mut Chance, from: &[&'a str]) -> &'a str {
    let at = chance.below(from.len() as u64) as usize;
    from.get(at).copied().unwrap_or_default()
}

/// A string with its quotes.
fn string(chance: &mut Chance) -> String {
    let count = chance.below(6);
    let text: String = (0..count).map(|_| pick(chance, PIECES)).collect();
    format!("\"{text}\"")
}

/// A random value, nested no deeper than `depth`.
pub fn value(chance: &mut Chance, depth: u64) -> String {
    match chance.below(if depth == 0 { 4 } else { 7 }) {
        0 => pick(chance, &["null", "true", "false"]).to_owned(),
        1 | 2 => pick(chance, NUMBERS).to_owned(),
        3 => string(chance),
        4 => {
            let count = chance.below(4);
            let items: Vec<String> = (0..count).map(|_| spaced(chance, depth)).collect();
            format!("[{}{}]", items.join(","), if items.is_empty() { pick(chance, SPACES) } else { "" })
        }
        _ => object(chance, depth),
    }
}

/// A random object.
pub fn object(chance: &mut Chance, depth: u64) -> String {
    let members = members(chance, depth);
    format!("{{{members}{}}}", pick(chance, SPACES))
}

/// The members of a random object, without its braces. Names differ in more than case, in random order.
pub fn members(chance: &mut Chance, depth: u64) -> String {
    let count = chance.below(5);
    let from = chance.below(1_000);
    let members: Vec<String> = (0..count)
        .map(|number| {
            let (tail, before) = (pick(chance, PIECES), pick(chance, SPACES));
            // The number keeps names apart, whatever follows it.
            let name = (from + number * 7) % 1_000;
            format!("{before}\"{name}{tail}\"{}:{}", pick(chance, SPACES), spaced(chance, depth))
        })
        .collect();
    members.join(",")
}

fn spaced(chance: &mut Chance, depth: u64) -> String {
    let (before, after) = (pick(chance, SPACES), pick(chance, SPACES));
    format!("{before}{}{after}", value(chance, depth.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_chance_makes_is_json_and_survives_no_reencoding() {
        let mut chance = Chance::named("ODD_SEED");
        let mut changed = 0;
        for _ in 0..2_000 {
            let text = object(&mut chance, 4);
            let members: Result<std::collections::BTreeMap<String, &serde_json::value::RawValue>, _> =
                serde_json::from_str(&text);
            let members = members.unwrap();
            let again = serde_json::to_string(&members).unwrap();
            changed += usize::from(again != text);
        }
        assert!(changed > 1_000, "{changed}");
    }
}
