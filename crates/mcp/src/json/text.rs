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
    let mut out = Vec::new();
    unescape_into(&mut out, written);
    Cow::Owned(match String::from_utf8(out) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// Appends the decoded bytes of `written`. Escapes that a check would have refused become U+FFFD.
pub(super) fn unescape_into(out: &mut Vec<u8>, written: &[u8]) {
    let start = out.len();
    // Decoding never grows a text by more than this: the room for whole words, and for U+FFFD in place of `\`.
    out.resize(start + written.len() + 8, 0);
    let mut to = start;
    let mut from = 0;
    while let Some(rest) = written.get(from..).filter(|rest| !rest.is_empty()) {
        let run = match (rest.first_chunk::<8>(), out.get_mut(to..to + 8)) {
            // Eight bytes are copied whatever they are; what lies behind the run is overwritten by the next step.
            (Some(word), Some(room)) => {
                room.copy_from_slice(word);
                let backslash = u64::from_le_bytes(*word) ^ (ONES * 0x5c);
                (backslash.wrapping_sub(ONES) & !backslash & HIGHS).trailing_zeros() as usize / 8
            }
            _ => {
                let run = rest.iter().take_while(|byte| **byte != b'\\').count();
                for (room, byte) in out.iter_mut().skip(to).zip(rest.iter().take(run)) {
                    *room = *byte;
                }
                run
            }
        };
        to += run;
        from += run;
        if let Some(escape) = written.get(from..).filter(|rest| rest.first() == Some(&b'\\')) {
            let (written_bytes, length) = escaped(escape, out, to);
            to += written_bytes;
            from += length;
        }
    }
    out.truncate(to);
}

/// Writes what an escape stands for to `out` at `to`; gives how many bytes that took, and how many the escape has.
fn escaped(escape: &[u8], out: &mut [u8], to: usize) -> (usize, usize) {
    let short = match escape.get(1) {
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'r') => b'\r',
        Some(b'b') => 8,
        Some(b'f') => 12,
        Some(&byte) if byte.is_ascii() && byte != b'u' => byte,
        Some(_) | None => {
            let (character, length) =
                unicode_escape(escape).unwrap_or((char::REPLACEMENT_CHARACTER, escape.len().min(6)));
            let mut buffer = [0; 4];
            let bytes = character.encode_utf8(&mut buffer).as_bytes();
            for (room, byte) in out.iter_mut().skip(to).zip(bytes) {
                *room = *byte;
            }
            return (bytes.len(), length);
        }
    };
    if let Some(room) = out.get_mut(to) {
        *room = short;
    }
    (1, 2)
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
