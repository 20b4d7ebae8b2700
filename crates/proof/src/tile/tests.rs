//! Tiles are where the format says, and trees grown, loaded and read from tiles agree.

extern crate std;
use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use portcullis_core::Digest;

use super::{Tile, TileNodes, Tree, hash_bytes, partial_tiles};
use crate::merkle::{leaf_hash, node_hash, prove_inclusion, root, verify_inclusion};

#[test]
fn paths_are_those_of_the_format() {
    for (level, index, width, path) in [
        (Some(0), 0, 256, "tile/0/000"),
        (Some(0), 1_234_067, 256, "tile/0/x001/x234/067"),
        (Some(3), 999, 8, "tile/3/999.p/8"),
        (Some(1), 1_000, 1, "tile/1/x001/000.p/1"),
        (None, 273, 255, "tile/entries/273.p/255"),
    ] {
        assert_eq!(Tile { level, index, width }.path(), path);
    }
}

fn naive(leaves: &[Digest]) -> Digest {
    match leaves.len() {
        0 => crate::merkle::empty_root(),
        1 => leaves[0],
        n => node_hash(
            &naive(&leaves[..n.next_power_of_two() / 2]),
            &naive(&leaves[n.next_power_of_two() / 2..]),
        ),
    }
}

#[test]
fn a_tree_grown_leaf_by_leaf_has_the_root_of_the_definition_and_loads_from_its_tiles() {
    let sizes = [0, 1, 2, 3, 255, 256, 257, 511, 512, 700, 65_535, 65_536, 65_537, 66_000];
    let leaves: Vec<Digest> = (0..66_000).map(|i| leaf_hash(format!("{i}").as_bytes())).collect();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut tree = Tree::default();
    let mut full = Vec::new();
    for size in sizes {
        while tree.size() < size {
            tree.append_hash(leaves[usize::try_from(tree.size()).unwrap()], &mut full);
        }
        files.extend(full.drain(..).map(|(tile, hashes)| (tile.path(), hash_bytes(&hashes))));
        files.extend(tree.partial().map(|(tile, hashes)| (tile.path(), hash_bytes(hashes))));
        let top = naive(&leaves[..usize::try_from(size).unwrap()]);
        assert_eq!(tree.root(), top, "{size}");
        let read = |path: &str| files.get(path).cloned();
        let nodes = TileNodes::new(size, &read);
        assert_eq!(root(&nodes, size).unwrap(), top, "{size}");
        let loaded = Tree::load(size, |tile| {
            super::parse_hashes(&files[&tile.path()], tile.width).ok_or(crate::ProofError::Mismatch)
        });
        assert_eq!(loaded.unwrap(), tree, "{size}");
        assert!(
            partial_tiles(size).iter().all(|tile| tile.level.is_none() || files.contains_key(&tile.path()))
        );
        for index in [0, size / 3, size.saturating_sub(1)].into_iter().filter(|index| *index < size) {
            let path = prove_inclusion(&nodes, index, size).unwrap();
            let leaf = leaves[usize::try_from(index).unwrap()];
            assert!(verify_inclusion(&leaf, index, size, &path, &top).is_ok(), "{index} of {size}");
        }
    }
}
