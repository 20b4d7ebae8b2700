//! Answers of OpenSSL's responder to our own questions: what holds, and what does not.

use std::{path::Path, process::Command};

use portcullis_core::Timestamp;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::response::{Pair, must_staple, responder};

const DAY_MS: u64 = 86_400_000;

fn openssl(folder: &Path, arguments: &str) {
    let out =
        Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder).output().unwrap();
    assert!(out.status.success(), "{arguments}: {}", String::from_utf8_lossy(&out.stderr));
}

fn der(folder: &Path, name: &str) -> Vec<u8> {
    CertificateDer::from_pem_file(folder.join(name)).unwrap().to_vec()
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(since.as_millis()).unwrap())
}

/// An authority, a stranger of the same name, a certificate with the number 4097, and a responder that the authority named.
fn house() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for name in ["ca", "stranger"] {
        openssl(
            at,
            &format!("req -x509 {key} -keyout {name}.key -out {name}.crt -subj /CN=authority -days 30"),
        );
    }
    std::fs::write(
        at.join("leaf"),
        "authorityInfoAccess=OCSP;URI:http://ocsp.example/a\ntlsfeature=status_request\n",
    )
    .unwrap();
    std::fs::write(at.join("responder"), "extendedKeyUsage=OCSPSigning\n").unwrap();
    std::fs::write(at.join("other"), "extendedKeyUsage=serverAuth\n").unwrap();
    for (name, serial, extensions) in
        [("leaf", 4097, "leaf"), ("named", 2, "responder"), ("unnamed", 3, "other")]
    {
        openssl(at, &format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        openssl(
            at,
            &format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -set_serial {serial} -days 20 -extfile {extensions} -out {name}.crt"
            ),
        );
    }
    folder
}

/// What a responder says that signs with `signer`.
fn answer(at: &Path, state: &str, signer: &str, more: &str) -> Vec<u8> {
    let index = format!(
        "{state}\t991231000000Z\t{}\t1001\tunknown\t/CN=leaf\n",
        if state == "R" { "250101000000Z" } else { "" }
    );
    std::fs::write(at.join("index"), index).unwrap();
    let request = Pair::read(&der(at, "leaf.crt"), &der(at, "ca.crt")).unwrap().request().unwrap();
    std::fs::write(at.join("request"), request).unwrap();
    openssl(
        at,
        &format!(
            "ocsp -index index -CA ca.crt -rsigner {signer}.crt -rkey {signer}.key -reqin request -respout response {more}"
        ),
    );
    std::fs::read(at.join("response")).unwrap()
}

#[test]
fn an_answer_holds_that_the_authority_or_whom_it_named_has_signed_and_no_other() {
    let house = house();
    let at = house.path();
    let (leaf, ca) = (der(at, "leaf.crt"), der(at, "ca.crt"));
    assert_eq!(responder(&leaf).as_deref(), Some("http://ocsp.example/a"));
    assert!(must_staple(&leaf) && !must_staple(&ca) && responder(&ca).is_none());
    let pair = Pair::read(&leaf, &ca).unwrap();
    for (signer, more) in [("ca", "-ndays 1"), ("named", "-ndays 1"), ("named", "-ndays 1 -resp_key_id")] {
        let judged = pair.judge(&answer(at, "V", signer, more), now()).unwrap();
        assert!(!judged.revoked && judged.until.0.abs_diff(now().0 + DAY_MS) < 60_000, "{judged:?}");
    }
    for signer in ["stranger", "unnamed"] {
        let why = pair.judge(&answer(at, "V", signer, "-ndays 1"), now()).unwrap_err();
        assert!(why.contains("not signed by the authority"), "{signer}: {why}");
    }
    let weak = pair.judge(&answer(at, "V", "ca", "-ndays 1 -rmd sha1"), now()).unwrap_err();
    assert!(weak.contains("not signed by the authority"), "{weak}");
    assert!(Pair::read(&leaf, &der(at, "named.crt")).is_err(), "not its authority");
}

#[test]
fn an_answer_holds_in_its_time_and_about_its_certificate_alone() {
    let house = house();
    let at = house.path();
    let pair = Pair::read(&der(at, "leaf.crt"), &der(at, "ca.crt")).unwrap();
    let good = answer(at, "V", "ca", "-ndays 1");
    for (when, fine) in
        [(now(), true), (Timestamp(now().0 + DAY_MS + 60_000), false), (Timestamp(now().0 - 600_000), false)]
    {
        assert_eq!(pair.judge(&good, when).is_ok(), fine, "{when}");
    }
    assert!(pair.judge(&answer(at, "R", "ca", "-ndays 1"), now()).unwrap().revoked);
    let unsaid = pair.judge(&answer(at, "V", "ca", ""), now()).unwrap();
    assert_eq!(unsaid.until.0 - unsaid.from.0, 3_600_000, "one that does not say how long");
    let other = Pair::read(&der(at, "named.crt"), &der(at, "ca.crt")).unwrap();
    assert!(other.judge(&good, now()).unwrap_err().contains("about other certificates"));
    // `tryLater`, as DER.
    assert!(pair.judge(&[0x30, 3, 0x0a, 1, 3], now()).unwrap_err().contains("TryLater"));
    assert!(pair.judge(b"<html>", now()).is_err() && pair.judge(&[], now()).is_err());
}

#[test]
fn no_bit_of_an_answer_can_be_another_one() {
    let house = house();
    let at = house.path();
    let pair = Pair::read(&der(at, "leaf.crt"), &der(at, "ca.crt")).unwrap();
    let good = answer(at, "V", "named", "-ndays 1");
    let judged = pair.judge(&good, now()).unwrap();
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 1 << (place % 8);
        // What surrounds the signature in the certificate that came with it may be written in another way.
        if let Ok(other) = pair.judge(&bad, now()) {
            assert_eq!(other, judged, "at {place}");
        }
        let _ = pair.judge(&good[..place], now()).unwrap_err();
    }
}
