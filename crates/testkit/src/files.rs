//! Looks for planted secrets in everything a run left behind.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;

/// Every regular file below `folder` that contains `needle` as bytes.
///
/// # Errors
/// The folder cannot be read.
pub fn files_containing(folder: &Path, needle: &[u8]) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && contains(&fs::read(entry.path())?, needle) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

pub(crate) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_canary_at_any_depth_and_only_there() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/deep"), b"\0\xffcanary-1\n").unwrap();
        fs::write(folder.path().join("top"), b"canary-2").unwrap();
        assert_eq!(
            files_containing(folder.path(), b"canary-1").unwrap(),
            vec![folder.path().join("a/b/deep")]
        );
        assert!(files_containing(folder.path(), b"canary-3").unwrap().is_empty());
        assert!(files_containing(folder.path(), b"").unwrap().is_empty());
    }
}
