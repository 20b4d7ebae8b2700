//! What costs without being a call: memory of idle event streams beside the bare proxy's, the time from start to the
//! first answer, and a list of many tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::account::Memory;
use crate::compare;
use crate::load::{self, Target};
use crate::payload::Era;
use crate::servers::Server;

/// File descriptors that a process needs beside those of its streams.
const DESCRIPTORS_SPARE: u64 = 512;
/// Streams that are opened at once.
const OPENING: usize = 16;
/// Starts that are measured.
const STARTS: usize = 7;
/// Lists that are measured.
const LISTS: usize = 400;

/// What is aimed at.
const STREAM_KIB_AIM: f64 = 16.0;
const START_MS_AIM: f64 = 50.0;
const LIST_US_AIM: f64 = 1_000.0;

/// How much, and of what.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Idle streams.
    #[arg(long, default_value_t = 10_000)]
    streams: usize,
    /// Tools of the server whose list is asked for.
    #[arg(long, default_value_t = 500)]
    tools: usize,
    /// Do not build; measure the release binary as it is.
    #[arg(long)]
    no_build: bool,
    /// Measure this binary.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Fail when a target is missed.
    #[arg(long)]
    strict: bool,
}

/// Measures and prints. True when every target is met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => compare::program(options.no_build)?,
    };
    let own = std::env::current_exe()?;
    let scratch = own.parent().context("no directory")?;
    let mut met = start_up(&program, scratch)?;
    met &= crate::single()?.block_on(lists(&program, scratch, options.tools))?;
    met &= crate::single()?.block_on(streams(&program, scratch, options.streams))?;
    Ok(met || !options.strict)
}

fn verdict(name: &str, seen: f64, aim: f64, unit: &str, note: &str) -> Result<bool> {
    let met = seen <= aim;
    let word = if met { "met" } else { "MISSED" };
    crate::say(&format!("{name:<46} aim {aim:>7.1}  seen {seen:>8.2} {unit:<4} {word:<7} {note}"))?;
    Ok(met)
}

fn start_up(program: &Path, scratch: &Path) -> Result<bool> {
    let upstream = Server::upstream()?;
    let mut met = true;
    for (fresh, name) in [(false, "start-up, data directory there"), (true, "start-up, first start")] {
        let mut times = Vec::with_capacity(STARTS);
        for _ in 0..STARTS {
            times.push(Server::start_up(program, &upstream, scratch, fresh)?);
        }
        times.sort();
        let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1_000.0);
        let note = format!("least {:.1}, most {:.1}", ms(times.first()), ms(times.last()));
        met &= verdict(name, ms(times.get(STARTS / 2)), START_MS_AIM, "ms", &note)?;
    }
    Ok(met)
}

async fn lists(program: &Path, scratch: &Path, tools: usize) -> Result<bool> {
    let upstream = Server::upstream_of(tools)?;
    let gateway = Server::gateway(program, &upstream, scratch)?;
    let target = Target { url: gateway.url.parse()?, token: gateway.token.clone(), era: Era::Legacy };
    let mut lanes = load::open(&target, 1).await.with_context(|| gateway.log())?;
    let lane = lanes.first_mut().context("no lane")?;
    // The first answers wait for the catalogue.
    let whole = loop {
        let length = lane.list().await?;
        if length > tools * 100 {
            break length;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let mut times = Vec::with_capacity(LISTS);
    for _ in 0..LISTS {
        let begun = Instant::now();
        ensure!(lane.list().await?.abs_diff(whole) < 16, "the list changed");
        times.push(begun.elapsed().as_secs_f64() * 1_000_000.0);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or(f64::INFINITY);
    let note = format!("p99 {:.0}, {} KiB", at(99), whole / 1024);
    verdict(&format!("tools/list of {tools} tools, p50"), at(50), LIST_US_AIM, "µs", &note)
}

async fn streams(program: &Path, scratch: &Path, wanted: usize) -> Result<bool> {
    raise_descriptors(wanted as u64 * 2 + DESCRIPTORS_SPARE);
    // Two descriptors a stream, one to each side.
    let most = (descriptors()?.saturating_sub(DESCRIPTORS_SPARE) / 2) as usize;
    let count = wanted.min(most);
    let upstream = Server::upstream()?;
    let floor = held(&Server::floor(&upstream)?, count).await?;
    let gateway = held(&Server::gateway(program, &upstream, scratch)?, count).await?;
    let mut note = format!("bare proxy {floor:.2}");
    if count < wanted {
        note.push_str(&format!("; {count} of {wanted}, since a process here may open no more files"));
    }
    verdict(&format!("memory of an idle stream, {count} open"), gateway, STREAM_KIB_AIM, "KiB", &note)
}

/// KiB of resident memory that each of so many open streams adds.
async fn held(server: &Server, count: usize) -> Result<f64> {
    let target = Target { url: server.url.parse()?, token: server.token.clone(), era: Era::Legacy };
    // What the first callers bring for all is no cost of a stream.
    let warm = open(&target, OPENING, OPENING).await.with_context(|| server.log())?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = Memory::of(server.pid())?.now;
    let streams = open(&target, count, OPENING).await.with_context(|| server.log())?;
    // Until what was held for opening is given back.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = Memory::of(server.pid())?.now;
    let each = after.saturating_sub(before) as f64 / 1_024.0 / streams.len() as f64;
    drop((warm, streams));
    Ok(each)
}

type Stream = (load::Lane, hyper::body::Incoming);

async fn open(target: &Target, count: usize, at_once: usize) -> Result<Vec<Stream>> {
    let mut streams = Vec::with_capacity(count);
    while streams.len() < count {
        let mut opening = tokio::task::JoinSet::new();
        for _ in 0..at_once.min(count - streams.len()) {
            let target = target.clone();
            opening.spawn(async move {
                let lane = load::open(&target, 1).await?.pop().context("no lane")?;
                lane.stream().await
            });
        }
        while let Some(opened) = opening.join_next().await {
            streams.push(opened??);
        }
    }
    Ok(streams)
}

/// Lets this process, and those that it starts, open so many files, as far as the system lets it.
fn raise_descriptors(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    // Only the superuser may go beyond the hard limit; what cannot be raised is reported beside the figure.
    for most in [hard.max(wanted), hard] {
        let raised = Rlimit { current: Some(most), maximum: Some(most) };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            return;
        }
    }
}

/// How many files a process may open, from its own limits.
fn descriptors() -> Result<u64> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).context("no such limit")?;
    line.split_whitespace().nth(4).and_then(|hard| hard.parse().ok()).context("no hard limit of open files")
}
