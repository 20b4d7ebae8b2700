//! Where ledger entries go beside the ledger: how each sink is, where it goes on, and whether it works.

use std::{collections::BTreeMap, time::Duration};

use portcullis_core::{Event, Timestamp};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Control;
use crate::{parts::SinkState, problem::Problem, wire::wire};

/// How long a trial waits for its entry to be delivered.
const TRIAL: Duration = Duration::from_secs(20);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

wire! { answer
    /// A sink.
    Sink {
        /// Its name.
        name: String,
        /// Its kind.
        kind: String,
        /// How entries are written for it.
        format: String,
        /// Index of the next entry that it gets, or that is looked at for it.
        next: u64,
        /// Entries that were not looked at yet.
        lag: u64,
        /// Messages delivered since the start.
        delivered: u64,
        /// Messages that the receiver did not want since the start.
        skipped: u64,
        /// When something was last delivered since the start (RFC 3339).
        last: Option<String>,
        /// Why the last attempt failed, while the sink fails.
        error: Option<String>,
        /// Entries go there in the clear (`danger_plain_text`).
        plain_text: bool,
    }
}

wire! { answer
    /// Every sink.
    SinkList {
        /// By name.
        sinks: Vec<Sink>,
    }
}

wire! { question
    /// A sink is to go on at another entry.
    MoveSink {
        /// Its name.
        name: String,
        /// Index of the entry: all from there on are delivered, also those that were before.
        next: u64,
    }
}

wire! { question
    /// A sink is to be tried out.
    TestSink {
        /// Its name.
        name: String,
    }
}

wire! { answer
    /// What came of it.
    SinkChanged {
        /// The sink.
        name: String,
        /// Index of the ledger entry.
        entry: u64,
        /// Whether the sink is past that entry: delivered, unless its filter does not want it.
        passed: bool,
        /// Why not.
        error: Option<String>,
    }
}

fn view(state: SinkState) -> Sink {
    let SinkState { name, kind, format, next, lag, delivered, skipped, error, last_ms, plain_text } = state;
    let last = last_ms.map(|ms| Timestamp(ms).to_string());
    Sink { name, kind, format, next, lag, delivered, skipped, last, error, plain_text }
}

impl Control {
    pub(super) fn sinks(&self) -> SinkList {
        SinkList { sinks: self.parts.sinks.list().into_iter().map(view).collect() }
    }

    fn sink(&self, name: &str) -> Result<SinkState, Problem> {
        let found = self.parts.sinks.list().into_iter().find(|sink| sink.name == name);
        found.ok_or_else(|| Problem::NotFound(format!("no sink is called `{}`", name.escape_default())))
    }

    pub(super) async fn send_on(&self, question: MoveSink) -> Result<SinkChanged, Problem> {
        let MoveSink { name, next } = question;
        self.sink(&name)?;
        let size = self.parts.ledger.status().durable;
        if next > size {
            let message = format!("the ledger has {size} entries");
            return Err(Problem::invalid(message, "`portcullis audit tail` shows the newest"));
        }
        let data = BTreeMap::from([("sink", json!(name)), ("next", json!(next))]);
        let entry = self.record(Event::SinkMoved, None, data).await?;
        self.parts.sinks.go_to(&name, next).await.map_err(Problem::Store)?;
        Ok(SinkChanged { name, entry, passed: false, error: None })
    }

    pub(super) async fn try_sink(&self, question: TestSink) -> Result<SinkChanged, Problem> {
        let name = question.name;
        self.sink(&name)?;
        let entry = self.record(Event::SinkTested, None, BTreeMap::from([("sink", json!(name))])).await?;
        let until = Instant::now() + TRIAL;
        loop {
            let state = self.sink(&name)?;
            let passed = state.next > entry && state.error.is_none();
            if passed || Instant::now() >= until {
                let error =
                    (!passed).then(|| state.error.unwrap_or_else(|| "it was not delivered in time".into()));
                return Ok(SinkChanged { name, entry, passed, error });
            }
            sleep(LOOK_EVERY).await;
        }
    }
}
