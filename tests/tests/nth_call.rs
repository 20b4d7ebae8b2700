//! The n-th call of the gateway into the system fails, for whatever call and n: it starts or says why not, calls are
//! answered or refused, it ends when it is asked to, and afterwards everything that was answered is in a ledger that
//! verifies. `NTH_SEED` repeats a run's choices, `TORTURE` makes it longer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portcullis_testkit::{Gateway, HostileServer, Outcome};
use portcullis_tests::book::{Book, verified};
use portcullis_tests::chance::{Chance, torture};
use portcullis_tests::load::{Call, Load};
use portcullis_tests::pair::limits_yaml;
use tempfile::TempDir;

/// Calls into the system, how they fail, and about how many of them a start makes.
const FAILURES: &[(&str, &str, u64)] = &[
    ("openat", "EIO", 90),
    ("openat", "EMFILE", 90),
    ("pwrite64", "ENOSPC", 130),
    ("pwrite64", "EIO", 130),
    ("pread64", "EIO", 70),
    ("fsync", "EIO", 50),
    ("fdatasync", "EIO", 8),
    ("rename", "EIO", 10),
    ("ftruncate", "EIO", 8),
    ("mkdir", "ENOSPC", 12),
    ("unlink", "EIO", 12),
    ("newfstatat", "EIO", 110),
    ("getdents64", "EIO", 12),
    ("flock", "EIO", 6),
];

/// How long calls are made at a gateway that was tampered with.
const LOAD: Duration = Duration::from_millis(600);

/// A gateway whose starts can be tampered with, and the server behind it.
struct World {
    gateway: Gateway,
    server: HostileServer,
    /// What stands before the program when it is started.
    prefix: PathBuf,
    book: Book,
    /// Starts that ended with a word why, and those that went on.
    ended: usize,
    went_on: usize,
    _folder: TempDir,
}

impl World {
    async fn start() -> Outcome<Option<Self>> {
        let probe = std::process::Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
        if !probe.is_ok_and(|status| status.success()) {
            println!("not run: strace is not installed or may not trace");
            return Ok(None);
        }
        let folder = tempfile::Builder::new().prefix("portcullis-nth-").tempdir()?;
        let (prefix, binary) = (folder.path().join("prefix"), folder.path().join("tampered"));
        let built = Gateway::builder().prepare()?;
        let script =
            format!("#!/bin/sh\nexec $(cat {}) {} \"$@\"\n", prefix.display(), built.binary().display());
        fs::write(&binary, script)?;
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
        fs::write(&prefix, "env")?;
        let server = HostileServer::start().await?;
        let rates = [
            ("caller_rate_per_s", 1_000_000),
            ("caller_burst_max", 1_000_000),
            ("source_rate_per_s", 1_000_000),
            ("source_burst_max", 1_000_000),
        ];
        let yaml = format!(
            "servers:\n  s:\n    url: {}\nledger:\n  checkpoint_ms: 50\n{}",
            server.url(),
            limits_yaml(&rates)
        );
        let mut gateway = Gateway::builder().binary(&binary).config(&yaml).start().await?;
        assert!(gateway.stop().await?.success());
        let book = Book::default();
        Ok(Some(Self { gateway, server, prefix, book, ended: 0, went_on: 0, _folder: folder }))
    }

    /// Starts it while the n-th of these calls of each thread fails, and those after it where `on` says so.
    async fn tampered(&mut self, call: &str, error: &str, number: u64, on: bool) -> Outcome {
        let when = if on { format!("{number}+") } else { number.to_string() };
        let words = format!(
            "strace -D -f -qq -o /dev/null -e trace={call} -e inject={call}:error={error}:when={when}"
        );
        fs::write(&self.prefix, words)?;
        let before = self.gateway.output().len();
        let started = self.gateway.start_again().await;
        fs::write(&self.prefix, "env")?;
        match started {
            Ok(()) => self.went_on += 1,
            Err(fault) => {
                let said = self.gateway.output();
                assert!(!self.gateway.running(), "neither ready nor ended: {fault}\n{said}");
                // The loader of programs says it in its own words.
                assert!(
                    said.len() > before && said.contains("rror"),
                    "it ended without a word: {fault}\n{said}"
                );
                self.ended += 1;
            }
        }
        Ok(())
    }

    /// Calls for a moment; what clients saw.
    async fn called(&mut self, name: &str) -> Outcome<Vec<Call>> {
        if !self.gateway.running() {
            return Ok(Vec::new());
        }
        let load = Load::start(self.gateway.address(), self.gateway.key()?, &["s"], 4, name);
        let due = Instant::now() + LOAD;
        while Instant::now() < due && load.answered() < 40 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let journal = if self.gateway.running() {
            let journal = load.end().await;
            let _status = self.gateway.stop().await?;
            journal
        } else {
            load.broken().await
        };
        let other =
            journal.iter().find(|call| call.status.is_some_and(|status| !matches!(status, 200 | 500..)));
        assert!(other.is_none(), "{other:?}");
        Ok(journal)
    }

    /// What must hold when nothing fails any more.
    async fn after(&mut self, journal: &[Call]) -> Outcome {
        self.gateway.start_again().await?;
        self.book.read(&self.gateway).await?;
        self.book.holds(journal)?;
        let received = self.server.received().into_iter().filter(|request| request.method == "tools/call");
        self.book.holds_forwarded(received.map(|request| request.body))?;
        self.server.forget();
        assert!(self.gateway.stop().await?.success());
        verified(&self.gateway)?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_call_into_the_system_fails_answers_stay_in_the_ledger() -> Outcome {
    let mut chance = Chance::named("NTH_SEED");
    let Some(mut world) = World::start().await? else { return Ok(()) };
    let mut answers = 0;
    for round in 0..torture() {
        for (call, error, count) in FAILURES {
            let (number, on) = (1 + chance.below(*count), chance.below(2) == 0);
            let name = format!("round {round}: {call} {error} {number}{}", if on { "+" } else { "" });
            let fault = |fault| format!("{name}: {fault}");
            println!("{name}");
            world.tampered(call, error, number, on).await.map_err(fault)?;
            let journal = world.called(&name).await.map_err(fault)?;
            answers += journal.iter().filter(|call| call.status == Some(200)).count();
            world.after(&journal).await.map_err(fault)?;
        }
    }
    println!("{} starts ended, {} went on, {answers} answers are in the ledger", world.ended, world.went_on);
    assert!(world.ended > 0 && world.went_on > 0 && answers > 20);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_very_first_start_in_which_a_call_into_the_system_fails_is_followed_by_one_that_works() -> Outcome {
    let mut chance = Chance::named("NTH_SEED");
    let Some(mut world) = World::start().await? else { return Ok(()) };
    for round in 0..torture() {
        for (call, error, count) in FAILURES {
            let (number, on) = (1 + chance.below(*count), chance.below(2) == 0);
            let name = format!("round {round}: {call} {error} {number}{}", if on { "+" } else { "" });
            let fault = |fault| format!("{name}: {fault}");
            println!("{name}");
            fs::remove_dir_all(world.gateway.data())?;
            world.tampered(call, error, number, on).await.map_err(fault)?;
            if world.gateway.running() {
                let _status = world.gateway.stop().await.map_err(fault)?;
            }
            world.gateway.start_again().await.map_err(fault)?;
            assert!(world.gateway.stop().await?.success());
            verified(&world.gateway).map_err(fault)?;
        }
    }
    Ok(())
}
