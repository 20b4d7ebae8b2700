//! Starts a child again when it ends, with pauses that double while it keeps failing.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use portcullis_core::Limits;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

use super::{Child, ChildOptions, Command, Exit};

/// Pauses between starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Pause before the second start.
    pub first: Duration,
    /// Pauses double up to here.
    pub max: Duration,
    /// A child that lived so long did not fail at start: pauses begin anew.
    pub stable: Duration,
}

impl Backoff {
    /// The pauses that `limits` describe.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let max = Duration::from_millis(limits.child_backoff_max_ms);
        Self { first: Duration::from_millis(100).min(max), max, stable: Duration::from_secs(10) }
    }

    /// The pause after so many failures in a row.
    #[must_use]
    pub fn pause(&self, failures: u32) -> Duration {
        match failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => {
                let factor = 1_u32.checked_shl(doublings.min(31)).unwrap_or(u32::MAX);
                self.first.saturating_mul(factor).min(self.max)
            }
        }
    }
}

/// What a supervisor is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not started yet.
    Idle,
    /// Waiting for so long before the next start.
    Paused(Duration),
    /// A child runs, or has just ended and was not replaced yet.
    Running {
        /// Its process id.
        pid: u32,
    },
    /// Stopped for good.
    Stopped,
}

/// What is known about a server's process, for health pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupervisorState {
    /// What happens now.
    pub phase: Phase,
    /// Starts so far, failed ones included.
    pub starts: u64,
    /// Failures in a row; more than a few is a crash loop.
    pub failures: u32,
    /// How the last child ended, or why it did not start.
    pub last_end: Option<String>,
}

/// Keeps a server's process available. Whoever uses the process asks for the next one with [`Supervisor::next`].
#[derive(Debug)]
pub struct Supervisor {
    command: Command,
    options: ChildOptions,
    backoff: Backoff,
    current: Option<(Arc<Child>, Instant)>,
    state: watch::Sender<SupervisorState>,
}

impl Supervisor {
    /// Nothing is started yet.
    #[must_use]
    pub fn new(command: Command, options: ChildOptions, backoff: Backoff) -> Self {
        let state = SupervisorState { phase: Phase::Idle, starts: 0, failures: 0, last_end: None };
        Self { command, options, backoff, current: None, state: watch::Sender::new(state) }
    }

    /// What is known, as it changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<SupervisorState> {
        self.state.subscribe()
    }

    /// The next process, as soon as it may start: ends the previous one if it still runs, pauses if that one lived
    /// shortly, and tries until a start succeeds. Dropping the future starts nothing.
    pub async fn next(&mut self) -> (Arc<Child>, mpsc::Receiver<Bytes>) {
        self.retire().await;
        loop {
            let pause = self.backoff.pause(self.state.borrow().failures);
            if !pause.is_zero() {
                self.state.send_modify(|state| state.phase = Phase::Paused(pause));
                sleep(pause).await;
            }
            self.state.send_modify(|state| state.starts += 1);
            match Child::spawn(&self.command, &self.options) {
                Ok((child, lines)) => {
                    let child = Arc::new(child);
                    self.state.send_modify(|state| state.phase = Phase::Running { pid: child.pid() });
                    self.current = Some((Arc::clone(&child), Instant::now()));
                    return (child, lines);
                }
                Err(error) => {
                    tracing::error!(server = %self.options.name, %error, "cannot start the server");
                    self.failed(error.to_string());
                }
            }
        }
    }

    /// Ends the process for good.
    pub async fn stop(mut self) -> Option<Exit> {
        let exit = match self.current.take() {
            Some((child, _)) => child.shutdown().await,
            None => None,
        };
        self.state.send_modify(|state| state.phase = Phase::Stopped);
        exit
    }

    async fn retire(&mut self) {
        // Taken only once it has ended: a dropped future must not forget the child.
        let Some((child, started)) = &self.current else { return };
        let lived = started.elapsed();
        let end =
            child.shutdown().await.map_or_else(|| "it cannot be ended".to_owned(), |exit| exit.to_string());
        if lived >= self.backoff.stable {
            self.state.send_modify(|state| state.failures = 0);
        }
        self.current = None;
        self.failed(end);
    }

    fn failed(&self, end: String) {
        self.state.send_modify(|state| {
            state.failures = state.failures.saturating_add(1);
            state.last_end = Some(end);
        });
    }
}
