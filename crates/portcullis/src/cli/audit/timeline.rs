//! `portcullis audit timeline` and `graph`: what happened step by step, and who touched what.

use clap::{Args, ValueEnum};
use portcullis_admin::api::LedgerSearch;
use portcullis_forensics::{CHANGES, Graph, Hit, Kind, Step, Timeline, Used};

use super::query::{Asking, Files, Filter};
use crate::cli::{
    Common, Failure,
    output::{Output, printable, table},
};

pub(super) const TIMELINE_HELP: &str = "\
Examples:
  portcullis audit timeline --session sha256:5f1c9a02
  portcullis audit timeline --trace 0af7651916cd43dd8448eb211c80319c
  portcullis audit timeline --caller key:k3jd92mfp01x --from '2h ago'
  portcullis audit timeline --definition sha256:862f24ba --json

Calls stand with what came of them; lines with ~ are what was changed in the same time: configuration and policy,
definitions of the servers that were used, keys, grants, kills, secrets. A call without an outcome may have happened.";

pub(super) const GRAPH_HELP: &str = "\
Examples:
  portcullis audit graph --from yesterday > touched.dot && dot -Tsvg touched.dot > touched.svg
  portcullis audit graph --caller key:k3jd92mfp01x --format json";

/// What `audit timeline` takes.
#[derive(Args, Debug)]
pub(crate) struct Line {
    #[command(flatten)]
    filter: Filter,
    /// At most so many entries
    #[arg(long, short = 'n', default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    limit: u64,
    #[command(flatten)]
    files: Files,
}

/// How a graph is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For Graphviz
    Dot,
    /// JSON
    Json,
}

/// What `audit graph` takes.
#[derive(Args, Debug)]
pub(crate) struct Touched {
    #[command(flatten)]
    line: Line,
    /// How it is written; --json is the same as --format json
    #[arg(long, default_value = "dot")]
    format: Format,
}

pub(super) fn timeline(common: &Common, line: Line, output: &Output) -> Result<(), Failure> {
    let Line { filter, limit, files } = line;
    let mut asking = Asking::open(common, &files, output)?;
    let found = asking.all(filter.question("timeline"), limit, output)?;
    let changes = changes(&mut asking, &found.hits, limit, output)?;
    output.show(&Timeline::of(&found.hits, &changes), told);
    Ok(())
}

/// What was changed between the first and the last of these.
pub(super) fn changes(
    asking: &mut Asking,
    found: &[Hit],
    limit: u64,
    output: &Output,
) -> Result<Vec<Hit>, Failure> {
    let (Some(first), Some(last)) = (found.first(), found.last()) else { return Ok(Vec::new()) };
    let question = LedgerSearch {
        event: Some(CHANGES.to_owned()),
        first: Some(first.index),
        ..Filter::default().question("timeline")
    };
    let mut changes = asking.all(question, limit, output)?.hits;
    changes.retain(|hit| hit.index <= last.index);
    Ok(changes)
}

pub(super) fn graph(common: &Common, touched: Touched, output: &Output) -> Result<(), Failure> {
    let Touched { line: Line { filter, limit, files }, format } = touched;
    let mut asking = Asking::open(common, &files, output)?;
    let graph = Graph::of(&asking.all(filter.question("graph"), limit, output)?.hits);
    match format {
        Format::Dot if !output.json => output.raw(graph.to_dot().as_bytes()),
        Format::Dot | Format::Json => Output::new(true).show(&graph, |_| String::new()),
    }
    Ok(())
}

fn told(timeline: &Timeline) -> String {
    let (Some(from), Some(to)) = (&timeline.from, &timeline.to) else { return "nothing found".to_owned() };
    let callers: Vec<&str> = timeline.callers.iter().map(String::as_str).collect();
    let Timeline { calls, refused, open, .. } = timeline;
    let mut out = format!("{from} to {to}: {calls} calls, {refused} refused, {open} without an outcome\n");
    out.push_str(&format!("callers: {}\n", callers.join(", ")));
    for (what, all) in [("rules", &timeline.rules), ("definition", &timeline.definitions)] {
        for Used { digest, of, calls, first, last } in all {
            out.push_str(&format!("{what} {digest} of {of}: {calls} calls, entries {first} to {last}\n"));
        }
    }
    let rows: Vec<Vec<String>> = timeline.steps.iter().map(row).collect();
    let heads = ["index", "at", "who", "what", "decision", "rules", "definition", "found", "came of it"];
    out.push_str(&table(&heads, &rows));
    printable(&out)
}

/// As much of a digest as tells it from others on one page.
fn short(digest: Option<&String>) -> String {
    digest.map(|digest| digest.trim_start_matches("sha256:").chars().take(8).collect()).unwrap_or_default()
}

fn row(step: &Step) -> Vec<String> {
    let call = step.kind == Kind::Call;
    let what = if call { step.what.clone() } else { format!("~ {} {}", step.event, step.what) };
    let decision = match (&step.code, &step.decision) {
        (Some(code), _) => format!("REFUSED {code}"),
        (None, Some(effect)) => format!("{effect} by {}", step.policies.join(", ")),
        (None, None) => String::new(),
    };
    let came = match &step.outcome {
        Some(outcome) => {
            let how = outcome.code.as_ref().or(outcome.error.as_ref());
            let how = how.map_or_else(|| "answered".to_owned(), |why| format!("REFUSED {why}"));
            let ms = outcome.latency_us.map(|us| format!(" in {} ms", us / 1_000)).unwrap_or_default();
            format!("{how}{ms}")
        }
        None if step.event == "call.intent" => "NO OUTCOME".to_owned(),
        None if call => String::new(),
        None => step.data.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    let mut found = step.findings.clone();
    found.extend(
        step.outcome.iter().flat_map(|outcome| &outcome.findings).map(|found| format!("answer: {found}")),
    );
    vec![
        step.index.to_string(),
        step.at.clone(),
        step.who.clone().unwrap_or_default(),
        what,
        decision,
        short(step.rules.as_ref()),
        short(step.definition.as_ref()),
        found.join("; "),
        came,
    ]
}
