//! Calls whose outcome is not recorded yet, so that a stop can cut them off and wait for their outcomes.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

/// What runs.
#[derive(Clone, Debug)]
pub struct Running {
    calls: Arc<watch::Sender<usize>>,
    cut: Arc<watch::Sender<bool>>,
}

impl Default for Running {
    fn default() -> Self {
        Self { calls: Arc::new(watch::Sender::new(0)), cut: Arc::new(watch::Sender::new(false)) }
    }
}

impl Running {
    /// Counts a call until the value is dropped.
    pub(crate) fn begin(&self) -> Run {
        self.calls.send_modify(|calls| *calls += 1);
        Run(Arc::clone(&self.calls))
    }

    /// Does `work` unless everything is cut off before it is done.
    pub(crate) fn until_cut<W: Future>(&self, work: W) -> impl Future<Output = Option<W::Output>> + use<W> {
        let mut cut = self.cut.subscribe();
        async move {
            tokio::select! {
                biased;
                done = work => Some(done),
                // Without a sender nothing can be cut off any more.
                Ok(_) = cut.wait_for(|cut| *cut) => None,
            }
        }
    }

    /// How many calls run.
    #[must_use]
    pub fn calls(&self) -> usize {
        *self.calls.borrow()
    }

    /// Cuts off what runs without a client, too, and waits until every outcome is recorded, at most for `wait`.
    /// Returns how many calls are left without one.
    pub async fn settle(&self, wait: Duration) -> usize {
        self.cut.send_replace(true);
        let mut calls = self.calls.subscribe();
        let _late = tokio::time::timeout(wait, calls.wait_for(|calls| *calls == 0)).await;
        self.calls()
    }
}

/// One call that runs.
#[derive(Debug)]
pub(crate) struct Run(Arc<watch::Sender<usize>>);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.send_modify(|calls| *calls = calls.saturating_sub(1));
    }
}
