//! What is seen of values that were handed out, and what is not taken for one.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::{Engine as _, engine::general_purpose};
use portcullis_core::Timestamp;
use proptest::prelude::*;

use super::*;

/// A clock that goes on when it is told.
#[derive(Debug, Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn ticks_us(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn watched() -> (Arc<Hand>, Watched) {
    let clock = Arc::new(Hand::default());
    (Arc::clone(&clock), Watched::new(clock, Duration::from_secs(3_600)))
}

/// The text with what was found replaced.
fn masked(watched: &Watched, text: &str) -> String {
    let mut out = text.to_owned();
    for leak in watched.find(text).iter().rev() {
        out.replace_range(leak.range.clone(), "****");
    }
    out
}

fn hex(value: &str) -> String {
    value.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn percent(value: &str, all: bool) -> String {
    let keeps = |byte: u8| !all && (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let one = |byte: u8| if keeps(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    value.bytes().map(one).collect()
}

/// The value in every way in which it is looked for.
fn ways(value: &str) -> Vec<(&'static str, String)> {
    let mut ways = vec![
        ("as it is", value.to_owned()),
        ("hex", hex(value)),
        ("HEX", hex(value).to_uppercase()),
        ("percent", percent(value, false)),
        ("percent, small", percent(value, false).to_lowercase()),
        ("percent, all", percent(value, true)),
        ("json", serde_json::to_string(value).unwrap().trim_matches('"').to_owned()),
        ("json with slashes", serde_json::to_string(value).unwrap().trim_matches('"').replace('/', "\\/")),
    ];
    if value.to_lowercase() != value {
        ways.retain(|(name, _)| *name != "percent, small");
    }
    for before in ["", "a", "ab"] {
        for after in ["", "z", "zz"] {
            let all = format!("{before}{value}{after}");
            ways.push(("base64", general_purpose::STANDARD.encode(&all)));
            ways.push(("base64 for URLs", general_purpose::URL_SAFE_NO_PAD.encode(&all)));
        }
    }
    ways
}

const VALUES: [&str; 9] = [
    "8bytes!x",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "pa/ss\"wo\\rd+with=signs&more?",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7\nVJTUt9Us8cKjMzEfYyjiWA4R4\n-----END PRIVATE KEY-----\n",
    "пароль-очень-длинный",
    "$ecret: {with} [all] (kinds) <of> 'signs' \u{1f600}",
    "0123456789012345678901234567890123456789012",
    "////////////",
    "correct horse battery staple",
];

#[test]
fn a_value_is_seen_in_every_way_of_writing_it_wherever_it_stands() {
    for value in VALUES {
        let (_, watched) = watched();
        watched.arm(|| "vault:app#token".into(), value).unwrap();
        for (way, written) in ways(value) {
            for filler in 0..5 {
                let text = format!("{}<{written}> and more", ".".repeat(filler));
                let leaks = watched.find(&text);
                assert_eq!(leaks.len(), 1, "{way}: {text}");
                let masked = masked(&watched, &text);
                // Of base64 a character may stay that holds some bits of what stands beside the value.
                assert!(masked.len() <= filler + "<****> and more".len() + 8, "{way}: {masked}");
                assert!(watched.find(&masked).is_empty(), "{way}: {masked}");
                assert!(masked.contains(".<") || filler == 0, "{way}: {masked}");
            }
        }
        assert!(watched.find(&value.chars().rev().collect::<String>()).is_empty() || value == "////////////");
    }
}

#[test]
fn what_the_look_at_json_rules_out_is_not_there() {
    for value in VALUES {
        let (_, watched) = watched();
        watched.arm(|| "n".into(), value).unwrap();
        for (way, written) in ways(value) {
            for slashes in [false, true] {
                let mut raw = serde_json::json!({"result": {"text": written}}).to_string();
                if slashes {
                    raw = raw.replace('/', "\\/");
                }
                assert!(watched.may_hold(raw.as_bytes()), "{way}: {raw}");
            }
        }
        assert!(!watched.may_hold(
            br#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"Good morning"}]}}"#
        ));
    }
}

#[test]
fn the_secret_inside_of_a_value_is_looked_for_too_and_what_stands_beside_it_is_not() {
    for (value, seen, unseen) in [
        ("postgres://app:s3cr3t-pw%21@db.internal:5432/app", "s3cr3t-pw!", "db.internal:5432/app"),
        (r#"{"username":"administrator","password":"hunter2hunter2"}"#, "hunter2hunter2", "administrator"),
        ("c2VydmljZTpodW50ZXIyaHVudGVyMg==", "hunter2hunter2", "service:"),
    ] {
        let (_, watched) = watched();
        watched.arm(|| "n".into(), value).unwrap();
        assert_eq!(masked(&watched, &format!("it is {seen}.")), "it is ****.", "{value}");
        assert_eq!(masked(&watched, unseen), unseen);
        assert_eq!(masked(&watched, value), "****");
    }
}

#[test]
fn a_part_of_a_long_value_is_seen_and_what_all_tokens_of_an_issuer_begin_with_is_not() {
    let long = (0..40).map(|n| format!("{n:03}-xYz")).collect::<String>();
    let head =
        general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT","kid":"issuer-signing-key"}"#);
    let token = format!("{head}.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLW9mLXRoZS1pc3N1ZXI");
    let (_, watched) = watched();
    watched.arm(|| "long".into(), &long).unwrap();
    watched.arm(|| "token".into(), &token).unwrap();
    assert_eq!(watched.find(long.get(20..130).unwrap()).len(), 1);
    assert!(watched.find(&format!("{head}.eyJzdWIiOiJib2IifQ.b3RoZXItc2lnbmF0dXJlLWVudGlyZWx5")).is_empty());
    assert_eq!(watched.find(&token)[0].name.as_ref(), "token");
}

#[test]
fn a_value_is_let_go_when_it_was_not_used_for_long_and_nobody_holds_it() {
    let (clock, watched) = watched();
    let held = watched.arm(|| "held".into(), "the-held-value-1");
    watched.arm(|| "used".into(), "the-used-value-2").unwrap();
    drop(watched.arm(|| "gone".into(), "the-gone-value-3"));
    clock.0.store(3_000_000_000, Ordering::SeqCst);
    watched.arm(|| "used".into(), "the-used-value-2").unwrap();
    clock.0.store(4_000_000_000, Ordering::SeqCst);
    let before = watched.changes();
    watched.arm(|| "new".into(), "the-newest-value").unwrap();
    assert!(watched.changes() > before);
    let text = "the-held-value-1 the-used-value-2 the-gone-value-3 the-newest-value";
    let names = || watched.find(text).iter().map(|leak| leak.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(), ["held", "used", "new"]);
    drop(held);
    clock.0.store(5_000_000_000, Ordering::SeqCst);
    watched.arm(|| "more".into(), "one-more-value").unwrap();
    assert_eq!(names(), ["used", "new"]);
    assert!(watched.arm(|| "short".into(), "seven77").is_none());
}

#[test]
fn there_are_no_more_values_than_there_is_room_for_and_planted_ones_stay() {
    let (clock, watched) = watched();
    watched.plant([("bait", "planted-credential-0")].into_iter());
    for number in 0..WATCHED_MAX + 20 {
        clock.0.store(number as u64, Ordering::SeqCst);
        // What is made of thousands anew each time is asked only at the end.
        if number < WATCHED_MAX - 20 && number > 40 {
            continue;
        }
        watched.arm(|| "n".into(), &format!("value-number-{number:06}")).unwrap();
    }
    assert_eq!(watched.find("planted-credential-0")[0].why, Why::Canary);
    watched.plant(std::iter::empty());
    assert!(watched.find("planted-credential-0").is_empty());
    assert_eq!(watched.find("value-number-000003").len(), 1);
}

#[test]
fn what_stands_in_variables_is_a_secret_by_name_or_looks() {
    for (name, value, expected) in [
        ("GITHUB_TOKEN", "abc", true),
        ("AWS_REGION", "eu-central-1", false),
        ("HOME", "/home/Alice2/Documents", false),
        ("HOST", "db-1.internal.example.com", false),
        ("VALUE", "canary0child0Zq7Xw3Kd9Rt5Lm1", true),
        ("VALUE", "0123456789abcdef0123456789abcdef", true),
        ("TENANT", "acme-corporation", false),
    ] {
        assert_eq!(is_secret(name, value), expected, "{name}={value}");
    }
}

proptest! {
    #[test]
    fn any_value_is_seen_in_any_text_and_nothing_panics(value in "\\PC{8,150}", before in "\\PC{0,20}", after in "\\PC{0,20}") {
        let (_, watched) = watched();
        prop_assume!(watched.arm(|| "n".into(), &value).is_some());
        let text = [before.as_str(), &value, &after].concat();
        prop_assert!(!watched.find(&text).is_empty());
        let leaks = watched.find(&[before.as_str(), &after].concat());
        prop_assert!(leaks.len() <= before.len() + after.len());
    }
}

#[test]
fn a_value_is_seen_again_behind_itself() {
    let value = "correct/horse\"battery\\staple & more";
    let (_, watched) = watched();
    watched.arm(|| "n".into(), value).unwrap();
    for filler in 0..9 {
        let text = format!("with {value}.{}begins {value} ends", " ".repeat(filler));
        assert_eq!(watched.find(&text).len(), 2, "{text}");
    }
}
