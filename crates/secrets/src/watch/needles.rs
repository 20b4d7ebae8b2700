//! What is looked for of one value: its pieces, in the ways in which they are commonly written.

use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{GeneralPurpose, general_purpose::NO_PAD},
};
use zeroize::Zeroizing;

/// Shorter values are not looked for: they occur by chance.
pub const WATCHED_BYTES_MIN: usize = 8;
/// A longer value is looked for in pieces, so that a part of it is seen as well, and one that is cut in two. A multiple of
/// three, so that all pieces have the same alignments in base64; and six times as much, which is what JSON makes of it at
/// worst, fits the window that is kept of a stream.
const PIECE_BYTES: usize = 42;
/// Pieces of one value.
const PIECES_MAX: usize = 512;
/// What a scan looks for first of a needle.
pub(super) const ANCHOR_BYTES: usize = 8;

/// One text that is looked for.
pub(super) struct Needle {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Where the part begins by which it is found.
    pub(super) anchor: usize,
    /// Whether JSON never writes that part in another way.
    pub(super) plain: bool,
    /// Characters before and after it that hold some bits of it.
    pub(super) margin: (usize, usize),
}

/// Whether a value is long enough to be told from what occurs by chance.
#[must_use]
pub const fn is_watchable(value: &str) -> bool {
    value.len() >= WATCHED_BYTES_MIN
}

/// Whether what stands in a variable or a file is a secret, by its name or by its looks. Regions, host names and paths stand
/// there too, and taking them out of every answer would break those.
pub(crate) fn is_secret(name: &str, value: &str) -> bool {
    const WORDS: [&str; 10] =
        ["secret", "token", "password", "passwd", "key", "credential", "auth", "pwd", "passphrase", "dsn"];
    let name = name.to_ascii_lowercase();
    if WORDS.iter().any(|word| name.contains(word)) {
        return true;
    }
    let has = |fits: fn(&u8) -> bool| value.bytes().any(|byte| fits(&byte));
    let mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let dense = value.bytes().all(|byte| byte.is_ascii_alphanumeric()) && digits >= 4;
    value.len() >= 16 && (mixed || dense) && !value.contains([' ', '\n']) && !value.starts_with('/')
}

/// Everything that is looked for of a value.
pub(super) fn of(value: &str) -> Vec<Needle> {
    let mut parts = vec![Zeroizing::new(value.to_owned())];
    parts.extend(inside(value));
    let mut needles = Vec::new();
    for part in &parts {
        for piece in pieces(part.as_bytes()) {
            write(piece, &mut needles);
        }
    }
    needles
}

/// Secrets that stand in a value beside what is none: the password of a URL or of basic authentication, and members of JSON
/// that are called so.
fn inside(value: &str) -> Vec<Zeroizing<String>> {
    let mut parts = Vec::new();
    if let Some(password) = url::Url::parse(value).ok().as_ref().and_then(url::Url::password) {
        parts.push(password.to_owned());
        parts.extend(percent_decoded(password));
    }
    let pair = GeneralPurpose::new(&STANDARD, NO_PAD).decode(value.trim_end_matches('=')).ok();
    if let Some(pair) = pair.map(Zeroizing::new)
        && let Some((_, password)) = std::str::from_utf8(&pair).ok().and_then(|pair| pair.split_once(':'))
    {
        parts.push(password.to_owned());
    }
    if value.starts_with('{')
        && let Ok(serde_json::Value::Object(members)) = serde_json::from_str(value)
    {
        let named = members.iter().filter(|(name, _)| is_secret(name, ""));
        parts.extend(named.filter_map(|(_, member)| member.as_str().map(str::to_owned)));
    }
    parts.into_iter().filter(|part| is_watchable(part)).map(Zeroizing::new).collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    percent_encoding::percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

pub(super) fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn pieces(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    // What tells one signed token from another is its end; the beginning is that of all tokens of its issuer.
    let signed = value.starts_with(b"eyJ") && value.iter().filter(|byte| **byte == b'.').count() == 2;
    let head = if signed { value.iter().rposition(|byte| *byte == b'.').map_or(0, |dot| dot + 1) } else { 0 };
    let value = value.get(head..).filter(|rest| rest.len() >= WATCHED_BYTES_MIN).unwrap_or(value);
    let whole = value.chunks(PIECE_BYTES).filter(|piece| piece.len() == PIECE_BYTES).take(PIECES_MAX);
    // The end is looked for with what stands before it.
    let end =
        if value.len().is_multiple_of(PIECE_BYTES) { None } else { value.len().checked_sub(PIECE_BYTES) };
    let last = if value.len() < PIECE_BYTES { Some(value) } else { end.and_then(|from| value.get(from..)) };
    whole.chain(last)
}

fn write(piece: &[u8], needles: &mut Vec<Needle>) {
    let mut add = |bytes: Vec<u8>, margin: (usize, usize)| {
        let bytes = Zeroizing::new(bytes);
        if let Some((anchor, plain)) = anchor(&bytes)
            && !needles.iter().any(|known: &Needle| *known.bytes == *bytes)
        {
            needles.push(Needle { bytes, anchor, plain, margin });
        }
    };
    add(piece.to_vec(), (0, 0));
    if !anchor(piece).is_some_and(|(_, plain)| plain) {
        for signs in [&b"\"\\"[..], b"\"\\/"] {
            add(escaped(piece, signs), (0, 0));
        }
    }
    for alphabet in [&STANDARD, &URL_SAFE] {
        for before in 0..3_usize {
            let mut shifted = Zeroizing::new(vec![0; before]);
            shifted.extend_from_slice(piece);
            let text = Zeroizing::new(GeneralPurpose::new(alphabet, NO_PAD).encode(&*shifted));
            let skipped = (before * 8).div_ceil(6);
            let mixed = usize::from(!shifted.len().is_multiple_of(3));
            let inner = text.as_bytes().get(skipped..text.len().saturating_sub(mixed)).unwrap_or_default();
            add(inner.to_vec(), (skipped, mixed));
        }
    }
    add(digits(piece, b"0123456789abcdef", |_| Some("")), (0, 0));
    add(digits(piece, b"0123456789ABCDEF", |_| Some("")), (0, 0));
    // Of what is mostly letters the scan finds the letters, and reads the signs between them as they come.
    let signs = |byte: u8| (!byte.is_ascii_alphanumeric() && !b"-._~".contains(&byte)).then_some("%");
    for alphabet in [b"0123456789abcdef", b"0123456789ABCDEF"] {
        add(digits(piece, alphabet, signs), (0, 0));
        add(digits(piece, alphabet, |_| Some("%")), (0, 0));
    }
}

/// The bytes as they stand in a text of JSON that is itself a string of JSON, with these signs escaped.
fn escaped(piece: &[u8], signs: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(piece.len() * 2);
    for byte in piece {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            sign if signs.contains(sign) => out.extend([b'\\', *sign]),
            other => out.push(*other),
        }
    }
    out
}

/// The bytes in hexadecimal digits behind what `mark` says; as they are where it says nothing.
fn digits(piece: &[u8], alphabet: &[u8; 16], mark: impl Fn(u8) -> Option<&'static str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(piece.len() * 3);
    for byte in piece {
        match mark(*byte) {
            Some(mark) => {
                out.extend_from_slice(mark.as_bytes());
                out.extend([byte >> 4, byte & 15].iter().filter_map(|half| alphabet.get(usize::from(*half))));
            }
            None => out.push(*byte),
        }
    }
    out
}

/// Where the part begins that is best looked for: what JSON writes in one way only, of many different characters, far
/// from the beginning, which many tokens of one kind have in common.
fn anchor(bytes: &[u8]) -> Option<(usize, bool)> {
    let rate = |(at, window): (usize, &[u8])| {
        let plain = window.iter().all(|byte| is_plain(*byte));
        let mut seen = [false; 256];
        for byte in window {
            if let Some(seen) = seen.get_mut(usize::from(*byte)) {
                *seen = true;
            }
        }
        let different = seen.iter().filter(|seen| **seen).count();
        let centre = bytes.len() * 2 / 3;
        (plain, different, std::cmp::Reverse(centre.abs_diff(at + ANCHOR_BYTES / 2)), at)
    };
    bytes.windows(ANCHOR_BYTES).enumerate().map(rate).max().map(|(plain, _, _, at)| (at, plain))
}

/// Whether no encoder of JSON escapes it, but those that escape everything.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..0x7f) && !matches!(byte, b'"' | b'\\' | b'/' | b'<' | b'>' | b'&' | b'\'' | b'=')
}
