//! What a look at texts costs: ordinary ones and the worst that are known, by every detector and by each alone, beside one
//! plain pass for 290 words over the same bytes in the same run; in time and, where valgrind is, in instructions.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aho_corasick::AhoCorasick;
use anyhow::Result;
use portcullis_core::Direction;
use portcullis_inspect::{CATALOG, InspectSettings, Inspector};

use crate::{
    rows::Rows,
    stages::{counted, instructions},
};

/// Bytes of each text.
const BYTES: usize = 16 * 1_024;
/// Microseconds for each KiB that a look may take.
const CLEAN_US_AIM: f64 = 12.0;
const WORST_US_AIM: f64 = 50.0;
/// Microseconds that 99 of 100 looks at 16 KiB may take at most.
const P99_US_AIM: f64 = 1_000.0;

/// What the worst texts are made of, over and over.
const HOSTILE: [&str; 14] = [
    "/a",
    "%41",
    "fm2_/",
    "key",
    "pwd:a1",
    "4 ",
    "AB 1",
    "ssn 1,",
    "(1) ",
    "&#65;",
    "\u{456}gn",
    "\u{200b}a",
    "-----BEGIN RSA PRIVATE KEY-----",
    "; ",
];

/// What is measured.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Measure each detector alone as well.
    #[arg(long)]
    each: bool,
    /// Look so often with this detector, or with `all`, and print nothing: what callgrind watches.
    #[arg(long, hide = true)]
    look: Option<String>,
    /// The text that is looked at then.
    #[arg(long, hide = true, default_value = "prose")]
    text: String,
    /// It is an argument.
    #[arg(long, hide = true)]
    argument: bool,
    /// How often.
    #[arg(long, hide = true, default_value_t = 0)]
    runs: u32,
}

/// Looks that are counted: nothing is remembered between them.
const RUNS: u32 = 4;

/// Measures; whether every aim is met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    if let Some(name) = &options.look {
        let (inspector, text) = (inspector(name)?, if options.text == "prose" { prose() } else { records() });
        let direction = if options.argument { Direction::Inward } else { Direction::Outward };
        (0..options.runs).for_each(|_| {
            counted(&mut || {
                black_box(scan(&inspector, direction, &text));
            })
        });
        return Ok(true);
    }
    let mut rows = Rows::new(options.json);
    let words: Vec<String> =
        (0..290_u32).map(|at| format!("{:x}word", at.wrapping_mul(0x9e37_79b9))).collect();
    let plain = AhoCorasick::builder().ascii_case_insensitive(true).build(&words)?;
    let all = Inspector::new(&InspectSettings::default())?;
    for (name, text) in [("records", records()), ("prose", prose())] {
        let pass = each(&text, || black_box(plain.find_overlapping_iter(black_box(&text)).count()));
        for direction in [Direction::Outward, Direction::Inward] {
            let cost = each(&text, || scan(&all, direction, &text));
            let note = format!(
                "{}, {:.0} times one pass for 290 words ({pass:.2} us)",
                told(cost, name, "all", direction)?,
                cost / pass
            );
            rows.add(&format!("{name}, {}", way(direction)), cost, CLEAN_US_AIM, "us", &note)?;
        }
    }
    let text = prose();
    let mut times: Vec<f64> = (0..400)
        .map(|_| {
            let begun = Instant::now();
            scan(&all, Direction::Outward, &text);
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    rows.add("16 KiB of prose, p99", times.get(395).copied().unwrap_or(f64::MAX), P99_US_AIM, "us", "")?;
    for unit in HOSTILE {
        let text = unit.repeat(BYTES / unit.len());
        for direction in [Direction::Outward, Direction::Inward] {
            let cost = each(&text, || scan(&all, direction, &text));
            rows.add(&format!("{unit:?} again and again, {}", way(direction)), cost, WORST_US_AIM, "us", "")?;
        }
    }
    for kind in CATALOG.iter().filter(|_| options.each) {
        let alone = inspector(kind.name)?;
        for direction in [Direction::Outward, Direction::Inward] {
            let cost = each(&text, || scan(&alone, direction, &text));
            let note = format!("{}, alone, with what all share", told(cost, "prose", kind.name, direction)?);
            rows.add(&format!("{}, {}", kind.name, way(direction)), cost, CLEAN_US_AIM, "us", &note)?;
        }
    }
    rows.end()
}

/// With that detector alone, or with all.
fn inspector(name: &str) -> Result<Inspector> {
    let mut settings = InspectSettings::default();
    if name != "all" {
        settings.detectors.iter_mut().for_each(|(known, one)| one.enabled = known == name);
    }
    Ok(Inspector::new(&settings)?)
}

/// Gigabytes in a second, and instructions for each byte.
fn told(cost: f64, text: &str, detector: &str, direction: Direction) -> Result<String> {
    let argument = if direction == Direction::Inward { &["--argument"][..] } else { &[] };
    let arguments = [&["inspect", "--look", detector, "--text", text], argument].concat();
    let count = instructions(&arguments, RUNS)?;
    let count = count.map_or("no valgrind".to_owned(), |count| {
        format!("{:.1} instructions/byte", count as f64 / BYTES as f64)
    });
    Ok(format!("{:.2} GB/s, {count}", 1_024.0 / cost / 1_000.0))
}

const fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Inward => "in arguments",
        Direction::Outward => "in answers",
    }
}

fn scan(inspector: &Inspector, direction: Direction, text: &str) -> usize {
    let mut found = Vec::new();
    let place = match direction {
        Direction::Inward => "/params/arguments/text",
        Direction::Outward => "/result/content/0/text",
    };
    inspector.scan(direction, place, black_box(text), &mut found);
    found.len()
}

/// Microseconds for each KiB of a text: the least mean over rounds of 3 ms, of which a busy machine leaves some alone.
fn each(text: &str, work: impl Fn() -> usize) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..40 {
        let (begun, mut count) = (Instant::now(), 0);
        while begun.elapsed().as_millis() < 3 {
            black_box(work());
            count += 1;
        }
        best = best.min(begun.elapsed() / count);
    }
    best.as_secs_f64() * 1e6 / (text.len() as f64 / 1_024.0)
}

/// The records that a tool for data answers with.
fn records() -> String {
    let states = ["open", "closed", "waiting for parts", "in review"];
    let record = |at: usize| {
        let state = states.iter().cycle().nth(at).copied().unwrap_or_default();
        format!(
            "{{\"id\":{},\"title\":\"Unit {} of the north line, weekly check\",\"state\":\"{state}\",\"updated\":\"2026-{:02}-{:02}T09:26:{:02}Z\",\"amount\":{}.{:02}}},",
            1_000 + at,
            at % 37,
            1 + at % 12,
            1 + at % 28,
            at % 60,
            at * 7 % 1_000,
            at % 100
        )
    };
    (0..)
        .map(record)
        .scan(0, |bytes, one| {
            *bytes += one.len();
            (*bytes <= BYTES).then_some(one)
        })
        .collect()
}

/// A document of the kind that is read with tools, with words in it that wake the classifier.
fn prose() -> String {
    let part = "The service reads its settings once, when it starts. To change them, edit the file and restart it; \
        running requests are finished first. If the port is taken, the log says which process holds it.\n\n\
        | option | default | meaning |\n|---|---|---|\n| `timeout` | 30 | seconds after which a request is given up |\n\n\
        You must not run two of them on one folder: the second one will not start. Please report what you see, with \
        the version (4.2.17) and the output of `status --all`. See https://docs.example.org/guide/start for more.\n";
    part.repeat(BYTES / part.len())
}
