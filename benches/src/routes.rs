//! What it costs that client and server are of different revisions, and that a route leads to many servers: CPU of the
//! gateway per call beside a plain route of the same process, in interleaved rounds.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::time::sleep;

use crate::account::Cpu;
use crate::load::{self, Target};
use crate::payload::{Era, SIZES, TOOL};
use crate::rows::{LIST_US_AIM, Rows};
use crate::servers::Server;

/// Servers behind the one route, and tools of each.
const SERVERS: usize = 20;
const TOOLS_OF_EACH: usize = 25;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(800);
const WARM: Duration = Duration::from_millis(200);
const CONNECTIONS: usize = 16;

/// CPU beyond that of a plain route, in percent.
const MORE_AIM: f64 = 30.0;

/// One way to a server; each is compared with the plain one of its client's revision.
struct Way {
    name: &'static str,
    path: &'static str,
    tool: &'static str,
    era: Era,
    /// The least CPU per call of all rounds, µs.
    least: f64,
}

const fn way(name: &'static str, path: &'static str, tool: &'static str, era: Era) -> Way {
    Way { name, path, tool, era, least: f64::INFINITY }
}

/// Measures every way; 20 servers that share their tools' names.
pub(crate) async fn run(program: &Path, scratch: &Path, rows: &mut Rows) -> Result<()> {
    let (plain, many) = (Server::upstream()?, Server::upstream_of(TOOLS_OF_EACH)?);
    let (old, new) = (Server::upstream_in(Era::Legacy)?, Server::upstream_in(Era::Modern)?);
    let mut upstreams = vec![
        ("plain".to_owned(), plain.url.as_str()),
        ("old".to_owned(), &old.url),
        ("new".to_owned(), &new.url),
    ];
    upstreams.extend((1..=SERVERS).map(|number| (format!("m{number:02}"), many.url.as_str())));
    let gateway = Server::gateway_before(program, &upstreams, scratch)?;
    let mut ways = [
        way("plain, 2025-11-25", "/mcp/plain", TOOL, Era::Legacy),
        way("plain, 2026-07-28", "/mcp/plain", TOOL, Era::Modern),
        way("bridged, 2025-11-25 to 2026-07-28", "/mcp/new", TOOL, Era::Legacy),
        way("bridged, 2026-07-28 to 2025-11-25", "/mcp/old", TOOL, Era::Modern),
        way("one of 20 servers, 2025-11-25", "/mcp", "m07__echo", Era::Legacy),
        way("one of 20 servers, 2026-07-28", "/mcp", "m07__echo", Era::Modern),
    ];
    for _ in 0..ROUNDS {
        for way in &mut ways {
            way.least = way.least.min(cpu_us(&gateway, way).await.with_context(|| gateway.log())?);
        }
    }
    let plain = |era: Era| {
        let way = ways.iter().find(|way| way.era == era && way.path == "/mcp/plain");
        way.map_or(f64::NAN, |way| way.least)
    };
    for way in ways.iter().filter(|way| way.path != "/mcp/plain") {
        let beside = plain(way.era);
        let note = format!("{:.1} µs beside {beside:.1}", way.least);
        rows.add(
            &format!("CPU more, {}", way.name),
            (way.least / beside - 1.0) * 100.0,
            MORE_AIM,
            "%",
            &note,
        )?;
    }
    let target = target(&gateway, &way("", "/mcp", TOOL, Era::Legacy))?;
    let (p50, note) = load::lists(&target, SERVERS * TOOLS_OF_EACH).await.with_context(|| gateway.log())?;
    let name = format!("tools/list of {} tools of {SERVERS} servers, p50", SERVERS * TOOLS_OF_EACH);
    rows.add(&name, p50, LIST_US_AIM, "µs", &note)
}

fn target(gateway: &Server, way: &Way) -> Result<Target> {
    let base = gateway.url.strip_suffix("/mcp/plain").context("another first server")?;
    let url = format!("{base}{}", way.path).parse()?;
    Ok(Target { url, token: gateway.token.clone(), era: way.era, tool: way.tool })
}

async fn cpu_us(gateway: &Server, way: &Way) -> Result<f64> {
    let (target, size) = (target(gateway, way)?, SIZES[0]);
    let mut lanes = load::open(&target, CONNECTIONS).await?;
    // The first calls wait for the catalogues, and open what is needed.
    let begun = Instant::now();
    while let Err(error) = load::closed(&mut lanes, size, WARM).await {
        ensure!(begun.elapsed() < Duration::from_secs(10), "{}: {error:#}", way.name);
        sleep(Duration::from_millis(100)).await;
        lanes = load::open(&target, CONNECTIONS).await?;
    }
    let before = Cpu::of(gateway.pid())?;
    let outcome = load::closed(&mut lanes, size, ROUND).await?;
    let spent = before.until_ns(&Cpu::of(gateway.pid())?);
    load::close(lanes).await?;
    Ok(spent as f64 / 1_000.0 / outcome.calls() as f64)
}
