//! What the look for secrets that were handed out costs with a thousand of them, in texts of many kinds: ordinary ones, and
//! such as nearly hold one.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use portcullis_core::{Clock, Secret, Timestamp};
use portcullis_secrets::{Broker, Failure, Keeper, Keeping, Parts, Reference, Variables, Watched, Witness};

use crate::rows::Rows;

/// Values that are looked for.
const VALUES: usize = 1_000;
/// Bytes of each text.
const BYTES: usize = 1_048_576;
/// Nanoseconds for each KiB at one gigabyte a second.
const KIB_NS_AIM: f64 = 1_024.0;
/// Microseconds that a call may take more for a secret that is held.
const ARMED_US_AIM: f64 = 3.0;

/// What is measured.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Real time.
#[derive(Debug)]
struct Wall(Instant);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn ticks_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Numbers that look like chance, the same in each run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 16
    }

    fn token(&mut self, length: usize) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        (0..length)
            .filter_map(|_| LETTERS.get(usize::try_from(self.next() % 62).ok()?))
            .map(|letter| char::from(*letter))
            .collect()
    }
}

/// Measures; whether every aim is met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut rows = Rows::new(options.json);
    let mut chance = Chance(7);
    // Of longer ones than 42 bytes a part is found, too, so that nothing is nearly one.
    let values: Vec<String> = (0..VALUES).map(|at| chance.token(20 + at % 22)).collect();
    let watched = Watched::new(Arc::new(Wall(Instant::now())), Duration::from_secs(3_600));
    for (at, value) in values.iter().enumerate() {
        drop(watched.arm(|| format!("vault:app/{at}#token"), value).context("too short")?);
    }
    for (name, text) in texts(&values, &mut chance) {
        ensure!(watched.find(&text).is_empty(), "{name}: something was found");
        let cost = least(|| drop(black_box(watched.find(black_box(&text)))));
        let kib_ns = cost.as_secs_f64() * 1e9 / (text.len() as f64 / 1_024.0);
        let note = format!("{:.2} GB/s", text.len() as f64 / cost.as_secs_f64() / 1e9);
        rows.add(&format!("{VALUES} secrets, 1 KiB of {name}"), kib_ns, KIB_NS_AIM, "ns", &note)?;
    }
    let (armed, plain) =
        tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(armed())?;
    let note = format!("{:.2} us instead of {:.2}", armed * 1e6, plain * 1e6);
    rows.add("a call with a secret that is held, more", (armed - plain) * 1e6, ARMED_US_AIM, "us", &note)?;
    rows.end()
}

/// Texts that hold none of the values.
fn texts(values: &[String], chance: &mut Chance) -> Vec<(&'static str, String)> {
    let english =
        "The service reads its settings once, when it starts. To change them, edit the file and restart it; ";
    let hex = (0..BYTES / 16).map(|_| format!("{:016x}", chance.next())).collect();
    let random = chance.token(BYTES);
    let json =
        r#"{"id":1042,"title":"Unit 12 of the north line","state":"open","at":"2026-03-04T09:26:53Z"},"#;
    // All but the last letter of one, then all but the first, and one with another letter in the middle.
    let nearly = |change: &dyn Fn(&str) -> String| -> String {
        let mut text = String::new();
        for value in values.iter().cycle() {
            if text.len() >= BYTES {
                break;
            }
            text.push_str(&change(value));
            text.push(' ');
        }
        text
    };
    let cut = |value: &str| value.get(..value.len() - 1).unwrap_or_default().to_owned();
    let behind = |value: &str| value.get(1..).unwrap_or_default().to_owned();
    let middle = |value: &str| {
        let (head, tail) = value.split_at(value.len() / 2);
        format!("{head}_{}", tail.get(1..).unwrap_or_default())
    };
    vec![
        ("English", english.repeat(BYTES / english.len())),
        ("JSON", json.repeat(BYTES / json.len())),
        ("hexadecimal digits", hex),
        ("random letters", random),
        ("secrets without their last letter", nearly(&cut)),
        ("secrets without their first letter", nearly(&behind)),
        ("secrets with another letter within", nearly(&middle)),
    ]
}

/// The least time of some runs.
fn least(mut work: impl FnMut()) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..12 {
        let begun = Instant::now();
        work();
        best = best.min(begun.elapsed());
    }
    best
}

/// Keeps one secret.
#[derive(Debug)]
struct One;

#[async_trait::async_trait]
impl Keeper for One {
    async fn read(&self, _name: &str) -> Result<Option<(Secret<String>, String)>, Failure> {
        Ok(Some((Secret::new("a-secret-that-is-held-in-memory".to_owned()), "1".to_owned())))
    }
}

#[async_trait::async_trait]
impl Witness for One {
    async fn used(&self, _reference: &str, _caller: Option<&str>) -> Result<(), Failure> {
        Ok(())
    }

    async fn rotated(&self, _reference: &str, _version: Option<&str>) -> Result<(), Failure> {
        Ok(())
    }

    async fn leaked(&self, _reference: &str, _canary: bool, _server: &str) -> Result<(), Failure> {
        Ok(())
    }
}

/// Seconds for a header with a secret that is held, and for one that is written out.
async fn armed() -> Result<(f64, f64)> {
    let one = Arc::new(One);
    let broker = Broker::new(Parts {
        vault: None,
        aws: None,
        keeper: Some(Arc::clone(&one) as _),
        variables: Variables::new(|_| None),
        keeping: Keeping::default(),
        clock: Arc::new(Wall(Instant::now())),
        witness: one,
    });
    let mut times = Vec::new();
    for text in ["Bearer local:token", "Bearer a-secret-that-is-written-out"] {
        let reference = Reference::parse(text)?;
        let value = portcullis_secrets::Value::new(reference, Arc::clone(&broker));
        let mut best = f64::MAX;
        for _ in 0..12 {
            let begun = Instant::now();
            for _ in 0..20_000 {
                let got = value.get(Some("key:k3jd92mfp01x")).await;
                drop(black_box(got.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?));
            }
            best = best.min(begun.elapsed().as_secs_f64() / 20_000.0);
        }
        times.push(best);
    }
    Ok((times.first().copied().unwrap_or_default(), times.get(1).copied().unwrap_or_default()))
}
