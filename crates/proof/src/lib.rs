//! All that a stranger must verify offline: entries, Merkle tree, checkpoints, manifests.
