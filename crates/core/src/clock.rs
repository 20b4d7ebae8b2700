//! Time and chance as arguments, so that a seed replays a run.

use alloc::string::ToString as _;
use core::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// A time as entries have it, or to the second or the day: `2026-11-01T08:30:00.000Z`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('Z').unwrap_or(text);
        let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
        let number = |text: &str, digits: usize| -> Option<u64> {
            (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
        };
        let mut parts = date.split('-');
        let year = number(parts.next()?, 4)?;
        let (month, day) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
        let (clock, ms) = time.split_once('.').unwrap_or((time, "000"));
        let mut clock = clock.split(':');
        let (h, m) = (number(clock.next()?, 2)?, number(clock.next()?, 2)?);
        let s = clock.next().map_or(Some(0), |text| number(text, 2))?;
        let in_range = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
        if !in_range || h > 23 || m > 59 || s > 59 || parts.next().is_some() || clock.next().is_some() {
            return None;
        }
        // Days from a civil date, in years that begin in March.
        let year = if month <= 2 { year - 1 } else { year };
        let (era, of_era) = (year / 400, year % 400);
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
        let found = Self((((days * 24 + h) * 60 + m) * 60 + s) * 1_000 + number(ms, 3)?);
        // A day that the month does not have is another day's number.
        found.to_string().starts_with(date).then_some(found)
    }

    /// The time in whole seconds, as JWT and cosignatures count it.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The same moment, `ms` later; stops at the end of time instead of wrapping.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The year, in UTC.
    #[must_use]
    pub fn year(self) -> u16 {
        u16::try_from(self.civil().0).unwrap_or(u16::MAX)
    }

    /// Year, month and day, in UTC.
    fn civil(self) -> (u64, u64, u64) {
        // Civil date from a day count (proleptic Gregorian, eras of 400 years from 0000-03-01).
        let z = self.0 / 86_400_000 + 719_468;
        let (era, day_of_era) = (z / 146_097, z % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        (year_of_era + era * 400 + u64::from(month <= 2), month, day)
    }
}

/// RFC 3339, UTC, milliseconds: `2026-11-22T20:18:00.000Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ms) = (self.0 / 1000, self.0 % 1000);
        let (year, month, day) = self.civil();
        let of_day = seconds % 86_400;
        let (h, m, s) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall-clock time; may step.
    fn now(&self) -> Timestamp;

    /// Microseconds from an arbitrary start; never goes back. For durations and deadlines.
    fn ticks_us(&self) -> u64;
}

/// Where chance comes from. Implementations for production are cryptographically secure.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// Fills `out` with unpredictable bytes.
    fn fill(&self, out: &mut [u8]);
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::Timestamp;

    #[test]
    fn prints_known_moments_as_rfc_3339() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Timestamp(ms).to_string(), text);
            assert!(text.starts_with(&Timestamp(ms).year().to_string()));
        }
    }

    #[test]
    fn a_time_is_read_as_it_was_written() {
        for ms in
            [0, 951_782_399_999, 951_782_400_000, 1_700_000_000_123, 1_763_936_655_001, 4_102_444_800_000]
        {
            assert_eq!(Timestamp::parse(&Timestamp(ms).to_string()), Some(Timestamp(ms)));
        }
        assert_eq!(Timestamp::parse("yesterday"), None);
    }
}
