//! Web addresses, from their scheme or their `www.` to the blank or mark that ends them.

use alloc::vec::Vec;

use memchr::memmem;

use crate::Found;

/// Schemes of what can be visited or fetched.
const SCHEMES: &[&[u8]] =
    &[b"http", b"https", b"ftp", b"ftps", b"sftp", b"ws", b"wss", b"file", b"ssh", b"git"];

/// The web addresses in a text.
#[must_use]
pub fn urls(text: &str) -> Vec<Found> {
    let bytes = text.as_bytes();
    let mut found: Vec<Found> = Vec::new();
    let schemes = memmem::find_iter(bytes, b"://").filter_map(|at| begins(bytes, at));
    let bare = memmem::find_iter(bytes, b"www.").filter(|at| !is_inner(bytes, *at));
    let mut starts: Vec<usize> = schemes.chain(bare).collect();
    starts.sort_unstable();
    let mut reached = 0;
    for start in starts {
        // Addresses in addresses are not measured again.
        if start < reached {
            continue;
        }
        let end = start + length(bytes.get(start..).unwrap_or_default());
        reached = end;
        if end > start + "www.x".len() {
            found.push(Found { range: start..end, confidence: 1_000 });
        }
    }
    found
}

/// Where the scheme before `://` begins.
fn begins(bytes: &[u8], at: usize) -> Option<usize> {
    let before = bytes.get(..at)?;
    let length = before.iter().rev().take(6).take_while(|byte| byte.is_ascii_alphabetic()).count();
    let scheme = before.get(at - length..)?;
    SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known)).then_some(at - length)
}

fn is_inner(bytes: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|at| bytes.get(at));
    before.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'/' | b'@'))
}

/// How far it goes; a mark at its end belongs to the sentence.
fn length(bytes: &[u8]) -> usize {
    let ends = |byte: &u8| {
        byte.is_ascii_whitespace()
            || byte.is_ascii_control()
            || matches!(byte, b'"' | b'<' | b'>' | b'`' | b'{' | b'}' | b'|' | b'\\' | b'^' | b'[' | b']')
    };
    let end = bytes.iter().position(ends).unwrap_or(bytes.len());
    let whole = bytes.get(..end).unwrap_or_default();
    let marks = whole
        .iter()
        .rev()
        .take_while(|byte| matches!(byte, b'.' | b',' | b';' | b':' | b'!' | b'?' | b'\'' | b')'));
    end - marks.count()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{string::String, vec::Vec};

    use super::urls;

    #[test]
    fn addresses_end_where_the_sentence_goes_on() {
        for (text, expected) in [
            (
                "see https://a.example/b?c=d&e#f, or (www.b.example).",
                "https://a.example/b?c=d&e#f|www.b.example",
            ),
            ("[x](http://a.example/) \"ftp://b.example/x\"", "http://a.example/|ftp://b.example/x"),
            ("https://a.example/?u=https://b.example/", "https://a.example/?u=https://b.example/"),
            ("a://b std::fs www. c:// awww.b", ""),
            ("HTTPS://A.EXAMPLE", "HTTPS://A.EXAMPLE"),
        ] {
            let seen: Vec<String> =
                urls(text).iter().map(|one| text.get(one.range.clone()).unwrap().into()).collect();
            assert_eq!(seen.join("|"), expected, "{text}");
        }
    }
}
