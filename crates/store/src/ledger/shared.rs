//! What callers, the writer and the integrator of a file ledger share: the queue in front of the disk, and what is
//! durable behind it. Two locks, never held together, never held across a system call.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use portcullis_core::Limits;
use tokio::sync::{oneshot, watch};

use super::{LedgerError, LedgerStatus};

/// An entry on its way to the disk, and who waits for it.
#[derive(Debug)]
pub(super) struct Waiting {
    number: u64,
    pub(super) entry: Vec<u8>,
    pub(super) done: oneshot::Sender<Result<u64, LedgerError>>,
}

/// Tells that an entry is durable, and its index.
pub(super) type Written = oneshot::Receiver<Result<u64, LedgerError>>;

/// Who waits for a checkpoint.
pub(super) type Asking = oneshot::Sender<Result<String, LedgerError>>;

/// Entries that are durable but not in tiles: the payload of one frame.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) payload: Arc<[u8]>,
}

impl Chunk {
    /// The index behind the last entry.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }
}

/// What the writer has to do.
#[derive(Debug)]
pub(super) enum Work {
    /// Nothing more will come.
    Close,
    /// Write these.
    Entries(Vec<Waiting>),
    /// See whether the disk works again.
    Probe,
}

/// What the integrator has to do.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) chunks: Vec<Chunk>,
    pub(super) asking: Vec<Asking>,
    pub(super) last: bool,
}

#[derive(Debug, Default)]
struct Queue {
    /// By ascending number.
    waiting: Vec<Waiting>,
    next: u64,
    bytes: usize,
    closing: bool,
    sick: Option<String>,
    /// Somebody gave up waiting for the batch that is being written.
    late: bool,
}

#[derive(Debug, Default)]
struct Log {
    durable: u64,
    signed: u64,
    note: String,
    pending: VecDeque<Chunk>,
    pending_bytes: usize,
    asking: Vec<Asking>,
    behind: Option<String>,
    closing: bool,
}

#[derive(Debug)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    writer: Condvar,
    log: Mutex<Log>,
    integrator: Condvar,
    changed: watch::Sender<u64>,
    queue_max: usize,
    bytes_max: usize,
    checkpoint_every: Duration,
    checkpoint_entries: u64,
}

impl Shared {
    pub(super) fn new(
        limits: &Limits,
        every_ms: u64,
        entries: u64,
        signed: (u64, String),
        pending: Vec<Chunk>,
    ) -> Self {
        let (signed, note) = signed;
        let durable = pending.last().map_or(signed, Chunk::end);
        let pending_bytes = pending.iter().map(|chunk| chunk.payload.len()).sum();
        let log = Log { durable, signed, note, pending: pending.into(), pending_bytes, ..Log::default() };
        Self {
            queue: Mutex::default(),
            writer: Condvar::new(),
            log: Mutex::new(log),
            integrator: Condvar::new(),
            changed: watch::Sender::new(durable),
            queue_max: usize::try_from(limits.ledger_queue_max).unwrap_or(usize::MAX),
            bytes_max: usize::try_from(limits.ledger_bytes_max).unwrap_or(usize::MAX),
            checkpoint_every: Duration::from_millis(every_ms),
            checkpoint_entries: entries,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an entry into the queue, under a number.
    pub(super) fn push(&self, entry: Vec<u8>) -> Result<(u64, Written), LedgerError> {
        let (done, receiver) = oneshot::channel();
        let mut queue = self.queue();
        if queue.closing {
            return Err(LedgerError::Closed);
        }
        if let Some(reason) = &queue.sick {
            return Err(LedgerError::Unavailable(reason.clone()));
        }
        if queue.waiting.len() >= self.queue_max || queue.bytes.saturating_add(entry.len()) > self.bytes_max {
            return Err(LedgerError::Busy);
        }
        queue.bytes += entry.len();
        queue.next += 1;
        let number = queue.next;
        queue.waiting.push(Waiting { number, entry, done });
        let first = queue.waiting.len() == 1;
        drop(queue);
        // Whoever finds the queue empty wakes the writer; the others ride along.
        if first {
            self.writer.notify_one();
        }
        Ok((number, receiver))
    }

    /// Takes an entry back that is still in the queue: it will not be written. False when it is being written already.
    pub(super) fn withdraw(&self, number: u64, done: &mut Written) -> bool {
        let queue = self.queue();
        let queued = queue.waiting.binary_search_by_key(&number, |waiting| waiting.number).is_ok();
        if queued {
            // While the lock is held, so that the writer cannot take it in between.
            done.close();
        }
        queued
    }

    /// Waits for work. `spare` is an empty buffer to swap in; a sick writer is woken to probe.
    pub(super) fn work(&self, spare: Vec<Waiting>, sick: Option<Duration>) -> Work {
        let mut queue = self.queue();
        queue.late = false;
        loop {
            if !queue.waiting.is_empty() {
                queue.bytes = 0;
                return Work::Entries(core::mem::replace(&mut queue.waiting, spare));
            }
            if queue.closing {
                return Work::Close;
            }
            let Some(pause) = sick else {
                queue = self.writer.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (again, waited) =
                self.writer.wait_timeout(queue, pause).unwrap_or_else(PoisonError::into_inner);
            queue = again;
            if waited.timed_out() {
                return Work::Probe;
            }
        }
    }

    /// Notes that the batch being written takes longer than its callers wait; over when the writer is back.
    pub(super) fn set_late(&self) {
        let mut queue = self.queue();
        if !core::mem::replace(&mut queue.late, true) {
            tracing::error!("the disk does not answer; calls are refused while the ledger waits for it");
        }
    }

    /// Says whether entries can be written; returns what was queued, when they cannot.
    pub(super) fn set_sick(&self, reason: Option<String>) -> Vec<Waiting> {
        let mut queue = self.queue();
        queue.sick = reason;
        if queue.sick.is_none() {
            return Vec::new();
        }
        queue.bytes = 0;
        core::mem::take(&mut queue.waiting)
    }

    /// Why entries cannot be taken because the checkpoints lag, if so.
    pub(super) fn room(&self) -> Result<(), String> {
        let log = self.log();
        if log.pending_bytes < self.bytes_max {
            return Ok(());
        }
        let reason = log.behind.as_deref().unwrap_or("the disk is slow");
        Err(format!("too much waits for a checkpoint (`limits.ledger_bytes_max`): {reason}"))
    }

    /// Whether so much waits that the next checkpoint does not wait for its time: many entries, or half the bytes
    /// beyond which calls are refused, since few large entries are as much to lose as many small ones.
    fn due(&self, log: &Log) -> bool {
        log.durable - log.signed >= self.checkpoint_entries || log.pending_bytes >= self.bytes_max / 2
    }

    /// Notes that a chunk is durable.
    pub(super) fn set_durable(&self, chunk: Chunk) {
        let mut log = self.log();
        let durable = chunk.end();
        log.durable = durable;
        log.pending_bytes += chunk.payload.len();
        log.pending.push_back(chunk);
        let due = self.due(&log);
        drop(log);
        if due {
            self.integrator.notify_one();
        }
        self.changed.send_replace(durable);
    }

    /// Waits until a checkpoint is due.
    pub(super) fn task(&self) -> Task {
        let log = self.log();
        let idle = |log: &mut Log| {
            // After a failure the clock decides, not the backlog.
            let due = self.due(log) && log.behind.is_none();
            !due && !log.closing && log.asking.is_empty()
        };
        let (mut log, _) = self
            .integrator
            .wait_timeout_while(log, self.checkpoint_every, idle)
            .unwrap_or_else(PoisonError::into_inner);
        Task {
            chunks: log.pending.iter().cloned().collect(),
            asking: core::mem::take(&mut log.asking),
            last: log.closing,
        }
    }

    /// Notes that everything up to `signed` is under `note`.
    pub(super) fn set_signed(&self, signed: u64, note: &str) {
        let mut log = self.log();
        log.signed = signed;
        note.clone_into(&mut log.note);
        log.behind = None;
        while let Some(chunk) = log.pending.pop_front_if(|chunk| chunk.end() <= signed) {
            log.pending_bytes = log.pending_bytes.saturating_sub(chunk.payload.len());
        }
    }

    /// Notes that no checkpoint can be made.
    pub(super) fn set_behind(&self, reason: String) {
        self.log().behind = Some(reason);
    }

    /// Asks for a checkpoint now.
    pub(super) fn ask(&self) -> Result<oneshot::Receiver<Result<String, LedgerError>>, LedgerError> {
        let (asking, receiver) = oneshot::channel();
        let mut log = self.log();
        if log.closing {
            return Err(LedgerError::Closed);
        }
        log.asking.push(asking);
        drop(log);
        self.integrator.notify_one();
        Ok(receiver)
    }

    /// The last checkpoint: its size and text.
    pub(super) fn signed(&self) -> (u64, String) {
        let log = self.log();
        (log.signed, log.note.clone())
    }

    /// The count of entries under the last checkpoint, and the chunks behind it that hold indexes of `from..to`.
    pub(super) fn pending(&self, from: u64, to: u64) -> (u64, Vec<Chunk>) {
        let log = self.log();
        let within = |chunk: &&Chunk| chunk.first < to && chunk.end() > from;
        (log.signed, log.pending.iter().filter(within).cloned().collect())
    }

    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn status(&self) -> LedgerStatus {
        let (queued, sick, closing) = {
            let queue = self.queue();
            let late = || queue.late.then(|| "the disk does not answer in time".to_owned());
            (queue.waiting.len(), queue.sick.clone().or_else(late), queue.closing)
        };
        let room = self.room();
        let log = self.log();
        LedgerStatus {
            size: log.durable + u64::try_from(queued).unwrap_or(0),
            durable: log.durable,
            signed: log.signed,
            healthy: sick.is_none() && room.is_ok() && !closing,
            error: sick.or(room.err()).or_else(|| log.behind.clone()),
            lag: log.durable - log.signed,
        }
    }

    /// Takes no more entries; the writer finishes what is queued.
    pub(super) fn close_queue(&self) {
        self.queue().closing = true;
        self.writer.notify_one();
    }

    /// The integrator makes a last checkpoint.
    pub(super) fn close_log(&self) {
        self.log().closing = true;
        self.integrator.notify_one();
    }
}
