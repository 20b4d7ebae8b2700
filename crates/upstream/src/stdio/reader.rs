//! Reads what a child says and sends each line where it belongs, however slowly that is read.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use portcullis_core::Limits;
use portcullis_mcp::{json::JsonLimits, jsonrpc::Message};
use portcullis_net::queue::{offer, try_offer};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::super::pending::{Piece, Route, Sender};
use super::process::{Process, Start, declined};

/// How long a child waits for a reader that does not read.
const STUCK: Duration = Duration::from_secs(5);

/// How long it waits at least, however many of them there were.
const STUCK_MIN: Duration = Duration::from_millis(100);

/// After so long without one it waits as long as at first.
const FORGIVEN: Duration = Duration::from_secs(60);

/// Reads the child's lines and sends each where it belongs.
pub(super) struct Reader {
    server: Arc<str>,
    limits: JsonLimits,
    process: Weak<Process>,
    changed: Arc<tokio::sync::Notify>,
    patience: Patience,
}

impl Reader {
    pub(super) fn new(start: &Start<'_>, limits: &Limits, process: &Arc<Process>) -> Self {
        Self {
            server: Arc::clone(start.name),
            limits: JsonLimits::answer(limits),
            // Weak: the child ends when nobody else holds its process, and the reader with it.
            process: Arc::downgrade(process),
            changed: Arc::clone(start.changed),
            patience: Patience { left: STUCK, spent: Instant::now() },
        }
    }

    pub(super) async fn run(mut self, mut lines: mpsc::Receiver<Bytes>) {
        while let Some(line) = lines.recv().await {
            let message = match Message::parse(line, &self.limits) {
                Ok(message) => message,
                Err(error) => {
                    tracing::warn!(server = %self.server, %error, "a line of the child is no MCP message; dropped");
                    continue;
                }
            };
            let Some(process) = self.process.upgrade() else { return };
            process.heard();
            self.hand_on(&process, &message).await;
        }
        if let Some(process) = self.process.upgrade() {
            process.died();
        }
    }

    async fn hand_on(&mut self, process: &Process, message: &Message) {
        if message.method_name().is_some_and(|name| name.ends_with("/list_changed")) {
            // Kept for whoever is busy fetching the lists of before.
            self.changed.notify_one();
        }
        let route = process.pending().route(message);
        match route {
            Route::Deliver(to, piece) => {
                for stuck in self.patience.deliver(to, &piece).await {
                    tracing::warn!(server = %self.server, "a reader that does not read was given up");
                    process.pending().give_up(&stuck);
                }
            }
            Route::Unroutable(id) => {
                tracing::warn!(server = %self.server, "the server asked a question that belongs to no session; declined");
                let _ = process.write(declined(&id)).await;
            }
            Route::Drop => {
                tracing::debug!(server = %self.server, "a message of the child that nobody waits for; dropped");
            }
        }
    }
}

/// How long readers are waited for. Each that is given up halves it for a while: many that are stuck, one after the
/// other, must not stop the child for everybody else.
struct Patience {
    left: Duration,
    spent: Instant,
}

impl Patience {
    /// Sends a message to all of its readers. One that does not read is waited for briefly, and once. Returns those that
    /// were waited for in vain.
    async fn deliver(&mut self, to: Vec<Sender>, piece: &Piece) -> Vec<Sender> {
        let mut stuck = Vec::new();
        for sender in to {
            let bytes = piece.bytes.len();
            let Err(mpsc::error::TrySendError::Full(piece)) = try_offer(&sender, bytes, piece.clone()) else {
                continue;
            };
            if timeout(self.wait(Instant::now()), offer(&sender, bytes, piece)).await.is_err() {
                self.spend(Instant::now());
                stuck.push(sender);
            }
        }
        stuck
    }

    /// How long the next one is waited for.
    fn wait(&mut self, now: Instant) -> Duration {
        if now.duration_since(self.spent) >= FORGIVEN {
            self.left = STUCK;
        }
        self.left
    }

    /// One was waited for in vain.
    fn spend(&mut self, now: Instant) {
        self.left = (self.left / 2).max(STUCK_MIN);
        self.spent = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(bytes: usize) -> Piece {
        Piece { bytes: Bytes::from(vec![b'x'; bytes]), last: false }
    }

    #[test]
    fn each_stuck_reader_is_waited_for_half_as_long_as_the_one_before_until_a_minute_is_over() {
        let begun = Instant::now();
        let mut patience = Patience { left: STUCK, spent: begun };
        let mut waited = |seconds| {
            let now = begun + Duration::from_secs(seconds);
            let wait = patience.wait(now);
            patience.spend(now);
            wait.as_micros()
        };
        assert_eq!(
            [waited(0), waited(0), waited(59), waited(61)],
            [5_000_000, 2_500_000, 1_250_000, 625_000]
        );
        assert_eq!([0; 4].map(&mut waited), [312_500, 156_250, 100_000, 100_000]);
        assert_eq!([waited(120), waited(120)], [5_000_000, 2_500_000]);
    }

    #[tokio::test]
    async fn a_reader_has_one_large_message_waiting_and_who_has_gone_is_not_waited_for() {
        let mut patience = Patience { left: Duration::from_millis(1), spent: Instant::now() };
        let (to, mut from) = mpsc::channel(64);
        let large = piece(16 * 1024 * 1024);
        assert!(patience.deliver(vec![to.clone()], &large).await.is_empty());
        assert_eq!(patience.deliver(vec![to.clone()], &large).await.len(), 1, "two of them at once");
        from.recv().await.unwrap();
        assert!(patience.deliver(vec![to.clone()], &large).await.is_empty());
        // Who only reads late is no reason.
        patience.left = Duration::from_secs(60);
        let reading = tokio::spawn(async move {
            from.recv().await.unwrap();
            from
        });
        assert!(patience.deliver(vec![to.clone()], &large).await.is_empty());
        assert_eq!(patience.left, Duration::from_secs(60));
        drop(reading.await.unwrap());
        assert!(patience.deliver(vec![to], &large).await.is_empty());
        assert_eq!(patience.left, Duration::from_secs(60), "waited for");
    }
}
