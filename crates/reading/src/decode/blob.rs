//! Base64 and hex: runs of their characters whose beginning is text, or is packed.

use alloc::{string::String, vec::Vec};
use core::ops::Range;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use miniz_oxide::inflate::{decompress_to_vec_with_limit, decompress_to_vec_zlib_with_limit};

/// Characters below which a run hides too little to matter: fifteen bytes.
const RUN_MIN: usize = 20;

/// Characters of a run by which is decided whether it is text.
const HEAD: usize = 24;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A run that hides a text.
#[derive(Debug)]
pub(super) struct Blob {
    /// Where it stands, with its padding.
    pub(super) range: Range<usize>,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Base64,
    Hex,
}

impl Blob {
    /// The text, with at most `bytes_max` bytes of what was packed.
    pub(super) fn open(&self, text: &str, bytes_max: usize) -> Option<String> {
        let bytes = self.form.decode(text.get(self.range.clone())?.as_bytes());
        let bytes = unpack(&bytes, bytes_max).unwrap_or(bytes);
        if is_utf16(&bytes) {
            let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([at(pair, 0), at(pair, 1)]));
            return Some(
                char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect(),
            );
        }
        is_text(&bytes).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Form {
    fn decode(self, run: &[u8]) -> Vec<u8> {
        match self {
            Self::Hex => run
                .chunks_exact(2)
                .filter_map(|pair| Some(hex(at(pair, 0))? << 4 | hex(at(pair, 1))?))
                .collect(),
            Self::Base64 => {
                let mut run: Vec<u8> =
                    run.iter().copied().filter(|byte| is_base64(*byte)).map(standard).collect();
                run.truncate(whole(run.len()));
                BASE64.decode(run).unwrap_or_default()
            }
        }
    }
}

/// The blobs of a text, in order.
#[derive(Debug)]
pub(super) struct Blobs<'a> {
    text: &'a [u8],
    from: usize,
}

impl<'a> Blobs<'a> {
    pub(super) const fn of(text: &'a str) -> Self {
        Self { text: text.as_bytes(), from: 0 }
    }
}

impl Iterator for Blobs<'_> {
    type Item = Blob;

    fn next(&mut self) -> Option<Blob> {
        loop {
            let mut run = next_run(self.text, self.from)?;
            self.from = run.end;
            let (start, form) = match starts(self.text, &run) {
                Some(found) => found,
                None => continue,
            };
            run.start = start;
            if form == Form::Base64 {
                run.end = end_of_lines(self.text, &run);
                run.end += self.text.iter().skip(run.end).take(2).take_while(|byte| **byte == b'=').count();
            }
            self.from = run.end;
            return Some(Blob { range: run, form });
        }
    }
}

/// Whether the raw JSON text may hold a blob in one of its strings. False is certain as long as the text holds neither
/// escaped slashes nor escaped letters.
pub(super) fn may_occur(raw: &[u8]) -> bool {
    let mut from = 0;
    while let Some(mut run) = next_run(raw, from) {
        from = run.end;
        // The letters of an escape sequence are none of the run.
        if run.start.checked_sub(1).and_then(|before| raw.get(before)) == Some(&b'\\') {
            run.start += if raw.get(run.start) == Some(&b'u') { 5 } else { 1 };
        }
        if (0..4).any(|skip| begins(raw, run.start + skip, run.end).is_some()) || starts(raw, &run).is_some()
        {
            return true;
        }
    }
    false
}

/// The next run of at least [`RUN_MIN`] characters of base64, from `from` on.
fn next_run(text: &[u8], from: usize) -> Option<Range<usize>> {
    let mut start = from;
    loop {
        // From the end of the least run backwards: where it is none, all before it is none either.
        let last = start.checked_add(RUN_MIN)?.checked_sub(1)?;
        if last >= text.len() {
            return None;
        }
        match text.get(start..=last)?.iter().rposition(|byte| !is_base64(*byte)) {
            Some(other) => start += other + 1,
            None => {
                let more = text.iter().skip(last + 1).take_while(|byte| is_base64(**byte)).count();
                return Some(start..last + 1 + more);
            }
        }
    }
}

/// Where in a run something begins that can be read. A run may begin with the end of something that was cut, with `0x`,
/// or with the names of a path.
fn starts(text: &[u8], run: &Range<usize>) -> Option<(usize, Form)> {
    let cut = if run.start == 0 { 4 } else { 1 };
    let shifts = (run.start..run.start + cut)
        .chain((text.get(run.start..run.start + 2) == Some(b"0x")).then_some(run.start + 2));
    let names = (run.clone()).filter(|index| at(text, *index) == b'/').map(|index| index + 1);
    shifts.chain(names).find_map(|start| Some((start, begins(text, start, run.end)?)))
}

fn begins(text: &[u8], start: usize, end: usize) -> Option<Form> {
    let run = text.get(start..end).filter(|run| run.len() >= RUN_MIN)?;
    let head = run.get(..HEAD).unwrap_or(run);
    let reads = |bytes: &[u8]| is_text(bytes) || is_utf16(bytes) || is_packed(bytes);
    if head.iter().all(u8::is_ascii_hexdigit) && reads(&Form::Hex.decode(head)) {
        return Some(Form::Hex);
    }
    // Names of files and of members are such runs as well: nothing is allocated for what is none.
    let (mut letters, mut bytes) = ([0; HEAD], [0; HEAD / 4 * 3]);
    letters.iter_mut().zip(head).for_each(|(place, byte)| *place = standard(*byte));
    let letters = letters.get(..whole(head.len()))?;
    let length = BASE64.decode_slice(letters, &mut bytes).ok()?;
    reads(bytes.get(..length)?).then_some(Form::Base64)
}

/// As many characters of so many as bytes are made of: one more than whole bytes is the remainder of something else.
const fn whole(characters: usize) -> usize {
    characters - (characters % 4 == 1) as usize
}

/// The end of a run that goes on in further lines, as in mail.
fn end_of_lines(text: &[u8], run: &Range<usize>) -> usize {
    let mut end = run.end;
    let width = run.len();
    loop {
        let rest = text.get(end..).unwrap_or_default();
        let gap = if rest.starts_with(b"\r\n") { 2 } else { usize::from(rest.starts_with(b"\n")) };
        let more = rest.iter().skip(gap).take_while(|byte| is_base64(**byte)).count();
        if gap == 0 || more == 0 || more > width {
            return end;
        }
        end += gap + more;
        if more < width {
            return end;
        }
    }
}

/// Whether bytes begin as a text does: UTF-8 without control characters.
fn is_text(bytes: &[u8]) -> bool {
    let head = bytes.get(..HEAD * 3 / 4).unwrap_or(bytes);
    let valid = match core::str::from_utf8(head) {
        Ok(text) => text,
        // The last character may be cut.
        Err(error) if error.error_len().is_none() => {
            core::str::from_utf8(head.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        Err(_) => return false,
    };
    valid.len() >= 8 && valid.chars().all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r'))
}

/// Whether bytes begin as UTF-16 (little endian) of ASCII does.
fn is_utf16(bytes: &[u8]) -> bool {
    bytes.len() >= 8
        && bytes
            .chunks_exact(2)
            .take(6)
            .all(|pair| at(pair, 1) == 0 && matches!(at(pair, 0), 0x20..0x7f | 9 | 10 | 13))
}

fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b, 8]) || matches!(bytes, [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..])
}

/// What gzip (RFC 1952) or zlib (RFC 1950) packed, as far as `bytes_max` and the data go.
fn unpack(bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let unpacked = if bytes.starts_with(&[0x1f, 0x8b, 8]) {
        decompress_to_vec_with_limit(bytes.get(gzip_header(bytes)?..)?, bytes_max)
    } else if is_packed(bytes) {
        decompress_to_vec_zlib_with_limit(bytes, bytes_max)
    } else {
        return None;
    };
    let unpacked = unpacked.unwrap_or_else(|error| error.output);
    (!unpacked.is_empty()).then_some(unpacked)
}

/// The length of a gzip header (RFC 1952, section 2.3).
fn gzip_header(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.get(3)?;
    let mut len = 10;
    if flags & 4 != 0 {
        len += 2 + usize::from(u16::from_le_bytes([*bytes.get(len)?, *bytes.get(len + 1)?]));
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            len += bytes.get(len..)?.iter().position(|byte| *byte == 0)? + 1;
        }
    }
    Some(len + if flags & 2 == 0 { 0 } else { 2 })
}

const fn is_base64(byte: u8) -> bool {
    let [low, high] = ALPHABETS;
    let bits = if byte < 64 { low } else { high };
    byte < 128 && bits >> (byte % 64) & 1 == 1
}

/// The bytes of both alphabets (RFC 4648, sections 4 and 5), by bits: one look is less than nine comparisons.
const ALPHABETS: [u64; 2] = {
    let (mut low, mut high, mut byte) = (0, 0, 0_u8);
    while byte < 128 {
        let is = matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'/' | b'-' | b'_') as u64;
        if byte < 64 {
            low |= is << byte
        } else {
            high |= is << (byte - 64)
        }
        byte += 1;
    }
    [low, high]
};

/// The same character in the standard alphabet.
const fn standard(byte: u8) -> u8 {
    match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn at(bytes: &[u8], index: usize) -> u8 {
    bytes.get(index).copied().unwrap_or_default()
}
