//! Children that behave, crash, flood, hang and multiply.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use portcullis_core::Limits;
use portcullis_net::stdio::{
    Child, ChildOptions, Command, Environment, Exit, SendError, SpawnError, Violation,
};
use tokio::sync::mpsc::Receiver;

use crate::support::{SOON, eventually, took};

pub(crate) fn options() -> ChildOptions {
    let vars = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/nonexistent"), ("SECRET", "hidden")];
    let base = Environment::minimal(vars.map(|(name, value)| (name.into(), value.into())));
    let mut options = ChildOptions::new("demo".into(), &Limits::default(), base);
    options.grace = Duration::from_millis(200);
    options
}

pub(crate) fn sh(script: &str) -> Command {
    Command {
        program: "/bin/sh".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: BTreeMap::new(),
        cwd: None,
    }
}

pub(crate) fn alive(pid: u32) -> bool {
    // A zombie still has an entry, and counts as present here: nobody may leave one.
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Like [`alive`] for processes that are not ours to wait for: when the host's first process takes its time to collect
/// an orphan, the orphan is dead all the same.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn ended(child: &Child) -> Exit {
    let mut exit = child.exited();
    let ended = tokio::time::timeout(SOON, exit.wait_for(Option::is_some)).await;
    ended.expect("it ends").unwrap().unwrap()
}

async fn next(lines: &mut Receiver<Bytes>) -> String {
    let line = tokio::time::timeout(SOON, lines.recv()).await.expect("a line in time");
    String::from_utf8(line.expect("a line").to_vec()).unwrap()
}

#[tokio::test]
async fn lines_go_in_and_come_out() {
    let (child, mut lines) = Child::spawn(&sh("cat"), &options()).unwrap();
    for line in ["{}", "two words", "ü€𝄞"] {
        child.send_line(Bytes::from(line)).await.unwrap();
        assert_eq!(next(&mut lines).await, line);
    }
    let exit = child.shutdown().await.unwrap();
    assert!(exit.status.success() && exit.violation.is_none(), "{exit}");
    assert_eq!(lines.recv().await, None);
    assert!(!alive(child.pid()));
    assert_eq!(child.send_line(Bytes::from("late")).await, Err(SendError::Closed));
}

#[tokio::test]
async fn ten_thousand_lines_and_large_ones_keep_their_order() {
    let (child, mut lines) = Child::spawn(&sh("cat"), &options()).unwrap();
    let child = Arc::new(child);
    let sender = Arc::clone(&child);
    let text =
        |n: usize| format!("{n}{}", "x".repeat(if n.is_multiple_of(1_000) { 300_000 } else { n % 100 }));
    tokio::spawn(async move {
        for n in 0..10_000 {
            sender.send_line(Bytes::from(text(n))).await.unwrap();
        }
    });
    for n in 0..10_000 {
        assert_eq!(next(&mut lines).await, text(n));
    }
}

#[tokio::test]
async fn what_was_accepted_before_the_end_is_still_written() {
    let (child, mut lines) = Child::spawn(&sh("sleep 0.1; cat"), &options()).unwrap();
    for n in 0..50 {
        child.send_line(Bytes::from(n.to_string())).await.unwrap();
    }
    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(line) = lines.recv().await {
            seen.push(String::from_utf8(line.to_vec()).unwrap());
        }
        seen
    });
    assert!(child.shutdown().await.unwrap().status.success());
    assert_eq!(reader.await.unwrap(), (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn line_ends_empty_lines_and_broken_off_lines_are_no_messages() {
    let (_child, mut lines) = Child::spawn(&sh(r"printf 'a\r\n\n\r\nb\nbroken off'"), &options()).unwrap();
    assert_eq!(next(&mut lines).await, "a");
    assert_eq!(next(&mut lines).await, "b");
    assert_eq!(lines.recv().await, None);
}

#[tokio::test]
async fn a_line_cannot_be_two_messages_nor_exceed_the_limit() {
    let mut options = options();
    options.line_bytes_max = 10;
    let (child, _lines) = Child::spawn(&sh("cat"), &options).unwrap();
    assert_eq!(child.send_line(Bytes::from("a\nb")).await, Err(SendError::LineBreak));
    assert_eq!(child.send_line(Bytes::from("a\rb")).await, Err(SendError::LineBreak));
    assert_eq!(child.send_line(Bytes::from("01234567890")).await, Err(SendError::TooLong));
    assert_eq!(child.send_line(Bytes::from("0123456789")).await, Ok(()));
}

#[tokio::test]
async fn the_environment_holds_what_was_configured_and_nothing_of_ours() {
    let mut command = sh("env | sort; pwd");
    command.env.insert("TOKEN".to_owned(), "$HOME `id`".to_owned());
    command.cwd = Some("/".into());
    assert!(!format!("{command:?}").contains("`id`"));
    let (_child, mut lines) = Child::spawn(&command, &options()).unwrap();
    let mut seen = Vec::new();
    while let Some(line) = lines.recv().await {
        seen.push(String::from_utf8(line.to_vec()).unwrap());
    }
    // The shell itself adds these two.
    seen.retain(|line| !line.starts_with("PWD=") && !line.starts_with("_="));
    assert_eq!(seen, ["HOME=/nonexistent", "PATH=/usr/local/bin:/usr/bin:/bin", "TOKEN=$HOME `id`", "/"]);
}

#[tokio::test]
async fn arguments_reach_the_program_without_a_shell() {
    let tricky = ["$(id)", "a b", "; rm -rf /tmp/x", "*"];
    let command = Command {
        program: "printf".to_owned(),
        args: std::iter::once("%s\\n").chain(tricky).map(str::to_owned).collect(),
        env: BTreeMap::new(),
        cwd: None,
    };
    let (_child, mut lines) = Child::spawn(&command, &options()).unwrap();
    for expected in tricky {
        assert_eq!(next(&mut lines).await, expected);
    }
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_an_error() {
    let mut command = sh("");
    command.program = "/no/such/program".to_owned();
    let error = Child::spawn(&command, &options()).unwrap_err();
    assert!(
        matches!(error, SpawnError::Os { .. })
            && error.to_string().starts_with("cannot start `/no/such/program`")
    );
}

#[tokio::test]
async fn a_child_that_ignores_everything_is_killed_after_two_graces() {
    let script = "trap '' TERM HUP INT; echo ready; while :; do sleep 0.05; done";
    let (child, mut lines) = Child::spawn(&sh(script), &options()).unwrap();
    assert_eq!(next(&mut lines).await, "ready");
    let began = Instant::now();
    let exit = child.shutdown().await.unwrap();
    assert!(took(began, Duration::from_millis(400)), "{:?}", began.elapsed());
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&exit.status), Some(9));
    eventually("gone", || !alive(child.pid())).await;
}

#[tokio::test]
async fn a_child_that_heeds_sigterm_is_asked_first() {
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done";
    let (child, mut lines) = Child::spawn(&sh(script), &options()).unwrap();
    assert_eq!(next(&mut lines).await, "ready");
    assert_eq!(child.shutdown().await.unwrap().status.code(), Some(7));
}

#[tokio::test]
async fn grandchildren_go_with_the_child_however_it_ends() {
    for end in [
        "exit 3",
        "kill -9 $$",
        "cat; exit 0",
        "trap '' TERM; while :; do sleep 0.05; done",
        "exec sleep 1000",
    ] {
        let (child, mut lines) =
            Child::spawn(&sh(&format!("sleep 1000 & echo $!; {end}")), &options()).unwrap();
        let grandchild: u32 = next(&mut lines).await.parse().unwrap();
        let pid = child.pid();
        if end == "exec sleep 1000" {
            drop(child);
        } else {
            child.shutdown().await.unwrap();
        }
        eventually("grandchild gone", || !runs(grandchild)).await;
        eventually("child gone", || !alive(pid)).await;
        // The pipe that the grandchild inherited does not keep us waiting either.
        let end = tokio::time::timeout(SOON, async { while lines.recv().await.is_some() {} }).await;
        assert!(end.is_ok());
    }
}

#[tokio::test]
async fn a_process_that_left_the_group_cannot_keep_the_pipe_open_for_us() {
    let (child, mut lines) = Child::spawn(&sh("setsid sleep 90 & sleep 0.1; exit 0"), &options()).unwrap();
    ended(&child).await;
    let end = tokio::time::timeout(SOON, lines.recv()).await;
    assert_eq!(end.expect("the lines end"), None);
}

#[tokio::test]
async fn a_giant_line_kills_the_child_and_holds_no_memory() {
    let mut options = options();
    options.line_bytes_max = 100_000;
    for script in ["head -c 300000000 /dev/zero", "head -c 100001 /dev/zero; echo; sleep 1000"] {
        let (child, mut lines) = Child::spawn(&sh(script), &options).unwrap();
        let exit = ended(&child).await;
        assert_eq!(exit.violation, Some(Violation::LineTooLong));
        assert_eq!(lines.recv().await, None);
    }
    let (_child, mut lines) = Child::spawn(&sh("head -c 100000 /dev/zero; echo"), &options).unwrap();
    assert_eq!(next(&mut lines).await.len(), 100_000);
}

#[tokio::test]
async fn a_child_without_standard_output_is_ended() {
    let (child, mut lines) = Child::spawn(&sh("exec >&-; exec sleep 1000"), &options()).unwrap();
    assert_eq!(lines.recv().await, None);
    assert_eq!(ended(&child).await.violation, Some(Violation::StdoutClosed));
}

#[tokio::test]
async fn a_child_that_does_not_read_holds_the_sender_and_not_our_memory() {
    let (child, _lines) = Child::spawn(&sh("exec sleep 1000"), &options()).unwrap();
    let line = Bytes::from(vec![b'x'; 1_000_000]);
    let mut accepted = 0;
    while tokio::time::timeout(Duration::from_millis(200), child.send_line(line.clone())).await.is_ok() {
        accepted += 1;
        assert!(accepted < 5, "nothing holds the sender back");
    }
    let began = Instant::now();
    child.shutdown().await.unwrap();
    assert!(began.elapsed() < SOON);
}

#[tokio::test]
async fn output_that_nobody_takes_holds_the_child_back() {
    let (child, lines) =
        Child::spawn(&sh("exec yes 0123456789012345678901234567890123456789"), &options()).unwrap();
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap();
        let fields: Vec<u64> =
            stat.rsplit(')').next().unwrap().split(' ').filter_map(|f| f.parse().ok()).collect();
        fields[10] + fields[11]
    };
    // It fills what there is to fill, for as long as that takes, and then stands still.
    let due = Instant::now() + SOON;
    loop {
        let before = ticks();
        tokio::time::sleep(Duration::from_millis(500)).await;
        if ticks() - before <= 1 {
            break;
        }
        assert!(Instant::now() < due, "the child runs on");
    }
    let pid = child.pid();
    drop(lines);
    drop(child);
    eventually("gone", || !alive(pid)).await;
}

/// Collects what is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn start(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }
}

#[tokio::test]
async fn standard_error_is_logged_with_the_server_escaped_and_filtered() {
    let log = Log::default();
    let _guard = log.start();
    let mut options = options();
    options.stderr_filter = Some(Arc::new(|line| line.replace("hunter2", "****")));
    let script = r#"printf 'password hunter2\n\033[31mred\033[0m\r\nforged \342\200\256 \377\nno end' >&2; head -c 9000 /dev/zero | tr '\0' y >&2"#;
    let (child, _lines) = Child::spawn(&sh(script), &options).unwrap();
    ended(&child).await;
    eventually("logged", || log.text().contains("yyyy")).await;
    let text = log.text();
    let lines: Vec<&str> =
        text.lines().filter(|line| line.contains(" child: ") && line.contains("server=demo")).collect();
    assert!(text.contains("password ****") && !text.contains("hunter2"), "{text}");
    assert!(text.contains(r"\u{1b}[31mred\u{1b}[0m"), "{text}");
    assert!(text.contains("forged \\u{202e} \u{fffd}"), "{text}");
    assert!(text.contains("no end") && lines.iter().all(|line| line.len() < 2_300), "{text}");
    assert!(lines.len() >= 4, "{text}");
}

#[tokio::test]
async fn a_flood_of_standard_error_is_counted_and_neither_logged_nor_in_the_way() {
    let log = Log::default();
    let _guard = log.start();
    let mut options = options();
    options.stderr_bytes_per_s = 1_000;
    let script = "yes flood flood flood flood | head -c 3000000 >&2; echo done; cat";
    let began = Instant::now();
    let (child, mut lines) = Child::spawn(&sh(script), &options).unwrap();
    assert_eq!(next(&mut lines).await, "done");
    child.send_line(Bytes::from("still here")).await.unwrap();
    assert_eq!(next(&mut lines).await, "still here");
    child.shutdown().await.unwrap();
    eventually("counted", || log.text().contains("exceeds its limit")).await;
    let text = log.text();
    let logged: usize = text.lines().filter(|line| line.contains("flood")).count() * 23;
    let most = 1_000 * (2 + usize::try_from(began.elapsed().as_secs()).unwrap());
    assert!((500..most).contains(&logged), "{logged} of {most}");
}
