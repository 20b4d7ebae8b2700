//! Opens what an earlier process left: cuts a torn tail, and refuses a ledger that contradicts itself, its signature,
//! or a checkpoint that was kept elsewhere.

use std::{fs::OpenOptions, path::Path};

use portcullis_core::Digest;
use portcullis_proof::{
    Checkpoint, ProofError, SigningKey, VerifierKey,
    merkle::{leaf_hash, root},
    tile::{Entries, TILE_WIDTH, Tile, TileNodes, Tree, parse_hashes, push_entry},
    verify::LogFiles,
    wal::Frames,
};

use super::{
    CheckpointKeeper, LedgerError,
    disk::LogDir,
    integrate::{CHECKPOINT, publish},
    shared::Chunk,
};

/// What opening the ledger found and repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Entries in the ledger.
    pub size: u64,
    /// Entries that were durable but not yet under a checkpoint: the last end was not in order.
    pub replayed: u64,
    /// The segment whose end was torn, and the bytes cut off. They were never acknowledged.
    pub torn: Option<(String, u64)>,
}

impl Recovery {
    /// Whether the last process ended in order.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.replayed == 0 && self.torn.is_none()
    }
}

/// The state of a log on disk.
pub(super) struct Opened {
    pub(super) note: String,
    pub(super) tree: Tree,
    pub(super) bundle: Vec<u8>,
    pub(super) pending: Vec<Chunk>,
    pub(super) recovery: Recovery,
}

const HINT: &str = "hint: `portcullis audit verify` names what is wrong; restore the directory from a copy";

fn damaged(what: impl core::fmt::Display) -> LedgerError {
    LedgerError::Damaged(format!("the ledger is damaged: {what}; {HINT}"))
}

/// Reads the log in `dir`, starting one when there is none.
pub(super) fn open(
    dir: &LogDir,
    key: &SigningKey,
    keeper: &dyn CheckpointKeeper,
) -> Result<Opened, LedgerError> {
    let verifier = key.verifier();
    let kept = keeper.load(key.name()).map_err(|error| LedgerError::Unavailable(error.to_string()))?;
    let kept = kept.map(|note| Checkpoint::open(&note, &verifier)).transpose();
    let kept = kept.map_err(|error| {
        LedgerError::Damaged(format!(
            "the checkpoint kept in the store does not fit the ledger's key: {error}; hint: restore the key file, or the store that belongs to it; of several gateways on one store each has its own `ledger.origin`"
        ))
    })?;
    let note = match dir.read(CHECKPOINT) {
        Some(note) => String::from_utf8(note).map_err(|_| damaged("`checkpoint` is not text"))?,
        None => start(dir, key, keeper, kept.as_ref())?,
    };
    let checkpoint =
        Checkpoint::open(&note, &verifier).map_err(|error| damaged(format_args!("`checkpoint`: {error}")))?;
    let tree = load_tree(dir, &checkpoint)?;
    let bundle = load_bundle(dir, &tree)?;
    let mut recovery = Recovery::default();
    let pending = replay(dir, checkpoint.size, &mut recovery)?;
    let size = pending.last().map_or(checkpoint.size, Chunk::end);
    (recovery.size, recovery.replayed) = (size, size - checkpoint.size);
    match &kept {
        Some(kept) => compare(dir, &checkpoint, kept, &tree, &pending)?,
        // Of a ledger that has just been started there is no older copy.
        None if size > 0 => tracing::warn!(
            "no checkpoint was kept in the store; an older copy of the ledger would go unnoticed"
        ),
        None => {}
    }
    Ok(Opened { note, tree, bundle, pending, recovery })
}

/// The key that checks what `key` signed, for messages and files.
pub(super) fn verifier_text(key: &VerifierKey) -> String {
    format!("{key}\n")
}

/// Publishes the checkpoint of the empty log, so that a missing one is damage ever after.
fn start(
    dir: &LogDir,
    key: &SigningKey,
    keeper: &dyn CheckpointKeeper,
    kept: Option<&Checkpoint>,
) -> Result<String, LedgerError> {
    if let Some(kept) = kept.filter(|kept| kept.size > 0) {
        return Err(LedgerError::Older { found: 0, kept: kept.size });
    }
    if !dir.segments().is_empty() {
        return Err(damaged("`checkpoint` is missing"));
    }
    publish(dir, &Tree::default(), key, keeper).map_err(LedgerError::Unavailable)
}

fn load_tree(dir: &LogDir, checkpoint: &Checkpoint) -> Result<Tree, LedgerError> {
    let read = |tile: Tile| {
        let missing = || ProofError::Tile(tile.path());
        let bytes = dir.tile(tile).ok_or_else(missing)?;
        // The file may be the full tile by now.
        let width = usize::try_from(tile.width).map_err(|_| missing())?;
        parse_hashes(bytes.get(..width * 32).ok_or_else(missing)?, tile.width).ok_or_else(missing)
    };
    let tree = Tree::load(checkpoint.size, read).map_err(damaged)?;
    if tree.root() == checkpoint.root {
        return Ok(tree);
    }
    Err(damaged(format_args!(
        "the tiles do not lead to the root of `checkpoint` ({} entries)",
        checkpoint.size
    )))
}

/// The entries of the last bundle, when it is not full.
fn load_bundle(dir: &LogDir, tree: &Tree) -> Result<Vec<u8>, LedgerError> {
    let width = tree.size() % TILE_WIDTH;
    let tile = Tile { level: None, index: tree.size() / TILE_WIDTH, width };
    let mut bundle = Vec::new();
    if width == 0 {
        return Ok(bundle);
    }
    let hashes: Vec<Digest> = tree
        .partial()
        .find(|(tile, _)| tile.level == Some(0))
        .map(|(_, hashes)| hashes.to_vec())
        .unwrap_or_default();
    let bytes = dir.tile(tile).ok_or_else(|| damaged(format_args!("`{}` is missing", tile.path())))?;
    let mut entries = Entries::of(&bytes);
    for (i, hash) in hashes.iter().enumerate() {
        let entry = entries.next().filter(|entry| leaf_hash(entry) == *hash);
        if !entry.is_some_and(|entry| push_entry(&mut bundle, entry)) {
            return Err(damaged(format_args!("entry {i} of `{}` was changed", tile.path())));
        }
    }
    Ok(bundle)
}

/// The entries of the write-ahead log behind the checkpoint over `size` entries. Cuts a torn tail.
fn replay(dir: &LogDir, size: u64, recovery: &mut Recovery) -> Result<Vec<Chunk>, LedgerError> {
    let mut pending: Vec<Chunk> = Vec::new();
    let segments = dir.segments();
    for (i, first) in segments.iter().enumerate() {
        let path = dir.segment(*first);
        let end = pending.last().map_or(size, Chunk::end);
        if *first > end {
            let last = first - 1;
            return Err(damaged(format_args!(
                "entries {end} to {last} before `{}` are missing",
                path.display()
            )));
        }
        let bytes = std::fs::read(&path).map_err(|error| {
            LedgerError::Unavailable(format!("`{}` cannot be read: {error}", path.display()))
        })?;
        let is_last = i + 1 == segments.len();
        let whole = replay_segment(&bytes, *first, size, &mut pending);
        let (next, whole_bytes) = match whole {
            Ok(end) => end,
            Err((index, offset)) => {
                let place = format!("`{}` at byte {offset}, entry {index}", path.display());
                return Err(damaged(format_args!("{place} cannot be read, but whole batches follow")));
            }
        };
        if whole_bytes == bytes.len() {
            continue;
        }
        if !is_last || next < size {
            let place = format!("`{}` at byte {whole_bytes}, entry {next}", path.display());
            return Err(damaged(format_args!("{place} cannot be read, but later entries were acknowledged")));
        }
        recovery.torn = Some((path.display().to_string(), lossless(bytes.len() - whole_bytes)));
        cut(&path, lossless(whole_bytes)).map_err(|error| {
            LedgerError::Unavailable(format!("the torn end of `{}` cannot be cut: {error}", path.display()))
        })?;
    }
    Ok(pending)
}

/// Adds the chunks of a segment. Returns the index and the offset behind the last whole frame, as an error when
/// whole frames follow a broken one or an index does not follow the one before.
fn replay_segment(
    bytes: &[u8],
    first: u64,
    size: u64,
    pending: &mut Vec<Chunk>,
) -> Result<(u64, usize), (u64, usize)> {
    let mut frames = Frames::of(bytes);
    let mut next = first;
    loop {
        let offset = frames.offset();
        match frames.read() {
            // Room for more is the end as well.
            Ok(None) => return Ok((next, bytes.len())),
            Ok(Some(frame)) if frame.first != next => return Err((next, offset)),
            Ok(Some(frame)) => {
                next = frame.end();
                let known = pending.last().map_or(size, Chunk::end);
                if frame.end() <= size {
                    continue;
                }
                if frame.first < known {
                    return Err((frame.first, offset));
                }
                pending.push(Chunk { first: frame.first, count: frame.count, payload: frame.payload.into() });
            }
            Err(broken) if broken.frames_follow => return Err((next, offset)),
            Err(_) => return Ok((next, offset)),
        }
    }
}

fn cut(path: &Path, len: u64) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(len)?;
    file.sync_all()
}

fn lossless(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Refuses a log that is older than the checkpoint kept elsewhere, or another one.
fn compare(
    dir: &LogDir,
    checkpoint: &Checkpoint,
    kept: &Checkpoint,
    tree: &Tree,
    pending: &[Chunk],
) -> Result<(), LedgerError> {
    let found = pending.last().map_or(checkpoint.size, Chunk::end);
    if kept.size > found {
        return Err(LedgerError::Older { found, kept: kept.size });
    }
    let kept_root = if kept.size <= checkpoint.size {
        let read = |path: &str| dir.read(path);
        root(&TileNodes::new(checkpoint.size, &read), kept.size).map_err(damaged)?
    } else {
        // A crash between keeping and publishing: the entries are in the write-ahead log.
        let mut tree = tree.clone();
        let mut full = Vec::new();
        for entry in pending.iter().flat_map(|chunk| Entries::of(&chunk.payload)) {
            if tree.size() < kept.size {
                tree.append(entry, &mut full);
            }
        }
        tree.root()
    };
    if kept_root == kept.root {
        return Ok(());
    }
    Err(damaged(format_args!(
        "its first {} entries are not those under the checkpoint kept in the store",
        kept.size
    )))
}
