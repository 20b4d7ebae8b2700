//! The layout of c2sp.org/tlog-tiles: which hash is in which file, and the tree that writes those files as it grows.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use portcullis_core::Digest;

use crate::{
    ProofError,
    merkle::{Nodes, empty_root, leaf_hash, node_hash},
};

/// Hashes of a full tile, entries of a full bundle.
pub const TILE_WIDTH: u64 = 256;

/// A file of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    /// Which level of tiles; `None` is the entries themselves.
    pub level: Option<u8>,
    /// Which tile of the level, from the left.
    pub index: u64,
    /// How many items it has: 256, or fewer at the right edge.
    pub width: u64,
}

impl Tile {
    /// Where it is, relative to the log's directory.
    #[must_use]
    pub fn path(&self) -> String {
        let mut number = format!("{:03}", self.index % 1_000);
        let mut rest = self.index / 1_000;
        while rest > 0 {
            number = format!("x{:03}/{number}", rest % 1_000);
            rest /= 1_000;
        }
        let level = self.level.map_or_else(|| "entries".to_owned(), |level| format!("{level}"));
        let partial = if self.width == TILE_WIDTH { String::new() } else { format!(".p/{}", self.width) };
        format!("tile/{level}/{number}{partial}")
    }

    /// The full tile of the same place.
    #[must_use]
    pub const fn full(self) -> Self {
        Self { level: self.level, index: self.index, width: TILE_WIDTH }
    }
}

/// The tiles at the right edge of a tree of `size` leaves that are not full, entries first.
#[must_use]
pub fn partial_tiles(size: u64) -> Vec<Tile> {
    let mut tiles = Vec::new();
    if !size.is_multiple_of(TILE_WIDTH) {
        tiles.push(Tile { level: None, index: size / TILE_WIDTH, width: size % TILE_WIDTH });
    }
    let (mut level, mut count) = (0, size);
    while count > 0 {
        if !count.is_multiple_of(TILE_WIDTH) {
            tiles.push(Tile { level: Some(level), index: count / TILE_WIDTH, width: count % TILE_WIDTH });
        }
        (level, count) = (level + 1, count / TILE_WIDTH);
    }
    tiles
}

/// The hashes in the bytes of a tile; `None` when they are not exactly `width`.
#[must_use]
pub fn parse_hashes(bytes: &[u8], width: u64) -> Option<Vec<Digest>> {
    let hashes: Vec<Digest> =
        bytes.chunks(32).filter_map(|hash| Some(Digest(hash.try_into().ok()?))).collect();
    let fits = u64::try_from(hashes.len()).ok()? == width && bytes.len() == hashes.len() * 32;
    fits.then_some(hashes)
}

/// Appends `entry` to the bytes of an entry bundle. False when it is larger than the format allows.
#[must_use]
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> bool {
    let Ok(len) = u16::try_from(entry.len()) else { return false };
    bundle.extend_from_slice(&len.to_be_bytes());
    bundle.extend_from_slice(entry);
    true
}

/// The entries of a bundle, one after the other. Ends early when the bytes are cut; [`Entries::rest`] tells.
#[derive(Clone, Debug)]
pub struct Entries<'b> {
    rest: &'b [u8],
}

impl<'b> Entries<'b> {
    /// The entries of `bundle`.
    #[must_use]
    pub const fn of(bundle: &'b [u8]) -> Self {
        Self { rest: bundle }
    }

    /// Bytes that belong to no entry; empty after a whole bundle.
    #[must_use]
    pub const fn rest(&self) -> &'b [u8] {
        self.rest
    }
}

impl<'b> Iterator for Entries<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        let (len, rest) = self.rest.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        self.rest = rest;
        Some(entry)
    }
}

/// A growing tree: the hashes of the tiles at its right edge. Appending hands out each tile that becomes full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    edge: Vec<Vec<Digest>>,
}

/// A tile and its hashes.
pub type FullTile = (Tile, Vec<Digest>);

impl Tree {
    /// The tree of `size` leaves, from the tiles at its right edge.
    ///
    /// # Errors
    /// When one of them is missing.
    pub fn load(
        size: u64,
        mut read: impl FnMut(Tile) -> Result<Vec<Digest>, ProofError>,
    ) -> Result<Self, ProofError> {
        let mut edge = Vec::new();
        let (mut level, mut count) = (0, size);
        while count > 0 {
            let width = count % TILE_WIDTH;
            let tile = Tile { level: Some(level), index: count / TILE_WIDTH, width };
            edge.push(if width == 0 { Vec::new() } else { read(tile)? });
            (level, count) = (level + 1, count / TILE_WIDTH);
        }
        Ok(Self { size, edge })
    }

    /// How many leaves it has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds the leaf of `entry`. Tiles that became full are pushed to `full`.
    pub fn append(&mut self, entry: &[u8], full: &mut Vec<FullTile>) {
        self.append_hash(leaf_hash(entry), full);
    }

    /// Adds a leaf by its hash.
    pub fn append_hash(&mut self, leaf: Digest, full: &mut Vec<FullTile>) {
        self.size += 1;
        let mut count = self.size;
        let mut carry = Some(leaf);
        let mut level = 0;
        while let Some(hash) = carry.take() {
            if self.edge.len() <= usize::from(level) {
                self.edge.push(Vec::new());
            }
            let Some(tile) = self.edge.get_mut(usize::from(level)) else { return };
            tile.push(hash);
            if count.is_multiple_of(TILE_WIDTH) {
                let hashes = core::mem::take(tile);
                carry = subtree(&hashes);
                let index = count / TILE_WIDTH - 1;
                full.push((Tile { level: Some(level), index, width: TILE_WIDTH }, hashes));
            }
            (level, count) = (level + 1, count / TILE_WIDTH);
        }
    }

    /// The tiles at the right edge that are not full.
    pub fn partial(&self) -> impl Iterator<Item = (Tile, &[Digest])> {
        partial_tiles(self.size).into_iter().filter_map(|tile| {
            let hashes = self.edge.get(usize::from(tile.level?))?;
            Some((tile, hashes.as_slice()))
        })
    }

    /// The Merkle root.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut root: Option<Digest> = None;
        for hashes in &self.edge {
            // The complete subtrees of a width are its binary digits, the largest to the left.
            let mut rest = hashes.as_slice();
            let mut complete = Vec::new();
            while let Some(bits) = rest.len().checked_ilog2() {
                let (left, right) = rest.split_at_checked(1 << bits).unwrap_or((rest, &[]));
                complete.extend(subtree(left));
                rest = right;
            }
            for left in complete.iter().rev() {
                root = Some(root.map_or(*left, |right| node_hash(left, &right)));
            }
        }
        root.unwrap_or_else(empty_root)
    }
}

/// The root over a power of two of hashes.
fn subtree(hashes: &[Digest]) -> Option<Digest> {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row
            .chunks(2)
            .filter_map(|pair| match pair {
                [left, right] => Some(node_hash(left, right)),
                _ => None,
            })
            .collect();
    }
    row.first().copied()
}

/// The tiles of a log of `size` entries as a source of hashes; `read` gets a file by its path.
pub struct TileNodes<'r> {
    size: u64,
    read: &'r dyn Fn(&str) -> Option<Vec<u8>>,
}

impl<'r> TileNodes<'r> {
    /// The tiles of a log of `size` entries.
    #[must_use]
    pub const fn new(size: u64, read: &'r dyn Fn(&str) -> Option<Vec<u8>>) -> Self {
        Self { size, read }
    }

    /// The hashes of a tile; a partial tile may by now have become a full one.
    fn hashes(&self, tile: Tile) -> Result<Vec<Digest>, ProofError> {
        let missing = || ProofError::Tile(tile.path());
        if let Some(bytes) = (self.read)(&tile.path()) {
            return parse_hashes(&bytes, tile.width).ok_or_else(missing);
        }
        let bytes = (self.read)(&tile.full().path()).ok_or_else(missing)?;
        let mut hashes = parse_hashes(&bytes, TILE_WIDTH).ok_or_else(missing)?;
        hashes.truncate(usize::try_from(tile.width).unwrap_or(usize::MAX));
        Ok(hashes)
    }
}

impl core::fmt::Debug for TileNodes<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TileNodes").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Nodes for TileNodes<'_> {
    fn node(&self, level: u8, index: u64) -> Result<Digest, ProofError> {
        let (tile_level, inside) = (level / 8, level % 8);
        let first = index.checked_shl(u32::from(inside)).ok_or(ProofError::Proof("beyond the tree"))?;
        let count = self.size.checked_shr(u32::from(tile_level) * 8).unwrap_or(0);
        let tile_index = first / TILE_WIDTH;
        let width = count.saturating_sub(tile_index * TILE_WIDTH).min(TILE_WIDTH);
        let tile = Tile { level: Some(tile_level), index: tile_index, width };
        let missing = || ProofError::Tile(tile.path());
        if width == 0 {
            return Err(missing());
        }
        let hashes = self.hashes(tile)?;
        let start = usize::try_from(first % TILE_WIDTH).map_err(|_| missing())?;
        let hashes = hashes.get(start..start + (1 << inside)).ok_or_else(missing)?;
        subtree(hashes).ok_or_else(missing)
    }
}

/// The bytes of a tile.
#[must_use]
pub fn hash_bytes(hashes: &[Digest]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(hashes.len() * 32);
    for hash in hashes {
        bytes.extend_from_slice(&hash.0);
    }
    bytes
}

#[cfg(test)]
mod tests;
