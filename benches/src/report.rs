//! What was measured, beside what is aimed at.

use std::collections::BTreeMap;
use std::fmt;

/// Who was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Subject {
    /// The upstream, called without anything between.
    Direct,
    /// The bare proxy.
    Floor,
    /// The gateway, every stage on.
    Portcullis,
}

impl Subject {
    const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Floor => "floor",
            Self::Portcullis => "portcullis",
        }
    }
}

/// One round.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Sample {
    /// CPU microseconds of the process per call.
    pub(crate) cpu_us: f64,
    /// Median latency.
    pub(crate) p50_us: f64,
    /// Latency that 99 of 100 calls do not exceed.
    pub(crate) p99_us: f64,
    /// Calls per second.
    pub(crate) rate: f64,
}

/// One combination of size and connections, all rounds of all subjects.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Cell {
    /// Bytes of text in an answer.
    pub(crate) size: usize,
    /// Connections at once.
    pub(crate) connections: usize,
    /// Calls per second, in an open loop.
    pub(crate) rate: Option<u32>,
    /// By subject, one per round.
    pub(crate) samples: BTreeMap<Subject, Vec<Sample>>,
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Resident {
    /// Before the first call.
    pub(crate) idle: u64,
    /// At 128 connections.
    pub(crate) loaded: u64,
    /// The most it was.
    pub(crate) peak: u64,
}

/// Where the gateway's CPU time went at 16 connections, by thread name.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Threads {
    by_size: BTreeMap<usize, (usize, BTreeMap<String, u64>)>,
}

impl Threads {
    /// Adds one round.
    pub(crate) fn add(&mut self, size: usize, calls: usize, ns: &BTreeMap<String, u64>) {
        let (sum, names) = self.by_size.entry(size).or_default();
        *sum += calls;
        for (name, ns) in ns {
            *names.entry(name.clone()).or_insert(0) += ns;
        }
    }

    /// The share of threads that belong to the ledger.
    fn ledger_share(&self, size: usize) -> Option<f64> {
        let (_, names) = self.by_size.get(&size)?;
        let all: u64 = names.values().sum();
        let ledger: u64 = names.iter().filter(|(name, _)| name.contains("ledger")).map(|(_, ns)| ns).sum();
        (all > 0).then(|| ledger as f64 / all.saturating_sub(ledger) as f64)
    }
}

/// The whole run.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Report {
    /// Closed loops.
    pub(crate) closed: Vec<Cell>,
    /// Open loops.
    pub(crate) paced: Vec<Cell>,
    /// Resident memory.
    pub(crate) memory: BTreeMap<Subject, Resident>,
    /// CPU time of the gateway's threads.
    pub(crate) threads: Threads,
}

/// Something aimed at, and what came of it.
struct Goal {
    name: String,
    aim: f64,
    seen: f64,
    note: String,
}

impl Cell {
    fn spread(&self, subject: Subject, value: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let mut values: Vec<f64> = self.samples.get(&subject)?.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.get(values.len() / 2).copied()?;
        Some(Spread { min: values.first().copied()?, median: middle, max: values.last().copied()? })
    }

    /// Gateway over floor, of the minima: contention inflates CPU time and cannot deflate it.
    fn cpu_ratio(&self) -> Option<(f64, f64)> {
        let gateway = self.spread(Subject::Portcullis, |sample| sample.cpu_us)?;
        let floor = self.spread(Subject::Floor, |sample| sample.cpu_us)?;
        Some((gateway.min / floor.min, gateway.median / floor.median))
    }

    /// What a subject adds to the direct latency, of the minima.
    fn added(&self, subject: Subject, value: impl Fn(&Sample) -> f64 + Copy) -> Option<f64> {
        Some(self.spread(subject, value)?.min - self.spread(Subject::Direct, value)?.min)
    }
}

/// Least, middle and greatest over the rounds.
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.0}/{:.0}/{:.0}", self.min, self.median, self.max))
    }
}

impl Report {
    /// Whether every target is met.
    pub(crate) fn met(&self) -> bool {
        self.goals().iter().all(|goal| goal.seen <= goal.aim)
    }

    fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for cell in &self.closed {
            if let Some((seen, median)) = cell.cpu_ratio() {
                let aim = if cell.size <= 1_024 { 1.6 } else { 4.0 };
                let name = format!("CPU × floor, {} B, {} connections", cell.size, cell.connections);
                goals.push(Goal { name, aim, seen, note: format!("medians {median:.2}") });
            }
        }
        for cell in &self.paced {
            let p99 = |sample: &Sample| sample.p99_us;
            if let (Some(gateway), Some(floor)) =
                (cell.added(Subject::Portcullis, p99), cell.added(Subject::Floor, p99))
            {
                let name = format!("added p99 × floor's, {} B, open loop", cell.size);
                let note = format!("{gateway:.0} µs over {floor:.0} µs");
                // A floor that adds nothing measurable says that the machine was too busy to tell.
                goals.push(Goal { name, aim: 2.0, seen: gateway / floor.max(1.0), note });
            }
        }
        if let Some(memory) = self.memory.get(&Subject::Portcullis) {
            let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
            let goal = |name: &str, aim, seen| Goal { name: name.to_owned(), aim, seen, note: String::new() };
            goals.push(goal("RSS idle, MiB", 40.0, mib(memory.idle)));
            goals.push(goal("RSS at 128 connections, MiB", 64.0, mib(memory.loaded)));
        }
        for size in self.threads.by_size.keys() {
            if let Some(share) = self.threads.ledger_share(*size) {
                let name = format!("ledger threads add to CPU, {size} B, %");
                let note = "composing the entries is in `stages`".to_owned();
                goals.push(Goal { name, aim: 20.0, seen: share * 100.0, note });
            }
        }
        goals
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Cells are min/median/max over interleaved rounds. CPU µs is the process's own, per call.\n"
        )?;
        writeln!(
            f,
            "{:>6} {:>5}  {:<10} {:>16} {:>20} {:>19} {:>21} {:>7}",
            "bytes", "conns", "who", "CPU µs/call", "p50 µs", "p99 µs", "calls/s", "× floor"
        )?;
        for cell in self.closed.iter().chain(&self.paced) {
            if let Some(rate) = cell.rate {
                writeln!(f, "open loop, {rate}/s, latency from the due time:")?;
            }
            rows(f, cell)?;
        }
        self.tail(f)
    }
}

fn rows(f: &mut fmt::Formatter<'_>, cell: &Cell) -> fmt::Result {
    for subject in cell.samples.keys().copied() {
        let column =
            |value: fn(&Sample) -> f64| cell.spread(subject, value).map_or(String::new(), |s| s.to_string());
        let ratio = match subject {
            Subject::Direct | Subject::Floor => String::new(),
            Subject::Portcullis => cell.cpu_ratio().map_or(String::new(), |(ratio, _)| format!("{ratio:.2}")),
        };
        writeln!(
            f,
            "{:>6} {:>5}  {:<10} {:>16} {:>20} {:>19} {:>21} {:>7}",
            cell.size,
            cell.connections,
            subject.name(),
            column(|sample| sample.cpu_us),
            column(|sample| sample.p50_us),
            column(|sample| sample.p99_us),
            column(|sample| sample.rate),
            ratio
        )?;
    }
    Ok(())
}

impl Report {
    fn tail(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nResident memory, MiB: idle, at 128 connections, peak")?;
        for (subject, memory) in &self.memory {
            let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
            let (idle, loaded, peak) = (mib(memory.idle), mib(memory.loaded), mib(memory.peak));
            writeln!(f, "  {:<10} {idle:>6.1} {loaded:>6.1} {peak:>6.1}", subject.name())?;
        }
        for (size, (calls, names)) in &self.threads.by_size {
            writeln!(f, "\nThreads of the gateway, {size} B, 16 connections, CPU µs per call")?;
            for (name, ns) in names.iter().filter(|(_, ns)| **ns > 0) {
                writeln!(f, "  {name:<16} {:>8.2}", *ns as f64 / 1_000.0 / (*calls).max(1) as f64)?;
            }
        }
        self.alone(f)?;
        let goals = self.goals();
        if !goals.is_empty() {
            writeln!(f, "\nAims (ratios of the minima)")?;
        }
        for goal in goals {
            let verdict = if goal.seen <= goal.aim { "met" } else { "MISSED" };
            writeln!(
                f,
                "  {:<46} aim {:>5.1}  seen {:>6.2}  {verdict:<6} {}",
                goal.name, goal.aim, goal.seen, goal.note
            )?;
        }
        Ok(())
    }

    /// What one caller waits for: it shares no flush with anybody.
    fn alone(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for cell in self.closed.iter().filter(|cell| cell.connections == 1) {
            let p50 = |sample: &Sample| sample.p50_us;
            if let (Some(gateway), Some(floor)) =
                (cell.added(Subject::Portcullis, p50), cell.added(Subject::Floor, p50))
            {
                let size = cell.size;
                writeln!(
                    f,
                    "\nA lone caller waits {gateway:.0} µs longer than direct at {size} B (floor: {floor:.0})"
                )?;
            }
        }
        Ok(())
    }
}
