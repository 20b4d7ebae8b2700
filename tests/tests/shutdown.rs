//! A gateway that is told to stop: what runs may finish, what hangs is cut off after the grace, everything is in the
//! ledger under the last checkpoint, and no child is left.

use std::time::{Duration, Instant};

use portcullis_testkit::{Era, Gateway, Hostile, HostileServer, McpClient, Outcome};
use portcullis_tests::book::{Book, verified};
use portcullis_tests::load::Load;
use portcullis_tests::pair::{SOON, limits_yaml, soon};
use portcullis_tests::process::{children, gone};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Time for running calls in these tests.
const GRACE: Duration = Duration::from_millis(1_500);

/// Longer than the grace by what an orderly end of children and ledger may take on a busy machine.
const SLACK: Duration = Duration::from_secs(15);

/// A gateway with a server that answers, one that hangs, and the sample server as a child.
struct World {
    gateway: Gateway,
    fast: HostileServer,
    hanging: HostileServer,
}

impl World {
    async fn start(grace: Duration) -> Outcome<Self> {
        let (fast, hanging) = (HostileServer::start().await?, HostileServer::start().await?);
        let child = env!("CARGO_BIN_EXE_scripted-child");
        let grace_ms = u64::try_from(grace.as_millis())?;
        let limits = [
            ("shutdown_grace_ms", grace_ms),
            ("child_grace_ms", 300),
            ("caller_rate_per_s", 1_000_000),
            ("caller_burst_max", 1_000_000),
            ("source_rate_per_s", 1_000_000),
            ("source_burst_max", 1_000_000),
        ];
        let yaml = format!(
            "servers:\n  fast:\n    url: {}\n  hanging:\n    url: {}\n  child:\n    command: [{child}]\n  deaf:\n    command: [{child}, --linger]\n{}",
            fast.url(),
            hanging.url(),
            limits_yaml(&limits)
        );
        let gateway = Gateway::start(&yaml).await?;
        let listed = |server: &HostileServer| server.count("resources/templates/list") > 0;
        fast.wait_until(SOON, listed).await?;
        hanging.wait_until(SOON, listed).await?;
        hanging.on("tools/call", Hostile::HangBeforeHeaders);
        Ok(Self { gateway, fast, hanging })
    }

    /// Calls that never get an answer: of both revisions to a hanging server, and to a child.
    async fn hang(&self) -> Outcome<Vec<JoinHandle<Outcome<u16>>>> {
        let mut hanging = Vec::new();
        for (server, tool, era) in [
            ("hanging", "echo", Era::Modern),
            ("hanging", "echo", Era::Legacy),
            ("child", "hang", Era::Modern),
            ("child", "hang", Era::Legacy),
        ] {
            let url = self.gateway.url(server);
            let mut client = McpClient::connect(&url, Some(self.gateway.key()?), era).await?;
            // A body of its own each.
            let text = format!("{server} {era:?}");
            hanging.push(tokio::spawn(async move {
                Ok(client.call(tool, json!({"text": text})).await?.status().as_u16())
            }));
        }
        self.hanging.wait_until(SOON, |server| server.count("tools/call") == 2).await?;
        self.recorded("call.intent", "hang", 2).await?;
        Ok(hanging)
    }

    /// Waits until so many entries of an event on this tool are there.
    async fn recorded(&self, event: &str, tool: &str, count: usize) -> Outcome {
        let due = Instant::now() + SOON;
        loop {
            let path = format!("/v1/ledger/entries?limit=1000&event={event}&tool={tool}");
            let list: Value = serde_json::from_slice(&self.gateway.admin_get(&path).await?.body)?;
            let entries = list.get("entries").and_then(Value::as_array).map_or(0, Vec::len);
            if entries >= count {
                return Ok(());
            }
            assert!(Instant::now() < due, "{entries} of {count} {event} {tool}");
        }
    }

    fn signal(&self, signal: Signal) -> Outcome {
        let pid = i32::try_from(self.gateway.pid().ok_or("no process")?)?;
        Ok(kill_process(Pid::from_raw(pid).ok_or("no pid")?, signal)?)
    }

    /// Waits for the end, which must be in order; returns how long it took.
    async fn ended(&mut self, since: Instant) -> Outcome<Duration> {
        let code = self.gateway.wait().await?.code();
        let took = since.elapsed();
        assert_eq!(code, Some(0), "{}", self.gateway.output());
        Ok(took)
    }

    /// Everything is under the last checkpoint, and the last entry says that the gateway stopped; read by a
    /// gateway that is started again.
    async fn book(&mut self) -> Outcome<Book> {
        let (size, pending) = verified(&self.gateway)?;
        assert_eq!(pending, 0, "the last checkpoint covers everything");
        self.gateway.start_again().await?;
        let path = format!("/v1/ledger/entries?from={}&limit=1", size - 1);
        let list: Value = serde_json::from_slice(&self.gateway.admin_get(&path).await?.body)?;
        let last = list.pointer("/entries/0/entry/event").and_then(Value::as_str);
        assert_eq!(last, Some("gateway.stopped"), "{list}");
        let mut book = Book::default();
        book.read(&self.gateway).await?;
        assert_eq!(book.count("ledger.recovered"), 0, "there was nothing to recover");
        assert_eq!(book.count("gateway.stopped"), 1);
        Ok(book)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_lets_calls_finish_cuts_what_hangs_and_leaves_nothing_open() -> Outcome {
    let mut world = World::start(GRACE).await?;
    let hanging = world.hang().await?;
    let load = Load::start(world.gateway.address(), world.gateway.key()?, &["fast"], 16, "stop");
    soon("calls pass", || load.answered() > 50).await?;
    let pid = world.gateway.pid().ok_or("no process")?;
    let (born, dead) = children(pid);
    assert!(born.len() >= 2 && dead.is_empty(), "{born:?} {dead:?}");
    let asked = Instant::now();
    world.signal(Signal::TERM)?;
    let journal = load.broken().await;
    // The answer of a running call still comes: no connection breaks in the middle of one.
    let cut: Vec<_> = journal.iter().filter(|call| call.status.is_some() && call.output.is_none()).collect();
    assert!(cut.is_empty(), "{cut:?}");
    let took = world.ended(asked).await?;
    assert!(took >= GRACE && took < GRACE + SLACK, "{took:?}");
    for child in born {
        soon("no child is left", || gone(child)).await?;
    }
    for call in hanging {
        let ended = call.await?;
        assert!(ended.as_ref().map_or(true, |status| *status >= 500), "{ended:?}");
    }
    let book = world.book().await?;
    assert!(book.holds(&journal)? > 50);
    let received = world.fast.received().into_iter().chain(world.hanging.received());
    let called = received.filter(|request| request.method == "tools/call");
    assert!(book.holds_forwarded(called.map(|request| request.body))? > 50);
    assert_eq!(book.open(), Vec::<u64>::new(), "every call has an outcome, those that were cut off as well");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_grace_but_not_the_order() -> Outcome {
    let mut world = World::start(Duration::from_secs(60)).await?;
    let hanging = world.hang().await?;
    let asked = Instant::now();
    world.signal(Signal::TERM)?;
    soon("the first signal is taken", || world.gateway.output().contains("stopping; ")).await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(world.gateway.running(), "calls run, so it waits");
    world.signal(Signal::TERM)?;
    let took = world.ended(asked).await?;
    assert!(took < SLACK, "{took:?}");
    drop(hanging);
    let book = world.book().await?;
    assert_eq!(book.open(), Vec::<u64>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_stops_an_idle_gateway_at_once_and_in_order() -> Outcome {
    let mut world = World::start(Duration::from_secs(60)).await?;
    let (born, _) = children(world.gateway.pid().ok_or("no process")?);
    let asked = Instant::now();
    world.signal(Signal::INT)?;
    let took = world.ended(asked).await?;
    assert!(took < SLACK, "{took:?}");
    for child in born {
        soon("no child is left", || gone(child)).await?;
    }
    world.book().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_alive_connections_without_a_call_do_not_use_up_the_grace() -> Outcome {
    let mut world = World::start(Duration::from_secs(60)).await?;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(tokio::net::TcpStream::connect(world.gateway.address()).await?);
        idle.push(tokio::net::TcpStream::connect(world.gateway.admin_address()).await?);
    }
    let asked = Instant::now();
    world.signal(Signal::TERM)?;
    let took = world.ended(asked).await?;
    assert!(took < SLACK, "{took:?}");
    world.book().await?;
    Ok(())
}
