//! What a call costs. One program in several roles, so that the bench needs nothing that is not built here:
//! `upstream`, `floor` and `load` are the counterparts, `compare` and `standing` run them beside the gateway,
//! `stages` counts instructions, `inspect` measures looks at texts, `leaks` the look for secrets,
//! `handshakes` those of TLS, `ledger` durable entries.

mod account;
mod compare;
mod floor;
mod governed;
mod handshakes;
mod identity;
mod inspect;
mod leaks;
mod ledger;
mod load;
mod payload;
mod report;
mod routes;
mod rows;
mod servers;
mod stages;
mod standing;
mod upstream;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use payload::Era;

#[derive(Parser)]
#[command(about = "What a call costs, end to end and stage by stage")]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// An MCP server on loopback that costs next to nothing.
    Upstream {
        /// Port; 0 takes a free one.
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// How many tools it offers.
        #[arg(long, default_value_t = 1)]
        tools: usize,
        /// The one revision that it speaks; without it both.
        #[arg(long, value_enum)]
        era: Option<Era>,
    },
    /// A bare hyper reverse proxy on loopback.
    Floor {
        /// Port; 0 takes a free one.
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// Where to forward.
        #[arg(long)]
        upstream: String,
    },
    /// Measures direct, floor and gateway side by side, builds the gateway first.
    Compare(compare::Options),
    /// Measures what costs without being a call: idle streams, start-up, a long list.
    Standing(standing::Options),
    /// Counts the instructions of each thinking stage; wants valgrind.
    Stages(stages::Options),
    /// Measures what a look at texts costs.
    Inspect(inspect::Options),
    /// Measures the look for secrets that were handed out, and what one that is held costs a call.
    Leaks(leaks::Options),
    /// Measures handshakes of TLS beside plain rustls.
    Handshakes(handshakes::Options),
    /// Measures durable and verified entries of the ledger.
    Ledger(ledger::Options),
    /// Calls a server and prints what it saw.
    Load(LoadOptions),
}

#[derive(clap::Args)]
struct LoadOptions {
    /// Where; plain http.
    #[arg(long)]
    url: String,
    /// Bearer token.
    #[arg(long)]
    token: Option<String>,
    /// Revision to speak.
    #[arg(long, value_enum, default_value = "legacy")]
    era: Era,
    /// Connections, each with its own session.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Bytes of text in an answer.
    #[arg(long, default_value_t = 1_024)]
    size: usize,
    /// Seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Calls a second; without it every connection calls as fast as it is answered.
    #[arg(long)]
    rate: Option<u32>,
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().role {
        Role::Upstream { port, tools, era } => single()?.block_on(upstream::serve(port, tools, era))?,
        Role::Floor { port, upstream } => one_worker()?.block_on(async move {
            // On the worker, as the gateway's connections are; the main thread only waits.
            tokio::spawn(async move { floor::serve(port, &upstream).await }).await?
        })?,
        Role::Compare(options) => return compare::run(&options).map(met),
        Role::Standing(options) => return standing::run(&options).map(met),
        Role::Stages(options) => stages::run(&options)?,
        Role::Inspect(options) => return inspect::run(&options).map(met),
        Role::Leaks(options) => return leaks::run(&options).map(met),
        Role::Ledger(options) => return ledger::run(&options).map(met),
        Role::Handshakes(options) => return handshakes::run(&options).map(met),
        Role::Load(options) => single()?.block_on(load(options))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The exit code of a measurement.
fn met(aims: bool) -> ExitCode {
    if aims { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A runtime without worker threads, for the counterparts.
fn single() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")
}

/// The runtime of the gateway with `PORTCULLIS_WORKERS=1`, so that the ratio shows the gateway's work and not
/// the flavour of the runtime.
fn one_worker() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("no runtime")
}

async fn load(options: LoadOptions) -> Result<()> {
    let target = load::Target {
        url: options.url.parse()?,
        token: options.token,
        era: options.era,
        tool: payload::TOOL,
    };
    let mut lanes = load::open(&target, options.connections).await?;
    let time = Duration::try_from_secs_f64(options.seconds)?;
    let outcome = match options.rate {
        Some(rate) => load::paced(&mut lanes, options.size, rate, time).await?,
        None => load::closed(&mut lanes, options.size, time).await?,
    };
    load::close(lanes).await?;
    say(&format!(
        "{} calls, {:.0}/s, p50 {:.0} µs, p99 {:.0} µs",
        outcome.calls(),
        outcome.rate(),
        outcome.quantile_us(0.5),
        outcome.quantile_us(0.99)
    ))
}

/// One line on standard output.
fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush().context("cannot write to standard output")
}
