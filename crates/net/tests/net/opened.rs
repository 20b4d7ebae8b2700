//! Answers that last, read on connections of their own, from servers that say exactly these bytes.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use portcullis_net::client::{ClientError, HttpUpstream};

use crate::support::{
    Act::{self, Close, Read, Say, SayOwned, Wait},
    Scripted, eventually, listen_options, start, upstream_options,
};

fn request(method: &str, body: &'static str) -> Request<Bytes> {
    let request = Request::builder().method(method).uri("/").header("content-length", "999");
    request.body(Bytes::from_static(body.as_bytes())).unwrap()
}

/// Status and body, or that the body broke off after so much of it.
async fn opened(script: Vec<Act>) -> Result<(StatusCode, Result<String, String>), ClientError> {
    let peer = Scripted::start(script).await;
    let upstream = HttpUpstream::new(&peer.url(), &upstream_options()).unwrap();
    let (head, mut body) = upstream.open(request("GET", "")).await?.into_parts();
    let mut seen = String::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => seen.push_str(str::from_utf8(&frame.into_data().unwrap()).unwrap()),
            Err(_) => return Ok((head.status, Err(seen))),
        }
    }
    Ok((head.status, Ok(seen)))
}

#[tokio::test]
async fn a_body_ends_where_its_head_says_and_nowhere_else() {
    let whole: &[(&[&str], Result<&str, &str>)] = &[
        (&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"], Ok("hi")),
        (
            &[
                "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r",
                "\n2\r\nh",
                "i\r\n3;x\r\n yo\r\n0\r\nT: t\r\n\r\n",
            ],
            Ok("hi yo"),
        ),
        (&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"], Err("hi")),
        (&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nno chunk"], Err("hi")),
        (&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more"], Ok("hi")),
        (&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi"], Ok("hi")),
        (&["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi"], Err("hi")),
        (&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], Ok("")),
        (&["HTTP/1.0 200 OK\r\n\r\n", "to the ", "end"], Ok("to the end")),
        (
            &["HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"],
            Ok("hi"),
        ),
        (&["HTTP/1.1 204 No Content\r\n\r\nno body"], Ok("")),
    ];
    for (said, body) in whole {
        let mut script = vec![Read];
        script.extend(said.iter().flat_map(|part| [Say(part.as_bytes()), Wait(5)]));
        script.push(Close);
        let (status, seen) = opened(script).await.unwrap_or_else(|error| panic!("{said:?}: {error}"));
        assert!(status.is_success());
        assert_eq!(seen.as_deref().map_err(String::as_str), *body, "{said:?}");
    }
}

#[tokio::test]
async fn a_head_with_two_readings_or_none_is_an_error() {
    let heads: &[&[u8]] = &[
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: a\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 200 OK\n\nbare",
    ];
    for head in heads {
        let outcome = opened(vec![Read, Say(head), Close]).await;
        assert!(matches!(outcome, Err(ClientError::Protocol(_))), "{}", String::from_utf8_lossy(head));
    }
    let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(1_000));
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(70_000));
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(5_000);
    for said in [fields, long, interim] {
        let outcome = opened(vec![Read, SayOwned(said.into_bytes()), Close]).await;
        assert!(matches!(outcome, Err(ClientError::Protocol(_))), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up_in_time_and_a_silent_stream_is_not() {
    assert!(matches!(opened(vec![Read]).await, Err(ClientError::FirstByteTimeout)));
    assert!(matches!(opened(vec![Read, Say(b"HTTP/1.1 200")]).await, Err(ClientError::FirstByteTimeout)));
    let late = vec![
        Read,
        Say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        // Longer than the first byte may take.
        Wait(900),
        Say(b"4\r\nlate\r\n0\r\n\r\n"),
    ];
    assert_eq!(opened(late).await.unwrap().1.unwrap(), "late");
}

#[tokio::test]
async fn dropping_the_body_closes_the_connection() {
    let peer =
        Scripted::start(vec![Read, Say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")])
            .await;
    let upstream = HttpUpstream::new(&peer.url(), &upstream_options()).unwrap();
    let mut response = upstream.open(request("GET", "")).await.unwrap();
    assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "hi");
    drop(response);
    eventually("the connection ends", || peer.gone.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn it_carries_its_body_whole_to_the_configured_address_however_long_it_says_it_is() {
    let served = start(listen_options(None), Duration::from_secs(1));
    let url = format!("http://{}/echo", served.addr).parse().unwrap();
    let upstream = HttpUpstream::new(&url, &upstream_options()).unwrap();
    let mut request = request("POST", "{}");
    *request.uri_mut() = "http://169.254.169.254/latest".parse().unwrap();
    let response = upstream.open(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "HTTP/1.1 tls=false loopback=true body=Ok(2)");
}
