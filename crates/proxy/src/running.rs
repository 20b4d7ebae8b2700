//! Calls whose outcome is not recorded yet, so that a stop can cut them off and wait for their outcomes, and records
//! that are written to their end although nobody waits for them any more.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::sync::{Notify, watch};

/// What runs.
#[derive(Clone, Debug)]
pub struct Running(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    calls: AtomicUsize,
    none: Notify,
    cut: watch::Sender<bool>,
}

impl Default for Running {
    fn default() -> Self {
        let (calls, none, cut) = (AtomicUsize::new(0), Notify::new(), watch::Sender::new(false));
        Self(Arc::new(Shared { calls, none, cut }))
    }
}

impl Running {
    /// Counts a call until the value is dropped.
    pub(crate) fn begin(&self) -> Run {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        Run(Arc::clone(&self.0))
    }

    /// Does `work` unless everything is cut off before it is done.
    pub(crate) fn until_cut<W: Future>(&self, work: W) -> impl Future<Output = Option<W::Output>> + use<W> {
        let mut cut = self.0.cut.subscribe();
        async move {
            tokio::select! {
                biased;
                done = work => Some(done),
                // Without a sender nothing can be cut off any more.
                Ok(_) = cut.wait_for(|cut| *cut) => None,
            }
        }
    }

    /// Does `work` to its end: whoever drops the future only gives up waiting, and the rest, with `after`, goes on in
    /// a task of its own. A record that may be durable already must not be forgotten half-way.
    pub(crate) fn finish<W, F, A>(&self, work: W, after: F) -> Finish<W::Output, F, A>
    where
        W: Future<Output: Send> + Send + 'static,
        F: FnOnce(W::Output) -> A + Send + Unpin + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        Finish { work: Some(Box::pin(work)), after: Some(after), running: self.clone() }
    }

    /// How many calls run.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// Cuts off what runs without a client, too, and waits until every outcome is recorded, at most for `wait`.
    /// Returns how many calls are left without one.
    pub async fn settle(&self, wait: Duration) -> usize {
        self.0.cut.send_replace(true);
        let settled = async {
            loop {
                let none = self.0.none.notified();
                if self.calls() == 0 {
                    return;
                }
                none.await;
            }
        };
        let _late = tokio::time::timeout(wait, settled).await;
        self.calls()
    }
}

/// One call that runs.
#[derive(Debug)]
pub(crate) struct Run(Arc<Shared>);

impl Drop for Run {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

/// See [`Running::finish`].
pub(crate) struct Finish<T, F, A>
where
    T: Send + 'static,
    F: FnOnce(T) -> A + Send + Unpin + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    after: Option<F>,
    running: Running,
}

impl<T, F, A> Future for Finish<T, F, A>
where
    T: Send + 'static,
    F: FnOnce(T) -> A + Send + Unpin + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = ready!(work.as_mut().poll(context));
        self.work = None;
        Poll::Ready(done)
    }
}

impl<T, F, A> Drop for Finish<T, F, A>
where
    T: Send + 'static,
    F: FnOnce(T) -> A + Send + Unpin + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    fn drop(&mut self) {
        let (Some(work), Some(after)) = (self.work.take(), self.after.take()) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let run = self.running.begin();
        runtime.spawn(async move {
            after(work.await).await;
            drop(run);
        });
    }
}
