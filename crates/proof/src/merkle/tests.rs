//! The published vectors of transparency-dev/merkle, and the prover against the verifier.

extern crate std;
use alloc::{format, string::String, vec::Vec};
use std::{fs, path::Path, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use portcullis_core::Digest;
use proptest::prelude::*;
use serde_json::Value;

use super::{
    Nodes, leaf_hash, node_hash, prove_consistency, prove_inclusion, root, verify_consistency,
    verify_inclusion,
};
use crate::ProofError;

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/merkle-proofs");

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "json") {
            into.push(path);
        }
    }
}

/// One vector has texts where hashes stand; their digests agree and differ as the texts do. None is no hash.
fn hash(value: &Value) -> Option<Digest> {
    let bytes = STANDARD.decode(value.as_str()?).ok().filter(|bytes| !bytes.is_empty())?;
    Some(bytes.as_slice().try_into().map_or_else(|_| Digest::of_parts(&[b"not a hash", &bytes]), Digest))
}

fn path(value: &Value) -> Option<Vec<Digest>> {
    value.as_array().map_or(Some(Vec::new()), |items| items.iter().map(hash).collect())
}

/// What a vector says of an inclusion proof; `None` when a number is none.
fn inclusion(case: &Value) -> Option<bool> {
    let (index, size) = (case["leafIdx"].as_u64()?, case["treeSize"].as_u64()?);
    let (leaf, root) = (hash(&case["leafHash"])?, hash(&case["root"])?);
    Some(verify_inclusion(&leaf, index, size, &path(&case["proof"])?, &root).is_ok())
}

fn consistency(case: &Value) -> Option<bool> {
    let (old, size) = (case["size1"].as_u64()?, case["size2"].as_u64()?);
    let (old_root, root) = (hash(&case["root1"])?, hash(&case["root2"])?);
    Some(verify_consistency(old, size, &path(&case["proof"])?, &old_root, &root).is_ok())
}

#[test]
fn decides_the_196_published_proofs_as_their_authors_do() {
    let mut seen = 0;
    for (folder, check) in
        [("inclusion", inclusion as fn(&Value) -> Option<bool>), ("consistency", consistency)]
    {
        let mut paths = Vec::new();
        files(&Path::new(VECTORS).join(folder), &mut paths);
        for path in paths {
            let case: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let wanted = !case["wantErr"].as_bool().unwrap();
            assert_eq!(check(&case).unwrap_or(false), wanted, "{}", path.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 196);
}

/// A tree by the definition of RFC 6962, 2.1.
struct Naive(Vec<Digest>);

impl Naive {
    fn of(count: u64) -> Self {
        Self((0..count).map(|i| leaf_hash(format!("entry {i}").as_bytes())).collect())
    }

    fn mth(leaves: &[Digest]) -> Digest {
        match leaves.len() {
            0 => super::empty_root(),
            1 => leaves[0],
            n => {
                let k = n.next_power_of_two() / 2;
                node_hash(&Self::mth(&leaves[..k]), &Self::mth(&leaves[k..]))
            }
        }
    }
}

impl Nodes for Naive {
    fn node(&self, level: u8, index: u64) -> Result<Digest, ProofError> {
        let start = usize::try_from(index << level).unwrap();
        let range = self.0.get(start..start + (1 << level));
        range.map(Self::mth).ok_or(ProofError::Tile(String::from("beyond")))
    }
}

proptest! {
    #[test]
    fn every_inclusion_proof_verifies_and_no_other_index_or_leaf_does(size in 1_u64..600, pick in any::<u64>(), bit in any::<u16>()) {
        let tree = Naive::of(size);
        let index = pick % size;
        let (leaf, top) = (tree.0[index as usize], Naive::mth(&tree.0));
        prop_assert_eq!(root(&tree, size).unwrap(), top);
        let path = prove_inclusion(&tree, index, size).unwrap();
        prop_assert!(verify_inclusion(&leaf, index, size, &path, &top).is_ok());
        if size > 1 {
            let other = (index + 1) % size;
            prop_assert!(verify_inclusion(&leaf, other, size, &path, &top).is_err());
        }
        let mut damaged = leaf;
        damaged.0[usize::from(bit) / 8 % 32] ^= 1 << (bit % 8);
        prop_assert!(verify_inclusion(&damaged, index, size, &path, &top).is_err());
    }

    #[test]
    fn every_consistency_proof_verifies_and_no_other_old_root_does(size in 1_u64..600, pick in any::<u64>()) {
        let tree = Naive::of(size);
        let old = 1 + pick % size;
        let (old_root, top) = (Naive::mth(&tree.0[..old as usize]), Naive::mth(&tree.0));
        let path = prove_consistency(&tree, old, size).unwrap();
        prop_assert!(verify_consistency(old, size, &path, &old_root, &top).is_ok());
        prop_assert!(verify_consistency(old, size, &path, &leaf_hash(b"other"), &top).is_err());
    }
}
