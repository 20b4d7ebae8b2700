//! Couriers with a real ledger and a real store, and a receiver whose mood is set.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use portcullis_core::{Limits, Timestamp};
use portcullis_net::{guard::EgressPolicy, tls::ClientTls};
use portcullis_proof::SigningKey;
use portcullis_store::{FileLedger, FileLedgerOptions, Sqlite};
use tokio::time::sleep;

use super::*;
use crate::{Failure, Fields, Filter, Format, Message, Reach};

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(1_763_936_655_001)
    }

    fn ticks_us(&self) -> u64 {
        0
    }
}

/// A receiver whose mood can be set.
#[derive(Debug, Default)]
struct Receiver {
    got: Mutex<Vec<u64>>,
    away: AtomicBool,
    refuses: Mutex<Vec<u64>>,
    /// What it takes without an answer is lost when the connection breaks.
    settles: Duration,
    broken: AtomicBool,
}

#[derive(Debug)]
struct To(Arc<Receiver>);

#[async_trait]
impl Sink for To {
    async fn deliver(&mut self, messages: &[Message]) -> Result<(), Failure> {
        if self.0.away.load(Ordering::SeqCst) {
            return Err(Failure::Away("away".into()));
        }
        let refuses = self.0.refuses.lock().unwrap().clone();
        if messages.iter().any(|message| refuses.contains(&message.index)) {
            return Err(Failure::Refused("not this one".into()));
        }
        self.0.got.lock().unwrap().extend(messages.iter().map(|message| message.index));
        Ok(())
    }

    fn settles(&self) -> Duration {
        self.0.settles
    }

    async fn alive(&mut self) -> Result<(), Failure> {
        match self.0.broken.swap(false, Ordering::SeqCst) {
            true => Err(Failure::Away("broken".into())),
            false => Ok(()),
        }
    }
}

struct Bench {
    parts: Parts,
    settings: Settings,
    _folder: tempfile::TempDir,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(folder.path().join("db")).unwrap());
    let key = SigningKey::from_seed("gateway.example", [7; 32]).unwrap();
    let options = FileLedgerOptions::new(folder.path().join("ledger"), key, Limits::default(), store.clone());
    let (ledger, _) = FileLedger::open(options).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(Still);
    let parts = Parts {
        ledger: Arc::new(ledger),
        places: store,
        log: Arc::from("gateway.example"),
        clock: Arc::clone(&clock),
        key: Secret::new(vec![1; 32]),
        counts: Counts::default(),
    };
    let settings = Settings {
        name: "siem".into(),
        kind: "file".into(),
        url: None,
        path: None,
        token: None,
        format: Format::named("json").unwrap(),
        filter: Filter::default(),
        fields: Fields::default(),
        index: None,
        acknowledged: false,
        file_bytes_max: 1 << 20,
        files_kept: 2,
        from_start: false,
        reach: Reach {
            egress: EgressPolicy::default(),
            tls: ClientTls::default(),
            timeout: Duration::from_secs(5),
        },
        clock,
        signature: String::new(),
    };
    Bench { parts, settings, _folder: folder }
}

impl Bench {
    async fn write(&self, count: u64) {
        for number in 0..count {
            let entry = format!(r#"{{"event":"call.intent","number":{number}}}"#);
            self.parts.ledger.append(entry.into_bytes()).await.unwrap();
        }
    }

    fn start(&self, receiver: &Arc<Receiver>) -> Couriers {
        let couriers = Couriers::new(self.parts.clone());
        let one = couriers.start(self.settings.clone(), Box::new(To(Arc::clone(receiver))));
        couriers.running().insert("siem".into(), one);
        couriers
    }
}

async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if done() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} never happened");
}

fn got(receiver: &Receiver) -> Vec<u64> {
    receiver.got.lock().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sink_begins_at_the_next_entry_or_where_it_is_told_at_the_first() {
    let mut bench = bench();
    bench.write(3).await;
    let receiver = Arc::new(Receiver::default());
    let couriers = bench.start(&receiver);
    until("the place", || couriers.states()[0].next == 3).await;
    bench.write(2).await;
    until("delivery", || got(&receiver) == [3, 4]).await;
    couriers.close(Duration::from_secs(5)).await;
    (bench.settings.name, bench.settings.from_start) = ("other".into(), true);
    let couriers = bench.start(&receiver);
    until("delivery", || got(&receiver) == [3, 4, 0, 1, 2, 3, 4]).await;
    couriers.close(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_away_gets_everything_when_it_is_back_also_after_a_restart() {
    let bench = bench();
    let receiver = Arc::new(Receiver::default());
    let couriers = bench.start(&receiver);
    until("the place", || couriers.states()[0].next == 0).await;
    bench.write(1).await;
    until("delivery", || got(&receiver) == [0]).await;
    receiver.away.store(true, Ordering::SeqCst);
    bench.write(600).await;
    until("failure", || couriers.states()[0].error.is_some()).await;
    assert!(couriers.states()[0].lag >= 600);
    couriers.close(Duration::from_millis(200)).await;
    receiver.away.store(false, Ordering::SeqCst);
    let couriers = bench.start(&receiver);
    until("delivery", || got(&receiver).len() >= 601).await;
    assert_eq!(got(&receiver), (0..601).collect::<Vec<_>>());
    until("recovery", || couriers.states()[0].error.is_none()).await;
    couriers.close(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_refused_while_others_are_taken_is_passed_over_and_put_on_record() {
    let bench = bench();
    let receiver = Arc::new(Receiver::default());
    receiver.refuses.lock().unwrap().push(1);
    receiver.away.store(true, Ordering::SeqCst);
    let couriers = bench.start(&receiver);
    until("the place", || couriers.states()[0].next == 0).await;
    bench.write(4).await;
    receiver.away.store(false, Ordering::SeqCst);
    until("the record", || bench.parts.ledger.status().durable == 5).await;
    let last = bench.parts.ledger.read(4, 1).await.unwrap().remove(0).value().unwrap();
    assert_eq!(last["event"], "sink.skipped");
    assert_eq!(last["data"]["index"], 1);
    until("delivery", || got(&receiver) == [0, 2, 3, 4]).await;
    assert_eq!(couriers.states()[0].skipped, 1);
    couriers.close(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_refuses_everything_is_one_that_cannot_be_used_and_nothing_is_passed_over() {
    let bench = bench();
    let receiver = Arc::new(Receiver::default());
    *receiver.refuses.lock().unwrap() = vec![0, 1, 2];
    let couriers = bench.start(&receiver);
    until("the place", || couriers.states()[0].next == 0).await;
    bench.write(3).await;
    until("failure", || couriers.states()[0].error.is_some()).await;
    sleep(Duration::from_millis(700)).await;
    assert_eq!((couriers.states()[0].skipped, couriers.states()[0].next), (0, 0));
    receiver.refuses.lock().unwrap().clear();
    until("delivery", || got(&receiver) == [0, 1, 2]).await;
    couriers.close(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_shortly_before_a_connection_without_answers_broke_is_sent_again() {
    let bench = bench();
    let receiver = Arc::new(Receiver { settles: Duration::from_secs(3), ..Receiver::default() });
    let couriers = bench.start(&receiver);
    until("the place", || couriers.states()[0].next == 0).await;
    bench.write(2).await;
    until("delivery", || got(&receiver) == [0, 1]).await;
    receiver.broken.store(true, Ordering::SeqCst);
    until("delivery again", || got(&receiver) == [0, 1, 0, 1]).await;
    couriers.close(Duration::from_secs(10)).await;
    // Closing waited until it was certain, so that nothing comes a third time.
    let couriers = bench.start(&receiver);
    until("the place", || couriers.states()[0].next == 2).await;
    couriers.close(Duration::from_secs(5)).await;
    assert_eq!(got(&receiver).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_goes_back_to_where_it_is_told() {
    let bench = bench();
    let receiver = Arc::new(Receiver::default());
    let couriers = bench.start(&receiver);
    until("the place", || couriers.states()[0].next == 0).await;
    bench.write(5).await;
    until("delivery", || got(&receiver).len() == 5).await;
    couriers.go_to("siem", 3).await.unwrap();
    until("delivery again", || got(&receiver) == [0, 1, 2, 3, 4, 3, 4]).await;
    assert!(couriers.go_to("none", 0).await.unwrap_err().contains("no sink"));
    couriers.close(Duration::from_secs(5)).await;
}
