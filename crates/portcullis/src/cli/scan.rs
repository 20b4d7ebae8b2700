//! `portcullis scan`: what servers offer, and what is wrong with it, for people and for CI. It asks for lists and never
//! calls a tool, reads a resource or gets a prompt.

mod ask;
mod sarif;
mod target;

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::ValueEnum;
use portcullis_core::{Limits, Severity};
use serde::Serialize;
use tokio::{sync::Semaphore, task::JoinSet};

use self::{ask::Asked, target::Target};
use super::{
    Common, Failure,
    output::{Output, exit, printable},
};

pub(super) const AFTER_HELP: &str = "\
Examples:
  portcullis scan https://mcp.example/mcp
  portcullis scan .vscode/mcp.json portcullis.yaml --fail-on medium
  portcullis scan -- npx -y @modelcontextprotocol/server-filesystem /srv
  portcullis scan .mcp.json --sarif > scan.sarif

Commands in files and after `--` are started, confined, to ask what they offer; with --no-start only files are read. No
tool is called. Exit codes: 0 nothing at or above --fail-on; 1 findings, or a server that could not be asked; 2 wrong usage.";

/// Servers asked at once.
const AT_ONCE: usize = 8;
/// Findings kept of one server.
pub(super) const FINDINGS_MAX: usize = 1_000;

/// What `scan` takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Scan {
    /// Configuration files (of a client or `portcullis.yaml`) and URLs
    #[arg(value_name = "TARGET", required_unless_present = "command")]
    targets: Vec<String>,
    /// A program and its arguments, after `--`
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// Least severity that makes the exit code 1
    #[arg(long, value_name = "SEVERITY", default_value = "low")]
    fail_on: Level,
    /// Seconds that one server may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    timeout: u64,
    /// Header for URLs: text, env:NAME or file:PATH (repeat for several)
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = super::servers::pair)]
    headers: Vec<(String, String)>,
    /// URLs may resolve to private and loopback addresses, over plain http too
    #[arg(long)]
    allow_private: bool,
    /// Start no command; say what can be said of the files alone
    #[arg(long)]
    no_start: bool,
    /// Start commands with all rights of this user; without it they are confined as an import would (Linux)
    #[arg(long, conflicts_with = "no_start")]
    no_sandbox: bool,
    /// Speak to URLs on the command line over the older transport HTTP+SSE
    #[arg(long)]
    legacy_sse: bool,
    /// Print SARIF 2.1.0
    #[arg(long)]
    sarif: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Info,
    Low,
    Medium,
    High,
}

impl From<Severity> for Level {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Info,
            Severity::Low => Self::Low,
            Severity::Medium => Self::Medium,
            Severity::High | Severity::Critical => Self::High,
        }
    }
}

impl Level {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Something that a person should look at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Finding {
    /// A detector, or one of our own rules.
    pub(super) rule: &'static str,
    pub(super) severity: Level,
    /// `tool/name`, `configuration`, …
    pub(super) place: String,
    pub(super) message: String,
}

/// One server and what was found.
#[derive(Debug, Serialize)]
pub(super) struct Scanned {
    /// What was named on the command line.
    pub(super) target: String,
    pub(super) server: String,
    /// How it is reached, without credentials.
    pub(super) reach: String,
    #[serde(flatten)]
    pub(super) asked: Asked,
    pub(super) findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Report {
    servers: Vec<Scanned>,
    fail_on: Level,
    failed: bool,
}

pub(super) fn scan(common: &Common, options: Scan, output: &Output) -> ExitCode {
    let targets = match target::targets(common, &options) {
        Ok(targets) => targets,
        Err(failure) => return output.fail(&failure),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let mut servers = match runtime {
        Ok(runtime) => runtime.block_on(ask_all(targets, Duration::from_secs(options.timeout))),
        Err(error) => return output.fail(&Failure::refused(error.to_string())),
    };
    shadowing(&mut servers);
    let bad = |server: &Scanned| {
        server.asked.error.is_some()
            || server.findings.iter().any(|finding| finding.severity >= options.fail_on)
    };
    let failed = servers.iter().any(bad);
    let report = Report { servers, fail_on: options.fail_on, failed };
    if options.sarif {
        output.line(&sarif::document(&report.servers).to_string());
    } else {
        output.show(&report, text);
    }
    if failed { ExitCode::from(exit::REFUSED) } else { ExitCode::SUCCESS }
}

/// Asks every server, several at once, each within its time.
async fn ask_all(targets: Vec<Target>, patience: Duration) -> Vec<Scanned> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let limits = Arc::new(limits(patience));
    let mut running = JoinSet::new();
    for (number, target) in targets.into_iter().enumerate() {
        let (places, limits) = (Arc::clone(&places), Arc::clone(&limits));
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            (number, ask::ask(target, &limits, patience).await)
        });
    }
    let mut scanned: Vec<(usize, Scanned)> = running.join_all().await;
    scanned.sort_by_key(|(number, _)| *number);
    scanned.into_iter().map(|(_, scanned)| scanned).collect()
}

/// Below what a gateway allows: nobody waits for a scan of ten thousand tools.
fn limits(patience: Duration) -> Limits {
    let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    let defaults = Limits::default();
    Limits {
        connect_timeout_ms: defaults.connect_timeout_ms.min(patience_ms),
        first_byte_timeout_ms: patience_ms,
        idle_timeout_ms: patience_ms,
        total_timeout_ms: patience_ms,
        definitions_max: 2_000,
        list_pages_max: 200,
        ..defaults
    }
}

/// The same name of a tool on two servers: a client that mixes them up calls the wrong one.
fn shadowing(servers: &mut [Scanned]) {
    let names: Vec<(String, Vec<String>)> =
        servers.iter().map(|scanned| (scanned.server.clone(), scanned.asked.tools.clone())).collect();
    for (number, scanned) in servers.iter_mut().enumerate() {
        for (other, tools) in names.iter().take(number) {
            for tool in scanned.asked.tools.iter().filter(|tool| tools.contains(tool)).take(FINDINGS_MAX) {
                scanned.findings.push(Finding {
                    rule: "shadowed_name",
                    severity: Level::Info,
                    place: format!("tool/{tool}"),
                    message: format!("`{other}` has a tool of the same name"),
                });
            }
        }
    }
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    for server in &report.servers {
        out.push_str(&format!("{}  {}\n", server.server, server.reach));
        let asked = &server.asked;
        match &asked.error {
            Some(error) => out.push_str(&format!("  not asked: {error}\n")),
            None if asked.revision.is_empty() => out.push_str("  not started\n"),
            None => out.push_str(&format!("  speaks {}\n", asked.revision)),
        }
        let kinds = [
            ("tools", &asked.tools),
            ("prompts", &asked.prompts),
            ("resources", &asked.resources),
            ("templates", &asked.templates),
        ];
        for (kind, names) in kinds.into_iter().filter(|(_, names)| !names.is_empty()) {
            out.push_str(&format!("  {kind}  {}\n", names.join(", ")));
        }
        for finding in &server.findings {
            let (word, rule) = (finding.severity.word(), finding.rule);
            out.push_str(&format!("  {word:<6}  {rule}  {}: {}\n", finding.place, finding.message));
        }
    }
    let count = report.servers.iter().map(|server| server.findings.len()).sum::<usize>();
    let word = report.fail_on.word();
    let verdict = if report.failed { "failed" } else { "passed" };
    out.push_str(&format!(
        "\n{} servers, {count} findings; {verdict} (--fail-on {word})",
        report.servers.len()
    ));
    printable(&out)
}
