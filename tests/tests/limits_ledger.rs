//! The limits of the ledger, reached through the gateway. The table of all limits is in `limits.rs`.

use std::{fs, time::Duration};

use portcullis_testkit::{HostileServer, Outcome};
use portcullis_tests::{
    book::Book,
    pair::{Pair, SOON, entries, verdict},
    strace::Tampered,
};
use serde_json::json;
use tokio::time::Instant;

const UNAVAILABLE: (u16, &str) = (503, "ledger.unavailable");

#[tokio::test]
async fn calls_are_refused_when_too_much_waits_for_a_checkpoint() -> Outcome {
    let pair = Pair::start(&[("ledger_bytes_max", 1_048_576)]).await?;
    let mut client = pair.modern()?;
    // A folder in the place of the checkpoint: no file can be moved there, whoever runs the test.
    let (checkpoint, aside) =
        (pair.gateway.data().join("ledger/checkpoint"), pair.gateway.folder().join("aside"));
    fs::rename(&checkpoint, &aside)?;
    fs::create_dir(&checkpoint)?;
    fs::write(checkpoint.join("in-the-way"), b"")?;
    let mut made = 0_usize;
    let refused = loop {
        let answer = client.call("echo", json!({"text": "x"})).await?;
        if answer.text() != "x" {
            break answer;
        }
        made += 1;
        assert!(made < 5_000, "nothing bounds what waits");
    };
    assert_eq!((refused.status().as_u16(), verdict(&refused).1.as_str()), UNAVAILABLE);
    assert!(made > 300, "1 MiB holds more than {made} calls");
    // One call may have been on its way out when the limit was reached.
    let forwarded = pair.server.count("tools/call");
    assert!((made..=made + 1).contains(&forwarded), "{made} answered, {forwarded} forwarded");
    assert_eq!(client.call("echo", json!({"text": "x"})).await?.status(), 503);
    assert_eq!(pair.server.count("tools/call"), forwarded, "forwarded without a record");
    fs::remove_dir_all(&checkpoint)?;
    fs::rename(&aside, &checkpoint)?;
    let due = Instant::now() + SOON;
    while client.call("echo", json!({"text": "x"})).await?.text() != "x" {
        assert!(Instant::now() < due, "it does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_checkpoint_does_not_wait_for_its_time_when_much_waits_for_it() -> Outcome {
    let extra = "ledger:\n  checkpoint_ms: 3600000\n";
    let pair = Pair::with(HostileServer::start().await?, extra, &[("ledger_bytes_max", 1_048_576)]).await?;
    let mut client = pair.modern()?;
    // Entries of 1,400 calls are more than a mebibyte; the next checkpoint by time is an hour away.
    for number in 0..1_400 {
        let answer = client.call("echo", json!({"text": "x"})).await?;
        assert_eq!(answer.text(), "x", "call {number}: {:?}", verdict(&answer));
    }
    let size: u64 = fs::read_to_string(pair.gateway.data().join("ledger/checkpoint"))?
        .lines()
        .nth(1)
        .ok_or("no size in the checkpoint")?
        .parse()?;
    assert!(size > 500, "a checkpoint of {size} entries");
    Ok(())
}

#[tokio::test]
async fn a_ledger_that_does_not_flush_in_time_refuses_the_call() -> Outcome {
    let pair = Pair::start(&[("ledger_timeout_ms", 300)]).await?;
    let mut client = pair.modern()?;
    assert_eq!(client.call("echo", json!({"text": "x"})).await?.text(), "x");
    let Some(slow) = Tampered::with(&pair.gateway, "fdatasync", "delay_enter=8000000").await? else {
        println!("not run: strace is not installed or may not trace");
        return Ok(());
    };
    let begun = Instant::now();
    let answer = client.call("echo", json!({"text": "x"})).await?;
    let took = begun.elapsed();
    assert_eq!((answer.status().as_u16(), verdict(&answer).1.as_str()), UNAVAILABLE);
    assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(7_900), "{took:?}");
    assert_eq!(pair.server.count("tools/call"), 1, "forwarded without a record");
    slow.end().await?;
    let due = Instant::now() + SOON;
    while client.call("echo", json!({"text": "x"})).await?.text() != "x" {
        assert!(Instant::now() < due, "it does not recover");
    }
    // The intent was being written when its caller was refused: it is durable now, and says what became of it.
    let mut book = Book::default();
    book.read(&pair.gateway).await?;
    while !book.open().is_empty() {
        assert!(Instant::now() < due, "intents without an outcome: {:?}", book.open());
        book.read(&pair.gateway).await?;
    }
    let late = entries(&pair.gateway, "event=call.outcome").await?;
    assert!(late.iter().any(|entry| entry["status"] == 503 && entry["intent"].is_u64()), "{late:?}");
    Ok(())
}
