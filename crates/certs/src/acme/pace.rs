//! When a certificate is ordered: ahead of its end, and not too often where that fails.

use portcullis_core::{Digest, Timestamp};

/// After the first failure. Common servers allow five failures for a name in an hour; these five take about two.
const FIRST_MS: u64 = 60_000;
/// At most.
const PAUSE_MS_MAX: u64 = 12 * 3_600_000;

/// When a certificate of this time is renewed: after two thirds of it, or up to a twentieth of it before, as `chance` says, so that
/// not all gateways of the world ask at once.
pub(super) fn due((from, until): (Timestamp, Timestamp), chance: u8) -> Timestamp {
    let whole = until.0.saturating_sub(from.0);
    let early = whole / 20 * u64::from(chance) / 255;
    from.plus_ms((whole / 3 * 2).saturating_sub(early))
}

/// The same for one gateway and one certificate each time that it is asked for.
pub(super) fn chance(instance: &str, certificate: Digest) -> u8 {
    let drawn = Digest::of(format!("{instance} {certificate}").as_bytes());
    u8::from_str_radix(drawn.hex().get(..2).unwrap_or("80"), 16).unwrap_or(128)
}

/// How long to wait after so many failures before this one: three times as long each time, give or take a fifth.
pub(super) fn pause_ms(failures: u32, chance: u8) -> u64 {
    let whole = FIRST_MS.saturating_mul(3_u64.saturating_pow(failures)).min(PAUSE_MS_MAX);
    whole / 5 * 4 + whole / 5 * 2 * u64::from(chance) / 255
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_certificate_of_ninety_days_is_renewed_about_a_month_ahead() {
        let day = 86_400_000;
        let time = (Timestamp(0), Timestamp(90 * day));
        assert_eq!(due(time, 0), Timestamp(60 * day));
        assert_eq!(due(time, 255).0 / day, 55);
    }

    #[test]
    fn failures_in_a_row_stay_below_what_servers_allow_in_an_hour() {
        let mut at = 0;
        for failures in 0..4 {
            at += pause_ms(failures, 0);
        }
        assert!(at > 1_800_000, "the fifth order comes after {at} ms");
        assert!(pause_ms(u32::MAX, 255) <= PAUSE_MS_MAX / 5 * 6);
    }

    proptest! {
        #[test]
        fn it_is_due_while_it_is_good(from in any::<u64>(), whole in any::<u32>(), chance in any::<u8>()) {
            let time = (Timestamp(from), Timestamp(from.saturating_add(u64::from(whole))));
            let due = due(time, chance);
            prop_assert!(time.0 <= due && due <= time.1);
        }
    }
}
