//! Writes files so that a reader sees the old contents or the new ones and never half of either.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Puts `bytes` in the place of the file, which keeps its mode; a new one gets `mode`. A symbolic link keeps pointing
/// where it does: what it points at is replaced.
pub fn replace(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    over(&fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf()), bytes, mode)
}

/// The same, but a symbolic link is itself replaced: nobody can lead this elsewhere.
pub fn over(target: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // A link's own mode says that everybody may do everything.
    let there = fs::symlink_metadata(target).ok().filter(fs::Metadata::is_file);
    let mode = there.map_or(mode, |metadata| metadata.permissions().mode() & 0o777);
    if let Some(folder) = target.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let beside = beside(target);
    let result = write_new(&beside, bytes, mode).and_then(|()| fs::rename(&beside, target));
    if result.is_err() {
        let _gone = fs::remove_file(&beside);
    }
    result
}

/// A name that nobody else uses at this moment.
fn beside(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".portcullis-{}.new", std::process::id()));
    target.with_file_name(name)
}

/// Writes a file that must not exist yet, whole and on disk.
pub fn write_new(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
    out.write_all(bytes)?;
    out.sync_all()
}

/// A folder that only this user can look into.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
