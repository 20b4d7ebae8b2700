//! What a confined server tries and may not is stopped each time, and each attempt is in the ledger with server, kind and
//! target: for programs in three languages, in every mode of isolation, and as an operator sees it.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    os::unix::net as unix,
};

use portcullis_net::sandbox::{Confinement, Network, Support};
use portcullis_testkit::{Era, McpClient, Outcome};
use portcullis_tests::{
    confined::{Program, World},
    pair::{new_key, verdict},
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

/// The four attacks, each several ways; the last stops the server.
async fn four_attacks(program: Program) -> Outcome {
    let world =
        World::start(&program, |given| format!("{{write: [{given:?}], processes_max: 30}}"), "").await?;
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let udp = UdpSocket::bind("127.0.0.1:0")?;
    let socket = world.path("given/socket");
    let _unix = unix::UnixListener::bind(&socket)?;
    assert_eq!(world.attempt("read", &world.path("given/file")).await?, "done: given");
    assert_eq!(world.attempt("write", &world.path("given/new")).await?, "done: ");

    let outside = std::env::temp_dir().join("portcullis-outside").display().to_string();
    for (what, on, kind, target) in [
        ("read", world.path("secret/file"), "read", world.path("secret/file")),
        ("read", "/etc/shadow".to_owned(), "read", "/etc/shadow".to_owned()),
        ("list", world.path("secret"), "read", world.path("secret")),
        ("write", world.path("secret/new"), "write", world.path("secret/new")),
        ("write", world.path("secret/file"), "write", world.path("secret/file")),
        ("write", outside.clone(), "write", outside),
        ("remove", world.path("secret/file"), "write", world.path("secret/file")),
        ("tcp", tcp.local_addr()?.to_string(), "socket", "IPv4 stream".to_owned()),
        ("tcp", "[::1]:9".to_owned(), "socket", "IPv6 stream".to_owned()),
        ("udp", udp.local_addr()?.to_string(), "socket", "IPv4 datagram".to_owned()),
        ("unix", socket, "socket", "unix stream".to_owned()),
    ] {
        let tried = world.attempt(what, &on).await?;
        assert!(tried.starts_with("failed: "), "{what} {on}: {tried}");
        let found = world.recorded(kind, &target).await?;
        assert_eq!(found["server"], "s");
    }
    assert_eq!(fs::read_to_string(world.path("secret/file"))?, "secret");
    let tried = world.attempt("fork", "").await?;
    assert!(tried.contains("upstream.unavailable"), "{tried}");
    world.incidents("processes").await?;

    // As an operator sees it.
    let shown = world.gateway.command(&["audit", "query", "--event", "sandbox.denied", "--json"])?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for text in ["secret/file", "IPv4 stream", "30 are allowed"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    Ok(())
}

#[tokio::test]
async fn four_attacks_of_a_program_in_rust_are_stopped_and_each_is_in_the_ledger() -> Outcome {
    if unable("four_attacks_of_a_program_in_rust_are_stopped_and_each_is_in_the_ledger") {
        return Ok(());
    }
    four_attacks(Program::rust(CHILD)).await
}

#[tokio::test]
async fn four_attacks_of_a_program_in_python_are_stopped_and_each_is_in_the_ledger() -> Outcome {
    if unable("four_attacks_of_a_program_in_python_are_stopped_and_each_is_in_the_ledger") {
        return Ok(());
    }
    match Program::python() {
        Some(program) => four_attacks(program).await,
        None => {
            println!("not run: there is no Python");
            Ok(())
        }
    }
}

#[tokio::test]
async fn four_attacks_of_a_program_in_javascript_are_stopped_and_each_is_in_the_ledger() -> Outcome {
    if unable("four_attacks_of_a_program_in_javascript_are_stopped_and_each_is_in_the_ledger") {
        return Ok(());
    }
    match Program::node() {
        Some(program) => four_attacks(program).await,
        None => {
            println!("not run: there is no Node");
            Ok(())
        }
    }
}

#[tokio::test]
async fn a_child_of_every_mode_of_isolation_is_confined_and_watched() -> Outcome {
    if unable("a_child_of_every_mode_of_isolation_is_confined_and_watched") {
        return Ok(());
    }
    for mode in ["shared", "per_caller", "per_session"] {
        let world =
            World::start(&Program::rust(CHILD), |_| format!("{{}}\n    isolation: {mode}"), "").await?;
        let other = new_key(&world.gateway, "other", "admin")?;
        let mut folders = Vec::new();
        for (number, key) in [world.gateway.key()?.to_owned(), other].into_iter().enumerate() {
            let mut client = McpClient::connect(&world.gateway.url("s"), Some(&key), Era::Legacy).await?;
            let target = world.path(&format!("secret/{mode}-{number}"));
            fs::write(&target, "secret")?;
            let text = client.call("try", json!({"what": "read", "on": target})).await?.text();
            assert!(text.contains("(os error 13)"), "{mode}: {text}");
            world.recorded("read", &target).await?;
            let folder = client.call("try", json!({"what": "environment", "on": "TMPDIR"})).await?.text();
            folders.push(folder.trim_start_matches("done: ").to_owned());
            // The folder of another's process is as closed as anything else.
            if let [first, .., last] = folders.as_slice() {
                let tried = client.call("try", json!({"what": "list", "on": first})).await?.text();
                assert_eq!(first == last, mode == "shared", "{folders:?}");
                assert_eq!(tried.starts_with("done: "), mode == "shared", "{mode}: {tried}");
                if mode != "shared" {
                    world.recorded("read", first).await?;
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_allow_list_leaves_one_address_and_every_other_attempt_is_recorded_with_where_it_went() -> Outcome
{
    let name = "an_allow_list_leaves_one_address_and_every_other_attempt_is_recorded_with_where_it_went";
    let (false, Some(python)) = (unable(name), Program::python()) else { return Ok(()) };
    let world = World::start(&python, |_| "{allow: [example.com]}".to_owned(), "").await?;
    let proxy = world.attempt("environment", "HTTPS_PROXY").await?;
    let port = proxy.rsplit_once(':').ok_or("no proxy")?.1.to_owned();
    assert_eq!(world.attempt("tcp", &format!("127.0.0.1:{port}")).await?, "done: ");
    assert_eq!(world.attempt("tcp", &format!("[::ffff:127.0.0.1]:{port}")).await?, "done: ");
    // An accomplice on the very port of the proxy, at another address.
    let accomplice = TcpListener::bind(format!("127.0.0.2:{port}"))?;
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let open = tcp.local_addr()?.to_string();
    for (what, on, kind, target) in [
        ("tcp", accomplice.local_addr()?.to_string(), "connect", format!("127.0.0.2:{port}")),
        ("tcp", open.clone(), "connect", open.clone()),
        ("tcp", "[::1]:80".to_owned(), "connect", "[::1]:80".to_owned()),
        (
            "tcp",
            "[::ffff:169.254.169.254]:80".to_owned(),
            "connect",
            "[::ffff:169.254.169.254]:80".to_owned(),
        ),
        ("tcp", "169.254.169.254:80".to_owned(), "connect", "169.254.169.254:80".to_owned()),
        ("fast-open", open.clone(), "connect", "TCP fast open".to_owned()),
        ("udp", "127.0.0.1:53".to_owned(), "socket", "IPv4 datagram".to_owned()),
        ("raw", String::new(), "socket", "IPv4 raw".to_owned()),
        ("unix", "@portcullis".to_owned(), "socket", "unix stream".to_owned()),
        ("listen", "127.0.0.1:0".to_owned(), "listen", "127.0.0.1:0".to_owned()),
        ("listen", "0.0.0.0:80".to_owned(), "listen", "0.0.0.0:80".to_owned()),
        ("listen", String::new(), "listen", "any port".to_owned()),
    ] {
        let tried = world.attempt(what, &on).await?;
        assert!(tried.contains("(os error 13)"), "{what} {on}: {tried}");
        world.recorded(kind, &target).await?;
    }
    accomplice.set_nonblocking(true)?;
    assert!(accomplice.accept().is_err(), "the accomplice was reached");
    Ok(())
}

#[tokio::test]
async fn a_flood_of_attempts_is_counted_and_hides_no_other() -> Outcome {
    let (false, Some(python)) =
        (unable("a_flood_of_attempts_is_counted_and_hides_no_other"), Program::python())
    else {
        return Ok(());
    };
    let world = World::start(&python, |_| "{}".to_owned(), "").await?;
    world.attempt("flood", &world.path("secret")).await?;
    assert!(world.attempt("tcp", "127.0.0.1:9").await?.starts_with("failed: "));
    world.recorded("socket", "IPv4 stream").await?;
    let writes = |all: &[Value]| all.iter().filter(|data| data["kind"] == "write").count();
    let flood = writes(&world.all_incidents().await?);
    assert!((1..=64).contains(&flood), "{flood}");
    // The rest is told as numbers when the server ends.
    assert!(
        verdict(&world.client().await?.call("try", json!({"what": "call", "on": "setsid"})).await?).0 == 200
    );
    let mut gateway = world.gateway;
    gateway.stop().await?;
    let shown = gateway.output();
    assert!(shown.contains("others"), "{shown}");
    Ok(())
}

#[tokio::test]
async fn a_name_full_of_control_characters_is_recorded_visibly_and_bounded() -> Outcome {
    let (false, Some(python)) =
        (unable("a_name_full_of_control_characters_is_recorded_visibly_and_bounded"), Program::python())
    else {
        return Ok(());
    };
    let world = World::start(&python, |_| "{}".to_owned(), "").await?;
    // Written out by the server itself: the gateway refuses such an argument before it gets there.
    assert!(world.attempt("odd", &world.path("secret")).await?.contains("(os error 13)"));
    let found = world.recorded("write", "\\u{1b}[2J\\u{202e}xx").await?;
    assert!(found["target"].as_str().is_some_and(|target| target.len() < 1_024), "{found}");
    Ok(())
}

#[tokio::test]
async fn watching_costs_microseconds_for_each_file_that_is_opened() -> Outcome {
    let (false, Some(python)) =
        (unable("watching_costs_microseconds_for_each_file_that_is_opened"), Program::python())
    else {
        return Ok(());
    };
    let mut figures = Vec::new();
    for section in ["{audit: false}", "{}"] {
        let world = World::start(&python, |_| section.to_owned(), "").await?;
        let text = world.attempt("measure", "/etc/hosts").await?;
        let figure: f64 = text.strip_prefix("done: ").ok_or_else(|| text.clone())?.parse()?;
        println!("{section}: {figure} µs for each open and close");
        figures.push(figure);
    }
    assert!(figures.iter().all(|figure| *figure < 5_000.0), "{figures:?}");
    Ok(())
}
