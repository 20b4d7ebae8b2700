//! A gateway that is killed at random instants: whatever a client saw answered is in the ledger, whatever a server
//! received has its intent there, the ledger verifies before and after the restart, and nothing is left running.
//! `KILL_SEED` repeats a run's choices, `TORTURE` makes it longer.

use std::fs::{self, File};
use std::io::Write as _;
use std::time::{Duration, Instant};

use portcullis_testkit::{Gateway, HostileServer, Outcome};
use portcullis_tests::book::{Book, verified};
use portcullis_tests::chance::{Chance, torture};
use portcullis_tests::load::{Call, Load};
use portcullis_tests::pair::{Pair, soon};
use portcullis_tests::process::{children, cpu_ms, gone};

/// Calls at once.
const CONNECTIONS: usize = 16;

/// What a restart may take; on a machine that is slower than that, some times what the fastest took there.
const RESTART_MAX_MS: u64 = 2_000;

/// Rates are no matter here.
const LIMITS: &[(&str, u64)] = &[
    ("caller_rate_per_s", 1_000_000),
    ("caller_burst_max", 1_000_000),
    ("source_rate_per_s", 1_000_000),
    ("source_burst_max", 1_000_000),
];

/// What all rounds of one test share.
struct World {
    gateway: Gateway,
    server: Option<HostileServer>,
    chance: Chance,
    book: Book,
    journal: Vec<Call>,
    restarts: Vec<Duration>,
    /// Processor time of the restart that used least.
    least_ms: u64,
    torn: usize,
}

impl World {
    /// Calls, and the end of the process in the middle of them. A gateway with children has to wait for their first
    /// words, so the span of instants starts after the first answers.
    async fn round(&mut self, number: usize, servers: &[&str]) -> Outcome {
        let key = self.gateway.key()?.to_owned();
        let load =
            Load::start(self.gateway.address(), &key, servers, CONNECTIONS, &format!("round {number}"));
        soon("first answers", || load.answered() > 8).await?;
        tokio::time::sleep(Duration::from_micros(self.chance.below(120_000))).await;
        let (born, dead) = children(self.gateway.pid().ok_or("no process")?);
        assert!(dead.is_empty(), "round {number}: zombies {dead:?}");
        self.gateway.kill()?;
        let journal = load.broken().await;
        let other: Vec<_> = journal.iter().filter(|call| !matches!(call.status, None | Some(200))).collect();
        let log = self.gateway.output();
        let refused: Vec<_> = log.lines().filter(|line| line.contains("refused")).collect();
        assert!(other.is_empty(), "round {number}: {other:?}\n{}", refused.join("\n"));
        for child in born {
            soon("the children of a killed gateway end", || gone(child)).await?;
        }
        self.journal.extend(journal.iter().cloned());
        self.after(number, &journal).await
    }

    /// What must hold after a kill.
    async fn after(&mut self, number: usize, journal: &[Call]) -> Outcome {
        verified(&self.gateway).map_err(|fault| format!("after kill {number}: {fault}"))?;
        if self.chance.below(3) == 0 {
            self.tear()?;
        }
        if self.chance.below(4) == 0 {
            self.kill_while_it_starts().await?;
        }
        let started = Instant::now();
        self.gateway.start_again().await.map_err(|fault| format!("after kill {number}: {fault}"))?;
        self.restarts.push(started.elapsed());
        let used = self.gateway.pid().and_then(cpu_ms).ok_or("no process")?;
        self.least_ms = self.least_ms.min(used);
        assert!(
            used < RESTART_MAX_MS.max(6 * self.least_ms),
            "restart {number} used {used} ms of processor time, another {} ms",
            self.least_ms
        );
        verified(&self.gateway).map_err(|fault| format!("after restart {number}: {fault}"))?;
        self.book.read(&self.gateway).await?;
        self.book.holds(journal).map_err(|fault| format!("after kill {number}: {fault}"))?;
        if let Some(server) = &self.server {
            let received = server.received().into_iter().filter(|request| request.method == "tools/call");
            self.book.holds_forwarded(received.map(|request| request.body))?;
            server.forget();
        }
        Ok(())
    }

    /// Half a batch at the end of the write-ahead log, as a power cut leaves it: a kill alone never tears, since the
    /// kernel has what was written.
    fn tear(&mut self) -> Outcome {
        let folder = self.gateway.data().join("ledger/wal");
        let names = fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?;
        let last = names.into_iter().map(|entry| entry.path()).max().ok_or("no segment")?;
        let bytes = fs::read(&last)?;
        let mut file = File::options().append(true).open(&last)?;
        let torn = match bytes.get(..self.chance.below(bytes.len() as u64) as usize) {
            // The head of a frame that says more than there is.
            Some(head) if self.chance.below(2) == 0 => {
                head.get(..head.len().min(11)).unwrap_or_default().to_vec()
            }
            _ => {
                let count = 1 + self.chance.below(300);
                self.chance.bytes(count)
            }
        };
        file.write_all(&torn)?;
        if !torn.is_empty() {
            self.torn += 1;
            // From outside, a batch that never became whole looks like one that was cut; only a start may judge it.
            let fault = verified(&self.gateway).expect_err("a torn end is found").to_string();
            assert!(fault.contains("ends inside a batch"), "{fault}");
        }
        Ok(())
    }

    /// A recovery that is killed is followed by another.
    async fn kill_while_it_starts(&mut self) -> Outcome {
        let wait = Duration::from_micros(self.chance.below(250_000));
        let _started_before = tokio::time::timeout(wait, self.gateway.start_again()).await;
        self.gateway.kill()
    }

    /// The whole ledger once more, from its first entry, against the whole journal.
    async fn sum(mut self, kills: usize) -> Outcome {
        let mut again = Book::default();
        again.read(&self.gateway).await?;
        let acknowledged = again.holds(&self.journal)?;
        let recoveries = again.count("ledger.recovered");
        self.restarts.sort_unstable();
        let median = self.restarts.get(self.restarts.len() / 2).copied().unwrap_or_default();
        println!(
            "{kills} kills, {acknowledged} acknowledged of {} calls, {} entries, {} torn ends, {recoveries} recoveries, restart {median:?} (slowest {:?})",
            self.journal.len(),
            again.size(),
            self.torn,
            self.restarts.last(),
        );
        assert!(acknowledged > kills * 5, "too few calls to mean something");
        assert!(recoveries > kills / 2, "kills under load leave something to recover");
        assert!(self.torn > 0);
        // The median: what a busy machine does to a single start is no matter of ours.
        let fastest = self.restarts.first().copied().unwrap_or_default();
        let most = Duration::from_millis(RESTART_MAX_MS).max(6 * fastest);
        assert!(median < most, "restarts took {median:?}, the fastest {fastest:?}");
        assert!(self.gateway.stop().await?.success());
        let (size, pending) = verified(&self.gateway)?;
        assert_eq!(pending, 0);
        assert!(size > again.size());
        Ok(())
    }
}

fn world(gateway: Gateway, server: Option<HostileServer>) -> World {
    World {
        gateway,
        server,
        chance: Chance::named("KILL_SEED"),
        book: Book::default(),
        journal: Vec::new(),
        restarts: Vec::new(),
        least_ms: u64::MAX,
        torn: 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_before_a_kill_and_everything_forwarded_is_in_the_ledger_after_it() -> Outcome {
    let kills = 32 * torture();
    let Pair { gateway, server } = Pair::start(LIMITS).await?;
    let mut world = world(gateway, Some(server));
    for number in 0..kills {
        world.round(number, &["s"]).await?;
    }
    world.sum(kills).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateway_leaves_no_child_behind_and_its_answers_are_in_the_ledger() -> Outcome {
    let kills = 20 * torture();
    let gateway = Gateway::start(&portcullis_tests::pair::limits_yaml(LIMITS)).await?;
    let mut world = world(gateway, None);
    for number in 0..kills {
        world.round(number, &["sample"]).await?;
    }
    world.sum(kills).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_in_its_very_first_start_starts_the_next_time() -> Outcome {
    let mut chance = Chance::named("KILL_SEED");
    for _ in 0..12 {
        let mut gateway = Gateway::builder().prepare()?;
        let wait = Duration::from_micros(chance.below(300_000));
        let _started_before = tokio::time::timeout(wait, gateway.start_again()).await;
        gateway.kill()?;
        gateway.start_again().await.map_err(|fault| format!("killed after {wait:?}: {fault}"))?;
        verified(&gateway).map_err(|fault| format!("killed after {wait:?}: {fault}"))?;
    }
    Ok(())
}
