//! `.mcpb` bundles: a zip with `manifest.json` and the program. The manifest is read without unpacking anything; the
//! program is unpacked when the import is written, within bounds, into a folder named by the digest of the bundle.

use std::{
    io::{Cursor, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Component, Path, PathBuf},
};

use portcullis_core::Digest;
use serde_json::Value;
use zip::ZipArchive;

use crate::{
    document::{self, Dialect},
    entry::{self, Entry, Origin},
};

/// On the command line.
pub const NAME: &str = "mcpb";
/// For people.
pub const TITLE: &str = "MCP bundle";

/// Bytes of one bundle.
const BUNDLE_BYTES_MAX: u64 = 268_435_456;
/// Files in one bundle.
const FILES_MAX: usize = 20_000;
/// Bytes of all files together, unpacked.
const UNPACKED_BYTES_MAX: u64 = 1_073_741_824;
/// Bytes of the manifest.
const MANIFEST_BYTES_MAX: u64 = 1_048_576;

type Archive = ZipArchive<Cursor<Vec<u8>>>;

fn open(file: &Path) -> Result<(Archive, Digest), String> {
    let bytes = document::read_bytes(file, BUNDLE_BYTES_MAX)?;
    let digest = Digest::of(&bytes);
    let archive =
        ZipArchive::new(Cursor::new(bytes)).map_err(|error| format!("is no zip archive: {error}"))?;
    if archive.len() > FILES_MAX {
        return Err(format!("has more than {FILES_MAX} files"));
    }
    Ok((archive, digest))
}

/// Where bundles are: beside the data directory and not in it, since no server may read there.
pub fn bundles(data: &Path) -> PathBuf {
    data.parent().unwrap_or(data).join("portcullis-bundles")
}

/// Where a bundle is unpacked: a folder named by its digest, so that another bundle is another folder.
pub fn folder(bundles: &Path, digest: Digest) -> PathBuf {
    let hex = digest.to_string();
    bundles.join(hex.rsplit(':').next().unwrap_or_default())
}

/// The server that a bundle declares.
pub fn read(origin: &Origin) -> Result<Vec<Entry>, String> {
    let (mut archive, digest) = open(&origin.file)?;
    let mut text = String::new();
    let manifest =
        archive.by_name("manifest.json").map_err(|error| format!("has no `manifest.json`: {error}"))?;
    manifest
        .take(MANIFEST_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("`manifest.json`: {error}"))?;
    if text.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(format!("has a `manifest.json` of more than {MANIFEST_BYTES_MAX} bytes"));
    }
    for index in 0..archive.len() {
        checked(&mut archive, index)?;
    }
    let value = document::parse(&text, Dialect::Json)
        .map_err(|reason| format!("has a `manifest.json` that {reason}"))?;
    let name = value.get("name").and_then(Value::as_str).ok_or("has a manifest without a `name`")?.to_owned();
    let config =
        value.pointer("/server/mcp_config").cloned().ok_or("has a manifest without `server.mcp_config`")?;
    let mut expansion = origin.expansion(false);
    expansion.package = Some(folder(&origin.bundles, digest));
    if let Some(Value::Object(inputs)) = value.get("user_config") {
        for (input, section) in inputs {
            let sensitive = section.get("sensitive") == Some(&Value::Bool(true));
            if let (false, Some(Value::String(default))) = (sensitive, section.get("default")) {
                let home = origin.home.display().to_string();
                expansion.answers.insert(input.clone(), default.replace("${HOME}", &home));
            }
        }
    }
    let servers = serde_json::json!({ "mcpServers": { name: config } });
    let mut entries = entry::under(&servers, "mcpServers", &expansion)?;
    let tools = value.get("tools").and_then(Value::as_array).into_iter().flatten();
    let tools: Vec<&str> = tools.filter_map(|tool| tool.get("name")?.as_str()).collect();
    for entry in &mut entries {
        entry.notes.push(format!("bundle {digest}"));
        if !tools.is_empty() {
            entry.notes.push(format!("its manifest names the tools {}", tools.join(", ")));
        }
    }
    Ok(entries)
}

/// Refuses what could leave the folder or is no plain file or folder; gives where it goes.
fn checked(archive: &mut Archive, index: usize) -> Result<Option<PathBuf>, String> {
    let file = archive.by_index(index).map_err(|error| format!("has a file that cannot be read: {error}"))?;
    let name = file.name().map_err(|error| format!("has a file whose name is none: {error}"))?.into_owned();
    let path = PathBuf::from(&name);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain || name.contains(['\\', '\0']) || name.is_empty() {
        return Err(format!("has a file that leaves its folder: `{name}`"));
    }
    if file.is_symlink() {
        return Err(format!("has a symbolic link: `{name}`"));
    }
    Ok((!file.is_dir()).then_some(path))
}

/// Unpacks a bundle below `bundles`, unless it is there already.
pub fn unpack(file: &Path, bundles: &Path) -> Result<(), String> {
    let (mut archive, digest) = open(file)?;
    let target = folder(bundles, digest);
    if target.exists() {
        return Ok(());
    }
    let beside = target.with_extension("new");
    let failed = |error: std::io::Error| format!("cannot be unpacked into `{}`: {error}", target.display());
    if beside.exists() {
        std::fs::remove_dir_all(&beside).map_err(failed)?;
    }
    let unpacked =
        unpack_into(&mut archive, &beside).and_then(|()| std::fs::rename(&beside, &target).map_err(failed));
    if unpacked.is_err() {
        let _gone = std::fs::remove_dir_all(&beside);
    }
    unpacked
}

fn unpack_into(archive: &mut Archive, folder: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot be unpacked into `{}`: {error}", folder.display());
    let folders = |path: &Path| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    folders(folder).map_err(failed)?;
    let mut left = UNPACKED_BYTES_MAX;
    for index in 0..archive.len() {
        let Some(path) = checked(archive, index)? else { continue };
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            folders(parent).map_err(failed)?;
        }
        let entry =
            archive.by_index(index).map_err(|error| format!("has a file that cannot be read: {error}"))?;
        // Programs in it may have to be run; nothing else of the mode is taken over.
        let mode = if entry.unix_mode().is_some_and(|mode| mode & 0o100 != 0) { 0o700 } else { 0o600 };
        let mut out = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .map_err(failed)?;
        let written = std::io::copy(&mut entry.take(left + 1), &mut out).map_err(failed)?;
        left = left
            .checked_sub(written)
            .ok_or_else(|| format!("unpacks to more than {UNPACKED_BYTES_MAX} bytes"))?;
        out.flush().map_err(failed)?;
    }
    Ok(())
}
