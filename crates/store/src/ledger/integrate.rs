//! The integrator: one thread that turns durable entries into tiles and signs checkpoints. No caller waits for it.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use portcullis_proof::{
    Checkpoint, SigningKey,
    tile::{Entries, TILE_WIDTH, Tile, Tree, hash_bytes, partial_tiles, push_entry},
};

use super::{
    CheckpointKeeper, LedgerError,
    disk::LogDir,
    shared::{Chunk, Shared, Task},
};

/// The name of the published checkpoint.
pub(super) const CHECKPOINT: &str = "checkpoint";

/// The right edge of the tiles, and what is needed to move it.
#[derive(Debug)]
pub(super) struct Integrator {
    pub(super) shared: Arc<Shared>,
    pub(super) dir: LogDir,
    pub(super) key: SigningKey,
    pub(super) keeper: Arc<dyn CheckpointKeeper>,
    pub(super) tree: Tree,
    /// The entries of the last bundle, while it is not full.
    pub(super) bundle: Vec<u8>,
    /// Sizes of checkpoints whose partial tiles are still there: the last and the one before, which somebody may be
    /// reading.
    pub(super) kept: Vec<u64>,
}

impl Integrator {
    /// Works until the log is closed.
    pub(super) fn run(mut self) {
        loop {
            let Task { chunks, asking, last } = self.shared.task();
            let result = self.integrate(&chunks);
            if let Err(reason) = &result {
                tracing::error!(reason, "no checkpoint can be made; it is tried again");
                self.shared.set_behind(reason.clone());
            }
            for asking in asking {
                let answer = match &result {
                    Ok(()) => Ok(self.shared.signed().1),
                    Err(reason) => Err(LedgerError::Unavailable(reason.clone())),
                };
                let _ = asking.send(answer);
            }
            if last {
                self.tidy(self.tree.size(), true);
                return;
            }
        }
    }

    /// Puts `chunks` into tiles and under a signed checkpoint. After a failure nothing has changed that a later try
    /// would not write again.
    fn integrate(&mut self, chunks: &[Chunk]) -> Result<(), String> {
        if chunks.is_empty() {
            return Ok(());
        }
        let (mut tree, mut bundle) = (self.tree.clone(), self.bundle.clone());
        let mut tiles = Vec::new();
        let mut full = Vec::new();
        for entry in chunks.iter().flat_map(|chunk| Entries::of(&chunk.payload)) {
            if !push_entry(&mut bundle, entry) {
                return Err("an entry does not fit a bundle".to_owned());
            }
            tree.append(entry, &mut full);
            if tree.size() % TILE_WIDTH == 0 {
                let index = tree.size() / TILE_WIDTH - 1;
                tiles.push((Tile { level: None, index, width: TILE_WIDTH }, core::mem::take(&mut bundle)));
                tiles.extend(full.drain(..).map(|(tile, hashes)| (tile, hash_bytes(&hashes))));
            }
        }
        tiles.extend(tree.partial().map(|(tile, hashes)| (tile, hash_bytes(hashes))));
        if let Some(tile) = partial_tiles(tree.size()).into_iter().find(|tile| tile.level.is_none()) {
            tiles.push((tile, bundle.clone()));
        }
        // INVARIANT: a file under a published checkpoint is never opened for writing again.
        let published = partial_tiles(self.tree.size());
        tiles.retain(|(tile, _)| !published.contains(tile));
        self.dir.write_tiles(&tiles).map_err(|error| format!("tiles cannot be written: {error}"))?;
        let note = publish(&self.dir, &tree, &self.key, &*self.keeper)?;
        self.shared.set_signed(tree.size(), &note);
        (self.tree, self.bundle) = (tree, bundle);
        self.tidy(self.tree.size(), false);
        Ok(())
    }

    /// Removes what the checkpoint over `size` entries makes needless: older partial tiles and segments.
    fn tidy(&mut self, size: u64, all: bool) {
        if self.kept.last() != Some(&size) {
            self.kept.push(size);
        }
        let keep = if all { 1 } else { 2 };
        while self.kept.len() > keep {
            let old = partial_tiles(self.kept.remove(0));
            let needed: BTreeSet<Tile> = self.kept.iter().flat_map(|size| partial_tiles(*size)).collect();
            let needless = old.into_iter().filter(|tile| !needed.contains(tile));
            self.dir.remove(needless.map(|tile| PathBuf::from(tile.path())));
        }
        let segments = self.dir.segments();
        // A segment is covered when the one behind it starts under the checkpoint.
        let covered = segments.iter().zip(segments.iter().skip(1)).filter(|(_, next)| **next <= size);
        self.dir.remove(covered.map(|(first, _)| self.dir.segment(*first)));
    }
}

/// Signs the tree and publishes the checkpoint. It is kept elsewhere first: a checkpoint that somebody can have seen
/// must not be forgotten by us.
pub(super) fn publish(
    dir: &LogDir,
    tree: &Tree,
    key: &SigningKey,
    keeper: &dyn CheckpointKeeper,
) -> Result<String, String> {
    let checkpoint = Checkpoint { origin: key.name().to_owned(), size: tree.size(), root: tree.root() };
    let note = checkpoint.sign(key);
    keeper.save(&note).map_err(|error| format!("the checkpoint cannot be kept: {error}"))?;
    dir.replace(CHECKPOINT, note.as_bytes())
        .map_err(|error| format!("the checkpoint cannot be published: {error}"))?;
    Ok(note)
}
