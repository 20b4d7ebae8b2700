//! Answers that last: written to the end or until the client is gone, in whatever way the connection was used before.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::{body::Incoming, service::service_fn};
use portcullis_net::listen::{Bound, Lasting, ListenOptions, serve};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, watch},
    time::timeout,
};

use crate::support::{Served, listen_options, strict_options};

const SOON: Duration = Duration::from_secs(20);
const GET: &[u8] = b"GET /lasting HTTP/1.1\r\nHost: a\r\n\r\n";

/// Pieces as they come.
struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// A listener whose answer at `/lasting` brings what the sender sends; any other answer is eight million `x`.
fn lasting(options: ListenOptions, grace: Duration) -> (Served, mpsc::Sender<Bytes>) {
    let (to, from) = mpsc::channel(4);
    let from = Arc::new(Mutex::new(Some(from)));
    let service = service_fn(move |request: Request<Incoming>| {
        let asked = request.uri().path() == "/lasting";
        let from = from.lock().unwrap().take_if(|_| asked);
        async move {
            let Some(from) = from else {
                let (to, from) = mpsc::channel(1);
                to.try_send(Bytes::from(vec![b'x'; 8_000_000])).unwrap();
                return Ok(Response::new(Pieces(from)));
            };
            let mut response = Response::new(Pieces(from));
            response.extensions_mut().insert(Lasting);
            Ok::<_, Infallible>(response)
        }
    });
    let bound = Bound::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = bound.local_addr();
    let (stop, stopped) = watch::channel(false);
    let done = tokio::spawn(serve(bound, options, Arc::new(service), stopped, grace));
    (Served { addr, stop, done }, to)
}

async fn until(stream: &mut TcpStream, end: &str) -> String {
    let (mut seen, mut chunk) = (Vec::new(), vec![0; 65_536]);
    timeout(SOON, async {
        while !seen.ends_with(end.as_bytes()) {
            let read = stream.read(&mut chunk).await.unwrap();
            assert!(read > 0, "it ended after {:?}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&chunk[..read]);
        }
    })
    .await
    .expect("it comes");
    String::from_utf8(seen).unwrap()
}

#[tokio::test]
async fn the_head_comes_at_once_each_piece_when_it_is_there_and_an_end_that_can_be_seen() {
    let (served, to) = lasting(listen_options(None), SOON);
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream.write_all(GET).await.unwrap();
    let head = until(&mut stream, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    for field in ["transfer-encoding: chunked\r\n", "connection: close\r\n", "date: "] {
        assert!(head.contains(field), "{head}");
    }
    for piece in ["one", "", "two and twenty characters"] {
        to.send(Bytes::from(piece)).await.unwrap();
        if !piece.is_empty() {
            let seen = until(&mut stream, &format!("{piece}\r\n")).await;
            assert_eq!(seen, format!("{:x}\r\n{piece}\r\n", piece.len()));
        }
    }
    drop(to);
    let mut rest = String::new();
    timeout(SOON, stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, "0\r\n\r\n");
}

#[tokio::test]
async fn what_was_not_yet_taken_of_an_earlier_answer_comes_first() {
    let (served, to) = lasting(listen_options(None), SOON);
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    let earlier = b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n";
    let all = [earlier.as_slice(), earlier, earlier, GET].concat();
    stream.write_all(&all).await.unwrap();
    to.send(Bytes::from_static(b"the last")).await.unwrap();
    let seen = until(&mut stream, "the last\r\n").await;
    assert_eq!(seen.matches("HTTP/1.1 200 OK").count(), 4);
    assert_eq!(seen.matches('x').count(), 24_000_000);
    assert!(seen.ends_with("\r\n\r\n8\r\nthe last\r\n"));
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_without_a_word_to_it() {
    let (served, to) = lasting(listen_options(None), SOON);
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream.write_all(GET).await.unwrap();
    until(&mut stream, "\r\n\r\n").await;
    assert!(!to.is_closed());
    drop(stream);
    timeout(SOON, to.closed()).await.expect("the body is dropped");
}

#[tokio::test]
async fn a_client_that_takes_nothing_any_more_is_cut_off() {
    let (served, to) = lasting(strict_options(None), SOON);
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream.write_all(GET).await.unwrap();
    until(&mut stream, "\r\n\r\n").await;
    let flood = async { while to.send(Bytes::from(vec![b'x'; 100_000])).await.is_ok() {} };
    timeout(SOON, flood).await.expect("the body is dropped");
}

#[tokio::test]
async fn a_client_that_goes_on_talking_is_not_heard_and_in_the_end_cut_off() {
    let (served, to) = lasting(strict_options(None), SOON);
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream.write_all(&[GET, GET].concat()).await.unwrap();
    let head = until(&mut stream, "\r\n\r\n").await;
    to.send(Bytes::from_static(b"still")).await.unwrap();
    assert_eq!(until(&mut stream, "still\r\n").await, "5\r\nstill\r\n", "after {head}");
    while stream.write_all(&[b'x'; 10_000]).await.is_ok() && !to.is_closed() {
        tokio::task::yield_now().await;
    }
    timeout(SOON, to.closed()).await.expect("the body is dropped");
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_it_without_chunks() {
    let (served, to) = lasting(listen_options(None), SOON);
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream.write_all(b"GET /lasting HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
    let head = until(&mut stream, "\r\n\r\n").await;
    assert!(!head.to_ascii_lowercase().contains("chunked"), "{head}");
    to.send(Bytes::from_static(b"plain")).await.unwrap();
    drop(to);
    let mut rest = String::new();
    timeout(SOON, stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, "plain");
}

#[tokio::test]
async fn it_holds_its_place_among_the_connections_until_it_ends_and_is_cut_off_at_a_stop() {
    let mut options = listen_options(None);
    options.connections_max = 1;
    let (served, to) = lasting(options, Duration::from_millis(100));
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream.write_all(GET).await.unwrap();
    until(&mut stream, "\r\n\r\n").await;
    let mut second = TcpStream::connect(served.addr).await.unwrap();
    second.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let early = timeout(Duration::from_millis(300), second.read_u8()).await;
    assert!(early.is_err(), "the second was served while the only place was taken");
    drop(to);
    until(&mut second, "\r\n\r\n").await;
    drop((stream, second));

    let (served, _to) = lasting(listen_options(None), Duration::from_millis(100));
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream.write_all(GET).await.unwrap();
    until(&mut stream, "\r\n\r\n").await;
    served.stop.send(true).unwrap();
    assert_eq!(timeout(SOON, served.done).await.unwrap().unwrap(), 1);
}
