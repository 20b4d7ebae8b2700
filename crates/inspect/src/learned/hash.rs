//! Hashes that are the same everywhere and always, and the folding of letters.

/// FNV-1a over bytes, 32 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash(u32);

impl Hash {
    const PRIME: u32 = 0x0100_0193;

    /// Different salts make different hashes of the same.
    pub(super) const fn new(salt: u8) -> Self {
        Self(0x811c_9dc5).byte(salt)
    }

    pub(super) const fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u32).wrapping_mul(Self::PRIME))
    }

    pub(super) fn character(self, c: char) -> Self {
        let mut hash = self;
        let mut value = u32::from(c);
        while value > 0 {
            hash = hash.byte((value & 0xff) as u8);
            value >>= 8;
        }
        hash
    }

    pub(super) const fn word(self, word: u32) -> Self {
        Self((self.0.rotate_left(7) ^ word).wrapping_mul(0x9e37_79b1))
    }

    /// Mixed once more: FNV's low bits alone are poor.
    pub(super) const fn get(self) -> u32 {
        let mixed = (self.0 ^ self.0 >> 16).wrapping_mul(0x45d9_f3b5);
        mixed ^ mixed >> 15
    }
}

/// A letter as it is compared: lower case without the accents of Latin letters; none for what is not compared.
pub(super) fn fold(c: char) -> Option<char> {
    if c.is_ascii() {
        return Some(c.to_ascii_lowercase());
    }
    const FOLDED: &str = "aaaaaaaceeeeiiiidnooooo*ouuuuypsaaaaaaaceeeeiiiidnooooo*ouuuuypy";
    match u32::from(c) {
        0xc0..=0xff => FOLDED.as_bytes().get((u32::from(c) - 0xc0) as usize).map(|byte| char::from(*byte)),
        0x2019 => Some('\''),
        0x0300..=0x036f => None,
        0x100..=0x105 => Some('a'),
        0x106..=0x10d => Some('c'),
        0x10e..=0x111 => Some('d'),
        0x112..=0x11b => Some('e'),
        0x11c..=0x123 => Some('g'),
        0x128..=0x131 => Some('i'),
        0x139..=0x142 => Some('l'),
        0x143..=0x148 => Some('n'),
        0x14c..=0x151 => Some('o'),
        0x154..=0x159 => Some('r'),
        0x15a..=0x161 => Some('s'),
        0x162..=0x167 => Some('t'),
        0x168..=0x173 => Some('u'),
        0x179..=0x17e => Some('z'),
        _ => c.to_lowercase().next(),
    }
}
