//! The bench: direct, bare proxy and gateway in interleaved rounds, each measured by its own process accounting.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::account::{Cpu, Memory};
use crate::load::{self, Outcome, Target};
use crate::payload::{Era, SIZES, TOOL};
use crate::report::{Cell, Report, Sample, Subject};
use crate::servers::Server;

/// Connections of the closed loops.
const CONNECTIONS: [usize; 3] = [1, 16, 128];

/// The open loop: calls a second, over so many connections.
const PACE: (u32, usize) = (300, 16);

/// How long and how.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// One minute instead of four.
    #[arg(long)]
    quick: bool,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Leave the gateway out.
    #[arg(long)]
    no_gateway: bool,
    /// Do not build; measure the release binary as it is.
    #[arg(long)]
    no_build: bool,
    /// Revision that the client speaks.
    #[arg(long, value_enum, default_value = "legacy")]
    era: Era,
    /// Fail when a target is missed.
    #[arg(long)]
    strict: bool,
}

/// Rounds and their length.
#[derive(Clone, Copy, Debug)]
struct Plan {
    rounds: usize,
    closed: Duration,
    paced_rounds: usize,
    paced: Duration,
    warm: Duration,
}

impl Plan {
    const fn new(quick: bool) -> Self {
        let ms = Duration::from_millis;
        if quick {
            Self { rounds: 2, closed: ms(500), paced_rounds: 2, paced: ms(1_500), warm: ms(150) }
        } else {
            Self { rounds: 4, closed: ms(1_000), paced_rounds: 5, paced: ms(3_000), warm: ms(200) }
        }
    }
}

/// Builds, measures, prints. True when every target is met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let gateway = if options.no_gateway { None } else { Some(program(options.no_build)?) };
    let report = crate::single()?.block_on(measure(options, gateway))?;
    crate::say(&if options.json { serde_json::to_string_pretty(&report)? } else { report.to_string() })?;
    Ok(!options.strict || report.met())
}

/// The gateway's release binary, which lies beside this one.
pub(crate) fn program(no_build: bool) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("no directory")?;
    if !no_build {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let target = folder.parent().context("no target directory")?;
        let status = Command::new(cargo)
            .args(["build", "--release", "--quiet", "-p", "portcullis", "--target-dir"])
            .arg(target)
            .status()?;
        ensure!(status.success(), "the gateway does not build");
    }
    let path = folder.join("portcullis");
    ensure!(path.exists(), "{} is missing: run without --no-build", path.display());
    Ok(path)
}

async fn measure(options: &Options, gateway: Option<PathBuf>) -> Result<Report> {
    let upstream = Server::upstream()?;
    let mut subjects = vec![(Subject::Floor, Server::floor(&upstream)?)];
    if let Some(program) = gateway {
        let scratch = program.parent().context("no directory")?.to_owned();
        subjects.push((Subject::Portcullis, Server::gateway(&program, &upstream, &scratch)?));
    }
    subjects.insert(0, (Subject::Direct, upstream));
    tokio::time::sleep(Duration::from_millis(500)).await;

    let mut bench =
        Bench { era: options.era, plan: Plan::new(options.quick), subjects, report: Report::default() };
    bench.memory(|memory| &mut memory.idle)?;
    for size in SIZES {
        for connections in CONNECTIONS {
            bench.closed(size, connections).await?;
        }
    }
    for size in SIZES {
        bench.paced(size).await?;
    }
    bench.peak()?;
    Ok(bench.report)
}

struct Bench {
    era: Era,
    plan: Plan,
    subjects: Vec<(Subject, Server)>,
    report: Report,
}

impl Bench {
    async fn closed(&mut self, size: usize, connections: usize) -> Result<()> {
        let mut cells = BTreeMap::new();
        for _ in 0..self.plan.rounds {
            for (subject, server) in &self.subjects {
                let mut lanes = load::open(&target(server, self.era)?, connections).await?;
                load::closed(&mut lanes, size, self.plan.warm).await?;
                let before = Cpu::of(server.pid())?;
                let outcome = load::closed(&mut lanes, size, self.plan.closed).await?;
                let after = Cpu::of(server.pid())?;
                let sample = sample(&outcome, &before, &after);
                cells.entry(*subject).or_insert_with(Vec::new).push(sample);
                if connections == 128 {
                    let memory = self.report.memory.entry(*subject).or_default();
                    memory.loaded = memory.loaded.max(Memory::of(server.pid())?.now);
                }
                if *subject == Subject::Portcullis && connections == 16 {
                    self.report.threads.add(size, outcome.calls(), &before.by_thread(&after));
                }
                load::close(lanes).await.with_context(|| server.log())?;
            }
        }
        self.report.closed.push(Cell { size, connections, rate: None, samples: cells });
        Ok(())
    }

    async fn paced(&mut self, size: usize) -> Result<()> {
        let (rate, connections) = PACE;
        let mut cells = BTreeMap::new();
        for _ in 0..self.plan.paced_rounds {
            for (subject, server) in &self.subjects {
                let mut lanes = load::open(&target(server, self.era)?, connections).await?;
                load::closed(&mut lanes, size, self.plan.warm).await?;
                let before = Cpu::of(server.pid())?;
                let outcome = load::paced(&mut lanes, size, rate, self.plan.paced).await?;
                let sample = sample(&outcome, &before, &Cpu::of(server.pid())?);
                cells.entry(*subject).or_insert_with(Vec::new).push(sample);
                load::close(lanes).await?;
            }
        }
        self.report.paced.push(Cell { size, connections, rate: Some(rate), samples: cells });
        Ok(())
    }

    fn memory(&mut self, place: impl Fn(&mut crate::report::Resident) -> &mut u64) -> Result<()> {
        for (subject, server) in &self.subjects {
            *place(self.report.memory.entry(*subject).or_default()) = Memory::of(server.pid())?.now;
        }
        Ok(())
    }

    fn peak(&mut self) -> Result<()> {
        for (subject, server) in &self.subjects {
            self.report.memory.entry(*subject).or_default().peak = Memory::of(server.pid())?.peak;
        }
        Ok(())
    }
}

fn target(server: &Server, era: Era) -> Result<Target> {
    Ok(Target { url: server.url.parse()?, token: server.token.clone(), era, tool: TOOL })
}

fn sample(outcome: &Outcome, before: &Cpu, after: &Cpu) -> Sample {
    Sample {
        cpu_us: before.until_ns(after) as f64 / 1_000.0 / outcome.calls() as f64,
        p50_us: outcome.quantile_us(0.5),
        p99_us: outcome.quantile_us(0.99),
        rate: outcome.rate(),
    }
}
