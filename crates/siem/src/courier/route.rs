//! One courier at work.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use portcullis_core::Event;
use portcullis_proof::Entry;
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use super::{Order, Parts};
use crate::{Failure, Message, Seen, Settings, Sink, Status};

/// Entries that are read at once.
const ENTRIES_MAX: usize = 500;
/// Bytes of the messages of one delivery, beyond which no further entry is taken.
const BYTES_MAX: usize = 1 << 20;
/// How often a place is written at most while entries come.
const KEEP_EVERY: Duration = Duration::from_millis(500);
/// Pauses after failures: the first, doubled up to the last.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// A sink that fails for as long is told of in the ledger, once until it recovers.
const ALARM_AFTER: Duration = Duration::from_secs(10);
/// How often a courier that waits looks at its connection.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A sink that fails.
struct Trouble {
    since: Instant,
    pause: Duration,
    told: bool,
}

/// A courier.
pub(super) struct Route {
    parts: Parts,
    settings: Settings,
    sink: Box<dyn Sink>,
    status: Arc<Mutex<Status>>,
    changed: watch::Receiver<u64>,
    /// The next entry to read.
    next: u64,
    /// The place before which the receiver has everything that is for it.
    certain: u64,
    /// The place that is kept; at most that one.
    kept: u64,
    kept_at: Instant,
    /// What was sent and is not certain yet: the place after it, and when it was sent.
    settling: VecDeque<(u64, Instant)>,
    trouble: Option<Trouble>,
}

enum Step {
    /// Something was delivered or passed over.
    Moved,
    /// There is nothing to do now.
    Idle,
}

impl Route {
    pub(super) fn new(
        parts: Parts,
        (settings, sink): (Settings, Box<dyn Sink>),
        here: u64,
        status: Arc<Mutex<Status>>,
    ) -> Self {
        let changed = parts.ledger.changed();
        let (settling, kept_at) = (VecDeque::new(), Instant::now());
        let (next, certain, kept, trouble) = (here, here, here, None);
        Self { parts, settings, sink, status, changed, next, certain, kept, kept_at, settling, trouble }
    }

    /// Delivers until it is told to finish, or dropped.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut finishing = false;
        while let Err(failure) = self.begin().await {
            self.failed(&failure).await;
            tokio::select! {
                () = sleep(self.pause()) => {}
                order = orders.recv() => if !self.obey(order).await { return },
            }
        }
        loop {
            let stepped = self.step().await;
            match stepped {
                Ok(Step::Moved) => {}
                Ok(Step::Idle) if finishing => break,
                Ok(Step::Idle) => {
                    self.changed.mark_unchanged();
                    // What came between the look and the mark is seen by its count.
                    if *self.changed.borrow() > self.next {
                        continue;
                    }
                    tokio::select! {
                        // The sender lives as long as the ledger, and that as long as we do.
                        _ = self.changed.changed() => {}
                        () = sleep(LOOK_EVERY), if self.looks() => {}
                        order = orders.recv() => finishing = !self.obey(order).await,
                    }
                }
                Err(failure) => {
                    self.failed(&failure).await;
                    if finishing {
                        break;
                    }
                    tokio::select! {
                        () = sleep(self.pause()) => {}
                        order = orders.recv() => finishing = !self.obey(order).await,
                    }
                }
            }
        }
        self.last().await;
    }

    /// Whether something must be looked at although no entry comes.
    fn looks(&self) -> bool {
        !self.settling.is_empty() || self.kept != self.next
    }

    /// False when it is time to end.
    async fn obey(&mut self, order: Option<Order>) -> bool {
        match order {
            Some(Order::Move(index, reply)) => {
                let saved = self.save(index).await;
                if saved.is_ok() {
                    (self.next, self.certain, self.kept) = (index, index, index);
                    self.settling.clear();
                }
                // Whoever asked may be gone.
                let _ = reply.send(saved.map_err(|error| error.to_string()));
                self.tell();
                true
            }
            Some(Order::Finish) | None => false,
        }
    }

    /// Finds the place of the sink; one that was never here gets one.
    async fn begin(&mut self) -> Result<(), Failure> {
        let (log, sink) = (&self.parts.log, &self.settings.name);
        let known = self.parts.places.sink_place(log, sink).await.map_err(Failure::away)?;
        let durable = self.parts.ledger.status().durable;
        let next = match known {
            // A ledger that was begun anew is shorter than the place in the one before.
            Some(place) if place > durable => 0,
            Some(place) => place,
            None if self.settings.from_start => 0,
            None => self.next,
        };
        if known != Some(next) {
            self.save(next).await?;
        }
        (self.next, self.certain, self.kept) = (next, next, next);
        self.tell();
        Ok(())
    }

    /// Delivers what fits one message, or finds that there is nothing.
    async fn step(&mut self) -> Result<Step, Failure> {
        self.settle().await?;
        let records = self.parts.ledger.read(self.next, ENTRIES_MAX).await.map_err(Failure::away)?;
        if records.is_empty() {
            self.recovered().await;
            return Ok(Step::Idle);
        }
        let (mut messages, mut bytes, mut next) = (Vec::new(), 0, self.next);
        for record in records {
            if bytes >= BYTES_MAX {
                break;
            }
            next = record.index + 1;
            bytes += self.written(record.index, &record.bytes, &mut messages);
        }
        if !messages.is_empty() {
            self.send(&messages).await?;
            self.settling.push_back((next, Instant::now()));
        }
        self.next = next;
        self.recovered().await;
        self.settle().await?;
        self.tell();
        Ok(Step::Moved)
    }

    /// Writes what the sink gets of an entry; how many bytes that is.
    fn written(&self, index: u64, bytes: &[u8], messages: &mut Vec<Message>) -> usize {
        let mut seen = Seen::read(index, &self.parts.log, bytes);
        if !self.settings.filter.wants(&seen) {
            return 0;
        }
        self.settings.fields.apply(&mut seen, &self.parts.key);
        for (part, body) in (self.settings.format.render)(&seen).into_iter().enumerate() {
            let id = if part == 0 { seen.id() } else { format!("{}/{part}", seen.id()) };
            messages.push(Message {
                index,
                id,
                at_ms: seen.at_ms(),
                grade: seen.grade,
                event: seen.event().to_owned(),
                log: Arc::clone(&self.parts.log),
                body,
            });
        }
        bytes.len()
    }

    async fn send(&mut self, messages: &[Message]) -> Result<(), Failure> {
        match self.deliver(messages).await {
            Err(Failure::Refused(_)) if messages.len() > 1 => self.one_by_one(messages).await,
            other => other,
        }
    }

    async fn deliver(&mut self, messages: &[Message]) -> Result<(), Failure> {
        let limit = self.settings.reach.timeout;
        let delivered = timeout(limit, self.sink.deliver(messages)).await;
        delivered
            .unwrap_or_else(|_| Err(Failure::Away(format!("no answer within {} ms", limit.as_millis()))))?;
        let count = messages.len() as u64;
        self.parts.counts.delivered(&self.settings.name, count);
        let now = self.parts.clock.now();
        self.with_status(|status| {
            status.delivered += count;
            status.delivered_ms = Some(now.0);
        });
        Ok(())
    }

    /// The receiver refused several messages together. Those that it refuses alone, while it takes others, are passed over
    /// and put on record; a receiver that takes nothing is one that cannot be used.
    async fn one_by_one(&mut self, messages: &[Message]) -> Result<(), Failure> {
        let (mut refused, mut taken) = (Vec::new(), false);
        for message in messages {
            match self.deliver(std::slice::from_ref(message)).await {
                Ok(()) => taken = true,
                Err(Failure::Refused(why)) => refused.push((message, why)),
                Err(away) => return Err(away),
            }
        }
        if !taken {
            let why = refused.pop().map(|(_, why)| why).unwrap_or_default();
            return Err(Failure::Away(format!("every message is refused: {why}")));
        }
        for (message, why) in refused {
            let (sink, index) = (&self.settings.name, message.index);
            tracing::warn!(sink, index, why, "a sink does not want an entry; it is passed over");
            self.parts.counts.skipped(sink);
            self.with_status(|status| status.skipped += 1);
            self.record(Event::SinkSkipped, &[("index", json!(index)), ("why", json!(why))]).await;
        }
        Ok(())
    }

    /// Keeps the place behind what is certain.
    async fn settle(&mut self) -> Result<(), Failure> {
        if !self.settling.is_empty()
            && let Err(failure) = self.sink.alive().await
        {
            self.go_back();
            return Err(failure);
        }
        let settles = self.sink.settles();
        while let Some((next, _)) = self.settling.pop_front_if(|(_, sent)| sent.elapsed() >= settles) {
            self.certain = next;
        }
        if self.settling.is_empty() {
            self.certain = self.next;
        }
        if self.certain != self.kept && self.kept_at.elapsed() >= KEEP_EVERY {
            self.keep().await?;
        }
        Ok(())
    }

    async fn keep(&mut self) -> Result<(), Failure> {
        self.save(self.certain).await?;
        (self.kept, self.kept_at) = (self.certain, Instant::now());
        Ok(())
    }

    async fn save(&self, next: u64) -> Result<(), Failure> {
        let (log, sink) = (&self.parts.log, &self.settings.name);
        self.parts.places.keep_sink_place(log, sink, next).await.map_err(Failure::away)
    }

    /// Back to what is certain.
    fn go_back(&mut self) {
        self.next = self.certain;
        self.settling.clear();
    }

    /// Waits until what was sent is certain, and keeps the place.
    async fn last(&mut self) {
        while !self.settling.is_empty() && self.settle().await.is_ok() {
            sleep(LOOK_EVERY).await;
        }
        if self.certain != self.kept
            && let Err(error) = self.keep().await
        {
            tracing::warn!(sink = self.settings.name, %error, "the place of a sink could not be kept");
        }
    }

    async fn failed(&mut self, failure: &Failure) {
        // What went out over a protocol without answers may be lost with the connection.
        if !self.sink.settles().is_zero() {
            self.go_back();
        }
        let name = self.settings.name.clone();
        self.parts.counts.failed(&name);
        let text = failure.to_string();
        match &mut self.trouble {
            Some(trouble) => trouble.pause = (trouble.pause * 2).min(PAUSE_MAX),
            None => tracing::warn!(sink = name, error = text, "a sink cannot be delivered to"),
        }
        let trouble =
            self.trouble.get_or_insert_with(|| Trouble { since: Instant::now(), pause: PAUSE, told: false });
        let tell = !trouble.told && trouble.since.elapsed() >= ALARM_AFTER;
        trouble.told |= tell;
        self.with_status(|status| status.error = Some(text.clone()));
        self.tell();
        if tell {
            tracing::error!(sink = name, error = text, "a sink still cannot be delivered to");
            self.record(Event::SinkFailing, &[("why", json!(text))]).await;
        }
    }

    fn pause(&self) -> Duration {
        self.trouble.as_ref().map_or(PAUSE, |trouble| trouble.pause)
    }

    async fn recovered(&mut self) {
        let Some(trouble) = self.trouble.take() else { return };
        self.with_status(|status| status.error = None);
        let seconds = trouble.since.elapsed().as_secs();
        tracing::info!(sink = self.settings.name, seconds, "a sink takes messages again");
        if trouble.told {
            self.record(Event::SinkRecovered, &[("seconds", json!(seconds))]).await;
        }
        self.tell();
    }

    fn with_status(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn tell(&self) {
        let next = self.next;
        self.with_status(|status| status.next = next);
        let lag = self.parts.ledger.status().durable.saturating_sub(next);
        self.parts.counts.state(&self.settings.name, lag, self.trouble.is_some());
    }

    async fn record(&self, event: Event, data: &[(&'static str, serde_json::Value)]) {
        let mut entry = Entry::new(event, self.parts.clock.now(), &self.parts.log);
        entry.data = data.iter().cloned().collect();
        entry.data.insert("sink", json!(self.settings.name));
        if let Err(error) = self.parts.ledger.append(entry.to_jcs()).await {
            tracing::error!(sink = self.settings.name, %error, "what became of a sink could not be recorded");
        }
    }
}
