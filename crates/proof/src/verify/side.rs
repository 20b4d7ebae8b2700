//! One of the two trees that a check builds, and what contradicts it.

use alloc::{collections::BTreeSet, string::String, vec::Vec};

use portcullis_core::Digest;

use super::{FAULTS_MAX, Fault, LogFiles, snapshot::Snapshot};
use crate::tile::{Tile, Tree, hash_bytes};

/// A tree that may be the signed one, with the faults of the log if it is.
pub(super) struct Side {
    tree: Tree,
    since: Option<u64>,
    root_at_since: Option<Digest>,
    /// Faults, if this is the tree that leads to the root.
    pub(super) faults: Vec<Fault>,
    named: BTreeSet<String>,
}

impl Side {
    pub(super) fn new(since: Option<u64>) -> Self {
        let tree = Tree::default();
        let root_at_since = (since == Some(0)).then(|| tree.root());
        Self { tree, since, root_at_since, faults: Vec::new(), named: BTreeSet::new() }
    }

    pub(super) fn root(&self) -> Digest {
        self.tree.root()
    }

    /// The root when the tree had the size of the older checkpoint; `None` when it never grew so large.
    pub(super) const fn root_at_since(&self) -> Option<Digest> {
        self.root_at_since
    }

    /// Notes a fault; a tile is named once.
    pub(super) fn fault(&mut self, fault: Fault) {
        let new = match &fault {
            Fault::Tile { path } => self.named.insert(path.clone()),
            _ => true,
        };
        if new && self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }

    /// Adds a leaf; compares the tiles above the lowest that became full with those in the log.
    pub(super) fn append(&mut self, leaf: Digest, files: &dyn LogFiles, snapshot: &Snapshot) {
        for (tile, hashes) in self.grow(leaf) {
            if tile.level > Some(0) {
                self.compare(tile, &hashes, files, snapshot);
            }
        }
    }

    /// Adds a leaf from behind the checkpoint, where there are no tiles yet.
    pub(super) fn append_unchecked(&mut self, leaf: Digest) {
        let _full = self.grow(leaf);
    }

    /// Compares the tiles at the right edge above the lowest.
    pub(super) fn partial(&mut self, files: &dyn LogFiles, snapshot: &Snapshot) {
        let edge: Vec<(Tile, Vec<Digest>)> =
            self.tree.partial().map(|(tile, hashes)| (tile, hashes.to_vec())).collect();
        for (tile, hashes) in edge {
            if tile.level > Some(0) {
                self.compare(tile, &hashes, files, snapshot);
            }
        }
    }

    fn grow(&mut self, leaf: Digest) -> Vec<(Tile, Vec<Digest>)> {
        let mut full = Vec::new();
        self.tree.append_hash(leaf, &mut full);
        if self.since == Some(self.tree.size()) {
            self.root_at_since = Some(self.tree.root());
        }
        full
    }

    fn compare(&mut self, tile: Tile, hashes: &[Digest], files: &dyn LogFiles, snapshot: &Snapshot) {
        match snapshot.read(files, tile) {
            None => self.fault(Fault::Missing(tile.path())),
            Some(bytes) if bytes != hash_bytes(hashes) => self.fault(Fault::Tile { path: tile.path() }),
            Some(_) => {}
        }
    }
}
