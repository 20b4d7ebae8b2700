//! HTTP/2 spoken by hand, to send what no client library would.

use std::time::Duration;

use portcullis_net::tls::{ServerTls, client_config};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{Authority, Served, listen_options, start};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET https://a/`, from the static table, and further literal fields.
fn get(fields: usize) -> Vec<u8> {
    let mut block = vec![0x82, 0x84, 0x87, 0x41, 1, b'a'];
    for _ in 0..fields {
        block.extend_from_slice(&[0x00, 1, b'x', 1, b'y']);
    }
    block
}

async fn open() -> (Served, TlsStream<TcpStream>) {
    let authority = Authority::new();
    let (cert, key) = authority.sign("server.example", 2099);
    let served = start(listen_options(Some(ServerTls::new(&cert, &key).unwrap())), Duration::from_secs(1));
    let stream = TcpStream::connect(served.addr).await.unwrap();
    let config = client_config(&[authority.pem], true).unwrap();
    let name = ServerName::try_from("server.example").unwrap();
    let mut stream = TlsConnector::from(config).connect(name, stream).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    (served, stream)
}

/// Longer than the slowest answer takes here.
const QUIET: Duration = Duration::from_secs(4);

/// Frames until the server closes, or nothing comes for a while: kind, stream and payload.
async fn frames(stream: &mut TlsStream<TcpStream>) -> (Vec<(u8, u32, Vec<u8>)>, bool) {
    let mut seen = Vec::new();
    loop {
        let mut head = [0; 9];
        match tokio::time::timeout(QUIET, stream.read_exact(&mut head)).await {
            Err(_silence) => return (seen, false),
            Ok(Err(_closed)) => return (seen, true),
            Ok(Ok(_)) => {}
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        if stream.read_exact(&mut payload).await.is_err() {
            return (seen, true);
        }
        seen.push((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload));
    }
}

fn went_away(seen: &[(u8, u32, Vec<u8>)]) -> bool {
    seen.iter().any(|(kind, _, _)| *kind == GOAWAY)
}

#[tokio::test]
async fn a_request_written_by_hand_is_answered() {
    let (_served, mut stream) = open().await;
    stream.write_all(&frame(HEADERS, 5, 1, &get(3))).await.unwrap();
    let (seen, _) = frames(&mut stream).await;
    let answer = seen.iter().find(|(kind, stream, _)| (*kind, *stream) == (HEADERS, 1)).expect("an answer");
    assert_eq!(answer.2[0], 0x88, "200 of the static table");
}

#[tokio::test]
async fn too_many_fields_are_answered_with_431_and_too_large_ones_end_the_stream() {
    let (_served, mut stream) = open().await;
    stream.write_all(&frame(HEADERS, 5, 1, &get(65))).await.unwrap();
    let (seen, _) = frames(&mut stream).await;
    let answer = seen.iter().find(|(kind, stream, _)| (*kind, *stream) == (HEADERS, 1)).expect("an answer");
    assert!(answer.2.windows(3).any(|text| text == b"431") || answer.2.contains(&0x48), "{:?}", answer.2);
    assert_ne!(answer.2[0], 0x88);

    let (_served, mut stream) = open().await;
    stream.write_all(&frame(HEADERS, 5, 1, &get(3_000))).await.unwrap();
    let (seen, _) = frames(&mut stream).await;
    let served =
        seen.iter().any(|(kind, stream, block)| (*kind, *stream) == (HEADERS, 1) && block[0] == 0x88);
    assert!(!served && !seen.is_empty(), "{seen:?}");
}

#[tokio::test]
async fn streams_opened_and_reset_at_once_end_the_connection() {
    let (_served, mut stream) = open().await;
    let mut flood = Vec::new();
    for stream in (1..2_000).step_by(2) {
        flood.extend(frame(HEADERS, 5, stream, &get(0)));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    let _closed_early = stream.write_all(&flood).await;
    let (seen, closed) = frames(&mut stream).await;
    assert!(closed && went_away(&seen), "{closed} {seen:?}");
}

#[tokio::test]
async fn streams_made_to_fail_by_protocol_errors_end_the_connection() {
    let (_served, mut stream) = open().await;
    let mut flood = Vec::new();
    for stream in (1..2_000).step_by(2) {
        flood.extend(frame(HEADERS, 5, stream, &get(0)));
        // A window update of zero is a stream error: the server has to reset.
        flood.extend(frame(8, 0, stream, &[0; 4]));
    }
    let _closed_early = stream.write_all(&flood).await;
    let (seen, closed) = frames(&mut stream).await;
    let answered = seen.iter().filter(|(kind, _, _)| *kind == HEADERS).count();
    assert!(closed || went_away(&seen), "{answered}");
}

#[tokio::test]
async fn headers_without_end_end_the_connection() {
    let (_served, mut stream) = open().await;
    let _closed_early = stream.write_all(&frame(HEADERS, 1, 1, &get(10))).await;
    for _ in 0..10_000 {
        if stream.write_all(&frame(CONTINUATION, 0, 1, &get(100)[6..])).await.is_err() {
            break;
        }
    }
    let (seen, closed) = frames(&mut stream).await;
    assert!(closed || went_away(&seen), "{seen:?}");
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_and_the_connection_lives() {
    let (_served, mut stream) = open().await;
    let (settings, _) = frames(&mut stream).await;
    let announced = settings.iter().find(|(kind, _, _)| *kind == SETTINGS).expect("settings");
    // Setting 3 is the number of concurrent streams.
    assert!(announced.2.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 128]), "{announced:?}");
    stream.write_all(&frame(SETTINGS, 1, 0, &[])).await.unwrap();
    let slow = [&[0x82, 0x87, 0x41, 1, b'a', 0x04, 10][..], b"/slow/1500"].concat();
    let requests: Vec<u8> = (1..400).step_by(2).flat_map(|stream| frame(HEADERS, 5, stream, &slow)).collect();
    stream.write_all(&requests).await.unwrap();
    stream.write_all(&frame(PING, 0, 0, &[7; 8])).await.unwrap();
    let (seen, closed) = frames(&mut stream).await;
    // Error 7 says that nothing was done for the stream.
    let refused =
        seen.iter().filter(|(kind, _, reason)| *kind == RST_STREAM && reason[..] == [0, 0, 0, 7]).count();
    let answered = seen.iter().filter(|(kind, _, block)| *kind == HEADERS && block[0] == 0x88).count();
    assert_eq!((answered, refused, closed), (128, 72, false));
    assert!(seen.iter().any(|(kind, _, payload)| *kind == PING && payload[..] == [7; 8]));
}
