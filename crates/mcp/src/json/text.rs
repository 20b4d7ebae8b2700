//! Strings of JSON: finding where a run of plain bytes ends, eight bytes at a time, decoding and quoting.

use alloc::{borrow::Cow, string::String, vec::Vec};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Offset of the first quote, backslash or control byte at or after `at`; the length when there is none.
#[inline]
pub(super) fn find_special(doc: &[u8], at: usize) -> usize {
    let Some(rest) = doc.get(at..) else { return doc.len() };
    let mut position = at;
    let mut words = rest.chunks_exact(8);
    for word in &mut words {
        let Ok(word) = <[u8; 8]>::try_from(word) else { break };
        let x = u64::from_le_bytes(word);
        let (quote, backslash) = (x ^ (ONES * 0x22), x ^ (ONES * 0x5c));
        // The lowest marked byte is exact; borrows can only mark false ones above it.
        let marked = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (x.wrapping_sub(ONES * 0x20) & !x);
        let marked = marked & HIGHS;
        if marked != 0 {
            return position + (marked.trailing_zeros() / 8) as usize;
        }
        position += 8;
    }
    let plain = words.remainder().iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)).count();
    position + plain
}

/// Offset just behind the string whose opening quote is at `open`, in a checked text.
#[inline]
pub(super) fn skip_string(doc: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    loop {
        at = find_special(doc, at);
        match doc.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return doc.len(),
        }
    }
}

/// The decoded text of what stands between two quotes of a checked text.
pub(super) fn decode(written: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(b'\\', written).is_none() {
        return String::from_utf8_lossy(written);
    }
    let mut out = Vec::with_capacity(written.len());
    unescape_into(&mut out, written);
    Cow::Owned(match String::from_utf8(out) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// Appends the decoded bytes of `written`. Escapes that a check would have refused become U+FFFD.
pub(super) fn unescape_into(out: &mut Vec<u8>, written: &[u8]) {
    let mut rest = written;
    while let Some(run) = memchr::memchr(b'\\', rest) {
        let Some((plain, escape)) = rest.split_at_checked(run) else { return };
        out.extend_from_slice(plain);
        let (character, length) = escaped(escape);
        let mut buffer = [0; 4];
        out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
        rest = escape.get(length..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// The character that an escape stands for, and how many bytes the escape has.
fn escaped(escape: &[u8]) -> (char, usize) {
    let short = match escape.get(1) {
        Some(b'n') => '\n',
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'u') => return unicode_escape(escape).unwrap_or((char::REPLACEMENT_CHARACTER, 6)),
        Some(&byte) if byte.is_ascii() => char::from(byte),
        Some(_) | None => char::REPLACEMENT_CHARACTER,
    };
    (short, 2)
}

/// The character of `\uXXXX` or of a surrogate pair, and the length of what was read; nothing for a lone surrogate
/// or bad digits.
pub(super) fn unicode_escape(escape: &[u8]) -> Option<(char, usize)> {
    let first = unit(escape)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 6));
    }
    let second = unit(escape.get(6..)?)?;
    if !(0xd800..0xdc00).contains(&first) || !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    let character = char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))?;
    Some((character, 12))
}

/// The UTF-16 unit written as `\uXXXX`.
pub(super) fn unit(escape: &[u8]) -> Option<u32> {
    let digits = escape.strip_prefix(b"\\u")?.first_chunk::<4>()?;
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

/// `text` as a JSON string literal, with the fewest escapes that JSON allows.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' => {
                out.push_str("\\u00");
                for nibble in [u32::from(character) >> 4, u32::from(character) & 15] {
                    out.push(char::from_digit(nibble, 16).unwrap_or('0'));
                }
            }
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}
