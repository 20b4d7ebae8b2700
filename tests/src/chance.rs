//! Seeded chance: a failing run says its seed, and the seed repeats the run's choices.

/// Numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Chance from the environment variable `name`, or from the clock; the seed is printed.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
        let clock = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |now| u64::from(now.subsec_nanos()) ^ now.as_secs())
        };
        let seed = given.unwrap_or_else(clock);
        println!("{name}={seed}");
        Self(seed)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }

    /// Some bytes.
    pub fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}

/// How often a test that leaves much to chance goes through its rounds: once, or as often as `TORTURE` says, which
/// `cargo xtask torture` sets.
#[must_use]
pub fn torture() -> usize {
    std::env::var("TORTURE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}
