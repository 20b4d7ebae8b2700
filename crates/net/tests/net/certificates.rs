//! Certificates that are wrong in every way: shown to us by a server, and by a client of the listener.

use std::time::Duration;

use portcullis_core::Secret;
use portcullis_net::tls::{
    ClientAuth, ClientIdentity, ClientTls, ServerIdentity, ServerTls, ServerTlsOptions,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, NameConstraints, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::support::{Authority, Served, listen_options, start};

const NAME: &str = "server.net.example";

/// Who shows a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Server,
    Client,
}

/// A way to be wrong, or none.
type Row = (&'static str, &'static [Side], bool, fn(Side) -> Shown);

/// A chain with its key, and the authority that is trusted.
struct Shown {
    chain: String,
    key: String,
    root: String,
}

const BOTH: &[Side] = &[Side::Server, Side::Client];

const ROWS: &[Row] = &[
    ("good", BOTH, true, |side| under(side, |_| {})),
    ("good, by one in between", BOTH, true, |side| between(side, 1, |_| {})),
    ("good, by as many in between as are followed", BOTH, true, |side| between(side, 6, |_| {})),
    ("too long a chain", BOTH, false, |side| between(side, 7, |_| {})),
    ("expired", BOTH, false, |side| under(side, |leaf| leaf.not_after = date_time_ymd(2021, 1, 1))),
    ("not yet valid", BOTH, false, |side| under(side, |leaf| leaf.not_before = date_time_ymd(2090, 1, 1))),
    ("for the other side", BOTH, false, |side| {
        let other = if side == Side::Server { Side::Client } else { Side::Server };
        under(side, |leaf| leaf.extended_key_usages = vec![purpose(other)])
    }),
    ("for signing code", BOTH, false, |side| {
        under(side, |leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning])
    }),
    ("with a critical extension that nobody knows", BOTH, false, |side| {
        under(side, |leaf| {
            let mut unknown =
                rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
            unknown.set_criticality(true);
            leaf.custom_extensions.push(unknown);
        })
    }),
    ("of an unknown authority", BOTH, false, |side| Shown { root: root(|_| {}).1, ..under(side, |_| {}) }),
    ("signed by itself", BOTH, false, |side| {
        let key = KeyPair::generate().unwrap();
        let chain = leaf(side).self_signed(&key).unwrap().pem();
        Shown { chain, key: key.serialize_pem(), root: root(|_| {}).1 }
    }),
    ("with a changed signature", BOTH, false, |side| {
        let good = under(side, |_| {});
        let mut der = CertificateDer::from_pem_slice(good.chain.as_bytes()).unwrap().to_vec();
        // The last bytes are the end of the signature.
        *der.last_mut().unwrap() ^= 1;
        Shown { chain: pem(&der), ..good }
    }),
    ("without the one in between", BOTH, false, |side| {
        let good = between(side, 1, |_| {});
        let leaf = good.chain.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap().to_owned();
        Shown { chain: leaf, ..good }
    }),
    ("signed by another's leaf", BOTH, false, |side| between(side, 1, |between| between.is_ca = IsCa::NoCa)),
    // Of one in between: what a trusted root says of the depth below it nobody looks at.
    ("deeper than its authority allows", BOTH, false, |side| {
        between(side, 2, |between| between.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))
    }),
    ("outside of the names of its authority", BOTH, false, |side| {
        let only = |root: &mut CertificateParams| {
            let permitted_subtrees = vec![GeneralSubtree::DnsName("other.example".into())];
            root.name_constraints =
                Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        };
        between(side, 1, only)
    }),
    ("of an authority from which its names are taken", BOTH, false, |side| {
        let but = |root: &mut CertificateParams| {
            let excluded_subtrees = vec![GeneralSubtree::DnsName("example".into())];
            root.name_constraints =
                Some(NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees });
        };
        between(side, 1, but)
    }),
    ("of an expired authority in between", BOTH, false, |side| {
        between(side, 1, |between| between.not_after = date_time_ymd(2021, 1, 1))
    }),
    ("for any host below", &[Side::Server], true, |side| names(side, &["*.net.example"])),
    ("for another name", &[Side::Server], false, |side| names(side, &["evil.example"])),
    ("for names one deeper", &[Side::Server], false, |side| names(side, &["*.server.net.example"])),
    ("for a part of a name", &[Side::Server], false, |side| names(side, &["ser*.net.example"])),
    ("for everything", &[Side::Server], false, |side| names(side, &["*"])),
    ("with the name as subject alone", &[Side::Server], false, |side| names(side, &[])),
];

fn purpose(side: Side) -> ExtendedKeyUsagePurpose {
    match side {
        Side::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Side::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }
}

fn params(common: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, common);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2099, 1, 1));
    params
}

fn leaf(side: Side) -> CertificateParams {
    let mut leaf = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    leaf.distinguished_name.push(DnType::CommonName, NAME);
    (leaf.not_before, leaf.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2099, 1, 1));
    leaf.extended_key_usages = vec![purpose(side)];
    leaf
}

fn authority(common: &str) -> CertificateParams {
    let mut params = params(common);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// An authority that is trusted, and its certificate.
fn root(change: impl FnOnce(&mut CertificateParams)) -> (Issuer<'static, KeyPair>, String) {
    let mut params = authority("root");
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

/// A leaf below so many authorities, each of which `change` changes.
fn chained(
    side: Side,
    (mut issuer, root): (Issuer<'static, KeyPair>, String),
    depth: usize,
    change: impl Fn(&mut CertificateParams),
    last: impl FnOnce(&mut CertificateParams),
) -> Shown {
    let mut chain = String::new();
    for number in 0..depth {
        let (mut params, key) = (authority(&format!("between {number}")), KeyPair::generate().unwrap());
        change(&mut params);
        chain = params.signed_by(&key, &issuer).unwrap().pem() + &chain;
        issuer = Issuer::new(params, key);
    }
    let (mut leaf, key) = (leaf(side), KeyPair::generate().unwrap());
    last(&mut leaf);
    let chain = leaf.signed_by(&key, &issuer).unwrap().pem() + &chain;
    Shown { chain, key: key.serialize_pem(), root }
}

fn between(side: Side, depth: usize, change: impl Fn(&mut CertificateParams)) -> Shown {
    chained(side, root(|_| {}), depth, change, |_| {})
}

fn under(side: Side, change: impl FnOnce(&mut CertificateParams)) -> Shown {
    chained(side, root(|_| {}), 0, |_| {}, change)
}

fn names(side: Side, names: &[&str]) -> Shown {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    under(side, |leaf| leaf.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names)
}

fn pem(der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}

/// Whether a request over the connection is answered. A server that wants a certificate says no after the handshake.
async fn answered(served: &Served, tls: &ClientTls) -> bool {
    let stream = TcpStream::connect(served.addr).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let Ok(mut stream) = TlsConnector::from(tls.config(false).unwrap()).connect(name, stream).await else {
        return false;
    };
    let request = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let sent = stream.write_all(request.as_bytes()).await;
    sent.is_ok() && stream.read_to_end(&mut answer).await.is_ok() && answer.starts_with(b"HTTP/1.1 ")
}

async fn taken(side: Side, shown: Shown) -> bool {
    let ours = Authority::new();
    let (cert, key) = ours.sign(NAME, 2099);
    let server = match side {
        Side::Server => (shown.chain.clone().into_bytes(), shown.key.clone().into_bytes()),
        Side::Client => (cert, key),
    };
    let clients = ClientAuth {
        authorities_pem: shown.root.clone().into_bytes(),
        revoked_pem: Vec::new(),
        domains: None,
        required: true,
    };
    let options = ServerTlsOptions {
        identities: vec![ServerIdentity::new(&server.0, &server.1)],
        clients: (side == Side::Client).then_some(clients),
        only_1_3: false,
    };
    let served = start(listen_options(Some(ServerTls::of(&options).unwrap())), Duration::from_secs(1));
    let identity = (side == Side::Client).then(|| ClientIdentity {
        cert_pem: shown.chain.into_bytes(),
        key_pem: Secret::new(shown.key.into_bytes()),
    });
    let root = if side == Side::Server { shown.root.into_bytes() } else { ours.pem };
    let tls = ClientTls { roots_pem: vec![root], only_these_roots: true, identity, ..ClientTls::default() };
    answered(&served, &tls).await
}

/// A list of revoked numbers, signed by the key and name of an authority, up to a year.
fn list(key: &KeyPair, numbers: &[u64], until: i32) -> String {
    let revoked = |number: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*number),
        revocation_time: date_time_ymd(2026, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(until, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: numbers.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&Issuer::new(listing(), key)).unwrap().pem().unwrap()
}

fn listing() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "with lists");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

#[tokio::test]
async fn a_server_whose_certificate_is_revoked_or_whose_list_is_old_or_missing_is_not_reached() {
    let (key, own, other) =
        (KeyPair::generate().unwrap(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut shown = leaf(Side::Server);
    shown.serial_number = Some(SerialNumber::from(7));
    let chain = shown.signed_by(&own, &Issuer::new(listing(), &key)).unwrap().pem();
    let tls = ServerTls::new(chain.as_bytes(), own.serialize_pem().as_bytes()).unwrap();
    let served = start(listen_options(Some(tls)), Duration::from_secs(1));
    let root = listing().self_signed(&key).unwrap().pem().into_bytes();
    for (what, lists, good) in [
        ("no list is wanted", vec![], true),
        ("another number", vec![list(&key, &[8], 2099)], true),
        ("this number", vec![list(&key, &[7, 8], 2099)], false),
        ("a list that is old", vec![list(&key, &[], 2021)], false),
        ("a list of another key", vec![list(&other, &[], 2099)], false),
    ] {
        let tls = ClientTls {
            roots_pem: vec![root.clone()],
            only_these_roots: true,
            revoked_pem: lists.into_iter().map(String::into_bytes).collect(),
            ..ClientTls::default()
        };
        assert_eq!(answered(&served, &tls).await, good, "{what}");
    }
    let emptied =
        ClientTls { revoked_pem: vec![b"\n".to_vec()], roots_pem: vec![root], ..ClientTls::default() };
    assert!(emptied.config(false).unwrap_err().to_string().contains("holds none"));
}

#[tokio::test]
async fn a_certificate_that_is_wrong_in_any_way_is_refused_from_servers_and_from_clients() {
    let mut wrong = Vec::new();
    for (what, sides, good, shown) in ROWS {
        for side in *sides {
            // A key pair that does not even load is refused before anybody sees it.
            let shown = shown(*side);
            let loads = ServerTls::new(shown.chain.as_bytes(), shown.key.as_bytes()).is_ok();
            let took = loads && taken(*side, shown).await;
            if took != *good {
                wrong.push(format!("{what}, {side:?}: taken: {took}"));
            }
            // What does not load here was not judged by the other side.
            if !loads
                && !what.contains("critical")
                && !what.contains("part of a name")
                && !what.contains("everything")
            {
                wrong.push(format!("{what}, {side:?}: does not load"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
