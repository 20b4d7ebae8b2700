//! Certificates of a listener: what is accepted, and their replacement under way.

use std::{sync::Arc, time::Duration};

use portcullis_net::tls::{
    ClientTls, ServerIdentity, ServerTls, ServerTlsOptions, TlsError, client_config, pin_of,
};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{Authority, Served, listen_options, start};

async fn connect(served: &Served, authority: &Authority) -> std::io::Result<TlsStream<TcpStream>> {
    let config = client_config(std::slice::from_ref(&authority.pem), true).unwrap();
    let stream = TcpStream::connect(served.addr).await?;
    TlsConnector::from(config).connect(ServerName::try_from("server.example").unwrap(), stream).await
}

fn leaf(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_new_certificate_serves_new_handshakes_and_a_bad_one_changes_nothing() {
    let authority = Authority::new();
    let (first_cert, first_key) = authority.sign("server.example", 2099);
    let (second_cert, second_key) = authority.sign("server.example", 2099);
    let tls = ServerTls::new(&first_cert, &first_key).unwrap();
    let served = start(listen_options(Some(tls.clone())), Duration::from_secs(1));
    let before = connect(&served, &authority).await.unwrap();

    for (cert, key) in [(&second_cert, &first_key), (&first_key, &first_key), (&b"".to_vec(), &second_key)] {
        assert!(tls.reload(&[ServerIdentity::new(cert, key)]).is_err());
    }
    assert_eq!(leaf(&connect(&served, &authority).await.unwrap()), leaf(&before));

    tls.reload(&[ServerIdentity::new(&second_cert, &second_key)]).unwrap();
    let after = connect(&served, &authority).await.unwrap();
    assert_ne!(leaf(&after), leaf(&before));
}

#[test]
fn unusable_pairs_are_refused_with_their_reason() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("server.example", 2099);
    let (_, other_key) = authority.sign("server.example", 2099);
    assert!(matches!(ServerTls::new(&cert, &other_key), Err(TlsError::Pair(_))));
    assert!(matches!(ServerTls::new(b"nonsense", &key), Err(TlsError::Certificate(_))));
    assert!(matches!(ServerTls::new(&key, &key), Err(TlsError::Certificate(_))));
    assert!(matches!(ServerTls::new(&cert, &cert), Err(TlsError::Key(_))));
    assert!(matches!(client_config(&[b"nonsense".to_vec()], false), Err(TlsError::Certificate(_))));
}

#[test]
fn neither_side_offers_anything_older_than_tls_1_2() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("server.example", 2099);
    let server = ServerTls::new(&cert, &key).unwrap().config();
    assert_eq!(server.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    let client = client_config(&[authority.pem], false).unwrap();
    assert_eq!(client.alpn_protocols, [b"http/1.1".to_vec()]);
    for suite in server.crypto_provider().cipher_suites.iter().chain(&client.crypto_provider().cipher_suites)
    {
        let version = suite.version().version;
        assert!(matches!(version, rustls::ProtocolVersion::TLSv1_2 | rustls::ProtocolVersion::TLSv1_3));
    }
}

#[tokio::test]
async fn application_protocols_are_negotiated_and_version_1_3_is_chosen() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("server.example", 2099);
    let served = start(listen_options(Some(ServerTls::new(&cert, &key).unwrap())), Duration::from_secs(1));
    for (http2, expected) in [(true, b"h2".to_vec()), (false, b"http/1.1".to_vec())] {
        let config = client_config(std::slice::from_ref(&authority.pem), http2).unwrap();
        let stream = TcpStream::connect(served.addr).await.unwrap();
        let name = ServerName::try_from("server.example").unwrap();
        let stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&expected[..]));
        assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    }
}

async fn shown(
    served: &Served,
    config: Arc<rustls::ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(served.addr).await?;
    TlsConnector::from(config).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

/// Takes down what a server shows beside its certificate.
#[derive(Debug)]
struct Stapled(std::sync::Mutex<Vec<u8>>, Arc<rustls::client::WebPkiServerVerifier>);

impl rustls::client::danger::ServerCertVerifier for Stapled {
    fn verify_server_cert(
        &self,
        leaf: &rustls::pki_types::CertificateDer<'_>,
        rest: &[rustls::pki_types::CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = ocsp.to_vec();
        self.1.verify_server_cert(leaf, rest, name, ocsp, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.1.verify_tls12_signature(message, leaf, signed)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.1.verify_tls13_signature(message, leaf, signed)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.1.supported_verify_schemes()
    }
}

#[tokio::test]
async fn each_name_gets_its_certificate_and_who_asks_for_none_of_them_the_first() {
    let authority = Authority::new();
    let names = ["server.example", "other.example"];
    let pairs = names.map(|name| authority.sign(name, 2099));
    let mut identities: Vec<_> = pairs.iter().map(|(cert, key)| ServerIdentity::new(cert, key)).collect();
    identities[1].ocsp = Some(b"what the authority said".to_vec());
    let tls = ServerTls::of(&ServerTlsOptions { identities, ..ServerTlsOptions::default() }).unwrap();
    let served = start(listen_options(Some(tls)), Duration::from_secs(1));
    let config = client_config(std::slice::from_ref(&authority.pem), true).unwrap();
    let mut leaves = Vec::new();
    for name in names {
        leaves.push(leaf(&shown(&served, Arc::clone(&config), name).await.unwrap()));
    }
    assert_ne!(leaves[0], leaves[1]);
    assert!(shown(&served, config, "third.example").await.is_err(), "the first one is not for that name");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(&authority.pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let stapled = Arc::new(Stapled(Default::default(), verifier.build().unwrap()));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&stapled) as _)
        .with_no_client_auth();
    let config = Arc::new(config);
    for (name, response) in [(names[0], &b""[..]), (names[1], b"what the authority said")] {
        shown(&served, Arc::clone(&config), name).await.unwrap();
        assert_eq!(*stapled.0.lock().unwrap(), response, "{name}");
    }
}

#[tokio::test]
async fn both_sides_agree_on_a_key_exchange_that_outlives_quantum_computers_and_resume_with_tickets() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("server.example", 2099);
    let served = start(listen_options(Some(ServerTls::new(&cert, &key).unwrap())), Duration::from_secs(1));
    let config = client_config(std::slice::from_ref(&authority.pem), false).unwrap();
    let mut kinds = Vec::new();
    for _ in 0..2 {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = shown(&served, Arc::clone(&config), "server.example").await.unwrap();
        // Tickets come with the first bytes of an answer.
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: server.example\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        let _cut = stream.read_to_end(&mut answer).await;
        let connection = stream.get_ref().1;
        let group = connection.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
        kinds.push(connection.handshake_kind().unwrap());
    }
    assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
}

#[tokio::test]
async fn nothing_older_than_wanted_is_spoken_on_either_side() {
    let authority = Authority::new();
    let (cert, key) = authority.sign("server.example", 2099);
    let old = |roots: &[u8]| {
        let mut store = rustls::RootCertStore::empty();
        store.add(rustls::pki_types::pem::PemObject::from_pem_slice(roots).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
        Arc::new(builder.with_root_certificates(store).with_no_client_auth())
    };
    for (only_1_3, good) in [(false, true), (true, false)] {
        let identities = vec![ServerIdentity::new(&cert, &key)];
        let options = ServerTlsOptions { identities, only_1_3, ..ServerTlsOptions::default() };
        let served = start(listen_options(Some(ServerTls::of(&options).unwrap())), Duration::from_secs(1));
        assert_eq!(shown(&served, old(&authority.pem), "server.example").await.is_ok(), good, "{only_1_3}");
        let wanted =
            ClientTls { roots_pem: vec![authority.pem.clone()], only_1_3: true, ..ClientTls::default() };
        assert!(shown(&served, wanted.config(false).unwrap(), "server.example").await.is_ok());
    }
}

#[tokio::test]
async fn a_server_is_taken_by_its_own_roots_alone_and_only_with_a_key_that_is_pinned() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (cert, key) = authority.sign("server.example", 2099);
    let (other, _) = authority.sign("server.example", 2099);
    let served = start(listen_options(Some(ServerTls::new(&cert, &key).unwrap())), Duration::from_secs(1));
    let (own, root) = (pin_of(&cert).unwrap(), pin_of(&authority.pem).unwrap());
    for (roots, pins, good) in [
        (&authority, vec![], true),
        (&authority, vec![own], true),
        (&authority, vec![pin_of(&other).unwrap(), own], true),
        (&authority, vec![pin_of(&other).unwrap()], false),
        // The key of an authority is not the server's.
        (&authority, vec![root], false),
        (&stranger, vec![own], false),
    ] {
        let tls = ClientTls {
            roots_pem: vec![roots.pem.clone()],
            only_these_roots: true,
            pins: pins.clone(),
            ..ClientTls::default()
        };
        let connected = shown(&served, tls.config(false).unwrap(), "server.example").await;
        assert_eq!(connected.is_ok(), good, "{} pins", pins.len());
    }
    let none = ClientTls { only_these_roots: true, ..ClientTls::default() };
    assert!(matches!(none.config(false), Err(TlsError::Roots)));
}
