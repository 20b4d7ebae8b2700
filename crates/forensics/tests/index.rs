//! The index over real ledgers: what it finds is what a look at every entry finds, also after a kill, and it goes on over
//! no ledger that was changed and with no file that is damaged.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on has failed"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use portcullis_core::{Digest, Event, Limits, Timestamp};
use portcullis_forensics::{ForensicsError, Hit, Index, Order, Paging, Search, Shelf, scan};
use portcullis_proof::{SigningKey, VerifierKey};
use portcullis_store::{CheckpointKeeper, FileLedger, FileLedgerOptions, KeeperError, Ledger as _};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

#[derive(Debug, Default)]
struct Kept(Mutex<Option<String>>);

impl CheckpointKeeper for Kept {
    fn save(&self, note: &str) -> Result<(), KeeperError> {
        *self.0.lock().unwrap() = Some(note.to_owned());
        Ok(())
    }

    fn load(&self, _origin: &str) -> Result<Option<String>, KeeperError> {
        Ok(self.0.lock().unwrap().clone())
    }
}

struct World {
    folder: tempfile::TempDir,
    ledger: FileLedger,
    runtime: tokio::runtime::Runtime,
}

fn key() -> SigningKey {
    SigningKey::from_seed("index.test/ledger", [7; 32]).unwrap()
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let keeper = Arc::new(Kept::default());
        let mut options =
            FileLedgerOptions::new(folder.path().join("ledger"), key(), Limits::default(), keeper);
        // Checkpoints come when a test asks for them.
        options.checkpoint_every_ms = 3_600_000;
        let (ledger, _) = FileLedger::open(options).unwrap();
        Self { folder, ledger, runtime }
    }

    fn write(&self, entries: impl IntoIterator<Item = Vec<u8>>) {
        self.runtime.block_on(async {
            for entry in entries {
                self.ledger.append(entry).await.unwrap();
            }
            self.ledger.checkpoint().await.unwrap();
        });
    }

    fn shelf(&self) -> Shelf {
        shelf(self.folder.path())
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("index.db")
    }

    fn index(&self) -> Index {
        let mut index = Index::open(self.file(), self.shelf()).unwrap();
        index.catch_up(|_| true).unwrap();
        index
    }
}

fn shelf(folder: &Path) -> Shelf {
    Shelf::new(folder.join("ledger"), VerifierKey::from_text(&key().verifier().to_string()).unwrap())
}

const CALLERS: &[&str] = &["key:k3jd92mfp01x", "user:mira.lind@corp.example", "agent:planner-7"];
const SERVERS: &[&str] = &["files", "crm", "crm-eu"];
const TOOLS: &[&str] = &["read_file", "send-mail", "notes.search", "Größe"];
const EVENTS: &[Event] = &[Event::CallIntent, Event::CallOutcome, Event::CallRefused, Event::KeyCreated];
const KINDS: &[&str] = &["email", "payment_card", "shell_injection"];

fn made(n: u64, pick: [usize; 5]) -> Vec<u8> {
    let [caller, server, tool, event, kind] = pick;
    let event = EVENTS[event % EVENTS.len()];
    // Clocks go back now and then.
    let at = Timestamp(1_790_000_000_000 + n * 1_000 - (n % 97) * 3_000).to_string();
    let mut entry = json!({
        "at": at, "event": event.name(), "instance": "i", "v": 1,
        "actor": {"id": CALLERS[caller % CALLERS.len()], "kind": "user", "roles": ["reader"]},
        "target": {"server": SERVERS[server % SERVERS.len()], "name": TOOLS[tool % TOOLS.len()], "kind": "tool",
            "digest": Digest::of(TOOLS[tool % TOOLS.len()].as_bytes()).to_string()},
        "trace": format!("00-{}-b7ad6b7169203331-01", &Digest::of(&(n / 2).to_be_bytes()).hex()[..32]),
        "input": {"digest": Digest::of(&(n % 40).to_be_bytes()).to_string(), "size": n},
    });
    if event == Event::CallRefused {
        entry["code"] = "policy.denied".into();
        entry["detail"] = format!("no policy permits {}", TOOLS[tool % TOOLS.len()]).into();
        entry["findings"] = json!([{"kind": KINDS[kind % KINDS.len()], "severity": "high"}]);
    }
    entry.to_string().into_bytes()
}

fn filled(world: &World, count: u64) -> BTreeMap<u64, Value> {
    let pick = |n: u64| {
        let digest = Digest::of(&n.to_le_bytes()).0;
        [digest[0], digest[1], digest[2], digest[3], digest[4]].map(usize::from)
    };
    let all: Vec<Vec<u8>> = (0..count).map(|n| made(n, pick(n))).collect();
    world.write(all.iter().cloned());
    (0..).zip(all).map(|(n, bytes)| (n, serde_json::from_slice(&bytes).unwrap())).collect()
}

fn search(question: &[(&str, &str)]) -> Search {
    Search::read(question.iter().copied(), Timestamp(1_790_000_000_000)).unwrap()
}

/// Every page of a search.
fn found(index: &Index, search: &Search, order: Order, limit: usize) -> Vec<u64> {
    let (mut out, mut cursor) = (Vec::new(), None);
    loop {
        let page = index.find(search, &Paging { order, limit, cursor }).unwrap();
        assert!(page.hits.len() <= limit);
        out.extend(page.hits.iter().map(|hit| hit.index));
        cursor = page.cursor;
        if cursor.is_none() {
            return out;
        }
    }
}

fn question() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let of = |name: &'static str, values: &'static [&'static str]| {
        proptest::sample::select(values).prop_map(move |value| (name, value.to_owned()))
    };
    let one = prop_oneof![
        of("caller", &["key:k3jd92mfp01x", "lind", "user:*", "agent:pla*", "nobody", "planner"]),
        of("server", &["crm", "crm*", "files", "CRM", "*"]),
        of("tool", &["read_file", "r*", "Größe", "größe", "notes.search", "notessearch"]),
        of(
            "event",
            &[
                "call.*",
                "call.refused",
                "key.created",
                "callrefused",
                "call.refused|key.*",
                "x|call.intent",
                "*|x"
            ]
        ),
        of("finding", KINDS),
        of("severity", &["high", "low"]),
        of("code", &["policy.denied", "policy.*"]),
        of("text", &["permits", "PERMITS read*", "größe", "email policy", "nowhere", "send mail"]),
        of("from", &["2026-09-21T13:33", "2026-09-21T13:40:20", "2026-09-21T14:00"]),
        of("to", &["2026-09-21T13:36", "2026-09-21T13:41", "2027-01-01"]),
        of("first", &["0", "255", "256", "700", "100000"]),
        (0_u64..60).prop_map(|n| ("input", Digest::of(&n.to_be_bytes()).to_string())),
        (0_u64..60).prop_map(|n| ("input", Digest::of(&n.to_be_bytes()).hex()[..9].to_owned())),
        (0_u64..500).prop_map(|n| ("trace", Digest::of(&n.to_be_bytes()).hex()[..32].to_owned())),
        of("definition", &["sha256:00000000", "00000000"]),
    ];
    proptest::collection::vec(one, 0..4)
}

#[test]
fn the_index_finds_exactly_what_a_look_at_every_entry_finds() {
    let world = World::new();
    let entries = filled(&world, 777);
    let index = world.index();
    assert_eq!(index.status().unwrap().complete, 777);
    let mut some = 0;
    TestRunner::new(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })
        .run(&(question(), 1_usize..300, any::<bool>()), |(asked, limit, newest)| {
            let asked: Vec<(&str, &str)> =
                asked.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let search = search(&asked);
            let order = if newest { Order::Newest } else { Order::Oldest };
            let mut expected: Vec<u64> = entries
                .iter()
                .filter(|(index, entry)| search.fits(**index, entry))
                .map(|(index, _)| *index)
                .collect();
            if newest {
                expected.reverse();
            }
            prop_assert_eq!(found(&index, &search, order, limit), expected, "{:?}", asked);
            Ok(())
        })
        .unwrap();
    // What fits is not only what the same code says that fits.
    for (asked, expected) in [
        (
            ("tool", "read_file"),
            entries.values().filter(|entry| entry["target"]["name"] == "read_file").count(),
        ),
        (
            ("event", "call.refused"),
            entries.values().filter(|entry| entry["event"] == "call.refused").count(),
        ),
        (("text", "permits"), entries.values().filter(|entry| entry.to_string().contains("permits")).count()),
        (("caller", "mira"), entries.values().filter(|entry| entry.to_string().contains("mira")).count()),
    ] {
        let got = found(&index, &search(&[asked]), Order::Oldest, 100).len();
        assert_eq!(got, expected, "{asked:?}");
        some += got;
    }
    assert!(some > 400);
    let scanned =
        scan(&world.shelf(), &search(&[("tool", "Gr*")]), &Paging { limit: 1000, ..Paging::default() })
            .unwrap();
    let hits: Vec<u64> = scanned.hits.iter().map(|hit: &Hit| hit.index).collect();
    assert_eq!(hits, found(&index, &search(&[("tool", "Gr*")]), Order::Oldest, 1000));
}

#[test]
fn pages_stay_the_same_while_the_log_grows_and_say_how_far_they_are_complete() {
    let world = World::new();
    filled(&world, 300);
    let mut index = world.index();
    let asked = search(&[("server", "crm*")]);
    for order in [Order::Oldest, Order::Newest] {
        let before = found(&index, &asked, order, 7);
        let first = index.find(&asked, &Paging { order, limit: 7, cursor: None }).unwrap();
        assert!(first.checkpoint.unwrap().starts_with("index.test/ledger\n"));
        world.write((0..10).map(|n| made(n, [0, 1, 0, 0, 0])));
        index.catch_up(|_| true).unwrap();
        let cursor = first.cursor;
        let second = index.find(&asked, &Paging { order, limit: 7, cursor }).unwrap();
        assert_eq!(second.hits.iter().map(|hit| hit.index).collect::<Vec<_>>(), before[7..14]);
        assert_eq!(second.complete, first.complete + 10);
    }
    // Made anew, the same cursor goes on at the same place.
    let cursor = index.find(&asked, &Paging { limit: 7, ..Paging::default() }).unwrap().cursor;
    let rest =
        index.find(&asked, &Paging { limit: 7, cursor: cursor.clone(), ..Paging::default() }).unwrap().hits;
    drop(index);
    Index::remove(&world.file()).unwrap();
    let again = world.index().find(&asked, &Paging { limit: 7, cursor, ..Paging::default() }).unwrap().hits;
    assert_eq!(rest, again);
}

#[test]
fn what_is_not_signed_yet_is_in_no_answer_and_entries_come_in_step_by_step() {
    let world = World::new();
    filled(&world, 100);
    let mut index = world.index();
    world.runtime.block_on(world.ledger.append(made(1, [0; 5]))).unwrap();
    assert!(!index.step().unwrap());
    assert_eq!(index.status().unwrap().complete, 100);
    // More than one step is needed for these: between the steps nothing new is promised.
    filled(&world, 5_000);
    assert!(index.step().unwrap());
    let status = index.status().unwrap();
    assert_eq!((status.indexed, status.complete, status.signed), (4_096, 100, 5_101));
    assert_eq!(
        index.find(&Search::default(), &Paging { limit: 1000, ..Paging::default() }).unwrap().hits.len(),
        100
    );
    index.catch_up(|_| true).unwrap();
    assert_eq!(found(&index, &Search::default(), Order::Newest, 1000).len(), 5_101);
}

/// Stands in for a gateway that is killed: indexes step by step until somebody ends it.
#[test]
#[ignore = "started by the test below, in a process of its own"]
fn indexes_until_it_is_killed() {
    let Some(folder) = std::env::var_os("INDEXED_FOLDER") else { return };
    let folder = PathBuf::from(folder);
    loop {
        let mut index = Index::open(folder.join("index.db"), shelf(&folder)).unwrap();
        index.catch_up(|_| true).unwrap();
        drop(index);
        Index::remove(&folder.join("index.db")).unwrap();
    }
}

#[test]
fn a_kill_in_the_middle_of_indexing_leaves_nothing_out_and_nothing_twice() {
    let world = World::new();
    let entries = filled(&world, 9_000);
    let mut stopped_within = 0;
    for n in 0..6_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "indexes_until_it_is_killed", "--ignored", "--nocapture"])
            .env("INDEXED_FOLDER", world.folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(700 + n * 230));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut index = Index::open(world.file(), world.shelf()).unwrap();
        let status = index.status().unwrap();
        stopped_within += u32::from(status.indexed > 0 && status.indexed < 9_000);
        index.catch_up(|_| true).unwrap();
        index.check().unwrap();
        assert_eq!(found(&index, &Search::default(), Order::Oldest, 1000), (0..9_000).collect::<Vec<_>>());
        let asked = search(&[("tool", "read_file"), ("event", "call.*")]);
        let expected: Vec<u64> = entries
            .iter()
            .filter(|(index, entry)| asked.fits(**index, entry))
            .map(|(index, _)| *index)
            .collect();
        assert_eq!(found(&index, &asked, Order::Oldest, 1000), expected);
        drop(index);
        Index::remove(&world.file()).unwrap();
    }
    assert!(stopped_within > 0, "no kill came in the middle");
}

fn told(error: &ForensicsError) -> String {
    format!("{error}; {}", error.hint())
}

fn bundles(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders = vec![folder.join("ledger/tile/entries")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

fn replace(file: &Path, from: &str, to: &str) {
    let bytes = fs::read(file).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    let mut changed = bytes;
    changed[at..at + to.len()].copy_from_slice(to.as_bytes());
    fs::write(file, changed).unwrap();
}

#[test]
fn a_ledger_that_was_changed_is_not_indexed_any_further_and_a_changed_entry_is_not_handed_out() {
    let world = World::new();
    filled(&world, 600);
    let mut index = world.index();
    // A later entry is changed before the index has seen it.
    filled(&world, 600);
    let file = bundles(world.folder.path()).into_iter().rfind(|path| path.ends_with("003")).unwrap();
    let whole = fs::read(&file).unwrap();
    replace(&file, "read_file", "reap_file");
    let refused = index.catch_up(|_| true).unwrap_err();
    assert!(matches!(refused, ForensicsError::Tampered(_)), "{refused}");
    let refused = told(&refused);
    assert!(
        refused.to_string().contains("audit verify") && refused.to_string().contains("index rebuild"),
        "{refused}"
    );
    fs::write(&file, whole).unwrap();
    // It stays where it was, also for a new process, until somebody looks and begins anew.
    drop(index);
    let mut index = Index::open(world.file(), world.shelf()).unwrap();
    assert!(matches!(index.step(), Err(ForensicsError::Tampered(_))));
    let status = index.status().unwrap();
    assert_eq!(status.complete, 600);
    assert!(status.refused.is_some());
    assert_eq!(
        found(&index, &Search::default(), Order::Oldest, 1000).len(),
        600,
        "what was signed before is found"
    );
    drop(index);
    Index::remove(&world.file()).unwrap();
    let mut index = world.index();
    assert_eq!(index.status().unwrap().complete, 1_200);
    // An entry is changed after it was indexed, in the last bundle, which will grow, and in the first.
    let last = bundles(world.folder.path()).into_iter().rfind(|path| path.ends_with("176")).unwrap();
    let whole = fs::read(&last).unwrap();
    replace(&last, "user", "usor");
    assert!(!index.step().unwrap());
    let newest = Paging { order: Order::Newest, limit: 300, cursor: None };
    let refused = index.find(&Search::default(), &newest).unwrap_err();
    assert!(refused.to_string().contains("entry 1024 "), "{refused}");
    fs::write(&last, whole).unwrap();
    assert_eq!(index.find(&Search::default(), &newest).unwrap().hits.len(), 300);
    let first = &bundles(world.folder.path())[0];
    replace(first, "user", "usor");
    let asked = search(&[("first", "0")]);
    let refused = index.find(&asked, &Paging { limit: 5, ..Paging::default() }).unwrap_err();
    assert!(refused.to_string().contains("entry 0 "), "{refused}");
}

#[test]
fn an_older_or_another_ledger_under_the_index_is_refused() {
    let world = World::new();
    filled(&world, 300);
    let older = fs::read(world.folder.path().join("ledger/checkpoint")).unwrap();
    filled(&world, 100);
    let mut index = world.index();
    fs::write(world.folder.path().join("ledger/checkpoint"), older).unwrap();
    let refused = index.step().unwrap_err().to_string();
    assert!(refused.contains("300") && refused.contains("400"), "{refused}");
    drop(index);
    let other = SigningKey::from_seed("index.test/ledger", [8; 32]).unwrap().verifier();
    let foreign =
        Index::open(world.file(), Shelf::new(world.folder.path().join("ledger"), other)).unwrap_err();
    assert!(
        matches!(foreign, ForensicsError::Foreign { .. }) && told(&foreign).contains("index rebuild"),
        "{foreign}"
    );
}

#[test]
fn a_damaged_index_says_so_and_how_it_is_made_anew() {
    let world = World::new();
    filled(&world, 3_000);
    drop(world.index());
    let whole = fs::read(world.file()).unwrap();
    let pages = whole.len() / 4096;
    let mut noticed = 0;
    for page in 0..pages {
        let mut damaged = whole.clone();
        damaged[page * 4096..(page + 1) * 4096].fill(0x5a);
        fs::write(world.file(), damaged).unwrap();
        let said = Index::open(world.file(), world.shelf()).and_then(|index| index.check());
        if let Err(error) = said {
            assert!(
                matches!(error, ForensicsError::Damaged { .. } | ForensicsError::Foreign { .. }),
                "{error}"
            );
            assert!(told(&error).contains("audit index rebuild"), "{error}");
            noticed += 1;
        }
    }
    // Pages that hold nothing may be anything.
    assert!(noticed * 10 >= pages * 9, "{noticed} of {pages}");
    fs::write(world.file(), "no database at all, but quite some text").unwrap();
    let said = told(&Index::open(world.file(), world.shelf()).unwrap_err());
    assert!(said.contains("damaged") && said.contains("audit index rebuild"), "{said}");
}

#[test]
fn an_index_that_is_open_is_not_removed() {
    let world = World::new();
    filled(&world, 10);
    let index = world.index();
    assert!(matches!(Index::remove(&world.file()), Err(ForensicsError::InUse(_))));
    drop(index);
    Index::remove(&world.file()).unwrap();
    assert!(!world.file().exists());
}
