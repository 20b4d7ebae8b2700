//! Ways out of a sandbox that are known to work elsewhere: each is tried by a confined server, fails, and is in the ledger
//! where something was refused.

use std::{
    fs,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixListener},
        },
    },
    path::Path,
};

use portcullis_net::sandbox::{Confinement, Support};
use portcullis_testkit::{Era, Gateway, McpClient, Outcome};
use portcullis_tests::confined::{Program, World};
use serde_json::json;

const CHILD: &str = env!("CARGO_BIN_EXE_hostile-child");

/// The program that makes any system call; says why a test was not run where it or the kernel's part is missing.
fn able(test: &str) -> Option<Program> {
    let lacking = Support::detect().lacking(&Confinement::default());
    let python = Program::python();
    if !lacking.is_empty() || python.is_none() {
        println!("not run: {test}: there is no Python, or this kernel lacks {}", lacking.join(", "));
    }
    python.filter(|_| lacking.is_empty())
}

#[tokio::test]
async fn links_and_the_processes_folder_lead_nowhere_else() -> Outcome {
    let Some(python) = able("links_and_the_processes_folder_lead_nowhere_else") else { return Ok(()) };
    let world = World::start(&python, |given| format!("{{write: [{given:?}]}}"), "").await?;
    let gateway = world.gateway.pid().ok_or("not running")?;
    let secret = world.path("secret/file");
    for (what, on, kind, target) in [
        ("link", format!("{} {secret}", world.path("given/link")), "read", secret.clone()),
        ("link", format!("{} ../secret/file", world.path("given/relative")), "read", secret.clone()),
        ("hard-link", format!("{secret} {}", world.path("given/hard")), "write", secret.clone()),
        ("move", format!("{secret} {}", world.path("given/moved")), "write", secret.clone()),
        (
            "move",
            format!("{} {}", world.path("given/file"), world.path("secret/in")),
            "write",
            world.path("secret/in"),
        ),
        ("truncate", secret.clone(), "write", secret.clone()),
        ("folder", world.path("secret/folder"), "write", world.path("secret/folder")),
        ("read", format!("/proc/self/root{secret}"), "read", secret.clone()),
        ("read", "/proc/1/environ".to_owned(), "read", "/proc/1/environ".to_owned()),
        ("read", format!("/proc/{gateway}/environ"), "read", format!("/proc/{gateway}/environ")),
        ("read", format!("/proc/{gateway}/mem"), "read", format!("/proc/{gateway}/mem")),
        ("write", format!("/proc/{gateway}/mem"), "write", format!("/proc/{gateway}/mem")),
        ("read", format!("/proc/{gateway}/root{secret}"), "read", format!("/proc/{gateway}/root")),
        ("write", format!("/proc/{gateway}/cwd/new"), "write", format!("/proc/{gateway}/cwd")),
        (
            "write",
            "/proc/sys/kernel/core_pattern".to_owned(),
            "write",
            "/proc/sys/kernel/core_pattern".to_owned(),
        ),
        (
            "write",
            "/dev/shm/portcullis-outside".to_owned(),
            "write",
            "/dev/shm/portcullis-outside".to_owned(),
        ),
        (
            "list",
            std::env::temp_dir().display().to_string(),
            "read",
            std::env::temp_dir().display().to_string(),
        ),
    ] {
        let tried = world.attempt(what, &on).await?;
        assert!(tried.starts_with("failed: "), "{what} {on}: {tried}");
        world.recorded(kind, &target).await?;
    }
    assert_eq!(fs::read_to_string(&secret)?, "secret");
    assert!(!Path::new("/dev/shm/portcullis-outside").exists());
    Ok(())
}

#[tokio::test]
async fn calls_that_lead_out_fail_or_end_the_server_and_are_recorded_by_name() -> Outcome {
    let Some(python) = able("calls_that_lead_out_fail_or_end_the_server_and_are_recorded_by_name") else {
        return Ok(());
    };
    let world = World::start(&python, |_| "{}".to_owned(), "").await?;
    let gateway = world.gateway.pid().ok_or("not running")?;
    let signal = gateway.to_string();
    for (what, on, error, kind, target) in [
        ("call", "io_uring_setup 4 0", "(os error 38)", "syscall", "io_uring_setup".to_owned()),
        ("call", "unshare 0x10000000", "(os error 1)", "syscall", "unshare".to_owned()),
        ("call", "setsid", "(os error 1)", "syscall", "setsid".to_owned()),
        ("hide", "", "(os error 1)", "syscall", "prctl".to_owned()),
        ("signal", &*signal, "(os error 1)", "signal", format!("process {gateway}")),
        ("signal", "-1", "(os error 1)", "signal", "every process".to_owned()),
    ] {
        let tried = world.attempt(what, on).await?;
        assert!(tried.contains(error), "{what} {on}: {tried}");
        world.recorded(kind, &target).await?;
    }
    for (call, name) in [("ptrace 16 1", "ptrace"), ("mount 0 0 0 0 0", "mount"), ("bpf 0 0 0", "bpf")] {
        let tried = world.attempt("call", call).await?;
        assert!(tried.contains("upstream.unavailable"), "{call}: {tried}");
        world.recorded("syscall", name).await?;
        assert!(world.attempt("pid", "").await?.starts_with("done: "), "the next call has a new server");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_gets_three_descriptors_and_no_secret_of_the_gateways_environment() -> Outcome {
    let Some(python) = able("a_server_gets_three_descriptors_and_no_secret_of_the_gateways_environment")
    else {
        return Ok(());
    };
    let command = json!(python.command);
    let gateway = Gateway::builder()
        .config(&format!("servers:\n  s:\n    command: {command}\n    sandbox: {{}}\n"))
        .environment("CANARY_SECRET", "do-not-tell")
        .start()
        .await?;
    let key = gateway.key()?;
    let mut client = McpClient::connect(&gateway.url("s"), Some(key), Era::Modern).await?;
    // The fourth is the folder that is being listed. Whatever the gateway was started with stays with it.
    let listed = client.call("try", json!({"what": "list", "on": "/proc/self/fd"})).await?.text();
    assert_eq!(listed, "done: 0 1 2 3");
    let names = client.call("try", json!({"what": "environment", "on": ""})).await?.text();
    assert!(names.contains("TMPDIR") && !names.contains("CANARY"), "{names}");
    let whole = client.call("try", json!({"what": "read", "on": "/proc/self/environ"})).await?.text();
    assert!(whole.starts_with("done: ") && !whole.contains("do-not-tell"), "{whole}");
    Ok(())
}

#[tokio::test]
async fn another_servers_processes_and_folders_are_out_of_reach() -> Outcome {
    let Some(python) = able("another_servers_processes_and_folders_are_out_of_reach") else { return Ok(()) };
    let command = json!(python.command);
    let extra = format!("  other:\n    command: {command}\n    sandbox: {{}}\n");
    let world = World::start(&python, |_| "{}".to_owned(), &extra).await?;
    let url = world.gateway.url("other");
    let key = world.gateway.key()?;
    let mut other = McpClient::connect(&url, Some(key), Era::Modern).await?;
    let pid = other.call("try", json!({"what": "pid", "on": ""})).await?.text();
    let pid = pid.trim_start_matches("done: ").to_owned();
    let folder = other.call("try", json!({"what": "environment", "on": "TMPDIR"})).await?.text();
    let folder = folder.trim_start_matches("done: ").to_owned();
    for (what, on, kind, target) in [
        ("signal", pid.clone(), "signal", format!("process {pid}")),
        ("read", format!("/proc/{pid}/environ"), "read", format!("/proc/{pid}/environ")),
        ("list", folder.clone(), "read", folder.clone()),
        ("write", format!("{folder}/planted"), "write", format!("{folder}/planted")),
    ] {
        let tried = world.attempt(what, &on).await?;
        assert!(tried.starts_with("failed: "), "{what} {on}: {tried}");
        world.recorded(kind, &target).await?;
    }
    assert!(
        other.call("try", json!({"what": "pid", "on": ""})).await?.text().ends_with(&pid),
        "it still runs"
    );
    Ok(())
}

#[tokio::test]
async fn sockets_of_the_file_system_and_without_a_place_stay_closed_unless_they_were_opened() -> Outcome {
    let name = "sockets_of_the_file_system_and_without_a_place_stay_closed_unless_they_were_opened";
    let Some(python) = able(name) else { return Ok(()) };
    for (section, opened) in [("{network: open}", false), ("{network: open, unix_sockets: true}", true)] {
        let world = World::start(&python, |_| section.to_owned(), "").await?;
        let path = world.path("given/socket");
        let _listener = UnixListener::bind(&path)?;
        let tried = world.attempt("unix", &path).await?;
        assert_eq!(tried.starts_with("done: "), opened, "{section}: {tried}");
        // Those without a place belong to processes outside, whatever was opened.
        let hidden = format!("portcullis-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&hidden)?;
        let _hidden = UnixListener::bind_addr(&address)?;
        let tried = world.attempt("unix", &format!("@{hidden}")).await?;
        assert!(tried.starts_with("failed: "), "{section}: {tried}");
        let recorded = world.all_incidents().await?.iter().any(|data| data["target"] == "unix stream");
        assert_eq!(recorded, !opened, "{section}");
    }
    Ok(())
}

#[tokio::test]
async fn a_program_with_another_users_bit_gives_no_rights_and_one_outside_does_not_start() -> Outcome {
    let name = "a_program_with_another_users_bit_gives_no_rights_and_one_outside_does_not_start";
    let Some(python) = able(name) else { return Ok(()) };
    let world = World::start(&python, |given| format!("{{write: [{given:?}]}}"), "").await?;
    let (given, secret) = (world.path("given/program"), world.path("secret/program"));
    for path in [&given, &secret] {
        fs::copy("/bin/true", path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o4755))?;
    }
    assert_eq!(world.attempt("run", &given).await?, "done: 0");
    let tried = world.attempt("run", &secret).await?;
    // A child that could not start a program says so with 127.
    assert!(tried == "done: 127" || tried.starts_with("failed: "), "{tried}");
    world.recorded("execute", &secret).await?;
    let status = world.attempt("read", "/proc/self/status").await?;
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    Ok(())
}

#[tokio::test]
async fn memory_has_a_bound() -> Outcome {
    let Some(python) = able("memory_has_a_bound") else { return Ok(()) };
    let world = World::start(&python, |_| "{memory_bytes_max: 134217728}".to_owned(), "").await?;
    assert_eq!(world.attempt("memory", "16").await?, "done: 16");
    let tried = world.attempt("memory", "512").await?;
    assert!(tried.starts_with("failed: "), "{tried}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_fills_its_temporary_folder_is_killed_and_recorded() -> Outcome {
    let name = "a_server_that_fills_its_temporary_folder_is_killed_and_recorded";
    let Some(python) = able(name) else { return Ok(()) };
    let world = World::start(&python, |_| "{temp_bytes_max: 8388608}".to_owned(), "").await?;
    assert!(world.attempt("fill", "2").await?.starts_with("done: "));
    // It either is killed in the middle, or has said so before somebody looked.
    world.attempt("fill", "32").await?;
    let found = world.recorded("disk", "temporary folder").await?;
    assert!(
        found["detail"].as_str().is_some_and(|detail| detail.ends_with("8388608 are allowed")),
        "{found}"
    );
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_is_killed_leaves_no_server_that_does_more() -> Outcome {
    let Some(_) = able("a_gateway_that_is_killed_leaves_no_server_that_does_more") else { return Ok(()) };
    let mut world = World::start(&Program::rust(CHILD), |_| "{}".to_owned(), "").await?;
    assert!(world.attempt("read", "/etc/hosts").await?.starts_with("done: "));
    let gateway = world.gateway.pid().ok_or("not running")?;
    let children = |parent: u32| {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let parent = format!("PPid:\t{parent}\n");
        let of = move |path: std::path::PathBuf| {
            fs::read_to_string(path.join("status")).is_ok_and(|text| text.contains(&parent))
        };
        processes.filter(|entry| of(entry.path())).map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let held = children(gateway);
    assert!(!held.is_empty());
    world.gateway.kill()?;
    portcullis_tests::pair::soon("the children end with their input", || {
        held.iter().all(|path| !path.exists())
    })
    .await
}
