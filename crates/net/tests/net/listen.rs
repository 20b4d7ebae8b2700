//! The listener against clients that flood, dawdle and vanish.

use std::time::{Duration, Instant};

use portcullis_net::{listen::Bound, tls::ServerTls};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Authority, CUT_OFF, SOON, listen_options, raw, start, strict_options, took};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn the_service_learns_who_is_asking() {
    let served = start(listen_options(None), SECOND);
    let (reply, closed) = raw(served.addr, GET, SOON).await;
    assert!(closed && reply.ends_with("HTTP/1.1 tls=false loopback=true body=Ok(0)"), "{reply}");
}

#[tokio::test]
async fn too_many_or_too_large_headers_are_answered_with_431() {
    let served = start(listen_options(None), SECOND);
    let request = |fields: String| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n");
    for (fields, refused) in [
        ("a: b\r\n".repeat(62), false),
        ("a: b\r\n".repeat(63), true),
        ("a: b\r\n".repeat(99), true),
        ("a: b\r\n".repeat(5_000), true),
        (format!("a: {}\r\n", "x".repeat(32_700)), false),
        (format!("a: {}\r\n", "x".repeat(32_768)), true),
        (format!("a: {}\r\n", "x".repeat(500_000)), true),
    ] {
        let (reply, closed) = raw(served.addr, request(fields.clone()).as_bytes(), SOON).await;
        let expected = if refused { "HTTP/1.1 431 " } else { "HTTP/1.1 200 " };
        // A client that still writes when we close may see a reset instead of the answer; never a success.
        let cut = refused && fields.len() > 40_000 && reply.is_empty();
        assert!(closed && (reply.starts_with(expected) || cut), "{} {reply}", fields.len());
    }
}

#[tokio::test]
async fn a_client_that_dawdles_with_its_headers_is_cut_off() {
    let served = start(strict_options(None), SECOND);
    for start in ["", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX"] {
        let mut stream = TcpStream::connect(served.addr).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let began = Instant::now();
        // One byte at a time does not buy more time.
        while began.elapsed() < SOON {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if !start.is_empty() && stream.write_all(b"x").await.is_err() {
                break;
            }
            let mut byte = [0; 256];
            let read = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut byte)).await;
            if matches!(read, Ok(Ok(0) | Err(_))) {
                break;
            }
        }
        assert!(took(began, CUT_OFF) && began.elapsed() < SOON, "{start:?} {:?}", began.elapsed());
    }
    let served = start(listen_options(None), SECOND);
    assert!(raw(served.addr, GET, SOON).await.0.contains("200 OK"));
}

#[tokio::test]
async fn a_client_that_takes_no_bytes_is_cut_off() {
    let served = start(strict_options(None), SECOND);
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream.write_all(b"GET /big/50000000 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let mut all = Vec::new();
    let outcome = tokio::time::timeout(SOON, stream.read_to_end(&mut all)).await.expect("it ends");
    assert!(outcome.is_err() || all.len() < 50_000_000, "{}", all.len());
}

#[tokio::test]
async fn a_slow_but_steady_reader_gets_everything() {
    let served = start(listen_options(None), SECOND);
    let mut stream = TcpStream::connect(served.addr).await.unwrap();
    stream.write_all(b"GET /big/12000000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let (mut total, mut chunk) = (0, vec![0; 1_000_000]);
    loop {
        let read = stream.read(&mut chunk).await.unwrap();
        if read == 0 {
            break;
        }
        total += read;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(total > 12_000_000);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_ends() {
    let mut options = listen_options(None);
    options.connections_max = 2;
    let served = start(options, SECOND);
    let first = TcpStream::connect(served.addr).await.unwrap();
    let _second = TcpStream::connect(served.addr).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let waiting = tokio::spawn(raw(served.addr, GET, SOON));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    drop(first);
    assert!(waiting.await.unwrap().0.contains("200 OK"));
}

#[tokio::test]
async fn requests_in_flight_finish_while_new_connections_are_refused() {
    let served = start(listen_options(None), SOON);
    let slow = b"GET /slow/2500 HTTP/1.1\r\nHost: a\r\n\r\n";
    let in_flight = tokio::spawn(raw(served.addr, slow, SOON));
    let idle = tokio::spawn(raw(served.addr, b"", SOON));
    // Nothing says from outside that a request has arrived.
    tokio::time::sleep(SECOND).await;
    served.stop.send(true).unwrap();
    let due = Instant::now() + SOON;
    while TcpStream::connect(served.addr).await.is_ok() {
        assert!(Instant::now() < due, "new connections are still taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (reply, closed) = in_flight.await.unwrap();
    assert!(closed && reply.contains("200 OK"), "{reply}");
    assert!(idle.await.unwrap().1);
    assert_eq!(served.done.await.unwrap(), 0);
}

#[tokio::test]
async fn what_does_not_finish_within_the_grace_is_cut_off() {
    let served = start(listen_options(None), Duration::from_millis(200));
    let hung = tokio::spawn(raw(served.addr, b"GET /slow/60000 HTTP/1.1\r\nHost: a\r\n\r\n", SOON));
    // Nothing says from outside that a request has arrived.
    tokio::time::sleep(SECOND).await;
    let began = Instant::now();
    drop(served.stop);
    assert_eq!(served.done.await.unwrap(), 1);
    assert!(took(began, Duration::from_millis(200)), "{:?}", began.elapsed());
    assert!(hung.await.unwrap().1);
}

#[tokio::test]
async fn a_handshake_that_never_comes_is_cut_off_and_plain_http_is_not_served_on_tls() {
    let (cert, key) = Authority::new().sign("server.example", 2099);
    let served = start(strict_options(Some(ServerTls::new(&cert, &key).unwrap())), SECOND);
    let began = Instant::now();
    let (reply, closed) = raw(served.addr, b"", SOON).await;
    assert!(closed && reply.is_empty() && took(began, CUT_OFF), "{:?}", began.elapsed());
    let (reply, closed) = raw(served.addr, GET, SOON).await;
    assert!(closed && !reply.contains("HTTP"));
}

#[tokio::test]
async fn two_readings_of_where_a_request_ends_are_refused() {
    let served = start(listen_options(None), SECOND);
    for head in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nx: a\0b\r\n\r\n",
        "GET /\r\n\r\n",
    ] {
        let (reply, closed) = raw(served.addr, head.as_bytes(), SOON).await;
        assert!(closed && (reply.starts_with("HTTP/1.1 400 ") || reply.is_empty()), "{head:?} {reply}");
    }
    // Both framings at once: chunked wins, the length is dropped, and the connection is not used again.
    let both = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n";
    let (reply, _) = raw(served.addr, both.as_bytes(), SECOND).await;
    assert!(reply.matches("HTTP/1.1 200").count() <= 1, "{reply}");
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let bound = Bound::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    assert_ne!(bound.local_addr().port(), 0);
    assert!(Bound::bind(bound.local_addr()).is_err());
}

/// The other half of the next test: serves with few descriptors until its standard input ends.
#[tokio::test]
#[ignore = "run by `running_out_of_descriptors_neither_spins_nor_kills_the_listener` in a process of its own"]
async fn inner_server_with_few_descriptors() {
    let mut options = listen_options(None);
    options.header_timeout = 60 * SECOND;
    let served = start(options, SECOND);
    println!("port={}", served.addr.port());
    let _ = tokio::task::spawn_blocking(|| std::io::Read::read(&mut std::io::stdin(), &mut [0])).await;
}

#[tokio::test]
async fn running_out_of_descriptors_neither_spins_nor_kills_the_listener() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let mut inner = tokio::process::Command::new("/bin/sh")
        .args(["-c", "ulimit -n 40; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "listen::inner_server_with_few_descriptors", "--ignored", "--nocapture"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(inner.stdout.take().unwrap()).lines();
    let port = loop {
        let line = lines.next_line().await.unwrap().expect("a port");
        if let Some((_, port)) = line.split_once("port=") {
            break port.parse::<u16>().unwrap();
        }
    };
    let addr = ([127, 0, 0, 1], port).into();
    let ticks = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<u64> =
            stat.rsplit(')').next().unwrap().split(' ').filter_map(|f| f.parse().ok()).collect();
        // utime and stime, after the state and without it.
        fields[10] + fields[11]
    };
    let mut held = Vec::new();
    for _ in 0..80 {
        held.push(TcpStream::connect(addr).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (reply, _) = raw(addr, GET, Duration::from_millis(300)).await;
    assert_eq!(reply, "", "the server was to be out of descriptors");
    let before = ticks(inner.id().unwrap());
    tokio::time::sleep(SECOND).await;
    let used = ticks(inner.id().unwrap()) - before;
    assert!(used < 20, "{used} ticks of 100 in a second of waiting");
    drop(held);
    assert!(raw(addr, GET, SOON).await.0.contains("200 OK"));
}

#[test]
fn the_limit_of_open_files_is_raised_to_what_is_allowed() {
    let raised = portcullis_net::descriptors::raise_limit();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let fields: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(fields[3], fields[4]);
    assert_eq!(
        raised.map(|limit| limit.to_string()),
        Some(fields[3].to_owned()).filter(|text| text != "unlimited")
    );
}
