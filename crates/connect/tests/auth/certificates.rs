//! Client certificates: whom they stand for, when they stop to hold, and tokens that are bound to them.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_connect::auth::{AuthError, AuthSettings, Bound, CertificateRule, Credentials, Route};
use portcullis_core::{Caller, CallerKind, Code, Proof};
use portcullis_net::tls::{ClientAuth, ClientVerifier, PeerCertificate};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use serde_json::json;

use crate::world::{AUDIENCE, World, claims_with, idp, issuer, limits};

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn auth(&self, revoked_pem: Vec<Vec<u8>>) -> ClientAuth {
        ClientAuth { authorities_pem: self.0.pem().into_bytes(), revoked_pem, domains: None, required: false }
    }

    pub(crate) fn verifier(&self) -> ClientVerifier {
        ClientVerifier::new(&self.auth(Vec::new())).unwrap()
    }

    /// A list of revoked numbers that is in date until the end of `until`.
    fn revokes(&self, numbers: &[u64], until: i32) -> Vec<u8> {
        let revoked = |number: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*number),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(until, 12, 31),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: numbers.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap().into_bytes()
    }

    /// A certificate with these names: `cn:`, `dns:`, `email:`, `uri:`; `ca` makes it one of an authority.
    pub(crate) fn signs(&self, number: u64, names: &[&str], verifier: &ClientVerifier) -> PeerCertificate {
        self.signs_until(number, names, 2030, verifier)
    }

    fn signs_until(
        &self,
        number: u64,
        names: &[&str],
        until: i32,
        verifier: &ClientVerifier,
    ) -> PeerCertificate {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(number));
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(until, 12, 31));
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            let text = |text: &str| text.to_owned().try_into().unwrap();
            match name.split_once(':') {
                Some(("cn", name)) => params.distinguished_name.push(DnType::CommonName, name),
                Some(("dns", name)) => params.subject_alt_names.push(SanType::DnsName(text(name))),
                Some(("email", name)) => params.subject_alt_names.push(SanType::Rfc822Name(text(name))),
                Some(("uri", name)) => params.subject_alt_names.push(SanType::URI(text(name))),
                _ => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            }
        }
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        PeerCertificate::new(vec![leaf.der().clone()], verifier.clone()).unwrap()
    }
}

fn rule(name: &str, role: &str) -> CertificateRule {
    CertificateRule { name: name.parse().unwrap(), roles: vec![role.into()], kind: CallerKind::Service }
}

fn world(rules: Vec<CertificateRule>) -> World {
    World::new(AuthSettings { certificates: rules, ..AuthSettings::default() }, limits())
}

async fn shown(
    world: &World,
    certificate: &PeerCertificate,
    route: &Route,
) -> Result<Arc<Caller>, AuthError> {
    let credentials = Credentials { certificate: Some(certificate), ..Credentials::default() };
    let now = world.auth.try_now(&credentials, route).unwrap();
    let waited = world.auth.authenticate(&credentials, route).await;
    assert_eq!(now.as_ref().map_err(|error| error.code), waited.as_ref().map_err(|error| error.code));
    waited
}

#[tokio::test]
async fn a_certificate_stands_for_whom_the_first_rule_that_fits_its_names_says() {
    let authority = Authority::new("clients");
    let verifier = authority.verifier();
    let world = world(vec![
        rule("spiffe://td.example/ns/prod/payer", "operator"),
        rule("spiffe://td.example/ns/*", "reader"),
        rule("dns:ci.example", "operator"),
        rule("email:ada@example.org", "reader"),
        rule("cn:robot", "reader"),
    ]);
    let route = Route::at(AUDIENCE);
    for (names, id, role) in [
        (
            &["uri:spiffe://td.example/ns/prod/payer"][..],
            "cert:spiffe://td.example/ns/prod/payer",
            "operator",
        ),
        (
            &["uri:spiffe://td.example/ns/dev/x", "dns:other.example"],
            "cert:spiffe://td.example/ns/dev/x",
            "reader",
        ),
        (&["dns:a.example", "dns:CI.example"], "cert:dns:ci.example", "operator"),
        (&["email:ada@example.org", "cn:robot"], "cert:email:ada@example.org", "reader"),
        (&["cn:robot"], "cert:cn:robot", "reader"),
    ] {
        let certificate = authority.signs(1, names, &verifier);
        let caller = shown(&world, &certificate, &route).await.unwrap();
        assert_eq!((&*caller.id, &*caller.roles), (id, &[role.to_owned()][..]), "{names:?}");
        assert_eq!(caller.proof, Proof::Certificate { fingerprint: certificate.fingerprint() });
        assert_eq!(shown(&world, &certificate, &route).await.unwrap(), caller, "the second time");
    }
    for (names, code) in [
        (&["cn:nobody"][..], Code::AuthMissing),
        (&["dns:ci.example.evil"], Code::AuthMissing),
        (&["cn:ci.example"], Code::AuthMissing),
        (&["uri:spiffe://td.example/nsx/a"], Code::AuthMissing),
        (&["uri:https://td.example/ns/a"], Code::AuthMissing),
        (&["cn:robot", "cn:other"], Code::AuthMissing),
        (&[], Code::AuthMissing),
        // Who is meant cannot be said.
        (&["uri:spiffe://td.example/ns/a", "uri:spiffe://td.example/ns/b", "cn:robot"], Code::AuthInvalid),
        (&["uri:spiffe://td.example/ns/a", "uri:https://x.example/"], Code::AuthInvalid),
        (&["uri:spiffe://TD.example/ns/a", "cn:robot"], Code::AuthInvalid),
        (&["uri:SPIFFE://td.example/ns/a", "cn:robot"], Code::AuthInvalid),
        (&["uri:spiffe://td.example/ns/../prod"], Code::AuthInvalid),
        (&["cn:robot", "ca"], Code::AuthInvalid),
    ] {
        let certificate = authority.signs(1, names, &verifier);
        assert_eq!(shown(&world, &certificate, &route).await.unwrap_err().code, code, "{names:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_revoked_expired_or_of_nobody_is_refused_on_the_next_request() {
    let (authority, stranger) = (Authority::new("clients"), Authority::new("clients"));
    let verifier = authority.verifier();
    let world = world(vec![rule("cn:robot", "reader")]);
    let route = Route::at(AUDIENCE);
    let code = async |certificate: &PeerCertificate| {
        shown(&world, certificate, &route).await.map(drop).map_err(|error| error.code)
    };
    let (kept, lost) =
        (authority.signs(1, &["cn:robot"], &verifier), authority.signs(2, &["cn:robot"], &verifier));
    let (short, foreign) = (
        authority.signs_until(3, &["cn:robot"], 2026, &verifier),
        stranger.signs(1, &["cn:robot"], &verifier),
    );
    for certificate in [&kept, &lost, &short] {
        assert_eq!(code(certificate).await, Ok(()));
    }
    assert_eq!(code(&foreign).await, Err(Code::AuthInvalid), "another authority of the same name");
    // Connections stay open, and callers are remembered.
    verifier.reload(&authority.auth(vec![authority.revokes(&[2], 2027)])).unwrap();
    assert_eq!((code(&kept).await, code(&lost).await), (Ok(()), Err(Code::AuthInvalid)));
    assert_eq!(code(&lost).await, Err(Code::AuthInvalid), "and again");
    // A broken or empty list changes nothing.
    for bad in [b"".to_vec(), b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n".to_vec()] {
        assert!(verifier.reload(&authority.auth(vec![bad])).is_err());
    }
    assert_eq!((code(&kept).await, code(&lost).await), (Ok(()), Err(Code::AuthInvalid)));
    // A list of somebody else does not say that a certificate is good.
    verifier.reload(&authority.auth(vec![stranger.revokes(&[], 2027)])).unwrap();
    assert_eq!(code(&kept).await, Err(Code::AuthInvalid));
    verifier.reload(&authority.auth(Vec::new())).unwrap();
    assert_eq!(code(&lost).await, Ok(()));
    world.clock.advance_ms(110 * 86_400_000);
    assert_eq!((code(&kept).await, code(&short).await), (Ok(()), Err(Code::AuthInvalid)), "expired by now");
    // A list that is out of date is no list.
    verifier.reload(&authority.auth(vec![authority.revokes(&[2], 2027)])).unwrap();
    assert_eq!(code(&kept).await, Ok(()));
    world.clock.advance_ms(400 * 86_400_000);
    assert_eq!(code(&kept).await, Err(Code::AuthInvalid), "the list is out of date");
}

#[tokio::test]
async fn a_token_bound_to_a_certificate_counts_with_it_and_never_without() {
    let authority = Authority::new("clients");
    let verifier = authority.verifier();
    let (own, other) = (authority.signs(1, &["cn:a"], &verifier), authority.signs(2, &["cn:b"], &verifier));
    let (world, server) = World::plain().await;
    let thumbprint = URL_SAFE_NO_PAD.encode(own.fingerprint().0);
    let bound = idp().token("ES256", &claims_with(json!({"cnf": {"x5t#S256": thumbprint}})));
    let plain = idp().token("ES256", &claims_with(json!({})));
    let route = |bound| Route { bound, ..Route::at(AUDIENCE) };
    let present = async |token: &str, certificate: Option<&PeerCertificate>, kind| {
        let credentials = Credentials { bearer: Some(token), certificate, ..Credentials::default() };
        let outcome = world.auth.authenticate(&credentials, &route(kind)).await;
        outcome.map(drop).map_err(|error| error.code)
    };
    let refused = Err(Code::AuthInvalid);
    for _ in 0..2 {
        for (what, token, certificate, kind, expected) in [
            ("with its certificate", &bound, Some(&own), Bound::Any, Ok(())),
            ("where that is demanded", &bound, Some(&own), Bound::Certificate, Ok(())),
            ("where anything bound will do", &bound, Some(&own), Bound::Required, Ok(())),
            ("without", &bound, None, Bound::Any, refused),
            ("with another", &bound, Some(&other), Bound::Any, refused),
            ("where a DPoP proof is demanded", &bound, Some(&own), Bound::Dpop, refused),
            ("not bound", &plain, Some(&own), Bound::Any, Ok(())),
            ("not bound, where it must be", &plain, Some(&own), Bound::Required, refused),
            ("not bound, where it must be to a certificate", &plain, Some(&own), Bound::Certificate, refused),
        ] {
            assert_eq!(present(token, certificate, kind).await, expected, "{what}");
        }
    }
    verifier.reload(&authority.auth(vec![authority.revokes(&[1], 2027)])).unwrap();
    assert_eq!(present(&bound, Some(&own), Bound::Any).await, refused, "revoked, and the token with it");
    assert_eq!(present(&plain, Some(&own), Bound::Any).await, refused, "what is shown must hold");
    // Where certificates are identities and none fits, a token still counts; where bearers count for nothing, no key does.
    let settings = AuthSettings {
        issuers: vec![issuer(&server.url)],
        certificates: vec![rule("cn:b", "reader")],
        anonymous_roles: Some(vec!["reader".into()]),
        api_keys: true,
        ..AuthSettings::default()
    };
    let all = World::new(settings, limits());
    let credentials =
        Credentials { bearer: Some(&plain), certificate: Some(&other), ..Credentials::default() };
    let caller = all.auth.authenticate(&credentials, &route(Bound::Any)).await.unwrap();
    assert_eq!(&*caller.id, "jwt:https://idp.example#alice", "the token says who is asking");
    let alone = Credentials { certificate: Some(&other), ..Credentials::default() };
    for (kind, expected) in [
        (Bound::Any, Ok(())),
        (Bound::Certificate, Ok(())),
        (Bound::Required, Ok(())),
        (Bound::Dpop, refused),
    ] {
        let outcome = all.auth.authenticate(&alone, &route(kind)).await;
        assert_eq!(outcome.map(drop).map_err(|error| error.code), expected, "{kind:?}");
    }
    let nothing = all.auth.authenticate(&Credentials::default(), &route(Bound::Required)).await;
    assert_eq!(nothing.unwrap_err().code, Code::AuthMissing, "nobody is not bound to anything");
}
