//! A call that was forwarded and has no outcome yet.

use std::sync::Arc;

use portcullis_core::Refusal;
use portcullis_net::departure::{Departure, Left};

use crate::{
    gateway::{self, Gateway, Held},
    running::Run,
    stages::{
        arm::Armed,
        record::{self, Outcome},
    },
    trail::{Measured, Stage, Trail},
};

/// A forwarded call whose outcome is not recorded yet. Dropped without one, the client is gone or a task died: that
/// is an outcome too.
#[derive(Debug)]
pub(crate) struct Pending {
    gateway: Arc<Gateway>,
    intent: u64,
    trail: Box<Trail>,
    held: Held,
    run: Option<Run>,
    /// What the outcome says beside the answer.
    detail: Option<&'static str>,
    departure: Departure,
}

impl Pending {
    pub(crate) fn new(
        gateway: &Arc<Gateway>,
        armed: &Armed,
        trail: Trail,
        held: Held,
        departure: Departure,
    ) -> Self {
        let (gateway, intent) = (Arc::clone(gateway), armed.index());
        let run = Some(gateway.running.begin());
        Self { gateway, intent, trail: Box::new(trail), held, run, detail: None, departure }
    }

    /// How the client left, once its connection has ended.
    pub(crate) fn left(&self) -> Option<Left> {
        self.departure.left()
    }

    /// What the outcome says beside the answer.
    fn detail(&self) -> Option<&'static str> {
        self.detail.or_else(|| self.left().map(words))
    }

    /// The server was not asked, and why not.
    pub(crate) const fn not_asked(&mut self, why: &'static str) {
        self.detail = Some(why);
    }

    /// What the call has left behind so far.
    pub(crate) fn trail(&mut self) -> &mut Trail {
        &mut self.trail
    }

    /// Records the outcome; the answer may be released when this is through. A client that leaves while the ledger
    /// is written must not take the outcome with it, nor cause a second one.
    pub(crate) async fn done(
        &mut self,
        status: u16,
        output: Option<Measured>,
        error: Option<&'static str>,
    ) -> Result<(), Refusal> {
        let Some(Open { mut trail, held, run }) = self.settle() else { return Ok(()) };
        held.answered(output);
        let outcome = Outcome { intent: self.intent, status, output, error, detail: self.detail() };
        let gateway = Arc::clone(&self.gateway);
        let recording = async move {
            let recorded = record::outcome(&gateway, outcome, &trail).await;
            let recorded = trail.keep(Stage::RecordOutcome, recorded);
            gateway.count(&trail, recorded.as_ref().err().map(|refusal| refusal.code));
            drop((held, run));
            recorded.map(|_| ())
        };
        self.gateway.running.finish(recording, |_recorded| async {}).await
    }

    /// Records that the call was refused on its way back.
    pub(crate) async fn refused(&mut self, refusal: &Refusal, status: u16) {
        let Some(Open { trail, held, run }) = self.settle() else { return };
        gateway::log(refusal, &trail);
        let (gateway, intent, refusal) = (Arc::clone(&self.gateway), self.intent, refusal.clone());
        let recording = async move {
            record::refusal(&gateway, &refusal, Some(intent), status, &trail).await;
            gateway.count(&trail, Some(refusal.code));
            drop((held, run));
        };
        self.gateway.running.finish(recording, |()| async {}).await;
    }

    /// What is needed for the outcome; nothing, when there is one.
    fn settle(&mut self) -> Option<Open> {
        let run = self.run.take()?;
        let spare = Box::new(Trail::new(Arc::clone(&self.gateway.clock)));
        let trail = std::mem::replace(&mut self.trail, spare);
        Some(Open { trail, held: std::mem::take(&mut self.held), run })
    }
}

/// What a call holds until its outcome is recorded.
struct Open {
    trail: Box<Trail>,
    held: Held,
    run: Run,
}

/// How a client left, for an outcome.
const fn words(left: Left) -> &'static str {
    match left {
        Left::Closed => "the client closed its connection",
        Left::Reset => "the connection of the client was reset",
        Left::Unread => "the client took no bytes and was cut off",
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(Open { trail, held, run }) = self.settle() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (gateway, intent, detail) = (Arc::clone(&self.gateway), self.intent, self.left().map(words));
        runtime.spawn(async move {
            let outcome = Outcome { intent, status: 499, output: None, error: Some("cancelled"), detail };
            if let Err(refusal) = record::outcome(&gateway, outcome, &trail).await {
                tracing::error!(intent, %refusal, "the outcome of a cancelled call could not be recorded");
            }
            gateway.count(&trail, None);
            drop((held, run));
        });
    }
}
