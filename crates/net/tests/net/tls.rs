//! Certificates of a listener: what is accepted, and their replacement under way.

use std::{sync::Arc, time::Duration};

use portcullis_net::tls::{ServerTls, TlsError, client_config};
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
        assert!(tls.reload(cert, key).is_err());
    }
    assert_eq!(leaf(&connect(&served, &authority).await.unwrap()), leaf(&before));

    tls.reload(&second_cert, &second_key).unwrap();
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
