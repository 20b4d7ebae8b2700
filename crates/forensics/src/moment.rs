//! Times as people write them: an instant, a day, or how long ago.

use portcullis_core::Timestamp;

const MINUTE: u64 = 60_000;
const DAY: u64 = 86_400_000;

/// What to write where a text means no time.
pub(crate) const TIMES: &str = "write UTC like 2026-11-01, `2026-11-01 08:30`, yesterday or `2h ago`";

/// The moment that `text` means at `now`: `2026-11-01`, `2026-11-01 08:30`, `2026-11-01T08:30:00Z`, `now`, `today`,
/// `yesterday`, `90m ago`, `2h`, `7d`, `1w`. All in UTC.
///
/// # Errors
/// It means none.
pub fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let text = text.trim();
    let midnight = now.0 - now.0 % DAY;
    let found = match text {
        "now" => Some(now),
        "today" => Some(Timestamp(midnight)),
        "yesterday" => Some(Timestamp(midnight.saturating_sub(DAY))),
        _ => ago(text).map(|ms| Timestamp(now.0.saturating_sub(ms))).or_else(|| written(text)),
    };
    found.ok_or_else(|| format!("`{}` is not a time", text.escape_default()))
}

fn written(text: &str) -> Option<Timestamp> {
    // A day with a zone is half a time.
    if text.len() == 11 && text.ends_with('Z') {
        return None;
    }
    Timestamp::parse(&text.replacen(' ', "T", 1))
}

fn ago(text: &str) -> Option<u64> {
    let text = text.strip_suffix("ago").map_or(text, str::trim_end);
    let text = text.strip_prefix('-').unwrap_or(text);
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at_checked(digits)?;
    let unit = match unit.trim() {
        "s" | "sec" | "second" | "seconds" => 1_000,
        "m" | "min" | "minute" | "minutes" => MINUTE,
        "h" | "hour" | "hours" => 60 * MINUTE,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => 7 * DAY,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them_and_nothing_else_is() {
        let now = Timestamp::parse("2026-11-24T10:30:00.250Z").unwrap();
        for (text, meant) in [
            ("now", "2026-11-24T10:30:00.250Z"),
            ("today", "2026-11-24T00:00:00.000Z"),
            ("yesterday", "2026-11-23T00:00:00.000Z"),
            ("90m ago", "2026-11-24T09:00:00.250Z"),
            ("2h", "2026-11-24T08:30:00.250Z"),
            ("-1 day", "2026-11-23T10:30:00.250Z"),
            ("1w ago", "2026-11-17T10:30:00.250Z"),
            ("2026-11-01", "2026-11-01T00:00:00.000Z"),
            ("2026-11-01 08:30", "2026-11-01T08:30:00.000Z"),
            ("2026-11-01T08:30:15Z", "2026-11-01T08:30:15.000Z"),
        ] {
            assert_eq!(moment(text, now).map(|at| at.to_string()), Ok(meant.to_owned()), "{text}");
        }
        for text in [
            "",
            "soon",
            "Z",
            "2026",
            "2026-11-31",
            "2026-11-22Z",
            "22.11.2026",
            "ago",
            "5",
            "5 apples",
            "2026-11-22T20:18:00+02:00",
        ] {
            assert!(moment(text, now).is_err(), "{text}");
        }
    }
}
