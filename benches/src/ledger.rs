//! What the ledger does: durable entries at 128 callers beside flushes of one writer, and entries verified beside one pass
//! of SHA-256 over the same bytes, each in the same run.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use aws_lc_rs::digest::{SHA256, digest};
use portcullis_core::Limits;
use portcullis_proof::{SigningKey, verify::verify};
use portcullis_store::{CheckpointKeeper, FileLedger, FileLedgerOptions, KeeperError, Ledger};
use tokio::task::JoinSet;

use crate::{account::Cpu, rows::Rows};

/// Callers that each wait for their entry before they append the next.
const CALLERS: usize = 128;
/// Bytes of an entry: about what the intent of a call takes.
const ENTRY_BYTES: usize = 700;
/// How long the floor is measured.
const FLOOR: Duration = Duration::from_secs(2);
/// The threads that do the ledger's work.
const THREADS: [&str; 2] = ["ledger-writer", "ledger-tiles"];

/// What is measured.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Seconds for which entries are appended.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Folder on the disk that is to be measured; a folder of its own is made there and removed.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// The store keeps the last checkpoint elsewhere; here nobody puts the directory back.
#[derive(Debug)]
struct Nowhere;

impl CheckpointKeeper for Nowhere {
    fn save(&self, _note: &str) -> Result<(), KeeperError> {
        Ok(())
    }

    fn load(&self, _origin: &str) -> Result<Option<String>, KeeperError> {
        Ok(None)
    }
}

fn entry(number: usize) -> Vec<u8> {
    let mut entry = format!("{{\"n\":{number},\"text\":\"").into_bytes();
    entry.resize(ENTRY_BYTES - 2, b'x');
    entry.extend_from_slice(b"\"}");
    entry
}

/// Microseconds that one writer waits for an entry of its own to be flushed.
fn flushed(folder: &Path) -> Result<f64> {
    let mut file = File::create(folder.join("floor"))?;
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < FLOOR {
        file.write_all(&entry(count))?;
        file.sync_data()?;
        count += 1;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / count as f64)
}

/// How long each append took, in microseconds, sorted.
async fn appended(ledger: &Arc<FileLedger>, time: Duration) -> Result<Vec<u64>> {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let ledger = Arc::clone(ledger);
        callers.spawn(async move {
            let (begun, mut waits) = (Instant::now(), Vec::new());
            while begun.elapsed() < time {
                let one = Instant::now();
                ledger.append(entry(caller)).await.map_err(|error| anyhow!("append: {error}"))?;
                waits.push(u64::try_from(one.elapsed().as_micros())?);
            }
            anyhow::Ok(waits)
        });
    }
    let mut all = Vec::new();
    while let Some(waits) = callers.join_next().await {
        all.extend(waits??);
    }
    all.sort_unstable();
    Ok(all)
}

fn at(sorted: &[u64], percent: usize) -> Result<f64> {
    let value = sorted.get(sorted.len().saturating_sub(1) * percent / 100).context("nothing was appended")?;
    Ok(*value as f64 / 1e3)
}

/// Measures; whether every aim is met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let folder = tempfile::Builder::new().prefix("ledger-bench-").tempdir_in(&options.folder)?;
    let key = SigningKey::from_seed("bench.example/ledger", [7; 32]).map_err(|error| anyhow!("{error}"))?;
    let limits = Limits::default();
    let opened = FileLedger::open(FileLedgerOptions::new(
        folder.path().join("ledger"),
        key,
        limits,
        Arc::new(Nowhere),
    ));
    let (ledger, _) = opened.map_err(|error| anyhow!("{error}"))?;
    let ledger = Arc::new(ledger);
    let mut rows = Rows::new(options.json);
    let floor = flushed(folder.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (before, begun) = (Cpu::of(std::process::id())?, Instant::now());
    let waits = runtime.block_on(appended(&ledger, Duration::from_secs(options.seconds)))?;
    let (wall, spent) = (begun.elapsed(), before.by_thread(&Cpu::of(std::process::id())?));
    let count = waits.len() as f64;
    let note = format!(
        "{:.0}/s at {CALLERS} callers; waits p50 {:.2} ms, p99 {:.2} ms; a flush of one writer {floor:.0} us",
        count / wall.as_secs_f64(),
        at(&waits, 50)?,
        at(&waits, 99)?,
    );
    rows.add("a durable entry, beside others", wall.as_secs_f64() * 1e6 / count, floor / 8.0, "us", &note)?;
    let own: u64 = THREADS.iter().filter_map(|name| spent.get(*name)).sum();
    let all: u64 = spent.values().sum();
    let note = format!("with callers and their tasks {:.1} us", all as f64 / 1e3 / count);
    rows.add("processor time of the ledger for an entry", own as f64 / 1e3 / count, 25.0, "us", &note)?;
    runtime.block_on(ledger.close()).map_err(|error| anyhow!("close: {error}"))?;
    verified(&mut rows, &ledger)?;
    rows.end()
}

/// Entries that the verifier of the gateway reads in a second, beside their bytes through SHA-256.
fn verified(rows: &mut Rows, ledger: &FileLedger) -> Result<()> {
    let mut least = [f64::MAX; 2];
    let mut size = 0;
    for _ in 0..3 {
        let begun = Instant::now();
        size = verify(ledger.dir(), ledger.verifier(), None).map_err(|faults| anyhow!("{faults:?}"))?.size;
        least[0] = least[0].min(begun.elapsed().as_secs_f64() * 1e6 / size as f64);
        let begun = Instant::now();
        for number in 0..usize::try_from(size)? {
            std::hint::black_box(digest(&SHA256, &entry(number)));
        }
        least[1] = least[1].min(begun.elapsed().as_secs_f64() * 1e6 / size as f64);
    }
    let [ours, floor] = least;
    let note = format!("{:.0}/s of {size}; SHA-256 of its bytes {floor:.2} us", 1e6 / ours);
    rows.add("an entry verified offline", ours, floor * 6.0, "us", &note)
}
