//! What a value wears: percent escapes, also twice and in forms that no standard has, entities, backslash escapes.

use alloc::vec::Vec;

/// Times that percent escapes are taken off.
const ROUNDS_MAX: u8 = 4;

/// A value without what it was wrapped in, in lower case (ASCII).
#[derive(Debug)]
pub struct Unwrapped {
    /// What is left.
    pub bytes: Vec<u8>,
    /// How often percent escapes stood in percent escapes.
    pub rounds: u8,
    /// Escapes that no honest encoder writes: overlong UTF-8, `%u`, broken ones again and again.
    pub odd: bool,
}

impl Unwrapped {
    /// The value as programs read it.
    #[must_use]
    pub fn of(raw: &[u8]) -> Self {
        let mut this = Self { bytes: raw.to_ascii_lowercase(), rounds: 0, odd: false };
        if memchr::memchr(b'\\', raw).is_some() {
            this.bytes = backslashes(&this.bytes);
        }
        if memchr::memchr(b'&', raw).is_some() {
            this.bytes = entities(&this.bytes);
        }
        while this.rounds < ROUNDS_MAX && memchr::memchr(b'%', &this.bytes).is_some() {
            let Some(bytes) = this.percent() else { break };
            this.bytes = bytes;
            this.rounds += 1;
        }
        this.bytes.make_ascii_lowercase();
        this
    }

    /// One layer of percent escapes less; nothing where there is none.
    fn percent(&mut self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(self.bytes.len());
        let (mut changed, mut broken) = (false, 0);
        let mut at = 0;
        while let Some(byte) = self.bytes.get(at) {
            let rest = self.bytes.get(at + 1..).unwrap_or_default();
            match (byte, rest) {
                (b'%', [b'u', digits @ ..]) if hex(digits, 4).is_some() => {
                    out.push(wide(hex(digits, 4).unwrap_or_default()));
                    self.odd = true;
                    changed = true;
                    at += 6;
                }
                (b'%', digits) if hex(digits, 2).is_some() => {
                    let value = hex(digits, 2).unwrap_or_default();
                    // Bytes that no UTF-8 has.
                    self.odd |= matches!(value, 0xc0 | 0xc1 | 0xf8..=0xff);
                    out.push((value & 0xff) as u8);
                    changed = true;
                    at += 3;
                }
                (b'%', [first, second, ..])
                    if first.is_ascii_alphanumeric() && second.is_ascii_alphanumeric() =>
                {
                    broken += 1;
                    out.push(b'%');
                    at += 1;
                }
                (byte, _) => {
                    out.push(*byte);
                    at += 1;
                }
            }
        }
        self.odd |= broken >= 2 || out.windows(2).any(|pair| matches!(pair, [0xe0 | 0xf0, 0x80]));
        changed.then_some(out)
    }
}

fn hex(digits: &[u8], count: usize) -> Option<u32> {
    let digits = digits.get(..count)?;
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

/// What programs of old made of wide characters.
const fn wide(value: u32) -> u8 {
    match value {
        0xff0e | 0x2024 => b'.',
        0x2215 | 0xff0f | 0xefc8 | 0xf025 => b'/',
        0xff3c | 0x2216 => b'\\',
        0x2018 | 0x2019 | 0x02b9 | 0xff07 => b'\'',
        0..=0x7f => value as u8,
        _ => b'?',
    }
}

fn entities(bytes: &[u8]) -> Vec<u8> {
    const KNOWN: &[(&[u8], u8)] = &[
        (b"lt;", b'<'),
        (b"gt;", b'>'),
        (b"quot;", b'"'),
        (b"apos;", b'\''),
        (b"#39;", b'\''),
        (b"#x27;", b'\''),
        (b"amp;", b'&'),
    ];
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let rest = bytes.get(at + 1..).unwrap_or_default();
        match KNOWN.iter().find(|(name, _)| *byte == b'&' && rest.starts_with(name)) {
            Some((name, meant)) => {
                out.push(*meant);
                at += name.len() + 1;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

/// `\x5f`, `\n`, `\r`; other backslashes stay.
fn backslashes(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let rest = bytes.get(at + 1..).unwrap_or_default();
        match (byte, rest) {
            (b'\\', [b'x', digits @ ..]) if hex(digits, 2).is_some() => {
                out.push((hex(digits, 2).unwrap_or_default() & 0xff) as u8);
                at += 4;
            }
            (b'\\', [b'"', ..]) => {
                out.push(b'"');
                at += 2;
            }
            (byte, _) => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}
