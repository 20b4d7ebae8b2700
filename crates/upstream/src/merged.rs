//! Streams of several servers in one: as events come, whichever server they come from. One that is slow or gone keeps
//! no other from being heard.

use std::future::Future;

use portcullis_mcp::sse;
use tokio::{sync::mpsc, task::JoinSet};

/// Events of all servers that wait to be read; beyond, the servers wait.
const EVENTS_WAITING_MAX: usize = 16;

/// Streams of several servers in one. Dropping it closes them all.
#[derive(Debug)]
pub struct Merged {
    from: mpsc::Receiver<sse::Event>,
    /// Held for its drop, which ends what feeds it.
    _feeding: JoinSet<()>,
}

impl Merged {
    /// The events that `feed` sends; the stream ends when nobody can send to it any more.
    #[must_use]
    pub fn new<F>(feed: impl FnOnce(mpsc::Sender<sse::Event>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (to, from) = mpsc::channel(EVENTS_WAITING_MAX);
        let mut feeding = JoinSet::new();
        feeding.spawn(feed(to));
        Self { from, _feeding: feeding }
    }

    /// The next event of any of them.
    pub(super) async fn next(&mut self) -> Option<sse::Event> {
        self.from.recv().await
    }
}
