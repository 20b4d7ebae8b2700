//! Postal addresses as posts of many countries write them: a number and a street, a street and a number, boxes, what is
//! called an address, and what ends in a British postcode.

use alloc::vec::Vec;
use core::ops::Range;

use crate::{
    Found, has,
    label::{self, Way},
    word::fold,
};

/// A street with its number.
const STREET: u16 = 850;
/// What is called an address.
const CALLED: u16 = 900;

/// Words of a street that stand before its number, at most.
const STREET_WORDS_MAX: usize = 7;
/// Bytes of an address at most.
const BYTES_MAX: usize = 160;

/// What streets are called in English, and their abbreviations by the US Postal Service.
const TYPES: &str = "\
    alley|aly|ave|avenue|blvd|boulevard|circle|cir|close|court|crescent|cres|ct|dr|drive|expressway|expy|\
    freeway|highway|hwy|lane|ln|mews|parkway|pike|pkwy|pl|place|plaza|rd|road|route|sq|square|st|street|\
    terrace|terr|ter|trail|trl|turnpike";

/// More of these, which are words for other things as well.
const RARE: &str = "\
    avenues|bend|bluff|bluffs|bottom|branch|bridge|brook|brooks|burg|burgs|bypass|camp|canyon|cape|causeway|\
    center|centers|circles|cliff|cliffs|club|common|commons|corner|corners|course|courts|cove|coves|creek|\
    crest|crossing|crossroad|curve|dale|dam|divide|drives|estate|estates|extension|extensions|fall|falls|\
    ferry|field|fields|flat|flats|ford|fords|forest|forge|forges|fork|forks|fort|garden|gardens|gateway|\
    glen|glens|green|greens|grove|groves|harbor|harbors|haven|heights|hill|hills|hollow|inlet|island|\
    islands|isle|junction|junctions|key|keys|knoll|knolls|lake|lakes|land|landing|light|lights|loaf|lock|\
    locks|lodge|loop|mall|manor|manors|meadow|meadows|mill|mills|mission|motorway|mount|mountain|mountains|\
    neck|orchard|oval|overpass|park|parks|parkways|pass|passage|path|pine|pines|plain|plains|plazas|point|\
    points|port|ports|prairie|radial|ramp|ranch|rapid|rapids|rest|ridge|ridges|river|roads|row|rue|run|\
    shoal|shoals|shore|shores|skyway|spring|springs|spur|spurs|squares|station|stravenue|stream|streets|\
    summit|throughway|trace|track|trafficway|tunnel|underpass|union|unions|valley|valleys|via|viaduct|view|\
    views|village|villages|ville|vista|walk|walks|wall|way|ways|well|wells";

/// Parts of houses.
const UNITS: &str = "apt|apartment|suite|ste|unit|flat|floor|fl|room|rm|bldg|studio|#";

/// What streets begin with in French, Spanish, Italian, Portuguese, Polish. Those of the second list also begin other things.
const BEGINS: &str = "\
    calle|avenida|avda|paseo|carrera|calzada|viale|piazza|piazzale|corso|vicolo|rua|travessa|praca|ulica|ul|\
    aleja|rue|impasse|allee|chemin|quai|boulevard";
const BEGINS_RARE: &str = "via|plaza|largo|place|route|avenue|cours|alameda|av|bd";

/// What streets end in, as a part of their word.
const ENDS: &str = "strasse|straße|gasse|allee|chaussee|straat|gracht|laan|gatan|vägen|gade|veien|katu";
const ENDS_RARE: &str = "str|weg|platz|damm|ufer|ring|plein|kade|singel|dijk|vej";

/// What boxes are called.
const BOXES: &str = "\
    p.o. box|po box|p o box|post office box|postfach|apartado|apartado de correos|casilla|postbus|\
    boite postale|boîte postale|caixa postal|casella postale|gpo box|locked bag|private bag";

/// What addresses are called.
const LABELS: &str = "\
    address|addr|street|street address|street_address|streetaddress|address line|addressline|address1|\
    address_line1|address2|address_line2|line1|residence|residing at|lives at|resides at|anschrift|adresse|\
    wohnhaft|strasse|straße|direccion|dirección|domicilio|indirizzo|residenza|endereco|endereço|morada|\
    adres|adress|osoite|domicile";

/// What an address is called that is none of a house.
const NO_HOUSE: &str = "email|e-mail|mail|ip|mac|wallet|web|url|memory|host|server|bitcoin";

/// The postal addresses in a text that stands under that name of a member.
#[must_use]
pub fn addresses(key: &str, text: &str) -> Vec<Found> {
    let bytes = text.as_bytes();
    let mut found: Vec<Found> = Vec::new();
    // All of them have a number.
    if !bytes.iter().any(u8::is_ascii_digit) {
        return found;
    }
    let mut at = 0;
    // Where a value begins of which it was asked what it is called.
    let mut asked = usize::MAX;
    while let Some(digit) = bytes.get(at..).and_then(|rest| rest.iter().position(u8::is_ascii_digit)) {
        let start = at + digit;
        let end = start + run(bytes.get(start..).unwrap_or_default(), |byte| byte.is_ascii_digit());
        at = end;
        let one = near((key, text), start..end).or_else(|| called((key, text), start, &mut asked));
        let Some(one) = one.filter(|one| text.get(one.range.clone()).is_some()) else { continue };
        at = at.max(one.range.end);
        match found.last_mut().filter(|last| one.range.start <= last.range.end) {
            Some(last) => {
                last.range = last.range.start.min(one.range.start)..last.range.end.max(one.range.end);
                last.confidence = last.confidence.max(one.confidence);
            }
            None => found.push(one),
        }
    }
    found
}

/// What words beside a number make an address of it.
fn near(text: (&str, &str), digits: Range<usize>) -> Option<Found> {
    let bytes = text.1.as_bytes();
    let gap = |byte: &&u8| matches!(byte, b' ' | b',' | b'\n' | b'.' | b'#');
    let rest = bytes.get(digits.end..)?;
    let next = rest.iter().take(4).position(|byte| !gap(&byte)).unwrap_or_default();
    let behind = rest.get(next);
    let before = bytes.get(..digits.start)?.iter().rev().take(4).find(|byte| !gap(byte));
    let worded = |byte: &u8| byte.is_ascii_alphabetic() || *byte >= 128;
    // `12 5th Avenue`, `12-14 Main Street`
    let ordinal = || rest.iter().skip(next).take(5).any(u8::is_ascii_alphabetic);
    let forth = behind.is_some_and(|byte| {
        worded(byte) || matches!(byte, b'-' | b'/') || (byte.is_ascii_digit() && next > 0 && ordinal())
    });
    let one = if forth { before_street(text, digits.clone()) } else { None };
    let back = before.is_some_and(worded);
    one.or_else(|| if back { behind_street(text, digits.clone()) } else { None })
        .or_else(|| if back { boxed(text, digits.clone()) } else { None })
        .or_else(|| if forth { postcode(text, digits) } else { None })
}

fn run(bytes: &[u8], fits: impl Fn(&u8) -> bool) -> usize {
    bytes.iter().take(BYTES_MAX).take_while(|byte| fits(byte)).count()
}

/// The words of a text from there on, with what ends them: a blank, a comma, a line.
fn words(text: &str, start: usize) -> impl Iterator<Item = Range<usize>> + '_ {
    let near = start..text.floor_char_boundary(start + BYTES_MAX);
    let line = text.get(near).unwrap_or_default();
    line.split(' ').scan(start, |at, word| {
        let range = *at..*at + word.len();
        *at += word.len() + 1;
        Some(range)
    })
}

/// A word without a comma or full stop at its end.
fn bare(word: &str) -> &str {
    word.trim_end_matches(['.', ',', ';', ')', '"', '\\'])
}

fn is_capital(word: &str) -> bool {
    word.starts_with(char::is_uppercase) && !word.contains(['(', '=', '{', '/', '_', ':'])
}

/// A part of a number of a house: `12`, `12a`, `12-14`, `12/3`.
fn house(text: &str, digits: &Range<usize>) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let before = text.get(..digits.start)?;
    if digits.len() > 6
        || before.ends_with(|c: char| {
            c.is_alphanumeric() || matches!(c, '.' | '-' | '/' | '_' | '$' | ':' | '+' | '@')
        })
    {
        return None;
    }
    let rest = bytes.get(digits.end..)?;
    let length = match rest {
        [b'-' | b'/', next, ..] if next.is_ascii_digit() => 1 + run(rest.get(1..)?, u8::is_ascii_digit),
        [letter, next, ..] if letter.is_ascii_alphabetic() && !next.is_ascii_alphanumeric() => 1,
        [letter] if letter.is_ascii_alphabetic() => 1,
        _ => 0,
    };
    Some(digits.start..digits.end + length)
}

/// `12 Main Street`, `887 Justin Islands Apt. 975`, `12 bis rue de la Paix`.
fn before_street((key, text): (&str, &str), digits: Range<usize>) -> Option<Found> {
    let number = house(text, &digits)?;
    let rest = text.get(number.end..)?;
    let gap = if rest.starts_with(", ") { 2 } else { usize::from(rest.starts_with(' ')) };
    if gap == 0 {
        return None;
    }
    let again =
        text.get(number.end + gap..).is_some_and(|rest| rest.starts_with("bis ") || rest.starts_with("ter "));
    for (seen, word) in words(text, number.end + gap).take(6).enumerate() {
        let whole = text.get(word.clone())?;
        let first = whole.split('\n').next().unwrap_or_default();
        let folded = fold(bare(first));
        let end = word.start
            + bare(first).len()
            + usize::from(
                first.len() > bare(first).len() && first.get(bare(first).len()..)?.starts_with('.'),
            );
        let begins = || has(BEGINS, &folded);
        let rarely = || !first.starts_with(char::is_uppercase) && has(BEGINS_RARE, &folded);
        if seen <= usize::from(again) && (begins() || rarely()) {
            return named_street(text, word.end)
                .map(|end| with_place((key, text), number.start..end, STREET));
        }
        if seen > 0 && is_capital(first) {
            if has(TYPES, &folded) {
                return Some(with_place((key, text), number.start..end, STREET));
            }
            if has(RARE, &folded) {
                let one = with_place((key, text), number.start..end, STREET);
                let placed = one.range.end > end + 1 || is_called((key, text), number.start);
                if placed {
                    return Some(one);
                }
            }
        }
        let ordinal =
            first.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) && first.len() > 2 && seen == 0;
        if whole.contains('\n')
            || bare(first).len() < first.trim_end_matches('.').len()
            || !(is_capital(first) || ordinal || (again && seen == 0))
        {
            return None;
        }
    }
    None
}

/// The end of the name of a street that began with what it is: words with capital letters and particles.
fn named_street(text: &str, from: usize) -> Option<usize> {
    let mut end = None;
    for word in words(text, from + 1).take(5) {
        let whole = text.get(word.clone())?;
        let first = whole.split(['\n', ',']).next().unwrap_or_default();
        let particle = matches!(
            first,
            "de" | "du"
                | "des"
                | "la"
                | "le"
                | "les"
                | "del"
                | "della"
                | "di"
                | "da"
                | "dos"
                | "do"
                | "l'"
                | "das"
                | "y"
                | "e"
        );
        if !(particle || is_capital(first) || first.starts_with("d'") || first.starts_with("l'")) {
            break;
        }
        if !particle {
            end = Some(word.start + bare(first).len());
        }
        if first.len() < whole.len() {
            break;
        }
    }
    end
}

/// `Hauptstraße 5a`, `Calle de Alcalá 45`, `ul. Długa 5`.
fn behind_street((key, text): (&str, &str), digits: Range<usize>) -> Option<Found> {
    let number = house(text, &digits)?;
    if digits.len() > 4 && is_code(text.get(digits.start..)?) {
        return None;
    }
    let before = text.get(text.ceil_char_boundary(digits.start.saturating_sub(64))..digits.start)?;
    let street = before.trim_end_matches(' ');
    let street = ["nº", "n.º", "n°", "no.", "n.", "nr.", "#"]
        .iter()
        .fold(street, |street, sign| street.strip_suffix(sign).map_or(street, str::trim_end));
    let street = street.trim_end_matches([',', ' ']);
    let line = street.rsplit(['\n', ';', '"', ':', '(', '|']).next().unwrap_or_default();
    let last = line.rsplit(' ').next().unwrap_or_default();
    let base = digits.start - before.len() + street.len();
    let sure = |range: Range<usize>, rare: bool| {
        let one = with_place((key, text), range.start..number.end, STREET);
        let code =
            text.get(number.end..).is_some_and(|rest| is_code(rest.trim_start_matches([',', ' ', '\n'])));
        (!rare || code || is_called((key, text), range.start)).then_some(one)
    };
    let plain = last.trim_end_matches('.').to_lowercase();
    let ends = |all: &str| all.split('|').any(|end| plain.ends_with(end) && plain.len() >= end.len());
    let own = |start: usize| {
        // `Prager Straße`: the word before belongs to it.
        let alone = has(ENDS, &plain) || has(ENDS_RARE, &plain);
        let earlier = line.strip_suffix(last)?.trim_end().rsplit(' ').next().filter(|word| is_capital(word));
        if alone { earlier.map(|word| start - 1 - word.len()) } else { Some(start) }
    };
    if is_capital(last) && (ends(ENDS) || ends(ENDS_RARE)) {
        let start = own(base - last.len())?;
        return sure(start..number.end, !ends(ENDS));
    }
    let words = line.split(' ').count();
    let far = words.saturating_sub(STREET_WORDS_MAX);
    let skipped: usize = line.split(' ').take(far).map(|word| word.len() + 1).sum();
    let mut at = base - line.len() + skipped;
    for word in line.split(' ').skip(far) {
        let fits = bare(word).len() > 1 && (is_capital(word) || matches!(bare(word), "ul" | "rue"));
        let folded = if fits { fold(bare(word)) } else { Default::default() };
        let (begins, rarely) = (fits && has(BEGINS, &folded), fits && has(BEGINS_RARE, &folded));
        if (begins || rarely) && at + word.len() < base {
            let end = named_street(text, at + word.len())?;
            return if end + 1 >= base { sure(at..number.end, rarely) } else { None };
        }
        at += word.len() + 1;
    }
    None
}

/// Whether a text begins with a postal code and a place: `10115 Berlin`, `1012 AB Amsterdam`, `75001 Paris`.
fn is_code(text: &str) -> bool {
    let digits = run(text.as_bytes(), |byte| byte.is_ascii_digit() || *byte == b'-');
    let place = text.get(digits..).unwrap_or_default();
    (4..=9).contains(&digits)
        && place.strip_prefix(' ').is_some_and(|place| place.starts_with(char::is_uppercase))
}

/// `P.O. Box 123`
fn boxed((_, text): (&str, &str), digits: Range<usize>) -> Option<Found> {
    let before = text.get(text.ceil_char_boundary(digits.start.saturating_sub(32))..digits.start)?;
    let name = before.trim_end_matches([' ', '#', ':', '.']);
    let gap = before.len() - name.len();
    let name = name.to_lowercase();
    let fits =
        |one: &&str| name.strip_suffix(*one).is_some_and(|rest| !rest.ends_with(char::is_alphanumeric));
    let one = BOXES.split('|').filter(fits).max_by_key(|one| one.len())?;
    (gap > 0 && digits.len() <= 8)
        .then(|| Found { range: digits.start - gap - one.len()..digits.end, confidence: CALLED })
}

/// Bytes of an address before its first number at most.
const VALUE_BYTES_MAX: usize = 52;

/// What is called an address, to the end of its line or value.
fn called((key, text): (&str, &str), digit: usize, asked: &mut usize) -> Option<Found> {
    let least = text.ceil_char_boundary(digit.saturating_sub(VALUE_BYTES_MAX));
    let near = text.get(least..digit)?;
    let from = match near.rfind(['\n', '"', ':', ';', '=', '|', '\t', '>']) {
        Some(at) => at + 1,
        None if least == 0 => 0,
        None => return None,
    };
    let value = near.get(from..)?;
    let start = least + from + value.len() - value.trim_start().len();
    // Of a value with many numbers it is asked once.
    if core::mem::replace(asked, start) == start || !is_called((key, text), start) {
        return None;
    }
    let rest = text.get(start..text.floor_char_boundary(start + BYTES_MAX))?;
    let end = rest.find(['\n', '"', ';', '|', '\t', '<', '\\']).unwrap_or(rest.len());
    let value = rest.get(..end)?.trim_end_matches([' ', '.', ',']);
    let words =
        value.split_whitespace().filter(|word| word.starts_with(char::is_alphabetic) && word.len() > 1);
    let plain = !value.contains('@') && !value.contains("://") && !value.contains(['{', '(']);
    let named = words.clone().any(|word| word.starts_with(char::is_uppercase));
    (plain && named && words.count() >= 2)
        .then(|| Found { range: start..start + value.len(), confidence: CALLED })
}

/// Whether what begins there is called an address of a house.
fn is_called((key, text): (&str, &str), start: usize) -> bool {
    let Some((label, way)) = label::before(LABELS, (key, text), start) else { return false };
    let from = text.ceil_char_boundary(start.saturating_sub(40));
    let before = text.get(from..start).unwrap_or_default();
    let near = fold(before);
    let near = near.rsplit(['\n', ',', ';']).next().unwrap_or_default();
    let named = if from == 0 && before.trim().is_empty() { fold(key) } else { near.into() };
    let other = NO_HOUSE.split('|').any(|word| named.contains(word));
    !other && (way == Way::Named || label.contains(" at") || label == "wohnhaft")
}

/// With the unit, the place and a British postcode that follow. A state and its code are left to those who read them.
fn with_place((_, text): (&str, &str), street: Range<usize>, confidence: u16) -> Found {
    let mut end = street.end;
    let after = |at: usize| text.get(at..text.floor_char_boundary(at + BYTES_MAX)).unwrap_or_default();
    let bare = |rest: &str| rest.len() - rest.trim_start_matches([',', ' ', '\n']).len();
    // `Apt. 975`, `#12`
    let rest = after(end);
    let word = rest.get(bare(rest)..).unwrap_or_default();
    let unit = word.split([' ', '.', '#', '\n']).next().unwrap_or_default();
    if bare(rest) > 0 && (word.starts_with('#') || has(UNITS, &unit.to_lowercase())) {
        let own =
            unit.len() + usize::from(word.get(unit.len()..).is_some_and(|rest| rest.starts_with(['.', '#'])));
        let value = word.get(own..).unwrap_or_default();
        let blank = value.len() - value.trim_start().len();
        let value = run(value.trim_start().as_bytes(), |byte| byte.is_ascii_alphanumeric() || *byte == b'-');
        end += if value > 0 { bare(rest) + own + blank + value } else { 0 };
    }
    // `, Austin, TX 78701`, `\nColemouth\nCM1 3QE`, `, 10115 Berlin`
    let rest = after(end);
    let gap = bare(rest);
    let place = rest.get(gap..).unwrap_or_default();
    let digits = run(place.as_bytes(), u8::is_ascii_digit);
    let city = if is_code(place) { digits + 1 } else { 0 };
    let named = place.get(city..).unwrap_or_default();
    let length = named.find([',', '\n', '"', '.', ';', '\\', '|', '<']).unwrap_or(named.len());
    let name = named.get(..length).unwrap_or_default();
    let parted = rest.get(..gap).is_some_and(|gap| gap.contains([',', '\n']));
    let capital = !name.is_empty()
        && name.split(' ').all(|word| {
            is_capital(word) || matches!(word, "am" | "an" | "der" | "upon" | "on" | "la" | "de")
        });
    let behind = named.get(length..).unwrap_or_default().trim_start_matches([',', ' ', '\n']);
    let state = matches!(behind.as_bytes(), [one, two, b' ', digit, ..] if one.is_ascii_uppercase() && two.is_ascii_uppercase() && digit.is_ascii_digit());
    if parted && capital && (city > 0 || state) {
        end += gap + city + length;
    } else if parted && capital && british(behind) > 0 {
        end += gap + length + (named.len() - length - behind.len()) + british(behind);
    }
    Found { range: street.start..end, confidence }
}

/// The bytes of a British postcode at the beginning of a text: `CM1 3QE`.
fn british(text: &str) -> usize {
    let bytes = text.as_bytes();
    let letters = run(bytes, u8::is_ascii_uppercase);
    let digits = run(bytes.get(letters..).unwrap_or_default(), u8::is_ascii_digit);
    let more = usize::from(bytes.get(letters + digits).is_some_and(u8::is_ascii_uppercase));
    let head = letters + digits + more;
    let tail = bytes.get(head..head + 4).unwrap_or_default();
    let fits = matches!(tail, [b' ', digit, one, two] if digit.is_ascii_digit() && one.is_ascii_uppercase() && two.is_ascii_uppercase());
    let ends = !bytes.get(head + 4).is_some_and(u8::is_ascii_alphanumeric);
    if (1..=2).contains(&letters) && (1..=2).contains(&digits) && fits && ends { head + 4 } else { 0 }
}

/// `Flat 9\nGerard Canyon\nSouth Alexander\nCO53 1WJ`: lines that begin with a number of a house and end in a postcode.
fn postcode((_, text): (&str, &str), digits: Range<usize>) -> Option<Found> {
    let number = house(text, &digits)?;
    let rest = text.get(number.end..text.floor_char_boundary(number.end + BYTES_MAX))?;
    let least = text.ceil_char_boundary(number.start.saturating_sub(16));
    let unit = text.get(least..number.start)?.trim_end();
    let last = unit.rsplit([' ', '\n', ',']).next().unwrap_or_default();
    let in_house = has(UNITS, &last.to_lowercase()) && least + unit.len() + 1 == number.start;
    let start = if in_house { least + unit.len() - last.len() } else { number.start };
    let mut at = 0;
    for (index, line) in rest.split(['\n', ',']).enumerate().take(6) {
        let words = line.trim();
        let code = british(words);
        if index > 0 && code > 0 {
            let end = number.end + at + (line.len() - line.trim_start().len()) + code;
            return Some(Found { range: start..end, confidence: STREET });
        }
        let named = words.split(' ').all(|word| is_capital(word) || word.is_empty());
        if !named || words.contains(['.', '?', '!']) || (index == 0 && words.is_empty() && !in_house) {
            return None;
        }
        at += line.len() + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{string::String, vec::Vec};

    use super::*;

    fn seen(key: &str, text: &str) -> String {
        let texts: Vec<&str> =
            addresses(key, text).into_iter().map(|one| text.get(one.range).unwrap()).collect();
        texts.join("|")
    }

    #[test]
    fn addresses_are_found_as_posts_of_many_countries_write_them() {
        for (key, text, expected) in [
            ("", "He lives at 12 Main Street, Austin, TX 78701.", "12 Main Street, Austin"),
            ("", "ship to 1600 Pennsylvania Ave NW", "1600 Pennsylvania Ave"),
            ("", "221B Baker St., London", "221B Baker St."),
            ("", "887 Justin Islands Apt. 975", "887 Justin Islands Apt. 975"),
            (
                "",
                "Flat 9\nGerard Canyon\nSouth Alexander\nCO53 1WJ",
                "Flat 9\nGerard Canyon\nSouth Alexander\nCO53 1WJ",
            ),
            ("", "wohnt in der Hauptstraße 5a, 10115 Berlin.", "Hauptstraße 5a, 10115 Berlin"),
            ("", "Prager Straße 12", "Prager Straße 12"),
            ("", "Lindenweg 3, 50667 Köln", "Lindenweg 3, 50667 Köln"),
            ("", "12 bis rue de la Paix, 75002 Paris", "12 bis rue de la Paix, 75002 Paris"),
            ("", "vive en la Calle de Alcalá 45", "Calle de Alcalá 45"),
            ("", "Via Roma 12, 20121 Milano", "Via Roma 12, 20121 Milano"),
            ("", "Rua Augusta, nº 1500", "Rua Augusta, nº 1500"),
            ("", "ul. Długa 5", "ul. Długa 5"),
            ("", "Keizersgracht 174", "Keizersgracht 174"),
            ("", "write to P.O. Box 4412 or Postfach 10 01 12", "P.O. Box 4412|Postfach 10"),
            ("", "{\"billing_address\": \"Old Mill House 3, Upper Lane\"}", "Old Mill House 3, Upper Lane"),
            ("address", "4 The Glebe Cottages", "4 The Glebe Cottages"),
        ] {
            assert_eq!(seen(key, text), expected, "{text}");
        }
    }

    #[test]
    fn other_numbers_and_addresses_are_left() {
        for (key, text) in [
            ("", "Version 12 Street art in 2024, 3 Roads lead to Rome"),
            ("", "12 Angry Men; 7 Union members; 2 Park benches"),
            ("", "IP address: 10.4.12.3, email address: ann12@example.com"),
            ("ip_address", "10.0.0.12 Some Host"),
            ("", "Monitoring 24 hours, Engineering 5 people, Str 12"),
            ("", "via API 2, route 53, place 4 orders, avenue 7"),
            ("", "step 5 Drive the car, chapter 3 Court rules apply"),
            ("", "no number on Main Street"),
        ] {
            assert_eq!(seen(key, text), "", "{text}");
        }
    }
}
