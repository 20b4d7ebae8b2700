//! What changes while a log grows: the checkpoint, the tiles at the right edge and the write-ahead tail. They are read
//! first and together, so that a running gateway does not look like a damaged log.

use alloc::{collections::BTreeMap, format, string::String, vec, vec::Vec};

use portcullis_core::Digest;

use super::{Fault, LogFiles};
use crate::{
    Checkpoint, ProofError, VerifierKey,
    merkle::leaf_hash,
    tile::{Entries, Tile, partial_tiles},
    wal::{Frames, WAL_DIR, segment_first},
};

/// How often a log that moves on is read again.
const TRIES: usize = 16;

/// The moving parts of a log at one moment.
pub(super) struct Snapshot {
    pub(super) note: String,
    pub(super) checkpoint: Checkpoint,
    edge: BTreeMap<Tile, Vec<u8>>,
    /// Leaf hash and segment of each entry in the write-ahead log.
    logged: BTreeMap<u64, (Digest, usize)>,
    segments: Vec<String>,
    /// The index behind the last entry of the log, the tail included.
    pub(super) end: u64,
    pub(super) faults: Vec<Fault>,
}

impl Snapshot {
    /// Reads the moving parts until two looks at the checkpoint agree.
    pub(super) fn take(files: &dyn LogFiles, key: &VerifierKey) -> Result<Self, Vec<Fault>> {
        let mut last = Err(vec![Fault::Missing("checkpoint".into())]);
        for _ in 0..TRIES {
            last = Self::look(files, key);
            let now = files.read("checkpoint");
            let (steady, whole) = match &last {
                Ok(snapshot) => {
                    (now.as_deref() == Some(snapshot.note.as_bytes()), snapshot.faults.is_empty())
                }
                Err(_) => (false, false),
            };
            if steady && whole {
                break;
            }
        }
        last
    }

    fn look(files: &dyn LogFiles, key: &VerifierKey) -> Result<Self, Vec<Fault>> {
        let note = files.read("checkpoint").ok_or_else(|| vec![Fault::Missing("checkpoint".into())])?;
        let malformed = |_| vec![Fault::Checkpoint(ProofError::Checkpoint("not text"))];
        let note = String::from_utf8(note).map_err(malformed)?;
        let checkpoint = Checkpoint::open(&note, key).map_err(|error| vec![Fault::Checkpoint(error)])?;
        let edge = partial_tiles(checkpoint.size)
            .into_iter()
            .filter_map(|tile| Some((tile, files.read(&tile.path())?)))
            .collect();
        let mut snapshot = Self {
            note,
            end: checkpoint.size,
            checkpoint,
            edge,
            logged: BTreeMap::new(),
            segments: Vec::new(),
            faults: Vec::new(),
        };
        snapshot.read_wal(files);
        Ok(snapshot)
    }

    fn read_wal(&mut self, files: &dyn LogFiles) {
        let mut names: Vec<(u64, String)> = files
            .list(WAL_DIR)
            .into_iter()
            .filter_map(|name| Some((segment_first(&name)?, format!("{WAL_DIR}/{name}"))))
            .collect();
        names.sort();
        let mut next = None;
        for (first, path) in names {
            let Some(bytes) = files.read(&path) else {
                self.faults.push(Fault::Missing(path));
                continue;
            };
            // Segments under the checkpoint are removed as they please; behind it, nothing may be missing.
            if first > self.end {
                let (from, to) = (self.end, first.saturating_sub(1));
                self.faults.push(Fault::WalHole { from, to, path: path.clone() });
            }
            if next.is_some_and(|next| first < next) {
                self.faults.push(Fault::WalDamaged { path: path.clone(), offset: 0, index: first });
            }
            next = Some(self.read_segment(first, &path, &bytes));
            self.segments.push(path);
        }
    }

    /// Reads the frames of a segment; returns the index behind the last entry.
    fn read_segment(&mut self, first: u64, path: &str, bytes: &[u8]) -> u64 {
        let mut next = first;
        let mut frames = Frames::of(bytes);
        loop {
            let offset = frames.offset();
            match frames.read() {
                Ok(None) => return next,
                Ok(Some(frame)) if frame.first != next => {
                    self.faults.push(Fault::WalDamaged { path: path.into(), offset, index: next });
                    return next;
                }
                Ok(Some(frame)) => {
                    for (index, entry) in (frame.first..).zip(Entries::of(frame.payload)) {
                        self.logged.insert(index, (leaf_hash(entry), self.segments.len()));
                    }
                    next = frame.end();
                    self.end = self.end.max(next);
                }
                Err(broken) => {
                    let (path, offset, index) = (path.into(), broken.offset, next);
                    self.faults.push(if broken.frames_follow {
                        Fault::WalDamaged { path, offset, index }
                    } else {
                        Fault::WalTorn { path, offset, index }
                    });
                    return next;
                }
            }
        }
    }

    /// The bytes of a tile; those of the right edge as they were when the checkpoint was read.
    pub(super) fn read(&self, files: &dyn LogFiles, tile: Tile) -> Option<Vec<u8>> {
        self.edge.get(&tile).cloned().or_else(|| files.read(&tile.path()))
    }

    /// The leaf hash of an entry that is (also) in the write-ahead log, and the segment.
    pub(super) fn logged(&self, index: u64) -> Option<(Digest, String)> {
        let (hash, segment) = self.logged.get(&index)?;
        Some((*hash, self.segments.get(*segment).cloned().unwrap_or_default()))
    }

    /// The entries behind the checkpoint.
    pub(super) fn tail(&self) -> impl Iterator<Item = (u64, Digest)> {
        self.logged.range(self.checkpoint.size..).map(|(index, (hash, _))| (*index, *hash))
    }
}
