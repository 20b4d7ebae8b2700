//! Hashes that are the same everywhere and always.

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
