//! What costs without being a plain call: memory of idle event streams beside the bare proxy's, the time from start to
//! the first answer, a list of many tools, and routes that rewrite.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::account::Memory;
use crate::compare;
use crate::load::{self, Target};
use crate::payload::{Era, TOOL};
use crate::rows::{LIST_US_AIM, Rows};
use crate::servers::Server;

/// File descriptors that a process needs beside those of its streams.
const DESCRIPTORS_SPARE: u64 = 512;
/// Streams that are opened at once.
const OPENING: usize = 16;
/// Starts that are measured.
const STARTS: usize = 7;
/// What a host says first.
const HELLO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;

/// What is aimed at.
const STREAM_KIB_AIM: f64 = 16.0;
const START_MS_AIM: f64 = 50.0;

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
    /// Print JSON instead of lines.
    #[arg(long)]
    json: bool,
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
    let mut rows = Rows::new(options.json);
    start_up(&program, scratch, &mut rows)?;
    wrapped(&program, scratch, &mut rows)?;
    crate::single()?.block_on(list(&program, scratch, options.tools, &mut rows))?;
    crate::single()?.block_on(crate::routes::run(&program, scratch, &mut rows))?;
    crate::single()?.block_on(streams(&program, scratch, options.streams, &mut rows))?;
    Ok(rows.end()? || !options.strict)
}

fn ms(time: Option<&Duration>) -> f64 {
    time.map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
}

/// The middle of several times, and the least and the greatest in words.
fn middle(mut times: Vec<Duration>) -> (f64, String) {
    times.sort();
    let note = format!("least {:.1}, most {:.1}", ms(times.first()), ms(times.last()));
    (ms(times.get(times.len() / 2)), note)
}

fn start_up(program: &Path, scratch: &Path, rows: &mut Rows) -> Result<()> {
    let upstream = Server::upstream()?;
    for (fresh, name) in [(false, "start-up, data directory there"), (true, "start-up, first start")] {
        let times: Result<Vec<_>> =
            (0..STARTS).map(|_| Server::start_up(program, &upstream, scratch, fresh)).collect();
        let (seen, note) = middle(times?);
        rows.add(name, seen, START_MS_AIM, "ms", &note)?;
    }
    Ok(())
}

/// What `wrap` adds to the start of a server: until it answers `initialize`, beside the server alone, in turn.
fn wrapped(program: &Path, scratch: &Path, rows: &mut Rows) -> Result<()> {
    let data = scratch.join(format!("bench-wrap-{}", std::process::id()));
    let (mut alone, mut guarded) = (Vec::with_capacity(STARTS), Vec::with_capacity(STARTS));
    // The first makes the data directory.
    for _ in 0..=STARTS {
        let mut plain = Command::new(program);
        plain.arg("sample-server");
        alone.push(greeted(plain)?);
        let mut command = Command::new(program);
        command.arg("wrap").arg("--data").arg(&data).arg("--").arg(program).arg("sample-server");
        guarded.push(greeted(command)?);
    }
    fs::remove_dir_all(&data)?;
    let first = guarded.remove(0);
    let (alone, _) = middle(alone);
    let (seen, note) = middle(guarded);
    let note = format!("whole: {note}; the child alone {alone:.1}; first start {:.1}", ms(Some(&first)));
    rows.add("start-up of wrap, beyond the child's", seen - alone, START_MS_AIM, "ms", &note)
}

/// How long a server on standard input takes from its start until it answers.
fn greeted(mut command: Command) -> Result<Duration> {
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("no start")?;
    let mut input = child.stdin.take().context("no input")?;
    writeln!(input, "{HELLO}")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    let time = begun.elapsed();
    drop(input);
    child.wait()?;
    ensure!(line.contains("protocolVersion"), "no answer to `initialize`: {line}");
    Ok(time)
}

async fn list(program: &Path, scratch: &Path, tools: usize, rows: &mut Rows) -> Result<()> {
    let upstream = Server::upstream_of(tools)?;
    let gateway = Server::gateway(program, &upstream, scratch)?;
    let (p50, note) = load::lists(&target(&gateway)?, tools).await.with_context(|| gateway.log())?;
    rows.add(&format!("tools/list of {tools} tools, p50"), p50, LIST_US_AIM, "µs", &note)
}

fn target(server: &Server) -> Result<Target> {
    Ok(Target { url: server.url.parse()?, token: server.token.clone(), era: Era::Legacy, tool: TOOL })
}

async fn streams(program: &Path, scratch: &Path, wanted: usize, rows: &mut Rows) -> Result<()> {
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
    rows.add(&format!("memory of an idle stream, {count} open"), gateway, STREAM_KIB_AIM, "KiB", &note)
}

/// KiB of resident memory that each of so many open streams adds.
async fn held(server: &Server, count: usize) -> Result<f64> {
    let target = target(server)?;
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
