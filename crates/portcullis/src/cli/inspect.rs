//! `portcullis inspect`: what the detectors see in a text, and what they cost, offline and with the settings in force.

mod parameters;

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::{Subcommand, ValueEnum};
use portcullis_config::Overrides;
use portcullis_core::{Clock as _, Limits, Obligations, Treatment};
use portcullis_inspect::{InspectSettings, Inspector, Match, Role, Subject, Verdict, takes, verdict};
use portcullis_mcp::{
    answer::{Place, leaves_and_numbers},
    json::{self, Edits, JsonLimits, ValueKind, View},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::wire::SystemClock;

use super::{
    Common, Failure,
    output::{Output, printable, table},
    scan::Level,
};

/// Bytes of a text that is read.
const BYTES_MAX: u64 = 64 << 20;

/// How long each detector is measured.
const MEASURED: Duration = Duration::from_millis(300);

/// Inspections.
#[derive(Debug, Subcommand)]
pub(crate) enum Inspect {
    /// Show what the detectors find in a text or a JSON document, and what would be done about it
    #[command(after_help = "\
Examples:
  portcullis inspect test answer.json --mask
  curl -s https://example.com/page | portcullis inspect test - --json
  portcullis inspect test tool.json --role definition --fail

Values are not printed, only where they stand; with --mask, what would be let through instead.")]
    Test {
        /// The file, or `-` for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// What the text is for
        #[arg(long, value_enum, default_value = "answer")]
        role: For,
        /// Every detector, also those that are switched off
        #[arg(long)]
        all: bool,
        /// Print the text as it would be let through
        #[arg(long, conflicts_with = "json")]
        mask: bool,
        /// Exit with 1 where anything is found
        #[arg(long)]
        fail: bool,
    },
    /// Say whether the arguments of a call are what `parameters` of the server declares, without making the call
    #[command(after_help = "\
Examples:
  echo '{\"path\":\"/etc/passwd\"}' | portcullis inspect arguments files/read_file -
  portcullis inspect arguments db/query arguments.json --json")]
    Arguments {
        /// Server and tool
        #[arg(value_name = "SERVER/TOOL", value_parser = super::tools::server_and_name)]
        item: (String, String),
        /// The file with the arguments, a JSON object, or `-` for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Propose what parameters of tools mean, by their names and schemas, as a piece of configuration
    #[command(after_help = "\
Examples:
  portcullis inspect propose
  portcullis inspect propose files --json

Nothing of it is in force before it stands in the file.")]
    Propose {
        /// Only of this server
        server: Option<String>,
    },
    /// Measure what each detector costs on a text
    #[command(after_help = "Example:\n  portcullis inspect bench README.md")]
    Bench {
        /// The file, or `-` for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// What the text is for
        #[arg(long, value_enum, default_value = "answer")]
        role: For,
    },
}

/// What a text is for.
#[derive(Clone, Copy, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum For {
    /// Something that a caller sends
    Argument,
    /// Something that a server answers
    Answer,
    /// What a server says of a tool, a prompt, a resource or itself
    Definition,
}

impl From<For> for Role {
    fn from(role: For) -> Self {
        match role {
            For::Argument => Self::Argument,
            For::Answer => Self::Answer,
            For::Definition => Self::Definition,
        }
    }
}

#[derive(Debug, Serialize)]
struct Found {
    detector: &'static str,
    severity: &'static str,
    /// Of 1,000.
    confidence: u16,
    /// JSON pointer; empty where the text is no JSON.
    place: String,
    /// First byte of the decoded text, and the one behind the last.
    start: usize,
    end: usize,
    treatment: &'static str,
    /// Of what was found.
    evidence: portcullis_core::Digest,
    labels: Vec<&'static str>,
}

pub(super) fn carry_out(common: &Common, command: Inspect, output: &Output) -> Result<(), Failure> {
    match command {
        Inspect::Test { file, role, all, mask, fail } => {
            let inspector = build(settings(common, all)?)?;
            test(&inspector, &read(&file)?, role, mask, fail, output)
        }
        Inspect::Arguments { item, file } => parameters::arguments(common, item, &file, output),
        Inspect::Propose { server } => parameters::suggest(common, server, output),
        Inspect::Bench { file, role } => bench(&settings(common, true)?, &read(&file)?, role, output),
    }
}

fn settings(common: &Common, all: bool) -> Result<InspectSettings, Failure> {
    let config = super::check::load(common.config.as_deref(), &Overrides::default())?;
    let mut settings = config.settings.compiled_inspect();
    if all {
        settings.detectors.values_mut().for_each(|detector| detector.enabled = true);
    }
    Ok(settings)
}

fn build(settings: InspectSettings) -> Result<Inspector, Failure> {
    let inspector = Inspector::new(&settings).map_err(|error| Failure::refused(error.to_string()))?;
    Ok(inspector.in_year(SystemClock::new().now().year()))
}

fn read(file: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::refused(format!("{}: {error}", file.display()));
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let opened = std::fs::File::open(file).map_err(failed)?;
        opened.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() as u64 > BYTES_MAX {
        return Err(Failure::refused(format!("{}: more than {BYTES_MAX} bytes", file.display())));
    }
    String::from_utf8(bytes)
        .map_err(|error| Failure::refused(format!("{}: no UTF-8 text: {error}", file.display())))
}

fn test(
    inspector: &Inspector,
    text: &str,
    role: For,
    masked: bool,
    fail: bool,
    output: &Output,
) -> Result<(), Failure> {
    let mut search = Search { inspector, role: role.into(), found: Vec::new(), worst: Verdict::Pass };
    let document = text.trim_start().starts_with(['{', '[']);
    let checked = document && json::check(text.as_bytes(), &JsonLimits::answer(&Limits::default())).is_ok();
    let through =
        if checked { search.document(text)? } else { search.text("", text, false).unwrap_or_default() };
    let Search { found, worst, .. } = search;
    let (count, verdict) = (found.len(), word(worst));
    if masked && worst == Verdict::Refuse {
        return Err(Failure::refused(format!("{count} finds: it would be refused")));
    }
    if masked {
        output.line(through.trim_end());
    } else {
        let report = json!({ "verdict": verdict, "role": role, "findings": found });
        output.show(&report, |_| format!("{}{count} found: {verdict}", rows(&found)));
    }
    if fail && count > 0 { Err(Failure::refused(format!("{count} found"))) } else { Ok(()) }
}

struct Search<'a> {
    inspector: &'a Inspector,
    role: Role,
    found: Vec<Found>,
    worst: Verdict,
}

impl Search<'_> {
    /// What would be let through of a text; nothing of one whose `member` is left out for it.
    fn text(&mut self, place: &str, text: &str, member: bool) -> Option<String> {
        let mut matches = Vec::new();
        let subject = Subject { role: self.role, place, text };
        self.inspector.scan_subject(&subject, &mut matches);
        let found = verdict(self.role.direction(), &mut matches, &Obligations::default());
        self.found.extend(matches.iter().map(|one| shown(place, one)));
        self.worst = self.worst.max(found);
        if found == Verdict::Refuse || !takes(&matches) {
            return Some(text.to_owned());
        }
        if member && matches.iter().any(|one| one.finding.treatment == Treatment::Drop) {
            return None;
        }
        let budget = &mut self.inspector.budget();
        let masked = self.inspector.masked(&subject, &mut matches, &Obligations::default(), budget);
        if masked.is_none() {
            self.worst = Verdict::Refuse;
        }
        Some(masked.unwrap_or_default())
    }

    /// Every text of a document, as the gateway reads a message, with what would be let through in its place. Names
    /// of members cannot be masked.
    fn document(&mut self, text: &str) -> Result<String, Failure> {
        let (mut edits, mut dropped) = (Edits::new(), Vec::new());
        leaves_and_numbers(View::of(text.as_bytes()), "", |place, kind, leaf| {
            let number = leaf.kind() == ValueKind::Number;
            let said = if number { Some(String::from_utf8_lossy(leaf.raw())) } else { leaf.as_str() };
            let Some(said) = said else { return };
            let Some(through) = self.text(place, &said, true) else { return dropped.push(leaf.span()) };
            if through != said && kind == Place::Value {
                edits.replace(leaf.span(), json::quote(&through).into_bytes());
            } else if through != said {
                self.worst = Verdict::Refuse;
            }
        });
        let edits = edits.and_without(json::removal(View::of(text.as_bytes()), &dropped));
        let through = edits.apply(&Bytes::copy_from_slice(text.as_bytes()));
        let through = through.map_err(|error| Failure::refused(error.to_string()))?;
        Ok(String::from_utf8_lossy(&through).into_owned())
    }
}

fn shown(place: &str, found: &Match) -> Found {
    let Match { finding, range, replacement: _, labels } = found;
    Found {
        detector: finding.kind,
        severity: Level::from(finding.severity).word(),
        confidence: finding.confidence,
        place: place.to_owned(),
        start: range.start,
        end: range.end,
        treatment: finding.treatment.name(),
        evidence: finding.evidence,
        labels: labels.names(),
    }
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Warn => "warn",
        Verdict::Mask => "mask",
        Verdict::Ask => "ask",
        Verdict::Refuse => "refuse",
    }
}

fn rows(found: &[Found]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|one| {
            let bytes = format!("{}..{}", one.start, one.end);
            let place = if one.place.is_empty() { "-".to_owned() } else { printable(&one.place) };
            vec![
                one.detector.into(),
                one.severity.into(),
                one.confidence.to_string(),
                place,
                bytes,
                one.treatment.into(),
            ]
        })
        .collect();
    table(&["DETECTOR", "SEVERITY", "CONFIDENCE", "PLACE", "BYTES", "TREATMENT"], &rows).trim_end().to_owned()
        + "\n"
}

fn bench(settings: &InspectSettings, text: &str, role: For, output: &Output) -> Result<(), Failure> {
    if text.is_empty() {
        return Err(Failure::refused("there is no text to measure"));
    }
    let mut rows = Vec::new();
    let mut report = serde_json::Map::new();
    let names: Vec<&String> = settings.detectors.keys().collect();
    for only in names.iter().map(|name| Some(*name)).chain([None]) {
        let mut one = settings.clone();
        one.detectors
            .iter_mut()
            .for_each(|(name, detector)| detector.enabled = only.is_none_or(|only| only == name));
        let (us, found) = measure(&build(one)?, text, role.into());
        let name = only.map_or("all", String::as_str);
        rows.push(vec![
            name.to_owned(),
            format!("{us:.2}"),
            format!("{:.3}", 0.001_024 / us),
            found.to_string(),
        ]);
        report.insert(name.to_owned(), json!({ "us_per_kib": us, "found": found }));
    }
    output.show(&Value::Object(report), |_| table(&["DETECTOR", "US/KIB", "GB/S", "FOUND"], &rows));
    Ok(())
}

/// Microseconds for each KiB of `text`, the least of several passes, and how much was found.
fn measure(inspector: &Inspector, text: &str, role: Role) -> (f64, usize) {
    let (began, mut least, mut found) = (Instant::now(), Duration::MAX, Vec::new());
    while began.elapsed() < MEASURED {
        found.clear();
        let start = Instant::now();
        inspector.scan_subject(&Subject { role, place: "", text }, &mut found);
        least = least.min(start.elapsed());
    }
    (least.as_secs_f64() * 1.0e6 / (text.len() as f64 / 1_024.0), found.len())
}
