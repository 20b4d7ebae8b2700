//! Deterministic mutations: the same seed gives the same cases, so a failure found in CI is found again at home.

/// A small generator (splitmix64); chance here is only variety, not security.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Starts from a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; zero when there is none.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.roll() % end as u64) as usize }
    }
}

/// Bytes and words on which parsers stumble.
const TOKENS: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
    b"\xf3\xa0\x81\x81",
    b"\r\n",
    b"\n\n",
    b"\r",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\\udc00",
    b":",
    b",",
    b"null",
    b"true",
    b"1e400",
    b"-0",
    b"1.0",
    b"18446744073709551616",
    b"9007199254740993",
    b"{}",
    b"[]",
    b"\"\"",
    b"data: ",
    b"id: ",
    b"=",
    b"==",
    b".",
    b"..",
    b"/",
    b"//",
    b"@",
    b"%00",
    b"%2e",
    b"*",
    b"$ref",
    b"#/",
    b"\xe2\x80\x94 ",
    b"-1",
    b"0",
    b"00",
];

/// Inputs no longer than this: the parsers' own limits lie far beyond, and small cases are many cases.
const BYTES_MAX: usize = 1 << 16;

/// One to eight changes to `seed`, with pieces of `others` spliced in.
#[must_use]
pub fn mutate(seed: &[u8], others: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(8) {
        let at = dice.below(bytes.len() + 1);
        let end = at + dice.below((bytes.len() - at).min(64) + 1);
        match dice.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = dice.roll() as u8,
            2 => drop(bytes.drain(at..end)),
            3 => insert(&mut bytes, at, TOKENS[dice.below(TOKENS.len())]),
            4 => {
                let piece = bytes[at..end].to_vec();
                let times = 1 + dice.below(16);
                insert(&mut bytes, at, &piece.repeat(times));
            }
            5 if !others.is_empty() => {
                let other = &others[dice.below(others.len())];
                let from = dice.below(other.len() + 1);
                let to = from + dice.below(other.len() - from + 1);
                let piece = other[from..to].to_vec();
                insert(&mut bytes, at, &piece);
            }
            6 => bytes.truncate(at),
            _ => bytes.splice(at..end, TOKENS[dice.below(TOKENS.len())].iter().copied()).for_each(drop),
        }
        bytes.truncate(BYTES_MAX);
    }
    bytes
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied()).for_each(drop);
}
