//! Texts in which single characters are written differently: percent signs, entities, backslashes.

use alloc::{string::String, vec::Vec};

use memchr::memchr;

use super::Piece;

/// Pieces that are told apart.
const PIECES_MAX: usize = 1 << 16;

/// A text read, and what of it was written differently.
pub(super) type Read = Option<(String, Vec<Piece>)>;

/// Percent-encoding (RFC 3986, section 2.1).
pub(super) fn percent(text: &str) -> Read {
    let bytes = text.as_bytes();
    read(text, b'%', |start| octets(bytes, start, b"%"))
}

/// Character references of HTML and XML: numbers, and the names of what marks up.
pub(super) fn entities(text: &str) -> Read {
    read(text, b'&', |start| {
        let rest = text.get(start + 1..)?;
        // The longest is `&#x0010FFFF;`.
        let len = rest.bytes().take(12).position(|byte| byte == b';')?;
        let name = rest.get(..len)?;
        let c = match name.strip_prefix('#') {
            Some(number) => {
                let hex = number.strip_prefix(['x', 'X']);
                let value =
                    hex.map_or_else(|| number.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())?;
                char::from_u32(value)?
            }
            None => named(name)?,
        };
        Some((String::from(c), start + len + 2))
    })
}

fn named(name: &str) -> Option<char> {
    Some(match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        "Tab" => '\t',
        "NewLine" => '\n',
        "colon" => ':',
        "equals" => '=',
        "sol" => '/',
        "commat" => '@',
        "lpar" => '(',
        "rpar" => ')',
        "shy" => '\u{ad}',
        "zwnj" => '\u{200c}',
        "zwj" => '\u{200d}',
        "lrm" => '\u{200e}',
        "rlm" => '\u{200f}',
        _ => return None,
    })
}

/// Escapes of JSON and of programs: `\u0041`, `\u{41}`, `\x41`, and the short ones where there are others.
pub(super) fn backslashes(text: &str) -> Read {
    let bytes = text.as_bytes();
    let next = |at: usize| bytes.get(at + 1).copied().unwrap_or_default();
    if !memchr::memchr_iter(b'\\', bytes).any(|at| matches!(next(at), b'u' | b'x' | b'"')) {
        return None;
    }
    read(text, b'\\', |start| match next(start) {
        b'x' => octets(bytes, start, b"\\x"),
        b'u' => units(bytes, start),
        b'n' => Some((String::from('\n'), start + 2)),
        b't' => Some((String::from('\t'), start + 2)),
        b'r' => Some((String::from('\r'), start + 2)),
        other @ (b'"' | b'\\' | b'/' | b'\'') => Some((String::from(char::from(other)), start + 2)),
        _ => None,
    })
}

/// Reads `text`; `sign` stands before everything that `escape` can read, which says what it is and where it ends.
fn read(text: &str, sign: u8, escape: impl Fn(usize) -> Option<(String, usize)>) -> Read {
    let (mut out, mut pieces) = (String::new(), Vec::<Piece>::new());
    let (mut done, mut from) = (0, 0);
    while let Some(start) = memchr(sign, text.as_bytes().get(from..)?).map(|at| from + at) {
        let full = pieces.len() >= PIECES_MAX;
        let Some((meant, end)) = escape(start) else {
            from = start + 1;
            continue;
        };
        out.push_str(text.get(done..start)?);
        let inner = out.len();
        out.push_str(&meant);
        let piece = Piece { outer: start..end, inner: inner..out.len() };
        match pieces.last_mut().filter(|_| full) {
            // What comes after is one with the last.
            Some(Piece { outer, inner }) => (outer.end, inner.end) = (piece.outer.end, piece.inner.end),
            None => pieces.push(piece),
        }
        (done, from) = (end, end);
    }
    if pieces.is_empty() {
        return None;
    }
    out.push_str(text.get(done..)?);
    Some((out, pieces))
}

/// A character of which each byte is written as two hex digits behind `sign`.
fn octets(bytes: &[u8], start: usize, sign: &[u8]) -> Option<(String, usize)> {
    let octet = |index: usize| {
        let rest = bytes.get(start + index * (sign.len() + 2)..)?.strip_prefix(sign)?;
        u8::try_from(number(rest.get(..2)?)?).ok()
    };
    let first = octet(0)?;
    let len = match first {
        0xc2..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf5 => 4,
        _ => 1,
    };
    let all: Vec<u8> = (0..len).map_while(octet).collect();
    let (text, len) = match String::from_utf8(all) {
        Ok(text) => (text, len),
        Err(_) => (String::from(char::REPLACEMENT_CHARACTER), 1),
    };
    Some((text, start + len * (sign.len() + 2)))
}

/// `\u0041`, a pair of surrogates, or `\u{41}`.
fn units(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    let unit = |at: usize| {
        let rest = bytes.get(at..)?.strip_prefix(b"\\u")?;
        number(rest.get(..4)?)
    };
    if let Some(first) = unit(start) {
        let pair = unit(start + 6).filter(|_| (0xd800..0xdc00).contains(&first));
        let second = pair.filter(|second| (0xdc00..0xe000).contains(second));
        let value = second.map_or(first, |second| 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00));
        let c = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
        return Some((String::from(c), start + if second.is_some() { 12 } else { 6 }));
    }
    let rest = bytes.get(start..)?.strip_prefix(b"\\u{")?;
    let len = rest.iter().take(7).position(|byte| *byte == b'}')?;
    let c = char::from_u32(number(rest.get(..len)?)?)?;
    Some((String::from(c), start + 3 + len + 1))
}

fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use core::ops::Range;

    use super::*;

    fn text(read: Read) -> Option<String> {
        read.map(|(text, _)| text)
    }

    #[test]
    fn escapes_are_read_and_what_is_none_stays() {
        for (read, expected) in [
            (percent("a%20b%zz%4"), Some("a b%zz%4")),
            (percent("%c3%a9%ff%c3%41%e2%82"), Some("\u{e9}\u{fffd}\u{fffd}A\u{fffd}\u{fffd}")),
            (percent("100 %"), None),
            (
                entities("&lt;b&gt; &amp;lt; &#x41;&#66; &unknown; &#xd800; &"),
                Some("<b> &lt; AB &unknown; &#xd800; &"),
            ),
            (entities("AT&T; R&D"), None),
            (backslashes("\\ud83d\\ude00 \\u{41}\\x42\\n\\q"), Some("\u{1f600} AB\n\\q")),
            (backslashes("\\ud83d \\uZZZZ"), Some("\u{fffd} \\uZZZZ")),
            (backslashes("{\\\"a\\\":\\\"b\\\\c\\\"}"), Some("{\"a\":\"b\\c\"}")),
            (backslashes("C:\\new\\table"), None),
        ] {
            assert_eq!(text(read).as_deref(), expected);
        }
    }

    #[test]
    fn of_very_many_pieces_the_last_are_one() {
        let (text, pieces) = percent(&"%41".repeat(PIECES_MAX + 10)).unwrap_or_default();
        assert_eq!((text.len(), pieces.len()), (PIECES_MAX + 10, PIECES_MAX));
        assert_eq!(pieces.last().map(|last| (last.outer.len(), last.inner.len())), Some((33, 11)));
    }

    #[test]
    fn a_piece_says_where_it_was_and_where_it_is() {
        let (text, pieces) = percent("a%20%20b%41").unwrap_or_default();
        let places: Vec<(Range<usize>, Range<usize>)> =
            pieces.into_iter().map(|piece| (piece.outer, piece.inner)).collect();
        assert_eq!(
            (text.as_str(), places.as_slice()),
            ("a  bA", [(1..4, 1..2), (4..7, 2..3), (8..11, 4..5)].as_slice())
        );
    }
}
