//! The way of entries to a sink. The ledger is the queue: a courier reads on from its place, sends, and keeps its place
//! when the receiver has what was sent. Whatever goes wrong, it comes back to that place, so that an entry may arrive twice
//! and is never left out.

mod route;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use portcullis_core::{Clock, Secret};
use portcullis_store::{Ledger, SinkPlaces};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use self::route::Route;
use crate::{Counts, Settings, Sink, Status, sinks};

/// Orders to one courier that wait; an order is answered within a moment.
const ORDERS_MAX: usize = 8;

/// What every courier works with.
#[derive(Clone)]
pub struct Parts {
    /// Where entries come from, and where is told that a sink fails.
    pub ledger: Arc<dyn Ledger>,
    /// Where places are kept.
    pub places: Arc<dyn SinkPlaces>,
    /// The name of the log.
    pub log: Arc<str>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What digests of members are keyed with.
    pub key: Secret<Vec<u8>>,
    /// Where deliveries are counted.
    pub counts: Counts,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("log", &self.log).finish_non_exhaustive()
    }
}

/// What a courier is told.
enum Order {
    /// Go back, or on, to an entry.
    Move(u64, oneshot::Sender<Result<(), String>>),
    /// Deliver what is there, keep the place and end.
    Finish,
}

struct Running {
    signature: String,
    status: Arc<Mutex<Status>>,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

/// The couriers of a gateway.
pub struct Couriers {
    parts: Parts,
    running: Mutex<BTreeMap<String, Running>>,
}

impl fmt::Debug for Couriers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.running().keys()).finish()
    }
}

impl Couriers {
    /// None as yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts, running: Mutex::default() }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether these can be built, and what cannot.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn check(wanted: &[Settings]) -> Result<(), String> {
        wanted.iter().try_for_each(|settings| sinks::build(settings).map(drop))
    }

    /// Has a courier for each of these and for no other; those that did not change go on. Inside a runtime.
    ///
    /// # Errors
    /// What is wrong with one of them; then nothing has changed.
    pub fn apply(&self, wanted: Vec<Settings>) -> Result<(), String> {
        let mut running = self.running();
        let mut built = Vec::new();
        for settings in wanted {
            let same = running.get(&settings.name).is_some_and(|one| one.signature == settings.signature);
            let sink = if same { None } else { Some(sinks::build(&settings)?) };
            built.push((settings, sink));
        }
        running.retain(|name, one| {
            let kept = built.iter().any(|(settings, sink)| &settings.name == name && sink.is_none());
            if !kept {
                one.task.abort();
                self.parts.counts.forget(name);
            }
            kept
        });
        for (settings, sink) in built {
            if let Some(sink) = sink {
                running.insert(settings.name.clone(), self.start(settings, sink));
            }
        }
        Ok(())
    }

    fn start(&self, settings: Settings, sink: Box<dyn Sink>) -> Running {
        let status = Arc::new(Mutex::new(Status {
            name: settings.name.clone(),
            kind: settings.kind.clone(),
            format: settings.format.name.to_owned(),
            ..Status::default()
        }));
        let (orders, queue) = mpsc::channel(ORDERS_MAX);
        let signature = settings.signature.clone();
        let here = self.parts.ledger.status().durable;
        let route = Route::new(self.parts.clone(), (settings, sink), here, Arc::clone(&status));
        let task = tokio::spawn(route.run(queue));
        Running { signature, status, orders, task }
    }

    /// How each sink is, by name.
    #[must_use]
    pub fn states(&self) -> Vec<Status> {
        let durable = self.parts.ledger.status().durable;
        let states = self.running();
        let view = |one: &Running| {
            let mut status = one.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
            status.lag = durable.saturating_sub(status.next);
            status
        };
        states.values().map(view).collect()
    }

    /// Has a sink go on at this entry: what comes after it is delivered, again where it was before.
    ///
    /// # Errors
    /// There is no such sink, or its place cannot be kept.
    pub async fn go_to(&self, sink: &str, index: u64) -> Result<(), String> {
        let orders = self.running().get(sink).map(|one| one.orders.clone());
        let orders = orders.ok_or_else(|| format!("there is no sink `{}`", sink.escape_default()))?;
        let (reply, answer) = oneshot::channel();
        let gone = "the sink is being changed; try again";
        orders.try_send(Order::Move(index, reply)).map_err(|_| gone.to_owned())?;
        answer.await.map_err(|_| gone.to_owned())?
    }

    /// Delivers what is in the ledger now, as far as that goes within `limit`, and ends.
    pub async fn close(&self, limit: Duration) {
        let all = std::mem::take(&mut *self.running());
        for one in all.values() {
            // Who cannot take an order any more is ended below.
            let _ = one.orders.try_send(Order::Finish);
        }
        let finished = async {
            for (_, one) in all {
                let abort = one.task.abort_handle();
                if timeout(limit, one.task).await.is_err() {
                    abort.abort();
                }
            }
        };
        if timeout(limit, finished).await.is_err() {
            tracing::warn!("some sinks have not taken everything; they get the rest after the next start");
        }
    }
}

#[cfg(test)]
mod tests;
