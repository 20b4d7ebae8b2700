//! A call that was forwarded and has no outcome yet.

use std::sync::Arc;

use portcullis_core::Refusal;

use crate::{
    gateway::{self, Gateway, Held},
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
    open: Option<(Box<Trail>, Held)>,
    spare: Box<Trail>,
}

impl Pending {
    pub(crate) fn new(gateway: &Arc<Gateway>, armed: &Armed, trail: Trail, held: Held) -> Self {
        let spare = Box::new(Trail::new(Arc::clone(&gateway.clock)));
        let open = Some((Box::new(trail), held));
        Self { gateway: Arc::clone(gateway), intent: armed.index(), open, spare }
    }

    /// What the call has left behind so far.
    pub(crate) fn trail(&mut self) -> &mut Trail {
        match &mut self.open {
            Some((trail, _)) => trail,
            None => &mut self.spare,
        }
    }

    /// Records the outcome; the answer may be released when this is through.
    pub(crate) async fn done(
        &mut self,
        status: u16,
        output: Option<Measured>,
        error: Option<&'static str>,
    ) -> Result<(), Refusal> {
        let Some((mut trail, _held)) = self.open.take() else { return Ok(()) };
        let outcome = Outcome { intent: self.intent, status, output, error, detail: None };
        let recorded = record::outcome(&self.gateway, outcome, &trail).await;
        let recorded = trail.keep(Stage::RecordOutcome, recorded);
        self.gateway.count(&trail, recorded.as_ref().err().map(|refusal| refusal.code));
        recorded.map(|_| ())
    }

    /// Records that the call was refused on its way back.
    pub(crate) async fn refused(&mut self, refusal: &Refusal, status: u16) {
        let Some((trail, _held)) = self.open.take() else { return };
        gateway::log(refusal, &trail);
        record::refusal(&self.gateway, refusal, Some(self.intent), status, &trail).await;
        self.gateway.count(&trail, Some(refusal.code));
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some((trail, held)) = self.open.take() else { return };
        let (gateway, intent) = (Arc::clone(&self.gateway), self.intent);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let outcome =
                Outcome { intent, status: 499, output: None, error: Some("cancelled"), detail: None };
            if let Err(refusal) = record::outcome(&gateway, outcome, &trail).await {
                tracing::error!(intent, %refusal, "the outcome of a cancelled call could not be recorded");
            }
            gateway.count(&trail, None);
            drop(held);
        });
    }
}
