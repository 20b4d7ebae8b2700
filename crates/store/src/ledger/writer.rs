//! The writer: one thread that makes entries durable, as many with one flush as came during the last one.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    sync::Arc,
    time::Duration,
};

use portcullis_proof::wal::{Batch, Frames};

use super::{
    LedgerError,
    disk::{LogDir, make_room},
    shared::{Chunk, Shared, Waiting, Work},
};

/// A segment that grew beyond this is followed by another.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Zeros that are written at a time in front of the entries to come.
const ROOM_BYTES: u64 = 256 << 10;

/// A flush costs some 50 µs of processor time however many share it. Where several callers waited last time, a short
/// pause lets more of them share the next one; a lone caller never pauses.
const GATHER_PER_CALLER: Duration = Duration::from_micros(20);
const GATHER_MAX: Duration = Duration::from_micros(300);

/// How often a sick disk is tried.
const PROBE_EVERY: Duration = Duration::from_millis(250);

/// What must fit on the disk, beside a segment with its room, before it counts as well: more than one batch of usual
/// size.
const PROBE_BYTES: usize = 256 << 10;

/// The end of the log: where the next batch goes.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    dir: LogDir,
    file: File,
    /// Index of the segment's first entry, its durable length, and where its room ends.
    first: u64,
    len: u64,
    room: u64,
    /// Index of the next entry.
    next: u64,
    batch: Batch,
    sick: bool,
}

impl Writer {
    /// A writer whose next entry is `next`, in a new segment.
    pub(super) fn new(shared: Arc<Shared>, dir: LogDir, next: u64) -> io::Result<Self> {
        let file = dir.create_segment(next, ROOM_BYTES)?;
        let (len, room, batch) = (0, ROOM_BYTES, Batch::default());
        Ok(Self { shared, dir, file, first: next, len, room, next, batch, sick: false })
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut spare = Vec::new();
        loop {
            let pause = self.sick.then_some(PROBE_EVERY);
            match self.shared.work(core::mem::take(&mut spare), pause) {
                Work::Close => {
                    // What is left of the room is of no use to anybody.
                    let _ = self.file.set_len(self.len);
                    return;
                }
                Work::Entries(mut waiting) => {
                    let callers = u32::try_from(waiting.len()).unwrap_or(u32::MAX);
                    self.write(&mut waiting);
                    if callers > 1 && !self.sick {
                        std::thread::sleep(GATHER_PER_CALLER.saturating_mul(callers).min(GATHER_MAX));
                    }
                    spare = waiting;
                }
                Work::Probe => self.probe(),
            }
        }
    }

    /// Writes what was queued, in as few frames as it fits.
    fn write(&mut self, waiting: &mut Vec<Waiting>) {
        let mut acks = Vec::with_capacity(waiting.len());
        self.batch.clear();
        for Waiting { entry, done, .. } in waiting.drain(..) {
            // Who gave up waiting must not find the entry written later: the call was not made.
            if done.is_closed() {
                continue;
            }
            if !self.batch.push(&entry) {
                self.flush(&mut acks);
                if !self.batch.push(&entry) {
                    let _ = done.send(Err(LedgerError::TooLarge(entry.len())));
                    continue;
                }
            }
            acks.push(done);
        }
        self.flush(&mut acks);
    }

    /// Makes the batch durable and tells everybody in it.
    fn flush(&mut self, acks: &mut Vec<tokio::sync::oneshot::Sender<Result<u64, LedgerError>>>) {
        if self.batch.count() == 0 {
            return;
        }
        let result = if self.sick {
            Err("writing failed just before".to_owned())
        } else {
            self.shared.room().and_then(|()| self.append().inspect_err(|reason| self.fail(reason)))
        };
        match result {
            Ok(first) => {
                for (index, done) in (first..).zip(acks.drain(..)) {
                    let _ = done.send(Ok(index));
                }
            }
            Err(reason) => refuse(acks.drain(..), &reason),
        }
        self.batch.clear();
        if !self.sick && self.len > SEGMENT_BYTES {
            self.rotate();
        }
    }

    /// Writes the batch and flushes it; returns the index of its first entry.
    fn append(&mut self) -> Result<u64, String> {
        let first = self.next;
        let frame = self.batch.seal(first);
        let end = self.len + u64::try_from(frame.len()).unwrap_or(u64::MAX);
        let written = extend(&self.file, &mut self.room, end)
            .and_then(|()| self.file.write_all_at(frame, self.len))
            .and_then(|()| self.file.sync_data());
        written.map_err(|error| error.to_string())?;
        self.len = end;
        self.next += u64::from(self.batch.count());
        let payload = Arc::from(self.batch.payload());
        self.shared.set_durable(Chunk { first, count: self.batch.count(), payload });
        Ok(first)
    }
}

/// What happens when the disk fails.
impl Writer {
    /// Refuses everything until a probe succeeds. After a failed flush nobody knows what is on the disk: the kernel
    /// may have dropped the pages and call the next flush a success. So the batch is cut off again, and no later
    /// flush of the same file is taken as proof of it.
    fn fail(&mut self, reason: &str) {
        tracing::error!(reason, "the ledger cannot be written; calls are refused until it can");
        self.sick = true;
        let _ = self.file.set_len(self.len);
        let queued = self.shared.set_sick(Some(reason.to_owned()));
        refuse(queued.into_iter().map(|waiting| waiting.done), reason);
    }

    fn probe(&mut self) {
        match self.recover() {
            Ok(()) => {
                self.sick = false;
                self.shared.set_sick(None);
                tracing::info!(next = self.next, "the ledger can be written again");
            }
            Err(error) => {
                tracing::debug!(%error, "the ledger still cannot be written");
                let reason = error.to_string();
                let queued = self.shared.set_sick(Some(reason.clone()));
                refuse(queued.into_iter().map(|waiting| waiting.done), &reason);
            }
        }
    }

    /// Cuts what was not acknowledged off the segment, checks what was, and starts another segment.
    fn recover(&mut self) -> io::Result<()> {
        match OpenOptions::new().read(true).write(true).open(self.dir.segment(self.first)) {
            Ok(file) => self.check(&file)?,
            // A new segment that was begun and failed lets the integrator take this one for done with, once a
            // checkpoint covers all of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.shared.signed().0 >= self.next => {}
            Err(error) => return Err(error),
        }
        self.dir.probe(PROBE_BYTES)?;
        self.start_segment()
    }

    fn check(&self, file: &File) -> io::Result<()> {
        file.set_len(self.len)?;
        file.sync_all()?;
        let mut bytes = vec![0; usize::try_from(self.len).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        let mut frames = Frames::of(&bytes);
        let mut end = self.first;
        while let Some(frame) = frames.read().map_err(|_| io::Error::other("the segment is damaged"))? {
            end = frame.end();
        }
        if end != self.next {
            return Err(io::Error::other("the segment does not hold what was acknowledged"));
        }
        Ok(())
    }

    fn rotate(&mut self) {
        if let Err(error) = self.start_segment() {
            self.fail(&format!("no new segment can be created: {error}"));
        }
    }

    fn start_segment(&mut self) -> io::Result<()> {
        let file = self.dir.create_segment(self.next, ROOM_BYTES)?;
        let full = core::mem::replace(&mut self.file, file);
        if !self.sick {
            // Zeros behind the last frame mean its end as well, so nothing depends on this.
            let _ = full.set_len(self.len);
        }
        (self.first, self.len, self.room) = (self.next, 0, ROOM_BYTES);
        Ok(())
    }
}

/// Sees to it that what ends at `end` overwrites room. The zeros need no flush of their own: the next one is for both.
fn extend(file: &File, room: &mut u64, end: u64) -> io::Result<()> {
    if end > *room {
        // The frame itself fills what lies before its end.
        make_room(file, end, end + ROOM_BYTES)?;
        *room = end + ROOM_BYTES;
    }
    Ok(())
}

fn refuse(acks: impl Iterator<Item = tokio::sync::oneshot::Sender<Result<u64, LedgerError>>>, reason: &str) {
    for done in acks {
        let _ = done.send(Err(LedgerError::Unavailable(reason.to_owned())));
    }
}
