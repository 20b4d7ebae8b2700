//! What may be left of a value so that it is true of many people: years, regions, networks.
//!
//! The rules are those of 45 CFR 164.514(b)(2)(i)(B) and (C), where they say anything.

use alloc::{format, string::String, vec::Vec};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Areas of three digits with 20,000 people or fewer by the Census of 2000, as the guidance on Safe Harbor of the US
/// Department of Health and Human Services lists them.
const SMALL_AREAS: [&str; 17] = [
    "036", "059", "063", "102", "203", "556", "692", "790", "821", "823", "830", "831", "878", "879", "884",
    "890", "893",
];

/// Who was born so many years ago may be over 89, or will be before anybody says again which year it is.
const OLD: u16 = 89;

/// What may be left of it; nothing where no rule says that any of it may.
#[must_use]
pub fn generalised(detector: &str, seen: &str, now: Option<u16>) -> Option<String> {
    match detector {
        "age" => Some(String::from("90+")),
        "care_date" => year(seen).map(|year| format!("{year:04}")),
        // A year of birth tells the age: without knowing which year it is, none is known to be young enough.
        "date_of_birth" => {
            let (year, now) = (year(seen)?, now?);
            (now.checked_sub(year)? < OLD).then(|| format!("{year:04}"))
        }
        "geo_location" => Some(degrees(seen)),
        "ip_address" => network(seen),
        "postal_code" => {
            let area = seen.get(..3).filter(|area| area.bytes().all(|byte| byte.is_ascii_digit()))?;
            Some(String::from(if SMALL_AREAS.contains(&area) { "000" } else { area }))
        }
        _ => None,
    }
}

/// The year of a date that says it with four digits.
fn year(date: &str) -> Option<u16> {
    let runs: Vec<&str> = date.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty()).collect();
    let whole = runs.iter().find(|run| matches!(run.len(), 4 | 8))?;
    whole.get(..4)?.parse().ok().filter(|year| (1_800..2_200).contains(year))
}

/// Numbers with one decimal.
fn degrees(place: &str) -> String {
    let mut decimals = None;
    let keep = |c: &char| {
        decimals = match (*c, decimals) {
            ('.', _) => Some(0),
            ('0'..='9', Some(count)) => Some(count + 1),
            _ => None,
        };
        decimals.is_none_or(|count| count <= 1)
    };
    place.chars().filter(keep).collect()
}

/// The network of an address.
fn network(address: &str) -> Option<String> {
    match address.parse().ok()? {
        IpAddr::V4(address) => {
            let [one, two, three, _] = address.octets();
            Some(format!("{}/24", Ipv4Addr::new(one, two, three, 0)))
        }
        IpAddr::V6(address) => {
            let [one, two, three, ..] = address.segments();
            Some(format!("{}/48", Ipv6Addr::new(one, two, three, 0, 0, 0, 0, 0)))
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn what_is_left_is_what_the_rule_lets_stand() {
        for (detector, seen, left) in [
            ("date_of_birth", "1968-05-13", Some("1968")),
            ("date_of_birth", "19680513", Some("1968")),
            ("date_of_birth", "May 15th, 1939", Some("1939")),
            ("date_of_birth", "04/23/1938", Some("1938")),
            ("date_of_birth", "23.04.1937", None),
            ("date_of_birth", "4/4/33", None),
            ("care_date", "1931-01-02", Some("1931")),
            ("care_date", "2. Mai 2024", Some("2024")),
            ("postal_code", "94110-1234", Some("941")),
            ("age", "97", Some("90+")),
            ("geo_location", "52.5200, -13.4050", Some("52.5, -13.4")),
            ("geo_location", "-73.989308", Some("-73.9")),
            ("ip_address", "147.191.73.85", Some("147.191.73.0/24")),
            ("ip_address", "2001:db8:85a3::8a2e:370:7334", Some("2001:db8:85a3::/48")),
            ("ip_address", "fade:0:0:23:0:0:12:2e3e", Some("fade::/48")),
            ("email", "me@example.com", None),
        ] {
            assert_eq!(generalised(detector, seen, Some(2026)).as_deref(), left, "{detector} {seen}");
        }
        assert_eq!(generalised("date_of_birth", "1968-05-13", None), None, "nobody said which year it is");
    }

    #[test]
    fn the_seventeen_areas_with_few_people_and_no_other_are_none() {
        let zeros = (0..1_000).map(|area| format!("{area:03}01"));
        let zeros: Vec<String> =
            zeros.filter(|code| generalised("postal_code", code, None).as_deref() == Some("000")).collect();
        assert_eq!(zeros.len(), 18, "the seventeen, and the area 000 itself");
        assert!(zeros.contains(&String::from("03601")) && zeros.contains(&String::from("89301")));
    }
}
