//! `portcullis doctor`: looks at a running set-up from the outside, as a client or an attacker would, and says what to
//! fix with which command.

mod attack;
mod checks;
mod deep;
mod probe;

use std::process::ExitCode;

use serde::Serialize;

use self::checks::Patient;
use super::{
    Common,
    output::{Output, exit, printable},
};

pub(super) const AFTER_HELP: &str = "\
Examples:
  portcullis doctor                  is the gateway of this folder well?
  portcullis doctor --attack         does it withstand what everybody tries?
  portcullis doctor --json | jq '.findings[] | select(.state == \"bad\")'

--attack makes two API keys that end after ten minutes and revokes them at the end; what it sends is in the ledger.
Exit codes: 0 nothing bad; 1 something is bad, or an attack was not stopped; 3 no gateway reached.";

/// What `doctor` takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Doctor {
    /// Try well-known attacks against this gateway
    #[arg(long)]
    attack: bool,
}

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it should be; for an attack: stopped.
    Good,
    /// Works, and a person should look at it.
    Warn,
    /// Must be fixed; for an attack: not stopped.
    Bad,
    /// Could not be looked at.
    Skipped,
}

impl State {
    const fn word(self, attack: bool) -> &'static str {
        match (self, attack) {
            (Self::Good, false) => "ok",
            (Self::Good, true) => "stopped",
            (Self::Warn, _) => "look",
            (Self::Bad, false) => "BAD",
            (Self::Bad, true) => "NOT STOPPED",
            (Self::Skipped, _) => "skipped",
        }
    }
}

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) name: String,
    /// Whether it is an attack that was tried.
    pub(super) attack: bool,
    pub(super) state: State,
    pub(super) detail: String,
    /// What to do, with the command where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

impl Finding {
    /// About something that is not an attack.
    pub(super) fn of(name: &str, state: State, detail: impl Into<String>, fix: &str) -> Self {
        let fix = (!matches!(state, State::Good) && !fix.is_empty()).then(|| fix.to_owned());
        Self { name: name.to_owned(), attack: false, state, detail: detail.into(), fix }
    }
}

#[derive(Serialize)]
struct Report {
    endpoint: Option<String>,
    bad: usize,
    findings: Vec<Finding>,
}

pub(super) fn doctor(common: &Common, options: &Doctor, output: &Output) -> ExitCode {
    let mut findings = checks::files(common);
    let patient = Patient::reach(common);
    let mut endpoint = None;
    let unreached = patient.is_err();
    match patient {
        Ok(patient) => {
            endpoint = Some(patient.status.endpoint.clone());
            findings.extend(checks::running(&patient));
            findings.extend(deep::certificate(&patient));
            findings.push(deep::ledger(common, &patient));
            findings.extend(deep::sandbox(&patient));
            if options.attack {
                findings.extend(attack::all(&patient));
            }
        }
        Err(failure) => findings.push(Finding::of("gateway", State::Bad, failure.text, "portcullis run")),
    }
    let bad = findings.iter().filter(|finding| finding.state == State::Bad).count();
    let report = Report { endpoint, bad, findings };
    output.show(&report, text);
    match (unreached, bad) {
        (true, _) => ExitCode::from(exit::UNREACHED),
        (false, 0) => ExitCode::SUCCESS,
        (false, _) => ExitCode::from(exit::REFUSED),
    }
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    for finding in &report.findings {
        let word = finding.state.word(finding.attack);
        let detail = finding.detail.replace('\n', " ");
        out.push_str(&format!("{word:<11}  {:<28}  {detail}\n", finding.name));
        if let Some(fix) = &finding.fix {
            out.push_str(&format!("{:<11}  fix: {fix}\n", ""));
        }
    }
    let looks = report.findings.iter().filter(|finding| finding.state == State::Warn).count();
    out.push_str(&format!("\n{} looked at, {} bad, {looks} to look at", report.findings.len(), report.bad));
    printable(&out)
}
