//! The Merkle tree of RFC 6962: hashing, and checking inclusion and consistency proofs (RFC 9162, 2.1.3 and 2.1.4).

use alloc::vec::Vec;

use portcullis_core::Digest;

use crate::ProofError;

/// The hash of a leaf.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Digest {
    Digest::of_parts(&[&[0], entry])
}

/// The hash of an inner node.
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts(&[&[1], &left.0, &right.0])
}

/// The root of the tree without leaves.
#[must_use]
pub fn empty_root() -> Digest {
    Digest::of(&[])
}

/// Where hashes of complete subtrees come from: `node(level, index)` is the root of the leaves
/// `index << level ..  (index + 1) << level`.
pub trait Nodes {
    /// The hash, if it is known.
    ///
    /// # Errors
    /// When it is not; names what is missing.
    fn node(&self, level: u8, index: u64) -> Result<Digest, ProofError>;
}

/// The root of the first `size` leaves.
///
/// # Errors
/// When a node is missing.
pub fn root(nodes: &dyn Nodes, size: u64) -> Result<Digest, ProofError> {
    range_root(nodes, 0, size)
}

/// The inclusion proof of leaf `index` in the tree of `size` leaves.
///
/// # Errors
/// When `index` is not in the tree or a node is missing.
pub fn prove_inclusion(nodes: &dyn Nodes, index: u64, size: u64) -> Result<Vec<Digest>, ProofError> {
    if index >= size {
        return Err(ProofError::Proof("the entry is not under the checkpoint"));
    }
    let (mut low, mut high) = (0, size);
    let mut path = Vec::new();
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            path.push(range_root(nodes, middle, high)?);
            high = middle;
        } else {
            path.push(range_root(nodes, low, middle)?);
            low = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The consistency proof between the trees of `old` and `size` leaves.
///
/// # Errors
/// When `old` is the larger or a node is missing.
pub fn prove_consistency(nodes: &dyn Nodes, old: u64, size: u64) -> Result<Vec<Digest>, ProofError> {
    if old > size {
        return Err(ProofError::Proof("the old tree is larger than the new one"));
    }
    // Every tree continues the empty one; RFC 6962 knows no proof of that.
    if old == 0 {
        return Err(ProofError::Proof("the old tree is empty"));
    }
    if old == size {
        return Ok(Vec::new());
    }
    let (mut low, mut high) = (0, size);
    let mut path = Vec::new();
    // RFC 6962, 2.1.2: descend to the node that ends where the old tree ends.
    while high != old {
        let middle = low + split(high - low);
        if old <= middle {
            path.push(range_root(nodes, middle, high)?);
            high = middle;
        } else {
            path.push(range_root(nodes, low, middle)?);
            low = middle;
        }
    }
    if low > 0 {
        path.push(range_root(nodes, low, high)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether `path` leads from leaf `index` to `root` in a tree of `size` leaves.
///
/// # Errors
/// When it does not.
pub fn verify_inclusion(
    leaf: &Digest,
    index: u64,
    size: u64,
    path: &[Digest],
    root: &Digest,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Mismatch);
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return Err(ProofError::Mismatch);
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(ProofError::Mismatch) }
}

/// Whether `path` shows that the tree of `old` leaves and `old_root` is a prefix of the one of `size` and `root`.
///
/// # Errors
/// When it does not.
pub fn verify_consistency(
    old: u64,
    size: u64,
    path: &[Digest],
    old_root: &Digest,
    root: &Digest,
) -> Result<(), ProofError> {
    let require = |holds: bool| if holds { Ok(()) } else { Err(ProofError::Mismatch) };
    let Some(first) = old.checked_sub(1).filter(|_| old <= size) else {
        return Err(ProofError::Mismatch);
    };
    if old == size {
        return require(path.is_empty() && old_root == root);
    }
    let (mut at, mut last) = (first, size - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let mut rest = path.iter();
    // The old tree is complete: its root is not repeated in the proof.
    let first = if at == 0 { *old_root } else { *rest.next().ok_or(ProofError::Mismatch)? };
    let (mut old_hash, mut hash) = (first, first);
    for sibling in rest {
        if last == 0 {
            return Err(ProofError::Mismatch);
        }
        if at & 1 == 1 || at == last {
            old_hash = node_hash(sibling, &old_hash);
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    require(last == 0 && old_hash == *old_root && hash == *root)
}

/// The largest power of two below `count`; `count` is at least 2.
const fn split(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

/// The root of the leaves `low..high`, where `low` is a multiple of the largest complete subtree in the range.
fn range_root(nodes: &dyn Nodes, low: u64, high: u64) -> Result<Digest, ProofError> {
    let mut complete = Vec::new();
    let mut at = low;
    while at < high {
        let level = (high - at).ilog2();
        complete.push(nodes.node(u8::try_from(level).unwrap_or(63), at >> level)?);
        at += 1 << level;
    }
    let mut root = None;
    for hash in complete.iter().rev() {
        root = Some(match root {
            None => *hash,
            Some(right) => node_hash(hash, &right),
        });
    }
    Ok(root.unwrap_or_else(empty_root))
}

#[cfg(test)]
mod tests;
