//! `cargo xtask test`: every test there is. Cargo works in one lane while the counterparts are installed in another;
//! what needs both follows, two at a time.

mod suites;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::install::{Cache, Need};
use crate::process;
use crate::verdict::Verdict;
use suites::{SUITES, Suite, Where};

/// How many suites of the last part run at once.
const LANES: usize = 2;

struct Options {
    only: Vec<String>,
    fast: bool,
    list: bool,
}

/// What all suites share.
struct Run<'a> {
    root: &'a Path,
    cache: Cache,
    started: Instant,
    total: Mutex<Verdict>,
    installed: Mutex<BTreeMap<Need, Option<String>>>,
}

/// Runs all suites, or those that were asked for, and prints the sum as its last line.
pub fn run(root: &Path, arguments: &[String]) -> Result<ExitCode> {
    let options = parse(arguments)?;
    if options.list {
        for suite in SUITES {
            println!("{:14} {}", suite.name, suite.doc);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let wanted =
        |suite: &&Suite| options.only.is_empty() || options.only.iter().any(|name| name == suite.name);
    let run = Run {
        root,
        cache: Cache::open(root)?,
        started: Instant::now(),
        total: Mutex::default(),
        installed: Mutex::default(),
    };
    let (slow, chosen) =
        SUITES.iter().filter(wanted).partition::<Vec<_>, _>(|suite| options.fast && suite.slow);
    for suite in slow {
        run.finish(
            suite.name,
            Instant::now(),
            Verdict::skipped(format!("{}: slow, left out by --fast", suite.name)),
        );
    }
    let (cargo, later) = chosen.into_iter().partition::<Vec<_>, _>(|suite| suite.place == Where::Cargo);
    thread::scope(|scope| {
        scope.spawn(|| run.install(&later));
        for suite in &cargo {
            run.suite(suite);
        }
        if !later.is_empty() && !cargo.iter().any(|suite| suite.name == "unit") {
            run.suite(&suites::BUILD);
        }
    });
    let queue = Mutex::new(later.into_iter().collect::<VecDeque<_>>());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        for _lane in 0..LANES {
            scope.spawn(|| {
                while let Some(suite) = next() {
                    run.suite(suite);
                }
            });
        }
    });
    Ok(run.sum())
}

fn parse(arguments: &[String]) -> Result<Options> {
    let mut options = Options { only: Vec::new(), fast: false, list: false };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--fast" => options.fast = true,
            "--list" => options.list = true,
            "--only" => match rest.next() {
                Some(name) if SUITES.iter().any(|suite| suite.name == name) => {
                    options.only.push(name.clone())
                }
                Some(name) => bail!("no suite `{name}`; hint: `cargo xtask test --list` names them"),
                None => bail!("--only needs the name of a suite"),
            },
            other => bail!("unknown argument `{other}`; hint: `cargo xtask help`"),
        }
    }
    Ok(options)
}

impl Run<'_> {
    /// Installs what the suites need; failures are kept for the suites that suffer from them.
    fn install(&self, suites: &[&Suite]) {
        for need in Need::ALL {
            if !suites.iter().any(|suite| suite.needs.contains(&need)) {
                continue;
            }
            let started = Instant::now();
            let problem = match self.cache.install(need) {
                Ok(false) => None,
                Ok(true) => {
                    self.say(&format!(
                        "{:7.1} s  installed {}",
                        started.elapsed().as_secs_f64(),
                        need.name()
                    ));
                    None
                }
                Err(error) => Some(format!("{error:#}")),
            };
            self.installed.lock().unwrap_or_else(PoisonError::into_inner).insert(need, problem);
        }
    }

    fn suite(&self, suite: &Suite) {
        let started = Instant::now();
        self.say(&format!("           {} …", suite.name));
        let verdict = match self.missing(suite) {
            Some(reason) => Verdict::missing(format!("{}: {reason}", suite.name)),
            None => {
                let first = self.steps(suite);
                if first.failed > 0 && suite.again {
                    self.say(&format!("           {} once more: {} failed …", suite.name, first.failed));
                    first.or_second(self.steps(suite))
                } else {
                    first
                }
            }
        };
        self.finish(suite.name, started, verdict);
    }

    /// Why a suite cannot run.
    fn missing(&self, suite: &Suite) -> Option<String> {
        let installed = self.installed.lock().unwrap_or_else(PoisonError::into_inner);
        suite.needs.iter().find_map(|need| installed.get(need).cloned().flatten())
    }

    fn steps(&self, suite: &Suite) -> Verdict {
        self.try_steps(suite).unwrap_or_else(|error| Verdict::failed(format!("{}: {error:#}", suite.name)))
    }

    fn try_steps(&self, suite: &Suite) -> Result<Verdict> {
        let mut verdict = Verdict::default();
        for (number, step) in (suite.steps)(self.root, &self.cache)?.into_iter().enumerate() {
            let log = self.root.join(format!("target/xtask/{}-{number}.log", suite.name));
            let ended = process::run(step.command, &log, step.deadline)?;
            let own = crate::count::verdict(step.format, &ended);
            if own.failed > 0 {
                self.say(ended.tail(40).trim_end());
            }
            verdict += own;
        }
        Ok(verdict)
    }

    fn finish(&self, name: &str, started: Instant, verdict: Verdict) {
        let seconds = started.elapsed().as_secs_f64();
        let Verdict { passed, failed, skipped, notes } = &verdict;
        self.say(&format!("{seconds:7.1} s  {name}: {passed} passed, {failed} failed, {skipped} skipped"));
        for note in notes {
            self.say(&format!("             {note}"));
        }
        if name != suites::BUILD.name || *failed > 0 {
            *self.total.lock().unwrap_or_else(PoisonError::into_inner) += verdict;
        }
    }

    fn say(&self, line: &str) {
        println!("{line}");
    }

    /// Repeats what did not pass, then prints the line that counts.
    fn sum(&self) -> ExitCode {
        let total = self.total.lock().unwrap_or_else(PoisonError::into_inner);
        if !total.notes.is_empty() {
            println!("\nnot passed:");
            for note in &total.notes {
                println!("  {note}");
            }
        }
        println!("\nall in {:.0} s", self.started.elapsed().as_secs_f64());
        println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
        if total.failed > 0 || total.passed == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
