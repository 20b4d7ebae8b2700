//! How full the private folder of a child is. The kernel bounds one file of one process, and nothing bounds their number.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::sleep;

/// Shortest time between two looks.
const TICK: Duration = Duration::from_millis(500);
/// A look takes at most this part of all time.
const REST: u32 = 20;
/// Bytes that a file takes at least, so that many empty ones count.
const ENTRY_BYTES: u64 = 4_096;
/// Bytes of one of the blocks in which the kernel counts.
const BLOCK_BYTES: u64 = 512;

/// Waits until a folder holds more than `max` bytes; returns how many were seen.
pub(crate) async fn overfull(folder: PathBuf, max: u64) -> u64 {
    loop {
        let (path, start) = (folder.clone(), tokio::time::Instant::now());
        let seen = tokio::task::spawn_blocking(move || bytes(&path, max)).await;
        if let Ok(seen) = seen
            && seen > max
        {
            return seen;
        }
        sleep(TICK.max(start.elapsed() * REST)).await;
    }
}

/// Bytes that are taken in a folder, counted until there are more than `max`.
fn bytes(folder: &Path, max: u64) -> u64 {
    let (mut total, mut folders) = (0_u64, vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            // Of the entry itself: a link counts as a link.
            let Ok(met) = entry.metadata() else { continue };
            total = total.saturating_add((met.blocks() * BLOCK_BYTES).max(ENTRY_BYTES));
            if total > max {
                return total;
            }
            if met.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_folder_counts_at_every_depth_and_links_count_as_links() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/file"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("a/root")).unwrap();
        let found = bytes(folder.path(), u64::MAX);
        assert!((100_000..200_000).contains(&found), "{found}");
        assert!(bytes(folder.path(), 5_000) > 5_000);
    }
}
