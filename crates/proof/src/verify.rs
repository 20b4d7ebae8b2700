//! Checks a whole log: each entry against its hash, each hash against the signed root, the write-ahead tail behind the
//! checkpoint, and an older checkpoint against all of it. Needs the log's files and its public key, nothing else.

mod side;
mod snapshot;

use alloc::{string::String, vec::Vec};

use portcullis_core::Digest;

use self::{side::Side, snapshot::Snapshot};
use crate::{
    Checkpoint, ProofError, VerifierKey,
    merkle::leaf_hash,
    tile::{Entries, TILE_WIDTH, Tile, parse_hashes},
};

/// Faults that are listed; a log that is damaged everywhere is not worth more.
pub const FAULTS_MAX: usize = 100;

/// The files of a log.
pub trait LogFiles {
    /// The bytes of the file at `path` (relative, with `/`), or `None` when there is none.
    fn read(&self, path: &str) -> Option<Vec<u8>>;

    /// The names in the directory `dir`; empty when there is none, or when names cannot be listed.
    fn list(&self, dir: &str) -> Vec<String>;
}

/// A log without a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Entries under the checkpoint.
    pub size: u64,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The text of the checkpoint, worth keeping: `--since` takes it.
    pub note: String,
    /// Entries behind the checkpoint that are durable and whole, but not signed yet.
    pub pending: u64,
}

/// One thing that is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes of a bundle do not split into entries.
    #[error("`{path}` does not hold {expected} entries: broken or cut at entry {index}")]
    Bundle {
        /// The file.
        path: String,
        /// Entries it should hold.
        expected: u64,
        /// The first entry that is not there.
        index: u64,
    },
    /// The checkpoint is not one of the key.
    #[error("`checkpoint`: {0}")]
    Checkpoint(ProofError),
    /// An entry is not the one that was signed.
    #[error("entry {index} in `{path}` was changed: its hash is not the one under the signed root")]
    Entry {
        /// Which entry.
        index: u64,
        /// The bundle.
        path: String,
    },
    /// Nothing fits the signed root: entries and hashes were both changed, or others were signed.
    #[error("the entries do not lead to the root of `checkpoint`")]
    Root,
    /// The log contradicts the older checkpoint.
    #[error(
        "history was rewritten: the first {size} entries do not lead to the root of the older checkpoint"
    )]
    Inconsistent {
        /// Size of the older checkpoint.
        size: u64,
    },
    /// A file is missing.
    #[error("`{0}` is missing")]
    Missing(String),
    /// The log is shorter than the older checkpoint says.
    #[error(
        "the log was put back to an older state: it holds {found} entries, the older checkpoint covers {since}"
    )]
    Older {
        /// Entries found, the tail included.
        found: u64,
        /// Entries under the older checkpoint.
        since: u64,
    },
    /// A tile does not hold the hashes under the signed root.
    #[error("`{path}` was changed: it does not hold the hashes under the signed root")]
    Tile {
        /// The file.
        path: String,
    },
    /// A segment of the write-ahead log is damaged, with whole frames behind the damage.
    #[error("`{path}` is damaged at byte {offset}, before entry {index} ends")]
    WalDamaged {
        /// The file.
        path: String,
        /// Where.
        offset: usize,
        /// The first entry that cannot be read.
        index: u64,
    },
    /// An entry in the write-ahead log is another one than in the tiles.
    #[error("entry {index} in `{path}` is not the one in the tiles")]
    WalDiffers {
        /// Which entry.
        index: u64,
        /// The file.
        path: String,
    },
    /// Entries between the tiles and the write-ahead log, or between segments, are missing.
    #[error("entries {from} to {to} are missing before `{path}`")]
    WalHole {
        /// The first missing entry.
        from: u64,
        /// The last missing entry.
        to: u64,
        /// The segment behind the hole.
        path: String,
    },
    /// The write-ahead log is cut in the middle of a batch. A crash does that, and the next start of the gateway
    /// repairs and records it; so does a cut or a flipped bit in the last batch.
    #[error("`{path}` ends inside a batch at byte {offset}: entry {index} and later are cut or damaged")]
    WalTorn {
        /// The file.
        path: String,
        /// Where.
        offset: usize,
        /// The first entry that cannot be read.
        index: u64,
    },
}

/// Checks the log in `files` against `key`, and against the checkpoint `since` that was kept from an earlier time.
///
/// # Errors
/// Everything that is wrong, up to [`FAULTS_MAX`].
pub fn verify(
    files: &dyn LogFiles,
    key: &VerifierKey,
    since: Option<&Checkpoint>,
) -> Result<Report, Vec<Fault>> {
    let snapshot = Snapshot::take(files, key)?;
    let mut walk = Walk::new(files, &snapshot, since);
    for bundle in 0..snapshot.checkpoint.size.div_ceil(TILE_WIDTH) {
        walk.bundle(bundle);
        if walk.faults() >= FAULTS_MAX {
            break;
        }
    }
    let mut faults = walk.finish();
    faults.truncate(FAULTS_MAX);
    if !faults.is_empty() {
        return Err(faults);
    }
    let Snapshot { note, checkpoint, end, .. } = snapshot;
    Ok(Report { size: checkpoint.size, pending: end.saturating_sub(checkpoint.size), checkpoint, note })
}

/// The state of a check on its way through the entries.
struct Walk<'w> {
    files: &'w dyn LogFiles,
    snapshot: &'w Snapshot,
    since: Option<&'w Checkpoint>,
    /// The tree over the entries, and the tree over the hashes in the lowest tiles. The root tells which is true.
    entries: Side,
    tiles: Side,
    /// Faults whatever the root says.
    certain: Vec<Fault>,
}

impl<'w> Walk<'w> {
    fn new(files: &'w dyn LogFiles, snapshot: &'w Snapshot, since: Option<&'w Checkpoint>) -> Self {
        let at = since.map(|since| since.size);
        let certain = snapshot.faults.clone();
        Self { files, snapshot, since, entries: Side::new(at), tiles: Side::new(at), certain }
    }

    fn faults(&self) -> usize {
        self.certain.len() + self.entries.faults.len().max(self.tiles.faults.len())
    }

    /// Compares one bundle with its tile of hashes.
    fn bundle(&mut self, index: u64) {
        let size = self.snapshot.checkpoint.size;
        let width = (size - index * TILE_WIDTH).min(TILE_WIDTH);
        let bundle = Tile { level: None, index, width };
        let tile = Tile { level: Some(0), index, width };
        let hashes = self.hashes(tile);
        let bytes = self.read(bundle);
        let mut entries = Entries::of(bytes.as_deref().unwrap_or(&[]));
        let mut broken = None;
        for i in 0..width {
            let at = index * TILE_WIDTH + i;
            let stored = usize::try_from(i).ok().and_then(|i| hashes.get(i)).copied();
            let computed = entries.next().map(leaf_hash);
            if computed.is_none() {
                broken = broken.or(Some(at));
            }
            if let (Some(computed), Some(stored)) = (computed, stored)
                && computed != stored
            {
                // If the tiles lead to the root, the entry was changed; if the entries do, the tile was.
                self.tiles.fault(Fault::Entry { index: at, path: bundle.path() });
                self.entries.fault(Fault::Tile { path: tile.path() });
            }
            self.compare_wal(at, computed.or(stored));
            let neither = Digest([0; 32]);
            self.entries.append(computed.or(stored).unwrap_or(neither), self.files, self.snapshot);
            self.tiles.append(stored.or(computed).unwrap_or(neither), self.files, self.snapshot);
        }
        if bytes.is_some() && broken.is_none() && !entries.rest().is_empty() {
            broken = Some(index * TILE_WIDTH + width);
        }
        if let (Some(at), true) = (broken, bytes.is_some()) {
            self.certain.push(Fault::Bundle { path: bundle.path(), expected: width, index: at });
        }
    }

    fn compare_wal(&mut self, index: u64, hash: Option<Digest>) {
        if let (Some((logged, path)), Some(hash)) = (self.snapshot.logged(index), hash)
            && logged != hash
        {
            self.certain.push(Fault::WalDiffers { index, path });
        }
    }

    fn read(&mut self, tile: Tile) -> Option<Vec<u8>> {
        let bytes = self.snapshot.read(self.files, tile);
        if bytes.is_none() {
            self.certain.push(Fault::Missing(tile.path()));
        }
        bytes
    }

    /// The hashes of a lowest tile, as far as it has the right size.
    fn hashes(&mut self, tile: Tile) -> Vec<Digest> {
        let Some(bytes) = self.read(tile) else { return Vec::new() };
        parse_hashes(&bytes, tile.width).unwrap_or_else(|| {
            self.certain.push(Fault::Tile { path: tile.path() });
            Vec::new()
        })
    }

    /// The faults, when all bundles are through.
    fn finish(mut self) -> Vec<Fault> {
        let checkpoint = &self.snapshot.checkpoint;
        for side in [&mut self.entries, &mut self.tiles] {
            side.partial(self.files, self.snapshot);
        }
        let by_entries = self.entries.root() == checkpoint.root;
        let by_tiles = self.tiles.root() == checkpoint.root;
        for (_, hash) in self.snapshot.tail() {
            self.entries.append_unchecked(hash);
            self.tiles.append_unchecked(hash);
        }
        let side = if by_tiles && !by_entries { self.tiles } else { self.entries };
        let mut faults = self.certain;
        if let Some(since) = self.since {
            match side.root_at_since() {
                Some(root) if root == since.root => {}
                // A changed entry has its own fault; only a log that is whole can be said to be rewritten.
                Some(_) if by_entries || by_tiles => faults.push(Fault::Inconsistent { size: since.size }),
                Some(_) => {}
                None => faults.push(Fault::Older { found: self.snapshot.end, since: since.size }),
            }
        }
        faults.extend(side.faults);
        if !by_entries && !by_tiles {
            faults.push(Fault::Root);
        }
        faults
    }
}

#[cfg(test)]
mod tests;
