//! Files of the ledger: private, and durable including their names.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use portcullis_proof::{
    tile::Tile,
    verify::LogFiles,
    wal::{WAL_DIR, segment_first, segment_name},
};

/// Files that are open at once while tiles are made durable.
const OPEN_FILES_MAX: usize = 64;

/// The directory of a log, for reading.
#[derive(Clone, Debug)]
pub struct LogDir {
    root: PathBuf,
}

impl LogDir {
    /// The log in `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The bytes of a tile. What was at the right edge may have become full since.
    pub(super) fn tile(&self, tile: Tile) -> Option<Vec<u8>> {
        self.read(&tile.path()).or_else(|| self.read(&tile.full().path()))
    }

    /// The segments of the write-ahead log, by first index.
    pub(super) fn segments(&self) -> Vec<u64> {
        let mut segments: Vec<u64> =
            self.list(WAL_DIR).iter().filter_map(|name| segment_first(name)).collect();
        segments.sort_unstable();
        segments
    }

    /// Where a segment is.
    pub(super) fn segment(&self, first: u64) -> PathBuf {
        self.root.join(WAL_DIR).join(segment_name(first))
    }

    /// Makes the directories, readable by nobody else, and their names durable.
    pub(super) fn create(&self) -> io::Result<()> {
        for dir in [self.root.clone(), self.root.join(WAL_DIR), self.root.join("tile")] {
            DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        }
        let above = self.root.parent().filter(|parent| !parent.as_os_str().is_empty());
        above.into_iter().chain([self.root.as_path()]).try_for_each(sync_dir)
    }

    /// Creates a segment without entries and with `room` for some, durably.
    pub(super) fn create_segment(&self, first: u64, room: u64) -> io::Result<File> {
        let path = self.segment(first);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        make_room(&file, 0, room)?;
        file.sync_all()?;
        sync_dir(&self.root.join(WAL_DIR))?;
        Ok(file)
    }

    /// Writes tiles, durably. A crash may leave some of them torn; no checkpoint speaks of them yet.
    pub(super) fn write_tiles(&self, tiles: &[(Tile, Vec<u8>)]) -> io::Result<()> {
        let mut dirs = BTreeSet::new();
        for group in tiles.chunks(OPEN_FILES_MAX) {
            let mut files = Vec::with_capacity(group.len());
            for (tile, bytes) in group {
                let path = self.root.join(tile.path());
                self.create_parents(&path, &mut dirs)?;
                let mut options = OpenOptions::new();
                let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
                file.write_all(bytes)?;
                files.push(file);
            }
            for file in files {
                file.sync_all()?;
            }
        }
        dirs.iter().try_for_each(|dir| sync_dir(dir))
    }

    /// Replaces a file at once and durably.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, new) = (self.root.join(name), self.root.join(format!("{name}.new")));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        sync_dir(&self.root)
    }

    /// Removes files that are not needed any more; what stays behind costs nothing but space.
    pub(super) fn remove(&self, paths: impl IntoIterator<Item = PathBuf>) {
        for path in paths {
            let path = self.root.join(path);
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "a file of the ledger cannot be removed");
            }
            // Empty `.p` directories go with their last partial tile.
            if let Some(parent) = path.parent().filter(|dir| dir.extension().is_some_and(|ext| ext == "p")) {
                let _ = fs::remove_dir(parent);
            }
        }
    }

    /// Tries whether `bytes` can be written durably, with the very call that entries are made durable with.
    pub(super) fn probe(&self, bytes: usize) -> io::Result<()> {
        let path = self.root.join(WAL_DIR).join("probe");
        let result = File::create(&path).and_then(|mut file| {
            file.write_all(&vec![0; bytes])?;
            file.sync_data()
        });
        let removed = fs::remove_file(&path);
        result.and(removed)
    }

    /// Makes the directories above `path`; notes which must be made durable.
    fn create_parents(&self, path: &Path, dirs: &mut BTreeSet<PathBuf>) -> io::Result<()> {
        let Some(parent) = path.parent() else { return Ok(()) };
        if !dirs.insert(parent.to_path_buf()) || parent.is_dir() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        let within = parent.ancestors().skip(1).take_while(|dir| dir.starts_with(&self.root));
        dirs.extend(within.map(Path::to_path_buf));
        Ok(())
    }
}

impl LogFiles for LogDir {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.root.join(path)).ok()
    }

    fn list(&self, dir: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root.join(dir)) else { return Vec::new() };
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

/// Writes zeros from `from` to `to`. Blocks that were written before are overwritten in place: a flush of them costs
/// half of one that also has to make blocks and a new size durable.
pub(super) fn make_room(file: &File, from: u64, to: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut at = from;
    while at < to {
        let left = usize::try_from(to - at).unwrap_or(usize::MAX).min(ZEROS.len());
        let zeros = ZEROS.get(..left).unwrap_or(&ZEROS);
        file.write_all_at(zeros, at)?;
        at += u64::try_from(left).unwrap_or(u64::MAX);
    }
    Ok(())
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
