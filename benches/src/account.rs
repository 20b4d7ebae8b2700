//! What a process costs, from its own accounting in /proc: CPU time per thread, resident memory.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};

/// CPU nanoseconds of every thread of a process, by thread name and id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cpu {
    threads: BTreeMap<(String, String), u64>,
    ticks_ns: u64,
}

impl Cpu {
    /// What the process has used so far.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let base = format!("/proc/{pid}");
        let mut threads = BTreeMap::new();
        for task in fs::read_dir(format!("{base}/task")).context("the process has gone")? {
            let path = task?.path();
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            let id = path.file_name().map(|id| id.to_string_lossy().into_owned()).unwrap_or_default();
            if let Some(ns) = run_time_ns(&path) {
                threads.insert((name.trim().to_owned(), id), ns);
            }
        }
        Ok(Self { threads, ticks_ns: ticks_ns(&base)? })
    }

    /// Nanoseconds from `self` to `later`. The process's own ticks count threads that have ended meanwhile, the
    /// threads' run time is exact: the finer one, unless the coarser one says that it missed something.
    pub(crate) fn until_ns(&self, later: &Self) -> u64 {
        let fine: u64 = self.by_thread(later).values().sum();
        let coarse = later.ticks_ns.saturating_sub(self.ticks_ns);
        if coarse > fine.saturating_add(30_000_000) { coarse } else { fine }
    }

    /// Nanoseconds from `self` to `later`, by thread name.
    pub(crate) fn by_thread(&self, later: &Self) -> BTreeMap<String, u64> {
        let mut names = BTreeMap::new();
        for ((name, id), ns) in &later.threads {
            let before = self.threads.get(&(name.clone(), id.clone())).copied().unwrap_or(0);
            *names.entry(name.clone()).or_insert(0) += ns.saturating_sub(before);
        }
        names
    }
}

/// The first field of `schedstat`: time on a CPU, in nanoseconds.
fn run_time_ns(task: &Path) -> Option<u64> {
    fs::read_to_string(task.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
}

/// User and system time of the whole process, ended threads included. A tick is 10 ms on every Linux in use.
fn ticks_ns(base: &str) -> Result<u64> {
    let stat = fs::read_to_string(format!("{base}/stat")).context("the process has gone")?;
    // The name in parentheses may hold spaces; fields are counted from behind it.
    let (_, fields) = stat.rsplit_once(") ").context("/proc stat has another form")?;
    let ticks = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Ok(ticks.sum::<u64>() * 10_000_000)
}

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) now: u64,
    /// The most it has been.
    pub(crate) peak: u64,
}

impl Memory {
    /// What the process occupies.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process has gone")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
        };
        Ok(Self { now: field("VmRSS:").context("no VmRSS")?, peak: field("VmHWM:").context("no VmHWM")? })
    }
}

#[cfg(test)]
mod tests {
    use super::{Cpu, Memory};

    #[test]
    fn work_done_shows_in_the_account() {
        let before = Cpu::of(std::process::id()).unwrap();
        let mut sum = 0_u64;
        let mut rounds = 0_u64;
        let spent = loop {
            for number in 0..10_000_000_u64 {
                sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(number));
            }
            rounds += 1;
            let spent = before.until_ns(&Cpu::of(std::process::id()).unwrap());
            if spent > 1_000_000 || rounds > 1_000 {
                break spent;
            }
        };
        assert!(spent > 1_000_000);
    }

    #[test]
    fn memory_is_more_than_nothing_and_no_more_than_its_peak() {
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.now > 0 && memory.now <= memory.peak);
    }
}
