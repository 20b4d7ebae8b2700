//! The first minutes: what a new user types, sees and pastes, and what the gateway refuses to start as.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_testkit::{Client, Era, Gateway, McpClient, Outcome, free_ports, self_signed};
use portcullis_tests::pair::{SOON, soon};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// `portcullis run` as a person starts it: in an empty folder, no configuration; only the ports are chosen, so that
/// tests can run side by side.
struct Fresh {
    folder: TempDir,
    address: SocketAddr,
    admin: SocketAddr,
    child: Option<Child>,
}

impl Fresh {
    fn new() -> Outcome<Self> {
        let ports = free_ports(2)?;
        let at = |index: usize| SocketAddr::from(([127, 0, 0, 1], ports[index]));
        Ok(Self { folder: tempfile::tempdir()?, address: at(0), admin: at(1), child: None })
    }

    fn binary() -> Outcome<std::path::PathBuf> {
        // Written by the testkit's own search, so that both find the same program.
        let probe = Gateway::builder().config("").prepare()?;
        Ok(probe.binary().to_path_buf())
    }

    fn command(&self, arguments: &[&str]) -> Outcome<Command> {
        let mut command = Command::new(Self::binary()?);
        command.current_dir(self.folder.path()).args(arguments).stdin(Stdio::null());
        Ok(command)
    }

    fn arguments(&self) -> [String; 5] {
        [
            "run".into(),
            "--listen".into(),
            self.address.to_string(),
            "--admin-listen".into(),
            self.admin.to_string(),
        ]
    }

    async fn start(&mut self) -> Outcome<String> {
        let (out, errors) = (self.folder.path().join("out"), self.folder.path().join("err"));
        let arguments = self.arguments();
        let mut command = self.command(&arguments.each_ref().map(String::as_str))?;
        self.child =
            Some(command.stdout(fs::File::create(&out)?).stderr(fs::File::create(&errors)?).spawn()?);
        let said = || fs::read_to_string(&out).unwrap_or_default();
        soon("the gateway says how to use it", || said().contains("Stop with Ctrl-C")).await?;
        Ok(said())
    }

    /// Stops it in order.
    fn stop(&mut self) -> Outcome {
        if let Some(mut child) = self.child.take() {
            let pid = rustix::process::Pid::from_raw(i32::try_from(child.id())?).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
            assert!(child.wait()?.success());
        }
        Ok(())
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("portcullis-data")
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _waited = child.wait();
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn keys(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
    let mut keys: Vec<_> =
        words.filter(|word| word.starts_with("pcl_") && word.len() > 40).map(str::to_owned).collect();
    keys.dedup();
    keys
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn without_configuration_it_starts_safely_and_what_it_prints_works_as_printed() -> Outcome {
    let mut fresh = Fresh::new()?;
    let said = fresh.start().await?;
    let printed = keys(&said);
    assert!(!printed.is_empty() && printed.iter().all(|key| *key == printed[0]), "one key: {said}");
    assert_eq!(mode(&fresh.data()), 0o700);
    for secret in ["kek", "admin.token", "ledger.key"] {
        assert_eq!(mode(&fresh.data().join(secret)), 0o600, "{secret}");
    }
    // The curl, verbatim, in a shell.
    let from = said.find("curl -s").unwrap();
    let curl = said[from..].split("\n\n").next().unwrap();
    let output = Command::new("sh").args(["-c", curl]).output()?;
    let listed: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {}", text(&output)))?;
    let names: Vec<_> = listed["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"echo") && names.contains(&"notes.search") && !names.contains(&"notes.delete"),
        "{names:?}"
    );
    // The client configuration, as a client reads it.
    let from = said.find("{\n  \"mcpServers\"").unwrap();
    let config: Value = serde_json::Deserializer::from_str(&said[from..]).into_iter().next().unwrap()?;
    let entry = &config["mcpServers"]["sample"];
    let key = entry["headers"]["Authorization"].as_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    for era in Era::ALL {
        let mut client = McpClient::connect(entry["url"].as_str().unwrap(), Some(&key), era).await?;
        assert_eq!(client.call("echo", json!({"text": "hi"})).await?.text(), "hi");
        assert_eq!(
            client.call("notes.delete", json!({"id": "travel"})).await?.error_message(),
            "Unknown tool: notes.delete"
        );
        let found = client.call("notes.search", json!({"query": "hotel"})).await?.reply.text();
        assert!(!found.contains("4111 1111 1111 1111") && !found.contains("JX7RM2TBW5"), "{found}");
    }
    // Both are seen in the ledger, with the command that the banner names.
    let tail = text(&fresh.command(&["audit", "tail", "-n", "100"])?.output()?);
    assert!(tail.contains("echo") && tail.contains("policy.denied"), "{tail}");
    let verified = fresh.command(&["audit", "verify"])?.output()?;
    assert!(verified.status.success(), "{}", text(&verified));

    fresh.stop()?;
    let again = fresh.start().await?;
    assert!(keys(&again).is_empty(), "a second key: {again}");
    let mut client = McpClient::connect(entry["url"].as_str().unwrap(), Some(&key), Era::Modern).await?;
    assert_eq!(client.call("echo", json!({"text": "again"})).await?.text(), "again");
    Ok(())
}

/// Starts it with these arguments where it must refuse, and returns code and words.
fn refused(fresh: &Fresh, arguments: &[&str]) -> Outcome<(Option<i32>, String)> {
    let mut child = fresh.command(arguments)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let due = Instant::now() + SOON;
    while child.try_wait()?.is_none() {
        if Instant::now() > due {
            child.kill()?;
            return Err(format!("it runs with {arguments:?}").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output()?;
    Ok((output.status.code(), text(&output)))
}

#[tokio::test]
async fn what_would_be_unsafe_is_refused_with_the_fix() -> Outcome {
    let mut fresh = Fresh::new()?;
    let public = format!("0.0.0.0:{}", free_ports(1)?[0]);
    let admin = fresh.admin.to_string();
    let (code, words) = refused(&fresh, &["run", "--listen", &public, "--admin-listen", &admin])?;
    assert_eq!(code, Some(5), "{words}");
    assert!(words.contains("tls") && words.contains("hint"), "{words}");
    assert!(!fresh.data().exists(), "a refused start leaves nothing behind");

    let made = self_signed(&["localhost"])?;
    fs::write(fresh.folder.path().join("cert.pem"), &made.certificate_pem)?;
    fs::write(fresh.folder.path().join("key.pem"), &made.key_pem)?;
    let yaml = format!(
        "listen:\n  address: {public}\n  tls:\n    certificate: cert.pem\n    key: key.pem\nadmin:\n  address: {admin}\nidentities:\n  anonymous:\n    roles: [reader]\n"
    );
    fs::write(fresh.folder.path().join("open.yaml"), yaml)?;
    let (code, words) = refused(&fresh, &["run", "--config", "open.yaml"])?;
    assert_eq!(code, Some(5), "{words}");
    assert!(words.contains("anonymous"), "{words}");
    let (code, words) =
        refused(&fresh, &["run", "--listen", &fresh.address.to_string(), "--admin-listen", "0.0.0.0:0"])?;
    assert_eq!(code, Some(5), "{words}");
    assert!(words.contains("admin"), "{words}");

    fresh.start().await?;
    let other = free_ports(2)?;
    let arguments = [
        "run".to_owned(),
        "--listen".into(),
        format!("127.0.0.1:{}", other[0]),
        "--admin-listen".into(),
        format!("127.0.0.1:{}", other[1]),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (code, words) = refused(&fresh, &arguments)?;
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("another") && words.contains("portcullis-data"), "a second instance: {words}");
    let health = Client::default().get(&format!("http://{}/healthz", fresh.admin), &[]).await?;
    assert_eq!(health.status, 200, "the first is not disturbed");
    fresh.stop()?;

    for open in [0o750, 0o701, 0o777] {
        fs::set_permissions(fresh.data(), fs::Permissions::from_mode(open))?;
        let (code, words) = refused(&fresh, &arguments)?;
        assert_eq!(code, Some(1), "{open:o} {words}");
        assert!(words.contains("chmod 700"), "{open:o} {words}");
        assert_eq!(mode(&fresh.data()), open, "it does not mend what it did not make");
    }
    fs::set_permissions(fresh.data(), fs::Permissions::from_mode(0o700))?;
    fs::set_permissions(fresh.data().join("kek"), fs::Permissions::from_mode(0o644))?;
    let (code, words) = refused(&fresh, &arguments)?;
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("kek") && words.contains("chmod 600"), "{words}");
    fs::set_permissions(fresh.data().join("kek"), fs::Permissions::from_mode(0o600))?;
    // Somebody else's address.
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let (code, words) =
        refused(&fresh, &["run", "--listen", &taken.local_addr()?.to_string(), "--admin-listen", &admin])?;
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("another program"), "{words}");
    fresh.start().await?;
    Ok(())
}

#[test]
fn all_mistakes_of_a_file_are_reported_at_once_with_line_key_and_hint() -> Outcome {
    let fresh = Fresh::new()?;
    let yaml = "listen:\n  adress: 127.0.0.1:7300\nservers:\n  s:\n    url: ftp://x\n  t: {}\nlimits:\n  body_bytes_max: 0\nroles:\n  r:\n    allow:\n      - actions: [fly]\n";
    fs::write(fresh.folder.path().join("portcullis.yaml"), yaml)?;
    for command in ["run", "check"] {
        let (code, words) = refused(&fresh, &[command])?;
        assert_eq!(code, Some(5), "{words}");
        for (key, line) in
            [("adress", "2"), ("url", "5"), ("servers.t", "6"), ("body_bytes_max", "8"), ("fly", "12")]
        {
            let found = words.lines().any(|text| text.contains(key) && text.contains(&format!(":{line}")));
            assert!(found, "{command}: {key} in line {line} is not in\n{words}");
        }
        assert!(words.contains("address"), "no hint for a misspelt key: {words}");
    }
    assert!(!fresh.data().exists());
    let (code, words) = refused(&fresh, &["run", "--config", "absent.yaml"])?;
    assert_eq!(code, Some(5), "{words}");
    Ok(())
}

/// One `tools/list` over TLS with the protocol that ALPN settles on.
async fn over_tls(
    address: SocketAddr,
    root: &str,
    protocols: &[&[u8]],
    key: &str,
) -> Outcome<(Vec<u8>, Value)> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream =
        connector.connect(ServerName::try_from("localhost")?, TcpStream::connect(address).await?).await?;
    let settled = stream.get_ref().1.alpn_protocol().unwrap_or_default().to_vec();
    let mut client = McpClient::new("https://localhost/mcp/sample", Some(key), Era::Modern);
    let (_, message) = client.message("tools/list", json!({}));
    let mut request = http::Request::post(format!("https://localhost:{}/mcp/sample", address.port()));
    for (name, value) in client.headers(&message) {
        request = request.header(name, value);
    }
    let body = Full::new(Bytes::from(message.to_string()));
    let response = if settled == b"h2" {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender.send_request(request.body(body)?).await?
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = request.header("host", format!("localhost:{}", address.port())).body(body)?;
        *request.uri_mut() = "/mcp/sample".parse()?;
        sender.send_request(request).await?
    };
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok((settled, serde_json::from_slice(&bytes)?))
}

#[tokio::test]
async fn one_flag_gives_tls_on_any_address_with_http_1_and_2() -> Outcome {
    let made = self_signed(&["localhost"])?;
    let port = free_ports(1)?[0];
    let yaml = format!("listen:\n  address: 0.0.0.0:{port}\n  hosts: [localhost]\n");
    let gateway = Gateway::builder()
        .config(&yaml)
        .tls()
        .file("cert.pem", made.certificate_pem.clone())
        .file("key.pem", made.key_pem.clone())
        .argument("--tls-cert")
        .argument("cert.pem")
        .argument("--tls-key")
        .argument("key.pem")
        .start()
        .await?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    for (offered, settled) in
        [(&[&b"h2"[..], b"http/1.1"][..], &b"h2"[..]), (&[&b"http/1.1"[..]][..], b"http/1.1"), (&[][..], b"")]
    {
        let (got, listed) = over_tls(address, &made.certificate_pem, offered, gateway.key()?).await?;
        assert_eq!(got, settled);
        assert!(listed["result"]["tools"].as_array().unwrap().len() > 3, "{listed}");
    }
    let plain =
        Client::with_patience(Duration::from_secs(3)).get(&format!("http://{address}/healthz"), &[]).await;
    assert!(plain.is_err(), "plain HTTP on a TLS listener: {plain:?}");
    Ok(())
}
