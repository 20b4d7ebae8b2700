//! A power cut in the middle of calls: only what was flushed to the disk is left, and all that was answered is there.
//! `CUT_SEED` repeats a run's choices, `TORTURE` makes it longer.

use std::fs;
use std::time::Duration;

use portcullis_testkit::{Gateway, HostileServer, Outcome};
use portcullis_tests::book::{Book, verified};
use portcullis_tests::chance::{Chance, torture};
use portcullis_tests::disk::{PowerDisk, unmountable};
use portcullis_tests::load::{Call, Load};
use portcullis_tests::pair::{SOON, soon};
use portcullis_tests::strace::Tampered;
use tempfile::TempDir;

/// Calls at once.
const CONNECTIONS: usize = 16;

/// A gateway with everything it has on a disk that loses its power.
struct World {
    gateway: Gateway,
    server: HostileServer,
    disk: PowerDisk,
    _parent: TempDir,
}

impl World {
    /// Starts it; nothing where the machine has no such disk.
    async fn start() -> Outcome<Option<Self>> {
        if let Some(reason) = unmountable() {
            println!("{reason}");
            return Ok(None);
        }
        let parent = tempfile::Builder::new().prefix("portcullis-cut-").tempdir()?;
        let disk = match PowerDisk::mount(parent.path())? {
            Ok(disk) => disk,
            Err(reason) => {
                println!("{reason}");
                return Ok(None);
            }
        };
        let server = HostileServer::start().await?;
        let yaml = format!("servers:\n  s:\n    url: {}\n", server.url());
        let gateway = Gateway::builder().folder(&disk.folder().join("run")).config(&yaml).start().await?;
        server.wait_until(SOON, |server| server.count("resources/templates/list") > 0).await?;
        // The configuration is an editor's to flush.
        fs::File::open(gateway.folder().join("portcullis.yaml"))?.sync_all()?;
        fs::File::open(gateway.folder())?.sync_all()?;
        Ok(Some(Self { gateway, server, disk, _parent: parent }))
    }

    /// Calls, and the end of the power in the middle of them; returns what clients saw.
    async fn cut(&mut self, name: &str, wait: Duration) -> Outcome<Vec<Call>> {
        let key = self.gateway.key()?.to_owned();
        let load = Load::start(self.gateway.address(), &key, &["s"], CONNECTIONS, name);
        soon("calls pass", || load.answered() > 20).await?;
        tokio::time::sleep(wait).await;
        // Never flushed: it shows below that the cut loses what nobody flushed.
        let unflushed = self.gateway.folder().join(format!("unflushed {name}"));
        fs::write(&unflushed, vec![b'x'; 4096])?;
        self.gateway.freeze()?;
        self.disk.snapshot()?;
        self.gateway.kill()?;
        let journal = load.broken().await;
        self.disk.cut()?;
        let left = fs::read(&unflushed).unwrap_or_default();
        assert!(!left.contains(&b'x'), "the cut lost nothing");
        Ok(journal)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_before_a_power_cut_is_in_the_ledger_after_it() -> Outcome {
    let mut chance = Chance::named("CUT_SEED");
    let Some(mut world) = World::start().await? else { return Ok(()) };
    let (mut journal, mut book) = (Vec::new(), Book::default());
    let cuts = 6 * torture();
    for number in 0..cuts {
        let wait = Duration::from_micros(chance.below(200_000));
        journal.extend(world.cut(&number.to_string(), wait).await?);
        let World { gateway, server, .. } = &mut world;
        gateway.start_again().await.map_err(|fault| format!("cut {number}: {fault}"))?;
        verified(gateway).map_err(|fault| format!("cut {number}: {fault}"))?;
        book.read(gateway).await?;
        book.holds(&journal).map_err(|fault| format!("cut {number}: {fault}"))?;
        let received = server.received().into_iter().filter(|request| request.method == "tools/call");
        book.holds_forwarded(received.map(|request| request.body))?;
        server.forget();
    }
    println!("{} answers survived {cuts} power cuts", book.holds(&journal)?);
    assert!(world.gateway.stop().await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_shows_it_when_flushes_do_nothing() -> Outcome {
    let Some(mut world) = World::start().await? else { return Ok(()) };
    let lying = Tampered::with(&world.gateway, "fsync,fdatasync", "retval=0").await?;
    if lying.is_none() {
        println!("not run: strace is not installed or may not trace");
        return Ok(());
    }
    let journal = world.cut("lied to", Duration::from_millis(50)).await?;
    drop(lying);
    // Whether it starts on what is left is chance; that it has everything would mean that the tests above see nothing.
    if world.gateway.start_again().await.is_ok() {
        let mut book = Book::default();
        book.read(&world.gateway).await?;
        let fault = book.holds(&journal).expect_err("answers must be missing").to_string();
        assert!(fault.contains("no intent in the ledger"), "{fault}");
    }
    Ok(())
}
