//! Every case of the shared address vectors, and the policy's switches.

use std::net::IpAddr;

use portcullis_net::guard::{EgressPolicy, GuardError, allowed, check_url, parse_url};
use proptest::prelude::*;
use serde_json::Value;

const STRICT: EgressPolicy = EgressPolicy::of(false, false);
const STRICT_HTTP: EgressPolicy = EgressPolicy { allow_http: true, ..STRICT };

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/own/ssrf-targets.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn urls(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|case| case["url"].as_str().unwrap()).collect()
}

#[test]
fn every_forbidden_target_is_refused_even_where_plain_http_is_allowed() {
    let vectors = vectors();
    let cases = urls(&vectors["deny"]);
    assert_eq!(cases.len(), 80);
    for case in cases {
        assert!(parse_url(case, &STRICT_HTTP).is_err(), "{case}");
        assert!(parse_url(case, &STRICT).is_err(), "{case}");
    }
}

#[test]
fn every_permitted_target_is_accepted() {
    let vectors = vectors();
    let cases = urls(&vectors["allow"]);
    assert_eq!(cases.len(), 5);
    for case in cases {
        assert!(parse_url(case, &STRICT).is_ok(), "{case}");
    }
}

#[test]
fn every_dynamic_case_has_a_test() {
    let vectors = vectors();
    let cases = vectors["dynamic"].as_array().unwrap();
    assert_eq!(cases.len(), 9);
    for case in cases {
        // The tests themselves are in `client.rs`; a new case has to be given one.
        let test = match case["setup"].as_str().unwrap() {
            "redirect 302 from allowed host to http://169.254.169.254/"
            | "redirect chain of 20"
            | "redirect https -> http"
            | "redirect to same host, other port" => "no_redirect_is_ever_followed",
            "DNS answer flips between check and connect (rebinding, TTL 0)" => {
                "a_name_is_resolved_once_and_the_checked_address_is_the_one_connected_to"
            }
            "DNS answer with one public and one private address"
            | "CNAME to a private name"
            | "AAAA private, A public" => "a_name_with_one_forbidden_address_is_refused_whole",
            "proxy environment variables set" => "proxy_variables_of_the_environment_are_ignored",
            _ => "",
        };
        let source = include_str!("client.rs");
        assert!(!test.is_empty() && source.contains(&format!("fn {test}(")), "{case}");
    }
}

#[test]
fn the_url_suite_of_the_whatwg_never_gets_a_forbidden_host_through() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/url-wpt/urltestdata.json");
    let suite: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut seen = 0;
    for case in suite.as_array().unwrap() {
        let Some(input) = case["input"].as_str() else { continue };
        seen += 1;
        if let Ok(url) = parse_url(input, &STRICT_HTTP) {
            assert_eq!(check_url(&url, &STRICT_HTTP), Ok(()), "{input}");
            assert_eq!(case["hostname"].as_str(), url.host_str(), "{input}");
            assert!(case["username"] == "" && case["password"] == "" && case["hash"] == "", "{input}");
        }
    }
    assert!(seen > 800, "{seen}");
}

#[test]
fn switches_open_what_they_say_and_nothing_else() {
    let loopback = EgressPolicy { allow_loopback: true, ..STRICT };
    let private = EgressPolicy { allow_private: true, ..STRICT };
    let both = EgressPolicy::of(true, true);
    // address, strict, loopback, private, both
    for (ip, expected) in [
        ("1.1.1.1", [true, true, true, true]),
        ("2606:4700::1111", [true, true, true, true]),
        ("64:ff9b::101:101", [true, true, true, true]),
        ("127.0.0.1", [false, true, false, true]),
        ("127.255.255.254", [false, true, false, true]),
        ("::1", [false, true, false, true]),
        ("::ffff:127.0.0.1", [false, true, false, true]),
        ("10.1.2.3", [false, false, true, true]),
        ("172.31.0.1", [false, false, true, true]),
        ("172.32.0.1", [true, true, true, true]),
        ("192.168.1.1", [false, false, true, true]),
        ("100.64.0.1", [false, false, true, true]),
        ("100.128.0.1", [true, true, true, true]),
        ("fd12:3456::1", [false, false, true, true]),
        ("::ffff:10.0.0.1", [false, false, true, true]),
        ("64:ff9b::a00:1", [false, false, true, true]),
        ("64:ff9b::7f00:1", [false; 4]),
        ("169.254.169.254", [false; 4]),
        ("169.254.0.1", [false; 4]),
        ("100.100.100.200", [false; 4]),
        ("168.63.129.16", [false; 4]),
        ("192.0.0.192", [false; 4]),
        ("fd00:ec2::254", [false; 4]),
        ("fe80::1", [false; 4]),
        ("0.0.0.0", [false; 4]),
        ("::", [false; 4]),
        ("::7f00:1", [false; 4]),
        ("224.0.0.1", [false; 4]),
        ("255.255.255.255", [false; 4]),
        ("2002:7f00:1::", [false; 4]),
        ("2001::1", [false; 4]),
        ("2001:4860::1", [true, true, true, true]),
        ("4000::1", [false; 4]),
        ("ff02::1", [false; 4]),
    ] {
        let address: IpAddr = ip.parse().unwrap();
        let found = [STRICT, loopback, private, both].map(|policy| allowed(address, &policy));
        assert_eq!(found, expected, "{ip}");
    }
}

#[test]
fn refusals_name_their_reason() {
    let check = |text| parse_url(text, &EgressPolicy { allow_loopback: true, ..STRICT }).unwrap_err();
    assert_eq!(check("http://a.example/"), GuardError::Scheme("http".to_owned()));
    assert_eq!(check("ftp://a.example/"), GuardError::Scheme("ftp".to_owned()));
    assert_eq!(check("https://u:p@a.example/"), GuardError::Credentials);
    assert_eq!(check("https://a.example/#x"), GuardError::Fragment);
    assert_eq!(
        check("https://metadata.google.internal/"),
        GuardError::Name("metadata.google.internal".into())
    );
    assert_eq!(check("https://10.0.0.1/").to_string(), "address `10.0.0.1` is not allowed: private network");
    assert!(parse_url("https://x.localhost/", &EgressPolicy { allow_loopback: true, ..STRICT }).is_ok());
}

proptest! {
    #[test]
    fn no_text_panics_and_what_passes_passes_again(text in "\\PC{0,60}|https?:[/\\\\]{0,3}[0-9a-fx.:@\\[\\]%#-]{0,30}") {
        if let Ok(url) = parse_url(&text, &STRICT_HTTP) {
            prop_assert!(parse_url(url.as_str(), &STRICT_HTTP).is_ok());
        }
    }

    #[test]
    fn an_ipv4_address_fares_the_same_plain_mapped_and_never_better_behind_nat64(bits: u32) {
        let v4 = std::net::Ipv4Addr::from(bits);
        let nat64: IpAddr = format!("64:ff9b::{v4}").parse().unwrap();
        for policy in [STRICT, EgressPolicy { allow_loopback: true, allow_private: true, ..STRICT }] {
            let plain = allowed(v4.into(), &policy);
            prop_assert_eq!(plain, allowed(v4.to_ipv6_mapped().into(), &policy));
            prop_assert!(plain || !allowed(nat64, &policy));
        }
    }
}
