//! What each thinking stage costs by itself: instructions counted by callgrind, which no neighbour on the machine
//! can change, and beside them the least nanoseconds seen.

use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use portcullis_core::{Action, Caller, Digest, Direction, Event, Limits, Target, Timestamp};
use portcullis_inspect::{InspectSettings, Inspector};
use portcullis_mcp::json::{JsonLimits, View};
use portcullis_mcp::jsonrpc::Message;
use portcullis_mcp::schema::Schema;
use portcullis_policy::{Policies, PolicySource, RequestContext, builtin_roles};
use portcullis_proof::{Actor, Content, Decision, Entry, Output};

use crate::governed::{self, caller, target};
use crate::identity::{self, Signature};
use crate::payload::{Era, SIZES, TOOL, answer_parts, call, text};

/// What is measured: name, and whether it depends on the size of the answer.
const STAGES: [(&str, bool); 16] = [
    ("parse the call", false),
    ("check the arguments", false),
    ("decide, remembered", false),
    ("inspect the call, quick", false),
    ("entry of the intent", false),
    ("entry of the outcome", false),
    ("parse the answer", true),
    ("inspect the answer, quick", true),
    ("digest of the answer", true),
    ("decide of 200, remembered", false),
    ("decide of 200, by the time", false),
    ("known JWT, decide of 200", false),
    ("known JWT, by the time", false),
    ("filter 500 tools, by the time", false),
    ("token, RS256, first seen", false),
    ("token, ES256, first seen", false),
];

/// Runs that are counted, after one that is not: it fills what is remembered between calls.
const RUNS: u32 = 100;

/// What the one measured process is told.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Run only this stage, by number, and print nothing: what callgrind watches.
    #[arg(long, hide = true)]
    stage: Option<usize>,
    /// Bytes of text in the answer.
    #[arg(long, hide = true, default_value_t = 1_024)]
    size: usize,
    /// How often.
    #[arg(long, hide = true, default_value_t = 0)]
    runs: u32,
}

/// One line of the table.
#[derive(Debug, serde::Serialize)]
struct Row {
    stage: &'static str,
    bytes: Option<usize>,
    /// None where valgrind is missing.
    instructions: Option<u64>,
    ns: f64,
}

/// Counts every stage, or runs one.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(stage) = options.stage {
        let mut work = work(stage, options.size)?;
        work();
        (0..options.runs).for_each(|_| counted(&mut *work));
        return Ok(());
    }
    let mut rows = Vec::new();
    for (number, (stage, sized)) in STAGES.iter().copied().enumerate() {
        for size in SIZES.into_iter().take(if sized { 2 } else { 1 }) {
            let [number_text, size_text] = [number.to_string(), size.to_string()];
            let arguments = ["stages", "--stage", &number_text, "--size", &size_text];
            let instructions = instructions(&arguments, RUNS)?;
            let bytes = sized.then_some(size);
            rows.push(Row { stage, bytes, instructions, ns: nanoseconds(number, size)? });
        }
    }
    if options.json {
        return crate::say(&serde_json::to_string_pretty(&rows)?);
    }
    crate::say(
        "Per call. Callgrind shows no SHA instructions to the program, so digests count too high there.\n",
    )?;
    crate::say(&format!("{:<30} {:>7} {:>14} {:>10}", "stage", "bytes", "instructions", "ns, least"))?;
    for row in rows {
        let count = row.instructions.map_or("no valgrind".to_owned(), |count| count.to_string());
        let bytes = row.bytes.map_or(String::new(), |bytes| bytes.to_string());
        crate::say(&format!("{:<30} {bytes:>7} {count:>14} {:>10.0}", row.stage, row.ns))?;
    }
    Ok(())
}

/// Callgrind counts between entering and leaving this function, and nowhere else. It knows it by name.
#[inline(never)]
pub(crate) fn counted(work: &mut dyn FnMut()) {
    work();
}

/// What one run takes of those that this program does when it is started again with these arguments and `--runs`; none
/// where valgrind is missing.
pub(crate) fn instructions(arguments: &[&str], runs: u32) -> Result<Option<u64>> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command
        .args(["--collect-atstart=no", "--toggle-collect=*stages::counted*"])
        .arg(std::env::current_exe()?);
    command.args(arguments).args(["--runs", &runs.to_string()]);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("cannot run valgrind"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {said}");
    let line =
        said.lines().find_map(|line| line.split_once("Collected :")).context("valgrind counted nothing")?;
    let count: u64 = line.1.trim().parse()?;
    ensure!(count > 0, "callgrind did not find the function to count");
    Ok(Some(count / u64::from(runs)))
}

/// The least mean over rounds of at least 2 ms.
fn nanoseconds(stage: usize, size: usize) -> Result<f64> {
    let mut work = work(stage, size)?;
    let mut best = f64::MAX;
    for _ in 0..15 {
        let (begun, mut count) = (Instant::now(), 0_u32);
        while begun.elapsed().as_micros() < 2_000 {
            (0..16).for_each(|_| work());
            count += 16;
        }
        best = best.min(begun.elapsed().as_nanos() as f64 / f64::from(count));
    }
    Ok(best)
}

/// The stage of that number, with everything prepared that a running gateway has prepared.
fn work(stage: usize, size: usize) -> Result<Box<dyn FnMut()>> {
    let limits = Limits::default();
    let request = call(12_345, TOOL, size, Era::Legacy);
    let (head, tail) = answer_parts(size, Era::Legacy);
    let answer = Bytes::from([head.as_bytes(), b"12345", &tail].concat());
    Ok(match stage {
        0 => parse(request, JsonLimits::request(&limits)),
        1 => arguments(&request, &limits)?,
        2 => decide(&limits)?,
        3 => quick(request)?,
        4 => intent(request),
        5 => outcome(answer),
        6 => parse(answer, JsonLimits::answer(&limits)),
        7 => quick(answer)?,
        8 => Box::new(move || {
            black_box(Digest::of(black_box(&answer)));
        }),
        9 => governed::decide(&limits, false)?,
        10 => governed::decide(&limits, true)?,
        11 => governed::authenticate_and_decide(&limits, false)?,
        12 => governed::authenticate_and_decide(&limits, true)?,
        13 => governed::filter(&limits)?,
        14 => identity::first_seen(Signature::Rs256)?,
        15 => identity::first_seen(Signature::Es256)?,
        _ => bail!("there is no stage {stage}"),
    })
}

fn parse(bytes: Bytes, limits: JsonLimits) -> Box<dyn FnMut()> {
    Box::new(move || drop(black_box(Message::parse(black_box(bytes.clone()), &limits))))
}

fn arguments(request: &Bytes, limits: &Limits) -> Result<Box<dyn FnMut()>> {
    const SCHEMA: &[u8] =
        br#"{"type":"object","properties":{"size":{"type":"integer","minimum":1,"maximum":65536},
        "note":{"type":"string","maxLength":200}},"required":["size"],"additionalProperties":false}"#;
    let schema = Schema::compile(SCHEMA, limits)?;
    let request = request.clone();
    Ok(Box::new(move || {
        let arguments = View::of(&request).path(&["params", "arguments"]);
        drop(black_box(schema.check(black_box(arguments))));
    }))
}

fn decide(limits: &Limits) -> Result<Box<dyn FnMut()>> {
    let source = PolicySource { roles: builtin_roles(), ..PolicySource::default() };
    let Ok(policies) = Policies::compile(&source, limits) else { bail!("the built-in roles do not compile") };
    let (caller, target) = (caller(), target());
    Ok(Box::new(move || {
        let context = RequestContext::new(Timestamp(1_800_000_000_000), "2025-11-25");
        drop(black_box(policies.decide(black_box(&caller), Action::CallTool, &target, None, &context)));
    }))
}

fn quick(bytes: Bytes) -> Result<Box<dyn FnMut()>> {
    let inspector = Inspector::new(&InspectSettings::default())?;
    let clean = {
        let mut found = Vec::new();
        inspector.scan(Direction::Outward, "/", &text(1_024), &mut found);
        found.is_empty()
    };
    ensure!(clean, "the bench's text is not clean");
    Ok(Box::new(move || {
        black_box(inspector.quick(Direction::Outward, black_box(&bytes), false));
    }))
}

fn entry<'a>(event: Event, caller: &'a Caller, target: &'a Target) -> Entry<'a> {
    let mut entry = Entry::new(event, Timestamp(1_800_000_000_000), "node-1");
    entry.action = Some(Action::CallTool);
    entry.actor = Some(Actor::of(caller));
    entry.era = Some("2025-11-25");
    entry.method = Some("tools/call");
    entry.target = Some(target);
    entry.trace = Some("0af7651916cd43dd8448eb211c80319c");
    entry
}

fn intent(request: Bytes) -> Box<dyn FnMut()> {
    let (caller, target, policies) = (caller(), target(), ["role:operator#1".to_owned()]);
    Box::new(move || {
        let mut entry = entry(Event::CallIntent, &caller, &target);
        entry.decision = Some(Decision { allow: true, policies: &policies });
        entry.input = Some(Content { digest: Digest::of(&request), size: request.len() as u64 });
        drop(black_box(entry.to_jcs()));
    })
}

fn outcome(answer: Bytes) -> Box<dyn FnMut()> {
    let (caller, target, digest) = (caller(), target(), Digest::of(&answer));
    Box::new(move || {
        let mut entry = entry(Event::CallOutcome, &caller, &target);
        entry.output = Some(Output { digest, size: answer.len() as u64, error: None });
        (entry.intent, entry.latency_us, entry.status) = (Some(41), Some(350), Some(200));
        drop(black_box(entry.to_jcs()));
    })
}
