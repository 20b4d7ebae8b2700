//! What the index costs and how soon it answers: writes a ledger like those of a busy gateway, indexes it, searches it by
//! every field, and prints the figures. `cargo xtask bench index [--entries N] [--folder DIR]`.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use portcullis_core::{Digest, Event, Timestamp};
use portcullis_forensics::{Index, Order, Paging, Search, Shelf};
use portcullis_proof::{
    Checkpoint, SigningKey,
    tile::{TILE_WIDTH, Tile, Tree, hash_bytes, push_entry},
};
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const CALLERS: u64 = 2_000;
const SERVERS: u64 = 40;
const TOOLS: u64 = 15;
/// Searches of each kind.
const SEARCHES: u64 = 200;
/// No search by an indexed field may take longer, at its 99th percentile.
const AIM: Duration = Duration::from_millis(200);

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let (mut entries, mut folder) = (1_000_000_u64, None);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--entries", Some(count)) => entries = count.parse()?,
            ("--folder", Some(name)) => folder = Some(PathBuf::from(name)),
            _ => return Err("usage: index [--entries N] [--folder DIR]".into()),
        }
    }
    let folder = folder
        .unwrap_or_else(|| std::env::temp_dir().join(format!("portcullis-index-{}", std::process::id())));
    fs::create_dir_all(&folder)?;
    let measured = measure(&folder, entries);
    fs::remove_dir_all(&folder)?;
    measured
}

fn measure(folder: &Path, entries: u64) -> Outcome {
    let key = SigningKey::from_seed("bench.example/ledger", [3; 32])?;
    let begun = Instant::now();
    let ledger = folder.join("ledger");
    let bytes = write(&ledger, &key, entries)?;
    say(&format!("{entries} entries, {} bytes each, written in {:.0?}", bytes / entries, begun.elapsed()));
    let begun = Instant::now();
    let file = folder.join("index.db");
    let mut index = Index::open(&file, Shelf::new(&ledger, key.verifier()))?;
    index.catch_up(|_| true)?;
    let took = begun.elapsed();
    let size = fs::metadata(&file)?.len();
    let per_s = entries as f64 / took.as_secs_f64();
    say(&format!(
        "indexed in {took:.1?}: {per_s:.0} entries/s; {:.1} bytes each",
        size as f64 / entries as f64
    ));
    say("search                                       found    first page of 100: p50      p99      max");
    let mut late = Vec::new();
    for (name, question) in QUESTIONS {
        let mut times = Vec::new();
        let mut hits = 0;
        for n in 0..SEARCHES {
            let asked = question(mixed(n) % entries);
            let asked: Vec<(&str, &str)> =
                asked.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let search = Search::read(asked, Timestamp(0))?;
            let order = if n % 2 == 0 { Order::Oldest } else { Order::Newest };
            let begun = Instant::now();
            hits += index.find(&search, &Paging { order, limit: 100, cursor: None })?.hits.len();
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        let at = |percent: usize| {
            times.get(times.len() * percent / 100).or(times.last()).copied().unwrap_or_default()
        };
        let (p50, p99, max) = (at(50), at(99), times.last().copied().unwrap_or_default());
        say(&format!("{name:<40} {:>9}    {p50:>24.2?} {p99:>8.2?} {max:>8.2?}", hits as u64 / SEARCHES));
        if p99 > AIM {
            late.push(*name);
        }
    }
    if late.is_empty() { Ok(()) } else { Err(format!("slower than {AIM:?}: {}", late.join(", ")).into()) }
}

type Question = fn(u64) -> Vec<(&'static str, String)>;

const QUESTIONS: &[(&str, Question)] = &[
    ("caller", |n| vec![("caller", caller(n))]),
    ("server", |n| vec![("server", server(n))]),
    ("server and tool", |n| vec![("server", server(n)), ("tool", tool(n))]),
    ("caller and tool and event", |n| {
        vec![("caller", caller(n)), ("tool", tool(n)), ("event", "call.*".into())]
    }),
    ("code", |_| vec![("code", "policy.denied".into())]),
    ("finding", |_| vec![("finding", "payment_card".into())]),
    ("event that is rare", |_| vec![("event", "key.created".into())]),
    ("event that is common, with a rare one", |_| {
        vec![("event", "call.intent".into()), ("code", "admin.none".into())]
    }),
    ("trace", |n| vec![("trace", trace(n))]),
    ("session", |n| vec![("session", session(n))]),
    ("digest of the message", |n| vec![("input", input(n))]),
    ("definition", |n| vec![("definition", Digest::of(tool(n).as_bytes()).to_string())]),
    ("an hour", |n| vec![("from", at(n)), ("to", Timestamp(time(n) + 3_600_000).to_string())]),
    ("an hour and a caller", |n| {
        vec![("from", at(n)), ("to", Timestamp(time(n) + 3_600_000).to_string()), ("caller", caller(n))]
    }),
    ("words", |n| vec![("text", format!("permits {}", tool(n)))]),
    ("nothing that is there", |_| vec![("server", server(0)), ("tool", "no-such-tool".into())]),
];

fn mixed(n: u64) -> u64 {
    let digest = Digest::of(&n.to_be_bytes()).0;
    digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Two entries are one call.
fn call(n: u64) -> u64 {
    mixed(n / 2)
}

fn caller(n: u64) -> String {
    // Some callers are far busier than others.
    let pick = call(n) % CALLERS;
    format!("user:person-{}@corp.example", pick * pick / CALLERS)
}

fn server(n: u64) -> String {
    format!("server-{}", (call(n) >> 16) % SERVERS)
}

fn tool(n: u64) -> String {
    format!("tool_{}", (call(n) >> 32) % TOOLS)
}

fn trace(n: u64) -> String {
    Digest::of(&(n / 2).to_le_bytes()).hex().chars().take(32).collect()
}

fn session(n: u64) -> String {
    Digest::of(format!("{}{}", caller(n), n / 200_000).as_bytes()).to_string()
}

fn input(n: u64) -> String {
    Digest::of(format!("input {}", n / 2).as_bytes()).to_string()
}

fn time(n: u64) -> u64 {
    1_790_000_000_000 + n * 20
}

fn at(n: u64) -> String {
    Timestamp(time(n)).to_string()
}

fn entry(n: u64) -> Value {
    let refused = call(n) >> 40 & 31 == 0;
    let event = match (refused, n % 2) {
        (true, _) => Event::CallRefused,
        (false, 0) => Event::CallIntent,
        (false, _) => Event::CallOutcome,
    };
    let mut entry = json!({
        "action": "call_tool", "at": at(n), "era": "2025-11-25", "event": event.name(),
        "actor": {"id": caller(n), "issuer": "https://login.corp.example", "kind": "user", "proof": "jwt", "roles": ["operator"]},
        "decision": {"effect": if refused { "deny" } else { "allow" }, "policies": ["role.operator.1"]},
        "input": {"digest": input(n), "size": 512}, "instance": "bench.example/ledger", "method": "tools/call",
        "rules": Digest::of(&(n / 1_000_000).to_be_bytes()).to_string(), "session": session(n), "source": "10.0.0.7",
        "target": {"digest": Digest::of(tool(n).as_bytes()).to_string(), "kind": "tool", "name": tool(n), "server": server(n)},
        "trace": format!("00-{}-b7ad6b7169203331-01", trace(n)), "v": 1,
    });
    let mut more = serde_json::Map::new();
    if refused {
        more.insert("code".into(), "policy.denied".into());
        more.insert("detail".into(), format!("no policy permits {}", tool(n)).into());
    }
    if call(n) >> 50 & 63 == 0 {
        let evidence = Digest::of(&n.to_be_bytes()).to_string();
        let finding = json!([{"kind": "payment_card", "place": "/params/arguments/text", "severity": "medium",
            "treatment": "mask", "evidence": evidence}]);
        more.insert("findings".into(), finding);
    }
    if n % 500_000 == 77 {
        more.insert("event".into(), Event::KeyCreated.name().into());
    }
    if let Some(members) = entry.as_object_mut() {
        members.append(&mut more);
    }
    entry
}

/// Writes a whole ledger as a gateway that closed in order left it; returns the bytes of its entries.
fn write(root: &Path, key: &SigningKey, count: u64) -> Outcome<u64> {
    let (mut tree, mut bundle, mut full) = (Tree::default(), Vec::new(), Vec::new());
    let mut bytes = 0;
    let put = |tile: Tile, bytes: &[u8]| -> Outcome {
        let path = root.join(tile.path());
        fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        Ok(fs::write(path, bytes)?)
    };
    for n in 0..count {
        let entry = entry(n).to_string().into_bytes();
        bytes += entry.len() as u64;
        if !push_entry(&mut bundle, &entry) {
            return Err("an entry is too large".into());
        }
        tree.append(&entry, &mut full);
        if tree.size() % TILE_WIDTH == 0 {
            put(Tile { level: None, index: n / TILE_WIDTH, width: TILE_WIDTH }, &bundle)?;
            bundle.clear();
            for (tile, hashes) in full.drain(..) {
                put(tile, &hash_bytes(&hashes))?;
            }
        }
    }
    for (tile, hashes) in tree.partial() {
        put(tile, &hash_bytes(hashes))?;
    }
    if !bundle.is_empty() {
        put(Tile { level: None, index: count / TILE_WIDTH, width: count % TILE_WIDTH }, &bundle)?;
    }
    let checkpoint = Checkpoint { origin: key.name().to_owned(), size: count, root: tree.root() };
    fs::write(root.join("checkpoint"), checkpoint.sign(key))?;
    Ok(bytes)
}

#[expect(clippy::print_stdout, reason = "a bench tells its figures")]
fn say(line: &str) {
    println!("{line}");
}
