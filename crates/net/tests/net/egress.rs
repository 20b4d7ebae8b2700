//! The egress proxy against names that lie: each is looked up once, and what it resolves to is judged.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_core::Entropy;
use portcullis_net::{
    client::Resolve,
    egress::{EgressProxy, Lease},
    incident::{Incident, Report},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

#[derive(Debug)]
struct Counting(Mutex<u8>);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) {
        let mut next = self.0.lock().unwrap();
        *next += 1;
        out.fill(*next);
    }
}

/// Answers first with one address, then with another.
#[derive(Debug)]
struct Turning {
    asked: AtomicUsize,
    answers: Vec<Vec<IpAddr>>,
}

#[async_trait::async_trait]
impl Resolve for Turning {
    async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.answers.get(asked).or(self.answers.last()).cloned().unwrap_or_default())
    }
}

struct World {
    proxy: EgressProxy,
    resolver: Arc<Turning>,
    seen: Arc<Mutex<Vec<Incident>>>,
}

fn world(answers: &[&[&str]]) -> World {
    let answers = answers.iter().map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
    let resolver = Arc::new(Turning { asked: AtomicUsize::new(0), answers });
    let entropy = Arc::new(Counting(Mutex::new(0)));
    let proxy = EgressProxy::with_resolver(entropy, Duration::from_secs(2), Arc::clone(&resolver) as _);
    World { proxy, resolver, seen: Arc::default() }
}

impl World {
    fn lease(&self, hosts: &[&str]) -> Lease {
        let seen = Arc::clone(&self.seen);
        let report = Report::new(move |incident| seen.lock().unwrap().push(incident));
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        self.proxy.lease(&Arc::from("s"), hosts, report).unwrap()
    }
}

async fn connect(lease: &Lease, target: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, lease.port())).await.unwrap();
    let credential = STANDARD.encode(format!("child:{}", lease.credential().expose()));
    let head = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic {credential}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut buffer = vec![0; 1_024];
    let read = stream.read(&mut buffer).await.unwrap();
    let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
    (text.split(' ').nth(1).unwrap_or_default().to_owned(), stream)
}

#[tokio::test]
async fn an_allowed_name_that_resolves_inwards_is_refused_and_reported() {
    for inward in ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00::1"] {
        // One bad address among good ones is enough.
        let world = world(&[&["203.0.114.1", inward]]);
        let lease = world.lease(&["api.example.com", "*.example.org:8443"]);
        for target in ["api.example.com:443", "a.example.org:8443"] {
            assert_eq!(connect(&lease, target).await.0, "403", "{inward}");
        }
        let seen = world.seen.lock().unwrap();
        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|incident| &*incident.server == "s"), "{seen:?}");
        assert_eq!(world.resolver.asked.load(Ordering::SeqCst), 2, "one look-up each");
    }
}

#[tokio::test]
async fn a_name_that_changes_its_answer_is_looked_up_once_and_the_checked_address_connected_to() {
    let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = inside.local_addr().unwrap().port();
    // 192.0.2.0/24 would be refused; this one is public and answers nobody here.
    let world = world(&[&["203.0.114.1"], &["127.0.0.1"]]);
    let lease = world.lease(&[&format!("api.example.com:{port}")]);
    let (status, _stream) = connect(&lease, &format!("api.example.com:{port}")).await;
    assert!(["502", "504"].contains(&status.as_str()), "{status}");
    assert_eq!(world.resolver.asked.load(Ordering::SeqCst), 1);
    let reached = tokio::time::timeout(Duration::from_millis(50), inside.accept()).await;
    assert!(reached.is_err(), "connected inwards");
}

#[tokio::test]
async fn a_credential_opens_its_own_hosts_until_its_child_ends_and_cuts_what_is_open_then() {
    let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = inside.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = inside.accept().await {
            held.push(stream);
        }
    });
    let world = world(&[]);
    let (one, other) = (world.lease(&[&address.to_string()]), world.lease(&["api.example.com"]));
    let (status, mut tunnel) = connect(&one, &address.to_string()).await;
    assert_eq!(status, "200");
    assert_eq!(connect(&other, &address.to_string()).await.0, "403", "the other child's hosts");
    let gone = format!("child:{}", one.credential().expose());
    let port = one.port();
    drop(one);
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(30), tunnel.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the tunnel outlives its child");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let head = format!(
        "CONNECT {address} HTTP/1.1\r\nHost: {address}\r\nProxy-Authorization: Basic {}\r\n\r\n",
        STANDARD.encode(gone)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut buffer = [0; 64];
    let read = stream.read(&mut buffer).await.unwrap();
    assert!(buffer[..read].starts_with(b"HTTP/1.1 407"));
}

/// Asks for a page, as clients that know of a proxy do.
async fn get(stream: &mut TcpStream, credential: &str, url: &str) -> String {
    let head =
        format!("GET {url} HTTP/1.1\r\nHost: anything\r\nProxy-Authorization: Basic {credential}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = String::new();
    while !seen.contains("\r\n\r\n") {
        let mut buffer = [0; 1_024];
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "closed after: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    seen
}

#[tokio::test]
async fn a_redirect_is_handed_on_and_leads_nowhere_that_the_list_does_not() {
    let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secret = format!("http://{}/", inside.local_addr().unwrap());
    let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = web.local_addr().unwrap();
    for target in [&secret, "http://169.254.169.254/latest/meta-data/", "http://metadata.google.internal/"] {
        let world = world(&[&["203.0.114.1"]]);
        let lease = world.lease(&[&address.to_string()]);
        let credential = STANDARD.encode(format!("child:{}", lease.credential().expose()));
        let location = format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n");
        let answering = async {
            let (mut stream, _) = web.accept().await.unwrap();
            let mut buffer = [0; 1_024];
            let _read = stream.read(&mut buffer).await.unwrap();
            stream.write_all(location.as_bytes()).await.unwrap();
            stream
        };
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, lease.port())).await.unwrap();
        let first = format!("http://{address}/");
        let (answer, _held) = tokio::join!(get(&mut stream, &credential, &first), answering);
        assert!(answer.starts_with("HTTP/1.1 302"), "{answer}");
        assert!(answer.contains(target), "as it came: {answer}");
        assert!(world.seen.lock().unwrap().is_empty(), "nobody went there");
        // The client follows, on the connection that it has.
        let followed = get(&mut stream, &credential, target).await;
        assert!(followed.starts_with("HTTP/1.1 403"), "{followed}");
        let seen = world.seen.lock().unwrap().clone();
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert!(target.contains(seen[0].target.split(':').next().unwrap()), "{seen:?}");
    }
    let reached = tokio::time::timeout(Duration::from_millis(50), inside.accept()).await;
    assert!(reached.is_err(), "the redirect led inwards");
}
