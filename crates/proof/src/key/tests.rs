//! Ed25519 by one rule, and the text forms of keys.

extern crate std;
use alloc::{format, string::String, vec::Vec};
use std::fs;

use serde_json::Value;

use super::{SigningKey, VerifierKey, verify_strict};

const VECTORS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/ed25519-cctv/ed25519vectors.json");

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn the_strict_rule_decides_all_914_cctv_vectors() {
    let text = fs::read(VECTORS).unwrap_or_else(|error| panic!("{VECTORS}: {error}"));
    let cases: Vec<Value> = serde_json::from_slice(&text).unwrap();
    assert_eq!(cases.len(), 914);
    let mut accepted = 0;
    for case in &cases {
        let flags: Vec<&str> = case["flags"]
            .as_array()
            .map_or(Vec::new(), |flags| flags.iter().filter_map(Value::as_str).collect());
        // The rule in the words of the vectors.
        let refused_for =
            ["low_order_A", "low_order_R", "non_canonical_A", "non_canonical_R", "low_order_residue"];
        let wanted = !flags.iter().any(|flag| refused_for.contains(flag));
        let key: [u8; 32] = unhex(case["key"].as_str().unwrap()).try_into().unwrap();
        let signature = unhex(case["sig"].as_str().unwrap());
        let message = case["msg"].as_str().unwrap().as_bytes();
        assert_eq!(verify_strict(&key, message, &signature), wanted, "{case}");
        accepted += usize::from(wanted);
    }
    // One plain signature, and those whose torsion cancels out.
    assert_eq!(accepted, 43);
}

#[test]
fn keys_read_back_what_they_print() {
    let key = SigningKey::from_seed("gateway.example/audit/a", [7; 32]).unwrap();
    let text = key.to_text();
    let again = SigningKey::from_text(text.expose()).unwrap();
    assert_eq!(again.verifier(), key.verifier());
    let vkey = format!("{}", key.verifier());
    assert_eq!(VerifierKey::from_text(&vkey).unwrap(), key.verifier());
    assert!(!format!("{key:?}").contains(text.expose().rsplit_once('+').unwrap().1));
}

#[test]
fn refuses_texts_that_are_no_keys() {
    let good = format!("{}", SigningKey::from_seed("log", [7; 32]).unwrap().verifier());
    let swapped: String = good.replacen("log+", "lag+", 1);
    let small = "log+00000000+AQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for bad in [
        "",
        "log",
        "log+12345678",
        good.trim_end_matches(char::is_alphanumeric),
        &swapped,
        small,
        &good.replace("+Ae", "+Ce"),
    ] {
        assert!(VerifierKey::from_text(bad).is_err(), "{bad}");
    }
    for name in ["", "two words", "a+b", "line\nbreak"] {
        assert!(SigningKey::from_seed(name, [7; 32]).is_err(), "{name}");
    }
}
