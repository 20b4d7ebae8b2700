//! Clients that vanish at random instants of their calls: the gateway goes on, and every call that got as far as an
//! intent has exactly one outcome. `VANISH_SEED` repeats a run's choices.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use portcullis_testkit::{Era, HostileServer, McpClient, Outcome, RawConnection};
use portcullis_tests::book::{Book, verified};
use portcullis_tests::chance::Chance;
use portcullis_tests::pair::{Pair, SOON};
use serde_json::json;
use tokio::task::JoinSet;

/// Rates are no matter here.
const LIMITS: &[(&str, u64)] = &[
    ("caller_rate_per_s", 1_000_000),
    ("caller_burst_max", 1_000_000),
    ("source_rate_per_s", 1_000_000),
    ("source_burst_max", 1_000_000),
];

/// Calls of each revision.
const CALLS: usize = 400;

/// Calls at once.
const AT_ONCE: usize = 16;

/// One client sends a call and resets its connection after `wait`.
async fn vanish(address: SocketAddr, mut client: McpClient, text: String, wait: Duration) -> Outcome {
    let (_, message) = client.message("tools/call", json!({"name": "echo", "arguments": {"text": text}}));
    let body = message.to_string();
    let mut request =
        format!("POST /mcp/s HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in client.headers(&message) {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("\r\n{body}"));
    let mut connection = RawConnection::open(address).await?;
    connection.write(request.as_bytes()).await?;
    let _answer = connection.read_until(wait, |bytes| bytes.ends_with(b"}")).await;
    connection.reset()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_vanish_at_random_instants_leave_every_call_with_one_outcome() -> Outcome {
    let mut chance = Chance::named("VANISH_SEED");
    let pair = Pair::with(HostileServer::start().await?, "", LIMITS).await?;
    for era in [Era::Modern, Era::Legacy] {
        let client = pair.client(era).await?;
        let mut running = JoinSet::new();
        for number in 0..CALLS {
            let (wait, text) = (Duration::from_micros(chance.below(15_000)), format!("{era:?} {number}"));
            running.spawn(vanish(pair.gateway.address(), client.clone(), text, wait));
            if running.len() == AT_ONCE {
                running.join_next().await.ok_or("nothing runs")???;
            }
        }
        running.join_all().await.into_iter().collect::<Outcome<Vec<_>>>()?;
    }
    // What a client left behind is settled without it, soon.
    let due = Instant::now() + SOON;
    let mut book = Book::default();
    book.read(&pair.gateway).await?;
    while !book.open().is_empty() {
        assert!(Instant::now() < due, "{} of {} calls have no outcome", book.open().len(), book.intents());
        tokio::time::sleep(Duration::from_millis(20)).await;
        book.read(&pair.gateway).await?;
    }
    let received = pair.server.received().into_iter().filter(|request| request.method == "tools/call");
    let forwarded = book.holds_forwarded(received.map(|request| request.body))?;
    println!("{} intents, {forwarded} forwarded, {} cancelled", book.intents(), book.cancelled);
    assert!(book.intents() > CALLS / 2 && book.cancelled > 0, "instants on both sides of an answer");
    verified(&pair.gateway)?;
    Ok(())
}
