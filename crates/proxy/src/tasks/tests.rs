//! Ids of tasks: whose they are, what they become on the way, and how many are remembered.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use portcullis_core::Timestamp;
use portcullis_mcp::jsonrpc::Message;

use portcullis_seal::Ring;

use super::*;

#[derive(Debug, Default)]
struct World(AtomicU64);

impl Clock for World {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
    fn ticks_us(&self) -> u64 {
        self.0.load(Ordering::Relaxed) * 1000
    }
}

impl Entropy for World {
    fn fill(&self, out: &mut [u8]) {
        out.fill(7);
    }
}

fn tasks(world: &Arc<World>) -> Tasks {
    let (clock, entropy) = (Arc::clone(world), Arc::clone(world));
    Tasks::new(Sealer::new(Ring::fixed(b"secret")), clock, entropy)
}

fn masks() -> Obligations {
    Obligations { answers: [("email".to_owned(), Treatment::Refuse)].into(), ..Obligations::default() }
}

fn message(text: &str) -> Message {
    reparsed(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

#[test]
fn a_task_opens_for_its_caller_on_its_server_until_it_ends_and_keeps_what_its_permit_demanded() {
    let world = Arc::new(World::default());
    let limits = Limits { task_total_ms: 60_000, ..Limits::default() };
    let first = tasks(&world);
    let task = first.begin(("a", "s"), ("slow", "job-1"), &masks(), &limits).unwrap();
    assert_eq!(first.begin(("a", "s"), ("slow", "job-1"), &masks(), &limits).unwrap(), task);
    // Another gateway of the same data directory, or the same after a restart.
    let second = tasks(&world);
    assert_eq!(second.open("a", "s", &task.sealed, &limits).as_ref(), Some(&task));
    for (caller, server, id) in [
        ("b", "s", &*task.sealed),
        ("a", "t", &task.sealed),
        ("a", "s", "job-1"),
        ("a", "s", "pct_"),
        ("a", "s", "pct_AAAA"),
    ] {
        assert_eq!(second.open(caller, server, id, &limits), None, "{caller} {server} {id}");
    }
    world.0.store(60_001, Ordering::Relaxed);
    assert_eq!(second.open("a", "s", &task.sealed, &limits), None, "an id outlived its time");
    assert_eq!(second.known("a", "s", "job-1"), None);
}

#[test]
fn so_many_tasks_are_remembered_for_a_caller_and_for_all_and_the_others_still_open() {
    let world = Arc::new(World::default());
    let limits = Limits { caller_tasks_max: 2, tasks_max: 3, ..Limits::default() };
    let tasks = tasks(&world);
    let begin = |caller: &str, own: &str| {
        tasks.begin((caller, "s"), ("slow", own), &Obligations::default(), &limits).unwrap()
    };
    let first = begin("a", "1");
    begin("a", "2");
    begin("a", "3");
    let known = |caller: &str, own: &str| tasks.known(caller, "s", own).is_some();
    assert_eq!([known("a", "1"), known("a", "2"), known("a", "3")], [false, true, true]);
    begin("b", "4");
    begin("c", "5");
    assert_eq!([known("a", "3"), known("b", "4"), known("c", "5")], [true, true, false]);
    // Who is full makes room with its own alone.
    assert!(tasks.open("a", "s", &first.sealed, &limits).is_some());
    assert_eq!([known("a", "1"), known("a", "2"), known("b", "4")], [true, false, true]);
}

/// What becomes of a message of a server for caller `a`, who holds task `job-1`, in a call of that method.
fn told(method: &str, tool: Option<&str>, text: &str) -> Result<Option<String>, Code> {
    let world = Arc::new(World::default());
    let (tasks, limits, none) = (tasks(&world), Limits::default(), Obligations::default());
    let named = [tasks.begin(("a", "s"), ("slow", "job-1"), &none, &limits).unwrap()];
    tasks.begin(("b", "s"), ("slow", "job-2"), &none, &limits).unwrap();
    let context = Context {
        tasks: &tasks,
        caller: "a",
        server: "s",
        method,
        tool,
        obligations: &none,
        named: if method.starts_with("tasks/") && method != "tasks/list" { &named } else { &[] },
        limits: &limits,
    };
    let out = outward(&context, message(text)).map_err(|refusal| refusal.code)?;
    let out = out.map(|message| String::from_utf8(message.bytes().to_vec()).unwrap());
    Ok(out.map(|text| text.replace(&*named[0].sealed, "MINE")))
}

#[test]
fn a_message_about_a_task_reaches_only_whose_task_it_is_and_under_the_id_it_knows() {
    let related = r#""_meta":{"io.modelcontextprotocol/related-task":{"taskId":"job-1"}}"#;
    for (method, tool, text, expected) in [
        ("tasks/get", None, r#"{"jsonrpc":"2.0","id":1,"result":{"taskId":"job-1","n":1.0}}"#.to_owned(),
         Ok(Some(r#"{"jsonrpc":"2.0","id":1,"result":{"taskId":"MINE","n":1.0}}"#.to_owned()))),
        ("tasks/get", None, r#"{"jsonrpc":"2.0","id":1,"result":{"taskId":"job-2"}}"#.into(),
         Err(Code::AnswerInvalid)),
        ("tasks/get", None, r#"{"jsonrpc":"2.0","id":1,"result":{"task\u0049d":"job-2"}}"#.into(),
         Err(Code::AnswerInvalid)),
        ("tasks/result", None, format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[],{related}}}}}"#),
         Ok(Some(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[],{related}}}}}"#).replace("job-1", "MINE")))),
        ("tasks/result", None, format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[],{related}}}}}"#).replace("job-1", "job-2"),
         Err(Code::AnswerInvalid)),
        ("tasks/list", None, r#"{"jsonrpc":"2.0","id":1,"result":{"tasks":[{"taskId":"job-2"},{"taskId":"job-1"},{"taskId":"x"}]}}"#.into(),
         Ok(Some(r#"{"jsonrpc":"2.0","id":1,"result":{"tasks":[{"taskId":"MINE"}]}}"#.into()))),
        ("tools/call", Some("slow"), r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","taskId":"job-1"}}"#.into(),
         Ok(Some(r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","taskId":"MINE"}}"#.into()))),
        ("tools/call", Some("slow"), r#"{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"job-1"}}}"#.into(),
         Ok(Some(r#"{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"MINE"}}}"#.into()))),
        ("tools/call", Some("slow"), r#"{"jsonrpc":"2.0","id":1,"result":{"structuredContent":{"taskId":"job-2"}}}"#.into(),
         Ok(Some(r#"{"jsonrpc":"2.0","id":1,"result":{"structuredContent":{"taskId":"job-2"}}}"#.into()))),
        ("prompts/get", None, r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","taskId":"job-1"}}"#.into(),
         Err(Code::AnswerInvalid)),
        ("", None, r#"{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"job-2"}}"#.into(),
         Ok(None)),
        ("", None, r#"{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"job-1"}}"#.into(),
         Ok(Some(r#"{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"MINE"}}"#.into()))),
        ("", None, r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{"taskIds":["job-2","job-1"]}}}"#.into(),
         Ok(Some(r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{"taskIds":["MINE"]}}}"#.into()))),
    ] {
        assert_eq!(told(method, tool, &text), expected, "{method}: {text}");
    }
}
