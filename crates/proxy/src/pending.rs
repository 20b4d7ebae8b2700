//! A call that was forwarded and has no outcome yet.

use std::sync::Arc;

use portcullis_core::Refusal;

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
    settled: bool,
    run: Option<Run>,
}

impl Pending {
    pub(crate) fn new(gateway: &Arc<Gateway>, armed: &Armed, trail: Trail, held: Held) -> Self {
        let (gateway, intent) = (Arc::clone(gateway), armed.index());
        let run = Some(gateway.running.begin());
        Self { gateway, intent, trail: Box::new(trail), held, settled: false, run }
    }

    /// What the call has left behind so far.
    pub(crate) fn trail(&mut self) -> &mut Trail {
        &mut self.trail
    }

    /// Records the outcome; the answer may be released when this is through. Settled only then: a client that
    /// leaves while the ledger is written must not take the outcome with it.
    pub(crate) async fn done(
        &mut self,
        status: u16,
        output: Option<Measured>,
        error: Option<&'static str>,
    ) -> Result<(), Refusal> {
        if self.settled {
            return Ok(());
        }
        let outcome = Outcome { intent: self.intent, status, output, error, detail: None };
        let recorded = record::outcome(&self.gateway, outcome, &self.trail).await;
        self.settle();
        let recorded = self.trail.keep(Stage::RecordOutcome, recorded);
        self.gateway.count(&self.trail, recorded.as_ref().err().map(|refusal| refusal.code));
        recorded.map(|_| ())
    }

    /// Records that the call was refused on its way back.
    pub(crate) async fn refused(&mut self, refusal: &Refusal, status: u16) {
        if self.settled {
            return;
        }
        gateway::log(refusal, &self.trail);
        record::refusal(&self.gateway, refusal, Some(self.intent), status, &self.trail).await;
        self.settle();
        self.gateway.count(&self.trail, Some(refusal.code));
    }

    fn settle(&mut self) {
        self.settled = true;
        self.held = Held::default();
        self.run = None;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (gateway, intent, held) =
            (Arc::clone(&self.gateway), self.intent, std::mem::take(&mut self.held));
        let run = self.run.take();
        let trail = std::mem::replace(&mut *self.trail, Trail::new(Arc::clone(&gateway.clock)));
        runtime.spawn(async move {
            let outcome =
                Outcome { intent, status: 499, output: None, error: Some("cancelled"), detail: None };
            if let Err(refusal) = record::outcome(&gateway, outcome, &trail).await {
                tracing::error!(intent, %refusal, "the outcome of a cancelled call could not be recorded");
            }
            gateway.count(&trail, None);
            drop((held, run));
        });
    }
}
