//! The write-ahead segments of the ledger: entries that are durable before they are in tiles. One frame is one batch,
//! acknowledged as a whole; its payload has the form of an entry bundle.
//!
//! Frame: magic, payload length, index of the first entry, count, CRC-32C of these; CRC-32C of the payload; payload.
//! Numbers are big-endian. A segment is `wal/<index of its first entry, 20 digits>`: frames, and behind the last one
//! nothing or zeros, the room that a writer made beforehand so that a flush need not change the file's size.

use alloc::{format, string::String, vec::Vec};

use crate::tile::{Entries, push_entry};

/// Where the segments are, relative to the log's directory.
pub const WAL_DIR: &str = "wal";

/// Bytes in front of a payload.
pub const HEADER_BYTES: usize = 28;

/// The largest payload. A writer starts another frame before.
pub const PAYLOAD_BYTES_MAX: usize = 8 << 20;

const MAGIC: [u8; 4] = *b"PWL1";

/// Payloads that are checked when looking for frames behind a broken one; more means the same as one.
const CANDIDATES_MAX: usize = 64;

/// The file name of the segment that starts with entry `first`.
#[must_use]
pub fn segment_name(first: u64) -> String {
    format!("{first:020}")
}

/// The index in the name of a segment.
#[must_use]
pub fn segment_first(name: &str) -> Option<u64> {
    let digits = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
    if digits { name.parse().ok() } else { None }
}

/// A frame in the making. Its buffer is used again.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    count: u32,
}

impl Batch {
    /// Starts over.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(HEADER_BYTES, 0);
        self.count = 0;
    }

    /// How many entries it has.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Adds an entry; false when it does not fit this frame.
    #[must_use]
    pub fn push(&mut self, entry: &[u8]) -> bool {
        if self.bytes.is_empty() {
            self.clear();
        }
        let fits = self.bytes.len() + entry.len() + 2 <= HEADER_BYTES + PAYLOAD_BYTES_MAX;
        if fits && push_entry(&mut self.bytes, entry) {
            self.count += 1;
            return true;
        }
        false
    }

    /// The frame, when its first entry has index `first`.
    pub fn seal(&mut self, first: u64) -> &[u8] {
        let payload = self.payload();
        let (len, payload_crc) = (u32::try_from(payload.len()).unwrap_or(u32::MAX), crc32c::crc32c(payload));
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&len.to_be_bytes());
        header.extend_from_slice(&first.to_be_bytes());
        header.extend_from_slice(&self.count.to_be_bytes());
        let crc = crc32c::crc32c(&header);
        header.extend_from_slice(&crc.to_be_bytes());
        header.extend_from_slice(&payload_crc.to_be_bytes());
        for (to, from) in self.bytes.iter_mut().zip(header) {
            *to = from;
        }
        &self.bytes
    }

    /// The entries in the form of a bundle.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or(&[])
    }
}

/// A batch of entries that was written whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'b> {
    /// Index of the first entry.
    pub first: u64,
    /// How many entries.
    pub count: u32,
    /// The entries, in the form of a bundle.
    pub payload: &'b [u8],
}

impl<'b> Frame<'b> {
    /// The index behind the last entry.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }

    /// The frame at the start of `bytes`, if it is whole, and what follows it.
    fn read(bytes: &'b [u8]) -> Option<(Self, &'b [u8])> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let (magic, fields) = header.split_first_chunk::<4>()?;
        let (len, fields) = fields.split_first_chunk::<4>()?;
        let (first, fields) = fields.split_first_chunk::<8>()?;
        let (count, fields) = fields.split_first_chunk::<4>()?;
        let (crc, fields) = fields.split_first_chunk::<4>()?;
        let (payload_crc, _) = fields.split_first_chunk::<4>()?;
        let covered = header.get(..20)?;
        if *magic != MAGIC || crc32c::crc32c(covered) != u32::from_be_bytes(*crc) {
            return None;
        }
        let (payload, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
        if crc32c::crc32c(payload) != u32::from_be_bytes(*payload_crc) {
            return None;
        }
        let frame = Self { first: u64::from_be_bytes(*first), count: u32::from_be_bytes(*count), payload };
        let mut entries = Entries::of(payload);
        let count = entries.by_ref().count();
        let whole = entries.rest().is_empty() && u32::try_from(count).ok() == Some(frame.count) && count > 0;
        whole.then_some((frame, rest))
    }
}

/// The frames of a segment broke off before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Where in the segment.
    pub offset: usize,
    /// Whether whole frames follow. A crash cannot leave that behind: a batch is only written after the one before it
    /// is durable.
    pub frames_follow: bool,
}

/// The frames of a segment, in order.
#[derive(Clone, Debug)]
pub struct Frames<'b> {
    bytes: &'b [u8],
    offset: usize,
}

impl<'b> Frames<'b> {
    /// The frames of the segment with these bytes.
    #[must_use]
    pub const fn of(bytes: &'b [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Bytes of the frames read so far.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// When the bytes at hand are no whole frame.
    pub fn read(&mut self) -> Result<Option<Frame<'b>>, Broken> {
        let rest = self.bytes.get(self.offset..).unwrap_or(&[]);
        if rest.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let Some((frame, after)) = Frame::read(rest) else {
            return Err(Broken { offset: self.offset, frames_follow: holds_frame(rest) });
        };
        self.offset = self.bytes.len() - after.len();
        Ok(Some(frame))
    }
}

/// Whether a whole frame starts anywhere behind the first byte.
fn holds_frame(bytes: &[u8]) -> bool {
    let candidates = bytes.windows(MAGIC.len()).enumerate().skip(1).filter(|(_, window)| **window == MAGIC);
    let mut checked = 0;
    for (at, _) in candidates {
        checked += 1;
        if checked > CANDIDATES_MAX || bytes.get(at..).and_then(Frame::read).is_some() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
