//! The guarded client against upstreams that misbehave in every way we know.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use portcullis_net::{
    body::{BodyError, read_bounded},
    client::{ClientError, FetchError, HttpUpstream, get_bounded},
    guard::{EgressPolicy, GuardError},
    tls::ServerTls,
};
use tokio::net::TcpListener;
use url::Url;

use crate::support::{
    Act::{Close, Read, Reset, Say, SayOwned, Wait},
    Authority, GIVEN_UP, LOOPBACK, Names, SOON, Scripted, eventually, listen_options, start, took,
    upstream_options,
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn post() -> Request<Full<Bytes>> {
    Request::post("/anything").body(Full::new(Bytes::from_static(b"{}"))).unwrap()
}

fn upstream(peer: &Scripted) -> HttpUpstream {
    HttpUpstream::new(&peer.url(), &upstream_options()).unwrap()
}

async fn exchange(upstream: &HttpUpstream) -> Result<Bytes, ClientError> {
    let response = upstream.send(post()).await?;
    Ok(response
        .into_body()
        .collect()
        .await
        .map_err(|error| ClientError::Protocol(error.to_string()))?
        .to_bytes())
}

#[tokio::test]
async fn answers_arrive_from_the_configured_address() {
    let peer = Scripted::start(vec![Read, Say(OK)]).await;
    assert_eq!(exchange(&upstream(&peer)).await.unwrap(), "hi");
}

#[tokio::test]
async fn a_request_goes_to_the_configured_url_whatever_it_says_itself() {
    let served = start(listen_options(None), Duration::from_secs(1));
    let url: Url = format!("http://{}/big/7", served.addr).parse().unwrap();
    let upstream = HttpUpstream::new(&url, &upstream_options()).unwrap();
    let request = Request::post("http://169.254.169.254/latest")
        .header("host", "169.254.169.254")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let response = upstream.send(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "xxxxxxx");
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let peer = Scripted::start(vec![Read, Say(OK), Read, Say(OK), Read, Say(OK)]).await;
    let upstream = upstream(&peer);
    for _ in 0..3 {
        exchange(&upstream).await.unwrap();
    }
    assert_eq!((peer.connections(), peer.heads()), (1, 3));
}

#[tokio::test]
async fn a_pooled_connection_that_died_while_idle_costs_no_call() {
    let peer = Scripted::start(vec![Read, Say(OK), Close]).await;
    let upstream = upstream(&peer);
    for _ in 0..3 {
        assert_eq!(exchange(&upstream).await.unwrap(), "hi");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!((peer.connections(), peer.heads()), (3, 3));
}

#[tokio::test]
async fn a_request_that_may_have_arrived_is_not_sent_again() {
    let peer = Scripted::start(vec![Read, Say(OK), Read, Close]).await;
    let upstream = upstream(&peer);
    exchange(&upstream).await.unwrap();
    let error = exchange(&upstream).await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol(_)) && !error.nothing_sent(), "{error}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((peer.connections(), peer.heads()), (1, 2));
}

#[tokio::test]
async fn a_silent_upstream_is_given_up_in_time_and_its_connection_closed() {
    for script in [vec![], vec![Read], vec![Read, Say(b"HTTP/1.1 200 OK\r\nContent-Le")]] {
        let peer = Scripted::start(script).await;
        let began = Instant::now();
        let error = exchange(&upstream(&peer)).await.unwrap_err();
        assert!(matches!(error, ClientError::FirstByteTimeout), "{error}");
        assert!(took(began, GIVEN_UP), "{:?}", began.elapsed());
        eventually("closed", || peer.gone.load(Ordering::SeqCst) == 1).await;
    }
}

#[tokio::test]
async fn broken_answers_are_errors_and_not_hangs() {
    let many = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".repeat(1_000), b"\r\n".to_vec()].concat();
    let huge = [b"HTTP/1.1 200 OK\r\na: ".to_vec(), vec![b'x'; 1_000_000], b"\r\n\r\n".to_vec()].concat();
    for (what, script) in [
        ("reset in the head", vec![Read, Say(b"HTTP/1.1 2"), Reset]),
        ("close in the head", vec![Read, Say(b"HTTP/1.1 2"), Close]),
        ("close without a word", vec![Read, Close]),
        ("close in the body", vec![Read, Say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"), Close]),
        (
            "reset in the body",
            vec![Read, Say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"), Wait(50), Reset],
        ),
        (
            "broken chunk",
            vec![Read, Say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhi"), Close],
        ),
        (
            "two lengths",
            vec![Read, Say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi"), Close],
        ),
        ("not http", vec![Read, Say(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), Close]),
        ("http 0.9", vec![Read, Say(b"hi"), Close]),
        ("many headers", vec![Read, SayOwned(many)]),
        ("huge header", vec![Read, SayOwned(huge)]),
    ] {
        let peer = Scripted::start(script).await;
        let error = exchange(&upstream(&peer)).await.expect_err(what);
        assert!(matches!(error, ClientError::Protocol(_)), "{what}: {error:?}");
        assert_eq!(peer.heads(), 1, "{what}");
    }
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limits_and_not_beyond() {
    let slow = vec![Read, Say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nh"), Wait(90_000)];
    let endless = vec![Read, Say(b"HTTP/1.1 200 OK\r\n\r\n"), SayOwned(vec![b'x'; 4_000_000])];
    let declared = vec![Read, Say(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n"), Wait(90_000)];
    for (script, expected) in [(slow, "time"), (endless, "larger"), (declared, "larger")] {
        let peer = Scripted::start(script).await;
        let body = upstream(&peer).send(post()).await.unwrap().into_body();
        let began = Instant::now();
        let error = read_bounded(body, 100_000, GIVEN_UP).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(began.elapsed() < SOON);
    }
    let peer = Scripted::start(vec![
        Read,
        Say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"),
        Wait(20),
        Say(b"1\r\nc\r\n3\r\ndef\r\n0\r\n\r\n"),
    ])
    .await;
    let body = upstream(&peer).send(post()).await.unwrap().into_body();
    assert_eq!(read_bounded(body, 6, SOON).await.unwrap(), "abcdef");
}

#[tokio::test]
async fn a_body_in_any_number_of_frames_is_read_whole() {
    for frames in 0..6_u8 {
        let parts =
            (0..frames).map(|n| Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from(vec![n; 3]))));
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(parts));
        let read = read_bounded(body, 15, SOON).await.unwrap();
        assert_eq!(read, (0..frames).flat_map(|n| [n; 3]).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn dropping_the_call_or_its_body_closes_the_upstream_connection() {
    let peer = Scripted::start(vec![Read]).await;
    let call = upstream(&peer);
    let task = tokio::spawn(async move { exchange(&call).await });
    eventually("head", || peer.heads() == 1).await;
    task.abort();
    eventually("closed", || peer.gone.load(Ordering::SeqCst) == 1).await;

    let stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
    let peer = Scripted::start(vec![Read, Say(stream)]).await;
    let response = upstream(&peer).send(post()).await.unwrap();
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
    drop(body);
    eventually("closed", || peer.gone.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn connection_errors_are_told_apart() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let upstream =
        HttpUpstream::new(&format!("http://{unused}/").parse().unwrap(), &upstream_options()).unwrap();
    let error = upstream.send(post()).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect(_)) && error.nothing_sent(), "{error:?}");

    // The handshake belongs to connecting: this peer takes the connection and says nothing.
    let peer = Scripted::start(vec![]).await;
    let authority = Authority::new();
    let mut options = upstream_options();
    options.first_byte_timeout = SOON;
    options.tls.roots_pem = vec![authority.pem];
    let url = format!("https://{}/", peer.addr).parse().unwrap();
    let began = Instant::now();
    let error = HttpUpstream::new(&url, &options).unwrap().send(post()).await.unwrap_err();
    assert!(matches!(error, ClientError::ConnectTimeout), "{error:?}");
    assert!(took(began, GIVEN_UP), "{:?}", began.elapsed());

    let url = "http://public.example/".parse().unwrap();
    let upstream = HttpUpstream::with_resolver(&url, &upstream_options(), Names::new(&[&[]])).unwrap();
    let error = upstream.send(post()).await.unwrap_err();
    assert!(matches!(error, ClientError::Guard(GuardError::Unresolved(_))), "{error:?}");
}

#[tokio::test]
async fn certificates_are_verified() {
    let (ours, other) = (Authority::new(), Authority::new());
    for (what, name, year, trusted, works) in [
        ("good", "server.example", 2099, &ours, true),
        ("unknown authority", "server.example", 2099, &other, false),
        ("other name", "evil.example", 2099, &ours, false),
        ("expired", "server.example", 2021, &ours, false),
    ] {
        let (cert, key) = ours.sign(name, year);
        let served =
            start(listen_options(Some(ServerTls::new(&cert, &key).unwrap())), Duration::from_secs(1));
        for http2 in [false, true] {
            let mut options = upstream_options();
            options.tls.roots_pem = vec![trusted.pem.clone()];
            options.http2 = http2;
            let url = format!("https://server.example:{}/", served.addr.port()).parse().unwrap();
            let upstream =
                HttpUpstream::with_resolver(&url, &options, Names::new(&[&["127.0.0.1"]])).unwrap();
            let outcome = exchange(&upstream).await;
            if works {
                let version = if http2 { "HTTP/2.0" } else { "HTTP/1.1" };
                let text = String::from_utf8(outcome.unwrap().to_vec()).unwrap();
                assert_eq!(text, format!("{version} tls=true loopback=true body=Ok(2)"));
            } else {
                assert!(matches!(outcome, Err(ClientError::Tls(_))), "{what}: {outcome:?}");
            }
        }
    }
}

#[tokio::test]
async fn no_redirect_is_ever_followed() {
    let target = Scripted::start(vec![Read, Say(OK)]).await;
    for (status, location) in [
        ("302 Found", "http://169.254.169.254/".to_owned()),
        ("301 Moved Permanently", target.url().to_string()),
        ("307 Temporary Redirect", target.url().to_string()),
        ("308 Permanent Redirect", "/mcp".to_owned()),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let peer = Scripted::start(vec![Read, SayOwned(answer.into_bytes())]).await;
        let response = upstream(&peer).send(post()).await.unwrap();
        assert!(response.status().is_redirection());
        let fetched = get_bounded(&peer.url(), &LOOPBACK, &[], 1_000, SOON).await;
        assert!(matches!(fetched, Err(FetchError::Status(status)) if status.is_redirection()));
        assert_eq!(peer.heads(), 2);
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn a_name_is_resolved_once_and_the_checked_address_is_the_one_connected_to() {
    let peer = Scripted::start(vec![Read, Say(OK), Close]).await;
    let names = Names::new(&[&["127.0.0.1"], &["169.254.169.254"]]);
    let url = format!("http://public.example:{}/", peer.addr.port()).parse().unwrap();
    let resolver = Arc::clone(&names);
    let upstream = HttpUpstream::with_resolver(&url, &upstream_options(), resolver).unwrap();
    assert_eq!(exchange(&upstream).await.unwrap(), "hi");
    assert_eq!(names.asked.load(Ordering::SeqCst), 1);
    // The next connection asks again, and is refused for the answer it gets.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let error = exchange(&upstream).await.unwrap_err();
    assert!(matches!(error, ClientError::Guard(GuardError::Address(..))), "{error:?}");
}

#[tokio::test]
async fn a_name_with_one_forbidden_address_is_refused_whole() {
    let peer = Scripted::start(vec![Read, Say(OK)]).await;
    let url: Url = format!("http://public.example:{}/", peer.addr.port()).parse().unwrap();
    for answer in
        [&["127.0.0.1", "10.0.0.1"][..], &["fd00::1", "127.0.0.1"], &["10.0.0.1"], &["127.0.0.1", "::"]]
    {
        let upstream = HttpUpstream::with_resolver(&url, &upstream_options(), Names::new(&[answer])).unwrap();
        let error = upstream.send(post()).await.unwrap_err();
        assert!(matches!(error, ClientError::Guard(GuardError::Address(..))), "{answer:?}: {error:?}");
    }
    assert_eq!(peer.connections(), 0);
    let strict = EgressPolicy::default();
    for url in
        ["https://127.0.0.1/", "http://public.example/", "https://localhost/", "https://a:b@public.example/"]
    {
        let mut options = upstream_options();
        options.egress = strict;
        let refused = HttpUpstream::new(&url.parse().unwrap(), &options);
        assert!(matches!(refused, Err(ClientError::Guard(_))), "{url}");
    }
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_does_not_answer() {
    let peer = Scripted::start(vec![Read, Say(OK)]).await;
    let url = format!("http://public.example:{}/", peer.addr.port()).parse().unwrap();
    // Nothing listens on this port of the first address.
    let names = Names::new(&[&["127.0.0.77", "127.0.0.1"]]);
    let upstream = HttpUpstream::with_resolver(&url, &upstream_options(), names).unwrap();
    assert_eq!(exchange(&upstream).await.unwrap(), "hi");
}

#[tokio::test]
async fn proxy_variables_of_the_environment_are_ignored() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", proxy.local_addr().unwrap());
    let mut again = tokio::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "client::answers_arrive_from_the_configured_address"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        again.env(name, &at);
    }
    let ran = again.output().await.unwrap();
    assert!(ran.status.success() && String::from_utf8_lossy(&ran.stdout).contains("1 passed"));
    let asked = tokio::time::timeout(Duration::from_millis(50), proxy.accept()).await;
    assert!(asked.is_err(), "the proxy was asked");
}

#[tokio::test]
async fn documents_are_fetched_within_bounds() {
    let fetch = async |script: Vec<crate::support::Act>| {
        let peer = Scripted::start(script).await;
        get_bounded(&peer.url(), &LOOPBACK, &[], 10, GIVEN_UP).await
    };
    assert_eq!(fetch(vec![Read, Say(OK)]).await.unwrap(), "hi");
    let large = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";
    assert!(matches!(fetch(vec![Read, Say(large)]).await, Err(FetchError::Body(BodyError::TooLarge(10)))));
    let unbounded = b"HTTP/1.1 200 OK\r\n\r\nhello world";
    assert!(matches!(
        fetch(vec![Read, Say(unbounded), Close]).await,
        Err(FetchError::Body(BodyError::TooLarge(10)))
    ));
    let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    assert!(matches!(fetch(vec![Read, Say(missing)]).await, Err(FetchError::Status(StatusCode::NOT_FOUND))));
    let began = Instant::now();
    let slow = fetch(vec![Read, Say(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nh"), Wait(90_000)]).await;
    assert!(slow.is_err() && began.elapsed() < SOON, "{slow:?}");
}
