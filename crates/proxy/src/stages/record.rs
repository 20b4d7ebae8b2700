//! The ledger: intent durable before anything is forwarded, outcome before the answer is released.

use std::sync::Arc;

use portcullis_core::{Clock, Code, Event, Refusal};
use portcullis_proof::Entry;
use portcullis_store::{Ledger, LedgerError, Receipt};

use super::{approve::Approved, inspect::Inspected};
use crate::{
    gateway::Gateway,
    trail::{Measured, Trail},
};

/// A call whose intent is durable.
#[derive(Debug)]
pub struct Recorded {
    pub(super) inspected: Inspected,
    receipt: Receipt,
}

impl Recorded {
    /// The index of the intent.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.receipt.index()
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// Index of the intent.
    pub intent: u64,
    /// HTTP status of the reply.
    pub status: u16,
    /// The answer, as it is released.
    pub output: Option<Measured>,
    /// Why it is no good answer, if it is not: a code or what the server said it was.
    pub error: Option<&'a str>,
    /// Private detail.
    pub detail: Option<&'a str>,
}

/// Records the intent of a call. When the client leaves meanwhile the intent may be durable already, so that it gets
/// an outcome, too.
///
/// # Errors
/// `ledger.unavailable`: then nothing was forwarded.
pub async fn intent(gateway: &Gateway, approved: Approved, trail: &Trail) -> Result<Recorded, Refusal> {
    let Approved { inspected } = approved;
    let mut entry = trail.entry(Event::CallIntent, &gateway.instance);
    entry.decision = Some(trail.decision(true));
    let (ledger, bytes) = (Arc::clone(&gateway.ledger), entry.to_jcs());
    let left = Unforwarded::of(gateway, 499, "the client left before the call was forwarded");
    let appended = gateway
        .running
        .finish(async move { ledger.append(bytes).await }, move |appended| left.settle(appended));
    match appended.await {
        Ok(receipt) => Ok(Recorded { inspected, receipt }),
        Err(error) => {
            let refusal = unavailable(&error);
            let late =
                Unforwarded::of(gateway, 503, "the intent was durable too late and nothing was forwarded");
            let run = gateway.running.begin();
            tokio::spawn(async move {
                late.settle(Err(error)).await;
                drop(run);
            });
            Err(refusal)
        }
    }
}

/// A call that is not forwarded although its intent is durable, or may become so.
struct Unforwarded {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    instance: Arc<str>,
    status: u16,
    why: &'static str,
}

impl Unforwarded {
    fn of(gateway: &Gateway, status: u16, why: &'static str) -> Self {
        let (ledger, clock) = (Arc::clone(&gateway.ledger), Arc::clone(&gateway.clock));
        Self { ledger, clock, instance: Arc::clone(&gateway.instance), status, why }
    }

    /// Records the outcome of an intent that is durable, once it is.
    async fn settle(self, appended: Result<Receipt, LedgerError>) {
        let receipt = match appended {
            Ok(receipt) => Some(receipt),
            Err(LedgerError::Timeout(_, Some(late))) => late.receipt().await,
            Err(_) => None,
        };
        let Some(receipt) = receipt else { return };
        let mut entry = Entry::new(Event::CallOutcome, self.clock.now(), &self.instance);
        entry.intent = Some(receipt.index());
        entry.status = Some(self.status);
        entry.detail = Some(self.why);
        if let Err(error) = self.ledger.append(entry.to_jcs()).await {
            tracing::error!(intent = receipt.index(), %error, "the outcome of a call that was not forwarded could not be recorded");
        }
    }
}

/// Records what became of a call.
///
/// # Errors
/// `ledger.unavailable`: then the answer is not released.
pub async fn outcome(gateway: &Gateway, outcome: Outcome<'_>, trail: &Trail) -> Result<Receipt, Refusal> {
    let mut entry = trail.entry(Event::CallOutcome, &gateway.instance);
    entry.intent = Some(outcome.intent);
    entry.status = Some(outcome.status);
    entry.latency_us = Some(trail.elapsed_us());
    entry.output = outcome.output.map(|output| output.entry(outcome.error));
    entry.detail = outcome.detail;
    entry.code = outcome.error.and_then(Code::named);
    append(gateway, entry.to_jcs()).await
}

/// Records a refusal, also of a client that does not wait for it: nobody tries keys unseen by hanging up. When it
/// cannot be written the refusal stands and the log has it.
pub async fn refusal(gateway: &Gateway, refusal: &Refusal, intent: Option<u64>, status: u16, trail: &Trail) {
    let mut entry = trail.entry(Event::CallRefused, &gateway.instance);
    entry.code = Some(refusal.code);
    entry.detail = Some(&refusal.private);
    entry.intent = intent;
    entry.status = Some(status);
    entry.latency_us = Some(trail.elapsed_us());
    entry.decision = trail.action.is_some().then(|| trail.decision(false));
    let (ledger, bytes) = (Arc::clone(&gateway.ledger), entry.to_jcs());
    let appended = gateway.running.finish(async move { ledger.append(bytes).await }, |_appended| async {});
    if let Err(failed) = appended.await {
        tracing::error!(code = refusal.code.name(), error = %failed, "a refusal could not be recorded");
    }
}

/// Records a question of a server to a client, before it is passed on.
///
/// # Errors
/// `ledger.unavailable`.
pub async fn question(
    gateway: &Gateway,
    method: &str,
    refused: Option<Code>,
    intent: u64,
    trail: &Trail,
) -> Result<(), Refusal> {
    let mut entry = trail.entry(Event::ServerRequest, &gateway.instance);
    entry.method = Some(method);
    entry.intent = Some(intent);
    entry.code = refused;
    append(gateway, entry.to_jcs()).await.map(|_| ())
}

async fn append(gateway: &Gateway, entry: Vec<u8>) -> Result<Receipt, Refusal> {
    gateway.ledger.append(entry).await.map_err(|error| unavailable(&error))
}

fn unavailable(error: &LedgerError) -> Refusal {
    Refusal::new(Code::LedgerUnavailable, error.to_string()).retry_after_s(1)
}
