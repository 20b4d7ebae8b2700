//! A disk that fails under the ledger: full, read only, out of reach, or with flushes that fail. Calls are refused
//! with `ledger.unavailable`, nothing is forwarded, everybody is told, and the gateway goes on by itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portcullis_core::Digest;
use portcullis_testkit::{Client, Era, Gateway, HostileServer, McpClient, Outcome};
use portcullis_tests::book::{Book, verified};
use portcullis_tests::disk::{SmallDisk, unmountable};
use portcullis_tests::load::{Call, Load};
use portcullis_tests::pair::{SOON, limits_yaml, soon, verdict};
use portcullis_tests::strace::Tampered;
use serde_json::json;

/// Calls at once.
const CONNECTIONS: usize = 16;

/// Room for the ledger: enough for thousands of entries, their tiles and a probe.
const DISK_KIB: u32 = 8 * 1024;

const LIMITS: &[(&str, u64)] = &[
    ("caller_rate_per_s", 1_000_000),
    ("caller_burst_max", 1_000_000),
    ("source_rate_per_s", 1_000_000),
    ("source_burst_max", 1_000_000),
];

/// A gateway whose ledger is in a folder of its own, and the server behind it.
struct World {
    gateway: Gateway,
    server: HostileServer,
    /// Unmounted after the gateway ended, since fields are dropped in order.
    disk: Option<SmallDisk>,
    folder: tempfile::TempDir,
    calls: AtomicUsize,
}

impl World {
    /// Starts all of it; the ledger is on a small disk where `small` says so.
    async fn start(small: bool, wrapper: Option<&str>) -> Outcome<Self> {
        Self::start_with(small, wrapper, &[]).await
    }

    /// The same with more limits.
    async fn start_with(small: bool, wrapper: Option<&str>, limits: &[(&str, u64)]) -> Outcome<Self> {
        let folder = tempfile::Builder::new().prefix("portcullis-disk-").tempdir()?;
        let ledger = folder.path().join("ledger");
        let disk = if small { Some(SmallDisk::mount(&ledger, DISK_KIB)?) } else { None };
        let server = HostileServer::start().await?;
        let yaml = format!(
            "servers:\n  s:\n    url: {}\nledger:\n  directory: {}/log\n  checkpoint_ms: 50\n{}",
            server.url(),
            ledger.display(),
            limits_yaml(&[LIMITS, limits].concat())
        );
        let mut builder = Gateway::builder().config(&yaml);
        if let Some(wrapper) = wrapper {
            builder = builder.binary(&wrapped(folder.path(), wrapper)?);
        }
        let gateway = builder.start().await?;
        let last = |server: &HostileServer| server.count("resources/templates/list") > 0;
        server.wait_until(SOON, last).await?;
        Ok(Self { gateway, server, disk, folder, calls: AtomicUsize::new(0) })
    }

    fn disk(&self) -> Outcome<&SmallDisk> {
        self.disk.as_ref().ok_or_else(|| "no disk of its own".into())
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("ledger/log")
    }

    fn load(&self, run: &str) -> Outcome<Load> {
        Ok(Load::start(self.gateway.address(), self.gateway.key()?, &["s"], CONNECTIONS, run))
    }

    async fn call(&self) -> Outcome<(u16, String)> {
        let mut client = McpClient::new(&self.gateway.url("s"), Some(self.gateway.key()?), Era::Modern);
        // A body of its own, so that the ledger can be asked for it.
        let text = format!("single {}", self.calls.fetch_add(1, Ordering::Relaxed));
        Ok(verdict(&client.call("echo", json!({"text": text})).await?))
    }

    /// The statuses of `/healthz` on both listeners, and what the admin API says is wrong.
    async fn health(&self) -> Outcome<(u16, u16, String)> {
        let client = Client::default();
        let data = client.get(&format!("{}/healthz", self.gateway.base()), &[]).await?;
        let admin = client.get(&format!("{}/healthz", self.gateway.admin_base()), &[]).await?;
        Ok((data.status.as_u16(), admin.status.as_u16(), admin.text()))
    }

    /// Waits until calls are refused because of the ledger and nothing is forwarded any more, then holds what must
    /// be so. What was recorded just before may still be on its way, and a little room may come back at first when
    /// tiles take the place of the write-ahead log.
    async fn refuses(&self, reason: &str) -> Outcome {
        let due = Instant::now() + SOON;
        loop {
            let forwarded = self.server.count("tools/call");
            let mut refused = 0;
            while refused < 20 && self.call().await? == (503, "ledger.unavailable".to_owned()) {
                refused += 1;
            }
            if refused == 20 && self.server.count("tools/call") == forwarded {
                break;
            }
            assert!(Instant::now() < due, "calls go on");
            if let Some(disk) = self.disk.as_ref().filter(|disk| disk.filled()) {
                disk.fill()?;
            }
        }
        let (data, admin, text) = self.health().await?;
        assert_eq!((data, admin), (503, 503), "{text}");
        assert!(text.contains(reason), "{text}");
        let log = self.gateway.output();
        let told = "the ledger cannot be written; calls are refused until it can";
        assert!(log.contains(told) && log.contains(reason), "{log}");
        Ok(())
    }

    /// Waits until calls are answered again, without anybody's help.
    async fn recovers(&self) -> Outcome {
        let due = Instant::now() + SOON;
        while self.call().await?.0 != 200 {
            assert!(Instant::now() < due, "still refused");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (data, admin, text) = self.health().await?;
        assert_eq!((data, admin), (200, 200), "{text}");
        Ok(())
    }

    /// The ledger verifies, holds what was answered and what was forwarded, and nothing that was refused before.
    async fn holds(&self, journal: &[Call]) -> Outcome<Book> {
        let mut book = Book::default();
        book.read(&self.gateway).await?;
        book.holds(journal)?;
        let received = self.server.received();
        let called = received.iter().filter(|request| request.method == "tools/call");
        book.holds_forwarded(called.clone().map(|request| request.body.clone()))?;
        let forwarded: Vec<Digest> = called.map(|request| Digest::of(&request.body)).collect();
        for call in journal.iter().filter(|call| call.status == Some(503)) {
            // Refused after it was forwarded: the outcome could not be recorded, so the answer was not released.
            let passed = forwarded.contains(&call.input);
            assert_eq!(book.knows(&call.input), passed, "{call:?}");
        }
        verified(&self.gateway)?;
        Ok(book)
    }
}

/// A program that becomes the gateway by way of another.
fn wrapped(folder: &Path, wrapper: &str) -> Outcome<PathBuf> {
    let built = Gateway::builder().prepare()?;
    let path = folder.join("wrapped");
    fs::write(&path, format!("#!/bin/sh\nexec {wrapper} {} \"$@\"\n", built.binary().display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_every_call_tells_everybody_and_recovers_alone() -> Outcome {
    if let Some(reason) = unmountable() {
        println!("{reason}");
        return Ok(());
    }
    let mut world = World::start(true, None).await?;
    let mut journal = Vec::new();
    for round in 0..3 {
        let load = world.load(&format!("round {round}"))?;
        soon("calls pass", || load.answered() > 50).await?;
        world.disk()?.fill()?;
        world.refuses("No space left").await?;
        // The command line refuses to change what it could not record.
        let output = world.gateway.command(&["key", "create", "late", "--role", "reader"])?;
        assert!(!output.status.success(), "{output:?}");
        world.disk()?.free()?;
        world.recovers().await?;
        let seen = load.answered();
        soon("the load passes again", || load.answered() > seen + 50).await?;
        journal.extend(load.end().await);
    }
    let refused = journal.iter().filter(|call| call.status == Some(503)).count();
    let passed = journal.iter().filter(|call| call.status == Some(200)).count();
    assert_eq!(refused + passed, journal.len(), "nothing else happened");
    assert!(refused > 0 && passed > 300, "{refused} refused, {passed} passed");
    let book = world.holds(&journal).await?;
    assert_eq!(book.count("key.created"), 1, "the first key alone");
    assert!(book.open().is_empty() || refused > 0);
    assert!(world.gateway.stop().await?.success());
    assert_eq!(verified(&world.gateway)?.1, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_on_a_full_disk_keeps_its_promises_when_there_is_room_again() -> Outcome {
    if let Some(reason) = unmountable() {
        println!("{reason}");
        return Ok(());
    }
    let mut world = World::start(true, None).await?;
    let load = world.load("before")?;
    soon("calls pass", || load.answered() > 50).await?;
    world.disk()?.fill()?;
    world.refuses("No space left").await?;
    world.gateway.kill()?;
    let journal = load.broken().await;
    verified(&world.gateway)?;
    // On the full disk it does not start, and says why; what is there stays whole.
    let fault = world.gateway.start_again().await.expect_err("no start without room").to_string();
    assert!(fault.contains("No space left"), "{fault}");
    verified(&world.gateway)?;
    world.disk()?.free()?;
    world.gateway.start_again().await?;
    world.recovers().await?;
    let mut book = Book::default();
    book.read(&world.gateway).await?;
    assert!(book.holds(&journal)? > 50);
    verified(&world.gateway)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_disk_keeps_the_gateway_from_starting_and_says_so() -> Outcome {
    if let Some(reason) = unmountable() {
        println!("{reason}");
        return Ok(());
    }
    let mut world = World::start(true, None).await?;
    assert_eq!(world.call().await?.0, 200);
    assert!(world.gateway.stop().await?.success());
    world.disk()?.read_only(true)?;
    verified(&world.gateway)?;
    let fault = world.gateway.start_again().await.expect_err("nothing can be written").to_string();
    assert!(fault.contains("Read-only file system") && fault.contains("ledger"), "{fault}");
    world.disk()?.read_only(false)?;
    world.gateway.start_again().await?;
    assert_eq!(world.call().await?.0, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_nobody_may_read_is_not_started_on_and_a_running_one_catches_up_when_it_may() -> Outcome
{
    // Root is above permissions; without this capability it is not.
    let wrapper = "setpriv --bounding-set -dac_override,-dac_read_search --inh-caps -all";
    let wrapper = rustix::process::geteuid().is_root().then_some(wrapper);
    let mut world = World::start(false, wrapper).await?;
    let open = |world: &World, mode: u32| fs::set_permissions(world.log(), fs::Permissions::from_mode(mode));
    assert_eq!(world.call().await?.0, 200);
    open(&world, 0o000)?;
    // Files that are open stay writable, so calls are recorded; tiles cannot be made, which is said.
    let load = world.load("locked")?;
    soon("calls pass", || load.answered() > 20).await?;
    let words = || world.gateway.output().contains("no checkpoint can be made; it is tried again");
    soon("the log says that checkpoints fail", words).await?;
    let (_, _, text) = world.health().await?;
    assert!(text.contains("Permission denied"), "{text}");
    open(&world, 0o700)?;
    let due = Instant::now() + SOON;
    while !world.health().await?.2.contains("\"error\":null") {
        assert!(Instant::now() < due, "no checkpoint is made: {}", world.health().await?.2);
    }
    let journal = load.end().await;
    world.holds(&journal).await?;
    assert!(world.gateway.stop().await?.success());
    open(&world, 0o000)?;
    let fault = world.gateway.start_again().await.expect_err("nothing can be read").to_string();
    assert!(fault.contains("Permission denied") && fault.contains("ledger"), "{fault}");
    open(&world, 0o700)?;
    world.gateway.start_again().await?;
    assert_eq!(world.call().await?.0, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_that_fails_is_never_taken_for_a_durable_entry() -> Outcome {
    let mut world = World::start(false, None).await?;
    let mut journal = Vec::new();
    // First each flush of entries alone, so that the ledger recovers and fails again; then every flush there is.
    for calls in ["fdatasync", "fsync,fdatasync"] {
        let load = world.load(calls)?;
        soon("calls pass", || load.answered() > 20).await?;
        let Some(failing) = Tampered::with(&world.gateway, calls, "error=EIO").await? else {
            println!("not run: strace is not installed or may not trace");
            return Ok(());
        };
        world.refuses("Input/output error").await?;
        failing.end().await?;
        world.recovers().await?;
        journal.extend(load.end().await);
    }
    let refused = journal.iter().filter(|call| call.status == Some(503)).count();
    assert!(refused > 20, "{refused} refused");
    world.holds(&journal).await?;
    // The same promise when the process dies before it recovers.
    let load = world.load("killed")?;
    let Some(_failing) = Tampered::with(&world.gateway, "fsync,fdatasync", "error=EIO").await? else {
        return Err("strace traced before".into());
    };
    world.refuses("Input/output error").await?;
    world.gateway.kill()?;
    let journal = load.broken().await;
    world.gateway.start_again().await?;
    let mut book = Book::default();
    book.read(&world.gateway).await?;
    book.holds(&journal)?;
    verified(&world.gateway)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_does_not_answer_makes_nobody_wait_for_long_and_is_said_to() -> Outcome {
    let world = World::start_with(false, None, &[("ledger_timeout_ms", 200)]).await?;
    // So long for every flush of entries.
    let Some(slow) = Tampered::with(&world.gateway, "fdatasync", "delay_enter=9000000").await? else {
        println!("not run: strace is not installed or may not trace");
        return Ok(());
    };
    let forwarded = world.server.count("tools/call");
    for _ in 0..5 {
        let started = Instant::now();
        assert_eq!(world.call().await?, (503, "ledger.unavailable".to_owned()));
        // The intent and the refusal wait for as long as they may, and no longer.
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    }
    assert_eq!(world.server.count("tools/call"), forwarded, "nothing is forwarded");
    let (data, admin, text) = world.health().await?;
    assert_eq!((data, admin), (503, 503), "{text}");
    assert!(text.contains("does not answer in time"), "{text}");
    assert!(world.gateway.output().contains("the disk does not answer"), "{}", world.gateway.output());
    slow.end().await?;
    world.recovers().await?;
    world.holds(&[]).await?;
    Ok(())
}
