//! Signatures against vectors that others wrote: Wycheproof for tokens, CCTV for Ed25519.

use std::collections::BTreeSet;

use portcullis_core::Limits;
use serde_json::Value;

use super::{Alg, compact::Compact, jwks::KeySet};

/// Valid for Wycheproof, refused here, and why.
const REFUSED_THOUGH_VALID: [(u64, &str); 6] = [
    (346, "the key says PS256, the token PS384"),
    (347, "P-521 is not supported"),
    (350, "the key says PS256, the token PS384"),
    (351, "P-521 is not supported"),
    (372, "`?` is no base64url character, wherever it stands"),
    (373, "`?` is no base64url character, wherever it stands"),
];

/// Invalid for Wycheproof, yet letter by letter the token of case 357, which is valid.
const SAME_AS_VALID: [u64; 2] = [367, 370];

fn vectors(path: &str) -> Value {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/");
    serde_json::from_slice(&std::fs::read(format!("{root}{path}")).expect(path)).expect(path)
}

fn key_set(key: &Value) -> KeySet {
    let set = serde_json::json!({"keys": [key]}).to_string();
    KeySet::parse(set.as_bytes(), 1, true, &Limits::default()).expect("a key set")
}

fn accepts(keys: &KeySet, token: &str) -> bool {
    let Ok(token) = Compact::parse(token) else { return false };
    keys.choose(&token).is_ok_and(|key| key.verify(&token).is_ok())
}

#[test]
fn every_signature_of_wycheproof_is_judged_as_it_says() {
    let file = vectors("wycheproof/json_web_signature_test.json");
    let (mut valid, mut invalid, mut refused, mut same) = (0, 0, BTreeSet::new(), BTreeSet::new());
    let mut twin = None;
    for group in file["testGroups"].as_array().expect("groups") {
        let keys = key_set(group.get("public").unwrap_or(&group["private"]));
        for case in group["tests"].as_array().expect("tests") {
            let (id, token) = (case["tcId"].as_u64().expect("id"), case["jws"].as_str().unwrap_or_default());
            let accepted = accepts(&keys, token);
            match case["result"].as_str() {
                Some("valid") if REFUSED_THOUGH_VALID.iter().any(|(known, _)| *known == id) => {
                    assert!(!accepted, "{id} is accepted by now: take it off the list");
                    assert!(refused.insert(id));
                }
                Some("valid") => {
                    assert!(accepted, "{id}: {}", case["comment"]);
                    valid += 1;
                }
                Some("invalid") if SAME_AS_VALID.contains(&id) => {
                    assert!(accepted && Some(token) == twin.as_deref(), "{id}");
                    assert!(same.insert(id));
                }
                Some("invalid") => {
                    assert!(!accepted, "{id}: {}", case["comment"]);
                    invalid += 1;
                }
                other => panic!("{id}: unknown result {other:?}"),
            }
            if id == 357 {
                twin = Some(token.to_owned());
            }
        }
    }
    assert_eq!((valid, refused.len(), invalid, same.len()), (40, 6, 353, 2), "401 cases, 46 of them valid");
}

/// The same rule as for checkpoints: no point of small order, no encoding but the canonical one, no cofactor.
#[test]
fn every_edge_of_ed25519_is_judged_by_the_strict_rule() {
    let file = vectors("ed25519-cctv/ed25519vectors.json");
    let cases = file.as_array().expect("cases");
    let against = ["low_order_A", "low_order_R", "non_canonical_A", "non_canonical_R", "low_order_residue"];
    let hex = |text: &Value| -> Vec<u8> {
        let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).expect("hex")).expect("hex");
        let text = text.as_str().expect("hex").as_bytes();
        text.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    };
    let b64 = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
    let mut accepted = 0;
    for case in cases {
        let flags: Vec<_> =
            case["flags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let expected = !against.iter().any(|flag| flags.contains(flag));
        let keys =
            key_set(&serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": b64(&hex(&case["key"]))}));
        let signature = hex(&case["sig"]);
        // The messages of the vectors are no tokens, so the parts are put together by hand.
        let token = Compact {
            signed: case["msg"].as_str().expect("message"),
            signature_text: &b64(&signature),
            signature,
            alg: Alg::EdDsa,
            kid: None,
            thumbprints: [None, None],
            typ: None,
            claims: serde_json::Map::new(),
        };
        let verified = keys.choose(&token).is_ok_and(|key| key.verify(&token).is_ok());
        assert_eq!(verified, expected, "{}: {flags:?}", case["number"]);
        accepted += usize::from(verified);
    }
    assert_eq!((cases.len(), accepted), (914, 43));
}

#[test]
fn a_secret_key_counts_only_where_the_set_is_secret() {
    let k = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let set = serde_json::json!({"keys": [{"kty": "oct", "k": k}]}).to_string();
    let keys =
        |secret| KeySet::parse(set.as_bytes(), 1, secret, &Limits::default()).expect("a key set").len();
    assert_eq!((keys(true), keys(false)), (1, 0));
}
