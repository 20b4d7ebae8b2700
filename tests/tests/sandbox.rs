//! A hostile server under its sandbox: what it tries outside fails, what it was given works, and what the gateway can
//! see of it is in the ledger.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    time::Instant,
};

use portcullis_net::sandbox::{Confinement, Network, Support};
use portcullis_testkit::{Era, Gateway, McpClient, Outcome};
use portcullis_tests::{
    confined::{Program, World},
    pair::{SOON, refusals, soon, verdict},
};
use serde_json::{Value, json};

const CHILD: &str = env!("CARGO_BIN_EXE_hostile-child");

/// Says why a test was not run where the kernel cannot confine; such a line is no success.
fn unable(test: &str) -> bool {
    let all = Confinement {
        network: Network::Allow(vec!["a.test".parse().expect("a host")]),
        ..Confinement::default()
    };
    let lacking = Support::detect().lacking(&all);
    if !lacking.is_empty() {
        println!("not run: {test}: this kernel lacks {}", lacking.join(", "));
    }
    !lacking.is_empty()
}

async fn start(sandbox: impl FnOnce(&str) -> String, extra: &str) -> Outcome<World> {
    World::start(&Program::rust(CHILD), sandbox, extra).await
}

/// A server on loopback that answers everything with 200.
fn web() -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 2_048];
            let read = stream.read(&mut buffer).unwrap_or_default();
            let seen = String::from_utf8_lossy(&buffer[..read]).to_lowercase();
            let leaked = seen.contains("proxy-authorization");
            let body = format!("reached{}", if leaked { " with the credential" } else { "" });
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    Ok(address)
}

#[tokio::test]
async fn a_confined_server_reads_and_writes_what_it_was_given_and_nothing_else() -> Outcome {
    if unable("a_confined_server_reads_and_writes_what_it_was_given_and_nothing_else") {
        return Ok(());
    }
    let world = start(|given| format!("{{write: [{given:?}]}}"), "").await?;
    assert_eq!(world.attempt("read", &world.path("given/file")).await?, "done: given");
    assert_eq!(world.attempt("write", &world.path("given/new")).await?, "done: ");
    let temp = world.attempt("environment", "TMPDIR").await?;
    let temp = temp.strip_prefix("done: ").ok_or("no TMPDIR")?.to_owned();
    assert_eq!(world.attempt("write", &format!("{temp}/note")).await?, "done: ");
    assert_eq!(world.attempt("run", "/bin/true").await?, "done: exit status: 0");

    let keys = world.gateway.data().join("ledger.key").display().to_string();
    let config = world.gateway.folder().join("portcullis.yaml").display().to_string();
    for (what, on) in [
        ("read", world.path("secret/file")),
        ("read", world.path("given/../secret/file")),
        ("list", world.path("secret")),
        ("read", keys),
        ("read", config),
        ("read", "/etc/shadow".to_owned()),
        ("read", format!("/proc/{}/environ", world.gateway.pid().ok_or("not running")?)),
        ("write", world.path("secret/new")),
        ("append", world.path("secret/file")),
        ("remove", world.path("secret/file")),
        ("write", std::env::temp_dir().join("portcullis-outside").display().to_string()),
        ("write", "/usr/portcullis-outside".to_owned()),
        ("signal", world.gateway.pid().ok_or("not running")?.to_string()),
        ("limits", world.gateway.pid().ok_or("not running")?.to_string()),
        ("group", String::new()),
    ] {
        let tried = world.attempt(what, &on).await?;
        assert!(tried.starts_with("failed: "), "{what} {on}: {tried}");
        let errors = ["(os error 13)", "(os error 1)"];
        assert!(errors.iter().any(|error| tried.contains(error)), "{what} {on}: {tried}");
    }
    assert_eq!(fs::read_to_string(world.path("secret/file"))?, "secret");
    let mut gateway = world.gateway;
    assert!(PathBuf::from(&temp).is_dir());
    gateway.stop().await?;
    assert!(!PathBuf::from(&temp).exists(), "the private folder stays behind");
    Ok(())
}

#[tokio::test]
async fn a_server_without_a_network_makes_no_socket_of_any_kind() -> Outcome {
    if unable("a_server_without_a_network_makes_no_socket_of_any_kind") {
        return Ok(());
    }
    let open = web()?;
    let world = start(|_| "{}".to_owned(), "").await?;
    let socket = world.folder.join("given/socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket)?;
    for (what, on) in [
        ("tcp", open.to_string()),
        ("tcp", world.gateway.admin_address().to_string()),
        ("udp", open.to_string()),
        ("unix", socket.display().to_string()),
        ("listen", "127.0.0.1:0".to_owned()),
    ] {
        let tried = world.attempt(what, &on).await?;
        assert!(tried.starts_with("failed: ") && tried.contains("(os error 13)"), "{what} {on}: {tried}");
    }
    Ok(())
}

#[tokio::test]
async fn a_strict_sandbox_ends_who_opens_a_socket_and_records_it() -> Outcome {
    if unable("a_strict_sandbox_ends_who_opens_a_socket_and_records_it") {
        return Ok(());
    }
    let open = web()?;
    let world = start(|given| format!("{{strict: true, write: [{given:?}]}}"), "").await?;
    let tried = world.attempt("mode", &world.path("given/file")).await?;
    assert!(tried.contains("(os error 1)"), "{tried}");
    let tried = world.attempt("tcp", &open.to_string()).await?;
    assert!(tried.contains("upstream.unavailable"), "{tried}");
    world.recorded("socket", "IPv4 stream").await?;
    world.recorded("syscall", "chmod").await?;
    Ok(())
}

#[tokio::test]
async fn without_an_audit_the_same_is_refused_and_only_what_ends_a_server_is_recorded() -> Outcome {
    if unable("without_an_audit_the_same_is_refused_and_only_what_ends_a_server_is_recorded") {
        return Ok(());
    }
    let open = web()?;
    let world = start(|_| "{audit: false}".to_owned(), "").await?;
    for (what, on) in
        [("read", world.path("secret/file")), ("tcp", open.to_string()), ("group", String::new())]
    {
        let tried = world.attempt(what, &on).await?;
        assert!(tried.contains("(os error 13)") || tried.contains("(os error 1)"), "{what} {on}: {tried}");
    }
    let tried = world.attempt("namespace", "").await?;
    assert!(tried.contains("upstream.unavailable"), "{tried}");
    let found = world.incidents("syscall").await?;
    assert!(found[0]["detail"].as_str().is_some_and(|detail| detail.contains("signal: 31")), "{found:?}");
    assert_eq!(world.all_incidents().await?.len(), 1, "{found:?}");
    Ok(())
}

#[tokio::test]
async fn a_system_call_that_no_server_needs_ends_it_and_is_recorded() -> Outcome {
    if unable("a_system_call_that_no_server_needs_ends_it_and_is_recorded") {
        return Ok(());
    }
    let world = start(|_| "{}".to_owned(), "").await?;
    let tried = world.attempt("namespace", "").await?;
    assert!(tried.contains("upstream.unavailable"), "{tried}");
    let found = world.recorded("syscall", "setns").await?;
    assert_eq!(found["detail"], "setns");
    Ok(())
}

#[tokio::test]
async fn a_server_that_forks_endlessly_is_killed_with_all_its_processes_and_recorded() -> Outcome {
    if unable("a_server_that_forks_endlessly_is_killed_with_all_its_processes_and_recorded") {
        return Ok(());
    }
    let world = start(|_| "{processes_max: 20}".to_owned(), "").await?;
    let tried = world.attempt("fork", "").await?;
    assert!(tried.contains("upstream.unavailable"), "{tried}");
    let found = world.incidents("processes").await?;
    assert!(
        found[0]["detail"].as_str().is_some_and(|detail| detail.ends_with("20 are allowed")),
        "{found:?}"
    );
    let left = || {
        let folder = fs::read_dir("/proc").into_iter().flatten().flatten();
        let sleeping = |path: PathBuf| {
            fs::read_to_string(path.join("cmdline"))
                .is_ok_and(|words| words.contains("hostile-child\0--sleep"))
        };
        folder.filter(|entry| sleeping(entry.path())).count()
    };
    soon("nobody is left behind", || left() == 0).await
}

#[tokio::test]
async fn an_allow_list_opens_its_hosts_through_the_proxy_and_every_other_is_refused_and_recorded() -> Outcome
{
    if unable("an_allow_list_opens_its_hosts_through_the_proxy_and_every_other_is_refused_and_recorded") {
        return Ok(());
    }
    let (allowed, forbidden) = (web()?, web()?);
    let world = start(
        |_| format!("{{allow: [\"{allowed}\", \"169.254.169.254:80\", \"metadata.google.internal:80\"]}}"),
        "",
    )
    .await?;
    let through = world.attempt("tunnel", &allowed.to_string()).await?;
    assert!(through.contains("200") && through.ends_with("reached"), "{through}");
    let plain = world.attempt("get", &format!("http://{allowed}/")).await?;
    assert!(plain.ends_with("reached"), "{plain}");

    // Around the proxy, and to it as somebody else.
    for (what, on) in
        [("tcp", allowed.to_string()), ("tcp", forbidden.to_string()), ("udp", allowed.to_string())]
    {
        let tried = world.attempt(what, &on).await?;
        assert!(tried.starts_with("failed: ") && tried.contains("(os error 13)"), "{what} {on}: {tried}");
    }
    let stranger = world.attempt("stranger", &allowed.to_string()).await?;
    assert!(stranger.starts_with("done: HTTP/1.1 407"), "{stranger}");

    // What it says of its credential is not in our log.
    world.attempt("say", "HTTPS_PROXY").await?;
    soon("its words are in the log", || world.gateway.output().contains("saying http://child:****@")).await?;

    // Through the proxy, where it may not: not on the list, or on it and never allowed.
    let admin = world.gateway.admin_address().to_string();
    let mut expected = Vec::new();
    for (host, reason) in [
        (forbidden.to_string(), "not on the list"),
        (admin, "not on the list"),
        ("example.com:443".to_owned(), "not on the list"),
        ("2852039166:80".to_owned(), "link-local"),
        ("169.254.169.254:80".to_owned(), "link-local"),
        ("metadata.google.internal:80".to_owned(), "not allowed"),
    ] {
        let tried = world.attempt("tunnel", &host).await?;
        assert!(tried.starts_with("done: HTTP/1.1 403"), "{host}: {tried}");
        expected.push(reason);
    }
    let tried = world.attempt("get", &format!("http://{forbidden}/")).await?;
    assert!(tried.starts_with("done: HTTP/1.1 403"), "{tried}");
    expected.push("not on the list");
    let due = Instant::now() + SOON;
    let found = loop {
        let found = world.incidents("egress").await?;
        if found.len() >= expected.len() || Instant::now() > due {
            break found;
        }
    };
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (incident, reason) in found.iter().zip(expected) {
        let detail = incident["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(reason), "{detail}: {reason}");
    }
    Ok(())
}

#[tokio::test]
async fn a_sandbox_that_would_show_the_gateways_own_keys_is_refused() -> Outcome {
    let sections = ["{read: [\".\"]}", "{write: [portcullis-data]}", "{read: [portcullis-data/ledger]}"];
    for section in sections {
        let yaml = format!("servers:\n  s:\n    command: {}\n    sandbox: {section}\n", json!([CHILD]));
        let (status, output) = Gateway::builder().config(&yaml).refused().await?;
        assert!(!status.success());
        assert!(output.contains("own keys"), "{section}: {output}");
    }
    Ok(())
}

#[tokio::test]
async fn how_a_server_is_confined_is_said_at_its_start_and_by_the_admin_api() -> Outcome {
    let world = start(|_| "{}".to_owned(), "require_sandbox: true\n").await?;
    let lacking = Support::detect().lacking(&Confinement::default());
    let reply = world.gateway.admin_get("/v1/servers").await?;
    let list: Value = serde_json::from_slice(&reply.body)?;
    let said = list["servers"][0]["sandbox"].as_str().unwrap_or_default().to_owned();
    if lacking.is_empty() {
        assert_eq!(said, "full");
        assert!(world.gateway.output().contains("children are confined fully"));
        assert!(world.attempt("read", "/etc/hosts").await?.starts_with("done: "));
    } else {
        // What is required and missing is a refusal with its own code.
        assert_eq!(said, format!("without {}", lacking.join(", ")));
        assert!(world.gateway.output().contains("none is started"));
        let answer = McpClient::new(&world.gateway.url("s"), Some(world.gateway.key()?), Era::Legacy)
            .initialize()
            .await?;
        assert_eq!(verdict(&answer), (503, "sandbox.unavailable".to_owned()));
        refusals(&world.gateway, "sandbox.unavailable", 1).await?;
    }
    Ok(())
}
