//! Runs every fuzz target on the stable compiler: first its seeds, then mutations of them for some seconds.
//! Each target has a process of its own, so that a stack overflow or a hang is a failure of that target alone.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use portcullis_fuzz::mutate::{Dice, mutate};
use portcullis_fuzz::{TARGETS, Target};

/// A case that runs longer has hung.
const CASE_MAX: Duration = Duration::from_secs(10);

/// A target that needs more memory than this is not bounded.
const MEMORY_KIB_MAX: u64 = 1 << 20;

/// Memory is looked at after so many cases.
const CASES_PER_LOOK: u64 = 1_024;

struct Options {
    seconds: u64,
    seed: u64,
    only: Option<String>,
    /// This process runs the one target itself.
    alone: bool,
    /// Every case is written down before it runs.
    trace: bool,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(mistake) => {
            eprintln!("{mistake}\nusage: smoke [--seconds N] [--seed N] [--target NAME]");
            return ExitCode::from(2);
        }
    };
    let chosen: Vec<&Target> = TARGETS
        .iter()
        .filter(|target| options.only.as_deref().is_none_or(|name| name == target.name))
        .collect();
    if options.alone {
        return chosen.first().map_or(ExitCode::from(2), |target| alone(target, &options));
    }
    let mut failed = 0;
    for mistake in disagreements() {
        println!("FAILED layout: {mistake}");
        failed += 1;
    }
    for target in &chosen {
        failed += usize::from(!supervised(target, &options));
    }
    println!("{} passed, {failed} failed", chosen.len() + 1 - failed.min(chosen.len() + 1));
    if failed == 0 && !chosen.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options() -> Result<Options, String> {
    let mut options = Options { seconds: 2, seed: 1, only: None, alone: false, trace: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("`{word}` needs a value"));
        match word.as_str() {
            "--seconds" => options.seconds = value()?.parse().map_err(|_| "`--seconds` wants a number")?,
            "--seed" => options.seed = value()?.parse().map_err(|_| "`--seed` wants a number")?,
            "--target" => options.only = Some(value()?),
            "--alone" => options.alone = true,
            "--trace" => options.trace = true,
            other => return Err(format!("unknown option `{other}`")),
        }
    }
    match &options.only {
        Some(name) if TARGETS.iter().all(|target| target.name != name) => {
            Err(format!("unknown target `{name}`"))
        }
        _ => Ok(options),
    }
}

/// The list of targets, the libFuzzer programs and the seed folders must name the same things.
fn disagreements() -> Vec<String> {
    let listed: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let mut mistakes = Vec::new();
    for (folder, suffix) in [("fuzz_targets", ".rs"), ("seeds", "")] {
        let names = fs::read_dir(home().join(folder)).into_iter().flatten().flatten();
        let found: BTreeSet<String> = names
            .map(|entry| entry.file_name().to_string_lossy().trim_end_matches(suffix).to_owned())
            .collect();
        mistakes.extend(listed.difference(&found).map(|name| format!("{folder} lacks `{name}`")));
        mistakes.extend(
            found.difference(&listed).map(|name| format!("{folder} has `{name}`, which is no target")),
        );
    }
    mistakes
}

/// Runs the target in a process of its own; on a crash once more, to learn the case.
fn supervised(target: &Target, options: &Options) -> bool {
    let run = |trace: bool| {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.args(["--alone", "--target", target.name, "--seconds", &options.seconds.to_string()]);
        command.args(["--seed", &options.seed.to_string()]).args(trace.then_some("--trace"));
        command
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .output()
            .expect("this program can be started again")
    };
    let output = run(false);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{said}");
    if output.status.success() && said.starts_with("ok ") {
        return true;
    }
    if !said.contains("FAILED") {
        let again = run(true);
        let file = artifact(target, "smoke-crash");
        println!(
            "FAILED {}: {}, again {}; case in {}",
            target.name,
            output.status,
            again.status,
            file.display()
        );
    }
    print!("{}", last_lines(&output.stderr));
    false
}

fn last_lines(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].iter().map(|line| format!("  {line}\n")).collect()
}

/// Runs the target in this process, watched by a second thread.
fn alone(target: &'static Target, options: &Options) -> ExitCode {
    let seeds = seeds(target.name);
    if seeds.is_empty() {
        println!("FAILED {}: no seeds", target.name);
        return ExitCode::FAILURE;
    }
    let (tell, told) = channel::<Vec<u8>>();
    let (seconds, seed, trace) = (options.seconds, options.seed, options.trace);
    // The stack of a tokio worker, so that recursion fails here as it would there.
    let worker = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        cases(target, &seeds, seconds, seed, &mut |case| {
            if trace {
                keep(target, "smoke-crash", case);
            }
            tell.send(case.to_vec()).is_ok()
        })
    });
    watch(target, &told);
    match worker.expect("a thread can be started").join() {
        Ok(Ok(count)) => {
            println!("ok {} {count} cases", target.name);
            ExitCode::SUCCESS
        }
        Ok(Err(why)) => {
            println!("FAILED {}: {why}", target.name);
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// Returns when the worker has ended; ends the process when a case does not end.
fn watch(target: &Target, told: &Receiver<Vec<u8>>) {
    let mut current = Vec::new();
    loop {
        match told.recv_timeout(CASE_MAX) {
            Ok(case) => current = case,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let file = keep(target, "smoke-hang", &current);
                println!(
                    "FAILED {}: a case ran longer than {CASE_MAX:?}; it is in {}",
                    target.name,
                    file.display()
                );
                std::process::exit(1);
            }
        }
    }
}

/// Seeds first, as they are; then mutations until the time is over. Gives the number of cases.
fn cases(
    target: &Target,
    seeds: &[Vec<u8>],
    seconds: u64,
    seed: u64,
    before: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<u64, String> {
    let mut count = 0;
    let mut one = |case: &[u8]| {
        if !before(case) {
            return Err("the watcher has gone".to_owned());
        }
        count += 1;
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(case)));
        outcome.map_err(|_| format!("panic; case in {}", keep(target, "smoke-panic", case).display()))?;
        match (count % CASES_PER_LOOK == 0).then(memory_kib).flatten() {
            Some(kib) if kib > MEMORY_KIB_MAX => Err(format!("{kib} KiB of memory; case near {count}")),
            _ => Ok(count),
        }
    };
    for case in seeds {
        one(case)?;
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut dice = Dice::new(seed);
    let mut total = seeds.len() as u64;
    while Instant::now() < end {
        let from = &seeds[dice.below(seeds.len())];
        total = one(&mutate(from, seeds, &mut dice))?;
    }
    Ok(total)
}

fn memory_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

/// The seed corpus, in the order of the file names.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = fs::read_dir(home().join("seeds").join(name)).into_iter().flatten().flatten();
    let paths: BTreeSet<PathBuf> = folder.map(|entry| entry.path()).collect();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

fn keep(target: &Target, kind: &str, case: &[u8]) -> PathBuf {
    let file = artifact(target, kind);
    if let Some(folder) = file.parent() {
        let _ = fs::create_dir_all(folder);
    }
    let _ = fs::write(&file, case);
    file
}

fn artifact(target: &Target, kind: &str) -> PathBuf {
    home().join("artifacts").join(target.name).join(kind)
}

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
