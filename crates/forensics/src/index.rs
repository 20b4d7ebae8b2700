//! The index: one SQLite file beside the ledger, filled from the ledger's files as checkpoints come. Every entry that
//! goes in is hashed into the same Merkle tree, and the index answers only up to where that tree had the root of a signed
//! checkpoint. A step is one transaction: a crash leaves the step before it.

mod tables;

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use portcullis_core::{Digest, Timestamp};
use portcullis_proof::{
    Checkpoint,
    merkle::leaf_hash,
    tile::{Entries, TILE_WIDTH, Tree, hash_bytes, parse_hashes},
};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use serde_json::Value;

pub(crate) use self::tables::LEAF_BYTES;
use self::tables::{FORMAT, OURS, SHELVE, TABLES};
use crate::{ForensicsError, Shelf, words};

/// Bundles of 256 entries in one step at most: some ten megabytes.
const STEP_BUNDLES: u64 = 16;
/// Bytes that are left to the ledger on the disk of the index.
const SPACE_LEFT: u64 = 256 << 20;

/// How far the index is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    /// Entries in the index.
    pub indexed: u64,
    /// Entries that led to the root of a signed checkpoint: answers are complete up to here.
    pub complete: u64,
    /// Entries under the checkpoint of the ledger now.
    pub signed: u64,
    /// The signed checkpoint up to which answers are complete.
    pub checkpoint: Option<String>,
    /// Why the index does not go on, where the ledger was changed.
    pub refused: Option<String>,
    /// Bytes of the index file.
    pub bytes: u64,
}

/// The state of the index, as its file has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) indexed: u64,
    pub(crate) complete: u64,
    pub(crate) note: Option<String>,
    pub(crate) refused: Option<String>,
    edge: Vec<u8>,
}

/// An open index.
#[derive(Debug)]
pub struct Index {
    pub(crate) sql: Connection,
    pub(crate) path: PathBuf,
    shelf: Shelf,
    /// Shared while the index is open, so that nobody removes its file.
    _lock: File,
}

impl Index {
    /// Opens the index in `path`, or begins one (mode 0600).
    ///
    /// # Errors
    /// The file is damaged, of another log or version, or cannot be used.
    pub fn open(path: impl Into<PathBuf>, shelf: Shelf) -> Result<Self, ForensicsError> {
        let path = path.into();
        let lock = lock(&path)?;
        match lock.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ForensicsError::InUse(path.display().to_string())),
            Err(TryLockError::Error(error)) => return Err(unusable(&path, &error)),
        }
        private(&path)?;
        let failed = |error: rusqlite::Error| ForensicsError::sqlite(&path, &error);
        let sql = Connection::open(&path).map_err(failed)?;
        sql.execute_batch("PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -32768;")
            .map_err(failed)?;
        let index = Self { sql, path, shelf, _lock: lock };
        index.prepare()?;
        Ok(index)
    }

    /// Removes the index in `path`, so that it is made anew.
    ///
    /// # Errors
    /// Somebody uses it, or it cannot be removed.
    pub fn remove(path: &Path) -> Result<(), ForensicsError> {
        let lock = lock(path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ForensicsError::InUse(path.display().to_string())),
            Err(TryLockError::Error(error)) => return Err(unusable(path, &error)),
        }
        for end in ["", "-wal", "-shm"] {
            let mut file = path.as_os_str().to_owned();
            file.push(end);
            match std::fs::remove_file(&file) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(unusable(path, &error)),
            }
        }
        Ok(())
    }

    /// The ledger that it is of.
    #[must_use]
    pub const fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// How far it is.
    ///
    /// # Errors
    /// The index or the ledger cannot be read.
    pub fn status(&self) -> Result<Status, ForensicsError> {
        let State { indexed, complete, note, refused, .. } = self.state()?;
        // An empty ledger has no checkpoint yet.
        let signed = self.shelf.checkpoint().map_or(0, |(checkpoint, _)| checkpoint.size);
        let bytes = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        Ok(Status { indexed, complete, signed, checkpoint: note, refused, bytes })
    }

    /// Takes one step towards the checkpoint of the ledger; true where more is to do.
    ///
    /// # Errors
    /// The ledger is not the one that was signed, the index is damaged, or one of them cannot be used.
    pub fn step(&mut self) -> Result<bool, ForensicsError> {
        let failed = |error: rusqlite::Error| ForensicsError::sqlite(&self.path, &error);
        let (target, note) = self.shelf.checkpoint()?;
        // Whoever else writes the same index goes on where this one stopped, and the other way round.
        let work = self.sql.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let mut state = state(&work).map_err(failed)?;
        if let Some(reason) = state.refused {
            return Err(ForensicsError::Tampered(reason));
        }
        if target.size < state.indexed {
            let found = format!("it holds {} entries, and {} were signed before", target.size, state.indexed);
            return Err(ForensicsError::Tampered(found));
        }
        space(&self.path, state.indexed)?;
        let mut tree = tree(&state.edge, state.indexed).ok_or_else(|| damaged(&self.path))?;
        let last = (state.indexed / TILE_WIDTH).saturating_add(STEP_BUNDLES);
        let end = target.size.min(last.saturating_mul(TILE_WIDTH));
        let taken = take(&work, &self.shelf, &mut tree, state.indexed..end);
        match taken {
            Ok(()) => {}
            Err(Stopped::Sqlite(error)) => return Err(failed(error)),
            // What cannot be read now may be readable again; what was changed must be looked at.
            Err(Stopped::Ledger(error)) => return Err(error),
        }
        (state.indexed, state.edge) = (tree.size(), edge(&tree));
        let refused = judge(&target, &tree);
        match &refused {
            Some(reason) => state.refused = Some(reason.clone()),
            None if tree.size() == target.size => (state.complete, state.note) = (target.size, Some(note)),
            None => {}
        }
        keep(&work, &state).map_err(failed)?;
        work.commit().map_err(failed)?;
        refused.map_or(Ok(state.indexed < target.size), |reason| Err(ForensicsError::Tampered(reason)))
    }

    /// Takes steps until the index is where the ledger is; `tell` hears how far it is after each, and may end it.
    ///
    /// # Errors
    /// See [`Self::step`].
    pub fn catch_up(&mut self, mut tell: impl FnMut(u64) -> bool) -> Result<(), ForensicsError> {
        while self.step()? {
            if !tell(self.state()?.indexed) {
                break;
            }
        }
        Ok(())
    }

    /// Has SQLite look through the whole file.
    ///
    /// # Errors
    /// What it finds.
    pub fn check(&self) -> Result<(), ForensicsError> {
        let failed = |error: rusqlite::Error| ForensicsError::sqlite(&self.path, &error);
        let said: String =
            self.sql.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if said != "ok" {
            return Err(ForensicsError::Damaged { path: self.path.display().to_string(), reason: said });
        }
        self.sql.execute("INSERT INTO words(words) VALUES('integrity-check')", []).map_err(failed)?;
        Ok(())
    }

    pub(crate) fn state(&self) -> Result<State, ForensicsError> {
        state(&self.sql).map_err(|error| ForensicsError::sqlite(&self.path, &error))
    }

    /// Makes the tables, or holds those that are there against the log and this program.
    fn prepare(&self) -> Result<(), ForensicsError> {
        let failed = |error: rusqlite::Error| ForensicsError::sqlite(&self.path, &error);
        let key = self.shelf.key().to_string();
        let number = |pragma: &str| self.sql.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let format = number("PRAGMA user_version").map_err(failed)?;
        let foreign =
            |reason: String| Err(ForensicsError::Foreign { path: self.path.display().to_string(), reason });
        if format == 0 {
            let tables: i64 = number("SELECT count(*) FROM sqlite_schema").map_err(failed)?;
            if tables > 0 {
                return foreign("it is another database".to_owned());
            }
            self.sql.execute_batch(TABLES).map_err(failed)?;
            self.sql.execute("UPDATE state SET key = ?1", [&key]).map_err(failed)?;
            return Ok(());
        }
        let ours = number("PRAGMA application_id").map_err(failed)? == OURS;
        if !ours || format != FORMAT {
            return foreign(format!("it has format {format}, this program reads {FORMAT}"));
        }
        let of: Option<String> =
            self.sql.query_row("SELECT key FROM state", [], |row| row.get(0)).optional().map_err(failed)?;
        match of {
            Some(of) if of == key => Ok(()),
            Some(of) => foreign(format!("it is of the log that {of} signs")),
            None => Err(damaged(&self.path)),
        }
    }
}

/// Why a step stops.
enum Stopped {
    Ledger(ForensicsError),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Stopped {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Puts entries into the index and the tree.
fn take(
    work: &Connection,
    shelf: &Shelf,
    tree: &mut Tree,
    range: std::ops::Range<u64>,
) -> Result<(), Stopped> {
    let mut insert = work.prepare_cached("INSERT INTO words(rowid, tokens) VALUES (?1, ?2)")?;
    let mut shelve = work.prepare_cached(SHELVE)?;
    let mut full = Vec::new();
    let mut next = range.start;
    while next < range.end {
        let number = next / TILE_WIDTH;
        let bundle = shelf.bundle(number, range.end).map_err(Stopped::Ledger)?;
        // What was indexed of this bundle before is known by its hashes: it is not read anew.
        let known =
            tree.partial().find(|(tile, _)| tile.level == Some(0)).map_or(&[][..], |(_, hashes)| hashes);
        let mut leaves: Vec<u8> = known.iter().flat_map(leaf).collect();
        let (mut first_at, mut last_at) = (u64::MAX, 0);
        for (index, bytes) in (number * TILE_WIDTH..range.end)
            .zip(Entries::of(&bundle))
            .skip_while(|(index, _)| *index < range.start)
        {
            let hash = leaf_hash(bytes);
            tree.append_hash(hash, &mut full);
            leaves.extend(leaf(&hash));
            let entry: Value = serde_json::from_slice(bytes).unwrap_or_default();
            let at = entry.get("at").and_then(Value::as_str).and_then(Timestamp::parse);
            // What has no time is found by its place alone.
            if let Some(at) = at {
                (first_at, last_at) = (first_at.min(at.0), last_at.max(at.0));
            }
            insert.execute(params![signed(index), words::of(&entry)])?;
            next = index + 1;
        }
        full.clear();
        let count = next - number * TILE_WIDTH;
        shelve.execute(params![signed(number), signed(count), signed(first_at), signed(last_at), leaves])?;
    }
    Ok(())
}

/// Why the tree is not the one that was signed, once it is as large.
fn judge(target: &Checkpoint, tree: &Tree) -> Option<String> {
    let differs = tree.size() == target.size && tree.root() != target.root;
    differs.then(|| format!("its first {} entries do not lead to the root that was signed", target.size))
}

fn state(sql: &Connection) -> rusqlite::Result<State> {
    sql.prepare_cached("SELECT indexed, complete, note, refused, edge FROM state")?.query_row([], |row| {
        Ok(State {
            indexed: unsigned(row.get(0)?),
            complete: unsigned(row.get(1)?),
            note: row.get(2)?,
            refused: row.get(3)?,
            edge: row.get(4)?,
        })
    })
}

fn keep(sql: &Connection, state: &State) -> rusqlite::Result<usize> {
    sql.prepare_cached("UPDATE state SET indexed = ?1, complete = ?2, note = ?3, refused = ?4, edge = ?5")?
        .execute(params![
            signed(state.indexed),
            signed(state.complete),
            state.note,
            state.refused,
            state.edge
        ])
}

/// What is kept of the hash of an entry.
pub(crate) fn leaf(hash: &Digest) -> impl Iterator<Item = u8> {
    hash.0.into_iter().take(LEAF_BYTES)
}

/// The hashes at the right edge of a tree.
fn edge(tree: &Tree) -> Vec<u8> {
    tree.partial().flat_map(|(_, hashes)| hash_bytes(hashes)).collect()
}

/// The tree with this right edge.
fn tree(edge: &[u8], size: u64) -> Option<Tree> {
    let hashes: Vec<Digest> = parse_hashes(edge, u64::try_from(edge.len()).ok()? / 32)?;
    let mut rest = hashes.as_slice();
    let tree = Tree::load(size, |tile| {
        let width = usize::try_from(tile.width).unwrap_or(usize::MAX);
        let (own, after) = rest.split_at_checked(width).unwrap_or((&[], rest));
        rest = after;
        Ok(own.to_vec())
    });
    let sound =
        tree.ok().filter(|tree| tree.partial().all(|(tile, own)| u64::try_from(own.len()) == Ok(tile.width)));
    sound.filter(|_| rest.is_empty())
}

/// SQLite counts with a sign.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn damaged(path: &Path) -> ForensicsError {
    ForensicsError::Damaged {
        path: path.display().to_string(),
        reason: "its state does not fit together".to_owned(),
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> ForensicsError {
    ForensicsError::Unavailable(format!("the index `{}` cannot be used: {error}", path.display()))
}

/// Only its owner may read what is found where.
fn private(path: &Path) -> Result<(), ForensicsError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    file.map(drop).map_err(|error| unusable(path, &error))
}

fn lock(path: &Path) -> Result<File, ForensicsError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(beside);
    file.map_err(|error| unusable(path, &error))
}

/// The disk of the index is often that of the ledger, which must never be full because of an index.
fn space(path: &Path, at: u64) -> Result<(), ForensicsError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match rustix::fs::statvfs(folder) {
        Ok(disk) if disk.f_bavail.saturating_mul(disk.f_frsize) < SPACE_LEFT => {
            Err(ForensicsError::Space(at))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}
